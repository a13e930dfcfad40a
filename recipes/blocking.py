"""The recipes for threads: the same names, as plain functions and ``with``.

::

    with blocking.connect(["tcp:127.0.0.1:7420"]) as session:
        with Lock(session, "/jobs/42") as held:
            write(..., fence=held.token)

Every call is carried out by the session's background thread, where the recipes of :mod:`.lock` and its neighbors run
as they are. Objects here may be shared by threads; each ``with`` belongs to its own thread.
"""

from __future__ import annotations

import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

from ..kernel.client.blocking import BlockingSession, connect
from ..kernel.client.door import T
from ..kernel.wire.native import Consistency
from ..plugins.counters.client import Swap
from ..plugins.locks.client import Contender
from . import counter as counter_recipe
from . import lock as lock_recipe
from . import rwlock as rwlock_recipe
from .held import Held as AsyncHeld
from .held import InJeopardy, LockLost, LockTimeout, Released

__all__ = [
    "Counter",
    "Held",
    "InJeopardy",
    "Lock",
    "LockLost",
    "LockTimeout",
    "ReadWriteLock",
    "Released",
    "Side",
    "connect",
]


class Held:
    """A grant; see :class:`quorate.recipes.held.Held`."""

    def __init__(self, session: BlockingSession, inner: AsyncHeld) -> None:
        self.token = inner.token
        self._session = session
        self._inner = inner
        self._lost: threading.Event | None = None

    def remaining(self) -> float:
        """For how many seconds the grant surely holds; 0 in jeopardy, when lost and when released."""
        return self._inner.remaining()

    def check(self) -> None:
        """Return if the grant surely holds; otherwise raise LockLost or InJeopardy."""
        self._inner.check()

    def wait_lost(self, timeout: float | None = None) -> LockLost | None:
        """Wait until the grant is lost; the reason, or None if it was not within `timeout` seconds."""
        if self._lost is None:
            lost = threading.Event()

            async def tell() -> None:
                self._inner.lost.then(lost.set)

            self._session.background.run(tell())
            self._lost = lost
        return self._inner.lost.result() if self._lost.wait(timeout) else None

    def release(self) -> Released:
        """Give it back, any number of times."""
        return self._session.background.run(self._inner.release())


class Side:
    """Something that can be acquired; see :class:`quorate.recipes.lock.Claimed`."""

    def __init__(self, session: BlockingSession, inner: lock_recipe.Claimed) -> None:
        self._session = session
        self._inner = inner
        self._entered = threading.local()

    def acquire(self, timeout: float | None = None) -> Held:
        """Wait in the queue, at most `timeout` seconds. Raises LockTimeout."""
        return Held(self._session, self._session.background.run(self._inner.acquire(timeout=timeout)))

    def __enter__(self) -> Held:
        held = self.acquire()
        self._entered.stack = [*getattr(self._entered, "stack", []), held]
        return held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held: Held = self._entered.stack.pop()
        held.release()


class Lock(Side):
    """An exclusive lock on one name; see :class:`quorate.recipes.lock.Lock`."""

    def __init__(self, session: BlockingSession, name: str, *, delay: float = 0.0, who: str = "") -> None:
        self._lock = lock_recipe.Lock(session.inner, name, delay=delay, who=who)
        super().__init__(session, self._lock)
        self.name = name

    def contenders(self, consistency: Consistency = Consistency.LEASE) -> list[Contender]:
        """Who holds it and who waits, in order."""
        return self._session.background.run(self._lock.contenders(consistency))

    def break_(self, reason: str) -> int:
        """As an operator, end whatever holds it; how many grants that were."""
        return self._session.background.run(self._lock.break_(reason))


class ReadWriteLock:
    """Two sides of one name; see :class:`quorate.recipes.rwlock.ReadWriteLock`."""

    def __init__(self, session: BlockingSession, name: str, *, delay: float = 0.0, who: str = "") -> None:
        self.name = name
        inner = rwlock_recipe.ReadWriteLock(session.inner, name, delay=delay, who=who)
        self.read = Side(session, inner.read)
        self.write = Side(session, inner.write)


class Counter:
    """A counter; see :class:`quorate.recipes.counter.Counter`."""

    def __init__(self, session: BlockingSession, name: str) -> None:
        self.name = name
        self._session = session
        self._inner = counter_recipe.Counter(session.inner, name)

    def value(self, consistency: Consistency = Consistency.LEASE) -> int:
        """The value now."""
        return self._run(self._inner.value(consistency))

    def add(self, by: int = 1) -> int:
        """Add `by`, exactly once; the new value."""
        return self._run(self._inner.add(by))

    def compare_and_set(self, expected: int, value: int) -> Swap:
        """Set to `value` if it is `expected` now."""
        return self._run(self._inner.compare_and_set(expected, value))

    def delete(self) -> int:
        """Forget it; the value it had."""
        return self._run(self._inner.delete())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._session.background.run(work)
