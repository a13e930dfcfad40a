"""The counter machine's commands and queries as typed calls. Recipes stand on this; applications use the recipes."""

from __future__ import annotations

from typing import NamedTuple

from ...kernel.client.live import Session
from ...kernel.machine import Plain
from ...kernel.wire.native import Consistency


class Swap(NamedTuple):
    """What a compare-and-set did: whether it set, and the value afterwards."""

    done: bool
    value: int


class CountersClient:
    """Calls of the machine loaded as `machine`."""

    def __init__(self, session: Session, machine: str = "counters") -> None:
        self.session = session
        self.machine = machine

    async def add(self, name: str, by: int) -> int:
        """Add, exactly once; the new value. Refusal "overflow" beyond 64 bits."""
        return _whole(await self.session.call(self.machine, "add", name, by))

    async def compare_and_set(self, name: str, expected: int, value: int) -> Swap:
        """Set to `value` if it is `expected`."""
        match await self.session.call(self.machine, "compare_and_set", name, expected, value):
            case [bool(done), int(after)]:
                return Swap(done, after)
            case other:
                raise TypeError(f"compare_and_set answered {other!r}")

    async def delete(self, name: str) -> int:
        """Forget the counter; the value it had."""
        return _whole(await self.session.call(self.machine, "delete", name))

    async def get(self, name: str, consistency: Consistency) -> int:
        """The value."""
        return _whole(await self.session.query(self.machine, "get", name, consistency=consistency))


def _whole(value: Plain) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a counter answered {value!r}")
    return value
