"""Calling: a connect on the reactor, without waiting, that ends in a socket for a :class:`.lean.LeanConnection`."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from .endpoints import Endpoint, calling

if TYPE_CHECKING:
    from .lean import Reactor

TIMEOUT: Final = 2.0


@implementer(IWriteDescriptor)
class Dial:
    """One attempt to connect to `endpoint`. Exactly one of `connected` (with the socket) and `failed` is called, from a
    later turn; neither after :meth:`cancel`."""

    def __init__(
        self,
        reactor: Reactor,
        endpoint: str,
        connected: Callable[[socket.socket], None],
        failed: Callable[[Exception], None],
        timeout: float = TIMEOUT,
    ) -> None:
        self._reactor = reactor
        self._connected = connected
        self._failed = failed
        self._sock: socket.socket | None = None
        self._done = False
        self._timeout = reactor.callLater(timeout, self._fail, TimeoutError(f"{endpoint} does not answer"))
        self._endpoint = calling(endpoint)
        host = self._endpoint.host
        if self._endpoint.family == socket.AF_UNIX or isIPAddress(host) or isIPv6Address(host):
            # Not in this turn: a socket that takes a number just given up would get what happened to the one before.
            reactor.callLater(0, self._connect, self._endpoint)
        else:
            reactor.resolve(host).addCallbacks(
                lambda address: self._connect(self._endpoint._replace(host=address)),
                lambda failure: self._fail(OSError(str(failure.value))),
            )

    def cancel(self) -> None:
        """Give up; nobody is told."""
        if not self._done:
            self._end()

    def _connect(self, endpoint: Endpoint) -> None:
        if self._done:
            return
        try:
            sock = self._sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        except OSError as error:
            self._reactor.callLater(0, self._fail, error)
            return
        sock.setblocking(False)
        code = sock.connect_ex(endpoint.address)
        if code in (0, errno.EINPROGRESS, errno.EAGAIN):
            self._reactor.addWriter(self)
        else:
            self._reactor.callLater(0, self._fail, OSError(code, os.strerror(code)))

    def _fail(self, error: Exception) -> None:
        if not self._done:
            self._end()
            self._failed(error)

    def _end(self) -> None:
        self._done = True
        if self._timeout.active():
            self._timeout.cancel()
        if self._sock is not None:
            self._reactor.removeWriter(self)
            self._sock.close()
            self._sock = None

    # ---------------------------------------------------------------- the reactor's side

    def fileno(self) -> int:
        return -1 if self._sock is None else self._sock.fileno()

    def logPrefix(self) -> str:
        return "Dial"

    def doWrite(self) -> None:
        assert self._sock is not None
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(OSError(code, os.strerror(code)))
            return
        sock, self._sock = self._sock, None
        self._reactor.removeWriter(self)  # by the descriptor it knows it under: the socket stays open
        self._end()
        self._connected(sock)

    def connectionLost(self, reason: Failure) -> None:
        code = errno.ECONNREFUSED if self._sock is None else self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._fail(OSError(code, os.strerror(code)) if code else OSError(str(reason.value)))
