"""Timers of loaded machines. They never fire by themselves: the leader proposes it when cell time has come.

A timer belongs to its machine and outlives the session that caused it. It fires once, not before its time, in order of
(time, key). A halted machine's timers wait.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any, Final

from ..machine import Plain, StateMachine, Timer, command, query
from .asks import Fire, SystemCommit

TIMERS_MAX: Final = 1_000_000
"""For one machine; one that sets more is halted."""
KEY_CHARS_MAX: Final = 4096
FIRED_MAX: Final = 1000
"""By one command, so that no slot takes long; the leader proposes the rest at its next look."""


class Timetable:
    """One machine's timers. `due` is what counts; the heap may hold more, which was replaced or cancelled."""

    __slots__ = ("_heap", "due")

    def __init__(self) -> None:
        self.due: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []

    def set(self, key: str, at: int) -> None:
        """Set a timer, in place of one with the same key."""
        if self.due.get(key) == at:
            return
        self.due[key] = at
        heappush(self._heap, (at, key))
        if len(self._heap) > 2 * len(self.due) + 64:
            self._heap = [(at, key) for key, at in self.due.items()]
            heapify(self._heap)

    def cancel(self, key: str) -> None:
        """Forget a timer, if it is there."""
        self.due.pop(key, None)

    def first(self) -> int | None:
        """When the next is due."""
        heap = self._heap
        while heap and self.due.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def upto(self, time: int, limit: int) -> list[Timer]:
        """The first `limit` that are due at `time`, in order; they stay."""
        found: list[Timer] = []
        while len(found) < limit:
            at = self.first()
            if at is None or at > time:
                break
            at, key = heappop(self._heap)
            if not found or found[-1] != (key, at):
                found.append(Timer(key, at))
        for timer in found:
            heappush(self._heap, (timer.at, timer.key))
        return found


class Timers(StateMachine):
    """The machine "timers"."""

    name = "timers"
    version = 1

    def __init__(self) -> None:
        self.tables: dict[int, Timetable] = {}

    @command
    def fire(self, commit: SystemCommit, machine: int, upto: int) -> None:
        """Fire the timers of a machine that are due at `upto`, or at this command's cell time if that is earlier; at
        most FIRED_MAX of them."""
        commit.ask(Fire(machine, min(upto, commit.time)))

    @query
    def counts(self) -> list[Plain]:
        """[machine number, timers set, cell time of the first] each."""
        return [[number, len(table.due), table.first()] for number, table in sorted(self.tables.items()) if table.due]

    # ---------------------------------------------------------------- the host's side

    def room(self, machine: int, more: int) -> bool:
        """Whether a machine may set that many more timers."""
        table = self.tables.get(machine)
        return (0 if table is None else len(table.due)) + more <= TIMERS_MAX

    def set(self, machine: int, key: str, at: int | None) -> None:
        """Set a machine's timer; None: cancel it."""
        table = self.tables.get(machine)
        if at is None:
            if table is not None:
                table.cancel(key)
            return
        if table is None:
            table = self.tables[machine] = Timetable()
        table.set(key, at)

    def due(self, machine: int, upto: int) -> list[Timer]:
        """What a :meth:`fire` would fire."""
        table = self.tables.get(machine)
        return [] if table is None else table.upto(upto, FIRED_MAX)

    def take(self, machine: int, key: str, at: int) -> bool:
        """Remove a timer because it fires now; False if it is not set to that time any more."""
        table = self.tables.get(machine)
        if table is None or table.due.get(key) != at:
            return False
        table.cancel(key)
        return True

    def first(self, machine: int) -> int | None:
        """The cell time at which a machine's next timer is due."""
        table = self.tables.get(machine)
        return None if table is None else table.first()

    def drop(self, machine: int) -> None:
        """A machine is unloaded."""
        self.tables.pop(machine, None)

    def snapshot(self) -> Plain:
        return [[number, table.due] for number, table in sorted(self.tables.items()) if table.due]

    def restore(self, state: Plain, version: int) -> None:
        tables: Any = state
        for number, due in tables:
            for key, at in due.items():
                self.set(number, key, at)
