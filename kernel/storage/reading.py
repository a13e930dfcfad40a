"""Reading the bytes of a segment: one batch, a run of them, what may be behind a bad one. :mod:`.scan` decides what it
means.

Knows no files and judges nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

from ..paxos.ballot import Ballot, MemberId, Slot
from ..paxos.messages import Kind, Value
from ..paxos.ready import AcceptedValue
from .files import File
from .layout import (
    ACCEPTED,
    ALIGNMENT,
    BATCH_FIELDS,
    BATCH_MAGIC,
    BATCH_SIZE,
    CHOSEN,
    CRC,
    ENTRY,
    INSTALLED,
    PAGE,
    SECTOR,
    TRAILER,
    BatchHeader,
    Standing,
    aligned,
    unflatten,
    unpack_batch,
)

Entry = tuple[int, int, int, int, int, int, int]
"""As in :data:`.layout.ENTRY`: type, kind, payload length, slot, round, member, payload CRC."""

KINDS: Final = {kind.value: kind for kind in Kind}

_BLOCK: Final = 1 << 20


class Content(NamedTuple):
    """A file's bytes; where reading failed there are zeros, and `unreadable` lists those places."""

    bytes: bytes
    unreadable: tuple[tuple[int, int], ...] = ()


def read_content(file: File) -> Content:
    """All of `file`, page by page where it cannot be read at once."""
    size = file.size()
    try:
        return Content(file.read(0, size))
    except OSError:
        pieces, bad = [], []
        for at in range(0, size, PAGE):
            room = min(PAGE, size - at)
            try:
                pieces.append(file.read(at, room))
            except OSError:
                pieces.append(bytes(room))
                bad.append((at, at + room))
        return Content(b"".join(pieces), tuple(bad))


def last_nonzero(content: bytes, start: int) -> int:
    """The position of the last byte at or after `start` that is not zero; -1 if there is none."""
    end = len(content)
    while end > start:
        begin = max(start, end - _BLOCK)
        block = content[begin:end]
        if block.count(0) != len(block):
            return begin + len(block.rstrip(b"\0")) - 1
        end = begin
    return -1


class Batch(NamedTuple):
    """A batch whose header checks. `entries` is None if the table does not; a payload that does not is None."""

    header: BatchHeader
    entries: list[Entry] | None
    payloads: list[bytes | None]

    @property
    def end(self) -> int:
        return self.header.offset + self.header.size

    @property
    def whole(self) -> bool:
        return self.entries is not None and None not in self.payloads


def read_batch(content: bytes, offset: int, seed: int) -> Batch | None:
    """The batch at `offset`; None if its header does not check."""
    header = unpack_batch(content, offset, seed)
    if header is None:
        return None
    at = offset + BATCH_SIZE
    table = content[at : at + header.records * ENTRY.size]
    if crc32(table) != header.table:
        return Batch(header, None, [])
    entries: list[Entry] = list(ENTRY.iter_unpack(table))
    payloads: list[bytes | None] = []
    at += len(table)
    for entry in entries:
        size = entry[2]
        payload = content[at : at + size]
        payloads.append(payload if crc32(payload) == entry[6] else None)
        at += size
    return Batch(header, entries, payloads)


class Run(NamedTuple):
    """What :func:`read_run` read. `position`: behind the last batch; `last`: its offset; `chain`: its CRC;
    `chosen`: the highest slot that a record says to be chosen."""

    position: int
    last: int
    chain: int
    record: int
    standing: Standing
    votes: dict[Slot, AcceptedValue]
    chosen: Slot
    batches: int


def read_run(content: bytes, start: int, seed: int, chain: int, record: int, after: Slot) -> Run | None:
    """As many whole batches as follow one another from `start` on without anything odd; None if not even one.

    The fast way through a healthy journal, 3 us a batch: no object for a batch or a header. The slots of `votes` are
    above `after`; of several votes on a slot it has the last. A snapshot that a peer gave, unless `after` covers it, is
    odd: what it means for the votes before it takes more care.

    Args:
        chain: CRC of the batch before. record: the number that the first record must have.
    """
    votes: dict[Slot, AcceptedValue] = {}
    chosen = after
    batches = 0
    position, last, best = start, start, None
    limit = len(content) - BATCH_SIZE
    known: tuple[int, int] = (0, 0)
    ballot = Ballot(0, MemberId(0))
    while position <= limit:
        fields = BATCH_FIELDS.unpack_from(content, position)
        magic, size, count, first, offset, *standing, previous, table_crc = fields
        at = position + BATCH_FIELDS.size
        if magic != BATCH_MAGIC or offset != position or previous != chain or first != record:
            break
        crc = crc32(content[position:at], seed)
        if crc != CRC.unpack_from(content, at)[0]:
            break
        at += CRC.size
        table = content[at : at + count * ENTRY.size]
        if crc32(table) != table_crc:
            break
        at += count * ENTRY.size
        found = []
        told = chosen
        for type_, kind, length, slot, round_, member, payload_crc in ENTRY.iter_unpack(table):
            if type_ != ACCEPTED:
                if type_ == CHOSEN and slot > after:
                    if kind == INSTALLED:
                        break
                    told = max(told, slot)
                continue
            payload = content[at : at + length]
            if crc32(payload) != payload_crc or kind not in KINDS:
                break
            at += length
            if slot > after:
                if known != (round_, member):
                    known, ballot = (round_, member), Ballot(round_, MemberId(member))
                found.append(AcceptedValue(ballot, slot, Value(KINDS[kind], payload)))
        else:
            chosen = told
            for vote in found:
                votes[vote[1]] = vote
            last, position = position, aligned(position + size)
            chain, record, best = crc, first + count, standing
            batches += 1
            continue
        break
    if best is None:
        return None
    return Run(position, last, chain, record, unflatten(*best), votes, Slot(chosen), batches)


def find_header(content: bytes, start: int, seed: int) -> int | None:
    """Where the first batch header at or after `start` is that checks."""
    at = content.find(BATCH_MAGIC, start)
    while at >= 0:
        if at % ALIGNMENT == 0 and unpack_batch(content, at, seed) is not None:
            return at
        at = content.find(BATCH_MAGIC, at + 1)
    return None


def may_be_torn(content: bytes, start: int, batch: Batch | None) -> bool:
    """Whether what stands at `start`, which is not a whole batch, can be a write that a crash interrupted.

    Such a write leaves each sector new or old, and old means zeros here; or it ends after any byte, with zeros behind.
    A batch is free of such marks of its own: it ends in a trailer without zeros.
    """
    last = last_nonzero(content, start)
    end = last + 1
    if batch is not None:
        if content[batch.end - len(TRAILER) : batch.end] in (b"", bytes(len(TRAILER))):
            return True
        end = batch.end
    elif last < start + BATCH_SIZE:
        return True  # cut inside the header; nothing behind it
    at = start
    while at < end:
        stop = min(end, (at // SECTOR + 1) * SECTOR)
        if content.count(0, at, stop) == stop - at:
            return True
        at = stop
    return False
