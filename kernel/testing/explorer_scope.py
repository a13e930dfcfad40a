"""What may happen in a small world, and what an exploration of it came to."""

from __future__ import annotations

from typing import NamedTuple

from ..paxos.ballot import MemberId, Slot
from ..paxos.messages import Beaten, Message, Value
from ..paxos.quorum import Change, ChangeKind, Configuration, Member, Role

QUIET = frozenset[type[Message]]({Beaten})
"""Messages that serve only leases, reads and progress: they may be muted where there is none of these."""


class Left(NamedTuple):
    """What may still happen, and what time it is."""

    campaigns: int
    proposals: tuple[tuple[bytes, ...], ...]
    changes: tuple[Change, ...]
    crashes: tuple[MemberId, ...]  # who will
    beats: int
    transfers: int
    reads: int
    snapshots: int
    now: int = 0


class Scope(NamedTuple):
    """The bounds of a world.

    `voters` and `learners` are in the founding configuration; `strangers` run, but are not in it. `candidates`
    campaign, `campaigns` times in all. Whoever serves makes the `proposals`, in order (each a tuple of payloads
    proposed in one turn), the `changes`, each once and in any order, and `transfers` of leadership to candidates.
    `crashers` crash and restart, `crashes` times in all, with any part of what is being written. Leaders heartbeat up
    to `beats` times by themselves. `readers` ask for `reads` linearizable reads, `keepers` take `snapshots`. Whoever
    serves knows that somebody waits at each of the `hurried`.

    `opening`: what happens before the exploration begins, line by line: "1 campaigns", "1 proposes a", "1 changes
    PROMOTE 4"; "settle 1 2", all messages among these arrive and all their writes become durable; "hush", the network
    forgets everything. `writes`: a member with so many writes under way takes no message before one is durable.
    `instants`: how many the clocks show; `lease`, `drift` (ppm) and `rates` (a member's clock in per cent of the
    world's) count in them, and matter only if there is more than one. `muted`: messages that are never delivered.
    `canvass`: whether candidates really ask before they prepare. `reduced`: whether the third and fourth reductions are
    made.
    """

    name: str
    voters: tuple[int, ...] = (1, 2, 3)
    learners: tuple[int, ...] = ()
    strangers: tuple[int, ...] = ()
    candidates: tuple[int, ...] = (1, 2)
    campaigns: int = 2
    proposals: tuple[tuple[bytes, ...], ...] = ()
    changes: tuple[Change, ...] = ()
    crashes: int = 0
    crashers: tuple[int, ...] = (1, 2, 3)
    beats: int = 8
    transfers: int = 0
    reads: int = 0
    readers: tuple[int, ...] = ()
    snapshots: int = 0
    keepers: tuple[int, ...] = ()
    hurried: tuple[int, ...] = ()
    writes: int = 2
    opening: tuple[str, ...] = ()
    instants: int = 1
    lease: int = 0
    drift: int = 0
    rates: tuple[tuple[int, int], ...] = ()
    muted: frozenset[type[Message]] = QUIET
    canvass: bool = False
    reduced: bool = True

    def founding(self) -> Configuration:
        """The configuration that the world begins with."""
        roles = [(each, Role.VOTER) for each in self.voters] + [(each, Role.LEARNER) for each in self.learners]
        return Configuration(Slot(0), tuple(Member(MemberId(each), role, f"tcp:{each}") for each, role in roles))

    def whole(self) -> Left:
        """All of it is left, but for crashes."""
        return Left(
            self.campaigns,
            self.proposals,
            self.changes,
            (),
            self.beats,
            self.transfers,
            self.reads,
            self.snapshots,
        )

    def running(self) -> tuple[MemberId, ...]:
        """All that run."""
        return tuple(map(MemberId, sorted(self.voters + self.learners + self.strangers)))


class Report(NamedTuple):
    """What an exploration came to.

    `states` counts worlds, `transitions` the steps between them, `members` the states of single members, `executed` the
    steps that the real code took, `seconds` the processor time. `complete`: nothing is left to explore. `decided`: the
    logs that the cell decided on, in any world. `failure`: the words of the broken promise, if one was found, and
    `trace` a shortest way to it.
    """

    scope: str
    states: int
    transitions: int
    depth: int
    members: int
    executed: int
    seconds: float
    complete: bool
    decided: frozenset[tuple[Value, ...]]
    failure: str
    trace: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Worlds per second."""
        return self.states / self.seconds if self.seconds else 0.0


def change(kind: ChangeKind, member: int) -> Change:
    """One step of membership."""
    return Change(kind, Member(MemberId(member), Role.LEARNER, f"tcp:{member}"))
