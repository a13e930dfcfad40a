"""Which member next, and when."""

from __future__ import annotations

from random import Random

import pytest
from quorate.kernel.client.route import HINTS_MAX, PAUSE_MAX, PAUSE_MIN, Route


def test_route_keeps_what_the_user_named() -> None:
    """Members that the cell tells come on top of the endpoints that the user gave; empty ones are left out."""
    route = Route(["a", "b", "a"], Random(1))
    route.learn(["b", "c", ""])
    assert {route.next() for _ in range(6)} == {"a", "b", "c"}
    route.learn(["d"])
    assert {route.next() for _ in range(6)} == {"a", "b", "d"}
    with pytest.raises(ValueError, match="at least one"):
        Route([], Random(1))


def test_route_hints_are_bounded_until_it_settles() -> None:
    """A hint is tried once, next; after two in a row the members are tried in turn, until one of them works."""
    route = Route(["a"], Random(1))
    for _ in range(HINTS_MAX):
        assert route.hint("x")
        assert [route.next(), route.next()] == ["x", "a"]
    assert not route.hint("x")
    route.settled()
    assert route.hint("x")
    assert not route.hint("")


def test_route_pauses_grow_within_bounds_and_differ() -> None:
    """Pauses stay within their bounds, grow while nothing works, start over when something does, and differ between
    clients."""
    route = Route(["a"], Random(1))
    pauses = [route.pause() for _ in range(200)]
    assert all(PAUSE_MIN <= pause <= PAUSE_MAX for pause in pauses)
    assert max(pauses) > 50 * PAUSE_MIN
    route.settled()
    assert route.pause() <= 3 * PAUSE_MIN
    assert len({Route(["a"], Random(seed)).pause() for seed in range(20)}) == 20
