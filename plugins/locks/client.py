"""The lock machine's commands and queries as typed calls. Recipes stand on this; applications use the recipes.

Knows the session client and the names of commands; nothing of the machine's insides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ...kernel.client.door import Promise
from ...kernel.client.live import Session
from ...kernel.machine import Plain
from ...kernel.wire.native import Consistency

TIMEOUT: Final = "timeout"
"""What an acquire ends with, in place of a token, when the names were not free in time."""


class Contender(NamedTuple):
    """Somebody in the queue of a name. It holds if `token` is not 0; `session` 0 is a lock-delay that still runs."""

    session: int
    label: int
    who: str
    exclusive: bool
    token: int
    since_wall: int
    names: tuple[str, ...]


class Break(NamedTuple):
    """A lock that an operator broke."""

    wall: int
    name: str
    who: str
    token: int
    reason: str
    by: tuple[str, ...]


class LocksClient:
    """Calls of the machine loaded as `machine`. Times in seconds here."""

    def __init__(self, session: Session, machine: str = "locks") -> None:
        self.session = session
        self.machine = machine

    def acquire(
        self,
        label: int,
        exclusive: Sequence[str],
        shared: Sequence[str],
        *,
        wait: float | None,
        delay: float,
        who: str,
    ) -> Promise[Plain]:
        """Send an acquire; the promise ends with the token or :data:`TIMEOUT`. `label` as from ``session.label()``."""
        return self.session.post(
            self.machine,
            "acquire",
            label=label,
            exclusive=list(exclusive),
            shared=list(shared),
            wait_ms=None if wait is None else max(0, round(wait * 1000)),
            delay_ms=round(delay * 1000),
            who=who,
        )

    def release(self, label: int) -> Promise[Plain]:
        """Send a release; the promise ends with whether the claim still held."""
        return self.session.post(self.machine, "release", label, spare=True)

    def withdraw(self, label: int) -> Promise[Plain]:
        """Send a withdrawal: whatever the claim is, it ends."""
        return self.session.post(self.machine, "withdraw", label, spare=True)

    async def check(self, name: str, token: int) -> bool:
        """Whether `name` is held under `token` right now (linearizable)."""
        return await self.session.query(self.machine, "check", name, token) is True

    async def contenders(self, name: str, consistency: Consistency = Consistency.LEASE) -> list[Contender]:
        """Who stands in the queue, in order."""
        listed = await self.session.query(self.machine, "contenders", name, consistency=consistency)
        return [Contender(**{**row, "names": tuple(row["names"])}) for row in listed]  # type: ignore

    async def names(self, after: str = "", limit: int = 1000) -> list[str]:
        """Names that somebody claims, sorted, those behind `after`."""
        return list(await self.session.query(self.machine, "names", after, limit))  # type: ignore

    async def break_lock(self, name: str, reason: str) -> int:
        """End whatever holds `name`, as an operator; how many claims that were."""
        return int(await self.session.call(self.machine, "break_lock", name, reason))  # type: ignore

    async def broken(self) -> list[Break]:
        """The last locks that operators broke."""
        rows = await self.session.query(self.machine, "broken")
        return [Break(*row[:5], tuple(row[5])) for row in rows]  # type: ignore
