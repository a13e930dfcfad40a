"""The machine "timers" and its timetables."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.machine import Timer
from quorate.kernel.system import timers as timers_module
from quorate.kernel.system.asks import Fire, SystemCommit, SystemEffects
from quorate.kernel.system.timers import Timers, Timetable

STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "cancel", "upto", "take"]), st.sampled_from("abcd"), st.integers(-3, 9)),
    max_size=60,
)


@given(STEPS)
def test_timetable_like_a_dict(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is set, replaced, cancelled and taken: what is due is what a plain dict says, in order."""
    table, model = Timetable(), dict[str, int]()
    for what, key, at in steps:
        if what == "set":
            table.set(key, at)
            model[key] = at
        elif what == "cancel":
            table.cancel(key)
            model.pop(key, None)
        else:
            expected = sorted((due, key) for key, due in model.items() if due <= at)
            found = table.upto(at, 3)
            assert found == [Timer(key, due) for due, key in expected[:3]]
            if what == "take":
                for timer in found:
                    table.cancel(timer.key)
                    del model[timer.key]
        assert table.first() == min(model.values(), default=None)
        assert table.due == model


def test_replacing_does_not_grow_without_bound() -> None:
    """A timer that is put off a million times keeps one place."""
    table = Timetable()
    for at in range(10_000):
        table.set("lease", at)
    assert len(table._heap) <= 2 + 64 + 1
    assert table.upto(20_000, 10) == [Timer("lease", 9999)]


def test_fire_asks_the_host_and_not_before_time() -> None:
    """`upto` beyond the command's own time is clamped."""
    effects = SystemEffects()
    commit = SystemCommit(1, 50, 0, sessions={}, random=Random, effects=effects)
    Timers().fire(commit, 16, 40)
    Timers().fire(commit, 16, 60)
    assert effects.asked == [Fire(16, 40), Fire(16, 50)]


def test_timers_of_machines_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set, take, drop and count by machine; one command fires a bounded number."""
    timers = Timers()
    for machine in (17, 16):
        for at in (3, 1, 2):
            timers.set(machine, f"k{at}", at)
    assert timers.counts() == [[16, 3, 1], [17, 3, 1]]
    assert timers.due(16, 2) == [Timer("k1", 1), Timer("k2", 2)]
    monkeypatch.setattr(timers_module, "FIRED_MAX", 1)
    assert timers.due(16, 2) == [Timer("k1", 1)]
    assert timers.take(16, "k1", 1)
    assert not timers.take(16, "k1", 1)
    assert not timers.take(16, "k2", 1)
    assert not timers.take(99, "k2", 1)
    timers.set(16, "k2", None)
    timers.set(99, "k2", None)
    assert (timers.first(16), timers.first(17), timers.first(99)) == (3, 1, None)
    timers.drop(16)
    timers.drop(16)
    assert timers.counts() == [[17, 3, 1]]
    assert timers.due(16, 9) == []


def test_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound counts what is set."""
    monkeypatch.setattr(timers_module, "TIMERS_MAX", 2)
    timers = Timers()
    timers.set(16, "a", 1)
    assert timers.room(16, 1)
    assert not timers.room(16, 2)
    assert timers.room(17, 2)


def test_image() -> None:
    """Restored timers are due in the same order; the image is the same again, whatever was cancelled before."""
    timers = Timers()
    for key in "zay":
        timers.set(17, key, 5)
    timers.set(16, "gone", 5)
    timers.set(16, "gone", None)
    timers.set(17, "z", 7)
    restored = Timers()
    restored.restore(timers.snapshot(), 1)
    assert restored.snapshot() == timers.snapshot() == [[17, {"z": 7, "a": 5, "y": 5}]]
    assert restored.due(17, 9) == [Timer("a", 5), Timer("y", 5), Timer("z", 7)]
