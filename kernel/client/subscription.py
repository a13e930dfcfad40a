"""A machine's events as something to iterate over.

This module knows promises and events; it knows nothing of sessions and connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Self

from ..machine import Plain
from .door import Door, Promise
from .errors import SessionClosed, SlowConsumer
from .outputs import Gap

BUFFERED_MAX: Final = 4096
"""Events that a subscription keeps for a slow consumer before it is cut."""


class Subscription:
    """One machine's events for this session, from now on: iterate over it with ``async for``.

    An item is what the machine published, or a :class:`Gap`: the cell had to drop events; look at the machine's state
    anew. The iteration ends when the session is closed or :meth:`stop` is called. It raises SessionExpired when the
    session is lost, and SlowConsumer when more than :data:`BUFFERED_MAX` items waited.
    """

    def __init__(self, door: Door) -> None:
        self.on_end: Callable[[], object] = lambda: None
        self._door = door
        self._items: deque[Plain | Gap] = deque()
        self._fresh: Promise[None] = Promise(door)
        self._error: Exception | None = None

    def stop(self) -> None:
        """No more items; a coroutine that waits for one is released."""
        self.finish(StopAsyncIteration())
        self._items.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Plain | Gap:
        while not self._items:
            if self._error is not None:
                raise self._error
            await self._fresh
            self._fresh = self._fresh if self._error is not None else Promise(self._door)
        return self._items.popleft()

    def take(self, item: Plain | Gap) -> None:
        """The next item."""
        if len(self._items) >= BUFFERED_MAX:
            self.finish(SlowConsumer(f"{BUFFERED_MAX} events waited; the rest is not delivered"))
            return
        self._items.append(item)
        self._fresh.succeed(None)

    def finish(self, error: Exception) -> None:
        """Nothing more comes; `error` is raised after what waits was consumed."""
        if self._error is None:
            self._error = StopAsyncIteration() if isinstance(error, SessionClosed) else error
            self.on_end()
        self._fresh.succeed(None)
