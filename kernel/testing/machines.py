"""A machine for simulations and examples: named registers with compare-and-set.

Its operations are those of :class:`.models.Register`, so that what clients see of it can be judged.
"""

from __future__ import annotations

from ..machine import Commit, StateMachine, command, query


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
