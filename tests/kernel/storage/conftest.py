"""What the storage tests share: a replica's directory on the simulated disk, and a judge of what is found there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple

import pytest
from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import AcceptedValue, DurableState, KnownChosen, Promised, Record
from quorate.kernel.storage.files import FileSystem
from quorate.kernel.storage.journal import Batch, Journal
from quorate.kernel.storage.memory import MemoryFileSystem
from quorate.kernel.storage.recovery import Recovered, recover


class Known(NamedTuple):
    """What an acceptor knows after some records."""

    promised: Ballot
    votes: dict[Slot, AcceptedValue]
    chosen: Slot


class Kit:
    """Names, and short ways to say things."""

    cell = b"a cell's 16 byte"
    member = MemberId(1)
    disk = b"a disk's 16 byte"
    directory = "/replica"
    small = 4096 + 2048
    """A segment size with room for little."""
    founding = Configuration(
        Slot(0),
        (
            Member(MemberId(1), Role.VOTER, "tcp:one:7000", (("client", "one:7001"),)),
            Member(MemberId(2), Role.LEARNER, "tcp:two:7000"),
        ),
    )

    def memory(self, seed: int = 0) -> MemoryFileSystem:
        """An empty simulated disk."""
        return MemoryFileSystem(Random(seed))

    def recover(self, fs: FileSystem, directory: str | None = None, segment_size: int | None = None) -> Recovered:
        """Open (or found) the directory."""
        return recover(
            fs,
            directory or self.directory,
            cell=self.cell,
            member=self.member,
            disk=self.disk,
            founding=self.founding,
            segment_size=segment_size or self.small,
        )

    def vote(self, slot: int, payload: bytes = b"value", ballot: tuple[int, int] = (1, 1)) -> AcceptedValue:
        """A vote."""
        return AcceptedValue(Ballot(ballot[0], MemberId(ballot[1])), Slot(slot), Value(Kind.COMMANDS, payload))

    def promise(self, round_: int, member: int = 1) -> Promised:
        """A promise."""
        return Promised(Ballot(round_, MemberId(member)))

    def chosen(self, slot: int) -> KnownChosen:
        """A commit index."""
        return KnownChosen(Slot(slot))

    def write(self, journal: Journal, *records: Record) -> Batch:
        """Append, seal and write."""
        journal.append(records)
        batch = journal.seal()
        assert batch is not None
        journal.write(batch)
        return batch

    def path(self, name: str) -> str:
        """A file in the directory."""
        return f"{self.directory}/{name}"

    def segment(self, number: int) -> str:
        """A segment's path."""
        return self.path(f"journal-{number:010d}.log")

    def known(self, records: Iterable[Record], snapshot: int = 0) -> Known:
        """What these records, in this order, say: the specification that recovery is held to."""
        promised, chosen = NO_BALLOT, Slot(snapshot)
        votes: dict[Slot, AcceptedValue] = {}
        for record in records:
            if isinstance(record, AcceptedValue):
                if record.slot > snapshot:
                    votes[record.slot] = record
                if record.ballot != DECIDED:
                    promised = max(promised, record.ballot)
            elif isinstance(record, Promised):
                promised = max(promised, record.ballot)
            else:
                chosen = max(chosen, record.slot)
        return Known(promised, votes, chosen)

    def found(self, state: DurableState) -> Known:
        """What recovery says, in the same form."""
        return Known(state.promised, {vote.slot: vote for vote in state.votes}, state.chosen)

    def judge(self, state: DurableState, records: Sequence[Record], snapshot: int = 0) -> str:
        """How recovery did, given that all of `records` were durable: "exact", "healable" or "refused"; anything else
        fails, above all a vote or promise that is silently missing."""
        expected, found = self.known(records, snapshot), self.found(state)
        for slot, vote in found.votes.items():
            assert vote in records, f"slot {slot} was invented"
        if not state.intact:
            return "refused"
        assert found.promised == expected.promised
        assert found.chosen == expected.chosen
        for slot, vote in expected.votes.items():
            if slot in state.damaged:
                assert slot not in found.votes
                assert slot <= found.chosen
            else:
                assert found.votes[slot] == vote, f"slot {slot} was silently lost"
        return "healable" if state.damaged else "exact"


@pytest.fixture(scope="session")
def kit() -> Kit:
    """See Kit."""
    return Kit()
