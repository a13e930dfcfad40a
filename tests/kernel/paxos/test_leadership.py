"""What a leader does besides choosing values: recovery, retransmission, commits, stepping down."""

from __future__ import annotations

from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.messages import Accept, Accepted, Beaten, Commit, Fetch, Heartbeat, Kind, Value, Yield
from quorate.kernel.paxos.replica import Status
from stage import Stage


def test_recovery_keeps_to_the_window() -> None:
    """A long open suffix is proposed again in portions, and what is new waits."""
    stage = Stage(3, window=8)
    stage.elect(1)
    stage.part((1, 3))
    stage.stall(1)
    stage.propose(1, *"abcdefgh")
    stage.settle()
    stage.crash(1)
    stage.now += 1_000_000
    stage.options = stage.options._replace(window=3)
    stage.restart(3)
    stage.now += 1_000_000
    stage.withhold(lambda letter: isinstance(letter.message, Accepted))
    stage.tick(3)
    stage.settle()
    (answer,) = stage.sent(Accepted)
    assert answer.message.last - answer.message.first == 2  # type: ignore[union-attr]
    assert stage.core(3).can_propose() == 0
    stage.release()
    stage.settle()
    assert stage.leaders() == [3]
    assert stage.applied(3) == list("abcdefgh")
    assert stage.log[max(stage.log)].kind is Kind.NOOP


def test_a_commit_travels_with_the_next_proposal() -> None:
    """No message of its own when one leaves anyway."""
    stage = Stage(3)
    stage.elect(1)
    stage.stall(1)
    core = stage.core(1)
    stage.propose(1, "a")
    stage.withhold(lambda letter: isinstance(letter.message, Accepted))
    stage.settle()
    answers = list(stage.sent(Accepted))
    stage.lose()
    for answer in answers:
        core.receive(answer.sender, answer.message, stage.now)
    assert core.chosen == 2
    stage.propose(1, "b")
    accepts = list(stage.sent(Accept))
    assert {letter.message.commit for letter in accepts} == {2}  # type: ignore[union-attr]
    assert not list(stage.sent(Commit))


def test_a_repetition_to_one_member_does_not_carry_the_commit_for_all() -> None:
    """The others are told in the same turn, not with the next heartbeat."""
    stage = Stage(3)
    stage.elect(1)
    stage.stall(1)
    stage.stall(2)
    stage.stall(3)
    stage.propose(1, "a", "b")
    stage.withhold(lambda letter: letter.to == 3 and isinstance(letter.message, Accept))
    stage.settle()
    stage.lose()
    stage.pass_time(180)
    stage.withhold(lambda letter: isinstance(letter.message, (Accepted, Beaten)) and letter.sender.member != 3)
    stage.resume(2)
    stage.resume(3)
    stage.settle()
    (answer,) = (letter for letter in stage.withheld if isinstance(letter.message, Accepted))
    stage.now += 60_000
    core = stage.core(1)
    core.tick(stage.now)
    beat = next(send.message for send in core.ready().messages if isinstance(send.message, Heartbeat))
    core.receive(answer.sender, answer.message._replace(last=answer.message.first), stage.now)  # type: ignore[union-attr, call-arg]
    stage.lose()
    core.persisted(10**6, stage.now)
    core.receive(stage.sender(3), Beaten(beat.ballot, beat.sent, beat.round, core.chosen), stage.now)
    told = {send.to for send in core.ready().messages if isinstance(send.message, (Commit, Accept))}
    assert told == {2, 3}


def test_what_was_lost_is_sent_again() -> None:
    """To those whose heartbeats say that they are there."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(3)
    stage.withhold(lambda letter: isinstance(letter.message, Accept))
    stage.propose(1, "a")
    stage.settle()
    stage.lose()
    stage.pass_time(300)
    assert stage.applied(1) == ["a"]


def test_two_members_that_lost_something_both_get_it() -> None:
    """Five members, two of them down: both of the others are needed, and neither's repetition delays the other's."""
    stage = Stage(5)
    stage.elect(1)
    stage.isolate(4)
    stage.isolate(5)
    stage.withhold(lambda letter: isinstance(letter.message, Accept))
    stage.propose(1, "a")
    stage.settle()
    stage.lose()
    stage.withhold(lambda letter: isinstance(letter.message, Accepted) and letter.sender.member == 2)
    stage.pass_time(260)
    assert stage.lines.count("1 -> 3 Accept ballot=1.1 first=2 values=[a] commit=1") == 1
    stage.release()
    stage.settle()
    assert stage.applied(1) == ["a"]


def test_a_slow_member_is_not_drowned_in_repetitions() -> None:
    """Its disk takes seconds: the pauses between the repetitions grow, up to a limit."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(2)
    stage.stall(3)
    stage.propose(1, "a")
    stage.settle()
    stage.pass_time(10_000)
    repeated = [line for line in stage.lines if line.startswith("1 -> 3 Accept") and "values=[a]" in line]
    assert 12 <= len(repeated) <= 16
    stage.resume(3)
    stage.settle()
    assert stage.applied(1) == ["a"]


def test_a_leader_whose_own_disk_stalls_hands_over() -> None:
    """The others choose without it; for how long its own votes are missing it could not say, so somebody else leads
    who can vote, too. The cell does not wait for a lease."""
    stage = Stage(3)
    stage.elect(1)
    stage.stall(1)
    stage.propose(1, "a")
    stage.settle()
    assert stage.applied(1) == ["a"]
    stage.pass_time(1500)
    assert stage.leaders() == [1]
    stage.pass_time(200)
    assert len(stage.leaders()) == 1
    assert stage.leaders() != [1]
    assert any(" Yield " in line for line in stage.lines)


def test_when_all_disks_are_slow_the_leader_stays() -> None:
    """Nobody else could do better."""
    stage = Stage(3)
    stage.elect(1)
    for member in (1, 2, 3):
        stage.stall(member)
    stage.propose(1, "a")
    stage.pass_time(5000)
    assert stage.leaders() == [1]
    assert not list(stage.sent(Yield))


def test_heartbeats_leave_before_everything_else() -> None:
    """A lease does not wait behind a window of large values, nor behind the log for somebody who lags."""
    stage = Stage(3)
    stage.elect(1)
    core = stage.core(1)
    stage.now += 60_000
    core.receive(stage.sender(2), Fetch(Slot(1), 1 << 20), stage.now)
    core.propose(Value(Kind.COMMANDS, b"x"), stage.now)
    core.tick(stage.now)
    kinds = [type(send.message).__name__ for send in core.ready().messages]
    assert kinds == ["Heartbeat", "Heartbeat", "Chosen", "Accept", "Accept"]


def test_large_values_travel_alone() -> None:
    """So that nothing waits behind a message of many megabytes."""
    stage = Stage(3, promise_limit=1100)
    stage.elect(1)
    stage.propose(1, "a" * 600, "b" * 600, "c" * 300)
    accepts = [letter.message for letter in stage.sent(Accept) if letter.to == 2]
    assert [(accept.first, len(accept.values)) for accept in accepts] == [(2, 1), (3, 2)]  # type: ignore[union-attr]
    stage.settle()
    assert len(stage.applied(2)) == 3


def test_answers_of_strangers_count_for_nothing() -> None:
    """A member that was removed may still be talking."""
    stage = Stage(3)
    stage.elect(1)
    core = stage.core(1)
    core.receive(stage.sender(9), Beaten(core.ballot, stage.now, 1, core.chosen), stage.now)
    assert 9 not in core.progress()
    stage.part((1, 2), (1, 3))
    stage.propose(1, "a")
    stage.settle()
    core.receive(stage.sender(9), Accepted(core.ballot, core.chosen, core.chosen), stage.now)
    assert core.chosen == 1
    assert core.status is Status.LEADER
