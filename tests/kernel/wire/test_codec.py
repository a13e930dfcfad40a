"""The peer wire's fast code and its declaration are the same language."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.forwarding import Gap
from quorate.kernel.node_messages import Forward, Gaps, Heads, Renew, Renewed
from quorate.kernel.paxos import messages
from quorate.kernel.paxos.ballot import Ballot
from quorate.kernel.paxos.messages import (
    Accept,
    Accepted,
    Beaten,
    Canvass,
    Canvassed,
    Chosen,
    Commit,
    Compacted,
    Fetch,
    FetchSnapshot,
    Heartbeat,
    Kind,
    Prepare,
    Promise,
    ReadGranted,
    ReadIndex,
    Refused,
    SnapshotChunk,
    Value,
    Vote,
    Vouched,
    Yield,
)
from quorate.kernel.wire import codec
from quorate.kernel.wire.formats import (
    FORMS,
    FRAME_BYTES_MAX,
    NUMBERS,
    Frame,
    Greeting,
    Malformed,
    Refusing,
    TurnedAway,
    Welcomed,
    decode_by_form,
    encode_by_form,
)

u16 = st.integers(0, (1 << 16) - 1)
u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
i64 = st.integers(-(1 << 63), (1 << 63) - 1)
blobs = st.binary(max_size=40)
sixteen = st.binary(min_size=16, max_size=16)
ballots = st.builds(Ballot, u64, u32)
values = st.builds(Value, st.sampled_from(Kind), blobs)
several = st.lists(values, max_size=3).map(tuple)
votes = st.lists(st.builds(Vote, u64, ballots, values), max_size=3).map(tuple)
sessions = st.lists(i64, max_size=4).map(tuple)
frames = st.one_of(
    st.builds(Greeting, u16, sixteen, u32, u32, u32, sixteen, st.binary(min_size=8, max_size=8), ballots, u64),
    st.builds(Welcomed, u32, u32, sixteen),
    st.builds(TurnedAway, st.sampled_from(Refusing), st.text(st.characters(codec="utf-8"), max_size=30)),
    st.builds(Canvass, ballots, u64, u64),
    st.builds(Canvassed, ballots, st.booleans(), ballots, u64),
    st.builds(Prepare, ballots, u64, u64, ballots),
    st.builds(Promise, ballots, u64, votes, u64, u64, u32, u32),
    st.builds(Refused, ballots, ballots),
    st.builds(Yield, ballots, u64),
    st.builds(Heartbeat, ballots, u64, u64, u64, u64),
    st.builds(Beaten, ballots, u64, u64, u64),
    st.builds(Accept, ballots, u64, several, u64),
    st.builds(Accepted, ballots, u64, u64),
    st.builds(Commit, ballots, u64),
    st.builds(Vouched, ballots, u64, st.booleans()),
    st.builds(Fetch, u64, u64),
    st.builds(Chosen, u64, several, u64),
    st.builds(Compacted, u64, u64),
    st.builds(FetchSnapshot, u64, u64),
    st.builds(SnapshotChunk, u64, u64, u64, blobs),
    st.builds(ReadIndex, u64),
    st.builds(ReadGranted, u64, u64),
    st.builds(Forward, blobs),
    st.builds(Heads, u32, st.lists(st.tuples(u16, u64), max_size=3).map(tuple)),
    st.builds(Gaps, st.lists(st.builds(Gap, u16, u64), max_size=3).map(tuple)),
    st.builds(Renew, u64, sessions),
    st.builds(Renewed, u64, sessions),
)
_BALLOT = Ballot(3, 2)  # type: ignore[arg-type]
EXAMPLES: list[Any] = [
    Accept(_BALLOT, 7, (Value(Kind.COMMANDS, b"batch"), Value(Kind.NOOP, b"")), 6),  # type: ignore[arg-type]
    Accept(_BALLOT, 7, (), 6),  # type: ignore[arg-type]
    Chosen(7, (Value(Kind.CONFIGURATION, b"change"),), 9),  # type: ignore[arg-type]
    Accepted(_BALLOT, 7, 9),  # type: ignore[arg-type]
    Commit(_BALLOT, 9),  # type: ignore[arg-type]
    Vouched(_BALLOT, 9, True),  # type: ignore[arg-type]
    Heartbeat(_BALLOT, 9, 123456, 77, 1),  # type: ignore[arg-type]
    Beaten(_BALLOT, 123456, 77, 9),  # type: ignore[arg-type]
    SnapshotChunk(9, 4096, 9000, b"chunk"),  # type: ignore[arg-type]
    ReadIndex(5, False),
    ReadIndex(6, True),
    ReadGranted(5, 9),  # type: ignore[arg-type]
    Forward(b"chunks"),
    Renew(1, (1, -5)),
    Renewed(1, ()),
]


def verdict(read: Any, body: bytes) -> Frame | None:
    """What a reader makes of `body`; None if it refuses."""
    try:
        frame: Frame = read(body)
    except Malformed:
        return None
    return frame


def test_every_message_has_a_form() -> None:
    """A message that nobody declared could not reach a peer."""
    named = {getattr(messages, name) for name in messages.__all__}
    spoken = {each for each in named if isinstance(each, type) and issubclass(each, messages.Message.__args__)}
    assert len(spoken) == 19
    assert spoken | {Forward, Heads, Gaps, Renew, Renewed} <= NUMBERS.keys()
    assert len(NUMBERS) == len(FORMS)


@given(frames)
def test_codec_writes_what_the_form_says(frame: Frame) -> None:
    """The pieces of the fast writer joined are the declaration's bytes, and both readers give the frame back."""
    wire = b"".join(codec.encode(frame))
    assert wire == encode_by_form(frame)
    assert codec.decode(wire[4:]) == decode_by_form(wire[4:]) == frame


@given(frames, st.data())
def test_readers_agree_on_truncated_and_extended_frames(frame: Frame, data: st.DataObject) -> None:
    """A frame that lost its tail, or gained one, is refused by both readers or read alike."""
    body = encode_by_form(frame)[4:]
    cut = body[: data.draw(st.integers(0, len(body)))]
    assert verdict(codec.decode, cut) == verdict(decode_by_form, cut)
    assert verdict(codec.decode, body + b"\0") == verdict(decode_by_form, body + b"\0")


@pytest.mark.parametrize("frame", EXAMPLES, ids=lambda frame: type(frame).__name__)
def test_readers_agree_on_every_truncation_and_mutation(frame: Frame) -> None:
    """Every prefix, and every change of one byte to each of several values, of every hand-written frame."""
    body = encode_by_form(frame)[4:]
    for end in range(len(body)):
        assert verdict(codec.decode, body[:end]) == verdict(decode_by_form, body[:end])
    for at in range(1, len(body)):
        for changed in {0, 1, 2, 3, 127, 128, 255, body[at] ^ 1, body[at] ^ 0x80} - {body[at]}:
            mutant = body[:at] + bytes((changed,)) + body[at + 1 :]
            assert verdict(codec.decode, mutant) == verdict(decode_by_form, mutant)


@pytest.mark.parametrize("body", [b"", b"\x00", b"\xff\x01"])
def test_unknown_numbers_are_refused(body: bytes) -> None:
    """Neither an empty frame nor an unknown number is guessed at."""
    with pytest.raises(Malformed):
        codec.decode(body)
    with pytest.raises(Malformed):
        decode_by_form(body)


@pytest.mark.parametrize(
    "frame", [ReadIndex(-1, False), ReadIndex(1 << 64, True), Renew(0, (1 << 63,)), Welcomed(-1, 0, bytes(16))]
)
def test_fields_that_do_not_fit_are_refused(frame: Frame) -> None:
    """Writing never wraps a number."""
    with pytest.raises(Malformed):
        codec.encode(frame)


def test_payloads_are_not_copied_by_the_writer() -> None:
    """The payload objects themselves are among the pieces."""
    payload = b"x" * 1000
    accept = Accept(_BALLOT, 1, (Value(Kind.COMMANDS, payload),), 0)  # type: ignore[arg-type]
    assert any(piece is payload for piece in codec.encode(accept))
    assert any(piece is payload for piece in codec.encode(Forward(payload)))


@given(st.lists(frames, max_size=6), st.data())
def test_splitter_finds_the_frames_however_the_bytes_are_cut(sent: list[Frame], data: st.DataObject) -> None:
    """A stream cut anywhere gives the same bodies in the same order."""
    stream = b"".join(encode_by_form(frame) for frame in sent)
    splitter = codec.Splitter()
    bodies: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        bodies += splitter.feed(stream[:size])
        stream = stream[size:]
    assert [codec.decode(body) for body in bodies] == sent


@pytest.mark.parametrize("length", [0, FRAME_BYTES_MAX + 1])
def test_splitter_refuses_lengths_before_it_stores_anything(length: int) -> None:
    """A length of nothing or of too much ends the conversation at once."""
    with pytest.raises(Malformed):
        codec.Splitter().feed(length.to_bytes(4, "big"))
