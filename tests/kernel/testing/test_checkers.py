"""What is watched of locks: the checks fail when they must, and not before. (What is watched of the log, the disks and
the leases, planted bugs show, each of which must be told by the check that it is for.)"""

from __future__ import annotations

import pytest
from quorate.kernel.machine import Commit, Ticket, command
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.quorum import Configuration
from quorate.kernel.testing.checkers import Watch
from quorate.kernel.testing.faults import Plan
from quorate.kernel.testing.simulation import Failed, Settings, Simulation
from quorate.kernel.testing.violation import Violation
from quorate.plugins.locks.machine import LocksMachine


class Client:
    """A client that is sure of its session for so long."""

    def __init__(self, left: float) -> None:
        self.left = left

    def lease_left(self, session: int) -> float:
        """As the test has it."""
        return self.left


def watching(*left: float) -> Watch:
    """A watch that knows sessions 1, 2, ... of clients that are sure of them for so long."""
    watch = Watch(Configuration(Slot(0), ()), tuple)
    for session, each in enumerate(left, 1):
        watch.session(session, Client(each))
    return watch


def test_a_lock_has_one_holder() -> None:
    """Of those that are sure of their sessions, whoever learns of it last."""
    watch = watching(1.0, 1.0, 0.0)
    watch.acquired("l", 5, 1)
    watch.acquired("l", 7, 3)
    watch.acquired("other", 8, 2)
    with pytest.raises(Violation, match=r"one holder: lock 'l' is held by the sessions \['1', '2'\]"):
        watch.acquired("l", 9, 2)


def test_who_released_holds_nothing() -> None:
    """Nor whose session may be over; until it is sure again."""
    watch = watching(1.0, 1.0)
    watch.acquired("l", 5, 1)
    watch.released("l", 1)
    watch.acquired("l", 6, 2)
    watch = watching(0.0, 1.0)
    watch.acquired("l", 5, 1)
    watch.acquired("l", 6, 2)
    watch.session(3, Client(1.0))
    watch.released("l", 2)
    watch.acquired("l", 7, 3)
    watch._locks["l"][1].left = 1.0  # type: ignore[attr-defined]
    with pytest.raises(Violation, match="one holder"):
        watch.check_holders()


def test_tokens_grow() -> None:
    """For who is sure; another may learn of its own late."""
    watch = watching(1.0, 0.0)
    watch.acquired("l", 5, 1)
    watch.released("l", 1)
    watch.acquired("l", 4, 2)
    watch.released("l", 2)
    with pytest.raises(Violation, match="tokens: lock 'l' is held under 5"):
        watch.acquired("l", 5, 1)


class Unsound(LocksMachine):
    """Locks with a mistake in what is asked of them, or in what they say."""

    def asked(self, exclusive: list[str], shared: list[str]) -> tuple[list[str], list[str]]:
        return exclusive, shared

    def said(self, token: int) -> int:
        return token

    @command
    def acquire(
        self,
        commit: Commit,
        label: int,
        exclusive: list[str],
        shared: list[str],
        wait: int | None,
        delay: int,
        who: str,
    ) -> int | str | Ticket:
        reply = super().acquire(commit, label, *self.asked(exclusive, shared), wait, delay, who)
        return self.said(reply) if type(reply) is int else reply


class Many(Unsound):
    """Locks that as many may hold as like."""

    def asked(self, exclusive: list[str], shared: list[str]) -> tuple[list[str], list[str]]:
        return [], exclusive


class Round(Unsound):
    """Locks whose tokens come round again."""

    def said(self, token: int) -> int:
        return token % 16 + 1


@pytest.mark.parametrize(("machine", "promise"), [(Many, "one holder"), (Round, "tokens")])
def test_a_simulation_tells(machine: type[LocksMachine], promise: str) -> None:
    """A run of a sound cell with such locks fails, by that promise."""
    settings = Settings(1, Plan(()), clients=4, operations=400, pause=0.1, keys=1, faulty=1.0)
    with pytest.raises(Failed) as caught:
        Simulation(settings, {"locks": machine}).run()
    assert caught.value.promise == promise
