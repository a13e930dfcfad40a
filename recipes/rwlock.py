"""A lock that many may read under and one may write under.

::

    library = ReadWriteLock(session, "/library")
    async with library.read as held: ...
    async with library.write as held: ...

Fair: a reader that comes after a waiting writer waits behind it. Grants are the same :class:`~.held.Held` as
everywhere; the tokens of readers and writers of one name come from one sequence. There is no upgrade from reading to
writing: two readers who both want it would wait for each other.
"""

from __future__ import annotations

from ..kernel.client.live import Session
from ..kernel.wire.native import Consistency
from ..plugins.locks.client import Contender
from .lock import Claimed


class ReadWriteLock:
    """Two sides of one name: :attr:`read` and :attr:`write`, each with ``acquire``, ``run`` and ``async with``."""

    def __init__(
        self, session: Session, name: str, *, delay: float = 0.0, who: str = "", machine: str = "locks"
    ) -> None:
        self.name = name
        self.read = Claimed(session, shared=[name], delay=delay, who=who, machine=machine)
        """Held by any number at a time, by none while somebody writes."""
        self.write = Claimed(session, exclusive=[name], delay=delay, who=who, machine=machine)
        """Held by one at a time, and nobody reads meanwhile."""

    async def contenders(self, consistency: Consistency = Consistency.LEASE) -> list[Contender]:
        """Who holds it and who waits, in order."""
        return await self.read.client.contenders(self.name, consistency)

    async def break_(self, reason: str) -> int:
        """As an operator, end whatever holds it, readers and writer alike; how many grants that were."""
        return await self.read.client.break_lock(self.name, reason)
