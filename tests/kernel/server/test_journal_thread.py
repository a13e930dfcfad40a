"""The thread that writes the journal."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import Promised
from quorate.kernel.server import journal_thread
from quorate.kernel.server.journal_thread import JournalThread
from quorate.kernel.storage.errors import JournalFailed, JournalFull
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.recovery import Recovered, recover
from twisted.internet.testing import MemoryReactorClock


class Told:
    """What the thread said, in order."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Any]] = []

    def durable(self, upto: int) -> None:
        self.said.append(("durable", upto))

    def disk_full(self, reason: str | None) -> None:
        self.said.append(("full", reason))

    def disk_failed(self, error: Exception) -> None:
        self.said.append(("failed", str(error)))


def opened(directory: Path) -> Recovered:
    founding = Configuration(Slot(0), (Member(MemberId(1), Role.VOTER, "a"),))
    return recover(
        RealFileSystem(),
        str(directory),
        cell=bytes(16),
        member=MemberId(1),
        disk=b"d" * 16,
        founding=founding,
        segment_size=1 << 20,
    )


class Bench:
    """A thread on a journal, with a reactor that turns by hand."""

    def __init__(self, directory: Path) -> None:
        self.recovered = opened(directory)
        self.told = Told()
        self.thread = JournalThread(MemoryReactorClock(), self.recovered.journal, self.told)  # type: ignore[arg-type]
        self.thread.start()
        self._round = 0

    def promise(self) -> int:
        self._round += 1
        return self.thread.append([Promised(Ballot(self._round, MemberId(1)))])

    def hear(self, count: int) -> list[tuple[str, Any]]:
        """Turn the reactor until `count` things were said."""
        while len(self.told.said) < count:
            assert select.select([self.thread.fileno()], [], [], 10)[0], self.told.said
            self.thread.doRead()
        return self.told.said


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "replica")
    yield made
    made.thread.stop()
    made.recovered.close()


def test_what_was_appended_becomes_durable(bench: Bench, tmp_path: Path) -> None:
    """A flush writes everything appended before it; a new start finds it."""
    bench.promise()
    last = bench.promise()
    bench.thread.flush()
    assert bench.hear(1) == [("durable", last)]
    bench.thread.stop()
    bench.recovered.close()
    again = opened(tmp_path / "replica")
    assert again.state.promised == Ballot(2, MemberId(1))
    again.close()


def test_one_write_gathers_what_came_meanwhile(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one batch is being written the following records make up exactly one more."""
    gate, written = threading.Event(), []
    journal = bench.recovered.journal
    real = journal.write

    def slow(batch: Any) -> None:
        gate.wait(10)
        written.append(batch.upto)
        real(batch)

    monkeypatch.setattr(journal, "write", slow)
    first = bench.promise()
    bench.thread.flush()
    for _ in range(5):
        last = bench.promise()
        bench.thread.flush()
    gate.set()
    assert bench.hear(2) == [("durable", first), ("durable", last)]
    assert written == [first, last]


def test_a_failed_write_ends_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure nothing more is durable, and nothing is tried again."""
    writes = []

    def broken(batch: Any) -> None:
        writes.append(batch)
        raise JournalFailed("the disk is gone")

    monkeypatch.setattr(bench.recovered.journal, "write", broken)
    bench.promise()
    bench.thread.flush()
    assert bench.hear(1) == [("failed", "the disk is gone")]
    bench.promise()
    bench.thread.flush()
    assert len(writes) == 1


def test_a_full_disk_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is told once; the same batch is written as soon as there is some."""
    monkeypatch.setattr(journal_thread, "_RETRY_SECONDS", 0.01)
    journal = bench.recovered.journal
    real, tries = journal.write, []

    def full(batch: Any) -> None:
        tries.append(batch)
        if len(tries) < 4:
            raise JournalFull("no room")
        real(batch)

    monkeypatch.setattr(journal, "write", full)
    last = bench.promise()
    bench.thread.flush()
    assert bench.hear(3) == [("full", "no room"), ("full", None), ("durable", last)]
    assert len(set(map(id, tries))) == 1


def test_settles_when_idle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest mark is made durable soon after the last write."""
    settled = threading.Event()
    journal = bench.recovered.journal
    real = journal.settle
    monkeypatch.setattr(journal, "settle", lambda: (real(), settled.set()))
    bench.promise()
    bench.thread.flush()
    bench.hear(1)
    assert settled.wait(10)


def test_an_unexpected_error_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the thread does not leave a replica that only seems to vote."""

    def defect(batch: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.recovered.journal, "write", defect)
    bench.promise()
    bench.thread.flush()
    ((what, words),) = bench.hear(1)
    assert what == "failed"
    assert "ZeroDivisionError" in words
