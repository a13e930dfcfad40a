"""ZooKeeper clients on whole cells under faults: everything that each of them hears, judged.

``QUORATE_SEEDS`` says how many seeds, ``QUORATE_FIRST_SEED`` from which on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins" / "znodes"))
sys.path.insert(0, str(Path(__file__).parent))

from znodes_run import ZnodesRun

SEEDS = int(os.environ.get("QUORATE_SEEDS", "100"))
FIRST = int(os.environ.get("QUORATE_FIRST_SEED", "1"))
CHUNK = 10
ENOUGH = 100
"""Requests of a history at least."""


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_clients_hear_what_they_must(first: int) -> None:
    """No reply and no event is lost, doubled, late, early or out of order, whatever happens to replicas and clients;
    sessions expire when they may, and when they must."""
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        run = ZnodesRun(seed)
        run.run()
        assert sum(len(line.asked) for line in run.lines) >= ENOUGH, f"seed {seed}"
