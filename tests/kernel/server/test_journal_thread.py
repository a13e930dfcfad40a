"""The thread that writes the journal."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import AcceptedValue, Promised
from quorate.kernel.server import journal_thread
from quorate.kernel.server.datasync import KernelSync, kernel_syncs
from quorate.kernel.server.journal_thread import JournalThread
from quorate.kernel.storage.errors import JournalFull
from quorate.kernel.storage.files import RealFile, RealFileSystem
from quorate.kernel.storage.journal import Batch, Journal
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

    def __init__(self, directory: Path, syncs: Callable[[Any], KernelSync | None]) -> None:
        self.reactor = MemoryReactorClock()
        self.recovered = opened(directory)
        self.told = Told()
        self.thread = JournalThread(self.reactor, self.recovered.journal, self.told, syncs)  # type: ignore[arg-type]
        self.thread.start()
        self._round = 0

    def promise(self) -> int:
        self._round += 1
        return self.thread.append([Promised(Ballot(self._round, MemberId(1)))])

    def turn(self) -> None:
        """One turn of the reactor in which something happened."""
        ready = select.select(self.reactor.getReaders(), [], [], 10)[0]
        assert ready, self.told.said
        for reader in ready:
            reader.doRead()

    def hear(self, count: int) -> list[tuple[str, Any]]:
        """Turn the reactor until `count` things were said."""
        while len(self.told.said) < count:
            self.turn()
        return self.told.said


def no_syncs(reactor: Any) -> None:
    """The kernel syncs nothing by itself."""


@pytest.fixture(params=[kernel_syncs, no_syncs], ids=["kernel", "thread"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "replica", request.param)
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
    sealed = []
    journal = bench.recovered.journal
    real = journal.seal
    monkeypatch.setattr(journal, "seal", lambda: sealed.append(real()) or sealed[-1])
    first = bench.promise()
    bench.thread.flush()
    for _ in range(5):
        last = bench.promise()
        bench.thread.flush()
    assert bench.hear(2) == [("durable", first), ("durable", last)]
    assert [batch.upto for batch in sealed if batch is not None] == [first, last]


def test_a_failed_write_ends_everything(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure nothing more is durable, and nothing is tried again."""
    writes = []

    def broken(self: Any) -> None:
        writes.append(self)
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(RealFile, "datasync", broken)
    monkeypatch.setattr(KernelSync, "sync", lambda self, descriptor, done: broken(self))
    bench.promise()
    bench.thread.flush()
    ((what, words),) = bench.hear(1)
    assert what == "failed"
    assert "the disk is gone" in words
    tried = len(writes)
    bench.promise()
    bench.thread.flush()
    assert len(writes) == tried


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EIO])
def test_a_sync_that_the_kernel_does_not_take(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it had no room for the request nothing was begun, and the disk is as good as before: the thread syncs. At
    any other word the disk is given up."""

    def refuse(sync: KernelSync, descriptor: int, done: Any) -> None:
        raise OSError(code, os.strerror(code))

    if (made := Bench(tmp_path / "replica", kernel_syncs)).thread._sync is None:
        pytest.skip("the kernel syncs nothing by itself here")
    monkeypatch.setattr(KernelSync, "sync", refuse)
    synced: list[threading.Thread] = []
    datasync = RealFile.datasync
    monkeypatch.setattr(
        RealFile, "datasync", lambda file: (synced.append(threading.current_thread()), datasync(file))[1]
    )
    last = made.promise()
    made.thread.flush()
    if code == errno.EAGAIN:
        assert made.hear(1) == [("durable", last)]
        assert synced[0] is not threading.current_thread()
    else:
        ((what, words),) = made.hear(1)
        assert what == "failed"
        assert os.strerror(code) in words
    made.thread.stop()
    made.recovered.close()


def test_a_journal_that_fails_on_a_thread_is_told_by_who_asks_first(bench: Bench) -> None:
    """What is appended or flushed before the thread's word comes is no error of whoever does it."""
    for failing in (bench.promise, bench.thread.flush):
        bench.thread._failed = False
        bench.recovered.journal._failure = None
        bench.promise()
        bench.recovered.journal._failure = "the disk is failing"
        failing()
        assert bench.told.said.pop() == ("failed", "the disk is failing")


def test_a_full_disk_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is told once; the same batch is written as soon as there is some."""
    monkeypatch.setattr(journal_thread, "_RETRY_SECONDS", 0.01)
    real, tries = RealFile.write, []

    def full(self: RealFile, position: int, content: bytes) -> None:
        if "marks" not in self.path:
            tries.append((position, content))
        if len(tries) < 5 and "marks" not in self.path:
            raise OSError(errno.ENOSPC, "no room")
        real(self, position, content)

    monkeypatch.setattr(RealFile, "write", full)
    last = bench.promise()
    bench.thread.flush()
    said = bench.hear(3)
    assert [what for what, _ in said] == ["full", "full", "durable"]
    assert "no room" in said[0][1]
    assert said[1:] == [("full", None), ("durable", last)]
    assert len(set(tries[:5])) == 1


def test_a_disk_is_full_as_long_as_anything_has_no_room(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written may find room and take it all: then the next segment still has none."""
    lacking = {"write", "prepare"}

    def full(name: str) -> None:
        if name in lacking:
            raise JournalFull(f"no room to {name}")

    begin = Journal.begin
    monkeypatch.setattr(journal_thread, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(Journal, "begin", lambda journal, batch: (full("write"), begin(journal, batch))[1])
    monkeypatch.setattr(Journal, "prepare", lambda journal: full("prepare"))
    last = bench.promise()
    bench.thread.flush()
    bench.hear(1)
    while len(bench.thread._lacking) < 2:
        bench.turn()
    lacking.remove("write")
    while ("durable", last) not in bench.told.said:
        bench.turn()
    assert ("full", None) not in bench.told.said
    assert [each for each in bench.told.said if each[0] == "full"][-1] == ("full", "no room to prepare")
    lacking.remove("prepare")
    while bench.thread._lacking:
        bench.turn()
    assert bench.told.said[-1] == ("full", None)


def test_settles_when_idle(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest mark is made durable soon after the last write."""
    settled = threading.Event()
    journal = bench.recovered.journal
    real = journal.settle
    monkeypatch.setattr(journal, "settle", lambda: (real(), settled.set()))
    bench.promise()
    bench.thread.flush()
    bench.hear(1)
    bench.reactor.advance(journal_thread.SETTLE_SECONDS)
    assert not settled.is_set()
    bench.reactor.advance(journal_thread.SETTLE_SECONDS)
    assert settled.wait(10)
    last = bench.promise()
    bench.thread.flush()
    assert bench.hear(2)[-1] == ("durable", last)


def test_an_unexpected_error_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A defect in the thread does not leave a replica that only seems to vote."""

    def defect(slot: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.recovered.journal, "forget", defect)
    bench.thread.forget(Slot(1))
    ((what, words),) = bench.hear(1)
    assert what == "failed"
    assert "ZeroDivisionError" in words


def test_old_segments_go_although_there_is_always_something_to_write(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is slower than what comes, the next batch is there when one is written."""
    forgotten: list[Slot] = []
    monkeypatch.setattr(journal_thread, "AT_ONCE", 0)
    monkeypatch.setattr(bench.recovered.journal, "forget", forgotten.append)
    monkeypatch.setattr(bench.told, "durable", lambda upto: bench.promise())
    bench.promise()
    bench.thread.flush()
    bench.thread.forget(Slot(1))
    while not forgotten and bench.recovered.journal.durable < 2 * journal_thread.PUT_OFF_MAX:
        bench.turn()
    assert forgotten == [Slot(1)]


def test_after_a_slow_sync_the_thread_writes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk is slow even the copy to memory is the thread's; a fast sync ends that."""
    writers = []
    real = RealFile.write

    def watched(self: RealFile, position: int, content: bytes) -> None:
        if "marks" not in self.path:
            writers.append(threading.current_thread().name)
        real(self, position, content)

    monkeypatch.setattr(RealFile, "write", watched)
    for count, pause in enumerate((1.0, 1.0, 0.0, 0.0), 1):
        bench.promise()
        bench.thread.flush()
        bench.reactor.advance(pause)
        bench.hear(count)
    if bench.thread._sync is None:
        assert set(writers) == {"quorate-journal"}
    else:
        here = threading.current_thread().name
        assert writers == [here, "quorate-journal", "quorate-journal", here]


def test_what_comes_after_the_stop_is_not_written(bench: Bench) -> None:
    """A snapshot that ends late still wants segments forgotten; the journal is closed by then."""
    bench.thread.stop()
    bench.recovered.journal.close()
    bench.thread.forget(Slot(1))
    bench.thread.flush()
    assert bench.told.said == []


def test_lone_writes_are_made_at_once_on_a_quick_disk(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After many quick writes a small one is durable when the flush returns; a large one is not waited for; one that
    takes long puts an end to it."""
    said, journal = bench.told.said, bench.recovered.journal
    for count in range(1, journal_thread.TRIALS + 1):
        bench.promise()
        bench.thread.flush()
        assert len(bench.hear(count)) == count
    last = bench.promise()
    bench.thread.flush()
    assert said[-1] == ("durable", last)
    bench.thread.append([AcceptedValue(Ballot(100, MemberId(1)), Slot(1), Value(Kind.COMMANDS, bytes(5000)))])
    bench.thread.flush()
    assert said[-1] == ("durable", last)
    count = len(bench.hear(len(said) + 1))
    real = journal.write

    def slow(batch: Batch) -> None:
        real(batch)
        bench.reactor.rightNow += 2 * journal_thread.QUICK_SECONDS

    monkeypatch.setattr(journal, "write", slow)
    bench._round = 100
    bench.promise()
    bench.thread.flush()
    assert len(said) == count + 1
    bench.promise()
    bench.thread.flush()
    assert len(said) == count + 1
    bench.hear(count + 2)


def test_a_write_at_once_that_fails_is_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported like any other failure, and nothing is written after it."""
    monkeypatch.setattr(bench.thread, "_trials", 0)
    monkeypatch.setattr(RealFile, "datasync", lambda self: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    bench.promise()
    bench.thread.flush()
    ((what, words),) = bench.told.said
    assert what == "failed"
    assert "broken" in words
    bench.promise()
    bench.thread.flush()
    assert len(bench.told.said) == 1
