"""One machine by itself: everything a unit test of a machine needs."""

from __future__ import annotations

import pytest
from quorate.kernel.machine import Commit, Refusal, SessionId, StateMachine, Ticket, command, query
from quorate.kernel.testing.alone import Alone, Halted


class Bell(StateMachine):
    """Rings for who waits, now or later."""

    name = "bell"

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.rings = 0
        self.gone: list[bool] = []

    @command
    def wait(self, commit: Commit) -> Ticket:
        ticket = commit.park()
        self.waiting.append(ticket)
        return ticket

    @command
    def ring(self, commit: Commit, after: int = 0) -> int:
        if after < 0:
            raise Refusal("past", "not backwards")
        if after:
            commit.set_timer("ring", commit.time + after)
        else:
            self._ring(commit)
        return self.rings

    @command
    def shout(self, commit: Commit, words: str) -> None:
        commit.publish(commit.session, words)

    @command
    def crack(self, commit: Commit) -> None:
        raise KeyError("cracked")

    @query
    def count(self) -> int:
        return self.rings

    def timer_fired(self, commit: Commit, key: str) -> None:
        self._ring(commit)

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        self.gone.append(expired)

    def _ring(self, commit: Commit) -> None:
        self.rings += 1
        for ticket in self.waiting:
            commit.resolve(Ticket(ticket), self.rings)
        self.waiting.clear()


def test_commands_queries_and_refusals() -> None:
    """Results are values, a refusal is raised as it was, arguments are checked."""
    alone = Alone(Bell)
    assert alone.call("ring") == 1
    assert alone.query("count") == 1
    with pytest.raises(Refusal, match="not backwards"):
        alone.call("ring", after=-1)
    with pytest.raises(Refusal, match="bad-arguments"):
        alone.call("ring", after="soon")
    with pytest.raises(Refusal, match="unknown-command"):
        alone.call("toll")
    assert isinstance(alone.machine, Bell)
    assert alone.machine.rings == 1


def test_sessions_waits_and_events() -> None:
    """A session waits, is told, and leaves."""
    alone = Alone(Bell)
    session = alone.session()
    ticket = alone.call("wait", session=session)
    assert alone.resolved == {}
    alone.call("ring")
    assert alone.resolved == {ticket: 1}
    alone.call("shout", "hello", session=session)
    assert alone.events[session] == ["hello"]
    alone.close(session)
    alone.close(alone.session(), expired=True)
    assert isinstance(alone.machine, Bell)
    assert alone.machine.gone == [False, True]


def test_timers_fire_at_their_time() -> None:
    """Time passes by advance only; every timer fires, each at its own time."""
    alone = Alone(Bell)
    alone.call("ring", after=500)
    alone.advance(499)
    assert alone.query("count") == 0
    alone.advance(1)
    assert alone.query("count") == 1


def test_a_restart_keeps_everything() -> None:
    """After a snapshot and a restore the machine is another instance in the same state, its timers included."""
    alone = Alone(Bell)
    session = alone.session()
    ticket = alone.call("wait", session=session)
    alone.call("ring", after=100)
    before = alone.machine
    alone.restart()
    assert alone.machine is not before
    alone.advance(100)
    assert alone.resolved == {ticket: 1}
    assert alone.call("ring", session=session) == 2


def test_a_failure_is_raised_with_its_place() -> None:
    """What would halt the machine in a cell is an error here."""
    with pytest.raises(Halted, match="KeyError: 'cracked'"):
        Alone(Bell).call("crack")
