"""What may come back instead of a value, and what each says about the command: done, not done, or unknown.

* :class:`~quorate.kernel.machine.Refusal`: the machine (or the replica, before the log) said no. Not done.
* :class:`MachineHalted`: the machine is halted at an earlier command. Not done.
* :class:`NotServing`, :class:`Overloaded`: it never left this client, or no replica would take it. Not done.
* :class:`SessionEnded` and its kinds: the session is over, and this command was never sent. Not done.
* :class:`OutcomeUnknown`: it was sent and the answer will not come. Done or not; nobody here can know.
"""

from __future__ import annotations


class QuorateError(Exception):
    """The root of what this client raises, :class:`Refusal` apart, which machines and clients share."""


class NotServing(QuorateError):
    """No replica took it in the time allowed. It was not done."""


class Overloaded(QuorateError):
    """More calls are waiting in this client than it may keep. It was not done."""


class MachineHalted(QuorateError):
    """The machine stopped at an earlier command that it could not apply; an operator must skip it or mend the
    machine."""

    def __init__(self, machine: str, reason: str) -> None:
        super().__init__(f"machine {machine!r} is halted: {reason}")
        self.machine = machine
        self.reason = reason


class OutcomeUnknown(QuorateError):
    """The command was sent and its answer cannot be had any more: it may have been done. ``__cause__`` says what cut
    it off, where that is known."""


class EventsLost(OutcomeUnknown):
    """The cell had to drop events of this session, perhaps the one that ended this wait."""


class TicketEnded(QuorateError):
    """A wait that nobody will resolve: its machine was unloaded or halted."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class SessionEnded(QuorateError):
    """The session is over; nothing more can be asked in it."""


class SessionClosed(SessionEnded):
    """This client closed it."""


class SessionExpired(SessionEnded):
    """The cell heard nothing of this client for too long, or this client heard nothing of the cell.

    `presumed`: nobody told. The lease ran out and the grace period after it as well.
    """

    def __init__(self, words: str, *, presumed: bool) -> None:
        super().__init__(words)
        self.presumed = presumed


class WrongCell(SessionEnded):
    """A member that was named to this client belongs to another cell than its session."""


class SlowConsumer(QuorateError):
    """A subscription's buffer was full: its events stopped here, the session goes on."""


class WrongThread(QuorateError):
    """This object belongs to the thread that made it. Threads use :mod:`quorate.kernel.client.blocking`."""


class ForkedClient(QuorateError):
    """A process that was forked cannot use the session of its parent: open one of its own."""
