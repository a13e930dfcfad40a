"""A number that many count on together, each addition exactly once.

::

    visits = Counter(session, "visits")
    await visits.add(3)

An addition whose answer was lost is repeated under its old number, and the cell counts it once, also across a change
of leader. Only when the session itself ends in between is the outcome unknown, and then it is called so
(OutcomeUnknown).
"""

from __future__ import annotations

from ..kernel.client.live import Session
from ..kernel.wire.native import Consistency
from ..plugins.counters.client import CountersClient, Swap


class Counter:
    """A signed 64-bit counter, 0 until it is touched. What would leave the 64 bits is a Refusal ``overflow``."""

    def __init__(self, session: Session, name: str, *, machine: str = "counters") -> None:
        self.name = name
        self._client = CountersClient(session, machine)

    async def value(self, consistency: Consistency = Consistency.LEASE) -> int:
        """The value now; linearizable unless told otherwise."""
        return await self._client.get(self.name, consistency)

    async def add(self, by: int = 1) -> int:
        """Add `by`, which may be negative; the new value."""
        return await self._client.add(self.name, by)

    async def compare_and_set(self, expected: int, value: int) -> Swap:
        """Set to `value` if it is `expected` now: whether it was, and the value afterwards."""
        return await self._client.compare_and_set(self.name, expected, value)

    async def delete(self) -> int:
        """Forget it, which makes it 0; the value it had."""
        return await self._client.delete(self.name)
