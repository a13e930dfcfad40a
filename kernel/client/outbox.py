"""Commands on their way to the cell: numbered when they are first sent, sent in order, kept until they are answered.

Numbers are 1, 2, 3... without gaps. `acknowledged` is the number up to which every answer is in; the cell forgets
those replies. No command is sent whose number is more than the window above it, which bounds what the cell must
remember for this session.

This module knows no frames and no time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from .outputs import Call


class Outbox:
    """Waiting commands, and those in flight."""

    def __init__(self, window: int) -> None:
        self.window = window
        self._queue: deque[Call] = deque()
        self._flight: dict[int, Call] = {}
        self._last = 0

    @property
    def acknowledged(self) -> int:
        """Answers to all numbers up to this one are in."""
        return next(iter(self._flight), self._last + 1) - 1

    @property
    def queued(self) -> int:
        """How many were never sent."""
        return len(self._queue)

    @property
    def in_flight(self) -> int:
        """How many were sent and not answered."""
        return len(self._flight)

    def add(self, call: Call) -> None:
        """A new command, behind all others."""
        self._queue.append(call)

    def first_sends(self) -> Iterator[Call]:
        """What may go out now for the first time, numbered."""
        while self._queue and self._last - self.acknowledged < self.window:
            call = self._queue.popleft()
            self._last += 1
            call.number = self._last
            self._flight[call.number] = call
            yield call

    def again(self) -> list[Call]:
        """What went out over an earlier connection and was not answered, in order."""
        return list(self._flight.values())

    def get(self, number: int) -> Call | None:
        """The unanswered command of this number."""
        return self._flight.get(number)

    def answered(self, call: Call) -> None:
        """The answer is in."""
        del self._flight[call.number]

    def forget(self, call: Call) -> bool:
        """Take a command out if it was never sent. False: it was."""
        if call.number:
            return False
        self._queue.remove(call)
        return True

    def clear(self) -> tuple[list[Call], list[Call]]:
        """Empty it: what was sent and not answered, what was never sent."""
        flight, queue = self.again(), list(self._queue)
        self._flight.clear()
        self._queue.clear()
        return flight, queue
