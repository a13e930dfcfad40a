"""Replicas compare themselves: each reports, through the log, a digest of its state at certain slots.

Equal state gives equal digests; so a member whose digest is not that of a majority has diverged (bad memory, a bug, a
hand in its files), and one that reports nothing is as suspicious (Chandra, Griesemer, Redstone, "Paxos Made Live",
section 6.2: they found three real cases).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, NamedTuple

from ..machine import Commit, Plain, StateMachine, command, query

SLOTS_KEPT: Final = 16
MISSING_AFTER: Final = 3
"""A member is missing when it reported for none of that many slots, the newest (which may still fill) aside."""


class Divergence(NamedTuple):
    """Members in order of id: `differing` at `slot`, the newest where any differ (0: none do); `missing`."""

    slot: int
    differing: tuple[int, ...]
    missing: tuple[int, ...]


class Digests(StateMachine):
    """The machine "digests"."""

    name = "digests"
    version = 1

    def __init__(self) -> None:
        self.reports: dict[int, dict[int, int]] = {}  # slot -> member -> digest, slots ascending

    @command
    def report(self, commit: Commit, member: int, slot: int, digest: int) -> None:
        """`member` had that digest (64 bit) after it applied `slot`. Its first word on a slot counts; old slots are
        dropped."""
        reports = self.reports
        if slot not in reports:
            if len(reports) >= SLOTS_KEPT and slot < next(iter(reports)):
                return
            reports[slot] = {}
            self.reports = reports = dict(sorted(reports.items())[-SLOTS_KEPT:])
        reports[slot].setdefault(member, digest)

    @query
    def latest(self) -> list[Plain]:
        """[slot, [member, digest] each] for the slots that are kept, oldest first."""
        return [[slot, [[*item] for item in sorted(by.items())]] for slot, by in self.reports.items()]

    def divergence(self, voters: Collection[int]) -> Divergence | None:
        """Who differs, who is missing; None if nobody is known to."""
        slot, differing = 0, tuple[int, ...]()
        for newest in reversed(self.reports):
            differing = _differing(self.reports[newest], len(voters))
            if differing:
                slot = newest
                break
        settled = [*self.reports.values()][-1 - MISSING_AFTER : -1]
        missing: list[int] = []
        if len(settled) == MISSING_AFTER:
            missing = [voter for voter in sorted(voters) if not any(voter in by for by in settled)]
        return Divergence(slot, differing, tuple(missing)) if differing or missing else None

    def retain(self, members: Collection[int]) -> None:
        """Only these are in the cell now."""
        for by in self.reports.values():
            for member in [m for m in by if m not in members]:
                del by[member]

    def snapshot(self) -> Plain:
        return [[slot, [[*item] for item in by.items()]] for slot, by in self.reports.items()]

    def restore(self, state: Plain, version: int) -> None:
        reports: Any = state
        self.reports = {slot: {member: digest for member, digest in by} for slot, by in reports}


def _differing(by: dict[int, int], voters: int) -> tuple[int, ...]:
    """Those whose digest is not a majority's; all, if they differ and no digest has a majority."""
    counts: dict[int, int] = {}
    for digest in by.values():
        counts[digest] = counts.get(digest, 0) + 1
    if len(counts) < 2:
        return ()
    right = [digest for digest, count in counts.items() if 2 * count > voters]
    return tuple(sorted(member for member, digest in by.items() if digest not in right))
