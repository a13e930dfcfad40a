"""The door to Twisted, turn by turn on a clock that the test moves."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from quorate.kernel.client.door import Promise
from quorate.kernel.client.twisted import TwistedDoor
from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock


class Wire:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connected(self) -> None:
        self.told.append("connected")

    def received(self, content: bytes) -> None:
        self.told.append("received")

    def disconnected(self, reason: str) -> None:
        self.told.append(reason)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def door(clock: Clock) -> TwistedDoor:
    return TwistedDoor(clock, clock=clock.seconds)


def test_callbacks_come_in_a_later_turn_in_order(door: TwistedDoor, clock: Clock) -> None:
    """``soon`` never calls back at once, keeps the order, and one failing callback does not stop the others."""
    called: list[int] = []
    door.soon(lambda: called.append(1))
    door.soon(lambda: [][0])
    door.soon(lambda: door.soon(lambda: called.append(3)))
    door.soon(lambda: called.append(2))
    assert called == []
    clock.advance(0)
    assert called == [1, 2, 3]


def test_a_settled_promise_resumes_in_a_later_turn(door: TwistedDoor, clock: Clock) -> None:
    """Whoever awaits a promise goes on in a later turn than the one that settled it."""
    promise: Promise[int] = Promise(door)
    order: list[object] = []

    async def wait() -> None:
        order.append(await promise)

    door.spawn(wait())
    promise.succeed(7)
    order.append("settled")
    clock.advance(0)
    assert order == ["settled", 7]


def test_cancelled_where_it_awaits(door: TwistedDoor, clock: Clock) -> None:
    """A cancelled task gets ``cancelled`` where it awaits; settling the promise later does no harm."""
    promise: Promise[int] = Promise(door)
    caught: list[BaseException] = []

    async def wait() -> None:
        try:
            await promise
        except door.cancelled as error:
            caught.append(error)
            raise

    task: Any = door.spawn(wait())
    task.addErrback(lambda failure: failure.trap(CancelledError))
    task.cancel()
    promise.succeed(7)
    clock.advance(0)
    assert len(caught) == 1


def test_alarms(door: TwistedDoor, clock: Clock) -> None:
    """An alarm rings once at its time and may be cancelled before and after."""
    rung: list[float] = []
    alarm = door.later(2, lambda: rung.append(door.now()))
    door.later(1, lambda: rung.append(-1)).cancel()
    clock.advance(2)
    alarm.cancel()
    assert rung == [2]


def test_an_endpoint_that_makes_no_sense(door: TwistedDoor, clock: Clock) -> None:
    """It is told to the wire, later, and not at all after the line was dropped."""
    wire, dropped = Wire(), Wire()
    door.dial("nonsense:1", wire)
    door.dial("nonsense:1", dropped).drop()
    assert wire.told == []
    clock.advance(0)
    assert len(wire.told) == 1
    assert "nonsense" in wire.told[0]
    assert dropped.told == []


def test_no_reactor_is_imported_with_the_module() -> None:
    """Importing the door installs no reactor; only ``connect`` without one does."""
    words = "import sys, quorate.kernel.client.twisted; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == 0
