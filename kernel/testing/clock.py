"""Simulated time: one ordered schedule of everything that will happen, and the clocks that members read.

There is one true time, in microseconds from 0; nobody in the cell can see it. Each member reads a clock of its own,
with an origin and a rate of its own, as monotonic clocks of different machines have. Events of the same moment happen
in the order in which they were put down, so that a run is a function of its seed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final

SECOND: Final = 1_000_000
MILLISECOND: Final = 1_000

Action = Callable[[], None]


class Event:
    """Something that will happen, unless it is canceled."""

    __slots__ = ("action", "order", "time")

    def __init__(self, time: int, order: int, action: Action) -> None:
        self.time = time
        self.order = order
        self.action: Action | None = action

    def cancel(self) -> None:
        """It will not happen. Nothing if it has happened."""
        self.action = None


class Schedule:
    """What will happen, in order of time."""

    def __init__(self) -> None:
        self.now = 0
        """True time in microseconds."""
        self.happened = 0
        """How many events have happened."""
        self._order = 0
        self._heap: list[tuple[int, int, Event]] = []

    def at(self, time: int, action: Action) -> Event:
        """Have `action` called at true time `time`, or now if that is past."""
        if time < self.now:
            time = self.now
        self._order += 1
        event = Event(time, self._order, action)
        heappush(self._heap, (time, self._order, event))
        return event

    def after(self, delay: int, action: Action) -> Event:
        """Have `action` called `delay` microseconds from now."""
        return self.at(self.now + delay, action)

    def step(self) -> bool:
        """Let the next event happen; False if there is none."""
        heap = self._heap
        while heap:
            time, _, event = heappop(heap)
            action = event.action
            if action is not None:
                self.now = time
                self.happened += 1
                event.action = None
                action()
                return True
        return False

    def run_until(self, time: int) -> None:
        """Let happen everything that is due up to and including `time`; it is `time` then."""
        heap = self._heap
        while heap and heap[0][0] <= time:
            when, _, event = heappop(heap)
            action = event.action
            if action is not None:
                self.now = when
                self.happened += 1
                event.action = None
                action()
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
        return self.origin + true * self._rate // 1_000_000

    def when(self, shown: int) -> int:
        """The first true time at which it shows `shown` or more."""
        return -(-(shown - self.origin) * 1_000_000 // self._rate)
