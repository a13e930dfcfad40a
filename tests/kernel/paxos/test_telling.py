"""Who is told at once, and who a little later because nobody waits there."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.messages import Accept, Accepted, Commit, Fetch, Heartbeat, Vouched
from quorate.kernel.paxos.quorum import ChangeKind
from quorate.kernel.paxos.telling import LATER, SLOW
from stage import Stage

LATER_MS = LATER / 1000
SLOW_MS = SLOW / 1000
BYTES = 8192


def members(*ids: int) -> frozenset[MemberId]:
    return frozenset(map(MemberId, ids))


def led(voters: int = 3, *, hurried: tuple[int, ...] = (1,), learners: int = 0) -> Stage:
    """Member 1 leads, and knows where somebody waits."""
    stage = Stage(voters, learners)
    stage.elect(1)
    stage.core(1).hurry(members(*hurried))
    return stage


def asked(stage: Stage) -> list[int]:
    """Who is being sent values."""
    return [letter.to for letter in stage.sent(Accept)]


def test_a_quorum_is_enough_where_nobody_else_waits() -> None:
    """The third member is told later, of all slots in one message that says what is chosen."""
    stage = led()
    for each in "abc":
        stage.propose(1, each)
        assert asked(stage) == [2]
        stage.settle()
        assert stage.applied(1)[-1] == each
    assert stage.applied(3) == []
    stage.now += LATER
    stage.tick(1)
    (late,) = stage.sent(Accept)
    assert late.to == 3
    assert [each.payload for each in late.message.values] == [b"a", b"b", b"c"]  # type: ignore[union-attr]
    assert [letter.to for letter in stage.sent(Commit)] == [2]
    stage.settle()
    assert stage.applied(2) == stage.applied(3) == ["a", "b", "c"]


def test_where_somebody_waits_everything_is_told_at_once() -> None:
    """The values and that they are chosen; whoever is not needed then is told later."""
    stage = led(hurried=(1, 3))
    stage.propose(1, "a")
    assert asked(stage) == [3]
    stage.settle()
    assert stage.applied(3) == ["a"]
    assert stage.applied(2) == []
    stage.pass_time(LATER_MS)
    assert stage.applied(2) == ["a"]


def test_everybody_is_in_a_hurry_until_somebody_says_who_is() -> None:
    """As at the beginning of each leadership."""
    stage = Stage(3)
    stage.elect(1)
    stage.propose(1, "a")
    assert asked(stage) == [2, 3]
    stage.settle()
    assert stage.applied(2) == stage.applied(3) == ["a"]


def test_of_five_two_are_asked_and_learners_wait() -> None:
    """As many voters as the quorum needs, and nobody who has no vote."""
    stage = led(5, learners=1)
    stage.propose(1, "a")
    assert asked(stage) == [2, 3]
    stage.settle()
    assert stage.applied(1) == ["a"]
    stage.pass_time(LATER_MS)
    assert all(stage.applied(member) == ["a"] for member in range(1, 7))


def test_who_does_not_answer_is_not_waited_for() -> None:
    """Long before LATER, and whatever was kept back, the others are asked; for a while from then on everybody is at
    once, for longer each time."""
    stage = led()
    stage.propose(1, "before")
    stage.settle()
    stage.pass_time(SLOW_MS / 2)
    stage.stall(2)
    stage.propose(1, "a")
    stage.settle()
    stage.pass_time(SLOW_MS / 2)
    assert stage.applied(1) == ["before"]
    stage.pass_time(SLOW_MS / 2)
    assert stage.applied(1) == ["before", "a"]

    def cautious_ms() -> int:
        passed = 0
        while True:
            stage.propose(1, "x")
            everybody = asked(stage) == [2, 3]
            stage.settle()
            if not everybody:
                return passed
            stage.pass_time(5)
            passed += 5

    first = cautious_ms()
    assert 15 <= first <= 25
    stage.pass_time(SLOW_MS)
    assert 2 * first - 10 <= cautious_ms() <= 2 * first + 10


@pytest.mark.parametrize("text", ["x" * 10_000, "x" * 300])
def test_many_bytes_are_kept_back_for_nobody(text: str) -> None:
    """What is waited for leaves first; in the very next turn everybody is told of everything."""
    stage = led()
    sent = 0
    while stage.core(1).next_tick() > stage.now:
        stage.propose(1, text)
        sent += 1
        assert asked(stage) == [2]
        stage.settle()
    assert sent * len(text) > BYTES
    assert (sent - 1) * len(text) <= BYTES
    stage.tick(1)
    assert set(asked(stage)) == {3}
    stage.settle()
    assert len(stage.applied(3)) == sent


def test_a_heartbeat_says_no_more_than_was_told() -> None:
    """Or those who were not told of a value would fetch it."""
    stage = led()
    stage.propose(1, "a")
    stage.settle()
    stage.now += stage.options.heartbeat
    stage.tick(1)
    beats = {letter.to: letter.message.commit for letter in stage.sent(Heartbeat)}  # type: ignore[union-attr]
    assert beats == {2: 2, 3: 1}
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    stage.settle()
    assert not list(stage.sent(Fetch))
    assert stage.applied(3) == ["a"]


def test_a_reader_elsewhere_is_told_at_once() -> None:
    """It waits for what is chosen."""
    stage = led()
    stage.propose(1, "a")
    stage.settle()
    stage.read(3)
    stage.settle()
    assert stage.actors[3].reads == {1: Slot(2)}
    assert stage.applied(3) == ["a"]


def test_a_change_of_membership_is_told_to_everybody() -> None:
    """With what was kept back before it; who is new is told from there on."""
    stage = led()
    stage.propose(1, "a")
    stage.settle()
    stage.change(1, ChangeKind.ADD_LEARNER, 4)
    assert asked(stage) == [2, 3]
    stage.enter(4)
    stage.settle()
    stage.pass_time(LATER_MS)
    assert stage.applied(3) == ["a"]
    assert stage.core(3).configuration.ids() == {1, 2, 3, 4}
    stage.propose(1, "b")
    stage.settle()
    stage.pass_time(60)
    assert stage.applied(4) == ["a", "b"]


def test_whoever_leads_next_knows_what_was_chosen() -> None:
    """Also if it is the one that had not been told of it."""
    stage = led()
    stage.propose(1, "a")
    stage.settle()
    stage.crash(1)
    stage.elect(3)
    assert stage.applied(3) == stage.applied(2) == ["a"]


def test_a_leader_hands_over_with_everything_told() -> None:
    """The successor may be one that nobody hurried to tell."""
    stage = led()
    stage.propose(1, "a")
    stage.settle()
    stage.transfer(1, 3)
    stage.settle()
    stage.pass_time(100)
    assert stage.leaders() == [3]
    assert stage.applied(3) == ["a"]


# ---------------------------------------------------------------- vouching


def vouched(stage: Stage) -> list[tuple[int, Slot, bool]]:
    """For whom the leader vouches, up to which slot, and whether nobody else waits."""
    return [(letter.to, letter.message.slot, letter.message.alone) for letter in stage.sent(Vouched)]  # type: ignore[union-attr]


def test_the_leader_vouches_when_its_vote_is_durable() -> None:
    """Not before; where somebody waits, and nowhere else."""
    stage = led(hurried=(2,))
    stage.propose(1, "a", "b")
    assert not vouched(stage)
    stage.actors[1].write()
    assert vouched(stage) == [(2, 3, True)]


def test_who_waits_does_not_wait_for_the_leader_to_count() -> None:
    """With the leader's vote and its own a follower knows that the slot is chosen; it need not be told."""
    stage = led(hurried=(2, 3))
    stage.withhold(lambda letter: isinstance(letter.message, Accepted | Commit))
    stage.propose(1, "a")
    stage.settle()
    assert stage.applied(2) == stage.applied(3) == ["a"]
    assert stage.applied(1) == []
    stage.release()
    stage.withhold(lambda letter: isinstance(letter.message, Commit))
    stage.settle()
    assert stage.applied(1) == ["a"]
    assert {letter.to for letter in stage.sent(Commit)} <= {3}


def test_who_has_company_is_told_so() -> None:
    """The vote of the only one with somebody who waits may wait for its next words; others' may not."""
    for hurried, alone in (((2,), True), ((2, 3), False), ((1, 2), False)):
        stage = led(hurried=hurried)
        stage.propose(1, "a")
        stage.actors[1].write()
        assert [each for _, _, each in vouched(stage)] == [alone] * len([m for m in hurried if m != 1])


def test_nobody_counts_where_two_votes_are_no_quorum() -> None:
    """Of five voters three must have voted; and a learner has no vote to count."""
    stage = led(5, hurried=(2, 3))
    stage.propose(1, "a")
    stage.actors[1].write()
    assert not vouched(stage)
    stage = led(3, hurried=(2, 4), learners=1)
    stage.propose(1, "a")
    stage.actors[1].write()
    assert [member for member, _, _ in vouched(stage)] == [2]


def test_a_change_of_membership_is_not_vouched_for() -> None:
    """The leader is the first to act on it; what comes after it is vouched for again."""
    stage = led(hurried=(2,))
    stage.propose(1, "a")
    stage.change(1, ChangeKind.ADD_LEARNER, 4)
    stage.actors[1].write()
    assert [slot for _, slot, _ in vouched(stage)] == [2]
    stage.settle()
    stage.propose(1, "b")
    stage.actors[1].write()
    assert [slot for _, slot, _ in vouched(stage)] == [4]


def test_the_leader_reads_what_may_be_known_elsewhere() -> None:
    """A slot that it vouched for may be acknowledged at a follower: its reads, under its lease or by a round, wait for
    it, and those of the others with them."""
    for lapsed in (False, True):
        stage = led(hurried=(2,))
        stage.withhold(lambda letter: isinstance(letter.message, Accepted))
        stage.propose(1, "a")
        stage.settle()
        assert stage.applied(2) == ["a"]
        assert stage.applied(1) == []
        if lapsed:
            stage.now += stage.options.lease - 1
        stage.read(1)
        stage.read(3)
        stage.settle()
        stage.tick(1)
        stage.settle()
        assert stage.actors[1].reads == stage.actors[3].reads == {}
        stage.release()
        stage.settle()
        assert stage.actors[1].reads == stage.actors[3].reads == {1: Slot(2)}


def test_a_leader_whose_disk_is_slow_says_what_is_chosen() -> None:
    """The others have chosen without its vote. Who was to count it, and voted, has not heard of that vote yet."""
    stage = led(hurried=(2,))
    stage.stall(1)
    stage.propose(1, "a")
    stage.settle()
    stage.now += LATER
    stage.tick(1)
    stage.settle()
    assert stage.applied(1) == stage.applied(2) == ["a"]


def test_who_votes_before_the_leader_need_not_be_told_either() -> None:
    """It counts when the leader's vote is durable, too, and that is when the leader counts."""
    stage = led(hurried=(2, 3))
    stage.withhold(lambda letter: isinstance(letter.message, Vouched))
    stage.stall(1)
    stage.propose(1, "a")
    stage.withhold(lambda letter: letter.to == 3 or isinstance(letter.message, Vouched))
    stage.settle()
    stage.resume(1)
    stage.actors[1].write()
    assert stage.applied(1) == ["a"]
    assert 2 not in [letter.to for letter in stage.sent(Commit)]
    stage.release()
    stage.settle()
    assert stage.applied(2) == ["a"]


def test_a_read_at_the_leader_hurries_nobody() -> None:
    """While it waits for what is on its way; one of another member's has that member told."""
    for reader, hurried in ((1, False), (3, True)):
        stage = led(hurried=(2,))
        stage.withhold(lambda letter: isinstance(letter.message, Accepted))
        stage.propose(1, "a")
        stage.settle()
        stage.read(reader)
        stage.settle()
        assert stage.actors[reader].reads == {}
        stage.release()
        stage.settle()
        assert stage.actors[reader].reads == {1: Slot(2)}
        assert bool(stage.applied(3)) == hurried
