"""The reactor that replicas run on: Twisted's own for epoll, with an end of each turn.

Whoever gathers what arrives in a turn wants to be called once after everything that was ready has been served and
before the reactor waits again. With ``callLater(0)`` that costs a timer, a second round of the main loop and another
question to the kernel, each time; here it is a list that is emptied at the right moment. And events go straight to
their descriptors, without the logging context that Twisted puts around each. Together that is a fifth of what a lone
request costs a replica.

Only :class:`.turn.Turns` asks for the end of a turn; under any other reactor it makes do with ``callLater``.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from select import EPOLLIN, EPOLLOUT
from typing import Any, Final

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

_CHAIN: Final = 16
"""Ends that are called in one turn, those that ends ask for included, before descriptors have their say again."""

_EVENTS: Final = 256
"""Descriptors that are served in one turn, so that thousands of clients that come, speak or leave at once do not hold
up an election. Those that were ready as well are served in the next turns; the kernel begins with them then."""


class TurnReactor(EPollReactor):
    """An epoll reactor whose turns have an end. See :class:`.turn.EndsTurns`."""

    _log = Logger()

    def __init__(self) -> None:
        self._early: deque[Callable[[], None]] = deque()
        self._late: deque[Callable[[], None]] = deque()
        super().__init__()  # type: ignore[no-untyped-call]

    def end_of_turn(self, call: Callable[[], None], early: bool) -> None:
        (self._early if early else self._late).append(call)

    # ---------------------------------------------------------------- what Twisted's main loop calls

    def runUntilCurrent(self) -> None:
        super().runUntilCurrent()
        early, late = self._early, self._late
        for _ in range(_CHAIN):
            if early:
                end = early.popleft()
            elif late:
                end = late.popleft()
            else:
                return
            try:
                end()
            except Exception:
                self._log.failure("at the end of a turn")

    def timeout(self) -> float | None:
        return 0 if self._early or self._late else super().timeout()

    def doPoll(self, timeout: float | None) -> None:
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, min(len(self._selectables), _EVENTS))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        selectables: dict[int, Any] = self._selectables
        reads, writes = self._reads, self._writes
        serve = self._doReadOrWrite
        for descriptor, event in events:
            # A descriptor may have been closed since the question, and its number be somebody else's by now.
            if event & EPOLLIN and descriptor not in reads:
                event &= ~EPOLLIN
            if event & EPOLLOUT and descriptor not in writes:
                event &= ~EPOLLOUT
            selectable = selectables.get(descriptor)
            if event and selectable is not None:
                serve(selectable, descriptor, event)  # type: ignore[no-untyped-call]

    doIteration = doPoll


def install() -> TurnReactor:
    """Make a :class:`TurnReactor` the reactor of this process; nothing may have imported another before."""
    reactor = TurnReactor()
    installReactor(reactor)  # type: ignore[no-untyped-call]
    return reactor
