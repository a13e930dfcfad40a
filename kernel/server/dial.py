"""Calling: a connect on the reactor, without waiting, that ends in a socket for a :class:`.lean.LeanConnection`.

A name may have several addresses, of both families; they are tried in the order in which the resolver gives them, each
for its share of the time.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver, IWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from .endpoints import Endpoint, calling

if TYPE_CHECKING:
    from .lean import Reactor

TIMEOUT: Final = 2.0


@implementer(IWriteDescriptor, IResolutionReceiver)
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
        self._patience = timeout
        self._timeout = reactor.callLater(timeout, self._late)
        self._endpoint = found = calling(endpoint)
        self._left: deque[Endpoint] = deque()
        """What is still to be tried."""
        if found.family == socket.AF_UNIX or isIPAddress(found.host) or isIPv6Address(found.host):
            self._left.append(found)
            self._connect_later()
        else:
            reactor.nameResolver.resolveHostName(self, found.host, found.port)

    def cancel(self) -> None:
        """Give up; nobody is told."""
        if not self._done:
            self._end()

    # ---------------------------------------------------------------- the resolver's side

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """It tells when it ends."""

    def addressResolved(self, address: IAddress) -> None:
        family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
        self._left.append(self._endpoint._replace(family=family, host=address.host))  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:
        if self._done:
            return
        if self._left:
            self._patience /= len(self._left)
            self._timeout.reset(self._patience)
            self._connect_later()
        else:
            self._reactor.callLater(0, self._fail, OSError(f"no address of {self._endpoint.host} is known"))

    # ---------------------------------------------------------------- inside

    def _connect_later(self) -> None:
        """Not in this turn: a socket that takes a number just given up would get what happened to the one before."""
        self._reactor.callLater(0, self._connect)

    def _connect(self) -> None:
        if self._done:
            return
        endpoint = self._left.popleft()
        try:
            self._sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
            self._sock.setblocking(False)
            code = self._sock.connect_ex(endpoint.address)
            if code not in (0, errno.EINPROGRESS, errno.EAGAIN):
                raise OSError(code, os.strerror(code))
            self._reactor.addWriter(self)
        except OSError as error:
            self._missed(error)

    def _late(self) -> None:
        self._timeout = self._reactor.callLater(self._patience, self._late)
        if self._sock is not None or not self._left:  # else the next is about to be tried
            self._missed(TimeoutError(f"{self._endpoint.client_string()} does not answer"))

    def _missed(self, error: OSError) -> None:
        """Nobody answers there; elsewhere?"""
        self._close()
        if self._left:
            self._connect_later()
        else:
            self._reactor.callLater(0, self._fail, error)

    def _fail(self, error: Exception) -> None:
        if not self._done:
            self._end()
            self._failed(error)

    def _end(self) -> None:
        self._done = True
        if self._timeout.active():
            self._timeout.cancel()
        self._close()

    def _close(self) -> None:
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
            self._missed(OSError(code, os.strerror(code)))
            return
        sock, self._sock = self._sock, None
        self._reactor.removeWriter(self)  # by the descriptor it knows it under: the socket stays open
        self._end()
        self._connected(sock)

    def connectionLost(self, reason: Failure) -> None:
        code = errno.ECONNREFUSED if self._sock is None else self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._missed(OSError(code, os.strerror(code)) if code else OSError(str(reason.value)))
