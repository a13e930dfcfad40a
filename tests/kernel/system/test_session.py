"""One session's record: bounds, acknowledgements, gaps, image."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.machine import Origin, SessionId, Ticket
from quorate.kernel.system import session as session_module
from quorate.kernel.system.session import EVENT_MAX, EVENTS_MAX, PUBLISHED, REPLIES_MAX, Session
from quorate.kernel.wire import plain

TAG = plain.encode("m")


@pytest.fixture
def session() -> Session:
    """A new session."""
    return Session(SessionId(5), 1000, "native", Origin(1, 2))


def publish(session: Session, value: Any) -> Any:
    """Publish a value; the decoded event."""
    return plain.decode(session.publish(TAG, PUBLISHED, plain.encode(value)).event)


def told(session: Session, after: int = 0) -> list[Any]:
    """The decoded events after a number."""
    return [plain.decode(event.event) for event in session.events_after(after)]


def test_events_form(session: Session) -> None:
    """Number, machine, kind, value, in MessagePack that anybody can read."""
    assert publish(session, {"a": 1}) == [1, "m", 0, {"a": 1}]
    assert told(session) == [[1, "m", 0, {"a": 1}]]


def test_too_many_events_leave_a_named_gap(session: Session) -> None:
    """The oldest are given up; whoever has not seen them is told which, the others are not."""
    for number in range(EVENTS_MAX + 10):
        publish(session, number)
    assert len(session.events) == EVENTS_MAX
    assert told(session)[:2] == [[10, "", 3, [1, 10]], [11, "m", 0, 10]]
    assert told(session, 4)[0] == [10, "", 3, [5, 10]]
    assert told(session, 10)[0] == [11, "m", 0, 10]
    assert [number for number, *_ in told(session)] == list(range(10, EVENTS_MAX + 11))
    session.acknowledge(0, 9)
    assert told(session)[0] == [10, "", 3, [1, 10]]
    session.acknowledge(0, 10)
    assert told(session)[0] == [11, "m", 0, 10]


def test_too_many_bytes_of_events_leave_a_gap(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large events count as much as many small ones."""
    monkeypatch.setattr(session_module, "EVENT_BYTES_MAX", 1000)
    for _ in range(20):
        publish(session, b"x" * 100)
    assert session.event_bytes == sum(len(event.event) for event in session.events) <= 1000
    assert told(session)[0][2] == 3
    session.acknowledge(0, 20)
    assert session.event_bytes == 0


def test_an_event_too_large_is_a_gap_itself(session: Session) -> None:
    """Its number is not skipped in silence."""
    publish(session, "before")
    assert publish(session, b"x" * EVENT_MAX) == [2, "", 3, [2, 2]]
    publish(session, "after")
    assert told(session) == [[1, "m", 0, "before"], [2, "", 3, [2, 2]], [3, "m", 0, "after"]]


def test_acknowledging_replies(session: Session) -> None:
    """Numbers need not be dense, go up only, and a huge one costs nothing."""
    for number in (1, 2, 5, 90):
        session.keep(number, b"r" * number)
    assert session.reply_bytes == 98
    session.acknowledge(2, 0)
    assert (sorted(session.replies), session.reply_bytes, session.acknowledged) == ([5, 90], 95, 2)
    session.acknowledge(1, 0)
    assert session.acknowledged == 2
    session.acknowledge(1 << 62, 0)
    assert (session.replies, session.reply_bytes, session.acknowledged) == ({}, 0, 1 << 62)


def test_events_cannot_be_acknowledged_ahead(session: Session) -> None:
    """A client that says too much still gets what comes later."""
    publish(session, 1)
    session.acknowledge(0, 100)
    assert session.events_acknowledged == 1
    publish(session, 2)
    assert told(session) == [[2, "m", 0, 2]]
    session.acknowledge(0, 0)
    assert told(session) == [[2, "m", 0, 2]]


def test_full_by_count(session: Session) -> None:
    """The bound on replies is asked before a command."""
    for number in range(1, REPLIES_MAX + 1):
        assert not session.full()
        session.keep(number, b"r")
    assert session.full()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 20), st.integers(0, 20)), max_size=40), st.integers(1, 5))
def test_image_holds_everything(steps: list[tuple[int, int, int]], kept: int) -> None:
    """After any history the restored session is the same in every field, and bounds stay right."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "EVENTS_MAX", kept)
        session = Session(SessionId(5), 1000, "native", Origin(1, 2))
        for number, (kind, a, b) in enumerate(steps, 1):
            if kind == 0:
                session.keep(number, b"r" * a)
            elif kind == 1:
                publish(session, a)
                session.tickets[Ticket(number)] = b
            else:
                session.acknowledge(a, b)
                session.attachment += 1
        image = plain.decode(plain.encode(session.image()))
        restored = Session.of_image(image)
    for name in Session.__slots__:
        assert getattr(restored, name) == getattr(session, name), name
    assert restored.reply_bytes == sum(map(len, session.replies.values()))


@pytest.mark.parametrize("image", [None, [], 5, [1, 2, 3], {"id": 1}])
def test_other_things_are_no_image(image: Any) -> None:
    """A damaged snapshot does not become a session."""
    with pytest.raises((ValueError, TypeError)):
        Session.of_image(image)
