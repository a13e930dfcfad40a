"""One session's record: the replies and events that its client has not acknowledged yet.

Replies make commands exactly-once (Ongaro, "Consensus: bridging theory and practice", section 6.3): a number is
executed once and its reply is kept until the client says that it has it. Events are numbered from 1 without holes;
what had to be given up is named as a gap.

Bounds hold per session. Replies are bounded before a command is executed, events by giving up the oldest.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from ..machine import Origin, Plain, SessionId, Ticket
from ..wire import plain

REPLIES_MAX: Final = 1024
REPLY_BYTES_MAX: Final = 8 << 20
EVENTS_MAX: Final = 4096
EVENT_BYTES_MAX: Final = 8 << 20
EVENT_MAX: Final = 1 << 20
"""Bytes of one event; a longer one is given up like one that is too old."""
WAITS_MAX: Final = 4096
"""Unfinished waits."""

PUBLISHED: Final = b"\x00"
RESOLVED: Final = b"\x01"
ENDED: Final = b"\x02"
"""Kinds of events, as MessagePack."""
_GAP: Final = 3


class SessionEvent(NamedTuple):
    """One event, as its client gets it: MessagePack [number, machine, kind, value].

    Kinds: 0 published, the value is the machine's; 1 a wait is over: [ticket, result]; 2 a wait is over without a
    result: [ticket, code, reason]; 3 a gap, machine "": the events [from, to] are lost, and `number` is the last of
    them.
    """

    session: SessionId
    number: int
    event: bytes


class Session:
    """A live session. Read it as you like; only the host and the sessions machine change it."""

    __slots__ = (
        "acknowledged", "attachment", "event_bytes", "events", "events_acknowledged", "face", "gap", "id", "last_event",
        "owner", "replies", "reply_bytes", "tickets", "timeout_ms",
    )  # fmt: skip

    def __init__(self, identity: SessionId, timeout_ms: int, face: str, owner: Origin) -> None:
        self.id = identity
        self.timeout_ms = timeout_ms
        self.face = face
        self.owner = owner
        self.attachment = 1
        """Counts the attachments; an expiry judged one of them."""
        self.acknowledged = 0
        self.replies: dict[int, bytes] = {}
        self.reply_bytes = 0
        self.last_event = 0
        self.events_acknowledged = 0
        self.events: deque[SessionEvent] = deque()
        self.event_bytes = 0
        self.gap = (0, 0)
        """First and last number of what was given up behind the acknowledged events; (0, 0): nothing."""
        self.tickets: dict[Ticket, int] = {}
        """Unfinished waits, and the number of the machine each belongs to."""

    # ---------------------------------------------------------------- replies

    def full(self) -> bool:
        """Whether the client must acknowledge replies before it commands again."""
        return len(self.replies) >= REPLIES_MAX or self.reply_bytes >= REPLY_BYTES_MAX

    def keep(self, number: int, reply: bytes) -> None:
        self.replies[number] = reply
        self.reply_bytes += len(reply)

    def acknowledge(self, replies_upto: int, events_upto: int) -> None:
        """The client has these replies and events; forget them."""
        replies = self.replies
        if replies_upto > self.acknowledged:
            if replies_upto - self.acknowledged <= len(replies):
                gone = [n for n in range(self.acknowledged + 1, replies_upto + 1) if n in replies]
            else:
                gone = [n for n in replies if n <= replies_upto]
            for number in gone:
                self.reply_bytes -= len(replies.pop(number))
            self.acknowledged = replies_upto
        if events_upto > self.events_acknowledged:
            self.events_acknowledged = min(events_upto, self.last_event)
            while self.events and self.events[0].number <= events_upto:
                self.event_bytes -= len(self.events.popleft().event)
            if self.gap[1] <= events_upto:
                self.gap = (0, 0)

    # ---------------------------------------------------------------- events

    def publish(self, tag: bytes, kind: bytes, value: bytes) -> SessionEvent:
        """Number an event and keep it. `tag` and `value` are encoded: the machine's name, and what `kind` says."""
        number = self.last_event = self.last_event + 1
        encoded = b"\x94" + plain.encode(number) + tag + kind + value
        if len(encoded) > EVENT_MAX:
            encoded = _gap_event(number, number)
        event = SessionEvent(self.id, number, encoded)
        self.events.append(event)
        self.event_bytes += len(encoded)
        while len(self.events) > EVENTS_MAX or self.event_bytes > EVENT_BYTES_MAX:
            lost = self.events.popleft()
            self.event_bytes -= len(lost.event)
            self.gap = (self.gap[0] or lost.number, lost.number)
        return event

    def events_after(self, number: int) -> list[SessionEvent]:
        """What a client that has seen events up to `number` must get, a gap first."""
        kept = [event for event in self.events if event.number > number]
        first, last = self.gap
        if last > number:
            kept.insert(0, SessionEvent(self.id, last, _gap_event(max(first, number + 1), last)))
        return kept

    # ---------------------------------------------------------------- in snapshots

    def image(self) -> list[Plain]:
        """Everything, as plain data."""
        return [
            self.id, self.timeout_ms, self.face, *self.owner, self.attachment, self.acknowledged,
            [[number, reply] for number, reply in self.replies.items()],
            self.last_event, self.events_acknowledged, [[event.number, event.event] for event in self.events],
            [*self.gap], [[ticket, machine] for ticket, machine in self.tickets.items()],
        ]  # fmt: skip

    @classmethod
    def of_image(cls, image: Plain) -> Session:
        """The session whose :meth:`image` that is. Raises ValueError or TypeError if it is none."""
        fields: Any = image
        (
            identity, timeout_ms, face, member, incarnation, attachment, acknowledged, replies, last_event,
            events_acknowledged, events, gap, tickets,
        ) = fields  # fmt: skip
        session = cls(identity, timeout_ms, face, Origin(member, incarnation))
        session.attachment, session.acknowledged = attachment, acknowledged
        for number, reply in replies:
            session.keep(number, reply)
        session.last_event, session.events_acknowledged = last_event, events_acknowledged
        session.events.extend(SessionEvent(identity, number, event) for number, event in events)
        session.event_bytes = sum(len(event.event) for event in session.events)
        first, last = gap
        session.gap = (first, last)
        session.tickets.update((ticket, machine) for ticket, machine in tickets)
        return session


def _gap_event(first: int, last: int) -> bytes:
    return plain.encode([last, "", _GAP, [first, last]])
