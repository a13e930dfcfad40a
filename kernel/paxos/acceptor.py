"""The acceptor: what this member promised, what it voted for, and to whom it granted a lease.

Theory of operation.

*Votes.* A promise of ballot b binds every slot. A vote (slot, b, value) is given if b is at least the promise, and
raises it, in one durable write. Votes of slots that are chosen here and handed out are dropped from memory: the
learner has their value, and a candidate is told how far this member knows the log to be chosen (see
:mod:`.proposer`). What the disk holds is always at least what was said: every promise and every vote that leaves this
member is a record of its own.

*Leases.* A heartbeat of a ballot not below the promise is granted: for the length of a lease from its *arrival*, by
this member's own clock, it helps no other member towards a higher ballot, itself included. Grants are not written
down; instead a member that starts again on a disk that was ever in use stays silent towards candidates for one whole
lease, which covers any grant it may have forgotten. A grant may exceed the promise (the prepare was lost): it
withholds help and thereby promises nothing that a restart could break.

What is asserted here, and why, is on docs/explanation/invariants.rst.
"""

from __future__ import annotations

from collections.abc import Iterable

from .ballot import DECIDED, NO_BALLOT, Ballot, Slot
from .messages import Value, Vote
from .options import SLOT_COST
from .ready import AcceptedValue


class Acceptor:
    """Attributes: `promised`, `votes`, `granted` and `granted_until` as described above; `size`, what `votes` take of
    memory.

    Args:
        promised: the highest ballot promised (or voted in).
        votes: what the disk holds.
        silent_until: before that time of the local clock no candidate is helped.
        intact: whether that is all that was ever promised and accepted here.
        healed_at: the slot up to which the log must be known again, damage on the disk being healed from peers,
            before this member helps a candidate.

    All times are in microseconds.
    """

    __slots__ = (
        "_forgotten",
        "granted",
        "granted_until",
        "healed_at",
        "intact",
        "promised",
        "silent_until",
        "size",
        "votes",
    )

    def __init__(
        self, promised: Ballot, votes: Iterable[AcceptedValue], silent_until: int, intact: bool, healed_at: Slot
    ) -> None:
        self.promised = promised
        self.intact = intact
        self.healed_at = healed_at
        self.votes: dict[Slot, Vote] = {v.slot: Vote(v.slot, v.ballot, v.value) for v in votes}
        self.size = sum(len(vote.value.payload) + SLOT_COST for vote in self.votes.values())
        self.silent_until = silent_until
        self._forgotten = Slot(min(self.votes, default=Slot(1)) - 1)
        self.granted = NO_BALLOT
        self.granted_until = silent_until
        for vote in self.votes.values():
            assert vote.ballot <= promised or vote.ballot == DECIDED, f"slot {vote.slot}: a vote above the promise"

    # ---------------------------------------------------------------- helping candidates

    def whole(self, chosen: Slot) -> bool:
        """Whether this member may help a candidate (or be one), the log being known up to `chosen`: nothing that it
        promised or accepted is missing."""
        return self.intact and chosen >= self.healed_at

    def bound(self, ballot: Ballot, waiver: Ballot, now: int) -> bool:
        """Whether a lease forbids helping `ballot`: one granted to another member (and not waived by it), or possibly
        forgotten."""
        if now < self.silent_until:
            return True
        return now < self.granted_until and self.granted.member != ballot.member and self.granted != waiver

    def grant(self, ballot: Ballot, now: int, lease: int) -> None:
        """Help nobody else for the length `lease` from now on."""
        assert ballot >= self.promised, "a lease granted below the promise"
        assert ballot >= self.granted, "a lease granted below one granted before"
        self.granted = ballot
        self.granted_until = max(self.granted_until, now + lease)

    def promise(self, ballot: Ballot) -> None:
        """Accept nothing below `ballot` any more."""
        assert ballot > self.promised, "the promise never goes down"
        self.promised = ballot

    # ---------------------------------------------------------------- voting

    def accept(self, ballot: Ballot, slot: Slot, value: Value) -> bool:
        """Vote. False if this very vote was given before (nothing to write)."""
        assert ballot >= self.promised, "a vote below the promise"
        self.promised = ballot
        before = self.votes.get(slot)
        if before is not None:
            if before.ballot == ballot:
                assert before.value == value, f"slot {slot}: two values in ballot {ballot}"
                return False
            assert before.ballot != DECIDED or before.value == value, f"slot {slot}: a second value for a chosen slot"
            self.size -= len(before.value.payload) + SLOT_COST
        self.votes[slot] = Vote(slot, ballot, value)
        self.size += len(value.payload) + SLOT_COST
        return True

    def confirm(self, ballot: Ballot) -> None:
        """Vote for a value in a slot where it is known here to be chosen: nothing to remember but the promise."""
        assert ballot >= self.promised, "a vote below the promise"
        self.promised = ballot

    def forget(self, upto: Slot) -> None:
        """Slots up to `upto` are chosen and handed out: their votes are no longer needed."""
        votes = self.votes
        slots: Iterable[int] = range(self._forgotten + 1, upto + 1)
        if upto - self._forgotten > len(votes):
            slots = [slot for slot in votes if slot <= upto]
        for slot in slots:
            vote = votes.pop(slot, None)  # type: ignore[call-overload]
            if vote is not None:
                self.size -= len(vote.value.payload) + SLOT_COST
        self._forgotten = max(self._forgotten, upto)

    def open_votes(self, first: Slot) -> list[Vote]:
        """The votes from `first` on, by slot."""
        return [self.votes[slot] for slot in sorted(self.votes) if slot >= first]
