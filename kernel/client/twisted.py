"""The door to Twisted: ``session = await connect(["tcp:127.0.0.1:7420"], timeout=10)`` in a coroutine that Twisted
drives.

Endpoints are Twisted's own client endpoint strings. The reactor is an argument; without one the installed reactor is
taken at the call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Generator, Iterable
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Final, Unpack, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IAddress, IReactorTime, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from .door import Alarm, Line, T, Task, Wire, lease_clock
from .live import CONNECT_TIMEOUT, Options, Session, open_session

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

log: Final = logging.getLogger("quorate.client")


class _Slot:
    """A Deferred that fires in a later turn, unless it was cancelled first."""

    __slots__ = ("_deferred", "_door")

    def __init__(self, door: TwistedDoor) -> None:
        self._door = door
        self._deferred: Deferred[None] = Deferred()

    def set(self) -> None:
        self._door.soon(self._fire)

    def _fire(self) -> None:
        if not self._deferred.called:
            self._deferred.callback(None)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._deferred.__await__()


class _Alarm:
    """A DelayedCall that may be cancelled at any time."""

    __slots__ = ("_call",)

    def __init__(self, call: DelayedCall) -> None:
        self._call = call

    def cancel(self) -> None:
        if self._call.active():
            self._call.cancel()


class _Protocol(Protocol):
    """Hands on what comes."""

    def __init__(self, line: _Line) -> None:
        self._line = line

    def connectionMade(self) -> None:
        self._line.made(cast(ITransport, self.transport))

    def dataReceived(self, content: bytes) -> None:
        self._line.received(content)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._line.lost(reason)


class _Factory(Factory):
    """Makes the one protocol of a line."""

    noisy = False

    def __init__(self, line: _Line) -> None:
        self._line = line

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _Protocol(self._line)


class _Line:
    """One connection, from the attempt on."""

    def __init__(self, reactor: object, endpoint: str, wire: Wire, door: TwistedDoor) -> None:
        self._wire = wire
        self._transport: ITransport | None = None
        self._dropped = False
        self._attempt: Deferred[Any] | None = None
        try:
            self._attempt = clientFromString(reactor, endpoint).connect(_Factory(self))  # type: ignore[no-untyped-call]
        except Exception as error:  # what an endpoint string can be wrong in is Twisted's to know
            reason = f"{endpoint}: {error}"
            door.soon(lambda: self._failed(reason))
        else:
            self._attempt.addCallbacks(lambda _: None, lambda failure: self._failed(failure.getErrorMessage()))

    def made(self, transport: ITransport) -> None:
        self._transport = transport
        no_delay = getattr(transport, "setTcpNoDelay", None)
        if no_delay is not None:
            no_delay(True)
        if self._dropped:
            transport.loseConnection()
        else:
            self._wire.connected()

    def received(self, content: bytes) -> None:
        if not self._dropped:
            self._wire.received(content)

    def lost(self, reason: Failure) -> None:
        self._failed(reason.getErrorMessage())

    def write(self, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(content)

    def drop(self) -> None:
        self._dropped = True
        if self._transport is not None:
            self._transport.loseConnection()
        elif self._attempt is not None:
            self._attempt.cancel()

    def _failed(self, reason: str) -> None:
        if not self._dropped:
            self._dropped = True
            self._wire.disconnected(reason)


class TwistedDoor:
    """Runs sessions and recipes in a Twisted reactor. `clock` is for leases: the reactor's own may be set back."""

    cancelled: type[BaseException] = CancelledError

    def __init__(self, reactor: IReactorTime, clock: Callable[[], float] = lease_clock) -> None:
        self._reactor = reactor
        self._due: list[Callable[[], object]] = []
        self.now = clock

    def soon(self, callback: Callable[[], object]) -> None:
        self._due.append(callback)
        if len(self._due) == 1:
            self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        due, self._due = self._due, []
        for callback in due:
            try:
                callback()
            except Exception:  # it is the callback's own fault and must not keep the others from running
                log.exception("a callback failed")

    def later(self, seconds: float, callback: Callable[[], object]) -> Alarm:
        return _Alarm(cast("DelayedCall", self._reactor.callLater(seconds, callback)))

    def slot(self) -> _Slot:
        return _Slot(self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> Task[T]:
        return Deferred.fromCoroutine(work)

    def dial(self, endpoint: str, wire: Wire) -> Line:
        return _Line(self._reactor, endpoint, wire, self)


async def connect(
    endpoints: Iterable[str],
    *,
    reactor: IReactorTime | None = None,
    connect_timeout: float = CONNECT_TIMEOUT,
    **options: Unpack[Options],
) -> Session:
    """Open a session with the cell that these members belong to; one that answers is enough.

    `timeout` is how many seconds the client may be silent before the cell ends the session. Raises NotServing after
    `connect_timeout` seconds, SessionEnded and its kinds if the cell refuses this client.
    """
    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = cast(IReactorTime, installed)
    return await open_session(TwistedDoor(reactor), endpoints, SystemRandom(), connect_timeout, options)
