"""One member's disk in memory: the records it holds, what a start finds on them, and how it comes to harm."""

from __future__ import annotations

from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Accepted, Message, Promise, Vouched
from quorate.kernel.paxos.quorum import Configuration
from quorate.kernel.paxos.ready import AcceptedValue, DurableState, Promised, Record


class Disk:
    """`configuration` is the one in force at `snapshot`. `intact` is False once votes or promises were lost."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.founding = configuration
        self.snapshot = Slot(0)
        self.incarnation = 0
        self.intact = True
        self.promised = NO_BALLOT
        self.chosen = Slot(0)
        self.noted = Slot(0)  # the last commit index that was recorded
        self.votes: dict[Slot, AcceptedValue] = {}
        self.shown: dict[Slot, Ballot] = {}

    def write(self, record: Record) -> None:
        """`record` is durable."""
        if isinstance(record, Promised):
            self.promised = max(self.promised, record.ballot)
        elif isinstance(record, AcceptedValue):
            if record.ballot != DECIDED:
                self.promised = max(self.promised, record.ballot)
                self.shown[record.slot] = max(record.ballot, self.shown.get(record.slot, NO_BALLOT))
            self.votes[record.slot] = record
        else:
            self.chosen = max(self.chosen, record.slot)
            self.noted = record.slot

    def compact(self, slot: Slot, configuration: Configuration) -> None:
        """A snapshot at `slot` is durable."""
        self.snapshot, self.configuration = slot, configuration
        self.chosen = max(self.chosen, slot)
        self.votes = {s: vote for s, vote in self.votes.items() if s > slot}

    def state(self) -> DurableState:
        """What a start on this disk recovers."""
        damaged = frozenset(Slot(s) for s in range(self.snapshot + 1, self.chosen + 1) if s not in self.votes)
        return DurableState(
            self.promised,
            tuple(self.votes.values()),
            self.chosen,
            self.snapshot,
            self.configuration,
            damaged,
            self.intact,
            snapshot_size=100 if self.snapshot else 0,
        )

    def supports(self, message: Message, member: MemberId) -> bool:
        """Whether the disk holds what `message` says that `member` promised or accepted."""
        if isinstance(message, Promise):
            return self.promised >= message.ballot
        if isinstance(message, Accepted):
            # Votes behind a snapshot, which stands for what was chosen there, need only the promise.
            slots = range(max(message.first, self.snapshot + 1), message.last + 1)
            return self.promised >= message.ballot and all(
                self.shown.get(Slot(slot), NO_BALLOT) >= message.ballot for slot in slots
            )
        if isinstance(message, Vouched):
            open_slots = range(max(self.noted, self.snapshot) + 1, message.slot + 1)
            return all(self.shown.get(Slot(slot), NO_BALLOT) >= message.ballot for slot in open_slots)
        return True

    # ---------------------------------------------------------------- harm

    def damage(self, slot: Slot) -> None:
        """The value of `slot` becomes unreadable. Lost votes on slots not known to be chosen cost the right to
        vote."""
        self.votes.pop(slot, None)
        if slot > self.chosen:
            self.intact = False

    def wipe(self) -> None:
        """Everything is gone, and that is known."""
        incarnation = self.incarnation
        self.__init__(self.founding)  # type: ignore[misc]
        self.incarnation, self.intact = incarnation, False
