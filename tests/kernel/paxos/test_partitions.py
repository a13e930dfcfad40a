"""Partial connectivity: whoever is connected to a majority is enough for progress, and what one has, others get.

Sources: Ng, Haridi, Carbone, Omni-Paxos (EuroSys 2023) for the three shapes; Kirsch and Amir, Paxos for System
Builders (2008) for the two statements of liveness.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from random import Random

import pytest
from cluster import Cluster
from quorate.kernel.paxos.ballot import MemberId

SECOND = 1_000_000
PATIENCE = 4 * SECOND
"""A few time-outs: leases of 0.4 s, campaigns every 0.2 to 0.3 s."""

Edges = set[tuple[int, int]]


def settled(seed: int, size: int) -> Cluster:
    """A cell with a leader, and some log."""
    cluster = Cluster(seed, size, compact_every=(0, 5)[seed % 2])
    while len(cluster.log) < 8:
        cluster.pass_time(20_000)
        cluster.propose(b"x")
    return cluster


def keep(cluster: Cluster, edges: Edges) -> None:
    """Only these directed links work."""
    members = sorted(cluster.running)
    cluster.cut = {(a, b) for a in members for b in members if a != b and (a, b) not in edges}


def both_ways(*pairs: tuple[int, int]) -> Edges:
    return {(a, b) for a, b in pairs} | {(b, a) for a, b in pairs}


def connected(edges: Edges, one: int, two: int) -> bool:
    return (one, two) in edges and (two, one) in edges


def has_hub(edges: Edges, size: int) -> bool:
    """Whether some member reaches, and is reached by, enough others to make a majority."""
    members = range(1, size + 1)
    return any(2 * (1 + sum(connected(edges, m, o) for o in members if o != m)) > size for m in members)


def progresses(cluster: Cluster, patience: int = PATIENCE) -> bool:
    """Whether new commands are chosen in time."""
    deadline = cluster.now + patience
    before = cluster.highest()
    while cluster.now < deadline:
        cluster.pass_time(20_000)
        cluster.propose(b"y")
        if cluster.highest() > before + 6:
            return True
    return False


def replicates(cluster: Cluster, edges: Edges) -> bool:
    """Whether what a member has reaches every member connected to it."""
    had = {m: p.core.chosen for m, p in cluster.running.items()}
    for _ in range(20):
        cluster.pass_time(300_000)
        now = {m: p.core.chosen for m, p in cluster.running.items()}
        if all(now[two] >= had[one] for one in had for two in had if one != two and connected(edges, one, two)):
            return True
    return False


def judge(seed: int, size: int, edges: Edges, leader: int | None = None) -> None:
    """Cut a running cell, led by `leader` or by anybody, down to `edges`; then heal."""
    cluster = settled(seed, size)
    if leader is not None:
        hand_to(cluster, leader)
    keep(cluster, edges)
    before = cluster.now
    if has_hub(edges, size):
        assert progresses(cluster), f"seed {seed}: no progress with {sorted(edges)}"
    else:
        cluster.pass_time(PATIENCE)
    assert replicates(cluster, edges), f"seed {seed}: something does not spread over {sorted(edges)}"
    if cluster.now - before > 2 * SECOND and has_hub(edges, size):
        quiet = len(cluster.ballots)
        cluster.pass_time(2 * SECOND)
        assert len(cluster.ballots) <= quiet + 2, f"seed {seed}: leadership wanders with {sorted(edges)}"
    cluster.cut = set()
    assert progresses(cluster, 2 * SECOND), f"seed {seed}: no progress after {sorted(edges)} healed"


def test_every_directed_graph_of_three() -> None:
    """All 64."""
    links = list(permutations((1, 2, 3), 2))
    for number in range(2 ** len(links)):
        judge(number, 3, {link for i, link in enumerate(links) if number >> i & 1})


@pytest.mark.parametrize("leader", [1, 2, 3])
def test_every_undirected_graph_of_three_under_every_leader(leader: int) -> None:
    """All 8, whoever leads when the links break."""
    links = list(combinations((1, 2, 3), 2))
    for number in range(2 ** len(links)):
        cluster = settled(number, 3)
        hand_to(cluster, leader)
        edges = both_ways(*(link for i, link in enumerate(links) if number >> i & 1))
        keep(cluster, edges)
        assert progresses(cluster) == has_hub(edges, 3)


def undirected_graphs(size: int) -> Iterator[Edges]:
    """All of them, but of those that differ only in how the members other than 1 are called one."""
    links = list(combinations(range(1, size + 1), 2))
    seen: set[frozenset[tuple[int, int]]] = set()
    for number in range(2 ** len(links)):
        graph = both_ways(*(link for i, link in enumerate(links) if number >> i & 1))
        if frozenset(graph) in seen:
            continue
        yield graph
        for others in permutations(range(2, size + 1)):
            called = (0, 1, *others)
            seen.add(frozenset((called[a], called[b]) for a, b in graph))


def test_every_undirected_graph_of_five_under_every_leader() -> None:
    """All 1024, whoever leads when the links break: 90 if names do not matter."""
    graphs = list(undirected_graphs(5))
    assert len(graphs) == 90
    for seed, edges in enumerate(graphs):
        judge(seed, 5, edges, leader=1)


def test_directed_graphs_of_five() -> None:
    """A sample of the million, dense and thin."""
    for seed in range(60):
        random = Random(seed)
        density = random.choice((0.65, 0.75, 0.85))
        judge(seed, 5, {link for link in permutations(range(1, 6), 2) if random.random() < density})


def hand_to(cluster: Cluster, member: int) -> None:
    """Make `member` the leader."""
    for _ in range(20):
        leader = cluster.leader()
        if leader is not None and leader.member == member:
            return
        if leader is not None and leader.core.lease_left(leader.clock()) > 0:
            leader.core.transfer(MemberId(member), leader.clock())
            leader.turn()
        cluster.pass_time(300_000)
    raise AssertionError(f"member {member} does not come to lead")


# ---------------------------------------------------------------- the three shapes


@pytest.mark.parametrize("size", [3, 5])
def test_random_cuts_heal_within_what_is_owed(size: int) -> None:
    """Directions that are cut anew every now and then, as a real cell suffers them in the campaign: when all are whole,
    commands are chosen within twice the time to a campaign and a lease."""
    for seed in range(20):
        cluster, random = settled(seed, size), Random(seed)
        links = {(a, b) for a, b in permutations(range(1, size + 1), 2)}
        for _ in range(random.randrange(2, 6)):
            for edges, most in ({edge for edge in links if random.random() >= 0.4}, 1.5), (links, 0.5):
                keep(cluster, edges)
                for _ in range(random.randrange(1, int(50 * most))):
                    cluster.pass_time(20_000)
                    cluster.propose(b"x")
        assert progresses(cluster, 1_400_000), seed


@pytest.mark.parametrize("seed", range(6))
def test_quorum_loss(seed: int) -> None:
    """The leader lives and is heard by member 1, and only member 1 is still connected to a majority: the leader must
    give way although nobody finds it dead."""
    cluster = settled(seed, 5)
    hand_to(cluster, 5)
    edges = both_ways((1, 2), (1, 3), (1, 4), (1, 5))
    keep(cluster, edges)
    assert progresses(cluster)
    leader = cluster.leader()
    assert leader is not None
    assert leader.member == 1
    assert replicates(cluster, edges)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("compact_every", [0, 4])
def test_constrained_election(seed: int, compact_every: int) -> None:
    """The only member connected to a majority has an old log: it may lead all the same, and gets what it lacks from
    those who elect it, be it that the log is compacted away."""
    cluster = Cluster(seed, 5, compact_every=compact_every)
    while cluster.leader() is None:
        cluster.pass_time(20_000)
    hand_to(cluster, 5)
    keep(cluster, both_ways(*((a, b) for a, b in combinations((2, 3, 4, 5), 2))))
    for _ in range(60):
        cluster.pass_time(20_000)
        cluster.propose(b"z")
    assert cluster.highest() > cluster.running[MemberId(1)].core.chosen + 20
    edges = both_ways((1, 2), (1, 3), (1, 4))
    keep(cluster, edges)
    assert progresses(cluster)
    leader = cluster.leader()
    assert leader is not None
    assert leader.member == 1
    assert replicates(cluster, edges)


@pytest.mark.parametrize("seed", range(6))
def test_chained(seed: int) -> None:
    """Three in a row, and five: the ends cannot see each other, and take no turns in unseating the middle."""
    for size in (3, 5):
        cluster = settled(seed, size)
        hand_to(cluster, 1)
        edges = both_ways(*((m, m + 1) for m in range(1, size)))
        keep(cluster, edges)
        assert progresses(cluster)
        assert replicates(cluster, edges)
        ballots = len(cluster.ballots)
        cluster.pass_time(10 * SECOND)
        assert len(cluster.ballots) == ballots, "leadership wanders along the chain"
        assert progresses(cluster)


# ---------------------------------------------------------------- liveness by name


@pytest.mark.parametrize("seed", range(5))
def test_l1_progress_weak(seed: int) -> None:
    """L1, Kirsch and Amir: if a set that is a majority is stable and connected from some time on, an update begun in
    it is eventually executed by it. Weak form: the same members stay up."""
    cluster = settled(seed, 5)
    for member in (MemberId(1), MemberId(2)):
        cluster.crash(member)
    edges = both_ways(*combinations((3, 4, 5), 2))
    keep(cluster, edges)
    assert progresses(cluster)
    assert all(cluster.running[MemberId(m)].applied >= cluster.highest() - 6 for m in (3, 4, 5))


@pytest.mark.parametrize("seed", range(5))
def test_l1_progress_strong(seed: int) -> None:
    """L1, strong form: at each moment some majority is up and connected, though its members change every second."""
    cluster = settled(seed, 5)
    random = Random(seed)
    begun = cluster.highest()
    for _ in range(12):
        for member, process in cluster.running.items():
            if not process.alive:
                cluster.start(member)
        for member in random.sample(sorted(cluster.running), 2):
            cluster.crash(member)
        for _ in range(75):
            cluster.pass_time(20_000)
            cluster.propose(b"w")
    assert cluster.highest() > begun + 100


@pytest.mark.parametrize("seed", range(5))
def test_l2_eventual_replication(seed: int) -> None:
    """L2, Kirsch and Amir: if one member executed an update, and it and another stay up and connected, the other
    executes it, too; here after everybody else is gone, so that no leader can be elected."""
    cluster = settled(seed, 5)
    last = cluster.running[MemberId(5)]
    keep(cluster, both_ways(*combinations((1, 2, 3, 4), 2)))
    for _ in range(60):
        cluster.pass_time(20_000)
        cluster.propose(b"v")
    have = cluster.running[MemberId(1)].applied
    assert have > last.applied
    for member in (MemberId(2), MemberId(3), MemberId(4)):
        cluster.crash(member)
    keep(cluster, both_ways((1, 5)))
    cluster.pass_time(3 * SECOND)
    assert cluster.leader() is None
    assert last.applied >= have
