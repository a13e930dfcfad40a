"""Reports of heard sessions on their way to the leader."""

from __future__ import annotations

from quorate.kernel.paxos.options import NEVER
from quorate.kernel.renewals import REPORT
from quorate.kernel.reports import PATIENCE, Reports


def test_heard_sessions_are_told_now_and_then_and_at_once_if_somebody_waits() -> None:
    """Without a waiting client a report leaves every REPORT; with one, in the same turn."""
    reports = Reports(0)
    reports.hear(5)
    assert reports.pressing(0)
    assert reports.send(0) == (1, (5,))
    assert not reports.pressing(REPORT)
    reports.hear(5)
    reports.hear(6)
    assert not reports.pressing(REPORT - 1)
    assert reports.pressing(REPORT)
    reports.ask(7, lambda confirmed: None)
    assert reports.pressing(1)
    assert reports.send(1) == (2, (5, 6, 7))
    assert reports.look_at() == 1 + PATIENCE + 1


def test_a_client_is_answered_by_the_leaders_count() -> None:
    """Yes if the leader counted it, no if the leader named it lost; once."""
    told: list[tuple[str, bool]] = []
    reports = Reports(0)
    reports.ask(5, lambda confirmed: told.append(("five", confirmed)))
    reports.ask(6, lambda confirmed: told.append(("six", confirmed)))
    number, _ = reports.send(0)
    reports.counted(number + 1, ())
    assert told == []
    reports.counted(number, (6,))
    reports.counted(number, ())
    assert told == [("five", True), ("six", False)]
    assert reports.look_at() == NEVER


def test_the_leader_counts_its_own_without_a_message() -> None:
    """On the leader the answer comes at once, and nothing is left to tell."""
    told: list[bool] = []
    reports = Reports(0)
    reports.ask(5, told.append)
    reports.count((), 0)
    assert told == [True]
    assert not reports.heard
    assert reports.look_at() == NEVER


def test_what_is_lost_is_given_up() -> None:
    """A lost report or answer leaves nobody waiting for ever; when the leader is gone all are told no."""
    told: list[tuple[int, bool]] = []
    reports = Reports(0)
    for second in range(3):
        reports.ask(second, lambda confirmed, second=second: told.append((second, confirmed)))  # type: ignore[misc]
        reports.send(second * PATIENCE)
    reports.give_up(2 * PATIENCE)
    assert told == [(0, False), (1, False)]
    reports.give_up()
    assert told[2:] == [(2, False)]
    assert reports.look_at() == NEVER


def test_it_says_when_to_look_next() -> None:
    """At once if a client waits to be reported, else when the next report is due or the oldest open one is lost."""
    reports = Reports(0)
    assert reports.look_at() == NEVER
    reports.ask(5, lambda confirmed: None)
    assert reports.look_at() == 0
    reports.send(10)
    assert reports.look_at() == 10 + PATIENCE + 1
    reports.hear(6)
    assert reports.look_at() == 10 + REPORT
