"""Events and waits, apart from any connection."""

from __future__ import annotations

import pytest
from quorate.kernel.client.errors import SessionClosed
from quorate.kernel.client.inbox import Disorder, Inbox
from quorate.kernel.client.outputs import Call, Gap, Kind, Parked, Published, Resolved
from quorate.kernel.machine import Plain
from quorate.kernel.wire import plain


def event(*row: Plain) -> bytes:
    return plain.encode(list(row))


def test_each_event_once_and_in_order() -> None:
    """A repeated event is nothing, a skipped number is Disorder."""
    inbox = Inbox()
    assert inbox.event(event(1, "m", 0, "x")) == [Published("m", "x")]
    assert inbox.event(event(1, "m", 0, "x")) == []
    with pytest.raises(Disorder):
        inbox.event(event(3, "m", 0, "x"))
    assert inbox.event(event(5, "", 3, [2, 5])) == [Gap(2, 5)]
    assert inbox.last == 5


def test_a_wait_ends_once() -> None:
    """A ticket that is resolved before it is known ends when it becomes known; nothing ends twice."""
    inbox, call = Inbox(), Call(Kind.COMMAND, "m", b"")
    assert inbox.event(event(1, "m", 1, [500, "early"])) == []
    assert inbox.parked(call, 500) == [Parked(call, 500), Resolved(500, "early", None)]
    assert inbox.parked(call, 501) == [Parked(call, 501)]
    assert inbox.event(event(2, "m", 1, [501, "late"])) == [Resolved(501, "late", None)]
    assert inbox.event(event(3, "m", 1, [501, "again"])) == []
    assert inbox.over(SessionClosed("closed")) == []


def test_nobody_waits_for_an_abandoned_call() -> None:
    """The wait of a call that was given up is not told to anybody."""
    inbox, call = Inbox(), Call(Kind.COMMAND, "m", b"")
    call.abandoned = True
    assert inbox.parked(call, 500) == []
    assert inbox.event(event(1, "m", 1, [500, "x"])) == []


def test_early_ends_are_forgotten_when_no_reply_can_name_them() -> None:
    """Once every command is answered, an unknown ticket stays unknown."""
    inbox, call = Inbox(), Call(Kind.COMMAND, "m", b"")
    inbox.event(event(1, "m", 1, [500, "early"]))
    inbox.all_answered()
    assert inbox.parked(call, 500) == [Parked(call, 500)]


@pytest.mark.parametrize("row", [[], [1], [1, "m", 1, "x"], [1, "m", 2, [5]], [1, "m", 9, None], [9, "", 3, None]])
def test_what_is_no_event(row: list[Plain]) -> None:
    """Anything else is Disorder."""
    with pytest.raises(Disorder):
        Inbox().event(plain.encode(row))
