"""The bytes of the journal and of every other file here, in one place; what they mean is :mod:`.journal`'s business.

Whole-file headers, marks and identities are *stamped*: magic (8 bytes), format version, length, body, CRC-32 of all of
it. That frame is the same in every version, so that a newer file is told from a damaged one. Numbers are big-endian.

A segment is one 4,096-byte page whose first sector holds the stamped segment header, then batches, each at a multiple
of 8 bytes, then zeros. A batch is

    header (72 bytes)   what it is, where it stands in the record, and where the acceptor stands after it
    table (32 per record)  type, kind, payload length, slot, ballot, CRC of the payload
    payloads, back to back
    trailer (4 bytes, none of them zero)

The header's CRC starts from a value made of the disk id and the segment's number and covers the batch's own offset, so
that neither a stale block, nor another file's batch, nor a client's bytes that look like one can pass. It covers the
CRC of the table, which holds those of the payloads, and the CRC of the batch before: the chain.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

from ..paxos.ballot import NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from .errors import Malformed, NewerFormat

FORMAT: Final = 1
SECTOR: Final = 512
PAGE: Final = 4096
ALIGNMENT: Final = 8

SEGMENT_MAGIC: Final = b"QRTseg\r\n"
MARK_MAGIC: Final = b"QRTmrk\r\n"
IDENTITY_MAGIC: Final = b"QRTidn\r\n"
FOUNDING_MAGIC: Final = b"QRTfnd\r\n"
SNAPSHOT_MAGIC: Final = b"QRTsnp\r\n"
FOOTER_MAGIC: Final = b"QRTend\r\n"

_STAMP: Final = struct.Struct(">8sHI")
CRC: Final = struct.Struct(">I")
STAMP_SIZE: Final = _STAMP.size + CRC.size


def stamp(magic: bytes, body: bytes, version: int = FORMAT) -> bytes:
    """`body` in the frame that every version can check."""
    content = _STAMP.pack(magic, version, STAMP_SIZE + len(body)) + body
    return content + CRC.pack(crc32(content))


def unstamp(magic: bytes, content: bytes | memoryview, where: str) -> bytes:
    """The body of the stamped bytes that `content` begins with; `where` names the place in errors.

    Raises:
        Malformed: not such a thing, or damaged.
        NewerFormat: whole, but of a version that this software does not know.
    """
    if len(content) < STAMP_SIZE:
        raise Malformed(f"{where}: only {len(content)} bytes")
    found, version, size = _STAMP.unpack_from(content)
    if found != magic:
        raise Malformed(f"{where}: begins with {bytes(found)!r} instead of {magic!r}")
    if not STAMP_SIZE <= size <= len(content):
        raise Malformed(f"{where}: claims {size} bytes and {len(content)} are there")
    if crc32(content[: size - CRC.size]) != CRC.unpack_from(content, size - CRC.size)[0]:
        raise Malformed(f"{where}: the checksum over its {size} bytes does not fit")
    if version != FORMAT:
        raise NewerFormat(
            f"{where}: has format {version} and this release reads up to {FORMAT}; nothing was changed: start the "
            "release that wrote it, or a newer one"
        )
    return bytes(content[_STAMP.size : size - CRC.size])


class Owner(NamedTuple):
    """Whose files these are: the cell (16 bytes), the member, and its disk (16 random bytes)."""

    cell: bytes
    member: MemberId
    disk: bytes

    def seed(self, segment: int) -> int:
        """What the CRCs of the batch headers in `segment` start from."""
        return crc32(self.disk + segment.to_bytes(8, "big"))


class Standing(NamedTuple):
    """Where the acceptor stands after some record; kept in every header and mark, so that losing a record seldom means
    losing this.

    `promised`: the highest ballot promised or accepted. `chosen`: the highest KnownChosen. `highest`: the highest slot
    ever voted on. `untrusted`: votes or promises were lost once; it never becomes False again.
    """

    promised: Ballot = NO_BALLOT
    chosen: Slot = NO_SLOT
    highest: Slot = NO_SLOT
    untrusted: bool = False


# ---------------------------------------------------------------- segments

_SEGMENT: Final = struct.Struct(">16sI16sQQQQIQIQQB")


class SegmentHeader(NamedTuple):
    """`size`: the file's allocated bytes; `first`: number of the first record; `previous`: CRC of the batch before;
    `certified`: bytes from the start that were synced before the file got its name; `standing`: before the first
    batch."""

    owner: Owner
    number: int
    size: int
    first: int
    certified: int
    previous: int
    standing: Standing


def pack_segment(header: SegmentHeader) -> bytes:
    """A segment header's bytes; they fit into one sector."""
    owner, number, size, first, certified, previous, standing = header
    body = _SEGMENT.pack(*owner, number, size, first, certified, previous, *_flat(standing))
    return stamp(SEGMENT_MAGIC, body)


def unpack_segment(content: bytes | memoryview, where: str) -> SegmentHeader:
    """Raises Malformed, NewerFormat."""
    body = unstamp(SEGMENT_MAGIC, content, where)
    if len(body) != _SEGMENT.size:
        raise Malformed(f"{where}: its body has {len(body)} bytes, not {_SEGMENT.size}")
    cell, member, disk, number, size, first, certified, previous, *rest = _SEGMENT.unpack(body)
    owner = Owner(cell, MemberId(member), disk)
    return SegmentHeader(owner, number, size, first, certified, previous, unflatten(*rest))


def _flat(standing: Standing) -> tuple[int, int, int, int, int]:
    ballot, chosen, highest, untrusted = standing
    return ballot[0], ballot[1], chosen, highest, untrusted


def unflatten(round_: int, member: int, chosen: int, highest: int, untrusted: int) -> Standing:
    """A standing from the five fields that headers and marks keep it in."""
    return Standing(Ballot(round_, MemberId(member)), Slot(chosen), Slot(highest), bool(untrusted))


# ---------------------------------------------------------------- batches

BATCH_MAGIC: Final = b"\xb1QRb"
TRAILER: Final = b"\xe1\xd2\xc3\xb4"
BATCH_FIELDS: Final = struct.Struct(">4sIIQQQIQQBxxxII")
BATCH_SIZE: Final = BATCH_FIELDS.size + CRC.size
ENTRY: Final = struct.Struct(">BBxxIQQII")  # type, kind, payload length, slot, round, member, payload CRC

PROMISED: Final = 1
ACCEPTED: Final = 2
CHOSEN: Final = 3
INSTALLED: Final = 1
"""The kind of a CHOSEN record that a snapshot from a peer gave; 0 otherwise."""


class BatchHeader(NamedTuple):
    """`size`: bytes from the header's first to the trailer's last; `records` of them, the first of which has the number
    `first`; `standing` after the batch; `previous`: CRC of the batch before; `table`: CRC of the table; `crc`: its
    own."""

    size: int
    records: int
    first: int
    offset: int
    standing: Standing
    previous: int
    table: int
    crc: int


def pack_batch(
    size: int, records: int, first: int, offset: int, standing: Standing, previous: int, table: int, seed: int
) -> tuple[bytes, int]:
    """A batch header and its CRC."""
    ballot, chosen, highest, untrusted = standing
    fields = BATCH_FIELDS.pack(
        BATCH_MAGIC, size, records, first, offset, ballot[0], ballot[1], chosen, highest, untrusted, previous, table
    )
    crc = crc32(fields, seed)
    return fields + CRC.pack(crc), crc


def unpack_batch(content: bytes, offset: int, seed: int) -> BatchHeader | None:
    """The batch header at `offset` of a segment's `content`; None if there is none that checks."""
    if offset + BATCH_SIZE > len(content) or not content.startswith(BATCH_MAGIC, offset):
        return None
    end = offset + BATCH_FIELDS.size
    crc = crc32(content[offset:end], seed)
    if crc != CRC.unpack_from(content, end)[0]:
        return None
    _, size, records, first, own, *rest, previous, table = BATCH_FIELDS.unpack_from(content, offset)
    if own != offset:
        return None
    return BatchHeader(size, records, first, own, unflatten(*rest), previous, table, crc)


def aligned(position: int) -> int:
    """The first place at or after `position` where a batch may begin."""
    return -(-position // ALIGNMENT) * ALIGNMENT


# ---------------------------------------------------------------- marks

_MARK: Final = struct.Struct(">16sQQQQIQIQQBB")


class Mark(NamedTuple):
    """`sequence` grows by one with each mark; everything up to `end` in segment `segment` (and in all before it) was
    synced when this was written; `upto`: number of the last record there; `chain`: CRC of the last batch; `stop`: see
    :class:`.marks.Stop`."""

    disk: bytes
    sequence: int
    segment: int
    end: int
    upto: int
    chain: int
    standing: Standing
    stop: int


def pack_mark(mark: Mark) -> bytes:
    """A mark's bytes; they fit into one sector."""
    disk, sequence, segment, end, upto, chain, standing, stop = mark
    return stamp(MARK_MAGIC, _MARK.pack(disk, sequence, segment, end, upto, chain, *_flat(standing), stop))


def unpack_mark(content: bytes, where: str) -> Mark:
    """Raises Malformed, NewerFormat."""
    body = unstamp(MARK_MAGIC, content, where)
    if len(body) != _MARK.size:
        raise Malformed(f"{where}: its body has {len(body)} bytes, not {_MARK.size}")
    disk, sequence, segment, end, upto, chain, *rest, stop = _MARK.unpack(body)
    return Mark(disk, sequence, segment, end, upto, chain, unflatten(*rest), stop)
