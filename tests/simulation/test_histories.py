"""Whole cells under faults: hundreds of seeds, every promise watched, every history judged.

``QUORATE_SEEDS`` says how many seeds, ``QUORATE_FIRST_SEED`` from which on. A failing seed prints the command that
replays it.
"""

from __future__ import annotations

import math
import os

import pytest
from quorate.kernel.testing.faults import Fault
from quorate.kernel.testing.ledger import Outcome, Totals
from quorate.kernel.testing.lifecycle import Boundary
from quorate.kernel.testing.simulate import run_seeds
from quorate.kernel.testing.simulation import Mode

SEEDS = int(os.environ.get("QUORATE_SEEDS", "500"))
FIRST = int(os.environ.get("QUORATE_FIRST_SEED", "1"))
CHUNK = 20
OPERATIONS = 200
KINDS = 3
ENOUGH = 400
"""Seeds in which everything must have been tried."""


class Coming:
    """Outcomes of seeds that all cores run, asked for in about the order of the seeds."""

    def __init__(self, seeds: range, mode: Mode) -> None:
        self._outcomes = run_seeds(seeds, os.cpu_count() or 1, math.inf, mode)
        self._come: dict[int, Outcome] = {}

    def of(self, seed: int) -> Outcome:
        """The outcome of one of the seeds, once."""
        while seed not in self._come:
            outcome = next(self._outcomes)
            self._come[outcome.seed] = outcome
        return self._come.pop(seed)


@pytest.fixture(scope="module")
def swarm() -> Coming:
    """All seeds, in the usual mode."""
    return Coming(range(FIRST, FIRST + SEEDS), Mode.SWARM)


@pytest.fixture(scope="module")
def restless() -> Coming:
    """Fewer, without rest."""
    return Coming(range(FIRST, FIRST + SEEDS // 25), Mode.RESTLESS)


@pytest.fixture(scope="module")
def totals() -> Totals:
    """The figures of all histories that this run has made."""
    return Totals()


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_promises_hold(first: int, swarm: Coming, totals: Totals) -> None:
    """No seed breaks a promise; each history has its operations and its kinds of fault."""
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        outcome = swarm.of(seed)
        totals.add(outcome)
        assert outcome.report is not None, outcome.failure
        assert outcome.report.operations >= OPERATIONS, f"seed {seed}: {outcome.report.outcomes}"
        assert len(outcome.report.settings.plan.kinds) >= KINDS


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS // 25, CHUNK))
def test_promises_hold_without_rest(first: int, restless: Coming) -> None:
    """Nor with short leases, little log, and few kinds of fault that strike again and again."""
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS // 25)):
        outcome = restless.of(seed)
        assert outcome.report is not None, outcome.failure


def test_everything_was_tried(totals: Totals) -> None:
    """Over all seeds every kind of fault struck, processes were struck before every effect, half of the histories moved
    the leader, and the rare paths were taken."""
    if totals.seeds < ENOUGH:
        pytest.skip(f"{totals.seeds} seeds need not try everything, {ENOUGH} must")
    assert {kind.value for kind in Fault} - totals.faults.keys() == set()
    assert {boundary.value for boundary in Boundary} - totals.boundaries.keys() == set()
    assert totals.moved >= totals.seeds / 2
    for what in ("snapshots installed", "sessions expired", "changes of membership", "disk full", "disk failed"):
        assert totals.counts[what] > 0, what
    for what in ("vouched", "vouched to a lone client's member"):
        assert totals.counts[what] > totals.seeds, what
    assert totals.counts["undecided histories"] <= totals.seeds / 25
