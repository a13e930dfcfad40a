"""Ballots, slots and member ids: the names by which Paxos orders things."""

from __future__ import annotations

from typing import Final, NamedTuple, NewType

MemberId = NewType("MemberId", int)
"""A replica's name inside its cell: positive, never given to a second disk."""

Slot = NewType("Slot", int)
"""A position in the log. The first slot is 1; 0 means "none yet"."""


class Ballot(NamedTuple):
    """A number under which one member leads. Ordered by round, then by member; no two members share one.

    A member never uses a round twice: the round is durable (as its own promise) before a prepare leaves
    (Paxos Made Simple, section 2.4; the textbook's ``s mod n = i`` for a member list that may change).
    """

    round: int
    member: MemberId

    def next(self, member: MemberId) -> Ballot:
        """The smallest ballot of `member` above this one."""
        return Ballot(self.round + 1, member)

    def __str__(self) -> str:
        return f"{self.round}.{self.member}"


NO_BALLOT: Final = Ballot(0, MemberId(0))
NO_SLOT: Final = Slot(0)

DECIDED: Final = Ballot(2**63 - 1, MemberId(0))
"""The ballot under which a value is recorded that was learned as chosen rather than voted for: above every real one,
so that phase 1 prefers it, and never a promise."""
