"""Forked children."""

from __future__ import annotations

import errno
import os
import select
import time
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.server.child import Child
from twisted.internet.testing import MemoryReactorClock


def run(work: Any) -> str | None:
    """What the parent is told of a child that does `work`."""
    reactor = MemoryReactorClock()
    told: list[str | None] = []
    child = Child(reactor, work, told.append)  # type: ignore[arg-type]
    while child.fileno() >= 0:
        assert select.select([child.fileno()], [], [], 10)[0]
        child.doRead()
    for _ in range(1000):
        if told:
            break
        select.select([], [], [], 0.01)
        reactor.advance(0.01)
    (words,) = told
    return words


def test_works_on_a_copy(tmp_path: Path) -> None:
    """The child sees the parent's memory as it was, and what it changes there stays its own."""
    state = {"a": 1}

    def work() -> None:
        state["a"] += 1
        (tmp_path / "out").write_text(str(state))

    assert run(work) is None
    assert (tmp_path / "out").read_text() == "{'a': 2}"
    assert state == {"a": 1}


def test_says_what_went_wrong() -> None:
    """An exception comes back in words."""

    def work() -> None:
        raise ValueError("no such thing")

    assert run(work) == "ValueError: no such thing"


def test_a_sudden_end_is_a_failure() -> None:
    """A child that is killed did not succeed."""
    assert run(lambda: os.kill(os.getpid(), 9)) == "the child ended with status -9"


def test_one_that_cannot_be_watched_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end would be seen by nobody, and no snapshot be taken any more."""
    reactor = MemoryReactorClock()
    pids: list[int] = []
    told: list[str | None] = []

    def full(child: Child) -> None:
        pids.append(child.pid)
        raise OSError(errno.ENOSPC, "no room to watch one more")

    monkeypatch.setattr(reactor, "addReader", full)
    with pytest.raises(OSError, match="no room"):
        Child(reactor, lambda: time.sleep(60), told.append)  # type: ignore[arg-type]
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], 0)
    assert not told


def test_holds_no_descriptor_of_the_parent(tmp_path: Path) -> None:
    """Connections and locks must not outlive the parent in a child."""
    reading, writing = os.pipe()

    def work() -> None:
        for descriptor in (reading, writing):
            with pytest.raises(OSError, match="Bad file"):
                os.fstat(descriptor)

    assert run(work) is None
    os.close(reading)
    os.close(writing)


def test_can_be_killed() -> None:
    """A child that is no longer wanted is ended and reaped, and nobody is told."""
    told: list[Any] = []
    child = Child(MemoryReactorClock(), lambda: select.select([], [], []), told.append)  # type: ignore[arg-type]
    child.kill()
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)
    assert told == []


def test_can_be_killed_when_it_is_about_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pipe has ended and it has not: it is reaped all the same, and nobody is told any more."""
    reactor, told = MemoryReactorClock(), []
    child = Child(reactor, lambda: None, told.append)  # type: ignore[arg-type]
    assert select.select([child.fileno()], [], [], 10)[0]
    with monkeypatch.context() as patched:
        patched.setattr(os, "waitpid", lambda pid, options: (0, 0))
        child.doRead()
    child.kill()
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, 0)
    assert not reactor.getDelayedCalls()
    child.kill()
    assert told == []
