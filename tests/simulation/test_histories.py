"""Whole cells under faults: hundreds of seeds, every promise watched, every history judged.

``QUORATE_SEEDS`` says how many seeds, ``QUORATE_FIRST_SEED`` from which on. A failing seed prints the command that
replays it.
"""

from __future__ import annotations

import os

import pytest
from quorate.kernel.testing.faults import Fault
from quorate.kernel.testing.lifecycle import Boundary
from quorate.kernel.testing.simulate import Totals, run_seed
from quorate.kernel.testing.simulation import Mode

SEEDS = int(os.environ.get("QUORATE_SEEDS", "500"))
FIRST = int(os.environ.get("QUORATE_FIRST_SEED", "1"))
CHUNK = 20
OPERATIONS = 200
KINDS = 3
ENOUGH = 400
"""Seeds in which everything must have been tried."""


@pytest.fixture(scope="module")
def totals() -> Totals:
    """The figures of all histories that this run has made."""
    return Totals()


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_promises_hold(first: int, totals: Totals) -> None:
    """No seed breaks a promise; each history has its operations and its kinds of fault."""
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        outcome = run_seed(seed)
        totals.add(outcome)
        assert outcome.report is not None, outcome.failure
        assert outcome.report.operations >= OPERATIONS, f"seed {seed}: {outcome.report.outcomes}"
        assert len(outcome.report.settings.plan.kinds) >= KINDS


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS // 25, CHUNK))
def test_promises_hold_without_rest(first: int) -> None:
    """Nor with short leases, little log, and few kinds of fault that strike again and again."""
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS // 25)):
        outcome = run_seed(seed, Mode.RESTLESS)
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
