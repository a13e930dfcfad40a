"""Counters count, refuse to overflow, and survive a snapshot."""

from __future__ import annotations

from random import Random

import pytest
from quorate.kernel.machine import Commit, Effects, Refusal
from quorate.plugins.counters.machine import VALUE_MAX, VALUE_MIN, CountersMachine

COMMIT = Commit(1, 0, 0, sessions={}, random=Random, effects=Effects())


@pytest.fixture
def machine() -> CountersMachine:
    return CountersMachine()


def test_add_get_delete(machine: CountersMachine) -> None:
    """An untouched counter is 0, add returns the new value, delete the old one."""
    assert machine.get("x") == 0
    assert machine.add(COMMIT, "x", 2) == 2
    assert machine.add(COMMIT, "x", -5) == -3
    assert machine.delete(COMMIT, "x") == -3
    assert machine.delete(COMMIT, "x") == 0
    assert machine.values == {}


def test_compare_and_set(machine: CountersMachine) -> None:
    """It sets only from the expected value and always tells the value afterwards."""
    assert machine.compare_and_set(COMMIT, "x", 0, 5) == [True, 5]
    assert machine.compare_and_set(COMMIT, "x", 0, 6) == [False, 5]
    assert machine.get("x") == 5


def test_overflow_is_refused(machine: CountersMachine) -> None:
    """A value beyond 64 bits is refused and the counter stays as it was."""
    machine.add(COMMIT, "x", VALUE_MAX)
    machine.add(COMMIT, "y", VALUE_MIN)
    for name, by in (("x", 1), ("y", -1)):
        before = machine.get(name)
        with pytest.raises(Refusal, match="overflow"):
            machine.add(COMMIT, name, by)
        assert machine.get(name) == before


def test_names_are_bounded_and_listed(machine: CountersMachine) -> None:
    """Names have a length, and are listed sorted and page by page."""
    for name in ("b", "a", "c"):
        machine.add(COMMIT, name)
    assert machine.names() == ["a", "b", "c"]
    assert machine.names(after="a", limit=1) == ["b"]
    for name in ("", "n" * 1025):
        with pytest.raises(Refusal, match="bad-arguments"):
            machine.add(COMMIT, name)


def test_snapshot(machine: CountersMachine) -> None:
    """A restored machine has the same values; anything else is refused."""
    machine.add(COMMIT, "x", 7)
    restored = CountersMachine()
    restored.restore(machine.snapshot(), 1)
    assert restored.get("x") == 7
    for state in (None, {"other": 1}, {"values": {"x": "7"}}, {"values": []}):
        with pytest.raises(ValueError, match=r"Counters|counters"):
            CountersMachine().restore(state, 1)
