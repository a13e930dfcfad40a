"""One member's Multi-Paxos: the roles composed, and the only door to them.

SKELETON: signatures and contracts; the roles live beside this module.
"""

from __future__ import annotations

import enum
from random import Random
from typing import NamedTuple

from .ballot import Ballot, MemberId, Slot
from .messages import Message, Sender, Value
from .quorum import Change, Configuration
from .ready import DurableState, Ready


class Options(NamedTuple):
    """Times in microseconds, sizes in bytes. Every member of a cell must run with the same lease and drift."""

    lease: int = 400_000
    heartbeat: int = 50_000
    drift_ppm: int = 20_000  # how much faster one clock may run than another, in parts per million
    campaign_spread: int = 100_000  # a campaign starts up to this long after the lease ended, at random
    window: int = 8  # slots proposed and not yet chosen
    fetch_limit: int = 1 << 20
    promise_limit: int = 1 << 20
    retained: int = 64 << 20  # bytes of chosen log kept in memory behind a snapshot for lagging members


class Status(enum.IntEnum):
    FOLLOWER = 0
    CANVASSING = 1
    PREPARING = 2
    LEADER = 3
    LEARNER = 4
    RETIRED = 5  # removed from the configuration, or not allowed to vote under this id


class NotLeader(Exception):
    """Only the leader may do this; `leader` is whom this member follows, if anybody."""

    def __init__(self, leader: MemberId | None) -> None:
        super().__init__(f"not the leader; member {leader} may be" if leader else "not the leader; none is known")
        self.leader = leader


class Replica:
    """The consensus core of one member. It does no I/O and reads no clock: `now` is always the caller's monotonic clock in
    microseconds, fresh (lease safety depends on it), and never goes back.

    Each call changes state and gathers effects; :meth:`ready` takes the effects out. Call it after every call or after
    many: the result is the same.
    """

    def __init__(
        self,
        member: MemberId,
        incarnation: int,
        state: DurableState,
        *,
        options: Options,
        random: Random,
        now: int,
    ) -> None:
        """A member starting on `state`. It stays silent towards candidates for one whole lease (it may have granted one)
        unless `state` shows that this disk never voted. `state.configuration` is the one in force at `state.snapshot`."""
        raise NotImplementedError

    # in
    def receive(self, sender: Sender, message: Message, now: int) -> None:
        """Take one message. Anything outdated, duplicated or foreign is dropped; nothing is trusted about order."""
        raise NotImplementedError

    def tick(self, now: int) -> None:
        """Let time pass. Due times are exact: :meth:`next_tick` says when the next call can matter."""
        raise NotImplementedError

    def next_tick(self) -> int:
        raise NotImplementedError

    def can_propose(self) -> int:
        """How many values :meth:`propose` takes now: 0 unless this member leads, has finished phase 1, no configuration change is
        open and the window has room."""
        raise NotImplementedError

    def propose(self, value: Value) -> Slot:
        """Propose a COMMANDS value in the next slot. Raises NotLeader; asserts can_propose() > 0."""
        raise NotImplementedError

    def reconfigure(self, change: Change) -> Slot:
        """Propose a membership change. Raises NotLeader, InvalidChange (does not fit, or another is open: one at a time; a
        learner may be promoted only when it has caught up)."""
        raise NotImplementedError

    def transfer(self, to: MemberId, now: int) -> None:
        """Hand leadership to a voter: stop proposing, wait until it has caught up, give up the lease, tell it to campaign.
        Given up after one lease. Raises NotLeader, InvalidChange (not a voter)."""
        raise NotImplementedError

    def read(self, context: int, now: int) -> None:
        """Ask for a linearizable index; the answer comes in `Ready.reads` (index None if leadership is lost or unknown).
        The leader answers at once while its lease surely holds, by a heartbeat round otherwise; others ask the leader;
        waiting reads share a round."""
        raise NotImplementedError

    def persisted(self, upto: int) -> None:
        """Every record up to number `upto` is durable. Only now does this member's own vote count."""
        raise NotImplementedError

    def compacted(self, slot: Slot, size: int) -> None:
        """A snapshot at `slot`, of `size` bytes, is verified and durable: the log behind it may go (some is retained in memory
        for lagging members)."""
        raise NotImplementedError

    def installed(self, slot: Slot, size: int, configuration: Configuration) -> None:
        """The fetched snapshot at `slot` is durable and restored into the machines: continue above it. Ignored if the log has passed
        it meanwhile (the caller must not have restored then: see :attr:`chosen`)."""
        raise NotImplementedError

    def abandon_snapshot(self) -> None:
        """The fetched snapshot turned out bad: try another source."""
        raise NotImplementedError

    # out
    def ready(self) -> Ready:
        raise NotImplementedError

    # to look at
    status: Status
    leader: MemberId | None  # whom this member follows now (itself when it leads); None when unknown
    ballot: Ballot  # promised here
    chosen: Slot  # commit index: every slot up to it was handed out in `Ready.committed`
    configuration: Configuration
    serving: bool  # leads and has committed a value of its own ballot

    def lease_left(self, now: int) -> int:
        """Microseconds for which this leader's lease surely still runs; 0 for anybody else."""
        raise NotImplementedError
