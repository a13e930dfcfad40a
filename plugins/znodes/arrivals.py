"""How a connection comes by its session: a new one of the cell's or of this replica's alone, or one that moves here;
with a quorum or, reading only, without one.

Source: ZooKeeperServer.processConnectRequest and finishSessionInit, ReadOnlyZooKeeperServer of ZooKeeper 3.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...kernel.machine import SessionId
from . import jute
from .local_sessions import LocalSession, LocalSessions
from .protocol import FACE, Malformed

if TYPE_CHECKING:
    from ...kernel.server.front import Opened
    from .connection import Connection
    from .front import ZooKeeperFront


class Arrivals:
    """Gives the connections of one front their sessions. `local`: the sessions that are known here only."""

    def __init__(self, front: ZooKeeperFront) -> None:
        self._front = front
        self.local = LocalSessions(front.reactor, front.settings.tick_ms, self._expired)

    def arrived(self, connection: Connection, greeting: bytes) -> None:
        """A client's connect request came."""
        try:
            request = jute.read(jute.ConnectRequest, greeting)
        except Malformed:
            connection.drop()
            return
        front = self._front
        connection.old_client = request.read_only is None
        connection.timeout_ms = front.settings.negotiate(request.timeout)
        session, password = SessionId(request.session), request.password or b""

        def caught_up(ready: bool) -> None:
            if not connection.wire.closed and ready and request.last_zxid <= front.machine.zxid:
                self._settle(connection, session, password, bool(request.read_only))
            else:  # the client has seen what this replica has not: it must look elsewhere, never back in time
                connection.drop()

        if request.last_zxid <= front.machine.zxid:
            caught_up(True)
        else:
            front.replica.barrier(caught_up)

    def _settle(self, connection: Connection, session: SessionId, password: bytes, read_only: bool) -> None:
        """The client has that session (0: none), and says whether reading alone would do."""
        front = self._front
        if front.alone:
            if read_only and front.reads_only:
                self._read_only(connection, session, password)
            else:
                connection.drop()
        elif session < 0:
            self._come_back(connection, session, password)
        elif not session and front.settings.local_sessions:
            self._found(connection, self.local.open(connection.timeout_ms))
        elif 0 < front.patience_ms(connection) <= front.waited_ms:
            connection.drop()  # it has no time to wait here
        elif session:
            self._attach(connection, session, password)
        else:
            self._open(connection)

    def _read_only(self, connection: Connection, session: SessionId, password: bytes) -> None:
        """Without a quorum nothing is opened or moved in the cell, and no session expires there."""
        connection.reads_only = True
        if session <= 0:
            found = self.local.find(session, password) if session else self.local.open(connection.timeout_ms)
            self._found(connection, found)
            return
        known = self._front.replica.known_session(session, password)
        if known is not None:
            self._own(connection, session, known.timeout_ms, password)
        else:
            connection.refused()

    def _come_back(self, connection: Connection, session: SessionId, password: bytes) -> None:
        """The client of a session that is known here only has come back. What its older connection left on its way
        comes first, and nothing comes behind."""
        if self.local.find(session, password) is not None:
            self._end_older(session)

        def back() -> None:
            if not connection.wire.closed:
                self._found(connection, self.local.find(session, password))

        self._front.after_chunks(back)

    def _end_older(self, session: SessionId) -> None:
        """End the connection that a session has here, if any."""
        before = self._front.by_session.get(session)
        if before is not None:
            before.drop()

    def _found(self, connection: Connection, session: LocalSession | None) -> None:
        if session is None:
            connection.refused()
            return
        connection.touch = self.local.touch
        self._own(connection, session.id, session.timeout_ms, session.password)

    def _expired(self, session: SessionId) -> None:
        connection = self._front.by_session.get(session)
        if connection is not None:
            connection.drop()

    def _open(self, connection: Connection) -> None:
        replica = self._front.replica

        def opened(session: Opened | None) -> None:
            if session is None:
                connection.drop()
            elif connection.wire.closed:
                replica.close_session(session.session, _nothing)
            else:
                self._own(connection, session.session, session.timeout_ms, session.password)

        replica.open_session(connection.timeout_ms, FACE, opened)

    def _attach(self, connection: Connection, session: SessionId, password: bytes) -> None:
        """Move a session to a connection.

        A refusal may mean that there was no quorum, and telling a client that its session is gone when it is not
        would break its locks. So a refusal is believed only if this replica, after a barrier, does not know the
        session, or a second attempt fails as well.

        Chunks and the moving of sessions go into the log side by side. What an older connection of the session left in
        a chunk here must not come behind the move: the session may have been elsewhere meanwhile, and written there.
        So the move waits for the chunks that are on their way, and from a client that proves that it has come back
        nothing more is taken by its older connection."""
        front = self._front
        replica = front.replica
        if replica.known_session(session, password) is not None:
            self._end_older(session)

        def attached(moved: Opened | None) -> None:
            if connection.wire.closed:
                return
            if moved is not None:
                self._own(connection, session, moved.timeout_ms, moved.password)
            else:
                replica.barrier(certain)

        def certain(ready: bool) -> None:
            if connection.wire.closed:
                return
            if not ready:
                connection.drop()
            elif session not in front.machine.sessions:
                connection.refused()
            else:
                replica.attach_session(session, password, attached_again)

        def attached_again(moved: Opened | None) -> None:
            if connection.wire.closed:
                return
            if moved is not None:
                self._own(connection, session, moved.timeout_ms, moved.password)
            elif replica.serving():
                connection.refused()
            else:
                connection.drop()

        def move() -> None:
            if not connection.wire.closed:
                replica.attach_session(session, password, attached)

        front.after_chunks(move)

    def _own(self, connection: Connection, session: SessionId, timeout_ms: int, password: bytes) -> None:
        """The session is the connection's; an older connection of it ends."""
        self._end_older(session)
        self._front.by_session[session] = connection
        connection.opened(session, timeout_ms, password)


def response(timeout_ms: int, session: int, password: bytes, read_only: bool | None) -> bytes:
    """The frame that answers a connect request; `read_only` is None for a client too old to know of it."""
    body = jute.ConnectResponse.build(
        {"protocol": 0, "timeout": timeout_ms, "session": session, "password": password, "read_only": read_only}
    )
    return len(body).to_bytes(4, "big") + body


def _nothing() -> None:
    pass
