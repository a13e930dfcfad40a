"""Snapshots on a running replica: taking them, giving them to others, taking them from others.

*Taking*: when the node says that its log is long, a forked child writes the machines as they are at that moment
(:mod:`.child`); when the child has ended well, the node may let the log go and the journal its oldest segments.

*Giving*: a peer asks for one piece after another of the file; each is read when it is asked for.

*Fetching*: pieces are written by a thread in the order they come, because they are synced every few MiB; when the last
is there, the thread verifies the file and the reactor thread installs it.

At most one of each is under way. Nothing here decides; the consensus core asks.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from threading import Thread
from typing import TYPE_CHECKING, Final, Protocol

from twisted.logger import Logger

from ..host import MachineHost
from ..paxos.ballot import Slot
from ..paxos.messages import FetchSnapshot, SnapshotChunk
from ..paxos.quorum import Configuration
from ..stop import StopReplica
from ..storage.errors import SnapshotFailed, StorageError
from ..storage.snapshots import SnapshotFile, SnapshotReceiver, Snapshots
from .child import Child

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorFromThreads

    from .lean import Reactor

    class ThreadedReactor(Reactor, IReactorFromThreads):
        """What fetching asks of a reactor besides."""


PIECE: Final = 256 << 10
PAUSE_SECONDS: Final = 30.0
"""Until another snapshot is begun after one that failed."""


class Wanting(Protocol):
    """Who is told, on the reactor thread."""

    def snapshot_taken(self, taken: SnapshotFile, floor: Slot) -> None:
        """It is durable and verified; the journal may be forgotten up to `floor`."""

    def snapshot_failed(self) -> None:
        """What was begun came to nothing."""

    def snapshot_fetched(self, fetched: SnapshotFile) -> None:
        """A peer's snapshot is durable and verified: install it."""

    def snapshot_useless(self) -> None:
        """What was fetched is bad, or could not be written."""


class Snapshotting:
    """See the module's docstring. `clock` is monotonic, in microseconds."""

    _log = Logger()

    def __init__(
        self, reactor: ThreadedReactor, snapshots: Snapshots, wanting: Wanting, clock: Callable[[], int]
    ) -> None:
        self.taking: Slot | None = None
        """The slot of the snapshot being taken."""
        self._reactor = reactor
        self._snapshots = snapshots
        self._wanting = wanting
        self._clock = clock
        self._child: Child | None = None
        self._not_before = 0
        self._fetch: _Fetch | None = None

    def stop(self) -> None:
        """End the child and forget what is half fetched."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        if self._fetch is not None:
            self._fetch.abandon()
            self._fetch = None

    # ---------------------------------------------------------------- taking

    def may_take(self) -> bool:
        """Whether a snapshot may be begun now."""
        return self.taking is None and self._clock() >= self._not_before

    def take(self, slot: Slot, configuration: Configuration, host: MachineHost) -> None:
        """Begin a snapshot of `host`, which is at `slot`."""
        began = self._clock()
        self.taking = slot
        try:
            self._child = Child(
                self._reactor,
                lambda: _write(self._snapshots, slot, configuration, host),
                lambda wrong: self._taken(slot, wrong),
            )
        except OSError as error:
            self._taken(slot, f"no child could be forked: {error}")
            return
        self._log.debug(
            "snapshot at slot {slot} begun in process {pid}; forking took {ms:.1f} ms",
            slot=slot,
            pid=self._child.pid,
            ms=(self._clock() - began) / 1000,
        )

    def _taken(self, slot: Slot, wrong: str | None) -> None:
        self.taking = self._child = None
        try:
            if wrong is not None:
                raise StorageError(wrong)
            taken = self._snapshots.adopt(slot)
        except (StorageError, OSError) as error:
            self._not_before = self._clock() + int(PAUSE_SECONDS * 1_000_000)
            self._log.error("no snapshot at slot {slot}: {error}", slot=slot, error=error)
            self._wanting.snapshot_failed()
            return
        self._wanting.snapshot_taken(taken, self.retire())

    def retire(self) -> Slot:
        """Another snapshot is in use, taken or fetched: delete those older than the two newest. Returns the slot up to
        which the journal may be forgotten."""
        # What a peer still reads of an older one it is told to be gone. Deleting waits for the disk.
        floor = self._snapshots.retire()
        if begun(Thread(target=self._delete, args=(floor,), name="quorate-delete", daemon=True)) is None:
            self._log.error("old snapshots stay for now: no thread can be started")
        return floor

    def _delete(self, below: Slot) -> None:
        try:
            self._snapshots.delete(below)
        except OSError as error:
            words = str(error)
            self._reactor.callFromThread(lambda: self._log.error("old snapshots stay: {error}", error=words))

    # ---------------------------------------------------------------- giving

    def piece(self, fetch: FetchSnapshot) -> SnapshotChunk:
        """The piece that a peer asks for; an empty one of size 0 if there is no such snapshot any more."""
        found = next((each for each in self._snapshots.kept if each.slot == fetch.slot), None)
        if found is not None:
            try:
                chunk = self._snapshots.read_at(fetch.slot, fetch.offset, PIECE)
                return SnapshotChunk(fetch.slot, fetch.offset, found.size, chunk)
            except (StorageError, OSError) as error:
                self._log.error("the snapshot at slot {slot} cannot be read: {error}", slot=fetch.slot, error=error)
        return SnapshotChunk(fetch.slot, fetch.offset, 0, b"")

    # ---------------------------------------------------------------- fetching

    def arrived(self, piece: SnapshotChunk) -> None:
        """A piece of a peer's snapshot, in order."""
        if piece.offset == 0 or self._fetch is None:
            if self._fetch is not None:
                self._fetch.abandon()
            if piece.offset:
                return
            self._log.info("fetching the snapshot at slot {slot}, {size} bytes", slot=piece.slot, size=piece.size)
            self._fetch = _Fetch(self._reactor, self._snapshots, piece.slot, piece.size, self._fetched)
        self._fetch.put(piece)

    def _fetched(self, fetch: _Fetch, found: SnapshotFile | StorageError) -> None:
        if fetch is not self._fetch:
            return
        self._fetch = None
        try:
            if isinstance(found, StorageError):
                raise found
            adopted = self._snapshots.adopt(found.slot)
        except (StorageError, OSError) as error:
            self._log.error("{error}", error=error)
            self._wanting.snapshot_useless()
            return
        self._wanting.snapshot_fetched(adopted)

    def restore(
        self,
        fetched: SnapshotFile,
        prepare: Callable[[Iterator[bytes]], MachineHost],
        done: Callable[[SnapshotFile, MachineHost | Exception], None],
    ) -> None:
        """Have a thread `prepare` a host from what was fetched, and tell `done` of it, or of what went wrong. If it is
        the file and not this replica, the file is gone then: a restart would begin with it."""

        def work() -> None:
            try:
                found: MachineHost | Exception = prepare(self._snapshots.chunks(fetched.slot))
            except (StopReplica, MemoryError) as error:
                found = error
            except Exception as error:
                found = error
                with contextlib.suppress(OSError):
                    self._snapshots.remove(fetched.slot)
            self._reactor.callFromThread(done, fetched, found)

        if begun(Thread(target=work, name="quorate-restore", daemon=True)) is None:
            done(fetched, RuntimeError("no thread can be started"))


def begun(thread: Thread) -> Thread | None:
    """The thread, which runs now; None: the system has no room for it."""
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _write(snapshots: Snapshots, slot: Slot, configuration: Configuration, host: MachineHost) -> None:
    snapshots.write(slot, configuration, host.snapshot())


class _Fetch:
    """One peer's snapshot on its way to the disk."""

    def __init__(
        self,
        reactor: ThreadedReactor,
        snapshots: Snapshots,
        slot: Slot,
        size: int,
        done: Callable[[_Fetch, SnapshotFile | StorageError], None],
    ) -> None:
        self._reactor = reactor
        self._snapshots = snapshots
        self._slot = slot
        self._size = size
        self._done = done
        self._pieces: deque[SnapshotChunk] = deque()
        self._receiver: SnapshotReceiver | None = None
        self._thread: Thread | None = None
        self._abandoned = False
        self._over = False

    def put(self, piece: SnapshotChunk) -> None:
        self._pieces.append(piece)
        self._go_on()

    def abandon(self) -> None:
        """Forget it; the thread cleans up if it is at work."""
        self._abandoned = True
        self._go_on()

    def _go_on(self) -> None:
        if self._thread is None and not self._over:
            self._thread = begun(Thread(target=self._work, name="quorate-fetch", daemon=True))
            if self._thread is None:
                self._over = True
                if self._receiver is not None:
                    self._receiver.abandon()
                failed = SnapshotFailed(f"the snapshot at slot {self._slot} is not written: no thread can be started")
                self._reactor.callLater(0, self._done, self, failed)

    def _work(self) -> None:
        result: SnapshotFile | StorageError | None = None
        try:
            if self._receiver is None:
                self._receiver = self._snapshots.receive(self._slot)
            while self._pieces and not self._abandoned:
                piece = self._pieces.popleft()
                self._receiver.write(piece.offset, piece.chunk)
            if self._abandoned:
                self._receiver.abandon()
                return
            if self._receiver.received >= self._size:
                result = self._receiver.finish()
        except StorageError as error:
            result = error
        self._reactor.callFromThread(self._worked, result)

    def _worked(self, result: SnapshotFile | StorageError | None) -> None:
        self._thread = None
        if result is not None:
            self._over = True
            self._done(self, result)
        elif self._pieces or self._abandoned:
            self._go_on()
