"""Sessions as this replica's doors open, move and end them.

What happens to a session is decided in the log; this module puts the questions there, turns the answers into callbacks
and knows which sessions are attached here. Passwords are checked before anything is proposed.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..applied import Applied
from ..host import MachineHost
from ..machine import Origin, Plain, SessionId
from ..system import SESSIONS
from ..wire import plain
from .front import Opened

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

_REPLY_MAX: Final = 1 << 20
_PATIENCE_MS: Final = 10_000

OnOpened = Callable[["Opened | None"], None]


class Commanding(Protocol):
    """What is needed of the replica."""

    @property
    def reactor(self) -> IReactorTime: ...

    @property
    def origin(self) -> Origin: ...

    @property
    def host(self) -> MachineHost: ...

    def command(self, machine: int, name: str, args: list[Plain], done: Callable[[object], None]) -> None: ...

    def barrier(self, ready: Callable[[bool], None]) -> None: ...


class Sessions:
    """The sessions attached to this replica, and those on their way here."""

    def __init__(self, replica: Commanding) -> None:
        self.here: dict[SessionId, None] = {}
        """Attached to this run of this replica."""
        self._replica = replica
        self._keyless: list[Callable[[], None]] = []

    def open(self, timeout_ms: int, face: str, opened: OnOpened) -> None:
        """Open a session attached here. None: no quorum within its time-out, or the cell has too many."""
        once = _Once(self._replica.reactor, timeout_ms, opened)
        origin = self._replica.origin

        def answered(reply: object) -> None:
            session = value_of(reply)
            if type(session) is not int:
                once.call(None)
            elif once.over:
                self.close(SessionId(session), lambda: None)
            else:
                self._with_key(lambda: once.call(self._opened(SessionId(session))))

        self._replica.command(SESSIONS, "open", [timeout_ms, face, origin.member, origin.incarnation], answered)

    def attach(
        self,
        session: SessionId,
        password: bytes,
        attached: OnOpened,
        unknown: Callable[[], None] | None = None,
    ) -> None:
        """Move a session here. None: it ended, or never was, or this is not its password, or there is no quorum, or it
        has moved on meanwhile. Whoever wants to tell the first three from the others gives `unknown`, which is then
        called instead."""
        known = self._replica.host.sessions.get(session)
        once = _Once(self._replica.reactor, known.timeout_ms if known is not None else _PATIENCE_MS, attached)
        origin = self._replica.origin

        def no() -> None:
            if unknown is not None and not once.over:
                once.cancel()
                unknown()
            else:
                once.call(None)

        def answered(reply: object) -> None:
            if type(value_of(reply)) is not int:
                no()
                return
            # The batch that moved it here may have moved it on, or ended it: nobody would tell this connection.
            found = self._replica.host.sessions.get(session)
            once.call(self._opened(session) if found is not None and found.owner == origin else None)

        def check() -> None:
            if not self._proves(session, password):
                no()
            else:
                self._replica.command(SESSIONS, "attach", [session, origin.member, origin.incarnation], answered)

        if self._replica.host.password_key is not None:
            check()
        else:  # this replica may only lag behind the cell: see what is committed first
            self._replica.barrier(lambda ready: self._with_key(check) if ready else once.call(None))

    def known(self, session: SessionId, password: bytes) -> Opened | None:
        """What this replica knows of a session without asking anybody; None if nothing, or it is not its password."""
        if self._replica.host.password_key is None or not self._proves(session, password):
            return None
        return self._opened(session)

    def _proves(self, session: SessionId, password: bytes) -> bool:
        return session > 0 and hmac.compare_digest(self._replica.host.password(session), password)

    def close(self, session: SessionId, closed: Callable[[], None]) -> None:
        """End a session because its client wants it."""
        self._replica.command(SESSIONS, "close", [session], lambda _: closed())

    @property
    def waiting(self) -> bool:
        """Whether somebody waits for the key for passwords."""
        return bool(self._keyless)

    def applied(self, applied: Applied) -> tuple[list[SessionId], list[tuple[SessionId, bool]]]:
        """Follow what a batch did: the sessions that left for other replicas, and those that ended here."""
        moved, ended = [], []
        table, origin, here = self._replica.host.sessions, self._replica.origin, self.here
        for session in applied.attached:
            found = table.get(session)
            if found is not None and found.owner == origin:
                here[session] = None
            elif session in here:
                del here[session]
                moved.append(session)
        for session, expired in applied.ended:
            if session in here:
                del here[session]
                ended.append((session, expired))
        if self._keyless and self._replica.host.password_key is not None:
            waiting, self._keyless = self._keyless, []
            for each in waiting:
                each()
        return moved, ended

    def restored(self) -> list[SessionId]:
        """A snapshot replaced the machines: the sessions that are not attached here any more."""
        table, origin = self._replica.host.sessions, self._replica.origin
        lost = [each for each in self.here if each not in table or table[each].owner != origin]
        for session in lost:
            del self.here[session]
        return lost

    def _opened(self, session: SessionId) -> Opened | None:
        found = self._replica.host.sessions.get(session)
        if found is None:
            return None
        return Opened(session, self._replica.host.password(session), found.timeout_ms)

    def _with_key(self, then: Callable[[], None]) -> None:
        """Go on once the first leader has founded the key for passwords."""
        if self._replica.host.password_key is not None:
            then()
        else:
            self._keyless.append(then)


class _Once:
    """Calls back once: with the answer, or with None when the time is over."""

    def __init__(self, reactor: IReactorTime, timeout_ms: int, callback: OnOpened) -> None:
        self.over = False
        self._callback = callback
        self._timer = reactor.callLater(timeout_ms / 1000, self.call, None)

    def cancel(self) -> None:
        """Do not call back any more."""
        self.over = True
        if self._timer.active():
            self._timer.cancel()

    def call(self, opened: Opened | None) -> None:
        if not self.over:
            self.cancel()
            self._callback(opened)


def value_of(reply: object) -> Plain:
    """The value of a typed command's good reply; None for any other."""
    if not isinstance(reply, bytes):
        return None
    decoded: Any = plain.decode(reply, _REPLY_MAX)
    status, value = decoded
    result: Plain = value if status == 0 else None
    return result
