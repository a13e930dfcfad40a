"""The journal: what the acceptor promised and accepted, in the order it did so, on the disk before anybody hears of it.

Theory of operation
===================

**Shape.** Segments of 64 MiB (:mod:`.layout` has the bytes). Records gather in memory (:meth:`Journal.append`), are
closed into a batch (:meth:`~Journal.seal`) and written by one positional write and one fdatasync
(:meth:`~Journal.write`), while the next gather. A batch is written only after the one before it was synced. Every batch
header, segment header and mark says where the acceptor stands after it (promise, commit index, highest slot voted on),
so those survive the loss of almost any record. Batches are chained by CRC, across segments too.

**What a crash can do** to the newest batch: each 512-byte sector of it is there or is still zero; or it ends after any
byte with zeros behind. To older ones, nothing. Anything else is damage. A torn batch must be cut (nobody was told of
it) and a damaged one must not be (somebody was): cutting it would forget a vote (Alagappan et al., "Protocol-Aware
Recovery", FAST 2018, section 3.3). They are told apart by what proves that a batch was *synced*:

* a later batch or segment that checks: it was written only after that sync;
* the marks file (:mod:`.marks`): after each sync the new end goes there, in another file, far from the data, without a
  sync of its own (3 us). So it survives the death of the process at once, and a power cut as soon as
  :meth:`~Journal.settle` has synced it, which the driver does when the journal has been idle for 0.1 s; a
  roll-over syncs it, too, so that a whole segment cannot go missing unnoticed. After a power cut the newest mark may
  thus be older than the newest batch, never newer.

    what is found where the next batch would begin      decision
    -------------------------------------------------   ----------------------------------------------------------
    a whole batch                                       kept; the last one is written again and synced if nothing
                                                        proves that it was synced (a kill before or in the sync)
    zeros, at or behind the newest mark                 the end
    bad, a later batch or segment checks                damage, of known extent
    bad, below the newest mark                          damage; if not even the last trailer before the mark is there
                                                        it may reach beyond the mark: extent unknown
    bad, not marked, sectors or the trailer still zero  torn: cut and wiped
    bad, not marked, every sector written               damage (no crash does that)
    bad, not marked, and a mark slot is damaged, too    damage
    the file ends                                       damage, of unknown extent; none if zeros come before the end
    no file, though a mark speaks of it                 damage, of unknown extent

"Unknown extent" is known after all if the last mark says that the journal was closed properly.

What is left: power fails within milliseconds of a sync, before the mark reached the disk or a later batch began, *and*
a whole sector of exactly that batch is found zeroed. That is the same disk as a torn write; only a second sync per
batch could tell them apart, and it would double the latency of every write.

**Damage** (:mod:`.replay`): the slots whose newest vote may be lost are worked out. If all of them are known chosen and
the promise is known from a later header or mark, they are named in `DurableState.damaged` and are fetched from peers.
Otherwise the member is not `intact`, and every header it writes from then on says so (`Standing.untrusted`): it never
votes again.

**Costs, measured** (ext4, virtual disk, CPython 3.11; median of write + fdatasync): appending to a growing file 4 KiB
289 us; fallocated blocks 212 us; blocks written with zeros before 147 us. So segments are filled with zeros ahead of
need (:meth:`~Journal.prepare`, in small synced pieces so that no other sync waits long behind them). Marks synced with
every batch (in the segment's first page) made a sync 10 to 25 % dearer, a second sync 100 %; marks in their own file,
unsynced, 3 us.

**Assumed**: a 512-byte sector is written whole or not at all, also one that holds older bytes.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple
from zlib import crc32

from ..paxos.ballot import DECIDED, Slot
from ..paxos.ready import AcceptedValue, Promised, Record
from .errors import JournalFailed, JournalFull, out_of_descriptors, out_of_space
from .files import File, FileSystem, join
from .layout import (
    ACCEPTED,
    BATCH_SIZE,
    CHOSEN,
    ENTRY,
    INSTALLED,
    PAGE,
    PROMISED,
    TRAILER,
    Mark,
    Owner,
    SegmentHeader,
    Standing,
    aligned,
    pack_batch,
)
from .marks import Marks, Stop
from .segments import Supply, discard, fill, renamed, segment_name

SEGMENT_SIZE: Final = 64 << 20
FIRST_SIZE: Final = 4 << 20
"""The segment made at a start, while somebody waits, is no larger than this."""


class Batch(NamedTuple):
    """Records that are written together. `first` and `upto`: numbers of the first and last of them; `size` in bytes."""

    first: int
    upto: int
    size: int
    table: bytes
    payloads: tuple[bytes, ...]
    standing: Standing


class ClosedSegment(NamedTuple):
    """A segment that is no longer written; all its votes are for slots up to `highest`."""

    number: int
    size: int
    highest: Slot


class Opening(NamedTuple):
    """Where a journal goes on: what recovery found, or made."""

    closed: tuple[ClosedSegment, ...]
    file: File
    number: int
    size: int
    position: int
    chain: int
    record: int  # the last one written
    standing: Standing
    marks: Marks


class Journal:
    """Append-only storage of acceptor records. Made by :func:`.recovery.recover`.

    Threads: :meth:`append` and :meth:`seal` belong to one thread. :meth:`write`, :meth:`settle`, :meth:`forget` and
    :meth:`close` may run on another, one of them at a time. :meth:`prepare` may run beside them on a third.

    After a failed write or sync every call raises JournalFailed.
    """

    def __init__(self, fs: FileSystem, directory: str, owner: Owner, segment_size: int, opening: Opening) -> None:
        self.base = opening.record
        """The number of the last record found at the start; :meth:`append` counts on from it."""
        self.last = opening.record
        """The number of the last record appended."""
        self.durable = opening.record
        """The number of the last record that is on the disk."""
        self._fs = fs
        self._directory = directory
        self._owner = owner
        self._supply = Supply(fs, directory, segment_size)
        self._failure: str | None = None
        self._failed_full = False
        self._full = False
        self._busy = False
        # gathering
        self._table: list[bytes] = []
        self._payloads: list[bytes] = []
        self._pending = 0  # bytes of payload
        self._sealed = opening.record
        self._promised, self._chosen, self._highest, self._untrusted = opening.standing
        # writing
        self._closed = deque(opening.closed)
        self._file = opening.file
        self._number = opening.number
        self._size = opening.size
        self._position = opening.position
        self._chain = opening.chain
        self._seed = owner.seed(opening.number)
        self._written = opening.standing
        self._marks = opening.marks
        self._slow = False  # the current segment's blocks were not written before
        self._next_chain = 0
        self._deleted = False  # the oldest segment is, but not durably
        self._rolling = False  # the next segment may have its name already: the batch goes there, and nowhere else

    # gathering

    def append(self, records: Sequence[Record]) -> int:
        """Add `records` to what the next :meth:`seal` takes; cheap, no I/O. Payloads are referred to, not copied.

        Returns the number of the last one: it is durable once a batch with `upto` at least that is written.
        """
        if self._failure is not None:
            raise self._failed()
        table = self._table
        for record in records:
            if isinstance(record, AcceptedValue):
                ballot, slot, (kind, payload) = record
                size = len(payload)
                table.append(ENTRY.pack(ACCEPTED, kind, size, slot, ballot[0], ballot[1], crc32(payload)))
                if size:
                    self._payloads.append(payload)
                    self._pending += size
                if slot > self._highest:
                    self._highest = slot
                if ballot > self._promised and ballot != DECIDED:
                    self._promised = ballot
            elif isinstance(record, Promised):
                ballot = record.ballot
                table.append(ENTRY.pack(PROMISED, 0, 0, 0, ballot[0], ballot[1], 0))
                if ballot > self._promised:
                    self._promised = ballot
            else:
                table.append(ENTRY.pack(CHOSEN, INSTALLED if record.installed else 0, 0, record.slot, 0, 0, 0))
                if record.slot > self._chosen:
                    self._chosen = record.slot
        self.last += len(records)
        return self.last

    def seal(self) -> Batch | None:
        """Everything appended since the last seal, to be written; None if there is nothing."""
        if self._failure is not None:
            raise self._failed()
        if not self._table:
            return None
        table = b"".join(self._table)
        first = self._sealed + 1
        batch = Batch(
            first,
            self.last,
            BATCH_SIZE + len(table) + self._pending + len(TRAILER),
            table,
            tuple(self._payloads),
            Standing(self._promised, self._chosen, self._highest, self._untrusted),
        )
        self._sealed = self.last
        self._table.clear()
        self._payloads.clear()
        self._pending = 0
        return batch

    # writing

    def write(self, batch: Batch) -> None:
        """Make `batch` durable: when this returns, every record up to `batch.upto` is. Batches come in the order of
        seal().

        Raises:
            JournalFull: there is no room; nothing of the batch counts. Call again with the same batch when there is.
            JournalFailed: it is not known what is on the disk. Finished.
        """
        if self.fits(batch):
            file = self.begin(batch)
            try:
                file.datasync()
            except OSError as error:
                raise self.sync_failed(error) from error
            self.synced(batch)
            return
        self._start(batch)
        try:
            self._roll(batch)
            self._wrote(batch)
            self._marks.sync()  # so that a segment that goes missing is missed
        except OSError as error:
            raise self._fail(error, self._file.path) from error
        finally:
            self._busy = False

    def fits(self, batch: Batch) -> bool:
        """Whether `batch` goes into the present segment, so that :meth:`begin` can write it."""
        fits = self._position + batch.size <= self._size
        return fits and not self._rolling and not (self._slow and self._supply.offers(PAGE + batch.size))

    def begin(self, batch: Batch) -> File:
        """The first half of :meth:`write`, for a driver that can have a file synced without waiting: hand the bytes to
        the operating system. Sync the file that is returned, then call :meth:`synced` or :meth:`sync_failed`; nothing
        else meanwhile. Only if it :meth:`fits`. Raises as :meth:`write`."""
        self._start(batch)
        try:
            self._put(self._encode(batch, self._position))
        except OSError as error:
            self._busy = False
            raise self._fail(error, self._file.path) from error
        except BaseException:
            self._busy = False
            raise
        return self._file

    def synced(self, batch: Batch) -> None:
        """The file that :meth:`begin` returned for `batch` is synced. Raises JournalFailed."""
        assert self._busy, "no write was begun"
        try:
            self._chain = self._next_chain
            self._wrote(batch)
        except OSError as error:
            raise self._fail(error, self._file.path) from error
        finally:
            self._busy = False

    def sync_failed(self, error: OSError) -> JournalFailed:
        """The sync after :meth:`begin` failed: what to raise. The journal is finished."""
        self._busy = False
        return self._fail(error, self._file.path)

    def settle(self) -> None:
        """Make the newest mark durable, so that even after a power cut damage to the last batch is known for damage.
        One fdatasync, nothing if it is already. Call when no write was made for a while. Raises
        JournalFailed."""
        if self._failure is not None:
            raise self._failed()
        assert not self._busy, "one write at a time"
        self._busy = True
        try:
            self._marks.sync()
        except OSError as error:
            raise self._fail(error, "the marks file") from error
        finally:
            self._busy = False

    def prepare(self) -> bool:
        """Do one piece of getting the next segment ready; True if there is more to do. Call it now and then off the hot
        path (after a write, or on a thread of its own); without it a roll-over still takes only about a millisecond,
        but each sync costs more until a prepared segment is there. Nothing is done before a quarter of the current one
        is used.

        Raises:
            JournalFull: no room for a segment. What is left of the current one can still be written: raise an alarm.
            JournalFailed: the disk failed.
        """
        if self._failure is not None:
            raise self._failed()
        if 4 * self._position < self._size and not self._slow:
            return False
        try:
            return self._supply.prepare()
        except OSError as error:
            if out_of_space(error):
                raise _full(error, self._directory) from error
            self._failure = (  # no mark: the other thread may be writing one
                f"{self._directory}: preparing the next journal segment failed: {error}. The disk is failing, so "
                "this member stops voting. Check the disk, then restart the replica"
            )
            raise self._failed() from error

    def forget(self, slot: Slot) -> int:
        """Delete the oldest segments, each as a whole, all of whose votes are for slots up to `slot`. The promise
        stays: every later header has it. Returns the number of segments deleted. Raises JournalFailed.

        Give it the slot of the *older* kept snapshot (:attr:`.snapshots.Snapshots.floor`), never of one not yet
        durable.
        """
        if self._failure is not None:
            raise self._failed()
        assert not self._busy, "one write at a time"
        self._busy = True
        count = 0
        try:
            while self._closed and self._closed[0].highest <= slot:
                if not self._deleted:
                    self._fs.remove(join(self._directory, segment_name(self._closed[0].number)))
                    self._deleted = True
                self._fs.sync_directory(self._directory)  # in order, so that never a middle one is missing
                self._closed.popleft()
                self._deleted = False
                count += 1
        except OSError as error:
            if out_of_descriptors(error):
                return count  # the rest another time
            raise self._fail(error, self._directory) from error
        finally:
            self._busy = False
        return count

    def close(self) -> None:
        """Close the files; after a good run the marks say so. What was appended and not written is lost, as in a
        crash."""
        if self._failure is None:
            with contextlib.suppress(OSError):
                self._mark(Stop.CLOSED)
                self._marks.sync()
            self._failure = f"{self._directory}: the journal is closed"
        self._supply.close()
        self._file.close()
        self._marks.close()

    @property
    def size(self) -> int:
        """Bytes of disk that the segments take."""
        return self._size + sum(segment.size for segment in self._closed)

    @property
    def failed(self) -> bool:
        """Whether every further call will raise JournalFailed."""
        return self._failure is not None

    def _encode(self, batch: Batch, position: int) -> bytes:
        header, self._next_chain = pack_batch(
            batch.size,
            batch.upto - batch.first + 1,
            batch.first,
            position,
            batch.standing,
            self._chain,
            crc32(batch.table),
            self._seed,
        )
        return b"".join((header, batch.table, *batch.payloads, TRAILER))

    def _put(self, content: bytes) -> None:
        try:
            self._file.write(self._position, content)
        except OSError as error:
            if out_of_space(error):  # copy-on-write below us; no sync failed, so the same bytes may be written again
                raise self._stopped(error, self._file.path) from error
            raise

    def _start(self, batch: Batch) -> None:
        if self._failure is not None:
            raise self._failed()
        assert not self._busy, "one write at a time"
        assert batch.first == self.durable + 1, "batches are written in the order they were sealed"
        self._busy = True

    def _wrote(self, batch: Batch) -> None:
        """`batch` is durable at the present position."""
        self._position = aligned(self._position + batch.size)
        self._written = batch.standing
        self.durable = batch.upto
        self._full = False
        self._mark(Stop.RUNNING)

    def _roll(self, batch: Batch) -> None:
        """Begin the next segment with `batch`. The one before is complete: its last batch was synced."""
        need = PAGE + batch.size
        number, closing = self._number + 1, ClosedSegment(self._number, self._size, self._written.highest)
        seed, self._seed = self._seed, self._owner.seed(number)
        content = self._encode(batch, PAGE)
        path = join(self._directory, segment_name(number))
        unnamed: File | None = None
        named = False
        try:
            slow = not self._supply.offers(need)
            unnamed = self._supply.take(need)
            header = SegmentHeader(
                self._owner, number, unnamed.size(), batch.first, aligned(need), self._chain, self._written
            )
            fill(unnamed, header, content)
            self._fs.rename(unnamed.path, path)
            named = True
            file = renamed(self._fs, self._directory, unnamed, path)
        except OSError as error:
            self._seed = seed
            # The same batch will be written anew, and take the name over if it was given.
            if out_of_descriptors(error) if named else out_of_space(error):
                self._rolling = self._rolling or named
                if unnamed is not None:
                    unnamed.close()
                    discard(self._fs, unnamed.path)
                raise self._stopped(error, path) from error
            raise
        self._rolling = False
        size, self._slow = header.size, slow
        self._file.close()
        self._closed.append(closing)
        self._file, self._number, self._size, self._position, self._chain = file, number, size, PAGE, self._next_chain

    def _mark(self, stop: Stop) -> None:
        """Write the next mark. Where there is no room even for that, because the file system copies on write, the one
        before stands: it certifies less, and nothing wrong."""
        mark = Mark(
            self._owner.disk,
            self._marks.newest.sequence + 1,
            self._number,
            self._position,
            self.durable,
            self._chain,
            self._written,
            stop,
        )
        try:
            self._marks.write(mark)
        except OSError as error:
            if not out_of_space(error):
                raise

    def _stopped(self, error: OSError, path: str) -> JournalFull:
        """No room: say so in the marks, which mostly need none."""
        if not self._full:
            self._full = True
            self._mark(Stop.FULL)
            self._marks.sync()
        return _full(error, path)

    def _fail(self, error: OSError, path: str) -> JournalFailed:
        if self._failure is None:
            self._failure = (
                f"{error.filename or path}: {error.strerror or error}, while the journal was written from byte "
                f"{self._position} of segment {self._number}, record {self.durable + 1}. What the disk holds behind "
                "that is unknown, so this member stops voting. Check the disk; then restart the replica: it "
                "verifies everything and goes on, or says what is lost"
            )
            self._failed_full = out_of_space(error)
            with contextlib.suppress(OSError):
                self._mark(Stop.FAILED)
                self._marks.sync()
        return self._failed()

    def _failed(self) -> JournalFailed:
        assert self._failure is not None
        return JournalFailed(self._failure, self._failed_full)


def _full(error: OSError, path: str) -> JournalFull:
    remedy = (
        "Have fewer files open (or raise the limit)" if out_of_descriptors(error) else "Free space (or raise the quota)"
    )
    return JournalFull(
        f"{path}: {error.strerror or error}. This member cannot vote until there is room for a journal segment; "
        f"nothing is lost. {remedy}: writing goes on by itself"
    )
