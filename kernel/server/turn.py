"""The end of a reactor turn: the moment at which everything that arrived in it leaves together.

While the reactor hands out what its descriptors hold, the parts of a replica only gather: commands from clients,
messages from peers, finished disk writes. Whoever gathered something asks for the end of the turn; it comes once, after
every descriptor that was ready has been served and before the reactor waits again.

While a turn lasts nobody else is served: :attr:`Turns.longest` is what it cost at worst.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime


@runtime_checkable
class EndsTurns(Protocol):
    """A reactor that knows the end of its turns, as :mod:`.reactor` has one."""

    def end_of_turn(self, call: Callable[[], None], early: bool) -> None:
        """Call `call` once, at the end of the present turn; `early`: before those that are not."""


class Turns:
    """Calls `flush` once at the end of each turn in which :meth:`request` was called; `early`: before those that are
    not.

    Attributes:
        longest: seconds from the first request of a turn to the end of what `flush` did, at most so far.
    """

    __slots__ = ("_ask", "_began", "_flush", "_reactor", "longest", "requested")

    def __init__(self, reactor: IReactorTime, flush: Callable[[], None], *, early: bool = False) -> None:
        self._reactor = reactor
        self._ask: Callable[[], Any]
        if isinstance(reactor, EndsTurns):
            self._ask = partial(reactor.end_of_turn, self._end, early)
        else:
            self._ask = partial(reactor.callLater, 0, self._end)
        self._flush = flush
        self.requested = False
        self.longest = 0.0
        self._began = 0.0

    def request(self) -> None:
        """Have the end of this turn called. Asking twice is asking once."""
        if not self.requested:
            self.requested = True
            self._began = self._reactor.seconds()
            self._ask()

    def elapsed(self) -> float:
        """Seconds since something was first gathered in this turn; 0 if nothing was yet."""
        return self._reactor.seconds() - self._began if self.requested else 0.0

    def _end(self) -> None:
        self.requested = False
        began = self._began
        self._flush()
        lasted = self._reactor.seconds() - began
        if lasted > self.longest:
            self.longest = lasted
