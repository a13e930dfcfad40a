"""Machines for simulations and examples: named registers with compare-and-set, and alarms.

Their operations are those of :class:`.models.Register` and :class:`.models.Bell`, so that what clients see of them can
be judged.
"""

from __future__ import annotations

from ..machine import Commit, StateMachine, Ticket, command, query


class Registers(StateMachine):
    """Registers of integers by name, empty (None) at first."""

    name = "registers"
    version = 1

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    @command
    def set(self, commit: Commit, name: str, value: int) -> None:
        """Write `value`."""
        self.values[name] = value

    @command
    def cas(self, commit: Commit, name: str, old: int | None, new: int) -> bool:
        """Write `new` if the register holds `old` (None: is empty); whether it did."""
        if self.values.get(name) != old:
            return False
        self.values[name] = new
        return True

    @query
    def get(self, name: str) -> int | None:
        """The value."""
        return self.values.get(name)


class Alarms(StateMachine):
    """Alarms by name, each set once and by a timer: it counts how often each rang."""

    name = "alarms"
    version = 1

    def __init__(self) -> None:
        self.rung: dict[str, int] = {}
        self.waiting: dict[str, list[int]] = {}
        """The ticket of who set it, and the cell time for which it is set."""

    @command
    def ring(self, commit: Commit, name: str, after_ms: int) -> Ticket:
        """Ring after that time; the wait ends with how many milliseconds late it was."""
        ticket = commit.park()
        self.waiting[name] = [ticket, commit.time + after_ms]
        commit.set_timer(name, commit.time + after_ms)
        return ticket

    def timer_fired(self, commit: Commit, key: str) -> None:
        self.rung[key] = self.rung.get(key, 0) + 1
        if key in self.waiting:
            ticket, at = self.waiting.pop(key)
            commit.resolve(Ticket(ticket), commit.time - at)

    @query
    def times(self, name: str) -> int:
        """How often it rang."""
        return self.rung.get(name, 0)
