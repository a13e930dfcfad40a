"""One member's Multi-Paxos: the roles composed, and the only door to them.

Reading order: :mod:`.acceptor` (votes, grants), :mod:`.proposer` (phases 1 and 2), :mod:`.lease`, :mod:`.learner`,
:mod:`.catchup`, then this module, which decides who plays which role when.

Theory of operation.

*Election.* A voter whose grant ran out waits a random moment and *canvasses*: it asks all voters whether they would
promise. Only with a quorum of yes does it raise its ballot (durably) and prepare, so that a member behind a partial
partition disturbs nobody, and only a member that is connected to a quorum can come to lead. A leader that no quorum
answers for a whole lease steps down. A leader that is refused because somebody promised higher prepares again,
higher, at once; its own lease does not stand in its way.

*Taking over.* With a quorum of promises the member heartbeats, catches up to the farthest chosen slot reported,
proposes the open values and one no-op above them. When that no-op is chosen it *serves*: everything chosen before its
ballot is applied.

*Membership.* A CONFIGURATION value takes effect when it is handed out, and nothing is proposed above it before that
(stop-the-line). A leader that proposed it goes on: no lower ballot can have used the new configuration, or phase 1
would have shown the change. A leader that *found* it open finishes it under the old quorums and then prepares again
under the new ones, because its predecessor may have chosen values above it with the new quorums. A member that a
newer configuration has not reached yet is told by anybody whom it asks, because answers carry how far the log is
chosen.

*Intact or not.* A member whose acceptor state may be incomplete never promises, votes, grants or campaigns; it
learns, until it is removed and comes back under a new id.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from . import messages as m
from .acceptor import Acceptor
from .ballot import DECIDED, NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from .catchup import CatchUp
from .configuration import encode_change, reconfigured
from .learner import Learner
from .lease import Lease
from .messages import NOOP, Kind, Message, Sender, Value
from .proposer import Preparation, Proposer, vote_parts
from .quorum import Change, ChangeKind, Configuration, InvalidChange, Phase, Role, changed, is_quorum
from .ready import (
    NOTHING,
    AcceptedValue,
    Committed,
    DurableState,
    KnownChosen,
    Promised,
    ReadResult,
    Ready,
    Record,
    Send,
    SnapshotRequest,
)


class Options(NamedTuple):
    """Times in microseconds, sizes in bytes. Every member of a cell must run with the same lease and drift."""

    lease: int = 400_000
    heartbeat: int = 50_000
    drift_ppm: int = 20_000  # how much faster one clock may run than another, in parts per million
    campaign_spread: int = 100_000  # a campaign starts up to this long after the lease ended, at random
    window: int = 8  # slots proposed and not yet chosen
    fetch_limit: int = 1 << 20
    promise_limit: int = 1 << 20
    retained: int = 16 << 20  # bytes of chosen log kept in memory behind a snapshot for lagging members


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


NEVER: Final = 1 << 62


class _Transfer(NamedTuple):
    to: MemberId
    until: int


class _WaitingRead(NamedTuple):
    asker: MemberId
    context: int
    round: int


class Replica:
    """The consensus core of one member. It does no I/O and reads no clock: `now` is always the caller's monotonic
    clock in microseconds, fresh (lease safety depends on it), and never goes back.

    Each call changes state and gathers effects; :meth:`ready` takes the effects out. Call it after every call or after
    many: the result is the same.

    Attributes to look at: `status`; `leader` (whom this member follows, itself when it leads, None when unknown);
    `configuration`; `serving` (leads, and has committed a value of its own ballot).
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
        """A member starting on `state`, in run number `incarnation` of its disk (the first is 1). It stays silent
        towards candidates for one whole lease unless this is the first. `state.configuration` is the one in force at
        `state.snapshot`."""
        self.member = member
        self.incarnation = incarnation
        self.options = options
        self.configuration = state.configuration
        self.leader: MemberId | None = None
        self.serving = False
        self._random = random
        self._intact = state.intact
        used = incarnation > 1 or state.promised != NO_BALLOT
        silent = now + options.lease + options.lease * options.drift_ppm // 1_000_000 if used else now
        self._acceptor = Acceptor(state.promised, state.votes, silent)
        self._learner = Learner(state.snapshot, state.snapshot_size, options.retained)
        self._catchup = CatchUp(4 * options.heartbeat, options.fetch_limit)
        self._followed = NO_BALLOT
        self._round = state.promised.round
        self._preparation: Preparation | None = None
        self._proposer: Proposer | None = None
        self._lease: Lease | None = None
        self._canvass: tuple[Ballot, set[MemberId]] | None = None
        self._recovering: deque[Value] | None = None
        self._base: tuple[Slot, MemberId] | None = None
        self._barrier: Slot | None = None
        self._open_change: Slot | None = None
        self._found_change = False
        self._transfer: _Transfer | None = None
        self._progress: dict[MemberId, Slot] = {}
        self._reads: list[_WaitingRead] = []
        self._asked: dict[int, int] = {}  # reads sent to the leader: context -> when
        self._heartbeat_due = NEVER
        self._campaign_due = now
        self._recorded = 0
        self._chosen_recorded = state.chosen
        self._own: deque[tuple[int, Ballot, Slot | None]] = deque()  # own promise (None) and votes awaiting the disk
        self._commit_told = state.chosen
        self._told = NO_SLOT
        self._healed_at = NO_SLOT
        self._messages: list[Send] = []
        self._records: list[Record] = []
        self._after: list[Send] = []
        self._results: list[ReadResult] = []
        self._requests: list[SnapshotRequest] = []
        self._chunks: list[m.SnapshotChunk] = []
        self._voters: frozenset[MemberId] = frozenset()
        self._others: list[MemberId] = []
        self._adopt(state.configuration, now)
        values = {v.slot: v.value for v in state.votes if v.slot not in state.damaged}
        self._recover(values, state.chosen, now)
        if self.chosen < state.chosen:
            self._healed_at = state.chosen
        self._rest(now, self._acceptor.silent_until)

    # ---------------------------------------------------------------- in

    def receive(self, sender: Sender, message: Message, now: int) -> None:
        """Take one message. Anything outdated, duplicated or foreign is dropped; nothing is trusted about order."""
        _HANDLERS[type(message)](self, sender.member, message, now)

    def tick(self, now: int) -> None:
        """Let time pass. Due times are exact: :meth:`next_tick` says when the next call can matter."""
        if self._lease is not None:
            self._lead(now)
        elif now >= self._campaign_due:
            self._campaign(now)
        due = self._catchup.due
        if due is not None and now >= due:
            self._say(self._catchup.overdue(Slot(self._learner.chosen + 1), self._others, now))
        if self._asked:
            self._retry_reads(now)

    def next_tick(self) -> int:
        """The time at which :meth:`tick` has something to do if nothing arrives."""
        due = self._campaign_due
        if self._lease is not None:
            due = min(self._heartbeat_due, self._lease.forlorn_at() + 1)
        if self._catchup.due is not None:
            due = min(due, self._catchup.due)
        if self._asked:
            due = min(due, min(self._asked.values()) + 2 * self.options.heartbeat)
        return due

    def can_propose(self) -> int:
        """How many values :meth:`propose` takes now: 0 unless this member serves, no configuration change or transfer
        is open, and the window has room."""
        if not self.serving or self._open_change is not None or self._transfer is not None:
            return 0
        assert self._proposer is not None
        return max(0, self.options.window - len(self._proposer.in_flight))

    def propose(self, value: Value, now: int) -> Slot:
        """Propose a COMMANDS value in the next slot. Raises NotLeader; asserts can_propose() > 0."""
        if self._proposer is None:
            raise NotLeader(self.leader)
        assert self.can_propose() > 0, "proposed beyond the window"
        return self._propose(value, now)

    def reconfigure(self, change: Change, now: int) -> Slot:
        """Propose a membership change. Raises NotLeader, InvalidChange (does not fit, another is open, or the learner
        to be promoted lags)."""
        if not self.serving or self._proposer is None:
            raise NotLeader(self.leader)
        if self._open_change is not None or self._transfer is not None:
            raise InvalidChange("another change of membership or leadership is under way; try again when it is done")
        changed(self.configuration, change, self._proposer.next)
        if change.kind is ChangeKind.PROMOTE:
            behind = self.chosen - self._progress.get(change.member.id, Slot(0))
            if behind > 8 * self.options.window:
                raise InvalidChange(
                    f"member {change.member.id} is {behind} slots behind; promote it when it has caught up"
                )
        return self._propose(Value(Kind.CONFIGURATION, encode_change(change)), now)

    def transfer(self, to: MemberId, now: int) -> None:
        """Hand leadership to a voter: stop proposing, wait until it has caught up, give up the lease, tell it to
        campaign. Given up after one lease. Raises NotLeader, InvalidChange (not another voter, or a change is
        open)."""
        if not self.serving:
            raise NotLeader(self.leader)
        if to not in self._voters or to == self.member:
            raise InvalidChange(f"leadership can be handed to another voter only, and member {to} is none")
        if self._open_change is not None:
            raise InvalidChange("a change of membership is under way; try again when it is done")
        self._transfer = _Transfer(to, now + self.options.lease)
        self._try_transfer(now)

    def read(self, context: int, now: int) -> None:
        """Ask for a linearizable index; the answer comes in `Ready.reads` (slot None if leadership is lost or
        unknown). The leader answers at once while its lease surely holds, by a heartbeat round otherwise; others ask
        the leader; waiting reads share a round."""
        if self._lease is not None:
            self._read(self.member, context, now)
        elif self.leader is None:
            self._results.append(ReadResult(context, None))
        else:
            self._asked[context] = now
            self._send(self.leader, m.ReadIndex(context))

    def persisted(self, upto: int, now: int) -> None:
        """Every record up to number `upto` is durable. Only now does this member's own vote count."""
        while self._own and self._own[0][0] <= upto:
            _, ballot, slot = self._own.popleft()
            if slot is None:
                if self._preparation is not None and self._preparation.ballot == ballot:
                    self._prepared(self.member, self._own_promise(), now)
            elif self._proposer is not None and self._proposer.ballot == ballot:
                self._proposer.accepted(self.member, slot, slot)
                self._advance(now)

    def compacted(self, slot: Slot, size: int) -> None:
        """A snapshot at `slot`, of `size` bytes, is verified and durable: the log behind it may go (some is retained
        in memory for lagging members)."""
        self._learner.compact(slot, size)

    def expects(self, slot: Slot) -> bool:
        """Whether the snapshot at `slot`, fetched whole, is still wanted: ask before restoring it."""
        return self._catchup.installing and self._catchup.slot == slot > self.chosen

    def installed(self, slot: Slot, size: int, configuration: Configuration, now: int) -> None:
        """The fetched snapshot at `slot` is durable and restored into the machines: continue above it."""
        assert self.expects(slot), "a snapshot was installed that nobody waits for"
        self._catchup.abandon()
        self._learner.jump(slot, size)
        self._acceptor.forget(slot)
        self._record(KnownChosen(slot))
        self._chosen_recorded = slot
        self._adopt(configuration, now)
        self._believe(now)
        self._caught_up(now)

    def abandon_snapshot(self) -> None:
        """The fetched snapshot turned out bad or late: try another source when the need shows again."""
        self._catchup.abandon()

    # ---------------------------------------------------------------- out

    def ready(self) -> Ready:
        """Everything to be done since the last call; :data:`NOTHING` itself if nothing is."""
        learner = self._learner
        if self._lease is not None and learner.chosen > self._commit_told:
            self._tell_commit()
        if not (
            self._messages
            or self._records
            or self._after
            or learner.committed
            or self._results
            or self._requests
            or self._chunks
        ):
            return NOTHING
        if self._records and learner.chosen > self._chosen_recorded:
            self._chosen_recorded = learner.chosen
            self._record(KnownChosen(learner.chosen))
        committed, learner.committed = learner.committed, []
        if committed:
            self._acceptor.forget(learner.chosen)
        ready = Ready(
            tuple(self._messages),
            tuple(self._records),
            self._recorded,
            tuple(self._after),
            tuple(committed),
            tuple(self._results),
            tuple(self._requests),
            tuple(self._chunks),
        )
        self._messages.clear()
        self._records.clear()
        self._after.clear()
        self._results.clear()
        self._requests.clear()
        self._chunks.clear()
        return ready

    # ---------------------------------------------------------------- to look at

    @property
    def status(self) -> Status:
        member = self.configuration.find(self.member)
        if member is None or not self._intact:
            return Status.RETIRED
        if member.role is Role.LEARNER:
            return Status.LEARNER
        if self._lease is not None:
            return Status.LEADER
        if self._preparation is not None:
            return Status.PREPARING
        return Status.CANVASSING if self._canvass is not None else Status.FOLLOWER

    @property
    def ballot(self) -> Ballot:
        """The highest ballot promised here."""
        return self._acceptor.promised

    @property
    def chosen(self) -> Slot:
        """The commit index: every slot up to it was, or is in the next Ready, handed out."""
        return self._learner.chosen

    def lease_left(self, now: int) -> int:
        """Microseconds for which this leader's lease surely still runs; 0 for anybody else."""
        return self._lease.left(now) if self._lease is not None and self._transfer is None else 0

    def progress(self) -> dict[MemberId, Slot]:
        """The leader's view: how far each other member has applied, by its last answer to a heartbeat."""
        return dict(self._progress)

    def answering(self, now: int) -> list[MemberId]:
        """The leader's view: the members, itself included, that answered a heartbeat within the last lease."""
        if self._lease is None:
            return []
        return [i for i in sorted(self.configuration.ids()) if self._lease.answered_recently(i, now)]

    # ---------------------------------------------------------------- effects

    def _send(self, to: MemberId, message: Message) -> None:
        self._messages.append(Send(to, message))

    def _say(self, send: Send | None) -> None:
        if send is not None:
            self._messages.append(send)

    def _broadcast(self, message: Message) -> None:
        self._messages.extend([Send(other, message) for other in self._others])

    def _record(self, record: Record) -> int:
        self._records.append(record)
        self._recorded += 1
        return self._recorded

    def _tell_commit(self) -> None:
        """Commits travel in an Accept of the same Ready if there is one, and as messages of their own otherwise."""
        self._commit_told = chosen = self._learner.chosen
        carried = False
        for i, (to, message) in enumerate(self._messages):
            if type(message) is m.Accept:
                self._messages[i] = Send(to, message._replace(commit=chosen))
                carried = True
        if not carried:
            self._broadcast(m.Commit(self._followed, chosen))

    # ---------------------------------------------------------------- configuration

    def _adopt(self, configuration: Configuration, now: int) -> None:
        self.configuration = configuration
        self._voters = configuration.voters()
        self._others = sorted(configuration.ids() - {self.member})
        self._progress = {i: s for i, s in self._progress.items() if i in configuration.ids()}
        if self._lease is not None:
            self._lease.reconfigure(self._voters)
        if self._proposer is not None:
            self._proposer.voters = self._voters

    def _changed(self, slot: Slot, value: Value, now: int) -> None:
        """A CONFIGURATION value was learned: it governs from here on."""
        self._adopt(reconfigured(self.configuration, value.payload, slot), now)
        if self._open_change == slot:
            self._open_change = None
        leads = self._lease is not None
        if (leads or self._preparation is not None or self._canvass is not None) and self.member not in self._voters:
            self._step_down(now)
        elif self._preparation is not None or (leads and self._found_change) or (leads and not self.serving):
            self._prepare(now, NO_BALLOT)
        elif self._canvass is not None or (not leads and self._campaign_due == NEVER):
            self._rest(now, now + self.options.lease)

    def _may_promise(self) -> bool:
        """Our acceptor state is whole: intact, and no chosen slot that the disk lost is still missing."""
        return self._intact and self._learner.chosen >= self._healed_at

    def _may_campaign(self) -> bool:
        return self._may_promise() and self.member in self._voters

    def _stranger(self, sender: MemberId, configuration: Slot) -> bool:
        """Whether a candidate is none by our configuration, and ours is not the older one."""
        return sender not in self._voters and configuration <= self.configuration.number

    # ---------------------------------------------------------------- election

    def _rest(self, now: int, until: int) -> None:
        """No campaign before a random moment after `until`."""
        self._canvass = None
        self._preparation = None
        spread = self._random.randrange(self.options.campaign_spread) if self.options.campaign_spread else 0
        self._campaign_due = max(now, until) + spread if self._may_campaign() else NEVER

    def _campaign(self, now: int) -> None:
        """Our grant ran out, or the last try led to nothing: canvass."""
        if not self._may_campaign():
            self._campaign_due = NEVER
            return
        if self._acceptor.bound(NO_BALLOT._replace(member=self.member), NO_BALLOT, now):
            self._rest(now, max(self._acceptor.granted_until, self._acceptor.silent_until))
            return
        if self.leader is not None:
            self._lose_leader()
        self._preparation = None
        ballot = Ballot(max(self._round, self._acceptor.promised.round) + 1, self.member)
        self._canvass = (ballot, {self.member})
        self._campaign_due = now + self.options.lease // 2 + self._random.randrange(self.options.campaign_spread + 1)
        if is_quorum(Phase.PREPARE, {self.member}, self._voters):
            self._prepare(now, NO_BALLOT)
            return
        for voter in sorted(self._voters - {self.member}):
            self._send(voter, m.Canvass(ballot, self.chosen, self.configuration.number))

    def _on_canvass(self, sender: MemberId, message: m.Canvass, now: int) -> None:
        acceptor = self._acceptor
        granted = (
            self._may_promise()
            and not self._stranger(sender, message.configuration)
            and message.ballot > acceptor.promised
            and not acceptor.bound(message.ballot, NO_BALLOT, now)
        )
        self._send(sender, m.Canvassed(message.ballot, granted, acceptor.promised, self.chosen))

    def _on_canvassed(self, sender: MemberId, message: m.Canvassed, now: int) -> None:
        self._note_round(message.promised)
        self._missing(message.chosen, sender, now)
        if self._canvass is None or self._canvass[0] != message.ballot or not message.granted:
            return
        votes = self._canvass[1]
        votes.add(sender)
        if is_quorum(Phase.PREPARE, votes, self._voters):
            self._prepare(now, NO_BALLOT)

    def _prepare(self, now: int, waiver: Ballot) -> None:
        """Raise the ballot, durably, and ask for promises."""
        self._dethrone()
        self._lose_leader()
        ballot = Ballot(max(self._round, self._acceptor.promised.round) + 1, self.member)
        self._acceptor.promise(ballot)
        self._round = ballot.round
        self._canvass = None
        self._preparation = Preparation(ballot, Slot(self.chosen + 1), self._voters)
        self._campaign_due = now + self.options.lease // 2 + self._random.randrange(self.options.campaign_spread + 1)
        number = self._record(Promised(ballot))
        self._own.append((number, ballot, None))
        prepare = m.Prepare(ballot, self._preparation.first, self.configuration.number, waiver)
        self._after.extend([Send(other, prepare) for other in self._others if other in self._voters])

    def _on_prepare(self, sender: MemberId, message: m.Prepare, now: int) -> None:
        acceptor = self._acceptor
        if not self._may_promise() or message.ballot.member != sender or self._stranger(sender, message.configuration):
            return
        if message.ballot < acceptor.promised or acceptor.bound(message.ballot, message.waiver, now):
            self._send(sender, m.Refused(message.ballot, acceptor.promised))
            return
        if message.ballot > acceptor.promised:
            self._note_round(message.ballot)
            if self._lease is not None or self._preparation is not None:
                self._dethrone()
            self._lose_leader()
            self._rest(now, now + self.options.lease)
            acceptor.promise(message.ballot)
            self._record(Promised(message.ballot))
        votes = acceptor.open_votes(max(message.first, Slot(self.chosen + 1)))
        parts = vote_parts(votes, self.options.promise_limit)
        for i, part in enumerate(parts):
            promise = m.Promise(message.ballot, message.first, part, self.chosen, self._learner.snapshot, i, len(parts))
            self._after.append(Send(sender, promise))

    def _own_promise(self) -> m.Promise:
        assert self._preparation is not None
        votes = tuple(self._acceptor.open_votes(Slot(self.chosen + 1)))
        preparation = self._preparation
        return m.Promise(preparation.ballot, preparation.first, votes, self.chosen, self._learner.snapshot)

    def _on_promise(self, sender: MemberId, message: m.Promise, now: int) -> None:
        if self._preparation is not None and self._preparation.ballot == message.ballot:
            self._prepared(sender, message, now)

    def _prepared(self, member: MemberId, promise: m.Promise, now: int) -> None:
        preparation = self._preparation
        assert preparation is not None
        preparation.promised(member, promise)
        if self._lease is None and preparation.complete():
            self._ascend(now)

    def _on_refused(self, sender: MemberId, message: m.Refused, now: int) -> None:
        self._note_round(message.promised)
        ours = self._acceptor.promised
        if message.ballot != ours or ours.member != self.member or message.promised <= ours:
            return
        if self._lease is not None:
            self._prepare(now, NO_BALLOT)
        elif self._preparation is not None:
            self._rest(now, now)

    def _on_yield(self, sender: MemberId, message: m.Yield, now: int) -> None:
        asked = message.ballot == self._followed and self.leader == sender
        if asked and self._may_campaign() and self.chosen >= message.chosen:
            self._prepare(now, message.ballot)

    def _note_round(self, ballot: Ballot) -> None:
        if ballot.round > self._round:
            self._round = ballot.round

    # ---------------------------------------------------------------- leading

    def _ascend(self, now: int) -> None:
        """A quorum promised: nobody with a lower ballot can choose anything any more."""
        preparation = self._preparation
        assert preparation is not None
        assert preparation.ballot == self._acceptor.promised
        self._canvass = None
        self._campaign_due = NEVER
        self.leader = self.member
        self._followed = preparation.ballot
        self._base = preparation.base()
        self._lease = Lease(self.member, self._voters, self.options.lease, self.options.drift_ppm, now)
        self._heartbeat(now)
        self._take_over(now)

    def _take_over(self, now: int) -> None:
        """Once everything reported as chosen is here: propose what is open, and a no-op of our own above it."""
        preparation = self._preparation
        assert preparation is not None
        assert self._base is not None
        base, source = self._base
        if self.chosen < base:
            self._missing(base, source, now)
            return
        self._preparation = None
        self._catchup.abandon()
        self._proposer = Proposer(preparation.ballot, self.chosen, self._voters)
        self._commit_told = self.chosen
        self._recovering = deque(preparation.open_values(self.chosen))
        self._recovering.append(NOOP)
        self._recover_open(now)

    def _caught_up(self, now: int) -> None:
        """Chosen slots arrived; a leader that waited for them may take over."""
        if self._preparation is not None and self._lease is not None:
            self._take_over(now)

    def _recover_open(self, now: int) -> None:
        """Propose recovered values; not above a configuration among them."""
        proposer, recovering = self._proposer, self._recovering
        assert proposer is not None
        while recovering and self._open_change is None and len(proposer.in_flight) < self.options.window:
            value = recovering.popleft()
            slot = self._propose(value, now)
            if value.kind is Kind.CONFIGURATION:
                self._found_change = True
            elif not recovering:
                self._barrier = slot
                self._recovering = None

    def _propose(self, value: Value, now: int) -> Slot:
        proposer = self._proposer
        assert proposer is not None
        slot = proposer.propose(value, now)
        if value.kind is Kind.CONFIGURATION:
            self._open_change = slot
        if self._acceptor.accept(proposer.ballot, slot, value):
            number = self._record(AcceptedValue(proposer.ballot, slot, value))
        else:
            number = self._recorded
        self._own.append((number, proposer.ballot, slot))
        self._commit_told = self.chosen
        self._broadcast(m.Accept(proposer.ballot, slot, (value,), self.chosen))
        return slot

    def _lead(self, now: int) -> None:
        lease = self._lease
        assert lease is not None
        if now > lease.forlorn_at():
            self._step_down(now)
            return
        if self._transfer is not None and now >= self._transfer.until:
            self._transfer = None
        if now >= self._heartbeat_due:
            self._heartbeat(now)

    def _heartbeat(self, now: int) -> None:
        lease = self._lease
        assert lease is not None
        round_ = lease.send(now)
        self._acceptor.grant(self._followed, now, self.options.lease)
        self._heartbeat_due = now + self.options.heartbeat
        self._commit_told = self.chosen
        beat = m.Heartbeat(self._followed, self.chosen, now, round_, self.configuration.number)
        self._messages[:0] = [Send(other, beat) for other in self._others]
        if self._preparation is not None:  # not taken over yet: a quorum promised, the rest may still be asked
            return
        self._grant_reads(now)

    def _on_beaten(self, sender: MemberId, message: m.Beaten, now: int) -> None:
        if self._lease is None or message.ballot != self._followed:
            return
        self._progress[sender] = message.applied
        self._lease.answer(sender, message.sent, message.round)
        if self._reads:
            self._grant_reads(now)
        if self._proposer is not None and sender in self._others:
            self._send_again(sender, now)
        if self._transfer is not None:
            self._try_transfer(now)

    def _send_again(self, to: MemberId, now: int) -> None:
        """What went out several heartbeats ago and `to` has not accepted was lost on the way."""
        proposer = self._proposer
        assert proposer is not None
        for proposal in proposer.unanswered(to, now - 4 * self.options.heartbeat):
            proposal.sent = now
            self._send(to, m.Accept(proposer.ballot, proposal.slot, (proposal.value,), self.chosen))

    def _on_accepted(self, sender: MemberId, message: m.Accepted, now: int) -> None:
        proposer = self._proposer
        if proposer is None or message.ballot != proposer.ballot:
            return
        proposer.accepted(sender, message.first, message.last)
        self._advance(now)

    def _advance(self, now: int) -> None:
        """Hand out what is chosen, in order."""
        proposer = self._proposer
        assert proposer is not None
        for proposal in proposer.take_chosen():
            self._learner.learn(proposal.slot, proposal.value)
            if proposal.value.kind is Kind.CONFIGURATION:
                self._changed(proposal.slot, proposal.value, now)
                if self._proposer is not proposer:
                    return
        if self._recovering is not None:
            self._recover_open(now)
        if self._barrier is not None and self.chosen >= self._barrier:
            self._barrier = None
            self.serving = True

    def _try_transfer(self, now: int) -> None:
        transfer, proposer = self._transfer, self._proposer
        assert transfer is not None
        assert proposer is not None
        if not proposer.in_flight and self._progress.get(transfer.to, Slot(0)) >= self.chosen:
            self._send(transfer.to, m.Yield(proposer.ballot, self.chosen))
            self._step_down(now)

    def _step_down(self, now: int) -> None:
        self._dethrone()
        self._lose_leader()
        self._rest(now, now + self.options.lease // 2)

    def _dethrone(self) -> None:
        """Stop acting under our ballot."""
        self.serving = False
        self._preparation = None
        self._proposer = None
        self._lease = None
        self._heartbeat_due = NEVER
        self._recovering = None
        self._base = None
        self._barrier = None
        self._open_change = None
        self._found_change = False
        self._transfer = None
        self._own.clear()
        self._progress.clear()
        reads, self._reads = self._reads, []
        for read in reads:
            if read.asker == self.member:
                self._results.append(ReadResult(read.context, None))
        if self.leader == self.member:
            self.leader = None

    def _lose_leader(self) -> None:
        self.leader = None
        asked, self._asked = self._asked, {}
        self._results.extend(ReadResult(context, None) for context in asked)

    # ---------------------------------------------------------------- following

    def _follow(self, sender: MemberId, ballot: Ballot, now: int) -> bool:
        """Whether `ballot`, of which `sender` claims to be the leader, is one to follow; then we do."""
        if ballot < self._acceptor.promised or ballot < self._followed or ballot.member != sender:
            self._send(sender, m.Refused(ballot, max(self._acceptor.promised, self._followed)))
            return False
        if ballot > self._followed or self.leader != sender:
            if self._lease is not None or self._preparation is not None:
                self._dethrone()
            self._lose_leader()
            self._note_round(ballot)
            self._followed = ballot
            self._told = NO_SLOT
            self.leader = sender
            self._rest(now, max(now, self._acceptor.granted_until) + self.options.lease)
        return True

    def _on_heartbeat(self, sender: MemberId, message: m.Heartbeat, now: int) -> None:
        if not self._follow(sender, message.ballot, now):
            return
        if self._intact:
            self._acceptor.grant(message.ballot, now, self.options.lease)
            self._rest(now, self._acceptor.granted_until)
            self._send(sender, m.Beaten(message.ballot, message.sent, message.round, self.chosen))
        self._commit(sender, message.ballot, message.commit, now)

    def _on_accept(self, sender: MemberId, message: m.Accept, now: int) -> None:
        if not self._follow(sender, message.ballot, now):
            return
        ballot = message.ballot
        slot = message.first
        chosen = self._learner.chosen
        for value in message.values:
            if slot > chosen and self._acceptor.accept(ballot, slot, value):
                self._record(AcceptedValue(ballot, slot, value))
            slot = Slot(slot + 1)
        if self._intact:
            self._after.append(Send(sender, m.Accepted(ballot, message.first, Slot(slot - 1))))
        self._commit(sender, ballot, message.commit, now)

    def _on_commit(self, sender: MemberId, message: m.Commit, now: int) -> None:
        if self._follow(sender, message.ballot, now):
            self._commit(sender, message.ballot, message.commit, now)

    def _commit(self, sender: MemberId, ballot: Ballot, commit: Slot, now: int) -> None:
        """The leader of `ballot` knows every slot up to `commit` to be chosen. Our own vote of that very ballot is
        then the chosen value; anything else must be fetched."""
        if commit > self._told:
            self._told = commit
        if self._learner.chosen < commit:
            self._believe(now)
            self._missing(commit, sender, now)

    def _believe(self, now: int) -> None:
        """Learn from our own votes what the leader we follow has told to be chosen. (That a slot is chosen may be
        heard from anybody, but only the leader of the vote's own ballot can vouch for the vote.)"""
        learner, votes = self._learner, self._acceptor.votes
        while True:
            slot = Slot(learner.chosen + 1)
            vote = votes.get(slot)
            if vote is None or not (vote.ballot == DECIDED or (slot <= self._told and vote.ballot == self._followed)):
                return
            learner.learn(slot, vote.value)
            if vote.value.kind is Kind.CONFIGURATION:
                self._changed(slot, vote.value, now)

    def _missing(self, upto: Slot, source: MemberId, now: int) -> None:
        """Slots up to `upto` are chosen; `source` knows them."""
        learner = self._learner
        learner.target = max(learner.target, upto)
        if learner.chosen < upto:
            self._say(self._catchup.want(Slot(learner.chosen + 1), source, now))

    # ---------------------------------------------------------------- catching up

    def _on_fetch(self, sender: MemberId, message: m.Fetch, now: int) -> None:
        values = self._learner.known(message.first, min(message.limit, self.options.fetch_limit))
        if values is None:
            self._send(sender, m.Compacted(self._learner.snapshot, self._learner.snapshot_size))
        else:
            self._send(sender, m.Chosen(message.first, values, self.chosen))

    def _on_chosen(self, sender: MemberId, message: m.Chosen, now: int) -> None:
        if self._proposer is not None:
            return  # a late answer: what a leader does not know to be chosen it proposes itself
        learner = self._learner
        before = learner.chosen
        slot = message.first
        for value in message.values:
            if slot == learner.chosen + 1:
                vote = self._acceptor.votes.get(slot)
                if vote is None or vote.value != value:
                    self._acceptor.decide(slot, value)
                    self._record(AcceptedValue(DECIDED, slot, value))
                learner.learn(slot, value)
                if value.kind is Kind.CONFIGURATION:
                    self._changed(slot, value, now)
            slot = Slot(slot + 1)
        learner.target = max(learner.target, message.commit)
        self._believe(now)
        if learner.chosen > before:
            self._catchup.answered(sender)
            if learner.chosen < learner.target:
                self._missing(learner.target, sender, now)
        self._caught_up(now)

    def _on_compacted(self, sender: MemberId, message: m.Compacted, now: int) -> None:
        if message.slot > self.chosen:
            self._say(self._catchup.compacted(sender, message.slot, message.size, now))

    def _on_fetch_snapshot(self, sender: MemberId, message: m.FetchSnapshot, now: int) -> None:
        self._requests.append(SnapshotRequest(sender, message))

    def _on_snapshot_chunk(self, sender: MemberId, message: m.SnapshotChunk, now: int) -> None:
        expected, question = self._catchup.chunk(sender, message, now)
        if expected:
            self._chunks.append(message)
        self._say(question)

    def _recover(self, values: dict[Slot, Value], upto: Slot, now: int) -> None:
        """At start: what the disk knows to be chosen."""
        learner = self._learner
        learner.target = max(learner.target, upto)
        while learner.chosen < upto:
            slot = Slot(learner.chosen + 1)
            value = values.get(slot)
            if value is None:
                return
            learner.learn(slot, value)
            if value.kind is Kind.CONFIGURATION:
                self._changed(slot, value, now)

    # ---------------------------------------------------------------- reads

    def _read(self, asker: MemberId, context: int, now: int) -> None:
        lease = self._lease
        assert lease is not None
        if self.serving and self.lease_left(now) > 0:
            self._grant_read(asker, context)
            return
        shared = bool(self._reads) and self._reads[-1].round > lease.round
        self._reads.append(_WaitingRead(asker, context, lease.round + 1))
        if not shared:
            self._heartbeat_due = min(self._heartbeat_due, now)

    def _grant_reads(self, now: int) -> None:
        """Reads whose round a quorum answered, or that the lease now covers."""
        lease = self._lease
        if lease is None or not self.serving or not self._reads:
            return
        if self.lease_left(now) > 0:
            granted = len(self._reads)
        else:
            granted = 0
            while granted < len(self._reads) and lease.confirmed(self._reads[granted].round):
                granted += 1
        for read in self._reads[:granted]:
            self._grant_read(read.asker, read.context)
        del self._reads[:granted]

    def _grant_read(self, asker: MemberId, context: int) -> None:
        if asker == self.member:
            self._results.append(ReadResult(context, self.chosen))
        else:
            self._send(asker, m.ReadGranted(context, self.chosen))

    def _on_read_index(self, sender: MemberId, message: m.ReadIndex, now: int) -> None:
        if self._lease is not None:
            self._read(sender, message.context, now)

    def _on_read_granted(self, sender: MemberId, message: m.ReadGranted, now: int) -> None:
        if sender == self.leader and self._asked.pop(message.context, None) is not None:
            self._results.append(ReadResult(message.context, message.slot))

    def _retry_reads(self, now: int) -> None:
        """Questions to the leader that went unanswered for two heartbeats are asked again."""
        if self.leader is None:
            self._lose_leader()
            return
        for context, asked in self._asked.items():
            if now - asked >= 2 * self.options.heartbeat:
                self._asked[context] = now
                self._send(self.leader, m.ReadIndex(context))


_HANDLERS: Final[dict[type, Callable[[Replica, MemberId, Any, int], None]]] = {
    m.Canvass: Replica._on_canvass,
    m.Canvassed: Replica._on_canvassed,
    m.Prepare: Replica._on_prepare,
    m.Promise: Replica._on_promise,
    m.Refused: Replica._on_refused,
    m.Yield: Replica._on_yield,
    m.Heartbeat: Replica._on_heartbeat,
    m.Beaten: Replica._on_beaten,
    m.Accept: Replica._on_accept,
    m.Accepted: Replica._on_accepted,
    m.Commit: Replica._on_commit,
    m.Fetch: Replica._on_fetch,
    m.Chosen: Replica._on_chosen,
    m.Compacted: Replica._on_compacted,
    m.FetchSnapshot: Replica._on_fetch_snapshot,
    m.SnapshotChunk: Replica._on_snapshot_chunk,
    m.ReadIndex: Replica._on_read_index,
    m.ReadGranted: Replica._on_read_granted,
}

__all__ = ["NEVER", "Committed", "NotLeader", "Options", "Replica", "Status"]
