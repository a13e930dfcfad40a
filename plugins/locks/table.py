"""Who is in front of whom: the pure table under every lock.

A *claim* is a number and the names it wants, each shared or exclusive. Claims stand in one queue per name, in order
of their numbers. Two claims *conflict* if they share a name and at least one of them wants it exclusively. The whole
rule is:

    a claim is clear (may hold) if no conflicting claim stands in front of it.

Everything wanted follows. Conflicting claims hold in the order of their numbers, so the queue is fair and a reader
does not overtake a waiting writer. A claim waits only for smaller numbers, so claims on several names cannot
deadlock. A clear claim stays clear until it leaves, so "held" needs no bit of its own. And only those behind a
leaving claim can become clear: no herd.

The rule is the sequence lock of the ZooKeeper paper (Hunt et al., USENIX ATC 2010, section 2.4) without its watches.
This module knows nothing of sessions, tickets or time; whoever uses it keeps what else belongs to a claim.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Wants: TypeAlias = Mapping[str, bool]
"""Name -> whether it is wanted exclusively."""


class Queue:
    """The claims on one name, ascending: all of them, and the exclusive ones among them."""

    __slots__ = ("all", "exclusive")

    def __init__(self) -> None:
        self.all: list[int] = []
        self.exclusive: list[int] = []

    def clear(self, claim: int, exclusive: bool) -> bool:
        """Whether nothing in front of `claim` conflicts with it on this name."""
        if exclusive:
            return self.all[0] == claim
        return not self.exclusive or self.exclusive[0] > claim

    def leave(self, claim: int, exclusive: bool) -> list[int]:
        """Take `claim` out; those that were blocked by it and are clear on this name now."""
        place = bisect_left(self.all, claim)
        del self.all[place]
        rank = bisect_left(self.exclusive, claim)
        if exclusive:
            del self.exclusive[rank]
        if rank > 0:
            return []  # an exclusive claim in front still blocks whatever this one blocked
        if place == 0 and self.exclusive and self.exclusive[0] == self.all[0]:
            return self.all[:1]
        if not exclusive:
            return []
        end = bisect_left(self.all, self.exclusive[0]) if self.exclusive else len(self.all)
        return self.all[place:end]


class LockTable:
    """Claims in their queues. Numbers must grow from one :meth:`enter` to the next."""

    __slots__ = ("_queues", "_wants")

    def __init__(self) -> None:
        self._queues: dict[str, Queue] = {}
        self._wants: dict[int, Wants] = {}

    def free(self, wants: Wants) -> bool:
        """Whether a claim that entered now would be clear at once."""
        for name, exclusive in wants.items():
            queue = self._queues.get(name)
            if queue is not None and (exclusive or queue.exclusive):
                return False
        return True

    def enter(self, claim: int, wants: Wants) -> bool:
        """Put a claim behind all others; whether it is clear at once."""
        clear = self.free(wants)
        self._wants[claim] = wants
        for name, exclusive in wants.items():
            queue = self._queues.setdefault(name, Queue())
            assert not queue.all or queue.all[-1] < claim, "claims enter in the order of their numbers"
            queue.all.append(claim)
            if exclusive:
                queue.exclusive.append(claim)
        return clear

    def clear(self, claim: int) -> bool:
        """Whether the claim may hold all its names."""
        return all(self._queues[name].clear(claim, exclusive) for name, exclusive in self._wants[claim].items())

    def leave(self, claim: int) -> list[int]:
        """Take a claim out, clear or not; the claims that became clear by that, ascending."""
        candidates: dict[int, None] = {}
        for name, exclusive in self._wants.pop(claim).items():
            queue = self._queues[name]
            candidates.update(dict.fromkeys(queue.leave(claim, exclusive)))
            if not queue.all:
                del self._queues[name]
        return sorted(each for each in candidates if self.clear(each))

    def queue(self, name: str) -> Sequence[int]:
        """Every claim on a name, in order."""
        queue = self._queues.get(name)
        return () if queue is None else tuple(queue.all)

    def names(self) -> list[str]:
        """Every name that somebody claims, sorted."""
        return sorted(self._queues)

    def __contains__(self, claim: int) -> bool:
        return claim in self._wants
