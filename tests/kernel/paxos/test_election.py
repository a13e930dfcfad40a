"""Who stands when, and what voters answer."""

from __future__ import annotations

from random import Random

import pytest
from cluster import Cluster
from quorate.kernel.paxos.ballot import NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import NOOP, Accept, Canvass, Canvassed, Heartbeat, Prepare, Promise, Refused, Sender
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import DurableState, Promised
from quorate.kernel.paxos.replica import Options, Replica, Status
from stage import Stage


def test_a_canvass_costs_nobody_anything() -> None:
    """No promise, nothing written: a member behind a partition may ask as often as it likes."""
    stage = Stage(3)
    stage.withhold(lambda letter: isinstance(letter.message, Canvassed))
    stage.pass_time(3000)
    assert all(stage.core(m).ballot == NO_BALLOT for m in (1, 2, 3))
    assert not any(actor.unwritten for actor in stage.actors.values())


def test_who_hears_a_leader_does_not_stand_and_helps_nobody() -> None:
    """Not even a candidate with the highest ballot there is."""
    stage = Stage(3)
    stage.elect(1)
    stage.lines.clear()
    stage.pass_time(5000)
    assert {line.split()[3] for line in stage.lines} == {"Heartbeat", "Beaten"}
    stage.send(3, 2, Canvass(Ballot(99, MemberId(3)), Slot(1), Slot(0)))
    stage.settle()
    assert stage.lines[-1].startswith("2 -> 3 Canvassed ballot=99.3 granted=False")


def test_a_member_behind_a_partial_partition_disturbs_nobody() -> None:
    """It reaches one of two others: it asks, is refused, and the leader stays, whatever it tries, under its ballot."""
    stage = Stage(3)
    stage.elect(1)
    ballot = stage.core(1).ballot
    stage.part((1, 3))
    stage.pass_time(10_000)
    assert stage.leaders() == [1]
    assert stage.core(1).ballot == ballot
    stage.heal()
    stage.pass_time(500)
    assert stage.core(1).ballot == ballot
    assert stage.core(3).leader == 1


def test_a_leader_without_a_quorum_steps_down() -> None:
    """After a lease, and says so to whoever asks."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(1)
    stage.pass_time(395)
    assert stage.core(1).status is Status.LEADER
    stage.pass_time(10)
    assert stage.core(1).leader is None
    assert stage.core(1).can_propose() == 0


def test_a_leader_refused_for_a_higher_promise_prepares_above_it() -> None:
    """A failed candidate left a high promise on one disk: the leader takes a higher ballot and goes on."""
    stage = Stage(3)
    stage.elect(1)
    stage.pass_time(10)
    stage.send(2, 1, Refused(stage.core(1).ballot, Ballot(7, MemberId(2))))
    stage.settle()
    assert stage.leaders() == [1]
    assert stage.core(1).ballot == Ballot(8, MemberId(1))


def test_a_leader_without_a_lease_does_not_fight() -> None:
    """It was refused before anybody granted it anything: the one that promised higher may be following the next
    leader already, so it waits to hear of that, or for its own quorum."""
    stage = Stage(3)
    stage.withhold(lambda letter: isinstance(letter.message, Heartbeat))
    stage.tick(1)
    stage.now += 200_000
    stage.tick(1)
    stage.settle()
    ballot = stage.core(1).ballot
    stage.send(2, 1, Refused(ballot, Ballot(7, MemberId(2))))
    stage.settle()
    assert stage.core(1).ballot == ballot


def test_refusals_of_old_ballots_mean_nothing() -> None:
    """Late ones, and such as are refused for a lease that still runs."""
    stage = Stage(3)
    stage.elect(1)
    stage.elect(2)
    ballot = stage.core(2).ballot
    stage.send(3, 2, Refused(Ballot(1, MemberId(2)), Ballot(9, MemberId(3))))
    stage.send(3, 2, Refused(ballot, ballot))
    stage.settle()
    assert stage.leaders() == [2]
    assert stage.core(2).ballot == ballot


def test_a_candidate_rests_when_it_is_refused() -> None:
    """And its next ballot is above the one that was in its way."""
    stage = Stage(3)
    stage.now += 200_000
    stage.withhold(lambda letter: isinstance(letter.message, Promise))
    stage.tick(1)
    stage.settle()
    assert stage.core(1).status is Status.PREPARING
    stage.send(2, 1, Refused(stage.core(1).ballot, Ballot(7, MemberId(2))))
    assert stage.core(1).status is Status.FOLLOWER
    stage.lose()
    stage.pass_time(1500)
    assert len(stage.leaders()) == 1


def test_a_canvass_with_too_low_a_ballot_is_repeated_at_once_with_a_higher_one() -> None:
    """Who was away while others led need not wait for its next try."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(1)
    stage.elect(2)
    stage.elect(3)
    stage.heal()
    stage.crash(3)
    stage.now += 2_000_000
    stage.tick(1)  # it finds that it leads no more
    stage.now += 400_000
    begun = stage.now
    stage.tick(1)
    stage.settle()
    assert stage.leaders() == []
    assert stage.core(1).next_tick() == begun
    stage.tick(1)
    stage.settle()
    assert stage.leaders() == [1]


def test_a_repeated_prepare_is_answered_again() -> None:
    """The promise may have been lost."""
    stage = Stage(3)
    for _ in range(3):
        stage.send(2, 1, Prepare(Ballot(5, MemberId(2)), Slot(1), Slot(0)))
    stage.actors[1].write()
    assert len(list(stage.sent(Promise))) == 3
    assert stage.core(1).ballot == Ballot(5, MemberId(2))


@pytest.mark.parametrize("kind", [Prepare, Promise])
def test_a_lost_word_does_not_cost_a_long_patience(kind: type) -> None:
    """After a bad time in which many tries led to nothing, members are patient with the next for seconds. When what is
    said gets through again, who asked asks again, and leads. (Swarm seeds 15012847 and 15013283 had no leader within
    three seconds.)"""
    for bad in range(12_000, 18_000, 500):
        stage = Stage(3)
        stage.withhold(lambda letter: isinstance(letter.message, kind))
        stage.pass_time(bad)
        stage.lose()
        stage.pass_time(2_000)
        assert len(stage.leaders()) == 1


def test_our_own_promise_counts_when_its_record_is_durable() -> None:
    """Not when an earlier one is."""
    stage = Stage(3)
    stage.elect(1)
    core = stage.core(2)
    core.receive(stage.sender(1), Accept(core.ballot, Slot(2), (NOOP,), Slot(1)), stage.now)
    earlier = core.ready().upto
    stage.now += 1_000_000
    core.tick(stage.now)
    asked = next(send.message for send in core.ready().messages if isinstance(send.message, Canvass))
    core.receive(stage.sender(3), Canvassed(asked.ballot, True, NO_BALLOT, Slot(1)), stage.now)
    later = core.ready().upto
    assert later > earlier
    core.receive(stage.sender(3), Promise(asked.ballot, Slot(2), (), Slot(1), Slot(0)), stage.now)
    core.persisted(earlier, stage.now)
    assert core.status is Status.PREPARING
    core.persisted(later, stage.now)
    assert core.status is Status.LEADER


def test_a_promise_reports_the_votes_in_parts_that_fit() -> None:
    """Large values go into parts of their own; the candidate needs them all."""
    stage = Stage(3, promise_limit=1000)
    stage.elect(1)
    stage.part((1, 3))
    stage.stall(1)
    stage.propose(1, "a" * 600, "b" * 600, "c" * 300, "d" * 300)
    stage.settle()
    stage.crash(1)
    stage.now += 1_000_000
    stage.withhold(lambda letter: isinstance(letter.message, Promise))
    stage.tick(3)
    stage.settle()
    votes = [[vote.slot for vote in letter.message.votes] for letter in stage.sent(Promise)]  # type: ignore[union-attr]
    assert votes == [[2], [3], [4, 5]]
    stage.release()
    stage.settle()
    assert [len(text) for text in stage.applied(3)] == [600, 600, 300, 300]


def test_slow_disks_delay_an_election_but_do_not_prevent_it() -> None:
    """Each try that leads to nothing is given more time: with writes of half a second, a prepare would otherwise
    always be given up before the promises are durable."""
    cluster = Cluster(1, 3)
    cluster.disk_times = (500_000, 700_000)
    cluster.pass_time(12_000_000)
    assert cluster.leader() is not None
    ballots = len(cluster.ballots)
    cluster.pass_time(5_000_000)
    assert len(cluster.ballots) == ballots


@pytest.mark.parametrize("size", [3, 5])
def test_elections_are_short(size: int) -> None:
    """When the leader dies another one serves within the lease, the random wait and a few more tries."""
    waits = []
    for seed in range(20):
        cluster = Cluster(seed, size)
        cluster.pass_time(1_000_000)
        leader = cluster.leader()
        assert leader is not None
        cluster.crash(leader.member)
        crashed = cluster.now
        while cluster.leader() is None:
            cluster.pass_time(5_000)
        waits.append(cluster.now - crashed)
    assert sorted(waits)[len(waits) // 2] < 600_000
    assert max(waits) < 1_500_000


def test_no_ballot_is_used_twice_however_often_the_member_restarts() -> None:
    """A thousand runs on one disk, each cut short somewhere, with what was being written lost or kept: every prepare
    that left has a ballot of its own."""
    random = Random(7)
    configuration = Configuration(Slot(0), tuple(Member(MemberId(i), Role.VOTER, f"tcp:{i}") for i in (1, 2, 3)))
    promised, used = NO_BALLOT, set()
    for incarnation in range(1, 1001):
        state = DurableState(promised, (), Slot(0), Slot(0), configuration)
        now = 0
        core = Replica(MemberId(1), incarnation, state, options=Options(), random=random, now=now)
        for _ in range(random.randrange(1, 4)):  # campaigns in this run
            now = core.next_tick()
            core.tick(now)
            for to, message in core.ready().messages:
                if isinstance(message, Canvass):
                    core.receive(Sender(to, 1), Canvassed(message.ballot, True, NO_BALLOT, Slot(0)), now)
            ready = core.ready()
            if random.random() < 0.3:
                break  # crashed before the write: nothing of it left
            for record in ready.records:
                assert isinstance(record, Promised)
                promised = max(promised, record.ballot)
            if random.random() < 0.2:
                break  # written, and crashed before the prepare left
            ballots = {send.message.ballot for send in ready.after if isinstance(send.message, Prepare)}
            assert not ballots & used
            used |= ballots
            core.persisted(ready.upto, now)
    assert len(used) > 500
