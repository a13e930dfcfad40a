"""What every disk of a simulated cell was told to keep: who holds which vote, and what must be there at the next start.

A record counts from the moment at which the disk said that it is durable. Disks are told apart as objects, so that a
new one under an old name is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..paxos.ballot import DECIDED, NO_BALLOT, Ballot
from ..paxos.messages import Value
from ..paxos.ready import AcceptedValue, DurableState, KnownChosen, Promised, Record
from .violation import Violation

if TYPE_CHECKING:
    from .process import Disk


class Kept:
    """One disk. `promised`: the highest ballot. `chosen`: up to where it knows the log to be chosen. `votes`: the last
    vote on each slot that no snapshot of its own covers."""

    __slots__ = ("chosen", "promised", "votes")

    def __init__(self) -> None:
        self.promised = NO_BALLOT
        self.chosen = 0
        self.votes: dict[int, tuple[Ballot, Value]] = {}


class Disks:
    """All of them, those that are out of use as well."""

    def __init__(self) -> None:
        self._kept: dict[Disk, Kept] = {}
        self._votes: dict[int, dict[tuple[Ballot, Value], set[Disk]]] = {}

    def of(self, disk: Disk) -> Kept:
        """What `disk` was told to keep."""
        kept = self._kept.get(disk)
        if kept is None:
            kept = self._kept[disk] = Kept()
        return kept

    def votes(self, slot: int) -> dict[tuple[Ballot, Value], set[Disk]]:
        """Every vote on a slot that a disk ever held, and which disks."""
        return self._votes.get(slot, {})

    def durable(self, disk: Disk, records: Sequence[Record]) -> None:
        """These records are on that disk now, in this order."""
        kept = self.of(disk)
        for record in records:
            if isinstance(record, KnownChosen):
                kept.chosen = max(record.slot, kept.chosen)
                continue
            ballot = record.ballot
            if ballot < kept.promised:
                raise Violation("votes", f"{record} came to a disk that had promised {kept.promised}")
            if isinstance(record, Promised):
                kept.promised = ballot
            else:
                if ballot != DECIDED:
                    kept.promised = ballot
                kept.votes[record.slot] = (ballot, record.value)
                self._hold(disk, record)

    def found(self, disk: Disk, state: DurableState) -> None:
        """A member starts on `disk` and believes `state`. What was only in the page cache until then is synced now.
        What it does not remember although the disk was told to keep it, it must know to be missing."""
        kept = self.of(disk)
        if state.intact:
            if state.promised < kept.promised:
                raise Violation("memory", f"a member starts with the promise of {state.promised}, not {kept.promised}")
            votes = {vote.slot: vote for vote in state.votes}
            for slot, (ballot, value) in kept.votes.items():
                if slot <= state.chosen or slot in state.damaged:
                    continue
                found = votes.get(slot)  # type: ignore[call-overload]
                if found is None or found.ballot < ballot or (found.ballot == ballot and found.value != value):
                    words = "none" if found is None else f"one of {found.ballot}"
                    raise Violation("memory", f"a member starts with {words} of its votes on slot {slot}, not {ballot}")
        for vote in state.votes:
            self._hold(disk, vote)
        kept.votes = {slot: vote for slot, vote in kept.votes.items() if slot > state.snapshot}

    def _hold(self, disk: Disk, vote: AcceptedValue) -> None:
        votes = self._votes.setdefault(vote.slot, {})
        key = (vote.ballot, vote.value)
        holders = votes.get(key)
        if holders is None:
            if vote.ballot != DECIDED and any(ballot == vote.ballot for ballot, _ in votes):
                raise Violation("votes", f"slot {vote.slot} has votes for two values in ballot {vote.ballot}")
            holders = votes[key] = set()
        holders.add(disk)
