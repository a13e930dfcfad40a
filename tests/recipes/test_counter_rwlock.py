"""Counters and read-write locks over every door."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from quorate.kernel.machine import Refusal
from quorate.recipes.held import LockTimeout

Connect = Callable[..., Any]


def test_counter(connect: Connect) -> None:
    """Add, read, compare-and-set, delete."""
    counter = connect().counter("visits")
    assert counter.value() == 0
    assert counter.add(3) == 3
    assert counter.add(-1) == 2
    assert counter.compare_and_set(2, 10) == (True, 10)
    assert counter.compare_and_set(2, 11) == (False, 10)
    assert counter.value() == 10
    with pytest.raises(Refusal, match="overflow"):
        counter.add((1 << 63) - 1)
    assert counter.delete() == 10
    assert counter.value() == 0


@pytest.mark.parametrize("fault", ["lose_before", "lose_after"])
def test_an_addition_counts_once(connect: Connect, cell: Any, fault: str) -> None:
    """An addition whose connection broke before or after it was applied is repeated and counts once."""
    counter = connect().counter("visits")
    for expected in range(1, 6):
        setattr(cell, fault, 1)
        assert counter.add() == expected
    assert counter.value() == 5


def test_readers_share_and_writers_do_not(connect: Connect) -> None:
    """Readers hold together; a writer excludes everybody; a reader behind a waiting writer waits."""
    one, two = connect().rwlock("library"), connect().rwlock("library")
    first, second = one.read.acquire(), two.read.acquire()
    first.check()
    second.check()
    with pytest.raises(LockTimeout):
        one.write.acquire(timeout=0)
    first.release()
    second.release()
    with one.write as held:
        held.check()
        for side in (two.read, two.write):
            with pytest.raises(LockTimeout):
                side.acquire(timeout=0)
    two.read.acquire(timeout=0).release()
