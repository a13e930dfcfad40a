"""Election: who may try to lead, when, and what a voter answers.

Theory of operation. A voter whose grant ran out waits a random moment and *canvasses*: it asks all voters whether
they would promise. Only with a quorum of yes does it raise its ballot (durably) and prepare, so that a member behind
a partial partition disturbs nobody, and only a member that is connected to a quorum can come to lead. A yes of a
voter that is far ahead does not count yet: the candidate catches up first, so that the cell does not wait for it
while it leads. The more prepares, whosever, led to nothing since a leader was heard of, the more time is given to
the next, by who sent it and by who promised, so that slow disks delay an election but do not prevent it. A prepare that
a voter leaves unanswered is said again meanwhile: a message that was lost must not cost all of that time.

A voter helps no candidate while a grant of its own binds it (:mod:`.acceptor`), itself included, nor one that its
configuration does not know, unless the candidate follows a newer configuration.

Who hears of no leader and may not campaign (a learner, a member that was removed or whose disk is damaged, or that has
much left to apply) asks the others in turn for what they know to be chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .ballot import NO_BALLOT, Ballot, MemberId, Slot
from .messages import Canvass, Canvassed, Prepare, Promise, Refused
from .options import NEVER
from .parts import Parts
from .proposer import Preparation, vote_parts
from .quorum import Phase, is_quorum
from .ready import Promised, Send

_DOUBLINGS: Final = 4
"""How often the time given to a prepare is doubled at most."""


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
        self._vain = 0  # prepares in a row, our own and others', that led to nothing

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

    def follow(self, ballot: Ballot, now: int) -> None:
        """There is a leader: no campaign for at least a lease."""
        self.note_round(ballot)
        self._vain = 0
        self.rest(now, max(now, self._acceptor.granted_until) + self._options.lease)

    # ---------------------------------------------------------------- the candidate

    def rest(self, now: int, until: int) -> None:
        """End any candidacy; no other before a random moment after `until`."""
        self._canvass = None
        self._preparation = None
        self.due = max(now, until) + self._random.randrange(self._options.campaign_spread + 1)

    def may_campaign(self) -> bool:
        """Whether this member votes, is whole, and has little left to apply: a leader does so at once, before it can
        serve. A window of slots is little: of any leader so many may become chosen at once."""
        learner, options = self._learner, self._options
        ready = learner.backlog <= options.apply_limit or len(learner.committed) <= options.window
        return ready and self._acceptor.whole(learner.chosen) and self._roster.votes()

    def tick(self, now: int) -> None:
        """It is due: ask again for the promises that did not come, or campaign."""
        preparation = self._preparation
        if preparation is None or now >= preparation.until:
            self.campaign(now)
            return
        for voter in preparation.silent():
            self._effects.send(voter, self._question(preparation))
        self._look_again(preparation, now)

    def campaign(self, now: int) -> None:
        """Our grant ran out, or the last try led to nothing: canvass, or ask around."""
        roster = self._roster
        if self._bound(NO_BALLOT, now):
            return
        self._abdicate()
        if not self.may_campaign():
            self.rest(now, now + self._options.lease)
            self._catchup.ask_around(now)
            return
        self._preparation = None
        ballot = self._next_ballot()
        self._canvass = (ballot, {roster.member})
        self._wait(now, self._options.lease // 2)
        if is_quorum(Phase.PREPARE, {roster.member}, roster.voters):
            self.prepare(now, NO_BALLOT)
            return
        for voter in sorted(roster.voters - {roster.member}):
            self._effects.send(voter, Canvass(ballot, self._learner.chosen, roster.configuration.number))

    def on_canvassed(self, sender: MemberId, message: Canvassed, now: int) -> None:
        """A voter's answer to our canvass."""
        self.note_round(message.promised)
        self._catchup.missing(message.chosen, sender, now)
        if self._canvass is None or self._canvass[0] != message.ballot:
            return
        if not message.granted:
            if message.promised > message.ballot:
                self.due = now  # with a higher ballot it might have been granted
            return
        if message.chosen > self._learner.chosen + self._options.window:
            return
        votes = self._canvass[1]
        votes.add(sender)
        if is_quorum(Phase.PREPARE, votes, self._roster.voters):
            self.prepare(now, NO_BALLOT)

    def prepare(self, now: int, waiver: Ballot) -> None:
        """Raise the ballot, durably, and ask for promises; unless we are bound ourselves."""
        if self._bound(waiver, now):
            return
        self._abdicate()
        roster = self._roster
        ballot = self._next_ballot()
        self._acceptor.promise(ballot)
        self._round = ballot.round
        self._canvass = None
        self._wait(now, self._patience(self._options.lease // 2))
        first = Slot(self._learner.chosen + 1)
        self._preparation = Preparation(ballot, first, roster.voters, waiver, now, self.due)
        self._vain += 1
        self._own = self._effects.record(Promised(ballot))
        message = self._question(self._preparation)
        self._effects.after.extend([Send(other, message) for other in roster.others if other in roster.voters])

    def _question(self, preparation: Preparation) -> Prepare:
        return Prepare(preparation.ballot, preparation.first, self._roster.configuration.number, preparation.waiver)

    def _look_again(self, preparation: Preparation, now: int) -> None:
        """Ask again after a while, and after twice as long then: voters may be slow rather than deaf."""
        self.due = min(preparation.until, now + max(self._options.lease // 2, now - preparation.since))

    def on_promise(self, sender: MemberId, message: Promise, now: int) -> None:
        """A voter's answer to our prepare."""
        preparation = self._preparation
        if preparation is None or preparation.ballot != message.ballot:
            return
        preparation.promised(sender, message)
        if preparation.complete():
            self._preparation = None
            self._vain = 0
            self.due = NEVER
            self._ascend(preparation, now)

    def persisted(self, upto: int, now: int) -> None:
        """Records up to `upto` are durable: our own promise may count."""
        if self._own is None or self._own > upto:
            return
        self._own = None
        preparation = self._preparation
        if preparation is not None:
            self._look_again(preparation, now)
            chosen = self._learner.chosen
            votes = tuple(self._acceptor.open_votes(Slot(chosen + 1)))
            promise = Promise(preparation.ballot, preparation.first, votes, chosen, self._learner.snapshot)
            self.on_promise(self._roster.member, promise, now)

    def _bound(self, waiver: Ballot, now: int) -> bool:
        """Whether a lease forbids us to stand; then we rest until it ends."""
        acceptor = self._acceptor
        if not acceptor.bound(Ballot(0, self._roster.member), waiver, now):
            return False
        self.rest(now, max(acceptor.granted_until, acceptor.silent_until))
        return True

    def _next_ballot(self) -> Ballot:
        return Ballot(max(self._round, self._acceptor.promised.round) + 1, self._roster.member)

    def refused(self, now: int) -> None:
        """Somebody promised more than our prepare asks for: leave it to that other candidate for a while."""
        if self._preparation is not None:
            self.rest(now, now + self._patience(self._options.lease // 4))

    def _patience(self, time: int) -> int:
        return time << min(self._vain, _DOUBLINGS)

    def _wait(self, now: int, patience: int) -> None:
        self.due = now + patience + self._random.randrange(self._options.campaign_spread + 1)

    # ---------------------------------------------------------------- the voter

    def on_canvass(self, sender: MemberId, message: Canvass, now: int) -> None:
        """Say whether we would promise."""
        acceptor, learner = self._acceptor, self._learner
        granted = (
            acceptor.whole(learner.chosen)
            and not self._roster.stranger(sender, message.configuration)
            and message.ballot > acceptor.promised
            and not acceptor.bound(message.ballot, NO_BALLOT, now)
        )
        self._effects.send(sender, Canvassed(message.ballot, granted, acceptor.promised, learner.chosen))
        self._catchup.missing(message.chosen, sender, now)

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
            self.rest(now, now + self._patience(self._options.lease // 2) + self._options.lease // 2)
            self._vain += 1
            acceptor.promise(message.ballot)
            self._effects.record(Promised(message.ballot))
        votes = acceptor.open_votes(max(message.first, Slot(learner.chosen + 1)))
        parts = vote_parts(votes, self._options.promise_limit)
        for i, part in enumerate(parts):
            promise = Promise(message.ballot, message.first, part, learner.chosen, learner.snapshot, i, len(parts))
            self._effects.after.append(Send(sender, promise))
