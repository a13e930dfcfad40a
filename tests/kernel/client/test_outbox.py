"""Commands on their way: numbers, order, window."""

from __future__ import annotations

from quorate.kernel.client.outbox import Outbox
from quorate.kernel.client.outputs import Call, Kind


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
