"""The form of a snapshot of all machines: records, one after the other.

::

    record = u32 length of what follows, u8 kind, body
    HEAD     MessagePack: format version and what the host knows
    MACHINE  MessagePack: whose image follows
    PART     a piece of the image, whose rest follows
    PIECE    a piece of the image, or the last part of one
    END      MessagePack: how many records came before

An image is one piece, or as many as its machine made of it; the borders of pieces are kept. Long pieces travel in
parts, so that no record is long. A reader takes the bytes cut in any way. Damage is found by whoever stores the bytes;
what is missing is found here.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .plain import Malformed

FORMAT: Final = 1
PART_BYTES: Final = 512 << 10
"""The longest body that is written."""
BODY_MAX: Final = 1 << 20
"""The longest that is read."""

_HEAD: Final = struct.Struct(">IB")


class Kind(enum.IntEnum):
    """What a record is."""

    HEAD = 1
    MACHINE = 2
    PART = 3
    PIECE = 4
    END = 5


class Record(NamedTuple):
    """One record of a snapshot."""

    kind: Kind
    body: bytes


def frame(kind: Kind, body: bytes) -> bytes:
    """One record."""
    return _HEAD.pack(1 + len(body), kind) + body


def frame_piece(piece: bytes) -> Iterator[bytes]:
    """A piece of an image, as records."""
    view = memoryview(piece)
    while len(view) > PART_BYTES:
        yield frame(Kind.PART, bytes(view[:PART_BYTES]))
        view = view[PART_BYTES:]
    yield frame(Kind.PIECE, bytes(view))


def records(chunks: Iterable[bytes]) -> Iterator[Record]:
    """The records in bytes that come in chunks of any size.

    Raises:
        Malformed: they do not come out even, or a record is too long or of no kind.
    """
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        offset = 0
        while len(rest) - offset >= _HEAD.size:
            length, kind = _HEAD.unpack_from(rest, offset)
            if not 1 <= length <= 1 + BODY_MAX or kind not in _KINDS:
                raise Malformed(f"no record of a snapshot: kind {kind}, length {length}")
            end = offset + 4 + length
            if end > len(rest):
                break
            yield Record(Kind(kind), bytes(rest[offset + _HEAD.size : end]))
            offset = end
        del rest[:offset]
    if rest:
        raise Malformed("a record of the snapshot is cut")


_KINDS: Final = frozenset(Kind)
