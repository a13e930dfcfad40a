"""Reads that wait: first for a linearizable index, then for the machines to reach it.

The consensus core answers the first wait (:meth:`.paxos.replica.Replica.read`); applying the log ends the second.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from .paxos.ballot import Slot


class Barriers:
    """The waiting reads of one replica."""

    def __init__(self) -> None:
        self._asked: dict[int, Callable[[bool], None]] = {}
        self._placed: list[tuple[Slot, int, Callable[[bool], None]]] = []
        self._last = 0

    def ask(self, ready: Callable[[bool], None]) -> int:
        """Begin a wait; the context under which to ask for its index."""
        self._last += 1
        self._asked[self._last] = ready
        return self._last

    def granted(self, context: int, index: Slot | None, applied: Slot) -> None:
        """The index of a wait is known; None: it could not be had."""
        ready = self._asked.pop(context, None)
        if ready is None:
            return
        if index is None:
            ready(False)
        elif index <= applied:
            ready(True)
        else:
            heappush(self._placed, (index, context, ready))

    def reached(self, applied: Slot) -> None:
        """The machines hold everything up to `applied`."""
        while self._placed and self._placed[0][0] <= applied:
            heappop(self._placed)[2](True)
