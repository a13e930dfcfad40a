"""Small worlds worth going through."""

from __future__ import annotations

from typing import Final

from ..paxos.ballot import MemberId
from ..paxos.messages import Chosen, Commit, Fetch, Heartbeat, Refused
from ..paxos.quorum import Change, ChangeKind, Member, Role
from .explorer_scope import QUIET, Scope

_VOTES_ONLY: Final = QUIET | {Heartbeat, Refused, Commit, Fetch, Chosen}
"""For worlds that are about promises and votes: nobody but leaders learns what is chosen."""
_NO_REFUSALS: Final = QUIET | {Heartbeat, Refused}


def change(kind: ChangeKind, member: int) -> Change:
    """One step of membership."""
    return Change(kind, Member(MemberId(member), Role.LEARNER, f"tcp:{member}"))


ONE_LEADER: Final = Scope("one leader", candidates=(1,), campaigns=1, proposals=((b"a",),), muted=_VOTES_ONLY)

SECOND_LEADER: Final = Scope(
    "second leader",
    opening=("1 campaigns", "settle 1 2 3", "hush"),
    candidates=(2,),
    campaigns=1,
    proposals=((b"a",),),
    muted=_VOTES_ONLY,
)

CATCH_UP: Final = Scope(
    "catch-up",
    opening=("1 campaigns", "settle 1 2 3", "hush"),
    candidates=(2,),
    campaigns=1,
    proposals=((b"a",),),
    muted=_NO_REFUSALS,
)

MEMBERSHIP: Final = Scope(
    "3 to 4",
    learners=(4,),
    opening=("1 campaigns", "settle 1 2 3 4", "hush"),
    candidates=(2,),
    campaigns=1,
    proposals=((b"a",),),
    changes=(change(ChangeKind.PROMOTE, 4),),
    muted=_VOTES_ONLY,
)

SHRINKING: Final = Scope(
    "4 to 3, twice",
    voters=(1, 2, 3, 4),
    opening=("1 campaigns", "settle 1 2 3 4", "hush"),
    candidates=(3, 1),
    campaigns=2,
    changes=(change(ChangeKind.REMOVE, 4), change(ChangeKind.REMOVE, 1)),
    muted=_VOTES_ONLY,
)

LEASES: Final = Scope(
    "leases",
    opening=("1 campaigns", "settle 1 2 3"),
    candidates=(2,),
    campaigns=1,
    instants=4,
    lease=3,
    beats=1,
    muted=frozenset({Refused, Fetch, Chosen, Commit}),
)

READS: Final = Scope(
    "reads",
    opening=("1 campaigns", "settle 1 2 3", "hush"),
    candidates=(2,),
    campaigns=1,
    proposals=((b"a",),),
    beats=1,
    reads=1,
    readers=(1, 2),
    muted=frozenset({Refused, Fetch, Chosen, Commit}),
)

SMALL: Final = (ONE_LEADER, SECOND_LEADER, CATCH_UP, LEASES)
"""Scopes that take seconds."""

FULL: Final = (MEMBERSHIP, SHRINKING, READS)
"""Scopes that take minutes."""
