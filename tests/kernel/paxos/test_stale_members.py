"""A member that knows only members that are gone finds its way back."""

from __future__ import annotations

from random import Random

from quorate.kernel.paxos.ballot import NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.catchup import CatchUp
from quorate.kernel.paxos.configuration import encode_change
from quorate.kernel.paxos.effects import Effects
from quorate.kernel.paxos.learner import Learner
from quorate.kernel.paxos.messages import Accept, Fetch, Kind, Sender, Value
from quorate.kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role
from quorate.kernel.paxos.ready import DurableState, KnownChosen
from quorate.kernel.paxos.replica import Options, Replica
from quorate.kernel.paxos.roster import Roster


def _configuration(*members: int) -> Configuration:
    return Configuration(Slot(0), tuple(Member(MemberId(m), Role.VOTER, f"m{m}") for m in members))


def test_catch_up_goes_back_to_who_told() -> None:
    """Questions that the known members do not answer go to whoever says that something is missing, a stranger too."""
    roster = Roster(MemberId(9), _configuration(1, 2, 9))
    effects = Effects(roster)
    catchup = CatchUp(100, 1000, roster, Learner(Slot(0), 0, 1000), effects)
    catchup.missing(Slot(50), MemberId(1), 0)
    asked = []
    for turn in range(1, 7):
        catchup.missing(Slot(50), MemberId(7), 100 * turn - 50)
        catchup.tick(100 * turn)
        assert all(isinstance(send.message, Fetch) for send in effects.messages)
        asked += [send.to for send in effects.messages]
        effects.messages.clear()
    assert asked == [1, 7, 1, 7, 2, 7, 1]


def test_a_change_of_membership_is_written_down_when_it_is_learned() -> None:
    """The disk is told at once that a change is chosen, or a restart would ask voters that may be gone."""
    change = Value(Kind.CONFIGURATION, encode_change(Change(ChangeKind.REMOVE, Member(MemberId(3), Role.VOTER, "m3"))))
    state = DurableState(NO_BALLOT, (), Slot(0), Slot(0), _configuration(1, 2, 3))
    core = Replica(MemberId(2), 1, state, options=Options(), random=Random(1), now=0)
    ballot = Ballot(1, MemberId(1))
    core.receive(Sender(MemberId(1), 1), Accept(ballot, Slot(1), (change,), Slot(0)), 10)
    core.ready()
    core.receive(Sender(MemberId(1), 1), Accept(ballot, Slot(2), (), Slot(1)), 20)
    ready = core.ready()
    assert [committed.slot for committed in ready.committed] == [1]
    assert KnownChosen(Slot(1)) in ready.records
    assert core.configuration.number == 1
