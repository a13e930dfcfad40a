"""Following: whom this member takes for the leader, and what it does on that leader's word.

Theory of operation. A leader is followed if no higher ballot was promised or followed here. It says how far the log
is chosen; of a slot up to there, our own vote in that leader's ballot is the chosen value, and anything else must be
fetched. (That a slot is chosen may be heard from anybody, but only the leader of the vote's own ballot can vouch for
the vote.)
"""

from __future__ import annotations

from collections.abc import Callable

from .ballot import DECIDED, NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from .election import Election
from .messages import Accept, Accepted, Beaten, Commit, Heartbeat, Kind, Refused, Value, Yield
from .parts import Parts
from .ready import AcceptedValue, Send


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

    def lead(self, ballot: Ballot) -> None:
        """This member leads under `ballot`."""
        self.leader = ballot.member
        self._ballot = ballot

    def _follow(self, sender: MemberId, ballot: Ballot, now: int) -> bool:
        """Whether `ballot`, of which `sender` claims to be the leader, is one to follow; then we do."""
        promised = self._acceptor.promised
        if ballot < promised or ballot < self._ballot or ballot.member != sender:
            self._effects.send(sender, Refused(ballot, max(promised, self._ballot)))
            return False
        if ballot > self._ballot or self.leader != sender:
            self._abdicate()
            self._election.note_round(ballot)
            self._ballot = ballot
            self._told = NO_SLOT
            self.leader = sender
            self._election.rest(now, max(now, self._acceptor.granted_until) + self._lease)
        return True

    def on_heartbeat(self, sender: MemberId, message: Heartbeat, now: int) -> None:
        """Grant the lease."""
        if not self._follow(sender, message.ballot, now):
            return
        acceptor = self._acceptor
        if acceptor.intact:
            acceptor.grant(message.ballot, now, self._lease)
            self._election.rest(now, acceptor.granted_until)
            self._effects.send(sender, Beaten(message.ballot, message.sent, message.round, self._learner.chosen))
        self._commit(sender, message.commit, now)

    def on_accept(self, sender: MemberId, message: Accept, now: int) -> None:
        """Vote."""
        ballot = message.ballot
        if not self._follow(sender, ballot, now):
            return
        acceptor, effects = self._acceptor, self._effects
        slot = message.first
        chosen = self._learner.chosen
        for value in message.values:
            if slot > chosen and acceptor.accept(ballot, slot, value):
                effects.record(AcceptedValue(ballot, slot, value))
            slot = Slot(slot + 1)
        if acceptor.intact:
            effects.after.append(Send(sender, Accepted(ballot, message.first, Slot(slot - 1))))
        self._commit(sender, message.commit, now)

    def on_commit(self, sender: MemberId, message: Commit, now: int) -> None:
        """More is chosen."""
        if self._follow(sender, message.ballot, now):
            self._commit(sender, message.commit, now)

    def _commit(self, sender: MemberId, commit: Slot, now: int) -> None:
        if commit > self._told:
            self._told = commit
        if self._learner.chosen < commit:
            self.believe(now)
            self._catchup.missing(commit, sender, now)

    def believe(self, now: int) -> None:
        """Learn, from our own votes, what was told to be chosen."""
        learner, votes = self._learner, self._acceptor.votes
        while True:
            slot = Slot(learner.chosen + 1)
            vote = votes.get(slot)
            if vote is None or not (vote.ballot == DECIDED or (slot <= self._told and vote.ballot == self._ballot)):
                return
            learner.learn(slot, vote.value)
            if vote.value.kind is Kind.CONFIGURATION:
                self._learned(slot, vote.value, now)

    def on_yield(self, sender: MemberId, message: Yield, now: int) -> None:
        """The leader gave up its lease and wants us to lead: campaign at once, if we know all that it knew."""
        asked = message.ballot == self._ballot and self.leader == sender
        if asked and self._election.may_campaign() and self._learner.chosen >= message.chosen:
            self._election.prepare(now, message.ballot)
