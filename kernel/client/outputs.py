"""What the session core wants done and has to tell, in the order in which it happened. The driver carries these out
one by one.

Nothing here acts. A :class:`Call` is the caller's handle on one thing asked; the core gives it its number when it is
sent first.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, TypeAlias

from ..machine import Plain
from ..wire.native import Consistency
from .states import State


class Kind(enum.Enum):
    """What is asked."""

    COMMAND = "command"
    QUERY = "query"
    STATUS = "status"
    ADMIN = "admin"


class Call:
    """One thing asked of the cell. `number` is 0 until it is sent; `sends` counts over how many connections it went."""

    __slots__ = ("abandoned", "consistency", "kind", "machine", "number", "payload", "sends")

    def __init__(
        self, kind: Kind, machine: str, payload: bytes, consistency: Consistency = Consistency.LEASE, number: int = 0
    ) -> None:
        self.kind = kind
        self.machine = machine
        self.payload = payload
        self.consistency = consistency
        self.number = number
        self.sends = 0
        self.abandoned = False


class Connect(NamedTuple):
    """Open a connection to this endpoint; then tell ``connected`` or ``disconnected``."""

    endpoint: str


class Send(NamedTuple):
    """Write these bytes to the connection."""

    content: bytes


class Disconnect(NamedTuple):
    """Drop the connection or the attempt at one; say nothing more of it."""

    reason: str


class Changed(NamedTuple):
    """The session is in another state. `reason` is for people; `error` says why it is over, in a final state."""

    state: State
    reason: str
    error: Exception | None


class Answered(NamedTuple):
    """A call has its outcome: `error` if there is one, else `value`."""

    call: Call
    value: Plain
    error: Exception | None


class Parked(NamedTuple):
    """A call began a wait; :class:`Resolved` will end it."""

    call: Call
    ticket: int


class Resolved(NamedTuple):
    """A wait is over: `error` if there is one, else `value`."""

    ticket: int
    value: Plain
    error: Exception | None


class Published(NamedTuple):
    """A machine sent this session an event."""

    machine: str
    value: Plain


class Gap(NamedTuple):
    """The cell dropped the session's events from number `first` to `last`: whoever follows events must look anew."""

    first: int
    last: int


class Finished(NamedTuple):
    """Nothing more will come of this session; the connection is gone."""


Output: TypeAlias = Connect | Send | Disconnect | Changed | Answered | Parked | Resolved | Published | Gap | Finished
