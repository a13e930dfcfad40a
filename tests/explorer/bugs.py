"""Bugs for the explorer to find, each a few lines put in place of right ones, and the smallest scope that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from quorate.kernel.paxos.acceptor import Acceptor
from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT, Ballot, Slot
from quorate.kernel.paxos.configuration import reconfigured
from quorate.kernel.paxos.effects import Effects
from quorate.kernel.paxos.election import Election
from quorate.kernel.paxos.following import Following
from quorate.kernel.paxos.leadership import Leadership
from quorate.kernel.paxos.lease import Lease
from quorate.kernel.paxos.messages import Accepted, Kind, Vouched
from quorate.kernel.paxos.proposer import Preparation
from quorate.kernel.paxos.ready import AcceptedValue, Promised
from quorate.kernel.paxos.replica import Replica
from quorate.kernel.paxos.telling import Telling
from quorate.kernel.testing.explorer_scope import Scope
from quorate.kernel.testing.explorer_scopes import (
    CATCH_UP,
    FOUND_OPEN,
    HAND_OVER,
    LEASES,
    MEMBERSHIP,
    ONE_LEADER,
    READS,
    SECOND_LEADER,
    SHRINKING,
    VOUCHED,
    VOUCHED_ALONE,
    VOUCHED_CHANGE,
    VOUCHED_READS,
)


class Bug(NamedTuple):
    """`plant` puts it in place; `words` say what the explorer finds broken in `scope`."""

    plant: Callable[[pytest.MonkeyPatch], None]
    scope: Scope
    words: str


BUGS: dict[str, Bug] = {}
QUORUM = "not on the disks of a quorum"
DISAGREEMENT = "two values are chosen|where .* is chosen|a second value|another value"


def bug(scope: Scope, words: str) -> Callable[[Callable[[pytest.MonkeyPatch], None]], None]:
    """A bug to be found in `scope`."""

    def plant(function: Callable[[pytest.MonkeyPatch], None]) -> None:
        BUGS[function.__name__] = Bug(function, scope, words)

    return plant


# ---------------------------------------------------------------- the acceptor


@bug(SECOND_LEADER, "below the promise")
def vote_below_the_promise(patch: pytest.MonkeyPatch) -> None:
    """A member votes for a lower ballot than it promised."""
    real = Following._follow

    def follow(self: Following, sender: Any, ballot: Ballot, now: int) -> bool:
        promised, self._acceptor.promised = self._acceptor.promised, NO_BALLOT
        try:
            return real(self, sender, ballot, now)
        finally:
            self._acceptor.promised = promised

    patch.setattr(Following, "_follow", follow)
    accept = Acceptor.accept

    def lax(self: Acceptor, ballot: Ballot, slot: Slot, value: Any) -> bool:
        promised, self.promised = self.promised, min(ballot, self.promised)
        fresh = accept(self, ballot, slot, value)
        self.promised = max(promised, ballot)
        return fresh

    patch.setattr(Acceptor, "accept", lax)


@bug(SECOND_LEADER._replace(crashes=1), "the promise went down|below the promise")
def promise_forgotten_on_restart(patch: pytest.MonkeyPatch) -> None:
    """A member starts with the highest ballot that it voted in, not with that which it promised."""
    real = Replica.__init__

    def init(self: Replica, member: Any, incarnation: int, state: Any, **options: Any) -> None:
        promised = max((vote.ballot for vote in state.votes), default=NO_BALLOT)
        real(self, member, incarnation, state._replace(promised=promised), **options)

    patch.setattr(Replica, "__init__", init)


@bug(ONE_LEADER, "but not on disk")
def acknowledged_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A vote is told before it is written."""

    def say(self: Following, said: Accepted) -> None:
        self._effects.send(said.ballot.member, said)

    patch.setattr(Following, "_say_accepted", say)


@bug(SECOND_LEADER, DISAGREEMENT)
def votes_not_reported(patch: pytest.MonkeyPatch) -> None:
    """A promise comes without the votes."""
    patch.setattr(Acceptor, "open_votes", lambda self, first: [])


# ---------------------------------------------------------------- the proposer


@bug(ONE_LEADER, "Prepare .* is sent while the disk holds")
def prepare_before_the_promise_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A candidate asks for promises before its own is written."""
    real = Election.prepare

    def prepare(self: Election, now: int, waiver: Ballot) -> None:
        real(self, now, waiver)
        self._effects.messages.extend(self._effects.after)
        self._effects.after.clear()

    patch.setattr(Election, "prepare", prepare)


@bug(ONE_LEADER, QUORUM)
def own_vote_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A leader counts its own vote when it proposes."""
    real = Leadership._propose

    def propose(self: Leadership, value: Any, now: int) -> Slot:
        slot = real(self, value, now)
        assert self._proposer is not None
        self._proposer.accepted(self._roster.member, slot, slot)
        return slot

    patch.setattr(Leadership, "_propose", propose)


@bug(SECOND_LEADER._replace(candidates=(1, 2), campaigns=2), DISAGREEMENT)
def any_value(patch: pytest.MonkeyPatch) -> None:
    """Of several votes on a slot, a new leader takes any."""
    real = Preparation.promised

    def promised(self: Preparation, member: Any, promise: Any) -> None:
        before = dict(self._best)
        real(self, member, promise)
        self._best.update(before)

    patch.setattr(Preparation, "promised", promised)


@bug(SECOND_LEADER._replace(proposals=((b"a",), (b"b",))), DISAGREEMENT)
def gaps_not_filled(patch: pytest.MonkeyPatch) -> None:
    """A new leader proposes the values that it found, one after the other."""

    def values(self: Preparation, base: Slot) -> list[Any]:
        return [self._best[slot].value for slot in sorted(self._best) if slot > base]

    patch.setattr(Preparation, "open_values", values)


@bug(ONE_LEADER._replace(crashes=1, crashers=(1,), campaigns=2), "promise never goes down|earlier run|went down")
def ballot_used_again_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A candidate counts its rounds in memory only."""
    real = Election._next_ballot

    def following(self: Election) -> Ballot:
        promised, self._acceptor.promised = self._acceptor.promised, NO_BALLOT
        try:
            return real(self)
        finally:
            self._acceptor.promised = promised

    init = Election.__init__

    def forgetful(self: Election, parts: Any, **calls: Any) -> None:
        init(self, parts, **calls)
        self._round = 0

    patch.setattr(Election, "__init__", forgetful)
    patch.setattr(Election, "_next_ballot", following)


@bug(SECOND_LEADER, DISAGREEMENT)
def known_to_be_chosen_but_proposed_again(patch: pytest.MonkeyPatch) -> None:
    """A new leader looks at the votes only, not at how far the log is said to be chosen."""
    patch.setattr(Preparation, "base", lambda self: (Slot(self.first - 1), min(self._voters)))


# ---------------------------------------------------------------- learning


@bug(CATCH_UP, DISAGREEMENT)
def any_vote_believed(patch: pytest.MonkeyPatch) -> None:
    """A member takes its own vote for the chosen value, whatever ballot it is of."""
    real = Following.believe

    def believe(self: Following, now: int) -> None:
        slot = Slot(self._learner.chosen + 1)
        vote = self._acceptor.votes.get(slot)
        ballot = self._ballot
        if vote is not None:
            self._ballot = vote.ballot
        real(self, now)
        self._ballot = ballot

    patch.setattr(Following, "believe", believe)


@bug(CATCH_UP._replace(crashes=1, crashers=(3,)), "chosen, but not with what value")
def learned_value_not_recorded(patch: pytest.MonkeyPatch) -> None:
    """What is fetched from a peer is known to be chosen, but not written down."""
    real = Effects.record

    def record(self: Effects, record: Any) -> int:
        if isinstance(record, AcceptedValue) and record.ballot == DECIDED:
            return self.recorded
        return real(self, record)

    patch.setattr(Effects, "record", record)


@bug(
    CATCH_UP._replace(crashes=1, crashers=(1,), snapshots=1, keepers=(3,)),
    "Accepted .* is sent while the disk holds",
)
def vote_behind_a_snapshot_without_the_promise(patch: pytest.MonkeyPatch) -> None:
    """A member votes on a slot behind its snapshot and writes nothing, the value being known."""
    voting = False
    vote, write = Following.on_accept, Effects.record

    def on_accept(self: Following, sender: Any, message: Any, now: int) -> None:
        nonlocal voting
        voting = True
        vote(self, sender, message, now)
        voting = False

    def record(self: Effects, record: Any) -> int:
        return self.recorded if voting and isinstance(record, Promised) else write(self, record)

    patch.setattr(Following, "on_accept", on_accept)
    patch.setattr(Effects, "record", record)


@bug(
    CATCH_UP._replace(
        opening=("1 campaigns", "settle 1 2 3", "hush", "1 proposes a", "settle 1 2", "hush"),
        proposals=((b"b",),),
        snapshots=1,
        keepers=(1,),
    ),
    DISAGREEMENT,
)
def votes_dropped_with_the_log_that_a_snapshot_replaces(patch: pytest.MonkeyPatch) -> None:
    """A member that installs the snapshot of a peer begins anew with it, without its votes above."""
    real = Replica.installed

    def installed(self: Replica, slot: Slot, size: int, configuration: Any, now: int) -> None:
        self._acceptor.forget(max([slot, *self._acceptor.votes]))
        real(self, slot, size, configuration, now)

    patch.setattr(Replica, "installed", installed)


# ---------------------------------------------------------------- followers that count


@bug(VOUCHED, "vouched for in ballot .*, but not on disk")
def vouched_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A leader vouches for its vote when it proposes."""
    real = Telling._vouch

    def vouch(self: Telling) -> None:
        real(self)
        after = self._effects.after
        self._effects.messages.extend([send for send in after if type(send.message) is Vouched])
        after[:] = [send for send in after if type(send.message) is not Vouched]

    patch.setattr(Telling, "_vouch", vouch)


@bug(VOUCHED, QUORUM)
def follower_counts_its_own_vote_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A follower counts its own vote when it has it."""
    patch.setattr(Following, "_decided", lambda self: self._vouched)


@bug(VOUCHED._replace(voters=(1, 2, 3, 4, 5), opening=("1 campaigns", "settle 1 2 3 4 5", "hush"), campaigns=0), QUORUM)
def vouched_although_two_votes_are_no_quorum(patch: pytest.MonkeyPatch) -> None:
    """A leader of five vouches as if its vote and one other were a quorum."""
    patch.setattr("quorate.kernel.paxos.telling.is_quorum", lambda phase, members, voters: len(set(members)) > 1)


@bug(VOUCHED_CHANGE, QUORUM)
def vouched_to_the_old_voters(patch: pytest.MonkeyPatch) -> None:
    """A leader goes on to vouch to those who made a quorum with it before the change."""
    real = Telling.adopted

    def adopted(self: Telling) -> None:
        vouched = getattr(self, "_vouched", {})
        real(self)
        self._vouched = vouched

    patch.setattr(Telling, "adopted", adopted)


@bug(VOUCHED_ALONE, "said to be accepted in ballot .*, but not on disk")
def kept_back_and_then_told_before_it_is_durable(patch: pytest.MonkeyPatch) -> None:
    """A follower that need not tell its vote at once tells it with the next message, durable or not."""

    def speak(self: Following) -> None:
        owed, self._owed = self._owed, None
        if owed is not None:
            self._effects.send(owed.ballot.member, owed)

    patch.setattr(Following, "speak", speak)


@bug(VOUCHED_READS, "a read is answered as of slot")
def read_without_what_was_vouched_for(patch: pytest.MonkeyPatch) -> None:
    """A leader answers reads under its lease as of what it knows to be chosen itself."""
    real = Leadership.read

    def read(self: Leadership, asker: Any, context: int, by_round: bool, now: int) -> None:
        assert self._telling is not None
        vouched, self._telling.vouched = self._telling.vouched, Slot(0)
        real(self, asker, context, by_round, now)
        self._telling.vouched = vouched

    patch.setattr(Leadership, "read", read)


# ---------------------------------------------------------------- membership


@bug(MEMBERSHIP, QUORUM)
def quorum_of_the_old_configuration(patch: pytest.MonkeyPatch) -> None:
    """A leader goes on to count by the voters that it began with."""
    real = Leadership.adopted

    def adopted(self: Leadership) -> None:
        assert self._proposer is not None
        voters = self._proposer.voters
        real(self)
        self._proposer.voters = voters

    patch.setattr(Leadership, "adopted", adopted)


@bug(SHRINKING, QUORUM + "|two values")
def configuration_active_when_only_accepted(patch: pytest.MonkeyPatch) -> None:
    """A leader counts by the new voters from when it proposes a change."""
    real = Leadership._propose

    def propose(self: Leadership, value: Any, now: int) -> Slot:
        slot = real(self, value, now)
        if value.kind is Kind.CONFIGURATION:
            assert self._proposer is not None
            self._proposer.voters = reconfigured(self._roster.configuration, value.payload, slot).voters()
        return slot

    patch.setattr(Leadership, "_propose", propose)


@bug(FOUND_OPEN, DISAGREEMENT)
def not_prepared_again_after_a_change(patch: pytest.MonkeyPatch) -> None:
    """A new leader that finds a change open goes on under its old promises when the change is made."""

    def adopt(self: Replica, configuration: Any, now: int) -> None:
        self._roster.adopt(configuration)
        if self._leadership is not None:
            self._leadership.adopted()

    patch.setattr(Replica, "_adopt", adopt)


# ---------------------------------------------------------------- leases and reads


@bug(LEASES._replace(beats=0), "hold the lease at one instant")
def lease_counted_from_receipt(patch: pytest.MonkeyPatch) -> None:
    """A leader counts its lease from when the answer came."""
    real = Leadership.on_beaten

    def beaten(self: Leadership, sender: Any, message: Any, now: int) -> None:
        real(self, sender, message._replace(sent=now), now)

    patch.setattr(Leadership, "on_beaten", beaten)


@bug(LEASES._replace(opening=(*LEASES.opening, "hush"), crashes=1, crashers=(3,)), "hold the lease at one instant")
def no_silence_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A member that starts again helps a candidate at once."""
    real = Acceptor.__init__

    def init(self: Acceptor, promised: Any, votes: Any, silent: int, intact: bool, healed: Slot) -> None:
        real(self, promised, votes, 0, intact, healed)

    patch.setattr(Acceptor, "__init__", init)


@bug(HAND_OVER, "hold the lease at one instant")
def lease_kept_after_handing_over(patch: pytest.MonkeyPatch) -> None:
    """A leader asks its successor to campaign and goes on as if nothing had happened."""
    real = Leadership._try_transfer

    def transfer(self: Leadership, now: int) -> None:
        step_down, self._step_down = self._step_down, lambda now: None
        real(self, now)
        self._step_down = step_down
        self._transfer = None

    patch.setattr(Leadership, "_try_transfer", transfer)


@bug(READS, "a read is answered as of slot")
def read_without_a_commit_of_the_ballot(patch: pytest.MonkeyPatch) -> None:
    """A leader answers reads before it has committed a value of its own ballot."""

    def grant(self: Leadership, now: int) -> None:
        if self.reads:
            self.reads.grant(self._learner.chosen, self.lease, False)

    patch.setattr(Leadership, "_grant_reads", grant)


@bug(READS, "a read is answered as of slot")
def read_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A leader that serves answers reads without asking whether it still leads."""
    patch.setattr(Lease, "confirmed", lambda self, round_: True)
