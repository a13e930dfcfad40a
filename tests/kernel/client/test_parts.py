"""The small parts of a session: lease arithmetic, the outbox, the route, the table of states."""

from __future__ import annotations

import math
from random import Random

import pytest
from quorate.kernel.client.lease import Lease
from quorate.kernel.client.outbox import Outbox
from quorate.kernel.client.outputs import Call, Kind
from quorate.kernel.client.route import HINTS_MAX, PAUSE_MAX, PAUSE_MIN, Route
from quorate.kernel.client.states import TRANSITIONS, State, Turn


def test_lease_never_shortens_and_is_cut_by_drift() -> None:
    """A promise counts from its send, less the drift; an older promise changes nothing."""
    lease = Lease(9.0, 0.1)
    first, second = lease.sending(100.0), lease.sending(103.0)
    assert lease.due_at == 106.0
    assert lease.silent_at() == 103.0
    assert lease.kept(second, 9.0)
    assert lease.until == pytest.approx(103 + 8.1)
    assert lease.silent_at() == math.inf
    assert not lease.kept(first, 90.0)
    assert lease.until == pytest.approx(103 + 8.1)


def test_lease_forgets_stamps_of_a_broken_connection() -> None:
    """An answer over a later connection to a KeepAlive of an earlier one does not count."""
    lease = Lease(9.0, 0.0)
    stamp = lease.sending(100.0)
    lease.disconnected()
    assert not lease.kept(stamp, 9.0)
    assert lease.until == -math.inf
    assert lease.due_at == math.inf


def test_outbox_keeps_order_and_window() -> None:
    """Numbers come at the first send, in order; the window counts from the oldest unanswered one."""
    box = Outbox(2)
    calls = [Call(Kind.COMMAND, "m", b"") for _ in range(4)]
    for call in calls:
        box.add(call)
    assert [call.number for call in box.first_sends()] == [1, 2]
    box.answered(calls[1])
    assert list(box.first_sends()) == []
    assert box.acknowledged == 0
    box.answered(calls[0])
    assert box.acknowledged == 2
    assert box.forget(calls[2])
    assert not box.forget(calls[1])
    assert [call.number for call in box.first_sends()] == [3]
    assert box.clear() == ([calls[3]], [])
    assert box.acknowledged == 3


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


def test_final_states_are_final() -> None:
    """No turn leaves EXPIRED or CLOSED; every other state can be closed and expired."""
    for state in State:
        leaving = {turn for source, turn in TRANSITIONS if source is state}
        assert state.final is (not leaving)
        if leaving:
            assert {Turn.CLOSED, Turn.EXPIRED} <= leaving
    assert {target for target in TRANSITIONS.values()} == set(State)


def test_the_states_page_shows_the_table() -> None:
    """The drawing in the module's text names every turn and every state of the table."""
    from quorate.kernel.client import states

    for state, turn in TRANSITIONS:
        assert state.name in states.__doc__
        assert turn.value in states.__doc__
