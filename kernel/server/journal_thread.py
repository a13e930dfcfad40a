"""The thread that writes the journal: appending is the reactor's, the disk is its.

The reactor thread appends records and asks for a write at the end of its turn. Whatever was appended while one write is
under way makes up the next: the slower the disk, the larger the batches. A finished write rings a bell on which the
reactor listens, and only then is anybody told that the records are durable. So a disk that hangs holds up this
replica's votes, never its heartbeats.

A write or sync that fails is the end of this replica's voting: nobody can say what is on the disk (see
:class:`..storage.errors.JournalFailed`). A full disk is different: the same batch is tried again every second until
there is room.

A second thread fills the next segment ahead of need, in pieces, so that neither a write nor a turn waits for it.
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
from ..storage.journal import Batch, Journal
from .bell import Bell

if TYPE_CHECKING:
    from .lean import Reactor

SETTLE_MS: Final = 5
"""The journal is settled when it was idle for so long."""

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
    """Drives `journal` from the reactor's side. All methods belong to the reactor thread."""

    def __init__(self, reactor: Reactor, journal: Journal, written: Written) -> None:
        self._reactor = reactor
        self._journal = journal
        self._written = written
        self._wake = Bell()
        self._done = Bell()
        self._batch: Batch | None = None
        self._forget: int | None = None
        self._results: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._busy = False
        self._failed = False
        self._threads = [
            threading.Thread(target=self._write_all, name="quorate-journal", daemon=True),
            threading.Thread(target=self._prepare_all, name="quorate-journal-prepare", daemon=True),
        ]

    def start(self) -> None:
        self._reactor.addReader(self)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for the write that is under way; what was not sealed is lost, as in a crash. The journal stays open."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake.ring()
        for thread in self._threads:
            thread.join()
        self._reactor.removeReader(self)
        self._wake.close()
        self._done.close()

    def append(self, records: Sequence[Record]) -> int:
        """Gather `records`; returns the number of the last one. Call :meth:`flush` at the end of the turn."""
        return self._journal.last if self._failed else self._journal.append(records)

    @property
    def last(self) -> int:
        """The number of the last record appended."""
        return self._journal.last

    def flush(self) -> None:
        """Have everything appended written, now or after the write that is under way."""
        if self._busy or self._failed:
            return
        batch = self._journal.seal()
        if batch is not None:
            self._busy = True
            self._batch = batch
            self._wake.ring()

    def forget(self, slot: Slot) -> None:
        """Delete segments that hold nothing above `slot`, when convenient."""
        self._forget = slot
        self._wake.ring()

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

    def _report_durable(self, upto: int) -> None:
        self._busy = False
        self._written.durable(upto)
        self.flush()

    def _report_failure(self, error: StorageError) -> None:
        self._failed = True
        self._written.disk_failed(error)

    # ---------------------------------------------------------------- the threads' side

    def _tell(self, result: Callable[[], None]) -> None:
        self._results.append(result)
        self._done.ring()

    def _write_all(self) -> None:
        journal = self._journal
        unsettled = False
        try:
            while True:
                rung = self._wake.wait(SETTLE_MS if unsettled else None)
                batch, self._batch = self._batch, None
                if batch is not None:
                    self._write(batch)
                    unsettled = True
                elif not rung:
                    journal.settle()
                    unsettled = False
                slot, self._forget = self._forget, None
                if slot is not None:
                    journal.forget(Slot(slot))
                if self._stopping.is_set():
                    return
        except JournalFailed as error:
            self._tell(partial(self._report_failure, error))
        except Exception as error:  # a bug must not leave a replica that only seems to vote
            self._tell(partial(self._report_failure, StorageError(f"the journal's thread failed: {error!r}")))

    def _write(self, batch: Batch) -> None:
        """Write the batch; wait for room if need be."""
        waited = False
        while True:
            try:
                self._journal.write(batch)
            except JournalFull as full:
                if not waited:
                    self._tell(partial(self._written.disk_full, str(full)))
                waited = True
                if self._stopping.wait(_RETRY_SECONDS):
                    return
            else:
                break
        if waited:
            self._tell(partial(self._written.disk_full, None))
        self._tell(partial(self._report_durable, batch.upto))

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
                    self._tell(partial(self._written.disk_full, str(error)))
                full = True
                if self._stopping.wait(_RETRY_SECONDS):
                    return
            else:
                break
        if full:
            self._tell(partial(self._written.disk_full, None))
