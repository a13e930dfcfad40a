"""The hand-written parsers against the specification in jute, on good frames and on every way to damage one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quorate.plugins.znodes import codec, jute
from quorate.plugins.znodes.protocol import Malformed, Op

paths = st.binary(max_size=12)
several = st.lists(paths, max_size=3)
values = st.none() | st.binary(max_size=12)
ints = st.integers(-(2**31), 2**31 - 1)
longs = st.integers(-(2**63), 2**63 - 1)
entries = st.fixed_dictionaries({"perms": ints, "scheme": values, "id": values})
lists = st.none() | st.lists(entries, max_size=3)
openness = st.just([{"perms": 31, "scheme": b"world", "id": b"anyone"}])


def acl(found: Any) -> Any:
    return st.builds(lambda value: {"value": value}, found)


Case = tuple[Any, Callable[..., Any], Callable[[Any], Any], Any]

CASES: dict[str, Case] = {
    "path_watch": (
        jute.PathWatch,
        codec.path_watch,
        lambda r: (r.path, r.watch),
        st.fixed_dictionaries({"path": paths, "watch": st.booleans()}),
    ),
    "path_int": (
        jute.PathVersion,
        codec.path_int,
        lambda r: (r.path, r.version),
        st.fixed_dictionaries({"path": paths, "version": ints}),
    ),
    "path_kind": (
        jute.PathKind,
        codec.path_int,
        lambda r: (r.path, r.kind),
        st.fixed_dictionaries({"path": paths, "kind": ints}),
    ),
    "prefix": (
        jute.Prefix,
        lambda frame: frame[codec.HEAD + 4 : codec.buffer_end(frame, codec.HEAD)],
        lambda r: r.path or b"",
        st.fixed_dictionaries({"path": values}),
    ),
    "set_watches": (
        jute.SetWatches,
        lambda frame: codec.set_watches(frame, 3),
        lambda r: (r.zxid, [r.changed, r.exists, r.children]),
        st.fixed_dictionaries({"zxid": longs, "changed": several, "exists": several, "children": several}),
    ),
    "set_watches2": (
        jute.SetWatches2,
        lambda frame: codec.set_watches(frame, 5),
        lambda r: (r.zxid, [r.changed, r.exists, r.children, r.persistent, r.recursive]),
        st.fixed_dictionaries(
            {"zxid": longs, **dict.fromkeys(("changed", "exists", "children", "persistent", "recursive"), several)}
        ),
    ),
    "path_only": (jute.PathOnly, codec.path_only, lambda r: r.path, st.fixed_dictionaries({"path": paths})),
    "put": (
        jute.SetData,
        codec.put,
        lambda r: (r.path, r.data, r.version),
        st.fixed_dictionaries({"path": paths, "data": values, "version": ints}),
    ),
    "set_acl": (
        jute.SetAcl,
        codec.set_acl,
        lambda r: (r.path, r.acl.data, r.version),
        st.fixed_dictionaries({"path": paths, "acl": acl(lists), "version": ints}),
    ),
    "create": (
        jute.Create,
        codec.create,
        lambda r: (r.path, r.data, r.acl.data, r.flags),
        st.fixed_dictionaries({"path": paths, "data": values, "acl": acl(openness | lists), "flags": ints}),
    ),
    "create_ttl": (
        jute.CreateTtl,
        codec.create_ttl,
        lambda r: (r.path, r.data, r.acl.data, r.flags, r.ttl),
        st.fixed_dictionaries({"path": paths, "data": values, "acl": acl(lists), "flags": ints, "ttl": longs}),
    ),
}


def outcome(parse: Callable[[], Any]) -> Any:
    """What a parser makes of its input: the fields, or the refusal."""
    try:
        return parse()
    except Malformed:
        return Malformed


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(choice=st.data())
def test_codec_is_jute(name: str, choice: st.DataObject) -> None:
    """Each hand-written parser finds what the declaration finds: on the frame, on it with bytes behind, on each
    truncation and with each byte changed."""
    record, parse, fields, strategy = CASES[name]
    body = record.build(choice.draw(strategy))
    header = b"\0\0\0\1\0\0\0\2"
    damaged = [body, body + b"tail", *(body[:size] for size in range(len(body)))]
    flips = choice.draw(st.lists(st.integers(1, 255), min_size=len(body), max_size=len(body)))
    for at, flip in enumerate(flips):
        damaged.append(body[:at] + bytes((body[at] ^ flip,)) + body[at + 1 :])
    for each in damaged:
        expected = outcome(lambda each=each: fields(jute.read(record, each)))
        assert outcome(lambda each=each: parse(header + each)) == expected, each


def test_every_operation_has_its_records() -> None:
    """What a client may ask for is declared, request and reply; what is only the server's is not."""
    internal = {Op.DELETE_CONTAINER, Op.CREATE_SESSION, Op.ERROR}
    assert jute.REQUESTS.keys() == jute.REPLIES.keys() == set(Op) - internal


def test_vectors_below_null_are_empty() -> None:
    """A count of -2 is an empty vector, as the original reads it, to the declarations and to the hand-written code."""
    assert jute.Acls.parse(b"\xff\xff\xff\xfe") == []
    assert codec.acl_end(b"\xff\xff\xff\xfe", 0) == 4


def test_a_record_inside_a_multi_ends_where_it_ends() -> None:
    """The walkers find the first byte behind a record, whatever follows."""
    record = {"path": b"/p", "data": b"d", "acl": {"value": [{"perms": 1, "scheme": b"a", "id": b"b"}]}, "flags": 3}
    body = jute.Create.build(record)
    assert codec.create_end(body + b"more", 0) == len(body)


def test_replies_are_as_declared() -> None:
    """What is packed by hand reads back through the declarations."""
    frame = codec.reply(7, 9, -101, b"xyz")
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    head = jute.ReplyHeader.parse(frame[4:])
    assert (head.xid, head.zxid, head.err, frame[20:]) == (7, 9, -101, b"xyz")
    for names in (
        [],
        [b"a", b"", b"ccc"],
        [b"%03d" % each for each in range(20)],
        [b"%d" % each for each in range(20)],
    ):
        assert jute.ChildrenReply.build({"children": names}) == codec.vector(names)


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=4))
def test_identities_survive(pairs: list[tuple[bytes, bytes]]) -> None:
    """A set of identities is read as it was packed, and is a vector of Id to everybody else."""
    packed = codec.pack_ids(tuple(pairs))
    assert codec.ids(packed) == tuple(pairs)
    assert [(each.scheme, each.id) for each in jute.Ids.parse(packed)] == pairs
