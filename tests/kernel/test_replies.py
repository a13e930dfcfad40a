"""Replies as bytes."""

from __future__ import annotations

from quorate.kernel import replies
from quorate.kernel.replies import Status
from quorate.kernel.wire import plain


def test_the_forms() -> None:
    """Clients of every release read these."""
    assert plain.decode(replies.OK_HEAD + plain.encode({"a": 1})) == [Status.OK, {"a": 1}]
    assert plain.decode(replies.OK_NONE) == [0, None]
    assert plain.decode(replies.refused("code", "reason")) == [1, ["code", "reason"]]
    assert plain.decode(replies.ticketed(1 << 40)) == [2, 1 << 40]
    assert plain.decode(replies.halted("m", "why")) == [3, ["m", "why"]]


def test_reasons_are_short() -> None:
    """A machine that quotes its input does not fill the session's memory."""
    assert len(replies.refused("c" * 5000, "r" * 5000)) < 2 * replies.REASON_CHARS_MAX + 10
