"""Reading one segment: its batches, the holes between them, and where it ends.

Decides what is a torn tail and what is damage (the table of cases is in :mod:`.journal`). Reads bytes, changes none.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from zlib import crc32

from .files import File
from .layout import (
    ALIGNMENT,
    BATCH_MAGIC,
    BATCH_SIZE,
    ENTRY,
    PAGE,
    SECTOR,
    TRAILER,
    BatchHeader,
    Mark,
    Owner,
    SegmentHeader,
    aligned,
    unpack_batch,
)
from .replay import Entry, Replay, describe

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


class Finding(NamedTuple):
    """Something wrong, or odd, at a place. `damage`: bytes that were once durable are not what they were."""

    text: str
    damage: bool = True


class Tail(NamedTuple):
    """Where a segment's batches end and the next may begin.

    `uncertain`: offset of the last batch if it is not known to have been synced, else 0. `torn`: bytes behind
    `position` that a crash left and that must be wiped. `broken`: never append to this file again.
    """

    position: int
    uncertain: int = 0
    torn: bool = False
    broken: bool = False


class Scanner:
    """Walks the segments in order and feeds a :class:`Replay`; what is wrong gathers in `findings`.

    Call :meth:`segment` for each file, then :meth:`finish`.
    """

    def __init__(self, owner: Owner, replay: Replay, mark: Mark | None, marks_whole: bool) -> None:
        self._owner = owner
        self._replay = replay
        self._mark = mark
        self._marks_whole = marks_whole
        self.findings: list[Finding] = []
        self.chain: int | None = None  # CRC of the batch before; None: unknown, the next header tells
        self.record = 1  # number of the next record
        self.batches = 0
        self.unreadable: list[str] = []
        self._number: int | None = None
        self._position = 0
        self._end_unknown = False

    def segment(self, number: int, path: str, content: Content, header: SegmentHeader | None, newest: bool) -> Tail:
        """Walk one segment. `header` None: it is unreadable. `newest`: there is no later one."""
        for start, end in content.unreadable:
            self.unreadable.append(f"{path}, bytes {start} to {end}")
        self._enter(number, path, header)
        mark = self._mark if self._mark is not None and self._mark.segment == number else None
        certified = max(mark.end if mark else 0, header.certified if header else 0)
        if not newest or (self._mark is not None and self._mark.segment > number):
            certified = (
                0  # a later segment exists, or did: every batch here was synced, and the chain tells if one is gone
            )
            newest = False
        raw = content.bytes
        seed = self._owner.seed(number)
        position, last, broken = PAGE, 0, header is None
        torn = False
        while True:
            batch = read_batch(raw, position, seed)
            if batch is not None and batch.whole:
                self._batch(batch, path)
                last, position = position, aligned(batch.end)
                continue
            behind = find_header(raw, batch.end if batch else position + ALIGNMENT, seed)
            if batch is not None and (not newest or batch.end <= certified or behind is not None):
                self._batch(batch, path)
                last, position = position, aligned(batch.end)
            elif batch is None and position < certified and (behind is None or behind > certified):
                self._hole(path, position, certified)
                if mark is not None and mark.end == certified:
                    self._replay.reach(mark.standing)
                    self.chain, self.record = mark.chain, mark.upto + 1
                else:
                    self.chain = None
                position, broken = certified, True
            elif batch is None and behind is not None:
                self._hole(path, position, behind)
                position = behind
            else:
                break
        if newest:
            position, torn, odd = self._end(path, position, raw, batch, content, header, certified)
            broken = broken or odd
        self._position = position
        return Tail(position, last if last >= certified else 0, torn, broken)

    def finish(self) -> None:
        """After the last segment: what the newest mark adds."""
        mark, replay = self._mark, self._replay
        if mark is None:
            if self._number is None:
                replay.gap("the whole journal")
                self.findings.append(Finding("there is neither a journal segment nor a mark"))
            return
        here = (self._number or 0, self._position)
        there = (mark.segment, mark.end)
        if there > here:
            self._damage(
                f"the journal ends at byte {here[1]} of segment {here[0]} and was synced up to byte {there[1]} of "
                "segment "
                f"{there[0]}: what was behind is gone",
                f"byte {here[1]} of segment {here[0]}",
            )
            self.chain, self.record = mark.chain, mark.upto + 1
        if there >= here and not self._end_unknown:
            replay.reach(mark.standing)
        else:
            replay.note(mark.standing)

    def _enter(self, number: int, path: str, header: SegmentHeader | None) -> None:
        replay, before = self._replay, self._number
        self._number = number
        follows = before is not None and number == before + 1
        if header is None:
            self.findings.append(Finding(f"{path}: the header is unreadable"))
            if not follows:
                replay.gap(f"the header of {path}")
                self.chain = None
            return
        if before is None:
            if number > 1:
                replay.gap(f"the segments before {path}")
        elif not follows or self.chain not in (None, header.previous) or header.first != self.record:
            replay.gap(f"the end of the segment before {path}")
        lost = len(replay.lost)
        replay.reach(header.standing)
        if len(replay.lost) > lost:
            self.findings.append(Finding(f"{path} does not continue what was read before it: records are missing"))
        self.chain, self.record = header.previous, header.first

    def _batch(self, batch: Batch, path: str) -> None:
        header = batch.header
        where = f"{path} at offset {header.offset}"
        if self.chain is not None and (header.previous != self.chain or header.first != self.record):
            self._damage(f"{where}: the batch does not follow the one before it", f"before {where}")
        if batch.entries is None:
            self._damage(f"{where}: the table of a batch of {header.records} records is damaged", where)
        self._replay.reach(header.standing)
        if batch.entries is not None:
            self._replay.records(batch.entries, batch.payloads, where)
            for entry, payload in zip(batch.entries, batch.payloads, strict=True):
                if payload is None:
                    self.findings.append(Finding(f"{where}: damaged: {describe(entry)}"))
        self.chain, self.record = header.crc, header.first + header.records
        self.batches += 1

    def _hole(self, path: str, start: int, end: int) -> None:
        self._damage(f"{path}: bytes {start} to {end} are damaged", f"{path} at offset {start}")

    def _damage(self, text: str, where: str) -> None:
        self._replay.gap(where)
        self.findings.append(Finding(text))

    def _end(
        self,
        path: str,
        position: int,
        raw: bytes,
        batch: Batch | None,
        content: Content,
        header: SegmentHeader | None,
        certified: int,
    ) -> tuple[int, bool, bool]:
        """The newest segment has no whole batch at `position` and none behind: (position, torn, broken)."""
        short = header is not None and len(raw) < header.size
        unread = any(end > position for _, end in content.unreadable)
        last = last_nonzero(raw, position)
        if short or unread:
            what = f"is cut to {len(raw)} bytes" if short else "cannot be read to its end"
            if certified == position and last < 0:
                self.findings.append(Finding(f"{path} {what}; everything that was synced is there"))
            else:
                self._end_unknown = True
                self._damage(f"{path} {what}; whether records followed is unknown", f"{path} at offset {position}")
            return position, False, True
        if last < 0:
            return position, False, False
        if self._marks_whole and may_be_torn(raw, position, batch):
            self.findings.append(
                Finding(
                    f"{path}: bytes {position} to {last + 1} are a write that a crash interrupted; nothing in it was "
                    "acknowledged, it is cut off",
                    damage=False,
                )
            )
            return position, True, False
        if batch is not None:
            self._batch(batch, path)
            return aligned(batch.end), False, True
        self._end_unknown = True
        self._damage(f"{path}: bytes {position} to {last + 1} are damaged", f"{path} at offset {position}")
        return position, False, True
