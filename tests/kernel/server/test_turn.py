"""The end of a turn."""

from __future__ import annotations

from quorate.kernel.server.turn import Turns
from twisted.internet.task import Clock


def test_many_requests_are_one_end() -> None:
    """However often it is asked for in a turn, the end comes once, and not before the turn is over."""
    clock, ends = Clock(), []
    turns = Turns(clock, lambda: ends.append(clock.seconds()))  # type: ignore[arg-type]
    for _ in range(3):
        turns.request()
    assert ends == []
    clock.advance(0)
    assert len(ends) == 1
    clock.advance(1)
    assert len(ends) == 1


def test_asking_from_within_the_end_is_another_turn() -> None:
    """What the end of a turn sets off gets an end of its own."""
    clock = Clock()
    left = [2]

    def end() -> None:
        if left[0]:
            left[0] -= 1
            turns.request()

    turns = Turns(clock, end)  # type: ignore[arg-type]
    turns.request()
    clock.pump([0, 0, 0, 0])
    assert left == [0]
    assert not clock.getDelayedCalls()


def test_the_longest_turn_is_known() -> None:
    """A turn counts from the first request in it until its end has done its work."""
    clock = Clock()
    turns = Turns(clock, lambda: clock.advance(0.5))  # type: ignore[arg-type]
    assert turns.longest == 0
    turns.request()
    clock.rightNow += 0.25  # others are served
    turns.request()
    clock.advance(0)
    assert turns.longest == 0.75
    turns.request()
    clock.advance(0)
    assert turns.longest == 0.75
