"""Linearizable reads: what the leader owes to those who ask, and what a follower asks of the leader.

Theory of operation. A read is linearizable if it sees everything that was chosen when it began. The leader's commit
index is such a bound once the leader serves (it has committed a value of its own ballot), if nobody else leads: that
is sure while its lease runs, and otherwise when a quorum has answered a round of heartbeats that began after the read
(Ongaro's thesis, section 6.4). Reads that wait share a round. A follower asks the leader for the index and answers
the read when it has applied so far.
"""

from __future__ import annotations

from typing import NamedTuple

from .ballot import MemberId, Slot
from .effects import Effects
from .lease import Lease
from .messages import ReadGranted, ReadIndex
from .ready import ReadResult


class _Waiting(NamedTuple):
    asker: MemberId
    context: int
    round: int


class OwedReads:
    """The leader's side: reads, its own and others', that wait for a round of heartbeats."""

    __slots__ = ("_effects", "_member", "_waiting")

    def __init__(self, member: MemberId, effects: Effects) -> None:
        self._member = member
        self._effects = effects
        self._waiting: list[_Waiting] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self, asker: MemberId, context: int, lease: Lease) -> bool:
        """Let a read wait for the next round; False if somebody else waits for that already."""
        shared = bool(self._waiting) and self._waiting[-1].round > lease.round
        self._waiting.append(_Waiting(asker, context, lease.round + 1))
        return not shared

    def grant(self, chosen: Slot, lease: Lease, held: bool) -> None:
        """Answer those whose round a quorum answered, and all if the lease is `held`."""
        waiting = self._waiting
        granted = len(waiting) if held else 0
        while granted < len(waiting) and lease.confirmed(waiting[granted].round):
            granted += 1
        for read in waiting[:granted]:
            self.answer(read.asker, read.context, chosen)
        del waiting[:granted]

    def answer(self, asker: MemberId, context: int, chosen: Slot) -> None:
        """One read may be answered as of `chosen`."""
        if asker == self._member:
            self._effects.results.append(ReadResult(context, chosen))
        else:
            self._effects.send(asker, ReadGranted(context, chosen))

    def give_up(self) -> None:
        """Leadership is lost: our own reads fail, the others will ask elsewhere."""
        waiting, self._waiting = self._waiting, []
        for read in waiting:
            if read.asker == self._member:
                self._effects.results.append(ReadResult(read.context, None))


class AskedReads:
    """The follower's side: reads for which the leader was asked. `patience`: microseconds until it is asked again."""

    __slots__ = ("_asked", "_effects", "_patience")

    def __init__(self, patience: int, effects: Effects) -> None:
        self._patience = patience
        self._effects = effects
        self._asked: dict[int, int] = {}  # context -> when

    def due(self) -> int | None:
        """When an unanswered question is to be asked again; None if there is none."""
        return min(self._asked.values()) + self._patience if self._asked else None

    def ask(self, context: int, leader: MemberId, now: int) -> None:
        """Ask `leader` on behalf of a read."""
        self._asked[context] = now
        self._effects.send(leader, ReadIndex(context))

    def ask_again(self, leader: MemberId, now: int) -> None:
        """Repeat what went unanswered for too long."""
        for context, asked in self._asked.items():
            if now - asked >= self._patience:
                self._asked[context] = now
                self._effects.send(leader, ReadIndex(context))

    def granted(self, context: int, slot: Slot) -> None:
        """The leader answered."""
        if self._asked.pop(context, None) is not None:
            self._effects.results.append(ReadResult(context, slot))

    def give_up(self) -> None:
        """The leader is lost: the reads fail."""
        asked, self._asked = self._asked, {}
        self._effects.results.extend(ReadResult(context, None) for context in asked)
