"""Handing leadership over."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.messages import Accept, Accepted, Prepare, Yield
from quorate.kernel.paxos.quorum import ChangeKind, InvalidChange
from stage import Stage


def test_leadership_moves_within_a_few_messages() -> None:
    """No lease has to end first: the old leader waives the grants that were given to it."""
    stage = Stage(3)
    stage.elect(1)
    begun = stage.now
    stage.transfer(1, 2)
    stage.settle()
    assert stage.leaders() == [2]
    assert stage.now == begun


def test_what_is_in_flight_is_finished_first() -> None:
    """And nothing new is taken meanwhile."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, Accepted))
    stage.stall(1)
    stage.propose(1, "a")
    stage.settle()
    stage.transfer(1, 3)
    stage.settle()
    assert stage.leaders() == [1]
    assert stage.core(1).can_propose() == 0
    stage.release()
    stage.settle()
    stage.pass_time(1)  # a heartbeat asks at once whether the successor has it
    assert stage.leaders() == [3]
    assert stage.applied(3) == ["a"]


def test_the_lease_is_given_up_before_the_successor_is_told() -> None:
    """Nobody holds it while the word is on its way."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, Yield))
    assert stage.holders() == [1]
    stage.transfer(1, 2)
    stage.settle()
    assert list(stage.sent(Yield))
    assert stage.holders() == []
    stage.release()
    stage.settle()
    assert stage.holders() == [2]


def test_the_lease_does_not_count_while_leadership_is_on_offer() -> None:
    """Reads take a round instead; when the offer is withdrawn the lease counts again."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(2)
    stage.propose(1, "a")
    stage.settle()
    stage.transfer(1, 2)
    assert stage.core(1).lease_left(stage.now) == 0
    stage.read(1)
    assert stage.actors[1].reads == {}
    stage.pass_time(10)
    assert stage.actors[1].reads == {1: 2}
    stage.pass_time(410)
    assert stage.leaders() == [1]
    assert stage.core(1).lease_left(stage.now) > 0
    stage.propose(1, "b")


def test_a_lost_word_costs_no_more_than_an_election() -> None:
    """Whoever is first leads."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, Yield))
    stage.transfer(1, 2)
    stage.settle()
    stage.lose()
    stage.pass_time(1500)
    assert len(stage.leaders()) == 1


def test_a_word_that_comes_twice_or_late_is_obeyed_once() -> None:
    """The waiver is good for one campaign of one who follows that leader."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, Yield))
    stage.transfer(1, 2)
    stage.settle()
    (word,) = stage.sent(Yield)
    stage.release()
    stage.settle()
    ballot = stage.core(2).ballot
    stage.deliver(word)
    stage.settle()
    stage.elect(3)
    stage.deliver(word)
    stage.settle()
    assert stage.leaders() == [3]
    assert ballot.round == 2


def test_a_waiver_opens_only_the_grant_of_who_waived() -> None:
    """A member that granted somebody else since helps the successor as little as anybody."""
    stage = Stage(3)
    stage.elect(1)
    old = stage.core(1).ballot
    stage.elect(2)
    late = Prepare(stage.core(3).ballot._replace(round=9, member=stage.actors[3].member), 1, 0, old)  # type: ignore[arg-type]
    stage.send(3, 1, late)
    stage.settle()
    assert stage.core(1).ballot == stage.core(2).ballot


def test_a_successor_that_lacks_something_declines() -> None:
    """It would only have to fetch it first."""
    stage = Stage(3)
    stage.elect(1)
    stage.send(1, 2, Yield(stage.core(1).ballot, stage.core(2).chosen + 1))  # type: ignore[arg-type]
    stage.settle()
    assert stage.leaders() == [1]


def test_leadership_goes_to_another_voter_only() -> None:
    """Not to learners, strangers or itself, and not in the middle of a change of membership."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    for nobody in (1, 4, 9):
        with pytest.raises(InvalidChange, match="another voter only"):
            stage.transfer(1, nobody)
    stage.withhold(lambda letter: isinstance(letter.message, Accept))
    stage.pass_time(60)
    stage.change(1, ChangeKind.PROMOTE, 4)
    with pytest.raises(InvalidChange, match="a change of membership is under way"):
        stage.transfer(1, 2)


def test_membership_rests_while_leadership_moves() -> None:
    """One thing at a time."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(2)
    stage.propose(1, "a")
    stage.settle()
    stage.transfer(1, 2)
    with pytest.raises(InvalidChange, match="under way"):
        stage.change(1, ChangeKind.REMOVE, 3)
