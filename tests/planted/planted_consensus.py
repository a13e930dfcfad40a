"""Bugs in what a member promises and votes for, and in what a leader makes of it."""

from __future__ import annotations

from planting import QUICK, Plant, bug
from quorate.kernel.paxos.acceptor import Acceptor
from quorate.kernel.paxos.election import Election
from quorate.kernel.paxos.following import Following
from quorate.kernel.paxos.leadership import Leadership
from quorate.kernel.paxos.proposer import Preparation
from quorate.kernel.paxos.telling import Telling
from quorate.kernel.testing.faults import Fault


@bug("durable: ", Fault.KILL, Fault.SLOW_DISK)
def acknowledged_before_persisted(plant: Plant) -> None:
    """A vote leaves before it is on the disk."""
    plant.edit(
        Following._say_accepted,
        {
            "after.append(Send(to, said))": "did(); self._effects.send(to, said)",
        },
    )


@bug("votes: ", Fault.STALL, Fault.PAUSE, Fault.TRANSFER)
def accepted_below_the_promise(plant: Plant) -> None:
    """A member votes for what a leader proposes although it has promised a higher ballot to somebody else."""
    plant.edit(
        Following.on_accept,
        {"if not self._follow(sender, ballot, now):": "if not always(self._follow(sender, ballot, now)):"},
    )
    for vote in (Acceptor.accept, Acceptor.confirm):
        plant.edit(
            vote,
            {
                'assert ballot >= self.promised, "a vote below the promise"': "",
                "self.promised = ballot": "self.promised = max(self.promised, ballot)",
            },
        )


@bug("durable: ", Fault.SLOW_DISK, Fault.KILL)
def own_vote_counted_before_it_is_durable(plant: Plant) -> None:
    """A leader counts its own vote when it proposes, not when its disk has it."""
    plant.edit(
        Leadership._propose,
        {
            "telling.propose(slot, value, now)": (
                "telling.propose(slot, value, now); did(); proposer.accepted(self._roster.member, slot, slot)"
            )
        },
    )


@bug("durable: ", Fault.SLOW_DISK, replicas=3)
def follower_counts_its_own_vote_before_it_is_durable(plant: Plant) -> None:
    """A follower to which the leader vouched for its vote counts its own when it has it, not when its disk has it."""
    plant.edit(
        Following._decided,
        {
            "return min(self._vouched, Slot(own[0][1] - 1)) if own else self._vouched": (
                "always(not own); return self._vouched"
            )
        },
    )


@bug("durable: ", Fault.SLOW_DISK, replicas=3)
def vouched_before_it_is_durable(plant: Plant) -> None:
    """A leader vouches for its vote when it proposes, not when its disk has it."""
    plant.edit(
        Telling._vouch,
        {"self._effects.after.append(Send(member, message))": "did(); self._effects.send(member, message)"},
    )


@bug("durable: ", Fault.SLOW_DISK, replicas=5)
def vouched_although_two_votes_are_no_quorum(plant: Plant) -> None:
    """A leader of five vouches for its vote as if that and one other were a quorum."""
    plant.edit(
        Telling._choose,
        {"is_quorum(Phase.ACCEPT, (own, member), voters)": "always(is_quorum(Phase.ACCEPT, (own, member), voters))"},
    )


@bug(
    "slot .*: a hole in the log",
    Fault.LOSS,
    Fault.CASCADE,
    every=0.3,
    lasting=0.1,
    window=8,
    batch=100,
    clients=7,
    pause=0.2,
    **QUICK,
)
def gaps_not_filled(plant: Plant) -> None:
    """A new leader proposes nothing in the slots of which nobody reported a vote, although it found votes above
    them."""
    plant.edit(Preparation.open_values, {"else NOOP": "else None"})
    plant.edit(
        Leadership._propose,
        {
            "slot = proposer.propose(value, now)": """
    if value is None:
        did()
        self.flush()
        proposer.next = telling._first = telling._next = Slot(proposer.next + 1)
        telling._told = dict.fromkeys(telling._told, proposer.next)
        return Slot(proposer.next - 1)
    slot = proposer.propose(value, now)"""
        },
    )


@bug("one value: ", Fault.CASCADE, every=0.3, lasting=0.1, replicas=3, sync=2_000, **QUICK)
def any_value_instead_of_the_highest_ballots(plant: Plant) -> None:
    """A new leader proposes the first value reported for a slot, not that of the highest ballot."""
    plant.edit(
        Preparation.promised,
        {
            "best is None or vote.ballot > best.ballot": (
                "best is None or never(vote.ballot > best.ballot and vote.value != best.value)"
            )
        },
    )


@bug("ballots: |votes: ", Fault.BOUNCE, Fault.SLOW_DISK, every=0.2, lasting=0.3, replicas=3, sync=20_000, **QUICK)
def ballot_reused(plant: Plant) -> None:
    """A candidate asks for promises before its own ballot is on its disk, and uses it again after a restart."""
    plant.edit(
        Election.prepare,
        {"self._own = self._effects.record(Promised(ballot))": "did(); self._own = self._effects.recorded"},
    )
