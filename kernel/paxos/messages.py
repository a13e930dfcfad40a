"""What members say to each other about the log. Values only: the bytes are :mod:`quorate.kernel.wire`'s business.

Every message travels in an envelope (:class:`Sender`): messages of another cell, of an earlier incarnation of their
sender, or of a member that the configuration does not know are dropped before a role sees them.
Times inside messages are microseconds on the clock of the member that wrote them and come back unread.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from .ballot import NO_BALLOT, Ballot, MemberId, Slot
from .quorum import Configuration


class Sender(NamedTuple):
    """Who sent a message: the member, and which run of its process (grows by one at each start on the same disk)."""

    member: MemberId
    incarnation: int


class Kind(enum.IntEnum):
    """What a slot's value is."""

    NOOP = 0
    COMMANDS = 1  # a batch for the machines; opaque here
    CONFIGURATION = 2  # an encoded Change; takes effect when it is chosen and everything below it is


class Value(NamedTuple):
    """What is chosen in a slot."""

    kind: Kind
    payload: bytes


NOOP = Value(Kind.NOOP, b"")


class Vote(NamedTuple):
    """A value that an acceptor accepted, with the ballot it did so in."""

    slot: Slot
    ballot: Ballot
    value: Value


# ---------------------------------------------------------------- leadership


class Canvass(NamedTuple):
    """Would you promise `ballot`? Costs nobody anything (pre-vote): no disk, no promise."""

    ballot: Ballot
    chosen: Slot
    configuration: Slot


class Canvassed(NamedTuple):
    """The answer to a canvass. `promised` lets a candidate that is behind catch up with the rounds."""

    ballot: Ballot
    granted: bool
    promised: Ballot
    chosen: Slot


class Prepare(NamedTuple):
    """Phase 1a, once per leadership, for every slot from `first` on. `waiver`: the leader of that ballot gave up its
    lease and asked for this campaign; a lease granted to it, and to no other, does not stand in the way."""

    ballot: Ballot
    first: Slot
    configuration: Slot
    waiver: Ballot = NO_BALLOT


class Promise(NamedTuple):
    """Phase 1b. All votes from `first` on, in parts small enough for a frame: `part` of `parts`, counted from 0.

    `chosen`: this acceptor knows every slot up to there to be chosen (the candidate may fetch them).
    `compacted`: slots up to there exist here only as a snapshot.
    """

    ballot: Ballot
    first: Slot
    votes: tuple[Vote, ...]
    chosen: Slot
    compacted: Slot
    part: int = 0
    parts: int = 1


class Refused(NamedTuple):
    """No to a prepare, an accept or a heartbeat of `ballot`: something higher is promised, or a lease still runs."""

    ballot: Ballot
    promised: Ballot


class Yield(NamedTuple):
    """The leader hands over: campaign at once under the waiver that this message is. Sent to a caught-up voter only."""

    ballot: Ballot
    chosen: Slot


class Heartbeat(NamedTuple):
    """The leader renews its lease and tells the commit index. Never waits for a disk.

    `sent`: the leader's clock when it began to send this round; `round`: grows by one each, so that reads can wait for
    a round that began after them.
    """

    ballot: Ballot
    commit: Slot
    sent: int
    round: int
    configuration: Slot


class Beaten(NamedTuple):
    """A heartbeat's answer: the lease is granted from the moment it arrived here. `applied`: the commit index here."""

    ballot: Ballot
    sent: int
    round: int
    applied: Slot


# ---------------------------------------------------------------- the log


class Accept(NamedTuple):
    """Phase 2a for `values` in the slots `first`, `first` + 1, ... `commit` rides along."""

    ballot: Ballot
    first: Slot
    values: tuple[Value, ...]
    commit: Slot


class Accepted(NamedTuple):
    """Phase 2b: the slots `first` to `last` (both included) are accepted in `ballot` and durable."""

    ballot: Ballot
    first: Slot
    last: Slot


class Vouched(NamedTuple):
    """The leader's own votes in `ballot` for the slots up to `slot` are durable, and each is a quorum together with the
    receiver's: such a slot is chosen when the receiver's own vote there, in that ballot, is durable. `alone`: nobody
    waits for what is chosen but clients of the receiver, so that its answer may wait for its next words."""

    ballot: Ballot
    slot: Slot
    alone: bool


class Commit(NamedTuple):
    """Every slot up to `commit` is chosen. A learner may believe it of a slot only if its own vote there is of this
    ballot, or below what it already knows; otherwise it fetches the value."""

    ballot: Ballot
    commit: Slot


class Fetch(NamedTuple):
    """Send me chosen values from `first` on (at most `limit` bytes of them)."""

    first: Slot
    limit: int


class Chosen(NamedTuple):
    """Chosen values from `first` on; `commit` is how far the sender knows. Empty if `first` is beyond it."""

    first: Slot
    values: tuple[Value, ...]
    commit: Slot


class Compacted(NamedTuple):
    """You fetch what I hold only inside the snapshot at `slot`, of `size` bytes."""

    slot: Slot
    size: int


class FetchSnapshot(NamedTuple):
    """Send me the snapshot at `slot` from byte `offset` on."""

    slot: Slot
    offset: int


class SnapshotChunk(NamedTuple):
    """A piece of the snapshot file at `slot`; empty `chunk` with `size` 0: I no longer have it."""

    slot: Slot
    offset: int
    size: int
    chunk: bytes


# ---------------------------------------------------------------- linearizable reads at followers


class ReadIndex(NamedTuple):
    """A follower asks for an index that its waiting reads must reach; `context` comes back. `by_round`: they rely on no
    clock, so the answer must wait for a round of heartbeats, whatever the leader's lease."""

    context: int
    by_round: bool


class ReadGranted(NamedTuple):
    """Reads that began before the question are linearizable once `slot` is applied."""

    context: int
    slot: Slot


Message = (
    Canvass | Canvassed | Prepare | Promise | Refused | Yield | Heartbeat | Beaten | Accept | Accepted
    | Vouched | Commit | Fetch | Chosen | Compacted | FetchSnapshot | SnapshotChunk | ReadIndex | ReadGranted
)  # fmt: skip

__all__ = [
    "NOOP", "Accept", "Accepted", "Beaten", "Canvass", "Canvassed", "Chosen", "Commit", "Compacted", "Configuration",
    "Fetch", "FetchSnapshot", "Heartbeat", "Kind", "Message", "Prepare", "Promise", "ReadGranted", "ReadIndex",
    "Refused", "Sender", "SnapshotChunk", "Value", "Vote", "Vouched", "Yield",
]  # fmt: skip
