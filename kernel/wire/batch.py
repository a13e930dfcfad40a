"""The bytes that enter the log: batches of chunks, and the requests that chunks to typed machines hold.

A *batch* is what one slot carries: a head (when and under which leadership it was proposed) and chunks back to back. A
*chunk* is one command to one machine, as its origin sent it: its place in the origin's stream and a body. The body of a
typed machine is a *request*; that of a raw machine is the machine's own.

All integers are big-endian::

    batch   = u8 version, i64 time_ms, i64 wall_ms, u64 epoch, chunk*
    chunk   = u32 length of what follows, u16 machine, u32 member, u32 incarnation, u64 sequence, body
    request = MessagePack [session, number, acknowledged, events_acknowledged, [identity...], command, arguments]

Nothing here looks into a body except :func:`request_head`, and nothing decides.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from ..machine import Plain
from .plain import Malformed, encode

VERSION: Final = 1

BATCH_HEAD: Final = struct.Struct(">BqqQ")
CHUNK_HEAD: Final = struct.Struct(">IHIIQ")
PLACE_BYTES: Final = CHUNK_HEAD.size - 4
"""The part of a chunk's head that its length counts."""


class UnknownVersion(ValueError):
    """A batch of a later format: this code is too old to apply it, and must not guess."""


class BatchHead(NamedTuple):
    """`time` is cell time and `wall` time of day, in milliseconds; `epoch` names the leadership; the first chunk
    starts at byte `offset`."""

    time: int
    wall: int
    epoch: int
    offset: int


class Chunk(NamedTuple):
    """Where one chunk lies in the bytes it was found in: whole in [start:end], its body in [body_start:end]."""

    machine: int
    member: int
    incarnation: int
    sequence: int
    start: int
    end: int
    body_start: int


_Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Request(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """One command to a typed machine.

    `session` and `number` name it (0, 0: the cell itself acts, not deduplicated). The client has seen every reply up
    to number `acknowledged` and every event up to `events_acknowledged`. `identities` is what the replica vouches
    for. `args`: a list by position or a mapping by name, still encoded.
    """

    session: _Count
    number: _Count
    acknowledged: _Count
    events_acknowledged: _Count
    identities: tuple[str, ...]
    command: str
    args: msgspec.Raw


_requests: Final = msgspec.msgpack.Decoder(Request)
_heads: Final = msgspec.msgpack.Encoder()


def pack_batch(time: int, wall: int, epoch: int, chunks: Iterable[bytes]) -> bytes:
    """One slot's payload out of whole chunks. Times in milliseconds."""
    return BATCH_HEAD.pack(VERSION, time, wall, epoch) + b"".join(chunks)


def batch_head(payload: bytes) -> BatchHead:
    """The head of a batch.

    Raises:
        Malformed: it is shorter than a head, or of no version at all.
        UnknownVersion: it is of a later version.
    """
    try:
        version, time, wall, epoch = BATCH_HEAD.unpack_from(payload)
    except struct.error:
        if payload and payload[0] > VERSION:
            raise UnknownVersion(f"the batch has format {payload[0]}, this code reads up to {VERSION}") from None
        raise Malformed(f"a batch of {len(payload)} bytes") from None
    if version > VERSION:
        raise UnknownVersion(f"the batch has format {version}, this code reads up to {VERSION}")
    if version == 0:
        raise Malformed("a batch of format 0")
    return BatchHead(time, wall, epoch, BATCH_HEAD.size)


def pack_chunk(machine: int, member: int, incarnation: int, sequence: int, body: bytes) -> bytes:
    """One command for `machine`, number `sequence` (from 1) of the stream of that member's run."""
    return CHUNK_HEAD.pack(PLACE_BYTES + len(body), machine, member, incarnation, sequence) + body


def chunk_head(run: bytes, offset: int = 0) -> Chunk:
    """The chunk that starts at byte `offset` of `run`.

    Raises:
        Malformed: it does not fit into `run`.
    """
    try:
        length, machine, member, incarnation, sequence = CHUNK_HEAD.unpack_from(run, offset)
    except struct.error:
        raise Malformed(f"a chunk's head is cut at byte {offset}") from None
    end = offset + 4 + length
    if length < PLACE_BYTES or end > len(run):
        raise Malformed(f"the chunk at byte {offset} has a length of {length}")
    return Chunk(machine, member, incarnation, sequence, offset, end, offset + CHUNK_HEAD.size)


def iter_chunks(run: bytes, offset: int = 0) -> Iterator[Chunk]:
    """The chunks that lie back to back in `run` from byte `offset` on.

    Raises:
        Malformed: at the first that does not fit; those before it have been yielded.
    """
    while offset < len(run):
        chunk = chunk_head(run, offset)
        yield chunk
        offset = chunk.end


def pack_request(
    command: str,
    args: Sequence[Plain] | Mapping[str, Plain] = (),
    *,
    session: int = 0,
    number: int = 0,
    acknowledged: int = 0,
    events_acknowledged: int = 0,
    identities: Sequence[str] = (),
) -> bytes:
    """A request whose arguments are values. By default it is the cell's own.

    Raises:
        NotPlain: the arguments are not plain data.
    """
    return encode((session, number, acknowledged, events_acknowledged, identities, command, args))


def wrap_payload(
    payload: bytes,
    *,
    session: int,
    number: int,
    acknowledged: int,
    events_acknowledged: int,
    identities: Sequence[str],
) -> bytes:
    """A request out of a client's payload (MessagePack [command, arguments]), whose bytes are taken over as they are.
    What is wrong behind its first byte is found when the request is applied.

    Raises:
        Malformed: it does not start as a list of two.
    """
    if payload[:1] != b"\x92":
        raise Malformed("a payload is a list of a command's name and its arguments")
    head = _heads.encode((session, number, acknowledged, events_acknowledged, identities))
    return b"\x97" + head[1:] + payload[1:]


def request_head(body: bytes) -> Request:
    """The request that a chunk to a typed machine holds; its arguments stay encoded and unchecked.

    Raises:
        Malformed: it is none.
    """
    try:
        return _requests.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("not a request") from None
