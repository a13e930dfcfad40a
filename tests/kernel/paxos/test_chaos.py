"""Random worlds: whatever is lost, doubled, delayed, cut, paused or crashed, nothing chosen changes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.messages import Kind
from quorate.kernel.paxos.quorum import Change, ChangeKind, InvalidChange, Member, Role
from quorate.kernel.paxos.replica import NotLeader


def trouble(cluster: Cluster) -> None:
    """One random act of the adversary."""
    random = cluster.random
    members = sorted(cluster.running)
    act = random.randrange(9)
    victim = random.choice(members)
    process = cluster.running[victim]
    if act == 0 and process.alive:
        cluster.crash(victim)
    elif act in (1, 2):
        if not process.alive:
            cluster.start(victim)
    elif act == 3:
        cluster.cut = {(a, b) for a in members for b in members if random.random() < random.choice((0.1, 0.4))}
    elif act == 4:
        cluster.cut = set()
    elif act == 5:
        cluster.loss, cluster.duplicate, cluster.slow = random.choice(((0, 0, 0), (0.05, 0.1, 0.1), (0.3, 0.3, 0.3)))
    elif act == 6:
        process.paused_until = cluster.now + random.randrange(2_000_000)
    elif act == 7:
        side = {m for m in members if random.random() < 0.5}
        cluster.cut = {(a, b) for a in members for b in members if (a in side) != (b in side)}
    else:
        leader = cluster.leader()
        if leader is not None and leader.paused_until <= cluster.now:
            try:
                leader.core.transfer(victim, leader.clock())
            except (InvalidChange, NotLeader):
                return
            leader.turn()


def converge(cluster: Cluster, what: str) -> None:
    """After healing: one leader, and everybody reaches what it chose (L1 and L2 of Kirsch and Amir)."""
    cluster.heal()
    deadline = cluster.now + 10_000_000
    count = len(cluster.log)
    while cluster.now < deadline:
        cluster.run(cluster.now + 20_000)
        cluster.propose(b"after")
        leader = cluster.leader()
        if leader is not None and len(cluster.log) > count + 5:
            live = [p for p in cluster.running.values() if leader.configuration.find(p.member)]
            if all(p.applied >= leader.core.chosen - 4 for p in live):
                return
    state = [(p.member, p.core.status.name, str(p.core.ballot), p.core.chosen) for p in cluster.running.values()]
    raise AssertionError(f"seed {cluster.seed}: no progress after {what}: {state}")


def chaos(seed: int, size: int) -> Cluster:
    cluster = Cluster(seed, size, compact_every=(0, 7, 20)[seed % 3])
    for step in range(150):
        cluster.run(cluster.now + cluster.random.randrange(60_000))
        for number in range(cluster.random.randrange(4)):
            cluster.propose(b"%d/%d" % (step, number))
        if cluster.random.random() < 0.25:
            trouble(cluster)
    converge(cluster, "chaos")
    return cluster


@pytest.mark.parametrize("block", range(10))
def test_chaos(block: int) -> None:
    """Safety under every kind of trouble, then progress."""
    for seed in range(block * 20, block * 20 + 20):
        assert len(chaos(seed, 3 if seed % 4 else 5).log) > 5


def membership_chaos(seed: int) -> int:
    cluster = Cluster(seed, 3, compact_every=(0, 9)[seed % 2])
    following = 4
    for step in range(200):
        cluster.run(cluster.now + cluster.random.randrange(60_000))
        cluster.propose(b"%d" % step)
        if cluster.random.random() < 0.1:
            trouble(cluster)
        leader = cluster.leader()
        if cluster.random.random() < 0.2 and leader is not None and leader.paused_until <= cluster.now:
            configuration = leader.core.configuration
            kind = cluster.random.choice(list(ChangeKind))
            if kind is ChangeKind.ADD_LEARNER:
                if len(configuration.members) > 4:
                    continue
                change = Change(kind, Member(MemberId(following), Role.LEARNER, f"tcp:{following}"))
            else:
                if kind is ChangeKind.REMOVE and len(configuration.members) < 4:
                    continue
                change = Change(kind, cluster.random.choice(configuration.members))
            try:
                cluster.change(change)
            except (InvalidChange, NotLeader):
                continue
            if kind is ChangeKind.ADD_LEARNER:
                cluster.join(MemberId(following))
                following += 1
    converge(cluster, "membership changes")
    return sum(value.kind is Kind.CONFIGURATION for value in cluster.log.values())


@pytest.mark.parametrize("block", range(5))
def test_membership_chaos(block: int) -> None:
    """Members come, are promoted, demoted and leave, in the middle of trouble."""
    assert sum(membership_chaos(seed) for seed in range(block * 20, block * 20 + 20)) > 20


def test_slots_are_dense() -> None:
    """What was chosen has no holes."""
    log = chaos(4711, 3).log
    first = min(log)
    assert sorted(log) == [Slot(s) for s in range(first, first + len(log))]
