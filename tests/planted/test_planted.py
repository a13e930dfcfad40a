"""Every planted bug is found by the simulation, and it is the broken promise that tells.

How many seeds that takes is measured by `measured.py` (``tox -e planted``) and held against budgets here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from measured import RANGES, median, read
from planting import Plant, all_bugs, hunt
from quorate.kernel.paxos.learner import Learner

BUGS = all_bugs()
MEASURED = read()
FOCUSED_BUDGET = 25
"""Seeds, in the median, to find a bug with its focus."""
ORDINARY_BUDGET = 15
"""Seeds, in the median, to find most of the bugs with settings as they are drawn."""
PATIENCE = 80
"""Seeds to try in the default tests before a bug counts as not found."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Machines that a bug brings down say so in the log."""
    logger = logging.getLogger("quorate")
    level, logger.level = logger.level, logging.CRITICAL
    yield
    logger.level = level


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    """It is at work, and the right promise tells: from a seed on that was measured to show it, as long as nothing that
    shifts the seeds was changed, and else soon behind it."""
    first = MEASURED[name].quick
    assert first is not None, f"{name} was not found by measuring"
    hunted = list(hunt(BUGS[name], range(first, first + PATIENCE)))
    words = {each.words for each in hunted if each.words}
    assert hunted[-1].caught, f"no promise told in {len(hunted)} seeds; what told instead: {words}"
    assert hunted[-1].worked


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_is_found_within_its_budget(name: str) -> None:
    """The median over five ranges of seeds, with the bug's focus, is within the budget."""
    assert len(MEASURED[name].focused) == len(RANGES)
    assert median(MEASURED[name].focused) <= FOCUSED_BUDGET


def test_runs_that_know_nothing_of_them_find_them_too() -> None:
    """With settings as they are drawn most bugs are found within few seeds, and every one in one mode or the other."""
    found = {name: min(median(MEASURED[name].swarm), median(MEASURED[name].restless)) for name in BUGS}
    assert 2 * sum(count <= ORDINARY_BUDGET for count in found.values()) > len(found)
    assert {name for name, count in found.items() if count > PATIENCE} == set()


def test_the_table_is_of_these_bugs() -> None:
    """Every bug says what it breaks, the table has every one and no other, and there are enough."""
    assert MEASURED.keys() == BUGS.keys()
    assert all(bug.words and bug.promises for bug in BUGS.values())
    assert len(BUGS) >= 20


def test_what_is_edited_must_be_there() -> None:
    """A bug whose lines are gone from the source is not planted silently."""
    with ExitStack() as stack:
        plant = Plant(stack)
        with pytest.raises(AssertionError, match=r"Learner.learn has 0 times: self\.chosen = slot \+ 7"):
            plant.edit(Learner.learn, {"self.chosen = slot + 7": ""})


def test_a_planted_bug_is_taken_out_again() -> None:
    """What is edited is as before afterwards."""
    before = Learner.learn
    with ExitStack() as stack:
        Plant(stack).edit(Learner.learn, {"self.chosen = slot\n": "self.chosen = slot if did() else slot\n"})
        assert Learner.learn is not before
    assert Learner.learn is before
