"""The clients' share of a turn."""

from __future__ import annotations

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
