"""The native protocol's port (:mod:`..wire.native`): who is connected, and what the replica has to tell them.

A client's connection is :class:`~.client_connection.ClientConnection`. What all of them are told in one turn leaves
at its end, in one write each.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from ..machine import SessionId
from ..system import SESSIONS
from ..system.session import SessionEvent
from ..wire import native
from ..wire.native import EndReason, Moved
from .client_connection import ClientConnection
from .config import CLIENT
from .lean import RESERVED, LeanListener
from .shares import Shares

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .replica import LiveReplica

ACKNOWLEDGE_SECONDS: Final = 1.0
"""How often what clients have acknowledged by keepalives alone is told to the cell."""


class ClientPort:
    """All native clients of one replica."""

    def __init__(self, replica: LiveReplica) -> None:
        self.replica = replica
        self.by_session: dict[SessionId, ClientConnection] = {}
        self.clients: dict[ClientConnection, None] = {}
        self._fresh: dict[ClientConnection, None] = {}
        self._starved: dict[ClientConnection, None] = {}
        self.shares = Shares(replica.reactor, replica.turns)
        self._listener: LeanListener | None = None
        self._acknowledged: dict[SessionId, tuple[int, int]] = {}
        self._acknowledging: IDelayedCall | None = None
        replica.observers.append(self)
        replica.watchers.append(self)

    def start(self, endpoint: str) -> None:
        """Listen. Raises OSError if the address is taken."""
        self._listener = LeanListener(self.replica.reactor, endpoint, self._accepted, reserve=RESERVED)

    def stop(self) -> None:
        """Close every connection; the sessions live on elsewhere."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        if self._acknowledging is not None and self._acknowledging.active():
            self._acknowledging.cancel()
        self.shares.stop()
        for client in list(self.clients):
            client.close()

    def port(self) -> int:
        """The port it listens on."""
        return 0 if self._listener is None else self._listener.port()

    def _accepted(self, sock: socket.socket, address: object) -> None:
        if len(self.clients) >= self.replica.config.limits.clients_max:
            sock.close()
            return
        client = ClientConnection(self, sock, address)
        self.clients[client] = None
        try:
            client.start()
        except OSError:
            client.close()
            raise

    def forget(self, client: ClientConnection) -> None:
        """A connection ended."""
        self.clients.pop(client, None)
        self._fresh.pop(client, None)
        self._starved.pop(client, None)
        self.shares.forget(client)
        if client.session and self.by_session.get(client.session) is client:
            del self.by_session[client.session]

    def has_output(self, client: ClientConnection) -> None:
        """Write to this client at the end of the turn."""
        self._fresh[client] = None
        self.replica.answer()

    def starve(self, client: ClientConnection) -> None:
        """This client waits until the replica has room for what it asks."""
        self._starved[client] = None

    def acknowledge(self, session: SessionId, events_upto: int, replies_upto: int) -> None:
        """Have the cell forget replies and events, some time soon, if it keeps any."""
        found = self.replica.host.sessions.get(session)
        if found is None or not (
            (found.replies and replies_upto > found.acknowledged)
            or (found.events and events_upto > found.events_acknowledged)
        ):
            return
        self._acknowledged[session] = (events_upto, replies_upto)
        if self._acknowledging is None or not self._acknowledging.active():
            self._acknowledging = self.replica.reactor.callLater(ACKNOWLEDGE_SECONDS, self._acknowledge)

    def _acknowledge(self) -> None:
        seen, self._acknowledged = self._acknowledged, {}
        if self.replica.serves:
            rows = [[session, events, replies] for session, (events, replies) in seen.items()]
            self.replica.command(SESSIONS, "acknowledge", [rows], lambda _: None)

    # ---------------------------------------------------------------- what the replica tells (observer, watcher)

    def events(self, events: Sequence[SessionEvent]) -> None:
        for session, _, event in events:
            client = self.by_session.get(session)
            if client is not None:
                client.tell_event(event)

    def after_batch(self) -> None:
        fresh, self._fresh = self._fresh, {}
        for client in fresh:
            client.flush()
        if self._starved and self.replica.node.room() > 0:
            starved, self._starved = self._starved, {}
            for client in starved:
                client.go_on()

    def session_ended(self, session: SessionId, expired: bool) -> None:
        client = self.by_session.get(session)
        if client is not None:
            client.end(EndReason.EXPIRED if expired else EndReason.CLOSED)

    def session_moved(self, session: SessionId) -> None:
        client = self.by_session.get(session)
        if client is not None:
            client.close()

    def restored(self) -> None:
        """Nothing: events that the snapshot skipped are in the sessions, so have the clients attach again."""
        for client in list(self.by_session.values()):
            client.close()

    def serving_changed(self, serving: bool) -> None:
        """Clients learn it from their requests."""

    def reconfigured(self) -> None:
        """Clients ask for it."""

    def machines_changed(self) -> None:
        """Nothing is kept of machines here."""

    def leader_changed(self) -> None:
        moved = Moved(self.replica.core.leader or 0, self.members())
        for client in self.clients:
            if client.greeted:
                client.tell(moved)

    def members(self) -> tuple[native.Member, ...]:
        """Who is in the cell, as clients are told."""
        return tuple(native.Member(member, at) for member, at in self.replica.doors(CLIENT).items())
