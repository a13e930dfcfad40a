"""The clients' share of a turn."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from quorate.kernel.server import shares
from quorate.kernel.server.shares import Shares
from quorate.kernel.server.turn import Turns
from twisted.internet.task import Clock


class Asking:
    """Says whose turn it was; may fail then."""

    def __init__(self, name: str, took: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.took = took
        self.fails = fails

    def take_up(self) -> None:
        self.took.append(self.name)
        if self.fails:
            raise OSError("no room to read on")


def test_one_that_fails_holds_up_none_of_the_others() -> None:
    """Nobody else would have told them to go on."""
    clock = Clock()
    turns = Turns(clock, lambda: None)  # type: ignore[arg-type]
    asking = Shares(clock, turns)  # type: ignore[arg-type]
    took: list[str] = []
    turns.request()
    clock.rightNow += shares.SHARE_SECONDS
    for each in (Asking("first", took, fails=True), Asking("second", took), Asking("third", took)):
        assert not asking.has(each)
    with pytest.raises(OSError, match="no room"):
        clock.advance(0)
    clock.advance(0)
    assert took == ["first", "second", "third"]


def later(clock: Clock) -> None:
    """Have done what was put off to the next turn, and not what that puts off."""
    calls, clock.calls = clock.calls, []
    for call in calls:
        call.func()


def test_who_was_put_off_is_not_forgotten_for_those_who_come() -> None:
    """However long the turns are for all else that is done in them, and whoever asks meanwhile: all get their share,
    one after the other."""
    clock = Clock()
    began = 0.0
    asking = Shares(clock, SimpleNamespace(elapsed=lambda: clock.seconds() - began))  # type: ignore[arg-type]
    answered: list[int] = []

    class Client:
        def __init__(self, number: int) -> None:
            self.number = number

        def take_up(self) -> None:
            if asking.has(self):
                answered.append(self.number)
                clock.rightNow += 2 * shares.SHARE_SECONDS

    clients = [Client(number) for number in range(12)]
    for turn in range(12):
        began = clock.seconds()
        clock.rightNow += 2 * shares.SHARE_SECONDS  # peers, and clients who write
        for client in clients[2 * turn : 2 * turn + 2]:
            client.take_up()
        later(clock)
    assert answered == list(range(12))


def test_an_answer_that_takes_all_of_a_share_is_given() -> None:
    """Who has waited gets one answer in its turn, however short a share is, and then waits behind the others."""
    clock = Clock()
    asking = Shares(clock, SimpleNamespace(elapsed=lambda: shares.SHARE_SECONDS))  # type: ignore[arg-type]
    answered: list[str] = []

    class Client:
        def __init__(self, name: str) -> None:
            self.name = name

        def take_up(self) -> None:
            while len(answered) < 4 and asking.has(self):
                answered.append(self.name)
                clock.rightNow += 2 * shares.SHARE_SECONDS

    for name in "ab":
        Client(name).take_up()
    for _ in range(4):
        later(clock)
    assert "".join(answered) == "abab"
