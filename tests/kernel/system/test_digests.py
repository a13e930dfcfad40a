"""The machine "digests"."""

from __future__ import annotations

from random import Random

from quorate.kernel.machine import Commit, Effects
from quorate.kernel.system.digests import SLOTS_KEPT, Digests, Divergence
from quorate.kernel.wire import plain

COMMIT = Commit(1, 0, 0, sessions={}, random=Random, effects=Effects())
VOTERS = frozenset({1, 2, 3})


def reported(*reports: tuple[int, int, int]) -> Digests:
    """A machine after (slot, member, digest) each."""
    machine = Digests()
    for slot, member, digest in reports:
        machine.report(COMMIT, member, slot, digest)
    return machine


def test_equal_digests_are_no_divergence() -> None:
    """Neither while reports still come in."""
    assert reported().divergence(VOTERS) is None
    assert reported((8, 1, 5)).divergence(VOTERS) is None
    assert reported((8, 1, 5), (8, 2, 5), (8, 3, 5)).divergence(VOTERS) is None


def test_the_minority_is_named() -> None:
    """At the newest slot where anybody differs."""
    machine = reported((8, 1, 5), (8, 2, 5), (8, 3, 6), (16, 1, 7), (16, 3, 7), (16, 2, 8))
    assert machine.divergence(VOTERS) == Divergence(16, (2,), ())


def test_without_a_majority_all_are_suspects() -> None:
    """Two that differ, and nobody to say who is right."""
    assert reported((8, 1, 5), (8, 2, 6)).divergence(VOTERS) == Divergence(8, (1, 2), ())
    assert reported((8, 1, 5), (8, 2, 6), (8, 3, 7)).divergence(VOTERS) == Divergence(8, (1, 2, 3), ())


def test_a_member_that_reports_nothing_is_missing() -> None:
    """After three slots without it; the newest slot may still fill."""
    reports = [(slot, member, 5) for slot in (8, 16, 24) for member in (1, 2)]
    assert reported(*reports).divergence(VOTERS) is None
    assert reported(*reports, (32, 1, 5)).divergence(VOTERS) == Divergence(0, (), (3,))
    assert reported(*reports, (16, 3, 5), (32, 1, 5)).divergence(VOTERS) is None


def test_the_first_word_on_a_slot_counts() -> None:
    """A repeated report changes nothing."""
    assert reported((8, 1, 5), (8, 1, 6)).latest() == [[8, [[1, 5]]]]


def test_old_slots_are_dropped() -> None:
    """The table is bounded, and keeps the newest, in whatever order reports come."""
    machine = reported(*[(slot, 1, 5) for slot in range(3 * SLOTS_KEPT, 0, -1)], (1, 2, 9))
    assert list(machine.reports) == list(range(2 * SLOTS_KEPT + 1, 3 * SLOTS_KEPT + 1))
    machine.report(COMMIT, 1, 1000, 5)
    assert list(machine.reports)[-1] == 1000
    assert len(machine.reports) == SLOTS_KEPT


def test_members_that_left_are_forgotten() -> None:
    """Their digests count no more."""
    machine = reported((8, 1, 5), (8, 2, 5), (8, 3, 6))
    machine.retain({1, 2})
    assert machine.divergence(frozenset({1, 2})) is None


def test_image() -> None:
    """The table comes back, 64-bit digests included."""
    machine = reported((8, 2, (1 << 64) - 1), (8, 1, 0), (16, 1, 3))
    restored = Digests()
    restored.restore(plain.decode(plain.encode(machine.snapshot())), 1)
    assert restored.reports == machine.reports
    assert restored.snapshot() == machine.snapshot()
