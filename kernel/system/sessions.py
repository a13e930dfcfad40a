"""Every session of the cell, whatever door it came through.

A session is opened, attached, closed and expired by log entries; its renewals are never logged. It is *attached* to
the run of one replica, and what its client sends through another is refused when it is applied; so a client that
moved cannot be overtaken by what it sent before.

Identities are made from the index of the opening command by a one-to-one mixing, so they are unique and do not tell
how many there were. Passwords are made with a key that the first leader founds; the key is in the log and in snapshots
(it protects sessions from each other's clients, not from who can read a replica's disk).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Final

from ..machine import TICKETS_MAX, Commit, Origin, Plain, Refusal, SessionId, StateMachine, Ticket, command, query
from ..wire import plain
from .asks import Attached, Ended, SystemCommit
from .session import ENDED, PUBLISHED, RESOLVED, WAITS_MAX, Session, SessionEvent

SESSIONS_MAX: Final = 200_000
TIMEOUT_MS_MAX: Final = 24 * 3600 * 1000
FACE_CHARS_MAX: Final = 64
KEY_BYTES_MIN: Final = 16
KEY_BYTES_MAX: Final = 64
PASSWORD_BYTES: Final = 16
LISTING_MAX: Final = 1000

_BITS: Final = 63
_MASK: Final = (1 << _BITS) - 1
_ODD: Final = 0x1E3779B97F4A7C15
_PIECE_BYTES: Final = 128 << 10


class Sessions(StateMachine):
    """The machine "sessions". `table` and `origins` are live and cost nothing to look at."""

    name = "sessions"
    version = 1

    def __init__(self, cell: bytes) -> None:
        self.table: dict[SessionId, Session] = {}
        self.origins: dict[SessionId, Origin] = {}
        """What ``Commit.sessions`` shows."""
        self.tickets: dict[Ticket, Session] = {}
        """Unfinished waits of all sessions, oldest first (a ticket is made of an index)."""
        self.key: bytes | None = None
        """What passwords are made with; None before the first leader founded it."""
        self._multiplier = int.from_bytes(hashlib.sha256(cell).digest()[:8], "big") & _MASK | 1

    # ---------------------------------------------------------------- commands

    @command
    def found(self, commit: Commit, key: bytes) -> bool:
        """Set the key for passwords, once; later ones are ignored (and answered False)."""
        if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
            raise Refusal("bad-key", f"a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes")
        if self.key is not None:
            return False
        self.key = key
        return True

    @command
    def open(self, commit: SystemCommit, timeout_ms: int, face: str, member: int, incarnation: int) -> int:
        """Begin a session, attached to that run of that member; its identity."""
        if not 0 < timeout_ms <= TIMEOUT_MS_MAX:
            raise Refusal("bad-timeout", f"a session's time-out is from 1 to {TIMEOUT_MS_MAX} ms")
        if not 0 < len(face) <= FACE_CHARS_MAX:
            raise Refusal("bad-face", f"the name of a face has 1 to {FACE_CHARS_MAX} characters")
        if len(self.table) >= SESSIONS_MAX:
            raise Refusal("too-many-sessions", f"the cell has {SESSIONS_MAX} sessions, which is all it may have")
        identity = self._identity(commit.index)
        session = Session(identity, timeout_ms, face, Origin(member, incarnation))
        self.table[identity] = session
        self.origins[identity] = session.owner
        commit.ask(Attached(identity, face, None))
        return identity

    @command
    def attach(self, commit: SystemCommit, session: SessionId, member: int, incarnation: int) -> int:
        """Move a session to that run of that member; the number of this attachment. The caller has checked the
        password."""
        found = self.table.get(session)
        if found is None:
            raise Refusal("session-unknown", "it closed or expired, or never was")
        before, found.owner = found.owner, Origin(member, incarnation)
        self.origins[session] = found.owner
        found.attachment += 1
        commit.ask(Attached(session, found.face, before))
        return found.attachment

    @command
    def close(self, commit: SystemCommit, session: SessionId) -> bool:
        """End a session because its client wants it; False if it has ended already. Only through the replica that it
        is attached to."""
        found = self.table.get(session)
        if found is None:
            return False
        if found.owner != commit.origin:
            raise Refusal("session-moved", "the session is attached to another replica")
        self.end(session)
        commit.ask(Ended(session, False))
        return True

    @command
    def expire(self, commit: SystemCommit, session: SessionId, attachment: int, epoch: int) -> bool:
        """End a session because nothing was heard of it. Void (False) if it was attached again since that was judged,
        or if not the leader of `epoch`, who judged it, proposed this."""
        found = self.table.get(session)
        if found is None or found.attachment != attachment or commit.epoch != epoch:
            return False
        self.end(session)
        commit.ask(Ended(session, True))
        return True

    @command
    def acknowledge(self, commit: Commit, seen: list[tuple[SessionId, int, int]]) -> None:
        """Clients have seen events and replies: [session, events up to, replies up to] each."""
        for session, events_upto, replies_upto in seen:
            found = self.table.get(session)
            if found is not None:
                found.acknowledge(replies_upto, events_upto)

    # ---------------------------------------------------------------- queries

    @query
    def count(self) -> int:
        """How many sessions live."""
        return len(self.table)

    @query
    def sessions(self, after: int = 0, limit: int = LISTING_MAX) -> list[Plain]:
        """Live sessions with identities above `after`, in order."""
        chosen = sorted(identity for identity in self.table if identity > after)[: max(0, min(limit, LISTING_MAX))]
        return [
            {
                "session": session.id,
                "face": session.face,
                "timeout_ms": session.timeout_ms,
                "member": session.owner.member,
                "replies": len(session.replies),
                "events": len(session.events),
                "waits": len(session.tickets),
            }
            for session in map(self.table.__getitem__, chosen)
        ]

    # ---------------------------------------------------------------- the host's side

    def end(self, session: SessionId) -> bool:
        """Forget a session with its replies, events and waits; False if there is none."""
        found = self.table.pop(session, None)
        if found is None:
            return False
        del self.origins[session]
        for ticket in found.tickets:
            del self.tickets[ticket]
        return True

    def tickets_left(self, session: Session) -> int:
        """How many more waits the session may begin in one command."""
        return min(TICKETS_MAX, WAITS_MAX - len(session.tickets))

    def park(self, ticket: Ticket, session: SessionId, machine: int) -> None:
        """A wait began."""
        found = self.table.get(session)
        if found is not None:
            found.tickets[ticket] = machine
            self.tickets[ticket] = found

    def publish(self, session: SessionId, tag: bytes, value: bytes) -> SessionEvent | None:
        """A machine (`tag`: its encoded name) tells a session something. None if the session is gone."""
        found = self.table.get(session)
        return None if found is None else found.publish(tag, PUBLISHED, value)

    def resolve(self, ticket: Ticket, machine: int, tag: bytes, result: bytes) -> SessionEvent | None:
        """A wait of that machine is over. None if it was before, or its session is gone."""
        session = self.tickets.get(ticket)
        if session is None or session.tickets[ticket] != machine:
            return None
        del self.tickets[ticket], session.tickets[ticket]
        return session.publish(tag, RESOLVED, b"\x92" + plain.encode(ticket) + result)

    def abandon(self, machine: int, tag: bytes, code: str, reason: str) -> list[SessionEvent]:
        """All waits of a machine are over without a result."""
        gone = [ticket for ticket, session in self.tickets.items() if session.tickets[ticket] == machine]
        events = []
        for ticket in gone:
            session = self.tickets.pop(ticket)
            del session.tickets[ticket]
            events.append(session.publish(tag, ENDED, plain.encode([ticket, code, reason])))
        return events

    def password(self, session: SessionId) -> bytes:
        """What proves that a client is the session's (16 bytes).

        Raises:
            LookupError: the key is not founded yet.
        """
        if self.key is None:
            raise LookupError("no leader has founded the key for passwords yet")
        return hmac.digest(self.key, session.to_bytes(8, "big"), "sha256")[:PASSWORD_BYTES]

    # ---------------------------------------------------------------- in snapshots

    def snapshot_chunks(self) -> Iterator[bytes]:
        """The key, then sessions in handfuls."""
        yield plain.encode(self.key)
        handful: list[bytes] = []
        size = 0
        for session in self.table.values():
            handful.append(plain.encode(session.image()))
            size += len(handful[-1])
            if size >= _PIECE_BYTES:
                yield plain.encode(handful)
                handful, size = [], 0
        yield plain.encode(handful)

    def restore_chunks(self, chunks: Iterable[bytes], version: int) -> None:
        """See :meth:`snapshot_chunks`."""
        pieces: list[Any] = [plain.decode(chunk) for chunk in chunks]
        if len(pieces) < 2:
            raise ValueError("a part of the sessions is missing")
        self.key = pieces[0]
        for handful in pieces[1:]:
            for image in handful:
                session = Session.of_image(plain.decode(image))
                self.table[session.id] = session
                self.origins[session.id] = session.owner
        tickets = ((ticket, session) for session in self.table.values() for ticket in session.tickets)
        self.tickets = dict(sorted(tickets, key=itemgetter(0)))

    def _identity(self, index: int) -> SessionId:
        """A one-to-one image of a positive index in the positive 63-bit integers: each step can be undone."""
        mixed = index * self._multiplier & _MASK
        mixed ^= mixed >> 29
        mixed = mixed * _ODD & _MASK
        return SessionId(mixed ^ mixed >> 32)
