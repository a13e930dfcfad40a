"""What the explorer models by itself: a member's disk, as the records that were made durable, and what it proves.

The disk watches what is written on it and what is said on its strength; what it finds wrong is :class:`Broken`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..paxos.ballot import DECIDED, NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from ..paxos.messages import Accept, Accepted, Message, Prepare, Promise, Value, Vouched
from ..paxos.quorum import Configuration
from ..paxos.ready import AcceptedValue, DurableState, KnownChosen, Promised, Record

SNAPSHOT_SIZE = 4
"""Bytes of a snapshot file: the number of the log that it stands for."""


class Broken(Exception):
    """A promise of Paxos does not hold."""


class Cast(NamedTuple):
    """A vote that was durable at some time."""

    slot: Slot
    ballot: Ballot
    value: Value


class Disk(NamedTuple):
    """What a restart finds, and beyond that `cast`, every vote that it ever held: nobody can take back a vote.

    `configuration` is the one in force at `snapshot`."""

    configuration: Configuration
    promised: Ballot = NO_BALLOT
    votes: tuple[AcceptedValue, ...] = ()  # by slot, the last one written of each
    chosen: Slot = NO_SLOT
    snapshot: Slot = NO_SLOT
    cast: frozenset[Cast] = frozenset()

    def written(self, record: Record) -> Disk:
        """The disk after `record`."""
        if isinstance(record, KnownChosen):
            return self._replace(chosen=max(self.chosen, record.slot))
        if isinstance(record, Promised):
            if record.ballot < self.promised:
                raise Broken(f"the promise went down from {self.promised} to {record.ballot}")
            return self._replace(promised=record.ballot)
        votes = {vote.slot: vote for vote in self.votes}
        votes[record.slot] = record
        disk = self._replace(votes=tuple(votes[slot] for slot in sorted(votes)))
        if record.ballot == DECIDED:
            return disk
        if record.ballot < self.promised:
            raise Broken(f"a vote in ballot {record.ballot} below the promise {self.promised}")
        cast = Cast(record.slot, record.ballot, record.value)
        return disk._replace(promised=record.ballot, cast=self.cast | {cast})

    def holds(self, records: Iterable[Record]) -> bool:
        """Whether writing `records` changes nothing."""
        disk = self
        for record in records:
            disk = disk.written(record)
        return disk == self

    def compacted(self, slot: Slot, configuration: Configuration) -> Disk:
        """The disk with a snapshot at `slot`; the journal behind it is gone."""
        votes = tuple(vote for vote in self.votes if vote.slot > slot)
        return self._replace(configuration=configuration, snapshot=slot, chosen=max(self.chosen, slot), votes=votes)

    def state(self) -> DurableState:
        """What a start on this disk recovers."""
        votes = tuple(vote for vote in self.votes if vote.slot > self.snapshot)
        held = {vote.slot for vote in votes}
        for slot in range(self.snapshot + 1, self.chosen + 1):
            if slot not in held:
                raise Broken(f"the disk says that slot {slot} is chosen, but not with what value")
        size = SNAPSHOT_SIZE if self.snapshot else 0
        return DurableState(self.promised, votes, self.chosen, self.snapshot, self.configuration, snapshot_size=size)

    def check(self, sender: MemberId, message: Message) -> None:
        """`message` leaves: does the disk hold what it says?"""
        if isinstance(message, Promise | Prepare | Accepted) and self.promised < message.ballot:
            raise Broken(f"{type(message).__name__} {message.ballot} is sent while the disk holds {self.promised}")
        if isinstance(message, Promise):
            held = {(vote.slot, vote.ballot) for vote in self.votes}
            for vote in message.votes:
                if (vote.slot, vote.ballot) not in held and vote.slot > self.snapshot:
                    raise Broken(f"a vote on slot {vote.slot} in ballot {vote.ballot} is reported, but not on disk")
        if isinstance(message, Prepare | Accept) and message.ballot.member != sender:
            raise Broken(f"member {sender} uses the ballot {message.ballot} of another")
        if isinstance(message, Accepted):
            # Votes behind a snapshot, which stands for what was chosen there, need only the promise.
            slots = {cast.slot for cast in self.cast if cast.ballot == message.ballot}
            for slot in range(max(message.first, self.snapshot + 1), message.last + 1):
                if slot not in slots:
                    raise Broken(f"slot {slot} is said to be accepted in ballot {message.ballot}, but not on disk")
        if isinstance(message, Vouched) and not any(
            cast.slot == message.slot and cast.ballot == message.ballot for cast in self.cast
        ):
            raise Broken(f"slot {message.slot} is vouched for in ballot {message.ballot}, but not on disk")
