"""The gate: a machine's say, on the leader, before something is proposed.

Most machines have none. One that keeps leader memory about its clients (who caches what) must settle with them
*before* a change enters the log, because after it is applied other replicas may already show it. A gate is asked
before a command, a timer or the expiry of a session is proposed; it says "go", or keeps it and calls `go` later,
once, in its own time. What follows in the same stream waits behind it; other machines and other replicas' streams do
not.

A gate lives as long as one leadership: the machine makes a new one for each, and nothing it remembers outlives it. It
ends before when the machine is unloaded or halts; what it kept then goes on without it, to be answered in its place.
Like the machine it does no I/O; how it reaches clients is its front's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from .machine import SessionId


class Gate(Protocol):
    """Each method answers True for "propose it now", or False and calls `go` later from outside this call."""

    def command(self, body: bytes, go: Callable[[], None]) -> bool: ...

    def timers(self, upto: int, go: Callable[[], None]) -> bool: ...

    def expiry(self, session: SessionId, go: Callable[[], None]) -> bool: ...

    def ended(self) -> None:
        """The leadership is over, or the machine is gone; `go` of anything kept is no longer wanted."""


@runtime_checkable
class Gated(Protocol):
    """A machine with a gate. The fields are those of a StateMachine; see there."""

    def gate(self, epoch: int) -> Gate:
        """A new gate for the leadership `epoch`, looking at this machine's state read only."""
