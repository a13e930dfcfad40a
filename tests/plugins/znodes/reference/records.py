"""Requests and replies as plain values: what the reference reads and what it answers.

A request is (op, values by name); a reply's body is a value made of dicts, lists, text, bytes and numbers. Paths are
text, as the original decodes them: what is not UTF-8 reads as U+FFFD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from construct import Container, ListContainer
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Malformed, Op

CREATES: Final = (Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER)

REQUESTS: Final[Mapping[int, Any]] = {
    **dict.fromkeys(CREATES, jute.Create),
    Op.CREATE_TTL: jute.CreateTtl,
    Op.DELETE: jute.PathVersion,
    Op.CHECK: jute.PathVersion,
    Op.SET_DATA: jute.SetData,
    Op.SET_ACL: jute.SetAcl,
    Op.EXISTS: jute.PathWatch,
    Op.GET_DATA: jute.PathWatch,
    Op.GET_CHILDREN: jute.PathWatch,
    Op.GET_CHILDREN2: jute.PathWatch,
    Op.GET_ACL: jute.PathOnly,
    Op.GET_ALL_CHILDREN_NUMBER: jute.PathOnly,
    Op.SYNC: jute.Struct("path" / jute.Ustring),
    Op.GET_EPHEMERALS: jute.Struct("path" / jute.Ustring),
    Op.ADD_WATCH: jute.PathKind,
    Op.REMOVE_WATCHES: jute.PathKind,
    Op.CHECK_WATCHES: jute.PathKind,
    Op.SET_WATCHES: jute.SetWatches,
    Op.SET_WATCHES2: jute.SetWatches2,
    Op.AUTH: jute.Auth,
    Op.WHO_AM_I: jute.Struct(),
    Op.PING: jute.Struct(),
    Op.CLOSE_SESSION: jute.Struct(),
    Op.RECONFIG: jute.Struct(),
}
"""The record of every request that has one of its own; those of several at once are lists."""

REPLIES: Final[Mapping[int, Any]] = {
    Op.CREATE: jute.Struct("path" / jute.Ustring),
    **dict.fromkeys((Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL), jute.Create2Reply),
    **dict.fromkeys((Op.EXISTS, Op.SET_DATA, Op.SET_ACL, Op.CHECK), jute.Struct("stat" / jute.Stat)),
    **dict.fromkeys((Op.GET_DATA, Op.RECONFIG), jute.GetDataReply),
    Op.GET_CHILDREN: jute.ChildrenReply,
    Op.GET_CHILDREN2: jute.Children2Reply,
    Op.GET_ACL: jute.GetAclReply,
    Op.SYNC: jute.Struct("path" / jute.Ustring),
    Op.GET_EPHEMERALS: jute.Struct("paths" / jute.Vector(jute.Ustring)),
    Op.GET_ALL_CHILDREN_NUMBER: jute.Struct("count" / jute.Int32sb),
    Op.ADD_WATCH: jute.Struct("err" / jute.Int32sb),
    Op.WHO_AM_I: jute.Struct("who" / jute.Ids),
}
"""The record of every reply that has a body; nothing for the others, and a list for several at once."""

RESULTS: Final[Mapping[int, Any]] = {
    Op.CREATE: REPLIES[Op.CREATE],
    Op.CREATE2: jute.Create2Reply,
    Op.SET_DATA: REPLIES[Op.SET_DATA],
    Op.GET_DATA: jute.GetDataReply,
    Op.GET_CHILDREN: jute.ChildrenReply,
    Op.DELETE: jute.Struct(),
    Op.CHECK: jute.Struct(),
    Op.ERROR: jute.Struct("err" / jute.Int32sb),
}
"""The record of one result among several."""

IN_MULTI: Final = (*CREATES, Op.CREATE_TTL, Op.DELETE, Op.CHECK, Op.SET_DATA)
IN_MULTI_READ: Final = (Op.GET_DATA, Op.GET_CHILDREN)

UNORDERED: Final = ("children", "paths", "who")
"""Lists that a server may give in any order."""


class Reply(NamedTuple):
    """One reply. `body` is None if there is none."""

    xid: int
    zxid: int
    err: int
    body: Any = None


class Notice(NamedTuple):
    """One notification."""

    event: int
    path: str


def text(raw: bytes | None) -> str | None:
    """A path as the original reads it."""
    return None if raw is None else raw.decode("utf-8", "replace")


def plain(found: Any, unordered: tuple[str, ...] = ()) -> Any:
    """What construct parsed, without construct; paths and names are text, lists without an order are sorted."""
    if isinstance(found, ListContainer | list):
        return [plain(item, unordered) for item in found]
    if not isinstance(found, Container):
        return found
    made = {}
    for name, value in found.items():
        if name == "_io":
            continue
        if name == "acl" and isinstance(value, Container):
            value = value.value  # kept beside its bytes
        value = plain(value, unordered)
        if name in ("path", "scheme", "id"):
            value = text(value)
        elif name in ("changed", "exists", "children", "persistent", "recursive", "paths") and isinstance(value, list):
            value = [text(item) for item in value]
        made[name] = sorted(value, key=str) if name in unordered and isinstance(value, list) else value
    return made


def request(op: int, body: bytes) -> Any:
    """The values of a request: a dict; of several at once: a list of (op, dict). Raises Malformed."""
    if op == Op.MULTI:
        return _several(body, IN_MULTI)
    if op == Op.MULTI_READ:
        return _several(body, IN_MULTI_READ)
    return plain(jute.read(REQUESTS[op], body))


def _several(body: bytes, allowed: tuple[Op, ...]) -> list[tuple[int, Any]]:
    steps = []
    while True:
        head = jute.read(jute.MultiHeader, body)
        if head.done:
            return steps
        if head.type not in allowed:
            raise Malformed(f"operation {head.type} among several")
        record = jute.read(jute.Struct("it" / REQUESTS[head.type], "size" / jute.c.Tell), body[9:])
        steps.append((head.type, plain(record.it)))
        body = body[9 + record.size :]


def reply(op: int, frame: bytes) -> Reply:
    """A reply frame to a request of type `op`, taken apart; nothing may be left over."""
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    head = jute.ReplyHeader.parse(frame[4:])
    return Reply(head.xid, head.zxid, head.err, _body(op, frame[20:]) if not head.err else _nothing(frame[20:]))


def notice(frame: bytes) -> Notice:
    """A notification's frame, taken apart."""
    head = jute.ReplyHeader.parse(frame[4:])
    assert (head.xid, head.zxid, head.err) == (-1, -1, 0)
    event = jute.WatcherEvent.parse(frame[20:])
    assert event.state == 3
    assert jute.WatcherEvent.build(event) == frame[20:]
    return Notice(event.type, event.path.decode())


def _nothing(rest: bytes) -> None:
    assert not rest, f"left over: {rest.hex()}"


def _body(op: int, body: bytes) -> Any:
    if op in (Op.MULTI, Op.MULTI_READ):
        found = []
        while True:
            head = jute.MultiHeader.parse(body)
            if head.done:
                return _nothing(body[9:]) or found
            value, body = _take(RESULTS[head.type], body[9:])
            found.append((head.type, head.err, value))
    if op not in REPLIES:
        return _nothing(body)
    value, rest = _take(REPLIES[op], body)
    _nothing(rest)
    return value


def _take(record: Any, content: bytes) -> tuple[Any, bytes]:
    found = jute.Struct("it" / record, "size" / jute.c.Tell).parse(content)
    return plain(found.it, UNORDERED), content[found.size :]
