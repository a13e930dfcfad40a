"""What a session and the recipes need from whatever runs them: the :class:`Door`, and what is built on it alone.

There are two doors to run coroutines, :mod:`.aio` and :mod:`.twisted`; :mod:`.blocking` keeps one of them in a
thread. Recipes are written once, as ``async def``, against this interface.

Two rules every door keeps: a callback or a resumed coroutine runs in a later turn, never inside the call that caused
it; and ``now`` counts seconds of a clock that never goes back and that goes on while the computer sleeps, because
leases do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def lease_clock() -> float:
    """Seconds of a clock fit for leases: monotonic, and not stopped by a suspended computer where the system has such
    a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Alarm(Protocol):
    """A callback to come."""

    def cancel(self) -> None:
        """Do not call back; nothing happens if it did."""


class Slot(Protocol):
    """Something to await once."""

    def set(self) -> None:
        """Resume the awaiting coroutine in a later turn."""

    def __await__(self) -> Generator[Any, Any, None]: ...


class Task(Protocol[T_co]):
    """A coroutine that runs by itself. Await it, once, for its result or its exception."""

    def cancel(self) -> object:
        """Raise the door's ``cancelled`` in it where it awaits."""

    def __await__(self) -> Generator[Any, Any, T_co]: ...


class Wire(Protocol):
    """Who is told of a connection."""

    def connected(self) -> None: ...

    def received(self, content: bytes) -> None: ...

    def disconnected(self, reason: str) -> None:
        """It broke or could not be opened. Nothing more comes."""


class Line(Protocol):
    """A connection, or the attempt at one."""

    def write(self, content: bytes) -> None: ...

    def drop(self) -> None:
        """Close it, after what was written went out; the wire is told nothing more."""


class Door(Protocol):
    """An event loop, as far as it is needed here. All of it belongs to the loop's thread, ``now`` excepted."""

    cancelled: type[BaseException]
    """What is raised in a cancelled coroutine."""

    def now(self) -> float: ...

    def soon(self, callback: Callable[[], object]) -> None:
        """Call back in a later turn, in the order asked."""

    def later(self, seconds: float, callback: Callable[[], object]) -> Alarm: ...

    def slot(self) -> Slot: ...

    def spawn(self, work: Coroutine[Any, Any, T]) -> Task[T]: ...

    def dial(self, endpoint: str, wire: Wire) -> Line:
        """Open a connection. What goes wrong, an endpoint that makes no sense included, is told to the wire."""


class Promise(Generic[T]):
    """A value or an exception that comes once. Any number of coroutines may await it, before and after."""

    __slots__ = ("_callbacks", "_door", "_error", "_slots", "_value", "settled")

    def __init__(self, door: Door) -> None:
        self.settled = False
        self._door = door
        self._value: T | None = None
        self._error: Exception | None = None
        self._slots: list[Slot] = []
        self._callbacks: list[Callable[[], object]] = []

    def succeed(self, value: T) -> None:
        """It is this value, unless it is settled already."""
        if not self.settled:
            self._value = value
            self._settle()

    def fail(self, error: Exception) -> None:
        """It is this exception, unless it is settled already."""
        if not self.settled:
            self._error = error
            self._settle()

    def then(self, callback: Callable[[], object]) -> None:
        """Call back in a later turn once it is settled."""
        if self.settled:
            self._door.soon(callback)
        else:
            self._callbacks.append(callback)

    def result(self) -> T:
        """The value, or the exception raised. Only when settled."""
        assert self.settled
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Any, Any, T]:
        if not self.settled:
            slot = self._door.slot()
            self._slots.append(slot)
            try:
                yield from slot.__await__()
            finally:
                if slot in self._slots:
                    self._slots.remove(slot)
        return self.result()

    def _settle(self) -> None:
        self.settled = True
        slots, self._slots = self._slots, []
        for slot in slots:
            slot.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._door.soon(callback)
