"""Kinds of fault in a simulated cell, and the plan of one run.

Swarm testing (Groce et al., "Swarm Testing", ISSTA 2012): each seed enables a random subset of the kinds, with random
intensities, because a run in which everything goes wrong at once never reaches the states behind a long quiet stretch
with one trouble only. :mod:`.nemesis` carries the plan out.
"""

from __future__ import annotations

import enum
from random import Random
from typing import Final, NamedTuple


class Fault(enum.Enum):
    """Kinds of fault. The word is how they are written on the command line."""

    LOSS = "loss"
    DOUBLE = "double"
    OVERTAKE = "overtake"
    LATE = "late"
    SLOW = "slow-network"
    STALL = "stall"
    PARTITION = "partition"
    ISOLATE = "isolate"
    ONE_WAY = "one-way"
    QUORUM_LOSS = "quorum-loss"
    CONSTRAINED = "constrained-election"
    CHAIN = "chain"
    PARTIAL = "partial"
    KILL = "kill"
    POWER = "power"
    KILL_ALL = "kill-all"
    BOUNCE = "bounce"
    STRIKE = "strike"
    CASCADE = "cascade"
    PAUSE = "pause"
    DRIFT = "drift"
    SLOW_DISK = "slow-disk"
    FULL_DISK = "full-disk"
    BAD_SYNC = "bad-sync"
    SHORT_WRITE = "short-write"
    FLIP = "flip"
    WIPE = "wipe"
    MEMBERSHIP = "membership"
    TRANSFER = "transfer"
    CLIENT_PAUSE = "client-pause"
    CLIENT_KILL = "client-kill"
    CLIENT_CUT = "client-cut"


class Plan(NamedTuple):
    """The faults of one run: which kinds, the mean time between two strokes of one kind in seconds, and how long what
    they do lasts, relative to the usual few seconds."""

    kinds: tuple[Fault, ...]
    every: float = 2.0
    lasting: float = 1.0

    @classmethod
    def draw(cls, random: Random) -> Plan:
        """A random subset, at least three kinds, one of which moves the leader if it works out."""
        kinds = list(Fault)
        count = random.randrange(3, 9)
        chosen = random.sample(kinds, count)
        if not any(kind in MOVERS for kind in chosen):
            chosen[0] = random.choice(MOVERS)
        return cls(tuple(kind for kind in kinds if kind in chosen), *random.choice(RHYTHMS))

    @classmethod
    def restless(cls, random: Random) -> Plan:
        """One to three kinds out of those that pass in an instant, or soon, one stroke right after the other. Links
        that stall are behind much that is rare, so every other plan has them."""
        chosen = set(random.sample(RESTLESS, random.randrange(1, 4)))
        if random.random() < 0.5:
            chosen.add(Fault.STALL)
        kinds = tuple(kind for kind in RESTLESS if kind in chosen)
        return cls(kinds, random.choice((0.2, 0.3, 0.4)), random.choice((0.1, 0.3)))


RHYTHMS: Final = ((0.3, 0.1), (0.6, 0.1), (1.0, 0.3), (2.0, 1.0), (4.0, 1.0), (8.0, 1.0))
"""Between strokes, and how long they last: from a cell that hardly finds the time to elect somebody to long calm."""

MOVERS: Final = (
    Fault.CASCADE,
    Fault.CONSTRAINED,
    Fault.ISOLATE,
    Fault.KILL,
    Fault.POWER,
    Fault.PAUSE,
    Fault.QUORUM_LOSS,
    Fault.TRANSFER,
    Fault.STRIKE,
)
"""Kinds that prefer the leader."""

RESTLESS: Final = (
    Fault.LOSS,
    Fault.SLOW,
    Fault.STALL,
    Fault.ISOLATE,
    Fault.KILL,
    Fault.BOUNCE,
    Fault.STRIKE,
    Fault.CASCADE,
    Fault.PAUSE,
    Fault.SLOW_DISK,
    Fault.TRANSFER,
)
"""Kinds that bring about much in little time."""
