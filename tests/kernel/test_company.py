"""Whom a small batch waits for, and when it does not wait any longer."""

from __future__ import annotations

import pytest
from quorate.kernel.company import Company

ENOUGH, LINGER, PATIENCE = 1_000, 4_000, 1_000


@pytest.fixture
def company() -> Company:
    return Company(ENOUGH, LINGER, PATIENCE)


def _round(company: Company, waiting: int, now: int, *, back: int) -> int:
    """One slot of 80 bytes is chosen while `waiting` bytes wait, and `back` bytes come back: until when the batch
    waits."""
    company.chosen(80, waiting, now)
    until = company.wait(waiting + back, False, now + 10)
    company.proposed(until or now + 10)
    return until


def test_the_first_batch_and_a_large_one_wait_for_nobody(company: Company) -> None:
    """Without a slot under way or just chosen there is nobody to wait for; whoever fills a slot waits for none."""
    assert company.wait(10, False, 0) == 0
    company.proposed(0)
    assert company.wait(ENOUGH, True, 10) == 0
    company.chosen(2 * ENOUGH, 0, 20)
    assert company.wait(ENOUGH, False, 30) == 0


def test_a_small_batch_waits_for_the_slot_under_way(company: Company) -> None:
    """It waits until a linger after that slot was proposed, and no longer."""
    company.proposed(100)
    assert company.wait(10, True, 200) == 100 + LINGER
    assert company.wait(10, True, 100 + LINGER) == 0


def test_a_lone_client_never_waits(company: Company) -> None:
    """When the one that was answered is back, everybody is."""
    now = 0
    for _ in range(10):
        now += 500
        assert _round(company, 0, now, back=80) == 0


def test_two_crowds_become_one(company: Company) -> None:
    """What waited while a slot was under way waits a little longer for those whom that slot answered."""
    company.chosen(80, 80, 500)
    assert company.wait(80, False, 500) == 500 + PATIENCE
    assert company.wait(120, False, 600) == 500 + PATIENCE
    assert company.wait(150, False, 700) == 0


def test_who_does_not_come_back_is_waited_for_ever_more_rarely(company: Company) -> None:
    """A wait in vain lasts a patience and is not repeated at once; the more there are the rarer they become."""
    now, waits = 0, ""
    for _ in range(800):
        now += 5_000
        company.chosen(80, 10, now)
        until = company.wait(10, False, now)
        if until:
            assert until == now + PATIENCE
            assert company.wait(10, False, until) == 0
        waits += "w" if until else "."
        company.proposed(now)
    assert [len(pause) for pause in waits.split("w")][:8] == [0, 4, 12, 28, 60, 124, 252, 256]


def _share(company: Company, pattern: str) -> float:
    """The share of slots that wait if those who are waited for come (``+``) or not (``-``) in this pattern."""
    now, waited, slots, trial = 0, 0, 2_000, 0
    for _ in range(slots):
        now += 5_000
        company.chosen(80, 10, now)
        if company.wait(10, False, now):
            waited += 1
            company.wait(90 if pattern[trial % len(pattern)] == "+" else 10, False, now + PATIENCE)
            trial += 1
        company.proposed(now)
    return waited / slots


def test_waiting_goes_on_where_it_mostly_pays(company: Company) -> None:
    """One wait in vain among many is soon forgotten; where half of them are, hardly any slot waits."""
    assert _share(company, "+++++++++-") > 0.6
    assert _share(Company(ENOUGH, LINGER, PATIENCE), "+-") < 0.05
