"""Sessions that only this replica knows: for clients that write seldom and hold nothing, and for those that read while
there is no quorum.

They cost the cell nothing: opening, renewing and ending them is no entry in the log. In return they own no ephemeral
nodes, and a client that comes to another replica with one hears that it is gone. Their ids are below zero, where the
cell's own never are, so that the machine knows one when it meets it in a chunk.

Expiry as in the original: looked at every tick, so never early and at most one tick late.

Source: LocalSessionTracker and ReadOnlyZooKeeperServer of ZooKeeper 3.8.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from secrets import randbits, token_bytes
from typing import TYPE_CHECKING, Final

from ...kernel.machine import SessionId
from .protocol import PASSWORD_SIZE

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

_BITS: Final = 62


class LocalSession:
    """One of them. `heard`: when its client last said something, in the reactor's seconds."""

    __slots__ = ("heard", "id", "password", "timeout_ms")

    def __init__(self, timeout_ms: int, heard: float) -> None:
        self.id = SessionId(-1 - randbits(_BITS))
        self.password = token_bytes(PASSWORD_SIZE)
        self.timeout_ms = timeout_ms
        self.heard = heard


class LocalSessions:
    """All of this replica's. `expired` is called with each that nobody was heard of in time."""

    def __init__(self, reactor: IReactorTime, tick_ms: int, expired: Callable[[SessionId], None]) -> None:
        self.table: dict[SessionId, LocalSession] = {}
        self._reactor = reactor
        self._tick = tick_ms / 1000
        self._expired = expired
        self._timer: IDelayedCall | None = None

    def open(self, timeout_ms: int) -> LocalSession:
        """Begin one."""
        session = LocalSession(timeout_ms, self._reactor.seconds())
        self.table[session.id] = session
        if self._timer is None:
            self._timer = self._reactor.callLater(self._tick, self._look)
        return session

    def find(self, session: SessionId, password: bytes) -> LocalSession | None:
        """One whose client comes back; None if there is none, or it is not this password."""
        found = self.table.get(session)
        if found is None or not hmac.compare_digest(found.password, password):
            return None
        self.touch(session)
        return found

    def touch(self, session: SessionId) -> None:
        """Its client was heard."""
        found = self.table.get(session)
        if found is not None:
            found.heard = self._reactor.seconds()

    def close(self, session: SessionId) -> None:
        """End one because its client wants it."""
        self.table.pop(session, None)

    def stop(self) -> None:
        """Forget them all."""
        self.table.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now = self._reactor.seconds()
        self._timer = self._reactor.callLater(self._tick, self._look) if self.table else None
        for each in [each for each in self.table.values() if each.heard + each.timeout_ms / 1000 <= now]:
            del self.table[each.id]
            self._expired(each.id)
