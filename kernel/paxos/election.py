"""Election: who may try to lead, when, and what a voter answers.

Theory of operation. A voter whose grant ran out waits a random moment and *canvasses*: it asks all voters whether
they would promise. Only with a quorum of yes does it raise its ballot (durably) and prepare, so that a member behind
a partial partition disturbs nobody, and only a member that is connected to a quorum can come to lead.

A voter helps no candidate while a grant of its own binds it (:mod:`.acceptor`), nor one that its configuration does
not know, unless the candidate follows a newer configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from .ballot import NO_BALLOT, Ballot, MemberId, Slot
from .messages import Canvass, Canvassed, Prepare, Promise, Refused
from .options import NEVER
from .parts import Parts
from .proposer import Preparation, vote_parts
from .quorum import Phase, is_quorum
from .ready import Promised, Send


class Election:
    """One member's candidacies and its answers to those of others.

    Args:
        abdicate: called before anything that makes following or leading under a lower ballot pointless.
        ascend: called when a quorum promised.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        abdicate: Callable[[], None],
        ascend: Callable[[Preparation, int], None],
    ) -> None:
        self._options = parts.options
        self._random = parts.random
        self._roster = parts.roster
        self._effects = parts.effects
        self._acceptor = parts.acceptor
        self._learner = parts.learner
        self._catchup = parts.catchup
        self._abdicate = abdicate
        self._ascend = ascend
        self.due = NEVER
        """When this member campaigns next."""
        self._round = self._acceptor.promised.round
        self._canvass: tuple[Ballot, set[MemberId]] | None = None
        self._preparation: Preparation | None = None
        self._own: int | None = None  # the record of our own promise, while it awaits the disk

    @property
    def canvassing(self) -> bool:
        """Whether this member asks whether it should stand."""
        return self._canvass is not None

    @property
    def preparing(self) -> bool:
        """Whether this member's prepare is out."""
        return self._preparation is not None

    def note_round(self, ballot: Ballot) -> None:
        """Such a ballot exists: our next one must be above it."""
        if ballot.round > self._round:
            self._round = ballot.round

    # ---------------------------------------------------------------- the candidate

    def rest(self, now: int, until: int) -> None:
        """End any candidacy; no other before a random moment after `until`."""
        self._canvass = None
        self._preparation = None
        spread = self._random.randrange(self._options.campaign_spread) if self._options.campaign_spread else 0
        self.due = max(now, until) + spread if self.may_campaign() else NEVER

    def may_campaign(self) -> bool:
        """Whether this member votes, and is whole."""
        return self._acceptor.whole(self._learner.chosen) and self._roster.votes()

    def campaign(self, now: int) -> None:
        """Our grant ran out, or the last try led to nothing: canvass."""
        if not self.may_campaign():
            self.due = NEVER
            return
        acceptor, roster = self._acceptor, self._roster
        if acceptor.bound(NO_BALLOT._replace(member=roster.member), NO_BALLOT, now):
            self.rest(now, max(acceptor.granted_until, acceptor.silent_until))
            return
        self._abdicate()
        self._preparation = None
        ballot = self._next_ballot()
        self._canvass = (ballot, {roster.member})
        self._try_again_later(now)
        if is_quorum(Phase.PREPARE, {roster.member}, roster.voters):
            self.prepare(now, NO_BALLOT)
            return
        for voter in sorted(roster.voters - {roster.member}):
            self._effects.send(voter, Canvass(ballot, self._learner.chosen, roster.configuration.number))

    def on_canvassed(self, sender: MemberId, message: Canvassed, now: int) -> None:
        """A voter's answer to our canvass."""
        self.note_round(message.promised)
        self._catchup.missing(message.chosen, sender, now)
        if self._canvass is None or self._canvass[0] != message.ballot or not message.granted:
            return
        votes = self._canvass[1]
        votes.add(sender)
        if is_quorum(Phase.PREPARE, votes, self._roster.voters):
            self.prepare(now, NO_BALLOT)

    def prepare(self, now: int, waiver: Ballot) -> None:
        """Raise the ballot, durably, and ask for promises."""
        self._abdicate()
        roster = self._roster
        ballot = self._next_ballot()
        self._acceptor.promise(ballot)
        self._round = ballot.round
        self._canvass = None
        self._preparation = Preparation(ballot, Slot(self._learner.chosen + 1), roster.voters)
        self._try_again_later(now)
        self._own = self._effects.record(Promised(ballot))
        message = Prepare(ballot, self._preparation.first, roster.configuration.number, waiver)
        self._effects.after.extend([Send(other, message) for other in roster.others if other in roster.voters])

    def on_promise(self, sender: MemberId, message: Promise, now: int) -> None:
        """A voter's answer to our prepare."""
        preparation = self._preparation
        if preparation is None or preparation.ballot != message.ballot:
            return
        preparation.promised(sender, message)
        if preparation.complete():
            self._preparation = None
            self.due = NEVER
            self._ascend(preparation, now)

    def persisted(self, upto: int, now: int) -> None:
        """Records up to `upto` are durable: our own promise may count."""
        if self._own is None or self._own > upto:
            return
        self._own = None
        preparation = self._preparation
        if preparation is not None:
            chosen = self._learner.chosen
            votes = tuple(self._acceptor.open_votes(Slot(chosen + 1)))
            promise = Promise(preparation.ballot, preparation.first, votes, chosen, self._learner.snapshot)
            self.on_promise(self._roster.member, promise, now)

    def _next_ballot(self) -> Ballot:
        return Ballot(max(self._round, self._acceptor.promised.round) + 1, self._roster.member)

    def _try_again_later(self, now: int) -> None:
        self.due = now + self._options.lease // 2 + self._random.randrange(self._options.campaign_spread + 1)

    # ---------------------------------------------------------------- the voter

    def on_canvass(self, sender: MemberId, message: Canvass, now: int) -> None:
        """Say whether we would promise."""
        acceptor = self._acceptor
        granted = (
            acceptor.whole(self._learner.chosen)
            and not self._roster.stranger(sender, message.configuration)
            and message.ballot > acceptor.promised
            and not acceptor.bound(message.ballot, NO_BALLOT, now)
        )
        self._effects.send(sender, Canvassed(message.ballot, granted, acceptor.promised, self._learner.chosen))

    def on_prepare(self, sender: MemberId, message: Prepare, now: int) -> None:
        """Promise, and report our votes; or refuse."""
        acceptor, learner = self._acceptor, self._learner
        if not acceptor.whole(learner.chosen) or message.ballot.member != sender:
            return
        if self._roster.stranger(sender, message.configuration):
            return
        if message.ballot < acceptor.promised or acceptor.bound(message.ballot, message.waiver, now):
            self._effects.send(sender, Refused(message.ballot, acceptor.promised))
            return
        if message.ballot > acceptor.promised:
            self.note_round(message.ballot)
            self._abdicate()
            self.rest(now, now + self._options.lease)
            acceptor.promise(message.ballot)
            self._effects.record(Promised(message.ballot))
        votes = acceptor.open_votes(max(message.first, Slot(learner.chosen + 1)))
        parts = vote_parts(votes, self._options.promise_limit)
        for i, part in enumerate(parts):
            promise = Promise(message.ballot, message.first, part, learner.chosen, learner.snapshot, i, len(parts))
            self._effects.after.append(Send(sender, promise))
