"""The master lease: its arithmetic, and that no two members ever hold it at one instant."""

from __future__ import annotations

from random import Random

import pytest
from cluster import Cluster
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.acceptor import Acceptor
from quorate.kernel.paxos.ballot import NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.lease import Lease
from quorate.kernel.paxos.messages import Accept, Beaten, Heartbeat, Prepare, Yield
from quorate.kernel.paxos.quorum import ChangeKind
from quorate.kernel.paxos.replica import Options
from stage import Stage

LENGTH = 400_000
DRIFT = 20_000
COUNTED = LENGTH - LENGTH * DRIFT // 1_000_000 - 1
ONE, TWO, THREE, FOUR = map(MemberId, (1, 2, 3, 4))


def lease(*voters: MemberId) -> Lease:
    return Lease(ONE, frozenset(voters), LENGTH, DRIFT, 0)


def test_the_lease_counts_from_the_sending() -> None:
    """Not from the answer, however late that comes."""
    mine = lease(ONE, TWO, THREE)
    round_ = mine.send(1000)
    assert mine.left(1000) == 0
    mine.answer(TWO, 1000, round_)
    assert mine.left(300_000) == 1000 + COUNTED - 300_000


def test_a_quorum_must_have_granted() -> None:
    """The newest moment after which a whole quorum granted; old grants of some do not count as new ones of others."""
    mine = Lease(ONE, frozenset(map(MemberId, (1, 2, 3, 4, 5))), LENGTH, DRIFT, 0)
    for sent in (10, 20, 30):
        mine.send(sent)
    mine.answer(TWO, 30, 3)
    assert mine.left(30) == 0
    mine.answer(THREE, 10, 1)
    assert mine.left(30) == 10 + COUNTED - 30
    mine.answer(FOUR, 20, 2)
    assert mine.left(30) == 20 + COUNTED - 30


def test_old_answers_change_nothing() -> None:
    """Answers may come out of order."""
    mine = lease(ONE, TWO, THREE)
    mine.send(10)
    mine.send(20)
    mine.answer(TWO, 20, 2)
    mine.answer(TWO, 10, 1)
    assert mine.left(20) == COUNTED
    assert mine.confirmed(2)


def test_learners_grant_nothing() -> None:
    """A member without a vote excludes nobody."""
    mine = lease(ONE, TWO, THREE)
    mine.send(10)
    mine.answer(FOUR, 10, 1)
    assert mine.left(10) == 0
    assert not mine.confirmed(1)


def test_alone_the_lease_is_always_there() -> None:
    """A single voter excludes everybody else by itself."""
    mine = lease(ONE)
    mine.send(10)
    assert mine.left(10) == COUNTED


def test_a_leader_without_answers_is_forlorn_after_a_lease() -> None:
    """Counted from the last round that a quorum answered."""
    mine = lease(ONE, TWO, THREE)
    assert mine.forlorn_at() == LENGTH
    mine.send(70)
    mine.answer(TWO, 70, 1)
    mine.send(90)
    assert mine.forlorn_at() == 70 + LENGTH


def test_a_change_of_membership_counts_the_lease_anew() -> None:
    """What a quorum of the old voters granted excludes nobody under the next configuration but one."""
    mine = lease(ONE, TWO, THREE)
    mine.send(10)
    mine.answer(TWO, 10, 1)
    mine.reconfigure(frozenset((ONE, THREE, FOUR)))
    assert mine.left(20) == 0
    mine.answer(FOUR, 10, 1)
    assert mine.left(20) == 10 + COUNTED - 20


def test_who_answers_is_seen_for_a_lease() -> None:
    """For the count of the failures that the cell can stand now."""
    mine = lease(ONE, TWO, THREE)
    assert mine.answered_recently(ONE, 0)
    assert not mine.answered_recently(TWO, 0)
    mine.send(10)
    mine.answer(TWO, 10, 1)
    assert mine.answered_recently(TWO, 9 + LENGTH)
    assert not mine.answered_recently(TWO, 10 + LENGTH)


@given(
    drift=st.integers(0, 100_000),
    fast=st.floats(0, 1),
    length=st.integers(1000, 10**6),
    sent=st.floats(0, 10**7),
    travel=st.floats(0, 10**5),
)
def test_the_leaders_lease_ends_before_the_grant(
    drift: int, fast: float, length: int, sent: float, travel: float
) -> None:
    """With clocks that show whole microseconds and run apart within the bound, whatever the travel: real times."""
    leader_rate, member_rate = 1.0, 1 + drift / 1_000_000 * fast
    mine = Lease(ONE, frozenset((ONE, TWO)), length, drift, 0)
    stamp = int(sent * leader_rate)
    mine.answer(ONE, stamp, 1)
    mine.answer(TWO, stamp, 1)
    other = Acceptor(NO_BALLOT, (), 0, True, NO_SLOT)
    other.grant(Ballot(1, ONE), int((sent + travel) * member_rate), length)
    ends = (stamp + mine.left(stamp)) / leader_rate  # the first real moment at which the leader sees nothing left
    freed = other.granted_until / member_rate  # the first real moment at which the member may help another
    assert ends <= freed


# ---------------------------------------------------------------- exclusion, on stage


def test_a_member_that_granted_helps_nobody_else() -> None:
    """While the lease runs a candidate gets nothing, not even a promise for a far higher ballot."""
    stage = Stage(3)
    stage.elect(1)
    stage.send(3, 2, Prepare(Ballot(99, THREE), Slot(1), Slot(0)))
    stage.settle()
    assert stage.core(2).ballot == stage.core(1).ballot
    assert stage.holders() == [1]


def test_a_late_answer_does_not_lengthen_the_lease() -> None:
    """The heartbeat left long ago, and the grant runs since it arrived: an answer that was delayed on its way back
    must not count from now on."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, Beaten))
    stage.pass_time(60)
    sent = stage.now - 10_000  # the heartbeat left at 50 ms
    stage.cut |= {(1, 2), (1, 3)}
    stage.now += 200_000
    stage.release()
    stage.settle()
    assert 0 < stage.core(1).lease_left(stage.now) <= sent + COUNTED - stage.now


def test_a_restarted_member_keeps_the_grants_it_forgot() -> None:
    """Both followers restart within the lease: neither helps a candidate until it is surely over."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(1)
    for member in (2, 3):
        stage.restart(member)
    for _ in range(20):
        stage.pass_time(20)
        assert stage.holders() in ([1], [])
        assert stage.leaders() == [1]
    stage.pass_time(200)
    assert stage.leaders() in ([2], [3])
    assert stage.holders() != [1]


def test_a_lease_is_no_good_before_the_leader_serves() -> None:
    """A leader that still recovers may follow an old configuration, whose quorums exclude nobody."""
    stage = Stage(3)
    stage.withhold(lambda letter: isinstance(letter.message, Accept))
    stage.now += 1_000_000
    stage.tick(1)
    stage.settle()
    assert stage.core(1).leader == 1
    assert not stage.core(1).serving
    assert stage.core(1).lease_left(stage.now) == 0
    stage.release()
    stage.settle()
    assert stage.core(1).lease_left(stage.now) > 0


def test_grants_of_removed_voters_do_not_carry_a_lease_over_two_changes() -> None:
    """Voters 1 and 2 of three granted; 2 is removed, 4 promoted: now 3 and 4 alone could elect a leader, so the lease
    is none until one of them has granted, too."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(100)
    stage.withhold(lambda letter: isinstance(letter.message, Beaten) and letter.sender.member in (3, 4))
    stage.pass_time(200)
    assert stage.holders() == [1]
    stage.change(1, ChangeKind.REMOVE, 2)
    stage.settle()
    stage.change(1, ChangeKind.PROMOTE, 4)
    stage.settle()
    assert stage.core(1).configuration.voters() == {1, 3, 4}
    granted = stage.core(1).lease_left(stage.now)
    stage.lose()
    stage.isolate(1)
    assert granted <= 200_000, "the lease counts what 2 granted"


def test_a_delayed_yield_gives_no_vote_to_who_may_have_granted_another() -> None:
    """Member 3 grants the new leader, restarts, and then gets an old leader's late Yield: its own acceptor, too, must
    be silent, or two leaders would hold the lease."""
    stage = Stage(3)
    stage.elect(1)
    old = stage.core(1).ballot
    stage.send(1, 3, Heartbeat(old, stage.core(3).chosen, stage.now, 99, Slot(0)))
    stage.restart(3)
    stage.send(1, 3, Heartbeat(old, stage.core(3).chosen, stage.now, 100, Slot(0)))
    stage.send(1, 3, Yield(old, stage.core(3).chosen))
    stage.settle()
    assert stage.core(3).ballot == old
    stage.pass_time(600)
    assert len(stage.leaders()) == 1


# ---------------------------------------------------------------- exclusion, in random worlds


@pytest.mark.parametrize("block", range(4))
def test_no_two_leases_at_one_instant(block: int) -> None:
    """Clocks at the very bounds of the drift, pauses of every length, restarts, hand-overs, cuts: watched after every
    event (see Cluster.check)."""
    leaderships = 0
    for seed in range(block * 15, block * 15 + 15):
        random = Random(seed)
        impatient = Options(drift_ppm=100_000, campaign_spread=5_000, window=4)
        cluster = Cluster(seed, 3, options=impatient)
        bound = cluster.options.drift_ppm / 1_000_000
        cluster.rates = {i: random.choice((1, 1 + bound)) for i in range(1, 4)}
        seen = set()
        for _ in range(150):
            cluster.pass_time(random.randrange(60_000))
            cluster.propose(b"x")
            leader = cluster.leader()
            if leader is not None:
                seen.add(leader.core.ballot)
            _disturb(cluster, random)
        leaderships += len(seen)
    assert leaderships > 30


def _disturb(cluster: Cluster, random: Random) -> None:
    """What could make somebody believe in a lease that is over, or forget one that is not."""
    member = MemberId(random.randrange(1, 4))
    process, leader = cluster.running[member], cluster.leader()
    act = random.randrange(20)
    if act == 0:
        process.paused_until = cluster.now + random.randrange(900_000)
    elif act == 1:
        cluster.crash(member)
        cluster.start(member)
    elif act == 2 and leader is not None:
        cluster.cut = {(leader.member, other) for other in (1, 2, 3)}
        if random.random() < 0.5:
            cluster.cut |= {(two, one) for one, two in cluster.cut}
    elif act in (3, 4):
        cluster.cut = set()
    elif act == 5 and leader is not None and leader.paused_until <= cluster.now and member != leader.member:
        leader.core.transfer(member, leader.clock())
        leader.turn()
    elif act == 6:
        cluster.slow = random.choice((0, 0, 0.3))
