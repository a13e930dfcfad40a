"""Membership changes: one at a time, through the log, effective when handed out."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.messages import Accept, Accepted, Chosen, Commit, Prepare
from quorate.kernel.paxos.quorum import ChangeKind, InvalidChange
from quorate.kernel.paxos.replica import Status
from stage import Stage, text


def voters(stage: Stage, member: int) -> set[int]:
    return set(stage.core(member).configuration.voters())


def grown(stage: Stage, leader: int, newcomer: int) -> None:
    """Add a learner, let it catch up, promote it."""
    stage.change(leader, ChangeKind.ADD_LEARNER, newcomer)
    stage.enter(newcomer)
    stage.settle()
    stage.pass_time(120)
    stage.change(leader, ChangeKind.PROMOTE, newcomer)
    stage.settle()


# ---------------------------------------------------------------- stop the line


def test_nothing_is_proposed_above_a_change_before_it_is_handed_out() -> None:
    """So the quorum that decides a slot is always known."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.stall(1)
    stage.withhold(lambda letter: isinstance(letter.message, Accepted))
    stage.propose(1, "before")
    stage.change(1, ChangeKind.PROMOTE, 4)
    assert stage.core(1).can_propose() == 0
    with pytest.raises(InvalidChange, match="another change"):
        stage.change(1, ChangeKind.REMOVE, 3)
    stage.settle()
    assert voters(stage, 1) == {1, 2, 3}
    stage.release()
    stage.settle()
    assert voters(stage, 1) == voters(stage, 4) == {1, 2, 3, 4}
    stage.propose(1, "after")
    stage.settle()
    assert stage.applied(4) == ["before", "after"]


def test_a_change_is_decided_by_those_before_it() -> None:
    """The newcomer's vote does not help to make it a voter."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.withhold(lambda letter: isinstance(letter.message, Accepted) and letter.sender.member != 4)
    stage.change(1, ChangeKind.PROMOTE, 4)
    stage.settle()
    assert voters(stage, 1) == {1, 2, 3}
    stage.release()
    stage.settle()
    assert voters(stage, 1) == {1, 2, 3, 4}


def test_learners_votes_do_not_count() -> None:
    """However many there are: the two voters that are left are none without the third."""
    stage = Stage(3, learners=3)
    stage.elect(1)
    stage.isolate(2)
    stage.isolate(3)
    stage.propose(1, "a")
    stage.settle()
    assert stage.applied(1) == []
    stage.pass_time(2000)
    assert stage.leaders() == []


# ---------------------------------------------------------------- a change found open


def test_a_found_change_is_finished_under_the_old_quorum_and_phase_1_repeated_under_the_new() -> None:
    """The predecessor may have chosen values above it with the new one."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.withhold(lambda letter: letter.to == 3)
    stage.stall(1)
    stage.change(1, ChangeKind.PROMOTE, 4)
    stage.settle()  # accepted by 2 and 4: open
    stage.crash(1)
    stage.lose()
    stage.lines.clear()
    stage.elect(3)
    assert voters(stage, 3) == {1, 2, 3, 4}
    prepares = [line for line in stage.lines if line.startswith("3 -> 4 Prepare")]
    assert len(prepares) == 1, "the second phase 1 asks the new voter, too"
    ballots = [line.split("ballot=")[1].split()[0] for line in stage.lines if line.startswith("3 -> 2 Prepare")]
    assert len(ballots) == 2


def test_values_above_a_found_change_wait_for_it() -> None:
    """An older leadership left a value above the change that a later one left open: the change is finished alone, and
    what stands above it is asked for again under the new quorum."""
    stage = Stage(5, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.isolate(1)
    stage.propose(1, "x", "y", "z")  # slots 2 to 4, on one disk
    stage.settle()
    stage.elect(2)
    stage.isolate(2)
    stage.change(2, ChangeKind.PROMOTE, 6)  # slot 3, on one disk
    stage.settle()
    stage.crash(4)
    stage.crash(5)
    stage.heal()
    stage.lines.clear()
    stage.elect(3)
    accepts = [line.split(" ", 5)[5] for line in stage.lines if line.startswith("3 -> 2 Accept ")]
    assert accepts == ["first=3 values=[<promote 6>] commit=2", "first=4 values=[z, <nothing>] commit=3"]
    assert len([line for line in stage.lines if line.startswith("3 -> 6 Prepare ")]) == 1
    assert stage.applied(3) == ["z"]


def test_a_change_found_late_that_no_longer_fits_has_no_effect() -> None:
    """It is chosen all the same, because it may have been; every member ignores it alike."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.isolate(1)
    stage.propose(1, "x", "y")
    stage.change(1, ChangeKind.REMOVE, 4)  # open on one disk, in slot 4
    stage.settle()
    stage.elect(2)
    stage.change(2, ChangeKind.REMOVE, 4)
    stage.settle()
    stage.heal()
    stage.elect(1)
    assert [text(value) for _, value in sorted(stage.log.items())].count("<remove 4>") == 2
    assert stage.log[Slot(3)] == stage.log[Slot(4)]
    assert voters(stage, 1) == {1, 2, 3}


# ---------------------------------------------------------------- the lost case of one-at-a-time changes


def test_two_leaders_with_unfinished_changes_do_not_split_the_cell() -> None:
    """The counter-example to single-server changes (raft-dev, July 2015), step by step.

    S1 to S4 are the cell. S1 leads and proposes to add S5; only S1 and S5 hear of it. S1 falls away, S2 leads and
    removes S1, which S2 and S3 (and S4) decide. Now S1 comes back, and with S4 and S5 it would be a majority of
    S1 to S5, the configuration that it proposed. There, S1 leads again and overwrites what S2 chose. Here, S1's
    configuration was never chosen, so it never counts.
    """
    stage = Stage(4, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.part((1, 2), (1, 3), (1, 4))
    stage.change(1, ChangeKind.PROMOTE, 5)  # S5 would vote; S1 and S5 accept, the others do not hear of it
    stage.settle()
    assert voters(stage, 1) == voters(stage, 5) == {1, 2, 3, 4}

    stage.elect(2)  # by S2, S3 and S4
    stage.part((2, 4))
    stage.change(2, ChangeKind.REMOVE, 1)
    stage.settle()
    assert voters(stage, 2) == voters(stage, 3) == {1, 2, 3, 4}, "three of four are needed, and S4 is not there"
    stage.cut -= {(2, 4), (4, 2)}
    stage.pass_time(300)
    assert voters(stage, 2) == voters(stage, 3) == {2, 3, 4}
    stage.propose(2, "chosen under S2")
    stage.settle()

    # S2 and S3 fall away; S1, S4 and S5 are together. S4 accepted the removal.
    stage.heal()
    stage.isolate(2)
    stage.isolate(3)
    stage.pass_time(5000)
    assert stage.leaders() == []
    stage.heal()
    stage.pass_time(2000)
    assert len(stage.leaders()) == 1
    leader = stage.leaders()[0]
    assert leader in (2, 3, 4)
    assert stage.applied(leader) == ["chosen under S2"]
    assert all(voters(stage, member) == {2, 3, 4} for member in (2, 3, 4, 5))


def test_the_same_when_the_fourth_has_not_heard_of_the_removal() -> None:
    """As it stands in the counter-example: E, the cell without S1, is decided by S2 and S3 alone of S2 to S4. Here the
    removal itself needs three of the four old voters, so S4 or S1 must have accepted it."""
    stage = Stage(4, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.part((1, 2), (1, 3), (1, 4))
    stage.change(1, ChangeKind.PROMOTE, 5)
    stage.settle()
    stage.elect(2)
    stage.part((2, 4), (3, 4))
    stage.change(2, ChangeKind.REMOVE, 1)
    stage.settle()
    stage.pass_time(350)
    assert voters(stage, 2) == {1, 2, 3, 4}
    # S1, S4 and S5: three of the five that S1 would like to count, but two of the four that count
    stage.cut -= {(1, 4), (4, 1)}
    stage.pass_time(5000)
    assert stage.leaders() == []
    assert all("promote 5" not in text(value) for value in stage.log.values())


# ---------------------------------------------------------------- who goes


def test_a_leader_that_removes_itself_hands_over_at_once() -> None:
    """It says what is chosen, and who should lead; nobody waits for a lease."""
    stage = Stage(3)
    stage.elect(1)
    stage.change(1, ChangeKind.REMOVE, 1)
    begun = stage.now
    stage.settle()
    assert stage.now == begun
    assert len(stage.leaders()) == 1
    assert stage.leaders() != [1]
    assert stage.core(1).status is Status.RETIRED
    stage.propose(stage.leaders()[0], "on")
    stage.settle()
    assert stage.applied(2) == stage.applied(3) == ["on"]


def test_a_demoted_leader_goes_on_as_a_learner() -> None:
    """It leads no more, and hears what the others choose."""
    stage = Stage(3)
    stage.elect(2)
    stage.change(2, ChangeKind.DEMOTE, 2)
    stage.settle()
    leader = stage.leaders()[0]
    assert leader in (1, 3)
    stage.propose(leader, "on")
    stage.settle()
    assert stage.core(2).status is Status.LEARNER
    assert stage.applied(2) == ["on"]


def test_a_removed_member_is_told() -> None:
    """Before it is forgotten, so that it does not go on asking to be elected."""
    stage = Stage(3)
    stage.elect(1)
    stage.change(1, ChangeKind.REMOVE, 3)
    stage.settle()
    assert stage.core(3).status is Status.RETIRED
    stage.lines.clear()
    stage.pass_time(5000)
    assert not any(line.startswith("3 ->") and "Canvass" in line for line in stage.lines)


def test_a_removed_member_that_was_away_disturbs_nobody_and_learns_of_it() -> None:
    """It canvasses as it always did, is refused, and hears that the log has gone on."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(3)
    stage.change(1, ChangeKind.REMOVE, 3)
    stage.settle()
    stage.pass_time(1000)
    assert stage.core(3).status is Status.CANVASSING
    ballot = stage.core(1).ballot
    stage.heal()
    stage.pass_time(1000)
    assert stage.core(3).status is Status.RETIRED
    assert stage.leaders() == [1]
    assert stage.core(1).ballot == ballot


def test_a_removed_member_is_no_candidate_even_when_nobody_leads() -> None:
    """Who knows of the removal refuses; an older configuration makes nobody eligible."""
    stage = Stage(4)
    stage.elect(1)
    stage.isolate(4)
    stage.change(1, ChangeKind.REMOVE, 4)
    stage.settle()
    stage.heal()
    stage.crash(1)
    stage.now += 1_000_000
    stage.withhold(lambda letter: letter.to == 4)
    stage.tick(4)
    stage.settle()
    assert all(" granted=True" not in line for line in stage.lines if line.endswith("chosen=2"))
    stage.send(4, 2, Prepare(stage.core(2).ballot._replace(round=9, member=stage.actors[4].member), Slot(1), Slot(0)))
    stage.settle()
    assert stage.core(2).ballot.round == 1


def test_a_candidate_of_a_newer_configuration_is_no_stranger() -> None:
    """A member that was promoted may be elected by those who have not heard of it yet."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.withhold(lambda letter: isinstance(letter.message, Commit) and letter.to in (2, 3))
    stage.change(1, ChangeKind.PROMOTE, 4)
    stage.settle()
    assert voters(stage, 2) == {1, 2, 3}
    assert voters(stage, 4) == {1, 2, 3, 4}
    stage.crash(1)
    stage.lose()
    stage.elect(4)
    assert stage.leaders() == [4]
    stage.pass_time(100)
    assert voters(stage, 2) == voters(stage, 3) == {1, 2, 3, 4}


# ---------------------------------------------------------------- who comes


def test_a_cell_is_replaced_member_by_member() -> None:
    """Three new members for three old ones, with a command between the steps."""
    stage = Stage(3)
    stage.elect(1)
    for newcomer, old in ((4, 1), (5, 2), (6, 3)):
        leader = stage.leaders()[0]
        stage.propose(leader, f"before {newcomer}")
        stage.settle()
        grown(stage, leader, newcomer)
        stage.pass_time(100)
        stage.change(leader, ChangeKind.REMOVE, old)
        stage.settle()
        stage.pass_time(800)
    for old in (1, 2, 3):
        stage.crash(old)
    leader = stage.leaders()[0]
    stage.propose(leader, "new")
    stage.settle()
    for member in (4, 5, 6):
        assert stage.applied(member) == ["before 4", "before 5", "before 6", "new"]
        assert voters(stage, member) == {4, 5, 6}


def test_a_learner_that_lags_or_was_never_heard_of_is_not_promoted() -> None:
    """It would count in quorums before it can help to make them."""
    stage = Stage(3, learners=1, window=2)
    stage.isolate(4)
    stage.elect(1)
    for number in range(17):
        stage.propose(1, str(number))
        stage.settle()
    stage.pass_time(60)
    with pytest.raises(InvalidChange, match="has not been heard of"):
        stage.change(1, ChangeKind.PROMOTE, 4)
    stage.withhold(lambda letter: isinstance(letter.message, Chosen))
    stage.heal()
    stage.pass_time(60)
    with pytest.raises(InvalidChange, match="18 slots behind"):
        stage.change(1, ChangeKind.PROMOTE, 4)


def test_a_change_that_would_stop_the_cell_is_refused() -> None:
    """One of three voters is away: to remove another one would leave one of two."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(3)
    stage.pass_time(500)
    for kind in (ChangeKind.REMOVE, ChangeKind.DEMOTE):
        with pytest.raises(InvalidChange, match="the cell would stop"):
            stage.change(1, kind, 2)
    stage.change(1, ChangeKind.REMOVE, 3)
    stage.settle()
    assert voters(stage, 1) == {1, 2}


def test_a_member_far_behind_learns_the_configuration_of_its_time_first() -> None:
    """It counts by the configuration that it has reached, and reaches the present one through the log."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(3)
    grown(stage, 1, 4)
    grown(stage, 1, 5)
    assert voters(stage, 3) == {1, 2, 3}
    stage.heal()
    stage.pass_time(100)
    assert voters(stage, 3) == {1, 2, 3, 4, 5}


def test_an_old_quorum_elects_nobody_who_acts_on_it() -> None:
    """Members 2 and 3 of the founding three have missed the changes that made 1, 4, 5 and 6 the cell with them: their
    majority of three learns from the votes of one of them that membership went on."""
    stage = Stage(3)
    stage.elect(1)
    grown(stage, 1, 4)
    grown(stage, 1, 5)
    stage.isolate(3)
    stage.withhold(lambda letter: letter.to == 2 and isinstance(letter.message, Commit))
    grown(stage, 1, 6)
    stage.change(1, ChangeKind.ADD_LEARNER, 7)
    stage.settle()
    stage.lose()
    for member in (1, 4, 5, 6):
        stage.crash(member)
    stage.heal()
    stage.pass_time(5000)
    assert stage.leaders() == []
    assert len([actor for actor in stage.actors.values() if actor.core is not None and actor.core.serving]) == 0


def test_a_change_counts_for_what_is_proposed_after_it() -> None:
    """Two of the three old voters are no majority of the four that there are now."""
    stage = Stage(3)
    stage.elect(1)
    grown(stage, 1, 4)
    stage.withhold(lambda letter: isinstance(letter.message, Accept) and letter.to > 2)
    stage.propose(1, "a")
    stage.settle()
    assert stage.applied(1) == stage.applied(2) == []
    stage.release()
    stage.settle()
    assert stage.applied(1) == ["a"]


def test_accepts_of_a_promoted_member_count_from_the_change_on() -> None:
    """The new voter makes up for one that is gone."""
    stage = Stage(3)
    stage.elect(1)
    grown(stage, 1, 4)
    stage.isolate(2)
    stage.withhold(lambda letter: isinstance(letter.message, Accept) and letter.to == 3)
    stage.propose(1, "a")
    stage.settle()
    assert stage.applied(1) == [], "two of four are no majority"
    stage.release()
    stage.settle()
    assert stage.applied(1) == ["a"]
