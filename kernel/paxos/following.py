"""Following: whom this member takes for the leader, and what it does on that leader's word.

Theory of operation. A leader is followed if no higher ballot was promised or followed here. It says how far the log
is chosen; of a slot up to there, our own vote in that leader's ballot is the chosen value, and anything else must be
fetched. (That a slot is chosen may be heard from anybody, but only the leader of the vote's own ballot can vouch for
the vote.) Where the leader's vote and ours decide, it says that its own is durable, and we need not wait for its word
that the slot is chosen: it is when our own vote is durable, too.

A member that lags far behind stops voting on slots far ahead of it, so that its votes do not fill its memory. It goes
on to vote on the next slots after those it knows to be chosen: if its vote is needed, the leader's open slots are
among them as soon as it has caught up.

Whose disk is far behind (it hangs, or is full) gives no vote at all, and learns nothing, until that has caught up: what
waits for the disk must not fill the memory either.

A vote for a slot known here to be chosen is given like any other, and written, because the leader counts it and the
peers remember that this disk has shown it; but it is not kept. On a slot that was known to be chosen before damage tore
the log no vote is given unless its value survived: it is fetched first.

What is asserted here, and why, is on docs/explanation/invariants.rst.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from .ballot import DECIDED, NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from .election import Election
from .messages import Accept, Accepted, Beaten, Commit, Heartbeat, Kind, Refused, Value, Vouched, Yield
from .options import NEVER
from .parts import Parts
from .ready import AcceptedValue, Promised, Send

OWED: Final = 1_000
"""Microseconds after which the leader is told of votes that it need not hear of at once, if nothing else is said to
it."""


def _follows(before: Accepted, said: Accepted) -> bool:
    return before.ballot == said.ballot and before.last + 1 == said.first


class Following:
    """`leader` is whom this member follows: itself when it leads, None when it knows of none.

    Args:
        abdicate: called before another leader is followed.
        learned: called when a CONFIGURATION value was learned.
    """

    def __init__(
        self,
        parts: Parts,
        election: Election,
        *,
        abdicate: Callable[[], None],
        learned: Callable[[Slot, Value, int], None],
    ) -> None:
        self._lease = parts.options.lease
        self._ahead = parts.options.ahead
        self._window = parts.options.window
        self._effects = parts.effects
        self._acceptor = parts.acceptor
        self._learner = parts.learner
        self._catchup = parts.catchup
        self._election = election
        self._abdicate = abdicate
        self._learned = learned
        self.leader: MemberId | None = None
        self._ballot = NO_BALLOT
        self._told = NO_SLOT  # how far the leader of `_ballot` has said the log to be chosen
        self._vouched = NO_SLOT  # up to where its votes are durable, and a quorum with ours
        self._own: deque[tuple[int, Slot]] = deque()
        """Votes that may not be durable: record and slot, both ascending. Without those that are durable before another
        one on the same or a lower slot."""
        self._alone = False  # nobody waits for what is chosen but clients here; that was so for the slot `_vouched`
        self._owed: Accepted | None = None
        self.due = NEVER

    def lead(self, ballot: Ballot) -> None:
        """This member leads under `ballot`."""
        self.leader = ballot.member
        self._ballot = ballot
        self._start_anew()

    def _start_anew(self) -> None:
        """What another leader said, and was not told, matters no more."""
        self._told = self._vouched = NO_SLOT
        self._alone = False
        self._owed = None
        self.due = NEVER

    def _follow(self, sender: MemberId, ballot: Ballot, now: int) -> bool:
        """Whether `ballot`, of which `sender` claims to be the leader, is one to follow; then we do."""
        promised = self._acceptor.promised
        if ballot < promised or ballot < self._ballot or ballot.member != sender:
            self._effects.send(sender, Refused(ballot, max(promised, self._ballot)))
            return False
        if ballot > self._ballot or self.leader != sender:
            self._abdicate()
            self._ballot = ballot
            self._start_anew()
            self.leader = sender
            self._election.follow(ballot, now)
        return True

    def on_heartbeat(self, sender: MemberId, message: Heartbeat, now: int) -> None:
        """Grant the lease."""
        if not self._follow(sender, message.ballot, now):
            return
        if self._acceptor.intact:
            self._acceptor.grant(message.ballot, now, self._lease)
            self._effects.send(sender, Beaten(message.ballot, message.sent, message.round, self._learner.chosen))
        self._election.rest(now, now + self._lease)
        self._commit(sender, message.commit, now)

    def on_accept(self, sender: MemberId, message: Accept, now: int) -> None:
        """Vote, as far as there is room for votes above what is known to be chosen."""
        ballot = message.ballot
        if not self._follow(sender, ballot, now):
            return
        acceptor, learner, effects = self._acceptor, self._learner, self._effects
        slot = message.first
        fresh = False
        for value in () if effects.choked else message.values:
            known = self._known(slot)
            if known is not None and known != value:
                # Unless a higher ballot, of which we have only hearsay, has chosen already: then this one is over.
                late = message.commit < slot and (slot <= learner.hearsay or slot > learner.chosen)
                assert late, f"slot {slot}: a second value for a chosen slot"
                break
            if slot > learner.chosen:
                if known is None and slot <= acceptor.healed_at:
                    break  # chosen, and damaged here: whatever is voted on now would be taken for what was chosen
                if acceptor.size > self._ahead and slot > learner.chosen + self._window:
                    break
                if acceptor.accept(ballot, slot, value):
                    fresh = True
                    self._await(effects.record(AcceptedValue(ballot, slot, value)), slot)
            else:
                acceptor.confirm(ballot)
                # A snapshot stands for a slot whose value is not known here any more. The vote must not be written: at
                # a start, votes on slots that are chosen count as what was chosen, and this may be something else.
                effects.record(Promised(ballot) if known is None else AcceptedValue(ballot, slot, value))
            slot = Slot(slot + 1)
        if acceptor.intact and slot > message.first:
            said = Accepted(ballot, message.first, Slot(slot - 1))
            if fresh and self._alone and message.first <= self._vouched + 1:
                self._owe(said, now)
            else:
                if self._owed is not None:
                    self.speak()
                self._say_accepted(said)
        self._commit(sender, message.commit, now)

    def _await(self, record: int, slot: Slot) -> None:
        """Our vote on `slot` is on its way to the disk."""
        own = self._own
        while own and own[-1][1] >= slot:
            own.pop()
        own.append((record, slot))

    def _known(self, slot: Slot) -> Value | None:
        """What is known here to be chosen in `slot`, if it is known here at all."""
        if slot <= self._learner.chosen:
            return self._learner.values.get(slot)
        acceptor = self._acceptor
        vote = acceptor.votes.get(slot)
        if vote is None or not (vote.ballot == DECIDED or slot <= acceptor.healed_at):
            return None
        return vote.value

    def _say_accepted(self, said: Accepted) -> None:
        """Votes that become durable together are reported together."""
        after = self._effects.after
        to = said.ballot.member
        if after:
            receiver, before = after[-1]
            if receiver == to and type(before) is Accepted and _follows(before, said):
                said = before._replace(last=said.last)
                after.pop()
        after.append(Send(to, said))

    def _owe(self, said: Accepted, now: int) -> None:
        """The leader need not be told at once."""
        owed = self._owed
        if owed is None:
            self.due = now + OWED
        elif _follows(owed, said):
            said = owed._replace(last=said.last)
        else:
            self._say_accepted(owed)
        self._owed = said

    def speak(self) -> None:
        """Tell the leader what it was not told yet."""
        owed, self._owed = self._owed, None
        self.due = NEVER
        if owed is None:
            return
        if self._own:
            self._say_accepted(owed)
        else:
            self._effects.send(owed.ballot.member, owed)

    def tick(self, now: int) -> None:
        """Speak when it is time."""
        if now >= self.due:
            self.speak()

    def on_vouched(self, sender: MemberId, message: Vouched, now: int) -> None:
        """The leader's votes are durable."""
        if self._follow(sender, message.ballot, now) and message.slot > self._vouched:
            self._vouched = message.slot
            self._alone = message.alone
            self._count(now)

    def persisted(self, upto: int, now: int) -> None:
        """Records up to `upto` are durable: our own votes count."""
        own = self._own
        while own and own[0][0] <= upto:
            own.popleft()
        self._count(now)

    def _count(self, now: int) -> None:
        """Learn what the leader's votes and ours decide."""
        if self._vouched > self._learner.chosen and self._decided() > self._learner.chosen:
            self.believe(now)

    def _decided(self) -> Slot:
        """Up to where a vote of ours in the leader's ballot is durable, if there is one, and decides."""
        if not self._acceptor.intact:
            return NO_SLOT
        own = self._own
        return min(self._vouched, Slot(own[0][1] - 1)) if own else self._vouched

    def on_commit(self, sender: MemberId, message: Commit, now: int) -> None:
        """More is chosen."""
        if self._follow(sender, message.ballot, now):
            self._commit(sender, message.commit, now)

    def _commit(self, sender: MemberId, commit: Slot, now: int) -> None:
        if commit > self._told:
            self._told = commit
        if self._learner.chosen < self._told:
            self.believe(now)
            self._catchup.missing(self._told, sender, now)

    def believe(self, now: int) -> None:
        """Learn, from our own votes, what was told to be chosen, or was known so before damage tore the log."""
        learner, votes, healed_at = self._learner, self._acceptor.votes, self._acceptor.healed_at
        sure = max(self._told, self._decided())
        while True:
            slot = Slot(learner.chosen + 1)
            vote = votes.get(slot)
            if vote is None:
                return
            vouched = slot <= sure and vote.ballot == self._ballot
            if not (vouched or slot <= healed_at or vote.ballot == DECIDED):
                return
            learner.learn(slot, vote.value, hearsay=not vouched)
            if vote.value.kind is Kind.CONFIGURATION:
                self._learned(slot, vote.value, now)

    def on_yield(self, sender: MemberId, message: Yield, now: int) -> None:
        """The leader gave up its lease and wants us to lead: campaign at once, if we know all that it knew."""
        asked = message.ballot == self._ballot and self.leader == sender
        if asked and self._election.may_campaign() and self._learner.chosen >= message.chosen:
            self._election.prepare(now, message.ballot)
