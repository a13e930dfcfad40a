"""One leadership: from a quorum of promises until somebody else may lead.

Theory of operation. With a quorum of promises the member heartbeats, catches up to the farthest chosen slot reported,
proposes the open values and one no-op above them. When that no-op is chosen it *serves*: everything chosen before its
ballot is applied.

It steps down when no quorum answers for a whole lease; when the others choose without it because its own disk does
not come back; and when it is removed. In the last two cases it tells the others what is chosen and hands over to the
one that is farthest, so that nobody waits for a lease to end.

A CONFIGURATION value stops the line: nothing is proposed above it before it is chosen and handed out. A leader that
proposed it goes on: no lower ballot can have used the new configuration, or phase 1 would have shown the change. A
leader that *found* it open, before it served, finishes it under the old quorums and then prepares again under the new
ones, because its predecessor may have chosen values above it with the new quorums.

What is asserted here, and why, is on docs/explanation/invariants.rst.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from .ballot import NO_SLOT, Ballot, MemberId, Slot
from .configuration import encode_change
from .lease import Lease
from .messages import NOOP, Accept, Accepted, Beaten, Commit, Heartbeat, Kind, Value, Yield
from .options import NEVER
from .parts import Parts
from .proposer import Preparation, Proposer
from .quorum import Change, ChangeKind, InvalidChange, Phase, changed, is_quorum
from .reads import OwedReads
from .ready import AcceptedValue, Send
from .telling import SLOW, Telling


class _Transfer(NamedTuple):
    to: MemberId
    until: int


class _OwnVote(NamedTuple):
    """A vote of the leader's own acceptor that awaits the disk, `since` when."""

    record: int
    slot: Slot
    since: int


_STALLED: Final = 4
"""How many leases a leader waits for its own disk when the others do not need it."""


class Leadership:
    """What a leader knows and does under `ballot`. It ends by being dropped (see :meth:`end`).

    Args:
        preparation: the completed phase 1.
        learned: called when a CONFIGURATION value was learned, before anything else is done.
        prepare_again: called when nobody who answers has what phase 1 showed to be chosen.
        step_down: called when this leadership is over by its own judgement.
    """

    def __init__(
        self,
        parts: Parts,
        preparation: Preparation,
        now: int,
        *,
        learned: Callable[[Slot, Value, int], None],
        prepare_again: Callable[[int], None],
        step_down: Callable[[int], None],
    ) -> None:
        self._options = options = parts.options
        self._roster = roster = parts.roster
        self._effects = parts.effects
        self._acceptor = parts.acceptor
        self._learner = parts.learner
        self._catchup = parts.catchup
        self._learned = learned
        self._prepare_again = prepare_again
        self._step_down = step_down
        assert preparation.ballot == self._acceptor.promised, "ascended under a ballot that is not our promise"
        self.ballot: Ballot = preparation.ballot
        self.lease = Lease(roster.member, roster.voters, options.lease, options.drift_ppm, now)
        self.reads = OwedReads(roster.member, parts.effects)
        self.progress: dict[MemberId, Slot] = {}
        self.serving = False
        self._preparation: Preparation | None = preparation
        self._base, self._source = preparation.base()
        self._proposer: Proposer | None = None
        self._telling: Telling | None = None
        self._recovering: deque[Value] | None = None
        self._barrier: Slot | None = None
        self._open_change: Slot | None = None
        self._transfer: _Transfer | None = None
        self._own: deque[_OwnVote] = deque()
        self._others = roster.others
        self._heartbeat_due = now
        self._over = False

    def begin(self, now: int) -> None:
        """Tell everybody, and take over."""
        self._heartbeat(now)
        self._catchup.missing(self._base, self._source, now)
        self.take_over(now)

    def end(self) -> None:
        """Nothing is done under this ballot any more."""
        self._over = True
        self.serving = False
        self._own.clear()
        self.reads.give_up()

    # ---------------------------------------------------------------- taking over

    def take_over(self, now: int) -> None:
        """If everything reported as chosen is here: propose what is open, and a no-op of our own above it."""
        preparation, chosen = self._preparation, self._learner.chosen
        if preparation is None or chosen < self._base:
            return
        self._preparation = None
        self._catchup.pause()
        roster, options = self._roster, self._options
        self._proposer = Proposer(self.ballot, chosen, roster.voters, 4 * options.heartbeat)
        first = self._proposer.next
        self._telling = Telling(self.ballot, first, options.promise_limit, roster, self._learner, self._effects)
        self._recovering = deque(preparation.open_values(chosen))
        self._recovering.append(NOOP)
        self._recover(now)

    @property
    def proposing(self) -> bool:
        """Whether phase 2 has begun."""
        return self._proposer is not None

    def _recover(self, now: int) -> None:
        """Propose recovered values; not above a configuration among them."""
        proposer, recovering = self._proposer, self._recovering
        assert proposer is not None
        while recovering and self._open_change is None and len(proposer.in_flight) < self._options.window:
            value = recovering.popleft()
            slot = self._propose(value, now)
            if not recovering:
                self._barrier = slot
                self._recovering = None

    # ---------------------------------------------------------------- proposing

    def room(self) -> int:
        """How many values may be proposed now."""
        if not self.serving or self._open_change is not None or self._transfer is not None:
            return 0
        assert self._proposer is not None
        return max(0, self._options.window - len(self._proposer.in_flight))

    def propose(self, value: Value, now: int) -> Slot:
        """See :meth:`Replica.propose`."""
        assert self.room() > 0, "proposed beyond the window"
        return self._propose(value, now)

    def reconfigure(self, change: Change, now: int) -> Slot:
        """See :meth:`Replica.reconfigure`; this leader serves."""
        assert self._proposer is not None
        if self._open_change is not None or self._transfer is not None:
            raise InvalidChange("another change of membership or leadership is under way; try again when it is done")
        after = changed(self._roster.configuration, change, self._proposer.next)
        if change.kind is ChangeKind.PROMOTE:
            self._check_progress(change.member.id)
        if change.kind in (ChangeKind.PROMOTE, ChangeKind.DEMOTE, ChangeKind.REMOVE):
            answering = [voter for voter in after.voters() if self.lease.answered_recently(voter, now)]
            if not is_quorum(Phase.ACCEPT, answering, after.voters()):
                raise InvalidChange(
                    f"of the voters {sorted(after.voters())} that would remain, only {sorted(answering)} answer: the "
                    "cell would stop"
                )
        return self._propose(Value(Kind.CONFIGURATION, encode_change(change)), now)

    def _check_progress(self, member: MemberId) -> None:
        """Whether a learner is near enough to vote."""
        applied = self.progress.get(member)
        if applied is None:
            raise InvalidChange(f"member {member} has not been heard of; promote it when it has caught up")
        behind = self._learner.chosen - applied
        if behind > 8 * self._options.window:
            raise InvalidChange(f"member {member} is {behind} slots behind; promote it when it has caught up")

    def _propose(self, value: Value, now: int) -> Slot:
        proposer, telling = self._proposer, self._telling
        assert proposer is not None
        assert telling is not None
        slot = proposer.propose(value, now)
        if value.kind is Kind.CONFIGURATION:
            self._open_change = slot
        fresh = self._acceptor.accept(self.ballot, slot, value)
        assert fresh, f"slot {slot}: proposed twice in ballot {self.ballot}"
        self._own.append(_OwnVote(self._effects.record(AcceptedValue(self.ballot, slot, value)), slot, now))
        telling.propose(slot, value, now)
        return slot

    def on_accepted(self, sender: MemberId, message: Accepted, now: int) -> None:
        """A member's votes are durable."""
        proposer = self._proposer
        if proposer is not None and message.ballot == self.ballot:
            proposer.accepted(sender, message.first, message.last)
            if self._telling is not None:
                self._telling.accepted(sender, message.last)
            self._advance(now)

    def persisted(self, upto: int, now: int) -> None:
        """Records up to `upto` are durable: our own votes count."""
        own, member = self._own, self._roster.member
        while own and own[0].record <= upto:
            slot = own.popleft().slot
            assert self._proposer is not None
            assert self._telling is not None
            self._proposer.accepted(member, slot, slot)
            self._telling.accepted(member, slot)
            self._advance(now)

    def _advance(self, now: int) -> None:
        """Hand out what is chosen, in order."""
        proposer, telling = self._proposer, self._telling
        assert proposer is not None
        assert telling is not None
        for proposal in proposer.take_chosen():
            self._learner.learn(proposal.slot, proposal.value)
            telling.chosen(now)
            if proposal.value.kind is Kind.CONFIGURATION:
                self._open_change = None
                self._learned(proposal.slot, proposal.value, now)
                if self._over:
                    return
        if self._recovering is not None:
            self._recover(now)
        if self._barrier is not None and self._learner.chosen >= self._barrier:
            self._barrier = None
            self.serving = True
        if self.reads:
            self._grant_reads(now)
        if self._transfer is not None and not proposer.in_flight:
            self._heartbeat_due = now  # the next answer shows whether the successor knows all

    def adopted(self) -> None:
        """The roster changed: other voters decide now. Who was removed is told so."""
        roster = self._roster
        self.lease.reconfigure(roster.voters)
        if self._proposer is not None:
            self._proposer.voters = roster.voters
        if self._telling is not None:
            self._telling.adopted()
        before, self._others = self._others, roster.others
        for member in before:
            if member not in roster.others:
                self.progress.pop(member, None)
                self._effects.send(member, Commit(self.ballot, self._learner.chosen))

    def hurry(self, members: frozenset[MemberId]) -> None:
        """See :meth:`Replica.hurry`."""
        if self._telling is not None:
            self._telling.hurry(members)

    def flush(self) -> None:
        """Before the effects are taken: what was proposed since the last time leaves, and with it the commit index;
        that leaves alone if nothing was proposed."""
        if self._telling is not None:
            self._telling.flush()

    # ---------------------------------------------------------------- staying

    def due(self) -> int:
        """When :meth:`tick` has something to do."""
        due = min(self._heartbeat_due, self.lease.forlorn_at() + 1)
        return due if self._telling is None else min(due, self._telling_due(self._telling))

    def tick(self, now: int) -> None:
        """Heartbeat when it is time; step down when no quorum answers."""
        if now > self.lease.forlorn_at():
            self._step_down(now)
            return
        own = self._own
        if own and own[0].slot <= self._learner.chosen and now - own[0].since > _STALLED * self._options.lease:
            self.hand_over(now)
            self._step_down(now)
            return
        if self._transfer is not None and now >= self._transfer.until:
            self._transfer = None
        if now >= self._heartbeat_due:
            self._heartbeat(now)
            if self._preparation is not None and not self._catchup.busy:
                self._prepare_again(now)
        telling = self._telling
        if telling is not None and now >= self._telling_due(telling):
            if now >= self._slow_at():
                telling.slow(now)
            telling.tell_all()  # behind the heartbeat, which leaves first and must not say more

    def _telling_due(self, telling: Telling) -> int:
        """When those who are in no hurry are told; sooner if one of them seems to be needed."""
        return telling.due if telling.due == NEVER else min(telling.due, self._slow_at())

    def _slow_at(self) -> int:
        """When the oldest value on its way will have taken long."""
        assert self._proposer is not None
        for proposal in self._proposer.in_flight.values():
            return proposal.sent + SLOW
        return NEVER

    def lease_left(self, now: int) -> int:
        """Microseconds for which the lease surely runs, is not about to be given up, and is good for something: a
        leader that does not serve yet may follow an old configuration, whose quorums exclude nobody."""
        return self.lease.left(now) if self.serving and self._transfer is None else 0

    def _heartbeat(self, now: int) -> None:
        round_ = self.lease.send(now)
        self._acceptor.grant(self.ballot, now, self._options.lease)
        self._heartbeat_due = now + self._options.heartbeat
        number, telling, chosen = self._roster.configuration.number, self._telling, self._learner.chosen
        beats = []
        for other in self._roster.others:
            upto = chosen if telling is None else telling.known_to(other)
            beats.append(Send(other, Heartbeat(self.ballot, upto, now, round_, number)))
        self._effects.messages[:0] = beats
        self._grant_reads(now)

    def on_beaten(self, sender: MemberId, message: Beaten, now: int) -> None:
        """A member answered a heartbeat."""
        if message.ballot != self.ballot or sender not in self._roster.others:
            return
        self.progress[sender] = message.applied
        self.lease.answer(sender, message.sent, message.round)
        self._grant_reads(now)
        if self._proposer is not None:
            self._send_again(self._proposer, sender, now)
        if self._transfer is not None:
            self._try_transfer(now)

    def _send_again(self, proposer: Proposer, to: MemberId, now: int) -> None:
        """What `to` has not accepted for several heartbeats was lost on the way."""
        for proposal in proposer.lost(to, now):
            self._effects.send(to, Accept(self.ballot, proposal.slot, (proposal.value,), self._learner.chosen))

    # ---------------------------------------------------------------- reads

    def read(self, asker: MemberId, context: int, by_round: bool, now: int) -> None:
        """Answer under the lease, else (or if so wished: `by_round`) after a round of heartbeats, which begins now; in
        any case when everything is chosen that somebody may know to be so."""
        held = self.lease_left(now) > 0 and not by_round
        vouched = NO_SLOT if self._telling is None else self._telling.vouched
        if held and vouched <= self._learner.chosen:
            if asker != self._roster.member:
                self._tell_reader()
            self.reads.answer(asker, context, self._learner.chosen)
            return
        self.reads.wait(asker, context, self.lease.round + 1, vouched, by_round)
        if not held:
            self._heartbeat_due = min(self._heartbeat_due, now)

    def _grant_reads(self, now: int) -> None:
        reads = self.reads
        if self.serving and reads and reads.grant(self._learner.chosen, self.lease, self.lease_left(now) > 0):
            self._tell_reader()

    def _tell_reader(self) -> None:
        """Whoever reads elsewhere waits for what is chosen."""
        if self._telling is not None and self._telling.due < NEVER:
            self._telling.tell_all()

    # ---------------------------------------------------------------- handing over

    def transfer(self, to: MemberId, now: int) -> None:
        """See :meth:`Replica.transfer`; this leader serves."""
        if to not in self._roster.voters or to == self._roster.member:
            raise InvalidChange(f"leadership can be handed to another voter only, and member {to} is none")
        if self._open_change is not None:
            raise InvalidChange("a change of membership is under way; try again when it is done")
        self._transfer = _Transfer(to, now + self._options.lease)
        self._heartbeat_due = now
        self._try_transfer(now)

    def _try_transfer(self, now: int) -> None:
        transfer, proposer = self._transfer, self._proposer
        assert transfer is not None
        assert proposer is not None
        chosen = self._learner.chosen
        if not proposer.in_flight and self.progress.get(transfer.to, NO_SLOT) >= chosen:
            self._effects.send(transfer.to, Yield(self.ballot, chosen))
            self._step_down(now)

    def hand_over(self, now: int) -> None:
        """Before stepping down by our own will: the others learn what is chosen, and the one that is farthest may
        lead at once."""
        chosen = self._learner.chosen
        if self._telling is not None:
            self._telling.tell_values()
        self._effects.broadcast(Commit(self.ballot, chosen))
        voters = sorted(self._roster.voters - {self._roster.member})
        alive = [voter for voter in voters if self.lease.answered_recently(voter, now)]
        if alive:
            best = max(alive, key=lambda voter: self.progress.get(voter, NO_SLOT))
            self._effects.send(best, Yield(self.ballot, chosen))
