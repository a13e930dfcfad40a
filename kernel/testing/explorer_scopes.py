"""Small worlds worth going through."""

from __future__ import annotations

from typing import Final

from ..paxos.messages import Chosen, Commit, Fetch, Heartbeat, Refused
from ..paxos.quorum import ChangeKind
from .explorer_scope import QUIET, Scope, change

_VOTES_ONLY: Final = QUIET | {Heartbeat, Refused, Commit, Fetch, Chosen}
"""For worlds that are about promises and votes: nobody but leaders learns what is chosen."""
_NO_REFUSALS: Final = QUIET | {Heartbeat, Refused}
_NO_FETCHING: Final = frozenset({Refused, Fetch, Chosen, Commit})


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

FOUND_OPEN: Final = Scope(
    "changes found open",
    learners=(4, 5),
    opening=(
        "1 campaigns",
        "settle 1 2 3 4 5",
        "1 changes PROMOTE 4",
        "settle 1 3",
        "hush",
        "1 changes PROMOTE 5",
        "settle 1 2 4",
        "hush",
        "1 proposes a",
        "settle 1 4 5",
        "hush",
    ),
    candidates=(2,),
    campaigns=1,
    muted=_VOTES_ONLY,
)
"""Member 1 made two changes and a decision of the last voters; member 2 may find the changes, but not the decision."""

COMPETING: Final = Scope(
    "competing changes",
    voters=(1, 2, 3, 4),
    learners=(5,),
    opening=(
        "1 campaigns",
        "settle 1 2 3 4 5",
        "hush",
        "1 changes PROMOTE 5",
        "settle 1 5",
        "hush",
        "2 campaigns",
        "settle 2 3 4",
        "hush",
    ),
    candidates=(1,),
    campaigns=1,
    changes=(change(ChangeKind.REMOVE, 1),),
    muted=_VOTES_ONLY,
)
"""The counter-example to single-server changes in Raft (raft-dev, July 2015): 1 added 5, which only 1 and 5 accepted;
2, elected without them, may remove 1; 1 campaigns again."""

LEASES: Final = Scope(
    "leases",
    opening=("1 campaigns", "settle 1 2 3"),
    candidates=(2,),
    campaigns=1,
    instants=4,
    lease=3,
    beats=1,
    muted=_NO_FETCHING,
)

READS: Final = Scope(
    "reads",
    opening=("1 campaigns", "settle 1 2 3", "hush"),
    candidates=(2,),
    campaigns=1,
    beats=1,
    reads=1,
    readers=(1,),
    muted=_NO_FETCHING,
)

VOUCHED: Final = SECOND_LEADER._replace(name="vouched", hurried=(2, 3))

VOUCHED_ALONE: Final = VOUCHED._replace(
    name="vouched, one client",
    opening=("1 campaigns", "settle 1 2 3", "1 proposes a", "settle 1 2 3", "hush"),
    proposals=((b"b",),),
    hurried=(3,),
)
"""Member 3 knows that nobody waits anywhere else, and so does not tell at once that it voted for `b`."""

VOUCHED_READS: Final = Scope(
    "vouched, reads",
    opening=("1 campaigns", "settle 1 2 3", "hush"),
    candidates=(),
    campaigns=0,
    proposals=((b"a",),),
    beats=0,
    reads=1,
    readers=(1,),
    hurried=(2, 3),
    lease=3,
    muted=_NO_FETCHING,
)
"""The leader holds its lease for ever; a follower may know before it does that `a` is chosen."""

VOUCHED_CHANGE: Final = MEMBERSHIP._replace(name="vouched, 3 to 4", campaigns=0, hurried=(2, 3, 4))

HAND_OVER: Final = LEASES._replace(
    name="hand over",
    opening=(*LEASES.opening, "hush"),
    campaigns=0,
    transfers=1,
    instants=2,
)

SMALL: Final = (
    ONE_LEADER,
    ONE_LEADER._replace(name="one leader, a crash", proposals=(), crashes=1),
    SECOND_LEADER,
    ONE_LEADER._replace(name="two leaders", candidates=(1, 2), campaigns=2, proposals=()),
    CATCH_UP,
    COMPETING,
    ONE_LEADER._replace(name="pre-vote", proposals=(), canvass=True, muted=QUIET),
    LEASES,
    HAND_OVER,
    VOUCHED,
    VOUCHED_ALONE,
    VOUCHED_READS,
)
"""Scopes that take seconds."""

_TWO: Final = ((b"a",), (b"b",))

FULL: Final = (
    Scope("two leaders, two proposals, a crash", campaigns=2, proposals=_TWO, crashes=1, muted=_VOTES_ONLY),
    Scope("two leaders, two proposals", campaigns=2, proposals=_TWO, muted=_VOTES_ONLY),
    SECOND_LEADER._replace(name="second leader, two proposals, a crash", proposals=_TWO, crashes=1),
    CATCH_UP._replace(name="catch-up, a crash", crashes=1),
    CATCH_UP._replace(name="catch-up by snapshot", snapshots=1, keepers=(1, 2)),
    MEMBERSHIP,
    SHRINKING,
    COMPETING._replace(name="competing changes and elections", opening=COMPETING.opening[:-2]),
    FOUND_OPEN,
    LEASES._replace(name="leases, a crash", crashes=1),
    LEASES._replace(
        name="leases, clocks that drift",
        lease=5,
        drift=200_000,
        instants=7,
        rates=((2, 120), (3, 120)),
    ),
    HAND_OVER._replace(name="hand over, late messages", opening=LEASES.opening),
    READS,
    READS._replace(name="reads at a follower", readers=(3,)),
    VOUCHED._replace(name="vouched, two proposals", proposals=_TWO),
    VOUCHED._replace(name="vouched, a crash", crashes=1),
    VOUCHED_ALONE._replace(name="vouched, one client, a crash", crashes=1),
    VOUCHED_READS._replace(name="vouched, reads, a crash", crashes=1),
    VOUCHED_READS._replace(name="vouched, reads without a lease", lease=0, beats=1),
    VOUCHED_READS._replace(name="vouched, reads at a follower", readers=(2,)),
    VOUCHED_ALONE._replace(
        name="vouched, one client, reads",
        candidates=(),
        campaigns=0,
        beats=0,
        lease=3,
        reads=1,
        readers=(1,),
        crashes=1,
        muted=_NO_FETCHING,
    ),
    VOUCHED_CHANGE,
)
"""Scopes that take minutes."""
