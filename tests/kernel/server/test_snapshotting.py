"""A replica's snapshots on their way from peers to the disk."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.messages import SnapshotChunk
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.server import snapshotting
from quorate.kernel.server.snapshotting import Snapshotting
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.snapshots import SnapshotFile, Snapshots
from twisted.internet.task import Clock

CELL = bytes(16)
CONFIGURATION = Configuration(Slot(0), (Member(MemberId(1), Role.VOTER, "tcp:127.0.0.1:1"),))


class Turns(Clock):
    """A reactor whose threads tell it something at once."""

    def callFromThread(self, what: Callable[..., Any], *args: Any) -> None:
        self.callLater(0, what, *args)


class Wanting:
    """What a replica is told."""

    def __init__(self) -> None:
        self.fetched: list[SnapshotFile] = []
        self.useless = 0

    def snapshot_taken(self, taken: SnapshotFile, floor: Slot) -> None:
        raise AssertionError("none is taken here")

    def snapshot_failed(self) -> None:
        raise AssertionError("none is taken here")

    def snapshot_fetched(self, fetched: SnapshotFile) -> None:
        self.fetched.append(fetched)

    def snapshot_useless(self) -> None:
        self.useless += 1


class Member1:
    """One replica, and a peer that has a snapshot at any slot."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own, self.peer = directory / "own", directory / "peer"
        self.own.mkdir()
        self.peer.mkdir()
        self.reactor = Turns()
        self.wanting = Wanting()
        self.snapshots = Snapshots(RealFileSystem(), str(self.own), CELL, 1)
        self.snapshotting = Snapshotting(self.reactor, self.snapshots, self.wanting, lambda: 0)  # type: ignore[arg-type]
        self._theirs = Snapshots(RealFileSystem(), str(self.peer), CELL, 1)
        monkeypatch.setattr(Thread, "start", Thread.run)  # one after the other

    def fetch(self, slot: int) -> None:
        """All of the peer's snapshot at `slot` arrives."""
        size = self._theirs.write(Slot(slot), CONFIGURATION, [b"state"]).size
        content = self._theirs.read_at(Slot(slot), 0, size)
        for at in range(0, size, 40):
            self.snapshotting.arrived(SnapshotChunk(Slot(slot), at, size, content[at : at + 40]))
        self._theirs.release()
        for _ in range(3):
            self.reactor.advance(0)

    def files(self) -> list[str]:
        """What is in its directory."""
        return sorted(file.name for file in self.own.iterdir())


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Member1:
    return Member1(tmp_path, monkeypatch)


def test_fetched_snapshots_do_not_gather(member: Member1) -> None:
    """Who always catches up by a snapshot, and never comes to take one, keeps two of them and not every one."""
    for slot in range(10, 15):
        member.fetch(slot)
        assert member.snapshotting.retire() == (slot - 1 if slot > 10 else 0)
    assert [found.slot for found in member.wanting.fetched] == [10, 11, 12, 13, 14]
    assert member.files() == [f"snapshot-{slot:020d}.snap" for slot in (13, 14)]


def test_a_fetched_snapshot_that_cannot_be_opened_is_useless(member: Member1, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core waits for it to be installed or given up, and asks nobody meanwhile."""

    def adopt(slot: Slot) -> SnapshotFile:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(member.snapshots, "adopt", adopt)
    member.fetch(10)
    assert (member.wanting.fetched, member.wanting.useless) == ([], 1)


def test_a_snapshot_that_no_thread_can_write_is_useless(member: Member1, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without room for a thread nothing is left behind, and the next one is fetched."""
    started = 0

    def start(thread: Thread) -> None:
        nonlocal started
        started += 1
        if started == 2:
            raise RuntimeError("can't start new thread")
        thread.run()

    with monkeypatch.context() as patched:
        patched.setattr(snapshotting.Thread, "start", start)
        size = member._theirs.write(Slot(10), CONFIGURATION, [b"state"]).size
        content = member._theirs.read_at(Slot(10), 0, size)
        member._theirs.release()
        for at in (0, 20):
            member.snapshotting.arrived(SnapshotChunk(Slot(10), at, size, content[at : at + 20]))
            member.reactor.advance(0)
        member.reactor.advance(0)
    assert (member.wanting.useless, member.files()) == (1, [])
    member.fetch(11)
    assert [found.slot for found in member.wanting.fetched] == [11]
