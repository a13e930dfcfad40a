"""Reading one segment: its batches, the holes between them, and where it ends.

Decides what is a torn tail and what is damage (the table of cases is in :mod:`.journal`). Reads bytes, changes none.
"""

from __future__ import annotations

from typing import NamedTuple

from .layout import ALIGNMENT, PAGE, TRAILER, Mark, Owner, SegmentHeader, aligned
from .marks import Stop
from .reading import Batch, Content, find_header, last_nonzero, may_be_torn, read_batch, read_run
from .replay import Replay, describe


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
        self._last_word = mark is not None and mark.stop == Stop.CLOSED  # nothing was written after the mark

    def segment(self, number: int, path: str, content: Content, header: SegmentHeader | None, newest: bool) -> Tail:
        """Walk one segment. `header` None: it is unreadable. `newest`: there is no later one."""
        for start, end in content.unreadable:
            self.unreadable.append(f"{path}, bytes {start} to {end}")
        self._enter(number, path, header)
        mark = self._mark if self._mark is not None and self._mark.segment == number else None
        certified = max(mark.end if mark else 0, header.certified if header else 0)
        if not newest or (self._mark is not None and self._mark.segment > number):
            # a later segment exists, or did: every batch here was synced, and the chain tells if one is gone
            certified, newest = 0, False
        raw = content.bytes
        if header is not None and len(raw) > header.size:
            self.findings.append(Finding(f"{path}: bytes from {header.size} on were never written by this replica"))
            raw = raw[: header.size]
        seed = self._owner.seed(number)
        position, last, broken = PAGE, 0, header is None
        torn = doubtful = False
        while True:
            run = self._run(raw, position, seed)
            if run is not None:
                last, position = run
                doubtful = False
            batch = read_batch(raw, position, seed)
            if batch is not None and batch.whole:
                self._batch(batch, path)
                last, position, doubtful = position, aligned(batch.end), False
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
                    doubtful = TRAILER not in raw[certified - len(TRAILER) - ALIGNMENT : certified]
                else:
                    self.chain = None
                position, last, broken = certified, 0, True
            elif batch is None and behind is not None:
                self._hole(path, position, behind)
                position = behind
            else:
                break
        if newest:
            size = header.size if header is not None else PAGE
            if doubtful or len(raw) < size or any(end > position for _, end in content.unreadable):
                if batch is not None:
                    self._batch(batch, path)
                    position = aligned(batch.end)
                self._unsure(path, position, raw, content, doubtful)
                broken = True
            else:
                position, torn, odd = self._end(path, position, raw, batch)
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
                f"segment {there[0]}: what was behind is gone",
                f"byte {here[1]} of segment {here[0]}",
            )
            self.chain, self.record = mark.chain, mark.upto + 1
            if not self._last_word:
                replay.reach(mark.standing)
                self._unknown(f"what followed byte {there[1]} of segment {there[0]}")
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

    def _run(self, raw: bytes, position: int, seed: int) -> tuple[int, int] | None:
        """Take in what is plainly healthy: (offset of the last batch, position behind it)."""
        replay = self._replay
        if self.chain is None or replay.open_gap is not None or replay.lost:
            return None
        run = read_run(raw, position, seed, self.chain, self.record, replay.snapshot)
        if run is None:
            return None
        replay.reach(run.standing)
        replay.votes.update(run.votes)
        replay.tell(run.chosen)
        self.chain, self.record = run.chain, run.record
        self.batches += run.batches
        return run.last, run.position

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

    def _unknown(self, where: str) -> None:
        """Records may have followed that no mark tells of."""
        self._end_unknown = True
        self._replay.gap(where)

    def _unsure(self, path: str, position: int, raw: bytes, content: Content, doubtful: bool) -> None:
        """The newest segment is cut or unreadable, or the damage that reaches up to the newest mark may reach beyond
        it.

        Where a zero can be read right behind the last batch no batch was lost: the next would begin there.
        """
        readable = position < len(raw) and not any(start <= position < end for start, end in content.unreadable)
        what = f"{path} cannot be read to its end" if not doubtful else f"{path} is empty from byte {position} on"
        if self._last_word or (readable and not doubtful and last_nonzero(raw, position) < 0):
            self.findings.append(Finding(f"{what}; nothing was written there"))
        else:
            self.findings.append(Finding(f"{what}; whether more was written is unknown"))
            self._unknown(f"{path} at offset {position}")

    def _end(self, path: str, position: int, raw: bytes, batch: Batch | None) -> tuple[int, bool, bool]:
        """The newest segment has no whole batch at `position` and none behind: (position, torn, broken)."""
        last = last_nonzero(raw, position)
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
        self._damage(f"{path}: bytes {position} to {last + 1} are damaged", f"{path} at offset {position}")
        self._end_unknown = True
        return position, False, True
