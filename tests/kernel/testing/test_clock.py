"""Simulated time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.testing.clock import Clock, Schedule


def test_events_happen_in_order_of_time_and_then_of_planning() -> None:
    """Earlier first; at the same moment whoever was put down first."""
    schedule, happened = Schedule(), list[str]()
    schedule.at(20, lambda: happened.append("second"))
    schedule.at(20, lambda: happened.append("third"))
    schedule.at(10, lambda: schedule.after(10, lambda: happened.append("fourth")))
    schedule.at(5, happened.append, "first")
    schedule.run_until(20)
    assert happened == ["first", "second", "third", "fourth"]
    assert (schedule.now, schedule.happened, schedule.step()) == (20, 5, False)


def test_the_past_is_now() -> None:
    """What is planned for a time that is over happens at once, and time does not go back."""
    schedule, times = Schedule(), list[int]()
    schedule.at(10, lambda: schedule.at(3, lambda: times.append(schedule.now)))
    schedule.run_until(30)
    assert times == [10]


@given(st.integers(0, 1 << 40), st.integers(-500_000, 500_000), st.integers(0, 10**12))
def test_a_clock_shows_what_is_waited_for_and_not_before(origin: int, drift: int, wait: int) -> None:
    """`when` is the first true time at which the clock shows at least what was asked."""
    clock = Clock(origin, drift)
    shown = clock.read(0) + wait
    true = clock.when(shown)
    assert clock.read(true) >= shown
    assert true == 0 or clock.read(true - 1) < shown


def test_a_clock_drifts() -> None:
    """Twenty thousand parts in a million are two hundredths."""
    assert Clock(5, 20_000).read(1_000_000) == 1_020_005
    assert Clock(5, -20_000).read(1_000_000) == 980_005
