"""The end of a reactor turn: the moment at which everything that arrived in it leaves together.

While the reactor hands out what its descriptors hold, the parts of a replica only gather: commands from clients,
messages from peers, finished disk writes. Whoever gathered something asks for the end of the turn; it comes once, after
every descriptor that was ready has been served and before the reactor waits again.

While a turn lasts nobody else is served: :attr:`Turns.longest` is what it cost at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


class Turns:
    """Calls `flush` once at the end of each turn in which :meth:`request` was called.

    Attributes:
        longest: seconds from the first request of a turn to the end of what `flush` did, at most so far.
    """

    __slots__ = ("_began", "_flush", "_reactor", "longest", "requested")

    def __init__(self, reactor: IReactorTime, flush: Callable[[], None]) -> None:
        self._reactor = reactor
        self._flush = flush
        self.requested = False
        self.longest = 0.0
        self._began = 0.0

    def request(self) -> None:
        """Have the end of this turn called. Asking twice is asking once."""
        if not self.requested:
            self.requested = True
            self._began = self._reactor.seconds()
            self._reactor.callLater(0, self._end)

    def _end(self) -> None:
        self.requested = False
        began = self._began
        self._flush()
        lasted = self._reactor.seconds() - began
        if lasted > self.longest:
            self.longest = lasted
