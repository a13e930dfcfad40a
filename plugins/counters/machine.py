"""Named counters as a state machine.

A counter that was never touched is 0. A retried ``add`` counts once: the kernel keeps the replies to a session's
numbered requests until the client has seen them. Values stay within signed 64 bits; what would leave them is refused,
not wrapped.
"""

from __future__ import annotations

from typing import Final

from ...kernel.machine import Commit, Plain, Refusal, StateMachine, command, query

VALUE_MAX: Final = (1 << 63) - 1
VALUE_MIN: Final = -(1 << 63)
NAME_CHARS_MAX: Final = 1024
COUNTERS_MAX: Final = 1_000_000
LISTING_MAX: Final = 1000


class CountersMachine(StateMachine):
    """See the module's text."""

    name = "counters"
    version = 1

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    @command
    def add(self, commit: Commit, name: str, by: int = 1) -> int:
        """Add `by`, which may be negative; the new value."""
        return self._store(name, self.values.get(name, 0) + by)

    @command
    def compare_and_set(self, commit: Commit, name: str, expected: int, value: int) -> list[Plain]:
        """Set to `value` if it is `expected` now: [whether it was, the value afterwards]."""
        current = self.values.get(name, 0)
        if current != expected:
            return [False, current]
        return [True, self._store(name, value)]

    @command
    def delete(self, commit: Commit, name: str) -> int:
        """Forget the counter, which is 0 from now on; the value it had."""
        return self.values.pop(name, 0)

    @query
    def get(self, name: str) -> int:
        """The value."""
        return self.values.get(name, 0)

    @query
    def names(self, after: str = "", limit: int = LISTING_MAX) -> list[str]:
        """Counters that exist, sorted, those behind `after`."""
        return sorted(name for name in self.values if name > after)[: max(0, min(limit, LISTING_MAX))]

    def restore(self, state: Plain, version: int) -> None:
        super().restore(state, version)
        if not isinstance(self.values, dict) or not all(type(each) is int for each in self.values.values()):
            raise ValueError("not a snapshot of counters")

    def _store(self, name: str, value: int) -> int:
        if not 0 < len(name) <= NAME_CHARS_MAX:
            raise Refusal("bad-arguments", f"a name has from 1 to {NAME_CHARS_MAX} characters")
        if not VALUE_MIN <= value <= VALUE_MAX:
            raise Refusal("overflow", f"{value} does not fit into 64 bits")
        if name not in self.values and len(self.values) >= COUNTERS_MAX:
            raise Refusal("too-many-counters", f"there may be {COUNTERS_MAX}")
        self.values[name] = value
        return value
