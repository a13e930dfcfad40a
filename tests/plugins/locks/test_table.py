"""The lock table grants exactly what its one rule says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from quorate.plugins.locks.table import LockTable

wants = st.dictionaries(st.sampled_from("abc"), st.booleans(), min_size=1)
steps = st.lists(st.one_of(wants, st.integers(0, 12)), max_size=40)


def conflict(one: dict[str, bool], other: dict[str, bool]) -> bool:
    return any(one[name] or other[name] for name in one.keys() & other.keys())


def clear_by_the_rule(claims: dict[int, dict[str, bool]]) -> set[int]:
    return {
        claim
        for claim, names in claims.items()
        if not any(other < claim and conflict(names, claims[other]) for other in claims)
    }


@given(steps)
def test_against_the_rule(script: list[dict[str, bool] | int]) -> None:
    """After every step the clear claims are those with no conflicting claim in front, and leave names the new ones."""
    table, claims = LockTable(), {}
    for number, step in enumerate(script):
        before = clear_by_the_rule(claims)
        if isinstance(step, dict):
            free = table.free(step)
            claims[number] = step
            assert table.enter(number, step) is free
            assert free is (number in clear_by_the_rule(claims))
        elif claims:
            gone = sorted(claims)[step % len(claims)]
            del claims[gone]
            became = table.leave(gone)
            assert became == sorted(clear_by_the_rule(claims) - before)
            assert gone not in table
        assert {claim for claim in claims if table.clear(claim)} == clear_by_the_rule(claims)
        for name in "abc":
            assert list(table.queue(name)) == [claim for claim in sorted(claims) if name in claims[claim]]
        assert table.names() == sorted({name for names in claims.values() for name in names})


def test_reader_does_not_overtake_a_waiting_writer() -> None:
    """A reader behind a waiting writer waits, though only readers hold."""
    table = LockTable()
    assert table.enter(1, {"a": False})
    assert not table.enter(2, {"a": True})
    assert not table.enter(3, {"a": False})
    assert table.leave(2) == [3]
