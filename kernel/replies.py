"""What a command or query is answered, as bytes: MessagePack [status, value]."""

from __future__ import annotations

import enum
from typing import Final

from .wire import plain

REPLY_MAX: Final = 1 << 20
"""Bytes of one reply. A command whose result is longer is done, but its result is not told."""
REASON_CHARS_MAX: Final = 1024


class Status(enum.IntEnum):
    """The first item of a reply says what the second is."""

    OK = 0  # the result
    REFUSED = 1  # [code, reason]: an expected no; nothing was done
    TICKET = 2  # a wait began; an event will bring its result
    HALTED = 3  # [machine, reason]: the machine is halted; nothing was done, and never will be under this number


_HEAD: Final = {status: b"\x92" + plain.encode(int(status)) for status in Status}
OK_HEAD: Final = _HEAD[Status.OK]
"""What comes before an encoded result."""
OK_NONE: Final = OK_HEAD + plain.encode(None)


def refused(code: str, reason: str) -> bytes:
    """An expected no. What is no Unicode in its words is written as escapes."""
    words = [text[:REASON_CHARS_MAX].encode(errors="backslashreplace").decode() for text in (code, reason)]
    return _HEAD[Status.REFUSED] + plain.encode(words)


def ticketed(ticket: int) -> bytes:
    """A wait began."""
    return _HEAD[Status.TICKET] + plain.encode(ticket)


def halted(machine: str, reason: str) -> bytes:
    """The machine is halted."""
    return _HEAD[Status.HALTED] + plain.encode([machine, reason])


MALFORMED: Final = refused("malformed", "the request cannot be read")
EXPIRED: Final = refused("session-expired", "the session has ended")
MOVED: Final = refused("session-moved", "the session is attached to another replica now")
ACKNOWLEDGED: Final = refused("already-acknowledged", "the reply to this number was acknowledged and is gone")
FULL: Final = refused("too-many-unacknowledged", "acknowledge replies first")
CELL_ONLY: Final = refused("cell-only", "only the cell itself commands this machine")
