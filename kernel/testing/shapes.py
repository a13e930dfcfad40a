"""Shapes of partial partitions: which pairs of members do not reach one another.

Three of them stop protocols that are not made for them (Ng, Haridi, Carbone, "Omni-Paxos", EuroSys 2023): somebody
always reaches a majority, so the cell has to go on.

* *Quorum loss*: the leader lives, but only one other member, the hub, reaches a majority.
* *Constrained election*: only the hub reaches a majority, it does not reach the leader, and its log is behind.
* *Chain*: each member reaches its neighbors only; the leader is at one end.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import TypeAlias

Pairs: TypeAlias = "list[tuple[int, int]]"


def quorum_loss(members: Sequence[int], hub: int) -> Pairs:
    """Everybody reaches the hub, and nobody anybody else."""
    return [pair for pair in combinations(members, 2) if hub not in pair]


def constrained(members: Sequence[int], hub: int, leader: int) -> Pairs:
    """As before, and the leader reaches nobody at all. It is for whoever cuts to let the hub fall behind first."""
    return [pair for pair in combinations(members, 2) if hub not in pair or leader in pair]


def chain(members: Sequence[int]) -> Pairs:
    """Neighbors in the order of `members` reach each other."""
    return [(a, b) for i, a in enumerate(members) for b in members[i + 2 :]]


def any_graph(members: Sequence[int], random: Random) -> Pairs:
    """Each pair is apart with a probability of two fifths."""
    return [pair for pair in combinations(members, 2) if random.random() < 0.4]
