"""The journal on a running replica: appending is the reactor's, waiting for the disk is nobody's.

The reactor thread appends records and asks for a write at the end of its turn. Whatever is appended while one write is
under way makes up the next: the slower the disk, the larger the batches. Only when a write is durable is anybody told.
So a disk that hangs holds up this replica's votes, never its heartbeats.

Three ways lead to the disk. Mostly the bytes are handed to the operating system at once (a copy to memory) and the sync
goes to :mod:`.datasync`. A lone small batch on a disk that has been quick for a while is written and synced at once, on
the reactor's time: waiting for 0.1 ms costs less than being woken for its end, a tenth of the time of a lone write. One
sync that takes longer than a millisecond puts an end to that for a while. A thread does what may take long: beginning a
segment, deleting old ones, settling the marks, every write where there is no asynchronous sync, and the writes after a
sync that was slow, because then even a copy to memory may have to wait. A second thread fills the next segment ahead of
need, in pieces.

A write or sync that fails is the end of this replica's voting: nobody can say what is on the disk (see
:class:`..storage.errors.JournalFailed`). A full disk is different: the same batch is tried again every second until
there is room.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from ..paxos.ballot import Slot
from ..paxos.ready import Record
from ..storage.errors import JournalFailed, JournalFull, StorageError
from ..storage.files import RealFile
from ..storage.journal import Batch, Journal
from .bell import Bell
from .datasync import KernelSync, kernel_syncs

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .lean import Reactor

SETTLE_SECONDS: Final = 0.1
"""The journal is settled when it was idle for so long."""

AT_ONCE: Final = 4096
"""Bytes of a batch that may be written and synced at once."""

QUICK_SECONDS: Final = 0.001
"""A disk is quick if no sync takes longer..."""

TRIALS: Final = 64
"""... so many times in a row."""

SLOW_SECONDS: Final = 0.02
"""A sync that took longer sends the next write to the thread."""

PUT_OFF_MAX: Final = 256
"""Writes for which the deletion of old segments waits for an idle moment."""

_RETRY_SECONDS: Final = 1.0
_PREPARE_SECONDS: Final = 0.2
_PIECE_SECONDS: Final = 0.005


class Written(Protocol):
    """Who is told, on the reactor thread."""

    def durable(self, upto: int) -> None:
        """Records up to the journal's number `upto` are on the disk."""

    def disk_full(self, reason: str | None) -> None:
        """There is no room for what must be written; None: there is again."""

    def disk_failed(self, error: StorageError) -> None:
        """Nothing can be written any more, and what was being written is lost or not, nobody knows."""


@implementer(IReadDescriptor)
class JournalThread:
    """Drives `journal` from the reactor's side. All methods belong to the reactor thread.

    `syncs` gives what syncs asynchronously, or None for the thread alone.
    """

    def __init__(
        self,
        reactor: Reactor,
        journal: Journal,
        written: Written,
        syncs: Callable[[Reactor], KernelSync | None] = kernel_syncs,
    ) -> None:
        self._reactor = reactor
        self._journal = journal
        self._written = written
        self._syncs = syncs
        self._sync: KernelSync | None = None
        self._began = 0.0
        self._slow = False
        self._trials = TRIALS
        self._wake = Bell()
        self._done = Bell()
        self._job: Callable[[], Callable[[], None]] | None = None
        self._busy = False
        self._failed = False
        self._lacking: dict[str, str] = {}  # what has no room, and why
        self._full: str | None = None  # what was told of that
        self._forget: Slot | None = None
        self._put_off = 0  # writes since then
        self._unsettled = False
        self._settling: IDelayedCall | None = None
        self._results: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._do_all, name="quorate-journal", daemon=True),
            threading.Thread(target=self._prepare_all, name="quorate-journal-prepare", daemon=True),
        ]

    def start(self) -> None:
        self._sync = self._syncs(self._reactor)
        self._reactor.addReader(self)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for what is under way; what was not sealed is lost, as in a crash. The journal stays open."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake.ring()
        for thread in self._threads:
            thread.join()
        if self._settling is not None and self._settling.active():
            self._settling.cancel()
        if self._sync is not None:
            self._sync.close()
        self._reactor.removeReader(self)
        self._wake.close()
        self._done.close()

    def append(self, records: Sequence[Record]) -> int:
        """Gather `records`; returns the number of the last one. Call :meth:`flush` at the end of the turn."""
        if not self._failed:
            try:
                return self._journal.append(records)
            except JournalFailed as error:  # a thread is about to tell
                self._report_failure(error)
        return self._journal.last

    @property
    def last(self) -> int:
        """The number of the last record appended."""
        return self._journal.last

    def flush(self) -> None:
        """Have everything appended written, now or after what is under way."""
        if self._busy or self._failed or self._stopping.is_set():
            return
        if self._put_off >= PUT_OFF_MAX:
            self._forget_now()
            return
        try:
            batch = self._journal.seal()
        except JournalFailed as error:
            self._report_failure(error)
            return
        if batch is not None:
            self._busy = True
            if self._forget is not None:
                self._put_off += 1
            if self._slow or not self._journal.fits(batch):
                self._give(partial(self._write, batch))
            elif batch.size <= AT_ONCE and not self._trials:
                self._write_at_once(batch)
            elif self._sync is None:
                self._give(partial(self._write, batch))
            else:
                self._begin(self._sync, batch)
        elif self._forget is not None:
            self._forget_now()

    def forget(self, slot: Slot) -> None:
        """Delete segments that hold nothing above `slot`, when nothing is to be written, or it has waited for that long
        enough."""
        self._forget = slot
        self.flush()

    def _forget_now(self) -> None:
        slot, self._forget = self._forget, None
        assert slot is not None
        self._put_off = 0
        self._busy = True
        self._give(partial(self._forget_upto, slot))

    # ---------------------------------------------------------------- without the thread

    def _write_at_once(self, batch: Batch) -> None:
        self._began = self._reactor.seconds()
        try:
            self._journal.write(batch)
        except JournalFull:
            self._give(partial(self._write, batch))
        except JournalFailed as error:
            self._report_failure(error)
        else:
            self._report_written(batch.upto)

    def _begin(self, sync: KernelSync, batch: Batch) -> None:
        try:
            file = self._journal.begin(batch)
            assert isinstance(file, RealFile)
            self._began = self._reactor.seconds()
            try:
                sync.sync(file.fileno(), partial(self._synced, batch))
            except BlockingIOError:  # the kernel has no room for the request, and began nothing: let the thread wait
                self._give(partial(self._sync_itself, batch, file))
            except OSError as error:
                raise self._journal.sync_failed(error) from error
        except JournalFull:
            self._give(partial(self._write, batch))
        except JournalFailed as error:
            self._report_failure(error)

    def _synced(self, batch: Batch, wrong: OSError | None) -> None:
        try:
            if wrong is not None:
                raise self._journal.sync_failed(wrong)
            self._journal.synced(batch)
        except JournalFailed as error:
            self._report_failure(error)
            return
        self._report_written(batch.upto)

    # ---------------------------------------------------------------- the reactor's side

    def fileno(self) -> int:
        return self._done.descriptor

    def logPrefix(self) -> str:
        return "JournalThread"

    def doRead(self) -> None:
        self._done.silence()
        results = self._results
        while results:
            results.popleft()()

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""

    def _give(self, job: Callable[[], Callable[[], None]]) -> None:
        """Have the thread do something; it returns what is then to be called here."""
        self._job = job
        self._began = self._reactor.seconds()
        self._wake.ring()

    def _report_written(self, upto: int) -> None:
        took = self._reactor.seconds() - self._began
        self._slow = took > SLOW_SECONDS
        self._trials = TRIALS if took > QUICK_SECONDS else max(0, self._trials - 1)
        self._busy = False
        self._unsettled = True
        if self._settling is None:
            self._settling = self._reactor.callLater(SETTLE_SECONDS, self._settle)
        self._written.durable(upto)
        self.flush()

    def _report_idle(self) -> None:
        self._busy = False
        self.flush()

    def _report_full(self, whom: str, reason: str | None) -> None:
        """One of the threads has no room, or has it again; the other may still have none."""
        before = self._full
        if reason is None:
            self._lacking.pop(whom, None)
        else:
            self._lacking[whom] = reason
        self._full = next(iter(self._lacking.values()), None)
        if self._full != before:
            self._written.disk_full(self._full)

    def _report_failure(self, error: StorageError) -> None:
        self._failed = True
        self._written.disk_failed(error)

    def _settle(self) -> None:
        """Idle since the last look: settle. Else look again."""
        self._settling = None
        if self._failed:
            return
        if self._busy or self._unsettled:
            self._unsettled = self._busy
            self._settling = self._reactor.callLater(SETTLE_SECONDS, self._settle)
        else:
            self._busy = True
            self._give(self._settle_marks)

    # ---------------------------------------------------------------- the threads' side

    def _tell(self, result: Callable[[], None]) -> None:
        self._results.append(result)
        self._done.ring()

    def _do_all(self) -> None:
        while True:
            self._wake.wait()
            job, self._job = self._job, None
            if job is not None:
                try:
                    result = job()
                except StorageError as error:
                    result = partial(self._report_failure, error)
                except Exception as error:  # a defect must not leave a replica that only seems to vote
                    words = f"the journal's thread failed: {error!r}"
                    result = partial(self._report_failure, StorageError(words))
                self._tell(result)
            if self._stopping.is_set():
                return

    def _write(self, batch: Batch) -> Callable[[], None]:
        """Write the batch; wait for room if need be."""
        waited = False
        while True:
            try:
                self._journal.write(batch)
            except JournalFull as full:
                if not waited:
                    self._tell(partial(self._report_full, "write", str(full)))
                waited = True
                if self._stopping.wait(_RETRY_SECONDS):
                    return self._report_idle
            else:
                break
        if waited:
            self._tell(partial(self._report_full, "write", None))
        return partial(self._report_written, batch.upto)

    def _sync_itself(self, batch: Batch, file: RealFile) -> Callable[[], None]:
        try:
            file.datasync()
        except OSError as error:
            raise self._journal.sync_failed(error) from error
        self._journal.synced(batch)
        return partial(self._report_written, batch.upto)

    def _forget_upto(self, slot: Slot) -> Callable[[], None]:
        self._journal.forget(slot)
        return self._report_idle

    def _settle_marks(self) -> Callable[[], None]:
        self._journal.settle()
        return self._report_idle

    def _prepare_all(self) -> None:
        try:
            while not self._stopping.wait(_PREPARE_SECONDS):
                self._prepare()
        except StorageError as error:
            self._tell(partial(self._report_failure, error))

    def _prepare(self) -> None:
        """Have the next segment ready; while there is no room for one, say so."""
        full = False
        while True:
            try:
                while self._journal.prepare() and not self._stopping.wait(_PIECE_SECONDS):
                    pass
            except JournalFull as error:
                if not full:
                    self._tell(partial(self._report_full, "prepare", str(error)))
                full = True
                if self._stopping.wait(_RETRY_SECONDS):
                    return
            else:
                break
        if full:
            self._tell(partial(self._report_full, "prepare", None))
