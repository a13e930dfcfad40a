"""Random worlds: whatever is lost, doubled, delayed, cut, paused, crashed or damaged, nothing chosen changes.

What is watched meanwhile stands in :mod:`cluster`. One seed is one world. More of them than the tests run are run by
``python tests/kernel/paxos/test_chaos.py FROM TO``.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cluster import Cluster, Process
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.messages import Kind
from quorate.kernel.paxos.quorum import Change, ChangeKind, InvalidChange, Member, Role
from quorate.kernel.paxos.replica import NotLeader


def trouble(cluster: Cluster) -> None:
    """One random act of the adversary."""
    random = cluster.random
    members = sorted(cluster.running)
    act = random.randrange(11)
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
    elif act == 8:
        cluster.disk_times = random.choice(((100, 3000), (100, 3000), (20_000, 400_000)))
    elif act == 9:
        if cluster.stuck:
            cluster.stuck.clear()
            for other in cluster.running.values():
                cluster.wake(other)
        else:
            cluster.stuck.add(victim)
    else:
        leader = cluster.leader()
        if leader is not None and leader.paused_until <= cluster.now:
            try:
                leader.core.transfer(victim, leader.clock())
            except (InvalidChange, NotLeader):
                return
            leader.turn()


def load(cluster: Cluster, step: int) -> None:
    """Some commands at the leader, which is told now and then where somebody waits; and reads soon after, there and
    anywhere, from members that may have something else to say to their leader."""
    random = cluster.random
    if random.random() < 0.3:
        members = sorted(cluster.running)
        cluster.hurry(frozenset(random.sample(members, random.randrange(len(members) + 1))))
    for number in range(random.randrange(4)):
        cluster.propose(b"%d/%d" % (step, number))
    for _ in range(random.randrange(3)):
        cluster.pass_time(random.randrange(2_000))
        leader = cluster.leader()
        process = cluster.running[random.choice(sorted(cluster.running))]
        if leader is not None and random.random() < 0.5:
            process = leader
        if process.alive and process.paused_until <= cluster.now:
            if random.random() < 0.5:
                process.core.speak()
            process.read()


def converge(cluster: Cluster, what: str) -> None:
    """After healing: one leader, and everybody reaches what it chose (L1 and L2 of Kirsch and Amir)."""
    cluster.heal()
    deadline = cluster.now + 10_000_000
    count = len(cluster.log)
    while cluster.now < deadline:
        cluster.pass_time(20_000)
        cluster.propose(b"after")
        leader = cluster.leader()
        if leader is not None and len(cluster.log) > count + 5:
            live = [p for p in cluster.running.values() if leader.configuration.find(p.member)]
            if all(p.applied >= leader.core.chosen - 4 for p in live):
                return
    state = [(p.member, p.core.status.name, str(p.core.ballot), p.core.chosen) for p in cluster.running.values()]
    raise AssertionError(f"seed {cluster.seed}: no progress after {what}: {state}")


# ---------------------------------------------------------------- a fixed membership


def chaos(seed: int, size: int) -> Cluster:
    cluster = Cluster(seed, size, learners=seed % 2, compact_every=(0, 7, 20)[seed % 3])
    for step in range(150):
        cluster.pass_time(cluster.random.randrange(60_000))
        load(cluster, step)
        if cluster.random.random() < 0.25:
            trouble(cluster)
    converge(cluster, "chaos")
    return cluster


@pytest.mark.parametrize("block", range(10))
def test_chaos(block: int) -> None:
    """Safety under every kind of trouble, then progress."""
    reads = vouched = 0
    for seed in range(block * 15, block * 15 + 15):
        cluster = chaos(seed, 3 if seed % 4 else 5)
        assert len(cluster.log) > 5
        reads += cluster.reads_answered
        vouched += cluster.vouched
    assert reads > 50
    assert vouched > 50


def test_slots_are_dense() -> None:
    """What was chosen has no holes, from the first slot on."""
    log = chaos(4711, 3).log
    assert sorted(log) == [Slot(s) for s in range(1, len(log) + 1)]


# ---------------------------------------------------------------- members come and go


def membership_chaos(seed: int, size: int = 3) -> int:
    cluster = Cluster(seed, size, compact_every=(0, 9)[seed % 2])
    following = size + 1
    for step in range(200):
        cluster.pass_time(cluster.random.randrange(60_000))
        load(cluster, step)
        if cluster.random.random() < 0.1:
            trouble(cluster)
        leader = cluster.leader()
        if cluster.random.random() < 0.2 and leader is not None and leader.paused_until <= cluster.now:
            configuration = leader.core.configuration
            kind = cluster.random.choice(list(ChangeKind))
            if kind is ChangeKind.ADD_LEARNER:
                if len(configuration.members) > size + 1:
                    continue
                change = Change(kind, Member(MemberId(following), Role.LEARNER, f"tcp:{following}"))
            else:
                if kind is ChangeKind.REMOVE and len(configuration.members) <= size:
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


@pytest.mark.parametrize("block", range(6))
def test_membership_chaos(block: int) -> None:
    """Members come, are promoted, demoted and leave, in the middle of trouble."""
    size = 5 if block == 5 else 3
    assert sum(membership_chaos(seed, size) for seed in range(block * 15, block * 15 + 15)) > 15


# ---------------------------------------------------------------- disks fail


def harm(cluster: Cluster) -> None:
    """A crash in which a readable disk loses a chosen slot, or a whole disk, as long as a majority of the voters keeps
    everything that it voted for."""
    random = cluster.random
    voters = sorted(cluster.founding.voters())
    victim = random.choice(voters)
    process = cluster.running[victim]
    if process.alive:
        cluster.crash(victim)
    disk = cluster.disks[victim]
    hurt = {m for m in voters if not cluster.disks[m].intact or cluster.disks[m].state().damaged} - {victim}
    if 2 * (len(hurt) + 1) >= len(voters):
        return
    known = [slot for slot in range(disk.snapshot + 1, disk.chosen + 1) if slot in disk.votes]
    if known and random.random() < 0.8:
        disk.damage(Slot(random.choice(known)))
    elif disk.intact:
        disk.wipe()


def disk_chaos(seed: int, size: int) -> int:
    """Returns how many members ended without the right to vote."""
    cluster = Cluster(seed, size, compact_every=(0, 9)[seed % 2])
    for step in range(120):
        cluster.pass_time(cluster.random.randrange(60_000))
        load(cluster, step)
        if cluster.random.random() < 0.15:
            trouble(cluster)
        if cluster.random.random() < 0.08:
            harm(cluster)
    converge(cluster, "damage")
    return sum(not disk.intact for disk in cluster.disks.values())


@pytest.mark.parametrize("block", range(4))
def test_disk_chaos(block: int) -> None:
    """Damaged slots are healed, and wiped members never vote again, while the cell goes on."""
    wiped = sum(disk_chaos(seed, 5 if seed % 4 == 0 else 3) for seed in range(block * 15, block * 15 + 15))
    assert wiped > 0


def amnesia_chaos(seed: int) -> None:
    """One member after another loses its disk and is replaced by a new one, in the middle of trouble."""
    cluster = Cluster(seed, 3, compact_every=(0, 9)[seed % 2])
    following = 4
    for round_ in range(4):
        for step in range(20):
            cluster.pass_time(cluster.random.randrange(60_000))
            load(cluster, round_ * 20 + step)
            if cluster.random.random() < 0.1:
                trouble(cluster)
        cluster.heal()
        leader = _wait_for_leader(cluster)
        victim = cluster.random.choice(sorted(leader.core.configuration.voters()))
        if cluster.running[victim].alive:
            cluster.crash(victim)
        cluster.disks[victim].wipe()
        cluster.start(victim)
        newcomer = MemberId(following)
        following += 1
        member = Member(newcomer, Role.LEARNER, f"tcp:{newcomer}")
        _insist(cluster, Change(ChangeKind.ADD_LEARNER, member))
        cluster.join(newcomer)
        _insist(cluster, Change(ChangeKind.PROMOTE, member))
        _insist(cluster, Change(ChangeKind.REMOVE, Member(victim, Role.VOTER, "")))
    converge(cluster, "replacing members")


def _wait_for_leader(cluster: Cluster) -> Process:
    for _ in range(400):
        cluster.pass_time(20_000)
        leader = cluster.leader()
        if leader is not None:
            return leader
    raise AssertionError(f"seed {cluster.seed}: nobody leads")


def _insist(cluster: Cluster, change: Change) -> None:
    """Have a change made, however often it must be asked for."""
    for _ in range(400):
        cluster.pass_time(20_000)
        leader = cluster.leader()
        if leader is None:
            continue
        found = leader.core.configuration.find(change.member.id)
        if {
            ChangeKind.ADD_LEARNER: found is not None,
            ChangeKind.PROMOTE: found is not None and found.role is Role.VOTER,
            ChangeKind.REMOVE: found is None,
        }[change.kind]:
            return
        try:
            cluster.change(change)
        except (InvalidChange, NotLeader):
            continue
    raise AssertionError(f"seed {cluster.seed}: {change} is not made")


@pytest.mark.parametrize("block", range(10))
def test_amnesia_chaos(block: int) -> None:
    """Disks are lost one after another until none of the first is left, and nothing that was chosen is lost."""
    for seed in range(block * 10, block * 10 + 10):
        amnesia_chaos(seed)


def main(first: int, last: int) -> None:
    """All worlds of these seeds; prints those that fail."""
    failed = 0
    for seed in range(first, last):
        worlds = (
            lambda seed: chaos(seed, 3 if seed % 4 else 5),
            lambda seed: membership_chaos(seed, 3 if seed % 5 else 5),
            lambda seed: disk_chaos(seed, 3 if seed % 4 else 5),
            amnesia_chaos,
        )
        for world in worlds:
            try:
                world(seed)
            except Exception as error:
                failed += 1
                print(seed, worlds.index(world), type(error).__name__, str(error)[:300], flush=True)  # noqa: T201
                if failed == 1:
                    traceback.print_exc()
    print(f"{last - first} seeds, {failed} worlds failed")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
