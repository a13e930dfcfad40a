"""The peer wire at speed: hand-written :mod:`struct` code for the frames that pass many times a second.

It speaks exactly the language that :mod:`.formats` declares (the tests hold the two equal on every truncation and
one-byte change); rare frames are left to the declaration itself.

Payloads are not joined when a frame is written: :func:`encode` returns the pieces for one gathering send, and the
pieces of one message serve for every member it goes to. On the way in a payload is cut out of the frame once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..node_messages import Forward, Renew, Renewed
from ..paxos.ballot import Ballot, MemberId, Slot
from ..paxos.messages import (
    Accept,
    Accepted,
    Beaten,
    Chosen,
    Commit,
    Heartbeat,
    Kind,
    ReadGranted,
    ReadIndex,
    SnapshotChunk,
    Value,
    Vouched,
)
from .formats import FORMS, FRAME_BYTES_MAX, NUMBERS, Frame, Malformed, decode_by_form, encode_by_form

_LENGTH: Final = struct.Struct(">I")
# Each begins with the frame's length and number; to read, the same without the length.
_ACCEPT: Final = struct.Struct(">IBQIQI")
_ACCEPT_BODY: Final = struct.Struct(">xQIQI")
_CHOSEN: Final = struct.Struct(">IBQI")
_CHOSEN_BODY: Final = struct.Struct(">xQI")
_VALUE: Final = struct.Struct(">BI")
_SLOT: Final = struct.Struct(">Q")
_ACCEPTED: Final = struct.Struct(">IBQIQQ")
_ACCEPTED_BODY: Final = struct.Struct(">xQIQQ")
_COMMIT: Final = struct.Struct(">IBQIQ")
_COMMIT_BODY: Final = struct.Struct(">xQIQ")
_VOUCHED: Final = struct.Struct(">IBQIQB")
_VOUCHED_BODY: Final = struct.Struct(">xQIQB")
_HEARTBEAT: Final = struct.Struct(">IBQIQQQQ")
_HEARTBEAT_BODY: Final = struct.Struct(">xQIQQQQ")
_BEATEN: Final = struct.Struct(">IBQIQQQ")
_BEATEN_BODY: Final = struct.Struct(">xQIQQQ")
_CHUNK: Final = struct.Struct(">IBQQQ")
_CHUNK_BODY: Final = struct.Struct(">xQQQ")
_READ_INDEX: Final = struct.Struct(">IBQB")
_READ_INDEX_BODY: Final = struct.Struct(">xQB")
_READ_GRANTED: Final = struct.Struct(">IBQQ")
_READ_GRANTED_BODY: Final = struct.Struct(">xQQ")
_FORWARD: Final = struct.Struct(">IB")
_RENEW: Final = struct.Struct(">IBQI")
_RENEW_BODY: Final = struct.Struct(">xQI")

_KINDS: Final = tuple(Kind)


def _put_values(head: bytes, values: Iterable[Value], last: bytes = b"") -> list[bytes]:
    """The pieces of `head`, the values and `last`: payloads stand by themselves, what is between them is joined."""
    pieces: list[bytes] = []
    for kind, payload in values:
        pieces.append(head + _VALUE.pack(kind, len(payload)))
        pieces.append(payload)
        head = b""
    if head or last:
        pieces.append(head + last)
    return pieces


def _take_values(body: bytes, at: int, count: int) -> tuple[tuple[Value, ...], int]:
    """`count` values from offset `at` on, and where they end."""
    values = []
    size = len(body)
    for _ in range(count):
        kind, length = _VALUE.unpack_from(body, at)
        at += 5
        if length > size - at:
            raise Malformed("a value ends outside its frame")
        values.append(Value(_KINDS[kind], body[at : at + length]))
        at += length
    return tuple(values), at


def _exactly(body: bytes, size: int, name: str) -> None:
    if len(body) != size:
        raise Malformed(f"{name} of {len(body)} bytes")


def _encode_accept(frame: Accept) -> list[bytes]:
    (round_, member), first, values, commit = frame
    size = 33 + sum([5 + len(payload) for _, payload in values])
    head = _ACCEPT.pack(size, 32, round_, member, first, len(values))
    return _put_values(head, values, _SLOT.pack(commit))


def _decode_accept(body: bytes) -> Accept:
    round_, member, first, count = _ACCEPT_BODY.unpack_from(body)
    values, end = _take_values(body, 25, count)
    _exactly(body, end + 8, "Accept")
    return Accept(Ballot(round_, MemberId(member)), Slot(first), values, _SLOT.unpack_from(body, end)[0])


def _encode_chosen(frame: Chosen) -> list[bytes]:
    first, values, commit = frame
    size = 21 + sum([5 + len(payload) for _, payload in values])
    return _put_values(_CHOSEN.pack(size, 36, first, len(values)), values, _SLOT.pack(commit))


def _decode_chosen(body: bytes) -> Chosen:
    first, count = _CHOSEN_BODY.unpack_from(body)
    values, end = _take_values(body, 13, count)
    _exactly(body, end + 8, "Chosen")
    return Chosen(Slot(first), values, _SLOT.unpack_from(body, end)[0])


def _encode_accepted(frame: Accepted) -> list[bytes]:
    (round_, member), first, last = frame
    return [_ACCEPTED.pack(29, 33, round_, member, first, last)]


def _decode_accepted(body: bytes) -> Accepted:
    _exactly(body, 29, "Accepted")
    round_, member, first, last = _ACCEPTED_BODY.unpack(body)
    return Accepted(Ballot(round_, member), first, last)


def _encode_commit(frame: Commit) -> list[bytes]:
    (round_, member), commit = frame
    return [_COMMIT.pack(21, 34, round_, member, commit)]


def _decode_commit(body: bytes) -> Commit:
    _exactly(body, 21, "Commit")
    round_, member, commit = _COMMIT_BODY.unpack(body)
    return Commit(Ballot(round_, member), commit)


def _encode_vouched(frame: Vouched) -> list[bytes]:
    (round_, member), slot, alone = frame
    return [_VOUCHED.pack(22, 40, round_, member, slot, alone)]


def _decode_vouched(body: bytes) -> Vouched:
    _exactly(body, 22, "Vouched")
    round_, member, slot, alone = _VOUCHED_BODY.unpack(body)
    if alone > 1:
        raise Malformed(f"Vouched: {alone} for true or false")
    return Vouched(Ballot(round_, member), slot, alone == 1)


def _encode_heartbeat(frame: Heartbeat) -> list[bytes]:
    (round_, member), commit, sent, beat, configuration = frame
    return [_HEARTBEAT.pack(45, 22, round_, member, commit, sent, beat, configuration)]


def _decode_heartbeat(body: bytes) -> Heartbeat:
    _exactly(body, 45, "Heartbeat")
    round_, member, commit, sent, beat, configuration = _HEARTBEAT_BODY.unpack(body)
    return Heartbeat(Ballot(round_, member), commit, sent, beat, configuration)


def _encode_beaten(frame: Beaten) -> list[bytes]:
    (round_, member), sent, beat, applied = frame
    return [_BEATEN.pack(37, 23, round_, member, sent, beat, applied)]


def _decode_beaten(body: bytes) -> Beaten:
    _exactly(body, 37, "Beaten")
    round_, member, sent, beat, applied = _BEATEN_BODY.unpack(body)
    return Beaten(Ballot(round_, member), sent, beat, applied)


def _encode_chunk(frame: SnapshotChunk) -> list[bytes]:
    slot, offset, size, chunk = frame
    return [_CHUNK.pack(25 + len(chunk), 39, slot, offset, size), chunk]


def _decode_chunk(body: bytes) -> SnapshotChunk:
    slot, offset, size = _CHUNK_BODY.unpack_from(body)
    return SnapshotChunk(slot, offset, size, body[25:])


def _encode_read_index(frame: ReadIndex) -> list[bytes]:
    return [_READ_INDEX.pack(10, 48, frame.context, frame.by_round)]


def _decode_read_index(body: bytes) -> ReadIndex:
    _exactly(body, 10, "ReadIndex")
    context, by_round = _READ_INDEX_BODY.unpack(body)
    if by_round > 1:
        raise Malformed(f"ReadIndex: {by_round} for true or false")
    return ReadIndex(context, by_round == 1)


def _encode_read_granted(frame: ReadGranted) -> list[bytes]:
    return [_READ_GRANTED.pack(17, 49, frame.context, frame.slot)]


def _decode_read_granted(body: bytes) -> ReadGranted:
    _exactly(body, 17, "ReadGranted")
    return ReadGranted(*_READ_GRANTED_BODY.unpack(body))


def _encode_forward(frame: Forward) -> list[bytes]:
    return [_FORWARD.pack(1 + len(frame.chunks), 64), frame.chunks]


def _decode_forward(body: bytes) -> Forward:
    return Forward(body[1:])


def _sessions_encoder(number: int) -> Callable[[Renew | Renewed], list[bytes]]:
    def encode_sessions(frame: Renew | Renewed) -> list[bytes]:
        report, sessions = frame
        count = len(sessions)
        return [_RENEW.pack(13 + 8 * count, number, report, count) + struct.pack(f">{count}q", *sessions)]

    return encode_sessions


def _sessions_decoder(made: type[Renew] | type[Renewed]) -> Callable[[bytes], Renew | Renewed]:
    def decode_sessions(body: bytes) -> Renew | Renewed:
        report, count = _RENEW_BODY.unpack_from(body)
        _exactly(body, 13 + 8 * count, made.__name__)
        return made(report, struct.unpack_from(f">{count}q", body, 13))

    return decode_sessions


def _by_form(frame: Frame) -> list[bytes]:
    return [encode_by_form(frame)]


_ENCODERS: Final[dict[type[Any], Callable[[Any], list[bytes]]]] = {
    **dict.fromkeys(NUMBERS, _by_form),
    Accept: _encode_accept,
    Accepted: _encode_accepted,
    Commit: _encode_commit,
    Vouched: _encode_vouched,
    Chosen: _encode_chosen,
    Heartbeat: _encode_heartbeat,
    Beaten: _encode_beaten,
    SnapshotChunk: _encode_chunk,
    ReadIndex: _encode_read_index,
    ReadGranted: _encode_read_granted,
    Forward: _encode_forward,
    Renew: _sessions_encoder(67),
    Renewed: _sessions_encoder(68),
}
_DECODERS: Final[dict[int, Callable[[bytes], Frame]]] = {
    **dict.fromkeys(FORMS, decode_by_form),
    22: _decode_heartbeat,
    23: _decode_beaten,
    32: _decode_accept,
    33: _decode_accepted,
    34: _decode_commit,
    36: _decode_chosen,
    39: _decode_chunk,
    40: _decode_vouched,
    48: _decode_read_index,
    49: _decode_read_granted,
    64: _decode_forward,
    67: _sessions_decoder(Renew),
    68: _sessions_decoder(Renewed),
}


def encode(frame: Frame) -> list[bytes]:
    """The frame, with its length before it, in pieces to be sent one after the other. Raises Malformed if a field does
    not fit its place."""
    try:
        return _ENCODERS[type(frame)](frame)
    except Malformed:
        raise
    except (struct.error, ValueError, TypeError) as error:
        raise Malformed(f"{type(frame).__name__} cannot be written: {error}") from None


def decode(body: bytes) -> Frame:
    """The frame in `body`, as :func:`split` cuts it: its number and its fields, nothing behind. Raises Malformed."""
    if not body:
        raise Malformed("empty frame")
    decoder = _DECODERS.get(body[0])
    if decoder is None:
        raise Malformed(f"frame number {body[0]}")
    try:
        return decoder(body)
    except Malformed:
        raise
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise Malformed(f"{FORMS[body[0]][0].__name__} cannot be read: {error}") from None


class Splitter:
    """Cuts what a connection receives into frame bodies.

    Bytes of a frame that is not whole yet are kept as they came and joined once, when its last byte is there.
    """

    __slots__ = ("_kept", "_limit", "_missing", "_size")

    def __init__(self, limit: int = FRAME_BYTES_MAX) -> None:
        self._limit = limit
        self._kept: list[bytes] = []
        self._size = 0
        self._missing = 4

    def feed(self, received: bytes) -> list[bytes]:
        """The bodies that are whole now. Raises Malformed as soon as a length of 0 or above the limit is announced."""
        if self._kept:
            self._kept.append(received)
            self._size += len(received)
            if self._size < self._missing:
                return []
            received = b"".join(self._kept)
            self._kept.clear()
            self._size = 0
        bodies = []
        at, size = 0, len(received)
        missing = 4
        while size - at >= 4:
            (length,) = _LENGTH.unpack_from(received, at)
            if not 0 < length <= self._limit:
                raise Malformed(f"a frame of {length} bytes is announced, the limit is {self._limit}")
            end = at + 4 + length
            if end > size:
                missing = 4 + length
                break
            bodies.append(received[at + 4 : end])
            at = end
        if at < size:
            self._kept.append(received[at:])
            self._size = size - at
            self._missing = missing
        return bodies
