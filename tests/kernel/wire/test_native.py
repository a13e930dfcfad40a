"""The native protocol's fast code and its declaration are the same language."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.wire import native
from quorate.kernel.wire.native import (
    FORMS,
    About,
    Admin,
    Attach,
    Close,
    Consistency,
    Ended,
    EndReason,
    Event,
    Failed,
    Frame,
    Hello,
    KeepAlive,
    Kept,
    Malformed,
    Member,
    Moved,
    Open,
    Opened,
    Query,
    QueryReply,
    Reply,
    Request,
    Status,
    StatusReply,
    Welcome,
    decode,
    decode_by_form,
    encode,
    encode_by_form,
    split,
)

u16 = st.integers(0, (1 << 16) - 1)
u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
i64 = st.integers(-(1 << 63), (1 << 63) - 1)
names = st.text(st.characters(codec="utf-8"), max_size=60)
blobs = st.binary(max_size=40)
members = st.lists(st.builds(Member, u32, names), max_size=4).map(tuple)
frames = st.one_of(
    st.builds(Hello, u16, blobs, names),
    st.builds(Open, u32),
    st.builds(Attach, i64, blobs, u64),
    st.builds(Request, u64, u64, u64, names, blobs),
    st.builds(Query, u32, st.sampled_from(Consistency), u64, names, blobs),
    st.builds(KeepAlive, u64, u64, u64),
    st.builds(Close),
    st.builds(Status, u32),
    st.builds(Admin, u32, blobs),
    st.builds(Welcome, u16, blobs, u32, u32, members, u32, u32, u32, u32),
    st.builds(Opened, i64, blobs, u32),
    st.builds(Reply, u64, u64, blobs),
    st.builds(QueryReply, u32, u64, blobs),
    st.builds(Kept, u64, u32),
    st.builds(Event, blobs),
    st.builds(Moved, u32, members),
    st.builds(Ended, st.sampled_from(EndReason)),
    st.builds(Failed, st.sampled_from(About), u64, u32, names, names),
    st.builds(StatusReply, u32, blobs),
)
EXAMPLES: list[Frame] = [
    Request(1, 0, 7, "tally", b"payload"),
    Request(2, 1, 0, "", b""),
    Query(3, Consistency.READ_INDEX, 9, "tälly", b"p"),
    KeepAlive(1, 2, 3),
    Reply(4, 5, b"reply"),
    QueryReply(6, 7, b""),
    Kept(8, 9000),
    Event(b"event"),
    Hello(1, b"c" * 16, "client"),
    Welcome(1, b"c" * 16, 2, 1, (Member(1, "tcp:a:1"), Member(2, "tcp:b:2")), 1 << 20, 64, 1000, 60000),
    Failed(About.REQUEST, 5, 100, "not-serving", "no leader"),
    Ended(EndReason.EXPIRED),
]


def outcome(decoder: object, body: bytes) -> object:
    try:
        return decoder(body)  # type: ignore[operator]
    except Malformed:
        return Malformed


@given(frames)
def test_round_trip(frame: Frame) -> None:
    """What is written is read back the same, by either code."""
    wire = encode(frame)
    assert wire == encode_by_form(frame)
    bodies, used = split(wire)
    assert used == len(wire)
    assert [decode(body) for body in bodies] == [frame]
    assert type(decode(bodies[0])) is type(frame)
    assert decode_by_form(bodies[0]) == frame


@given(frames, st.data())
def test_damage_is_seen_alike(frame: Frame, data: st.DataObject) -> None:
    """A random truncation, extension or changed byte gives the same frame or the same refusal by either code."""
    body = encode(frame)[4:]
    damaged = bytearray(body)
    if damaged:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged += data.draw(st.binary(max_size=3))
    cut = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    for each in (bytes(damaged), cut):
        assert outcome(decode, each) == outcome(decode_by_form, each)


@pytest.mark.parametrize("frame", EXAMPLES, ids=lambda frame: type(frame).__name__)
def test_every_truncation_and_every_byte(frame: Frame) -> None:
    """All truncations and all one-byte changes of an example are read alike by either code."""
    body = encode(frame)[4:]
    for end in range(len(body)):
        assert outcome(decode, body[:end]) == outcome(decode_by_form, body[:end])
    for place in range(len(body)):
        for value in (0, 1, body[place] ^ 1, body[place] ^ 0x80, 127, 255):
            changed = body[:place] + bytes((value,)) + body[place + 1 :]
            assert outcome(decode, changed) == outcome(decode_by_form, changed)


def test_every_form_is_tried_above() -> None:
    """The strategies of this file cover every frame of the table."""
    assert {type(frame) for frame in EXAMPLES} <= {frame for frame, _ in FORMS.values()}
    assert len(frames.original_strategies) == len(FORMS)  # type: ignore[attr-defined]
    for frame, form in FORMS.values():
        assert [each.name for each in form.subcons] == list(frame._fields)


def test_split_leaves_the_rest() -> None:
    """Frames are cut off the front however the bytes arrive."""
    wire = b"".join(encode(frame) for frame in EXAMPLES)
    buffer, found = bytearray(), []
    for place in range(0, len(wire), 7):
        buffer += wire[place : place + 7]
        bodies, used = split(buffer)
        del buffer[:used]
        found += [decode(body) for body in bodies]
    assert found == EXAMPLES
    assert not buffer


def test_split_is_bounded() -> None:
    """A length of nothing or above the limit is refused when only its four bytes are there."""
    with pytest.raises(Malformed):
        split(b"\0\0\0\0")
    with pytest.raises(Malformed):
        split((native.FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
    assert split(b"\0\0\0\5ab", 5) == ([], 0)
    with pytest.raises(Malformed):
        split(b"\0\0\0\6ab", 5)


@pytest.mark.parametrize(
    "frame",
    [
        Request(1 << 64, 0, 0, "m", b""),
        Request(-1, 0, 0, "m", b""),
        Request(1, 0, 0, "m" * 256, b""),
        Open(1 << 32),
        Hello(1, b"c" * 256, "x"),
        KeepAlive(-1, 0, 0),
        Ended(9),  # type: ignore[arg-type]
        Query(1, 9, 0, "m", b""),  # type: ignore[arg-type]
    ],
)
def test_misfits_are_refused(frame: Frame) -> None:
    """A field that does not fit its place is refused when written, by either code."""
    for write in (encode, encode_by_form):
        with pytest.raises(Malformed):
            write(frame)


def test_what_every_client_is_told_is_written_once() -> None:
    """A new leader would be busy for a second with telling thousands of clients who it is."""
    frames = [native.Moved(2, (native.Member(2, "tcp:10.0.0.2:7420"),)) for _ in range(2)]
    assert native.encode(frames[0]) is native.encode(frames[1])
