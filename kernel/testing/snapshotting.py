"""Snapshots of a simulated replica: taken, served to peers, fetched from peers.

What the server does with a forked child and a thread happens here at once, some time after it was begun.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..paxos.ballot import MemberId, Slot
from ..paxos.messages import FetchSnapshot, SnapshotChunk
from ..paxos.quorum import Configuration
from ..paxos.ready import Send
from ..storage.errors import JournalFailed, SnapshotFailed, SnapshotMissing
from ..storage.memory import Crash, MemoryFileSystem
from .lifecycle import Boundary, Stage

if TYPE_CHECKING:
    from ..host import MachineHost
    from .process import Process
    from .run import Run
    from .world import World

PIECE: Final = 700
"""Bytes of a snapshot in one message: small, so that small snapshots come in many."""
PAUSE: Final = 1_000_000
"""Microseconds until another snapshot is begun after one that failed."""


class Snapshotting:
    """See the module's text."""

    def __init__(self, process: Process, world: World) -> None:
        self._process = process
        self._world = world

    def may_take(self, run: Run) -> bool:
        """Whether a snapshot may be begun now."""
        return not run.snapshotting and self._process.now >= run.no_snapshot_before

    def take(self, run: Run) -> None:
        """Take the state now, write it a while later."""
        slot = run.node.snapshot_begins()
        host: MachineHost = run.node.host
        configuration = host.configuration
        chunks = list(host.snapshot())
        run.snapshotting = True
        delay = self._world.snapshot_time()
        self._world.schedule.after(
            delay, lambda: self._process.arrives(0, partial(self._write, run, slot, configuration, chunks))
        )

    def _write(self, run: Run, slot: Slot, configuration: Configuration, chunks: list[bytes]) -> None:
        run.snapshotting = False
        if self._process.run is not run:
            return
        with self._announced():
            try:
                found = run.snapshots.write(slot, configuration, chunks)
                self._world.trace(self._process.member, "snapshot at slot %d, %d bytes", slot, found.size)
                run.node.host.imaged(slot, lambda: run.snapshots.chunks(slot))
                run.node.snapshotted(slot, found.size)
                self._world.watch.count("snapshots taken")
                self._retire(run)
            except SnapshotFailed as error:
                self._world.trace(self._process.member, "%s", error)
                run.no_snapshot_before = self._process.now + PAUSE
                run.node.snapshot_failed()
            except Crash:
                if self._process.run is run:
                    self._process.die(True, "power cut during a snapshot")
                return

    def _retire(self, run: Run) -> None:
        """Another snapshot is in use, taken or fetched: the oldest, and the log before them, may go."""
        floor = run.snapshots.retire()
        try:
            run.snapshots.delete(floor)
        except OSError as error:
            self._world.trace(self._process.member, "old snapshots stay: %s", error)
        try:
            if run.writing is None and not run.journal.failed:
                run.journal.forget(floor)
        except JournalFailed as error:
            self._world.trace(self._process.member, "%s", error)
            self._world.disk_failed(self._process)

    def _announced(self) -> _Guard:
        def before(effect: str, path: str) -> None:
            if self._process.boundary(Boundary.SNAPSHOT) and self._process.stage is Stage.DOWN:
                raise Crash(path)

        return _Guard(self._process.disk.files, before if self._process.fuse is not None else None)

    def serve(self, run: Run, to: MemberId, fetch: FetchSnapshot) -> None:
        """A peer asks for a piece of one of ours."""
        size = next((kept.size for kept in run.snapshots.kept if kept.slot == fetch.slot), 0)
        try:
            chunk = run.snapshots.read_at(fetch.slot, fetch.offset, PIECE) if size else b""
        except (SnapshotMissing, OSError):
            size, chunk = 0, b""
        answer = SnapshotChunk(fetch.slot, fetch.offset, size, chunk)
        self._process.send(run, Boundary.SEND, (Send(to, answer),))

    def arrived(self, run: Run, chunk: SnapshotChunk) -> None:
        """A piece of a peer's snapshot."""
        with self._announced():
            try:
                receiver = run.receiver
                if receiver is None or receiver.slot != chunk.slot or chunk.offset == 0:
                    if receiver is not None:
                        receiver.abandon()
                    receiver = run.receiver = run.snapshots.receive(chunk.slot)
                if chunk.offset != receiver.received:
                    return
                receiver.write(chunk.offset, chunk.chunk)
                if receiver.received < chunk.size:
                    return
                run.receiver = None
                receiver.finish()
                found = run.snapshots.adopt(chunk.slot)
                host = run.node.prepare(run.snapshots.chunks(chunk.slot))
                run.node.install(found.slot, found.size, found.configuration, host, self._process.now)
                if run.node.host.slot == found.slot:
                    self._world.trace(self._process.member, "installed the snapshot at slot %d", found.slot)
                    self._world.watch.installed(self._process.member, host)
                    host.imaged(found.slot, lambda: run.snapshots.chunks(found.slot))
                    self._retire(run)
            except (SnapshotFailed, SnapshotMissing, OSError) as error:
                self._world.trace(self._process.member, "%s", error)
                run.receiver = None
                run.node.core.abandon_snapshot()
                return
            except Crash:
                if self._process.run is run:
                    self._process.die(True, "power cut during a snapshot")


class _Guard:
    """Announces the effects on a disk while it is entered."""

    def __init__(self, fs: MemoryFileSystem, before: Callable[[str, str], None] | None) -> None:
        self._fs = fs
        self._before = before

    def __enter__(self) -> None:
        self._fs.before = self._before

    def __exit__(self, *_: object) -> None:
        self._fs.before = None
