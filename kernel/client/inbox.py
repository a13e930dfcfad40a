"""A session's events and waits: each event taken in once and in order, each wait ended once.

The cell numbers a session's events 1, 2, 3... and sends unacknowledged ones again after every attach. What it had to
drop it tells as a gap; a wait that may have been ended by a dropped event ends with :class:`EventsLost`.

A ticket may be resolved before the reply that names it arrives (when that reply was lost and is repeated), so
resolutions of unknown tickets are kept while any command is unanswered.

This module knows plain data; it knows nothing of frames, connections and time.
"""

from __future__ import annotations

from ..machine import Plain
from ..wire import plain
from .errors import EventsLost, SessionEnded, TicketEnded
from .outputs import Call, Gap, Output, Parked, Published, Resolved


class Disorder(ValueError):
    """The replica sent an event that cannot come next."""


class Inbox:
    """`last` is the number of the last event taken in; `told` the last one that the cell was told of."""

    def __init__(self) -> None:
        self.last = 0
        self.told = 0
        self._open: dict[int, None] = {}
        self._early: dict[int, Resolved] = {}

    def event(self, payload: bytes) -> list[Output]:
        """What an event says, nothing if it was taken in before. Raises Disorder, Malformed."""
        row = plain.decode(payload)
        if not isinstance(row, list) or len(row) != 4:
            raise Disorder("an event is [number, machine, kind, value]")
        number, machine, kind, value = row
        if number <= self.last:
            return []
        if kind == 3:
            self.last = number
            return self._gap(value)
        if number != self.last + 1:
            raise Disorder(f"event {number} follows event {self.last}")
        self.last = number
        match kind, value:
            case 0, _:
                return [Published(machine, value)]
            case 1, [int(ticket), result]:
                return self._resolved(Resolved(ticket, result, None))
            case 2, [int(ticket), str(code), str(reason)]:
                return self._resolved(Resolved(ticket, None, TicketEnded(code, reason)))
        raise Disorder(f"an event of kind {kind!r}")

    def parked(self, call: Call, ticket: int) -> list[Output]:
        """A command's reply named its ticket."""
        early = self._early.pop(ticket, None)
        if call.abandoned:
            return []
        if early is not None:
            return [Parked(call, ticket), early]
        self._open[ticket] = None
        return [Parked(call, ticket)]

    def all_answered(self) -> None:
        """No command is unanswered: no reply will name an early ticket any more."""
        self._early.clear()

    def over(self, error: SessionEnded) -> list[Output]:
        """The session ended, and every wait with it."""
        self._early.clear()
        waits, self._open = self._open, {}
        return [Resolved(ticket, None, error) for ticket in waits]

    def _resolved(self, resolved: Resolved) -> list[Output]:
        if resolved.ticket in self._open:
            del self._open[resolved.ticket]
            return [resolved]
        self._early[resolved.ticket] = resolved
        return []

    def _gap(self, value: Plain) -> list[Output]:
        match value:
            case [int(first), int(last)]:
                waits, self._open = self._open, {}
                error = EventsLost(f"events {first} to {last} were dropped; one of them may have ended this wait")
                return [Gap(first, last), *(Resolved(ticket, None, error) for ticket in waits)]
        raise Disorder("a gap without its ends")
