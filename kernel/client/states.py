"""The states of a client's session, and the only ways between them.

::

    CONNECTING --attached--> ALIVE        a connection, and the lease is sure
    ALIVE ------lost-------> CONNECTING   no connection; the lease may still run
    ALIVE, CONNECTING --lapsed--> JEOPARDY    the lease ran out; the cell may or may not have ended the session
    JEOPARDY ---kept-------> ALIVE        it had not
    JEOPARDY ---presumed---> EXPIRED      the grace period is over as well: nobody told, but act as if
    any of these --expired-> EXPIRED      the cell told
    any of these --closed--> CLOSED       the application closed it, or gave up opening it

EXPIRED and CLOSED are final. CONNECTING, before the first session was opened, has no lease that could run out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final


class State(enum.Enum):
    """How a session stands, as far as this client can know."""

    CONNECTING = "connecting"
    ALIVE = "alive"
    JEOPARDY = "jeopardy"
    EXPIRED = "expired"
    CLOSED = "closed"

    @property
    def final(self) -> bool:
        """Whether the session is over."""
        return self in (State.EXPIRED, State.CLOSED)


class Turn(enum.Enum):
    """What moves a session from one state to another."""

    ATTACHED = "attached"
    LOST = "lost"
    LAPSED = "lapsed"
    KEPT = "kept"
    PRESUMED = "presumed"
    EXPIRED = "expired"
    CLOSED = "closed"


TRANSITIONS: Final[Mapping[tuple[State, Turn], State]] = {
    (State.CONNECTING, Turn.ATTACHED): State.ALIVE,
    (State.CONNECTING, Turn.LAPSED): State.JEOPARDY,
    (State.CONNECTING, Turn.EXPIRED): State.EXPIRED,
    (State.CONNECTING, Turn.CLOSED): State.CLOSED,
    (State.ALIVE, Turn.LOST): State.CONNECTING,
    (State.ALIVE, Turn.LAPSED): State.JEOPARDY,
    (State.ALIVE, Turn.EXPIRED): State.EXPIRED,
    (State.ALIVE, Turn.CLOSED): State.CLOSED,
    (State.JEOPARDY, Turn.KEPT): State.ALIVE,
    (State.JEOPARDY, Turn.PRESUMED): State.EXPIRED,
    (State.JEOPARDY, Turn.EXPIRED): State.EXPIRED,
    (State.JEOPARDY, Turn.CLOSED): State.CLOSED,
}
"""The whole table. A turn that is not here cannot happen in that state."""
