"""A bounded share of each turn for the clients' questions; then it is the others' turn: peers, heartbeats, the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

    from .turn import Turns

SHARE_SECONDS: Final = 0.01
"""For so long clients are given answers in one turn."""


class Asking(Protocol):
    """Who wants answers."""

    def take_up(self) -> None:
        """Go on with what waits; called in a later turn."""


class Shares:
    """Who is put off waits behind those who were before, and has then all of a share if it needs it."""

    def __init__(self, reactor: IReactorTime, turns: Turns) -> None:
        self._reactor = reactor
        self._turns = turns
        self._postponed: dict[Asking, None] = {}
        self._resuming: IDelayedCall | None = None

    def has(self, asking: Asking) -> bool:
        """Whether `asking` may be answered in this turn; if not, it is told to go on in one of the next ones."""
        if self._turns.elapsed() < SHARE_SECONDS:
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

    def _resume(self) -> None:
        """Let those who were put off go on, one after the other, as far as a share reaches."""
        self._resuming = None
        try:
            while self._postponed and self._turns.elapsed() < SHARE_SECONDS:
                asking = next(iter(self._postponed))
                del self._postponed[asking]
                asking.take_up()
        finally:  # one that fails is no reason to forget the others
            if self._postponed:
                self._go_on_later()
