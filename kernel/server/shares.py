"""A bounded share of each turn for the clients' questions; then it is the others' turn: peers, heartbeats, the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from .turn import Turns

SHARE_SECONDS: Final = 0.01
"""For so long clients are given answers in one turn, and for so long again those who were put off before."""


class Asking(Protocol):
    """Who wants answers."""

    def take_up(self) -> None:
        """Go on with what waits; called in a later turn."""


class Shares:
    """Who is put off waits behind those who were before, and has then all of a share if it needs it. That share does
    not depend on what else the turn brings: put off again and again, a client would not even be heard to be alive."""

    def __init__(self, reactor: IReactorTime, turns: Turns) -> None:
        self._reactor = reactor
        self._turns = turns
        self._postponed: dict[Asking, None] = {}
        self._resuming: IDelayedCall | None = None
        self._going_on: Asking | None = None
        """Whose turn it is of those who were put off."""
        self._since = 0.0
        self._owed = False
        """None of them has been given an answer in this turn."""

    def has(self, asking: Asking) -> bool:
        """Whether `asking` may be answered in this turn; if not, it is told to go on in one of the next ones."""
        if asking is self._going_on:
            if self._left():
                self._owed = False
                return True
        elif self._turns.elapsed() < SHARE_SECONDS:
            return True
        self._postponed[asking] = None
        self._go_on_later()
        return False

    def forget(self, asking: Asking) -> None:
        """It wants nothing any more."""
        self._postponed.pop(asking, None)

    def stop(self) -> None:
        """Nobody is told any more."""
        if self._resuming is not None:
            self._resuming.cancel()
            self._resuming = None

    def _go_on_later(self) -> None:
        if self._resuming is None:
            self._resuming = self._reactor.callLater(0, self._resume)

    def _left(self) -> bool:
        """Whether anything is left of the share of those who were put off."""
        return self._owed or self._reactor.seconds() - self._since < SHARE_SECONDS

    def _resume(self) -> None:
        """Let those who were put off go on, one after the other, as far as a share reaches."""
        self._resuming = None
        self._since = self._reactor.seconds()
        self._owed = True
        try:
            while self._postponed and self._left():
                self._going_on = asking = next(iter(self._postponed))
                del self._postponed[asking]
                asking.take_up()
        finally:  # one that fails is no reason to forget the others
            self._going_on = None
            if self._postponed:
                self._go_on_later()
