"""Simulated time: one ordered schedule of everything that will happen, and the clocks that members read.

There is one true time, in microseconds from 0; nobody in the cell can see it. Each member reads a clock of its own,
with an origin and a rate of its own, as monotonic clocks of different machines have. Events of the same moment happen
in the order in which they were put down, so that a run is a function of its seed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

SECOND: Final = 1_000_000
MILLISECOND: Final = 1_000

Action = Callable[..., object]


class Schedule:
    """What will happen, in order of time."""

    def __init__(self) -> None:
        self.now = 0
        """True time in microseconds."""
        self._order = 0  # how many events were ever put down
        self._heap: list[tuple[int, int, Action, tuple[Any, ...]]] = []

    @property
    def happened(self) -> int:
        """How many events have happened."""
        return self._order - len(self._heap)

    def at(self, time: int, action: Action, *args: Any) -> None:
        """Have `action(*args)` called at true time `time`, or now if that is past."""
        self._order = order = self._order + 1
        heappush(self._heap, (time if time > self.now else self.now, order, action, args))

    def after(self, delay: int, action: Action, *args: Any) -> None:
        """Have `action(*args)` called `delay` microseconds from now."""
        self._order = order = self._order + 1
        heappush(self._heap, (self.now + delay if delay > 0 else self.now, order, action, args))

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        if not self._heap:
            return False
        self.now, _, action, args = heappop(self._heap)
        action(*args)
        return True

    def run_until(self, time: int) -> None:
        """Let happen everything that is due up to and including `time`; it is `time` then."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            self.now, _, action, args = heappop(heap)
            action(*args)
        self.now = time


class Clock:
    """One machine's monotonic clock: `origin` microseconds at true time 0, gaining `drift_ppm` microseconds a
    second."""

    __slots__ = ("_rate", "origin")

    def __init__(self, origin: int = 0, drift_ppm: int = 0) -> None:
        self.origin = origin
        self._rate = 1_000_000 + drift_ppm

    def read(self, true: int) -> int:
        """What it shows at true time `true`."""
        if self._rate == 1_000_000:
            return self.origin + true
        return self.origin + true * self._rate // 1_000_000

    def when(self, shown: int) -> int:
        """The first true time at which it shows `shown` or more."""
        if self._rate == 1_000_000:
            return shown - self.origin
        return -(-(shown - self.origin) * 1_000_000 // self._rate)
