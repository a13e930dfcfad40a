"""The whole face against the reference: random requests of several clients through the real connections, front and
machine, and everything that any client hears.

``QUORATE_SEEDS`` says how many of the longer histories, ``QUORATE_FIRST_SEED`` from which on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from znodes_people import play

SEEDS = int(os.environ.get("QUORATE_SEEDS", "100"))
FIRST = int(os.environ.get("QUORATE_FIRST_SEED", "1"))


@settings(max_examples=80, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 30))
def test_everything_is_as_the_reference_says(random: Random, steps: int) -> None:
    """Short histories, which shrink: every reply, every Stat and every event, in order."""
    play(random, steps)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, 20))
def test_longer_histories(first: int) -> None:
    """The same with more steps; a number gives the same history each time."""
    for seed in range(first, min(first + 20, FIRST + SEEDS)):
        try:
            play(Random(seed), 40)
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise
