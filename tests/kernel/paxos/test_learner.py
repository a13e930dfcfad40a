"""The chosen log in memory."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.learner import Learner
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.options import SLOT_COST


def value(size: int) -> Value:
    return Value(Kind.COMMANDS, b"x" * size)


def learner(*sizes: int, retained: int = 10**9) -> Learner:
    one = Learner(Slot(0), 0, retained)
    for slot, size in enumerate(sizes, 1):
        one.learn(Slot(slot), value(size))
    return one


def test_slots_are_learned_in_order_each_once() -> None:
    """A hole, or a slot again, is a mistake of the caller."""
    one = learner(1, 2)
    assert [slot for slot, _ in one.committed] == [1, 2]
    for slot in (2, 4):
        with pytest.raises(AssertionError, match="a hole in the log"):
            one.learn(Slot(slot), value(1))


def test_known_values_come_from_the_slot_asked_for() -> None:
    """At least one, then as many as the limit allows; none beyond the end."""
    one = learner(10, 20, 30)
    assert one.known(Slot(2), 10**6) == (value(20), value(30))
    assert one.known(Slot(1), 1) == (value(10),)
    assert one.known(Slot(1), 30) == (value(10), value(20))
    assert one.known(Slot(4), 100) == ()
    assert one.known(Slot(99), 100) == ()


def test_what_is_compacted_is_not_known() -> None:
    """Who asks for it needs the snapshot."""
    one = learner(10, 10, 10, retained=0)
    one.compact(Slot(2), 77)
    assert one.known(Slot(2), 100) is None
    assert one.known(Slot(3), 100) == (value(10),)
    assert (one.snapshot, one.snapshot_size) == (2, 77)


def test_some_of_the_log_is_kept_behind_a_snapshot() -> None:
    """For members that lag a little; empty values are not free."""
    one = learner(0, 0, 0, 0, retained=2 * SLOT_COST)
    one.compact(Slot(4), 1)
    assert one.known(Slot(2), 100) is None
    assert one.known(Slot(3), 100) == (value(0), value(0))


def test_an_older_snapshot_changes_nothing() -> None:
    """Snapshots may be reported late."""
    one = learner(1, 1, 1, retained=0)
    one.compact(Slot(3), 5)
    one.compact(Slot(2), 9)
    assert (one.snapshot, one.snapshot_size) == (3, 5)


def test_a_snapshot_of_what_is_not_chosen_is_a_mistake() -> None:
    """Nobody can have applied it."""
    with pytest.raises(AssertionError, match="not chosen"):
        learner(1).compact(Slot(2), 5)


def test_a_snapshot_from_elsewhere_replaces_the_log() -> None:
    """What was learned and not yet handed out is in it."""
    one = learner(1, 1)
    one.jump(Slot(9), 50)
    assert one.chosen == one.target == 9
    assert not one.committed
    assert one.known(Slot(9), 100) is None
    one.learn(Slot(10), value(3))
    assert one.known(Slot(10), 100) == (value(3),)
    with pytest.raises(AssertionError, match="older than the log"):
        one.jump(Slot(10), 50)


def test_a_second_value_for_a_chosen_slot_is_noticed() -> None:
    """As far as the log is still in memory."""
    one = learner(5)
    assert one.agrees(Slot(1), value(5))
    assert not one.agrees(Slot(1), value(6))
    assert one.agrees(Slot(2), value(6))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.data())
def test_memory_behind_snapshots_is_bounded(sizes: list[int], data: st.DataObject) -> None:
    """After a snapshot at any slot at most `retained` bytes stay behind it, and all of the log above it."""
    retained = data.draw(st.integers(0, 3000))
    one = Learner(Slot(0), 0, retained)
    for slot, size in enumerate(sizes, 1):
        one.learn(Slot(slot), value(size))
        if data.draw(st.booleans()):
            at = data.draw(st.integers(1, slot))
            one.compact(Slot(at), 1)
            behind = [v for s, v in one.values.items() if s <= one.snapshot]
            assert sum(len(v.payload) + SLOT_COST for v in behind) <= retained
            assert one.known(Slot(one.snapshot + 1), 10**9) == tuple(map(value, sizes[one.snapshot : slot]))


def test_much_of_the_log_goes_little_by_little() -> None:
    """Behind a snapshot of a long log a part goes at once, the rest as others are learned, until what may stay is
    left; what is gone is said to be compacted."""
    count = 5000
    one = learner(*[1] * count, retained=10 * (SLOT_COST + 1))
    one.compact(Slot(count), 1)
    sizes = [len(one.values)]
    assert count // 2 < sizes[0] < count
    while len(one.values) > 10 + one.chosen - count:
        one.learn(Slot(one.chosen + 1), value(1))
        sizes.append(len(one.values))
    assert max(before - after for before, after in pairwise(sizes)) <= 10
    assert len(sizes) < count / 2
    assert one.known(Slot(count - 9), 1) == (value(1),)
    assert one.known(Slot(count - 10), 1) is None


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 1000))
def test_portions_are_the_whole(sizes: list[int], limit: int) -> None:
    """In order, each as large as the limit allows and never empty; what they weigh together is what was told."""
    one = learner(*sizes)
    found = []
    while one.committed:
        before, slots = one.backlog, [slot for slot, _ in one.committed]
        portion = one.portion(limit)
        weight = before - one.backlog
        assert weight == sum(len(value.payload) + SLOT_COST for _, value in portion)
        assert weight <= limit or len(portion) == 1
        if one.committed:
            assert weight + len(one.committed[0].value.payload) + SLOT_COST > limit
        assert [slot for slot, _ in portion] == slots[: len(portion)]
        found += portion
    assert [slot for slot, _ in found] == list(range(1, len(sizes) + 1))
    assert one.backlog == 0
