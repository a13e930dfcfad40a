"""The reactor with an end of each turn."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from quorate.kernel.server import reactor as reactor_module
from quorate.kernel.server.reactor import TurnReactor
from quorate.kernel.server.turn import EndsTurns, Turns


@pytest.fixture
def reactor() -> Iterator[TurnReactor]:
    """One that is not the process's own; stepped by hand."""
    one = TurnReactor()
    yield one
    for each in one.removeAll():
        each.connectionLost(None)
    one._poller.close()


class Reader:
    """Counts what a socket gets."""

    def __init__(self, sock: socket.socket, steps: list[str]) -> None:
        self.sock = sock
        self.steps = steps

    def fileno(self) -> int:
        return self.sock.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> None:
        self.steps.append(self.sock.recv(100).decode())

    def connectionLost(self, reason: object) -> None:
        """Nothing is held."""


def step(reactor: TurnReactor) -> None:
    """What the main loop does in one round, without waiting."""
    reactor.runUntilCurrent()
    reactor.timeout()
    reactor.doIteration(0)


def test_the_end_comes_after_every_descriptor_and_timer(reactor: TurnReactor) -> None:
    """Whatever was ready is served first; then each end is called once, the early ones first."""
    steps: list[str] = []
    pairs = [socket.socketpair() for _ in range(2)]
    try:
        readers = [Reader(ours, steps) for ours, _ in pairs]
        for number, (_, theirs) in enumerate(pairs):
            reactor.addReader(readers[number])
            theirs.send(b"%d" % number)
        late = Turns(reactor, lambda: steps.append("late"))
        early = Turns(reactor, lambda: steps.append("early"), early=True)
        late.request()
        early.request()
        late.request()
        reactor.doIteration(0)
        assert sorted(steps) == ["0", "1"]
        reactor.callLater(0, steps.append, "timer")
        reactor.runUntilCurrent()
        assert steps[2:] == ["timer", "early", "late"]
        step(reactor)
        assert len(steps) == 5
    finally:
        for reader, (ours, theirs) in zip(readers, pairs, strict=True):
            reactor.removeReader(reader)
            ours.close()
            theirs.close()


def test_a_turn_serves_so_many_and_the_next_the_others(reactor: TurnReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are ready, a turn is short, and nobody is served twice before all were once."""
    monkeypatch.setattr(reactor_module, "_EVENTS", 3)
    steps: list[str] = []
    pairs = [socket.socketpair() for _ in range(8)]
    try:
        for number, (ours, theirs) in enumerate(pairs):
            reactor.addReader(Reader(ours, steps))
            theirs.send(b"%d" % number)
        served = []
        for _ in range(3):
            reactor.doIteration(0)
            served.append(len(steps))
            for number, (_, theirs) in enumerate(pairs):
                theirs.send(b"+%d" % number)
        assert served == [3, 6, 9]
        assert sorted(step[0] for step in steps[:8]) == [str(number) for number in range(8)]
    finally:
        reactor.removeAll()
        for ours, theirs in pairs:
            ours.close()
            theirs.close()


def test_an_end_that_asks_for_another_has_it_in_the_same_turn(reactor: TurnReactor) -> None:
    """What an early end brings about is dealt with at once, and the reactor need not be asked again."""
    steps: list[str] = []
    late = Turns(reactor, lambda: steps.append("late"))
    early = Turns(reactor, lambda: (steps.append("early"), late.request())[0], early=True)  # type: ignore[func-returns-value]
    early.request()
    reactor.runUntilCurrent()
    assert steps == ["early", "late"]


def test_ends_without_end_do_not_starve_descriptors(reactor: TurnReactor) -> None:
    """An end that asks for itself for ever leaves room for what arrives, and the reactor does not sleep on it."""
    count = 0

    def again() -> None:
        nonlocal count
        count += 1
        turns.request()

    turns = Turns(reactor, again)
    turns.request()
    reactor.runUntilCurrent()
    assert 0 < count < 1000
    assert reactor.timeout() == 0


def test_a_failing_end_does_not_take_the_others_along(reactor: TurnReactor) -> None:
    """It is logged, like a failing timer, and the next is called."""
    from twisted.logger import globalLogPublisher

    seen: list[str] = []
    failures: list[object] = []

    def observer(event: dict[str, object]) -> None:
        failures.append(event.get("log_failure"))

    globalLogPublisher.addObserver(observer)
    try:
        Turns(reactor, lambda: 1 // 0).request()  # type: ignore[arg-type, return-value]
        Turns(reactor, lambda: seen.append("next")).request()
        reactor.runUntilCurrent()
    finally:
        globalLogPublisher.removeObserver(observer)
    assert seen == ["next"]
    assert any(failures)


def test_it_says_that_it_ends_turns(reactor: TurnReactor) -> None:
    """So :class:`Turns` finds out."""
    assert isinstance(reactor, EndsTurns)


def test_twist_knows_it() -> None:
    """``twist --reactor=quorate`` finds it."""
    done = subprocess.run([sys.executable, "-P", "-m", "twisted", "--help"], capture_output=True, text=True, check=True)
    reactors = done.stdout.partition("--reactor=")[2].partition(")")[0]
    assert '"quorate"' in reactors


def test_what_happened_to_a_closed_descriptor_is_not_told_its_heir(reactor: TurnReactor) -> None:
    """One that is closed while events are handed out, and whose number a writer gets, brings that no arrival."""
    steps: list[str] = []
    heir, heirs_peer = socket.socketpair()
    (first, one), (second, other) = socket.socketpair(), socket.socketpair()

    class Writer:
        """Waits to write."""

        def fileno(self) -> int:
            return number

        def logPrefix(self) -> str:
            return "writer"

        def doWrite(self) -> None:
            steps.append("written")

        def connectionLost(self, reason: object) -> None:
            steps.append("lost")

    class Closer(Reader):
        """Puts a writer in the other's place."""

        def doRead(self) -> None:
            super().doRead()
            if number in reactor._selectables and reactor._selectables[number] is victim:
                reactor.removeReader(victim)
                os.dup2(heir.fileno(), number)
                reactor.addWriter(writer)

    number = second.fileno()
    victim, writer = Reader(second, steps), Writer()
    closer = Closer(first, steps)
    try:
        reactor.addReader(closer)
        reactor.addReader(victim)
        one.send(b"x")
        other.send(b"y")
        reactor.doIteration(0)
        assert steps in (["x"], ["y", "x"])
        reactor.doIteration(0)
        assert steps[-1] == "written"
    finally:
        reactor.removeReader(closer)
        reactor.removeWriter(writer)
        for sock in (heir, heirs_peer, first, one, second, other):
            sock.close()


def test_a_signal_during_the_wait_is_no_error(reactor: TurnReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted wait is waited again; any other failure of it is raised."""

    class Interrupted:
        def __init__(self, code: int) -> None:
            self.code = code

        def poll(self, timeout: float, count: int) -> list[tuple[int, int]]:
            raise OSError(self.code, os.strerror(self.code))

        def close(self) -> None:
            """Nothing is held."""

    real = reactor._poller
    monkeypatch.setattr(reactor, "_poller", Interrupted(4))
    reactor.doIteration(None)
    monkeypatch.setattr(reactor, "_poller", Interrupted(9))
    with pytest.raises(OSError, match="Bad file"):
        reactor.doIteration(0)
    monkeypatch.setattr(reactor, "_poller", real)
