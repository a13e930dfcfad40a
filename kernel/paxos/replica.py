"""One member's Multi-Paxos: the roles composed, and the only door to them.

Reading order: the parts that know nothing of each other, :mod:`.acceptor` (votes, grants), :mod:`.proposer` (phases 1
and 2), :mod:`.lease`, :mod:`.learner`; then what is made of them, :mod:`.catchup`, :mod:`.reads`, :mod:`.following`,
:mod:`.election`, :mod:`.leadership`; then this module.

Theory of operation.

*Membership.* A CONFIGURATION value takes effect when it is handed out. A member that a newer configuration has not
reached yet is told by anybody whom it asks, because answers carry how far the log is chosen.

*Intact or not.* A member whose acceptor state may be incomplete never promises, votes, grants or campaigns; it
learns, until it is removed and comes back under a new id.

What is asserted here, and why, is on docs/explanation/invariants.rst.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import messages as m
from .acceptor import Acceptor
from .ballot import DECIDED, NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from .catchup import CatchUp
from .configuration import reconfigured
from .effects import Effects
from .election import Election
from .following import Following
from .leadership import Leadership
from .learner import Learner
from .messages import Kind, Message, Sender, Value
from .options import NEVER, Options
from .parts import Parts
from .proposer import Preparation
from .quorum import Change, Configuration, Role
from .reads import AskedReads
from .ready import AcceptedValue, Committed, DurableState, KnownChosen, ReadResult, Ready
from .roster import Roster

if TYPE_CHECKING:
    from random import Random


class Status(enum.IntEnum):
    """What a member is, to look at from outside."""

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
        used = incarnation > 1 or state.promised != NO_BALLOT
        silent = now + options.lease + options.lease * options.drift_ppm // 1_000_000 if used else now
        votes = [vote for vote in state.votes if vote.slot not in state.damaged]  # an older vote may have survived
        values = {vote.slot: vote.value for vote in votes}
        whole = all(slot in values for slot in range(state.snapshot + 1, state.chosen + 1))
        healed_at = NO_SLOT if whole else state.chosen
        self._roster = roster = Roster(member, state.configuration)
        self._effects = effects = Effects(roster, options.unwritten)
        self._acceptor = acceptor = Acceptor(state.promised, votes, silent, state.intact, healed_at)
        self._learner = learner = Learner(state.snapshot, state.snapshot_size, options.retained)
        self._catchup = catchup = CatchUp(4 * options.heartbeat, options.fetch_limit, roster, learner, effects)
        self._parts = parts = Parts(options, random, roster, effects, acceptor, learner, catchup)
        self._election = election = Election(parts, abdicate=self._abdicate, ascend=self._ascend)
        self._following = Following(parts, election, abdicate=self._abdicate, learned=self._changed)
        self._leadership: Leadership | None = None
        self._asked = AskedReads(incarnation, 2 * options.heartbeat, effects)
        self._chosen_recorded = state.chosen
        self._sated = False
        self._takers: dict[type, Callable[[MemberId, Any, int], None]] = {
            m.Canvass: election.on_canvass,
            m.Canvassed: election.on_canvassed,
            m.Prepare: election.on_prepare,
            m.Promise: election.on_promise,
            m.Refused: self._on_refused,
            m.Yield: self._following.on_yield,
            m.Heartbeat: self._following.on_heartbeat,
            m.Beaten: self._on_beaten,
            m.Accept: self._following.on_accept,
            m.Accepted: self._on_accepted,
            m.Vouched: self._following.on_vouched,
            m.Commit: self._following.on_commit,
            m.Fetch: catchup.on_fetch,
            m.Chosen: self._on_chosen,
            m.Compacted: catchup.on_compacted,
            m.FetchSnapshot: catchup.on_fetch_snapshot,
            m.SnapshotChunk: catchup.on_chunk,
            m.ReadIndex: self._on_read_index,
            m.ReadGranted: self._on_read_granted,
        }
        if state.snapshot:
            # the record that it came from a peer may not have been written: votes below it must never be believed
            effects.record(KnownChosen(state.snapshot, installed=True))
        self._recover(values, state.chosen)
        learner.backlog = 0  # that is applied at once, before anybody is served
        election.rest(now, silent)

    def _recover(self, values: dict[Slot, Value], upto: Slot) -> None:
        """At start: what the disk knows to be chosen."""
        learner = self._learner
        learner.target = max(learner.target, upto)
        while learner.chosen < upto:
            slot = Slot(learner.chosen + 1)
            value = values.get(slot)
            if value is None:
                return
            learner.learn(slot, value, hearsay=True)
            if value.kind is Kind.CONFIGURATION:
                self._roster.adopt(reconfigured(self.configuration, value.payload, slot))

    # ---------------------------------------------------------------- in

    def receive(self, sender: Sender, message: Message, now: int) -> None:
        """Take one message. Anything outdated, duplicated or foreign is dropped; nothing is trusted about order."""
        self._takers[type(message)](sender.member, message, now)

    def tick(self, now: int) -> None:
        """Let time pass, and begin a turn: after the next :meth:`ready` that has a portion of what is committed the
        rest waits for another tick. Due times are exact: :meth:`next_tick` says when the next call can matter."""
        self._sated = False
        if self._leadership is not None:
            self._leadership.tick(now)
        elif now >= self._election.due:
            self._election.tick(now)
        self._following.tick(now)
        self._catchup.tick(now)
        if self._asked.questions:
            self._asked.tick(self.leader, now)

    def next_tick(self) -> int:
        """The time at which :meth:`tick` has something to do if nothing arrives; 0 for at once."""
        if self._learner.committed:
            return 0
        due = self._election.due if self._leadership is None else self._leadership.due()
        if self._following.due < due:
            due = self._following.due
        other = self._catchup.due
        if other is not None and other < due:
            due = other
        if not self._asked.questions:
            return due
        other = self._asked.due()
        return other if other is not None and other < due else due

    def can_propose(self) -> int:
        """How many values :meth:`propose` takes now: 0 unless this member serves, no configuration change or transfer
        is open, and the window has room."""
        return self._leadership.room() if self._leadership is not None else 0

    def propose(self, value: Value, now: int) -> Slot:
        """Propose a COMMANDS value in the next slot. Raises NotLeader; asserts can_propose() > 0."""
        if self._leadership is None or not self._leadership.proposing:
            raise NotLeader(self.leader)
        return self._leadership.propose(value, now)

    def hurry(self, members: frozenset[MemberId]) -> None:
        """At these members somebody waits for what is chosen; this leader may tell the others a little later. Until
        it is called, and under a new leadership again, everybody is told at once."""
        if self._leadership is not None:
            self._leadership.hurry(members)

    def speak(self) -> None:
        """Something is about to be said to the leader, or waits for it: say with it what it was not told at once."""
        self._following.speak()

    def reconfigure(self, change: Change, now: int) -> Slot:
        """Propose a membership change. Raises NotLeader, InvalidChange (does not fit, another is open, or the learner
        to be promoted lags)."""
        if self._leadership is None or not self._leadership.serving:
            raise NotLeader(self.leader)
        return self._leadership.reconfigure(change, now)

    def transfer(self, to: MemberId, now: int) -> None:
        """Hand leadership to a voter: stop proposing, wait until it has caught up, give up the lease, tell it to
        campaign. Given up after one lease. Raises NotLeader, InvalidChange (not another voter, or a change is
        open)."""
        if self._leadership is None or not self._leadership.serving:
            raise NotLeader(self.leader)
        self._leadership.transfer(to, now)

    def read(self, context: int, now: int, by_round: bool = False) -> None:
        """Ask for a linearizable index; the answer comes in `Ready.reads` (slot None if leadership is lost or
        unknown). The leader answers at once while its lease surely holds, by a heartbeat round otherwise, or in any
        case if `by_round`, so that no clock is relied on; others ask the leader; waiting reads share a round."""
        if self._leadership is not None:
            self._leadership.read(self.member, context, by_round, now)
        elif self.leader is None:
            self._effects.results.append(ReadResult(context, None))
        else:
            self._asked.gather(context, by_round, now)

    def persisted(self, upto: int, now: int) -> None:
        """Every record up to number `upto` is durable. Only now does this member's own vote count."""
        self._effects.persisted(upto)
        self._election.persisted(upto, now)
        self._following.persisted(upto, now)
        if self._leadership is not None:
            self._leadership.persisted(upto, now)

    def compacted(self, slot: Slot, size: int) -> None:
        """A snapshot at `slot`, of `size` bytes, is verified and durable: the log behind it may go (some is retained
        in memory for lagging members)."""
        self._learner.compact(slot, size)

    def expects(self, slot: Slot) -> bool:
        """Whether the snapshot at `slot`, fetched whole, is still wanted: ask before restoring it."""
        return self._catchup.expects(slot)

    def installed(self, slot: Slot, size: int, configuration: Configuration, now: int) -> None:
        """The fetched snapshot at `slot` is durable and restored into the machines: continue above it."""
        assert self.expects(slot), "a snapshot was installed that nobody waits for"
        self._learner.jump(slot, size)
        self._acceptor.forget(slot)
        self._effects.record(KnownChosen(slot, installed=True))
        self._chosen_recorded = slot
        self._adopt(configuration, now)
        self._following.believe(now)
        self._catchup.installed(now)
        if self._leadership is not None:
            self._leadership.take_over(now)

    def abandon_snapshot(self) -> None:
        """The fetched snapshot turned out bad or late: try another source when the need shows again."""
        self._catchup.abandon()

    # ---------------------------------------------------------------- out

    def ready(self) -> Ready:
        """Everything to be done since the last call; :data:`NOTHING` itself if nothing is."""
        learner, effects = self._learner, self._effects
        if self._leadership is not None:
            self._leadership.flush()
        if self._asked.gathered:
            self._following.speak()  # the answer waits for our votes
            self._asked.ask(self.leader)
        if effects.records and learner.chosen > self._chosen_recorded:
            self._chosen_recorded = learner.chosen
            effects.record(KnownChosen(learner.chosen))
        committed = learner.committed
        if committed:
            if self._leadership is not None or (learner.backlog <= self.options.apply_limit and not self._sated):
                learner.committed = []
                learner.backlog = 0
            else:  # this member lagged: it serves others between two portions
                committed = [] if self._sated else learner.portion(self.options.apply_limit)
                self._sated = True
            self._acceptor.forget(learner.chosen)
        return effects.take(committed)

    @property
    def stirred(self) -> bool:
        """Whether something was gathered since the last :meth:`ready`: many a vote changes nothing that anybody must be
        told."""
        if self._learner.committed and (not self._sated or self._leadership is not None):
            return True
        return any(self._effects.all) or bool(self._asked.gathered)

    # ---------------------------------------------------------------- to look at

    @property
    def leader(self) -> MemberId | None:
        """Whom this member follows: itself when it leads, None when it knows of nobody."""
        return self._following.leader

    @property
    def configuration(self) -> Configuration:
        """The configuration in force here."""
        return self._roster.configuration

    @property
    def serving(self) -> bool:
        """Whether this member leads and has committed a value of its own ballot."""
        return self._leadership is not None and self._leadership.serving

    @property
    def choked(self) -> bool:
        """Whether this member neither votes nor learns because its disk is too far behind."""
        return self._effects.choked

    @property
    def status(self) -> Status:
        """What this member is at present."""
        member = self.configuration.find(self.member)
        if member is None or not self._acceptor.intact:
            return Status.RETIRED
        if member.role is Role.LEARNER:
            return Status.LEARNER
        if self._leadership is not None:
            return Status.LEADER
        if self._election.preparing:
            return Status.PREPARING
        return Status.CANVASSING if self._election.canvassing else Status.FOLLOWER

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
        return self._leadership.lease_left(now) if self._leadership is not None else 0

    def progress(self) -> dict[MemberId, Slot]:
        """The leader's view: how far each other member has applied, by its last answer to a heartbeat."""
        return dict(self._leadership.progress) if self._leadership is not None else {}

    def answering(self, now: int) -> list[MemberId]:
        """The leader's view: the members, itself included, that answered a heartbeat within the last lease."""
        if self._leadership is None:
            return []
        lease = self._leadership.lease
        return [i for i in sorted(self.configuration.ids()) if lease.answered_recently(i, now)]

    # ---------------------------------------------------------------- whom we follow, what we are

    def _abdicate(self) -> None:
        """Stop acting under our ballot, and following anybody."""
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            leadership.end()
            self._catchup.go_on()
        self._following.leader = None
        self._asked.give_up()

    def _step_down(self, now: int) -> None:
        self._abdicate()
        self._election.rest(now, now + self.options.lease // 2)

    def _prepare_again(self, now: int) -> None:
        self._election.prepare(now, NO_BALLOT)

    def _ascend(self, preparation: Preparation, now: int) -> None:
        """A quorum promised: nobody with a lower ballot can choose anything any more."""
        self._following.lead(preparation.ballot)
        self._leadership = Leadership(
            self._parts,
            preparation,
            now,
            learned=self._changed,
            prepare_again=self._prepare_again,
            step_down=self._step_down,
        )
        self._leadership.begin(now)

    def _changed(self, slot: Slot, value: Value, now: int) -> None:
        """A CONFIGURATION value was learned. The disk is told at once, so that a restart does not go back to voters
        that may be gone."""
        self._effects.record(KnownChosen(slot))
        self._chosen_recorded = slot
        self._adopt(reconfigured(self.configuration, value.payload, slot), now)

    def _adopt(self, configuration: Configuration, now: int) -> None:
        """`configuration` governs from here on. What was begun under another one and does not serve yet begins anew:
        its quorums are not those that decide now."""
        if configuration == self.configuration:
            return
        self._roster.adopt(configuration)
        leadership, election = self._leadership, self._election
        if leadership is not None:
            leadership.adopted()
        if not self._roster.votes():
            if leadership is not None:
                leadership.hand_over(now)
            if leadership is not None or election.preparing or election.canvassing:
                self._step_down(now)
        elif election.preparing or (leadership is not None and not leadership.serving):
            election.prepare(now, NO_BALLOT)
        elif election.canvassing:
            election.rest(now, now)

    # ---------------------------------------------------------------- messages that concern more than one role

    def _on_refused(self, sender: MemberId, message: m.Refused, now: int) -> None:
        election, ours = self._election, self._acceptor.promised
        election.note_round(message.promised)
        if message.ballot != ours or ours.member != self.member or message.promised <= ours:
            return
        if self._leadership is None:
            election.refused(now)
        elif self._leadership.lease.left(now) > 0:
            election.prepare(now, NO_BALLOT)

    def _on_beaten(self, sender: MemberId, message: m.Beaten, now: int) -> None:
        if self._leadership is not None:
            self._leadership.on_beaten(sender, message, now)

    def _on_accepted(self, sender: MemberId, message: m.Accepted, now: int) -> None:
        if self._leadership is not None:
            self._leadership.on_accepted(sender, message, now)

    def _on_read_index(self, sender: MemberId, message: m.ReadIndex, now: int) -> None:
        if self._leadership is not None:
            self._leadership.read(sender, message.context, message.by_round, now)

    def _on_read_granted(self, sender: MemberId, message: m.ReadGranted, now: int) -> None:
        if sender == self.leader:
            self._asked.granted(message.context, message.slot)

    def _on_chosen(self, sender: MemberId, message: m.Chosen, now: int) -> None:
        if self._leadership is not None and self._leadership.proposing:
            return  # a late answer: what a leader does not know to be chosen it proposes itself
        if self._effects.choked:
            return
        learner = self._learner
        before = learner.chosen
        slot = message.first
        for value in message.values:
            if slot == learner.chosen + 1:
                vote = self._acceptor.votes.get(slot)
                if vote is None or vote.value != value:
                    self._effects.record(AcceptedValue(DECIDED, slot, value))
                learner.learn(slot, value, hearsay=True)
                if value.kind is Kind.CONFIGURATION:
                    self._changed(slot, value, now)
            elif slot <= learner.chosen:
                assert learner.agrees(slot, value), f"slot {slot}: a second value for a chosen slot"
            slot = Slot(slot + 1)
        learner.target = max(learner.target, message.commit)
        self._following.believe(now)
        if learner.chosen > before or message.commit <= learner.chosen:
            self._catchup.answered(sender)
        if learner.chosen > before:
            self._catchup.missing(learner.target, sender, now)
        if self._leadership is not None:
            self._leadership.take_over(now)


__all__ = ["NEVER", "Committed", "NotLeader", "Options", "Replica", "Status"]
