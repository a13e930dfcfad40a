"""Partial partitions: the shapes are what they are called, and a whole cell goes on in each."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest
from quorate.kernel.testing import shapes
from quorate.kernel.testing.liveness import Liveness
from quorate.kernel.testing.machines import Registers
from quorate.kernel.testing.process import Process
from quorate.kernel.testing.world import World

SECOND = 1_000_000
MEMBERS = [1, 2, 3, 4, 5]


def reached(pairs: shapes.Pairs) -> dict[int, set[int]]:
    """Whom each member reaches."""
    apart = {frozenset(pair) for pair in pairs}
    return {m: {other for other in MEMBERS if other != m and frozenset((m, other)) not in apart} for m in MEMBERS}


def test_only_the_hub_reaches_a_majority() -> None:
    """In the first two shapes everybody else reaches the hub, or nobody."""
    assert reached(shapes.quorum_loss(MEMBERS, 3)) == {1: {3}, 2: {3}, 3: {1, 2, 4, 5}, 4: {3}, 5: {3}}
    assert reached(shapes.constrained(MEMBERS, 3, 5)) == {1: {3}, 2: {3}, 3: {1, 2, 4}, 4: {3}, 5: set()}


def test_a_chain_reaches_its_neighbors() -> None:
    """In the order that was given."""
    assert reached(shapes.chain([2, 1, 3, 5, 4])) == {2: {1}, 1: {2, 3}, 3: {1, 5}, 5: {3, 4}, 4: {5}}


def test_any_graph_is_drawn() -> None:
    """Some pairs are apart, some are not, each is named once."""
    drawn = [shapes.any_graph(MEMBERS, Random(seed)) for seed in range(50)]
    assert {pair for pairs in drawn for pair in pairs} == set(combinations(MEMBERS, 2))
    assert all(len(set(pairs)) == len(pairs) for pairs in drawn)
    assert 150 < sum(map(len, drawn)) < 250


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", ["quorum loss", "constrained election", "chain"])
def test_whoever_reaches_a_majority_gets_updates_done(shape: str, size: int) -> None:
    """While the shape lasts, an update begun at the member that reaches a majority is executed there."""
    world = World(f"{shape} {size}", {"registers": Registers}, size)
    world.start()
    live = Liveness(world)
    live.leader()
    leader = world.leader()
    assert leader is not None
    members = sorted(world.processes)
    others = [member for member in members if member != leader.member]
    hub = world.processes[others[0]]
    if shape == "quorum loss":
        pairs = shapes.quorum_loss(members, hub.member)
    elif shape == "chain":
        order = [*others, leader.member]
        pairs = shapes.chain(order)
        hub = world.processes[order[size // 2]]
    else:
        pairs = shapes.constrained(members, hub.member, leader.member)
        world.network.separate([hub.member], [leader.member])
        begin(world, leader)
    for one, other in pairs:
        world.network.separate([one], [other])
    done = begin_at(hub)
    took = live.until(lambda: bool(done), 5 * SECOND, "L1", f"{shape}: nothing is executed")
    assert took <= 5 * SECOND
    world.network.mend()
    live.progress()
    live.quiet()


def begin_at(process: Process) -> list[bool]:
    """Begin an update there; something is in the list once it is executed there."""
    done: list[bool] = []
    process.probe(lambda: done.append(True))
    return done


def begin(world: World, leader: Process) -> None:
    """Have some updates executed by all but the hub, which the leader does not reach."""
    for _ in range(3):
        done = begin_at(leader)
        Liveness(world).until(lambda done=done: bool(done), SECOND, "L1", "no update")  # type: ignore[misc]
