"""Connections for hot paths: a socket on the reactor, without a transport and protocol in between.

:class:`LeanConnection` is a reader and writer of the reactor itself. One readable event is one ``recv`` and one call
of ``received`` with everything that was there; parse every frame in it. One ``send`` is one ``send`` of the socket,
tried at once; only what the socket does not take is kept and written when it can be. An ordinary Twisted transport
defers each write to a later turn and asks the kernel twice a write whether it may.

To use it, subclass, override ``received`` and ``lost``, and ``start()``::

    class Echo(LeanConnection):
        __slots__ = ()

        def received(self, content):
            self.send(content)

    LeanListener(reactor, "tcp:2181:interface=127.0.0.1", lambda sock, address: Echo(reactor, sock).start())

Rules:

* ``received`` is never called after ``close`` or after ``lost``.
* ``lost`` is called once, for whatever ends the connection other than your own ``close``, and never from within
  one of your calls.
* What is sent and not taken by the peer is bounded: beyond ``output_limit`` the connection is dropped
  (:class:`Overflow`).
* A peer that shuts down its sending side has what was answered flushed and is then closed. What is owed to a peer at
  the end goes out as long as it takes some of it every ``LINGER_SECONDS``; then it is dropped.

Knows no framing and no protocol. Every reactor with descriptors serves; TLS goes through the ordinary transport.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor, IWriteDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from zope.interface import implementer

from .endpoints import Endpoint, listening

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IDelayedCall,
        IReactorCore,
        IReactorFDSet,
        IReactorPluggableNameResolver,
        IReactorTime,
    )

    class Reactor(IReactorCore, IReactorFDSet, IReactorTime, IReactorPluggableNameResolver):
        """What lean connections and those who make them ask of a reactor."""


OUTPUT_LIMIT: Final = 16 << 20
"""Bytes kept for a peer that does not read, unless told otherwise."""

RESERVED: Final = 64
"""Descriptors that callers from outside leave to the journal, the snapshots and the links to the peers."""

_RECEIVE: Final = bytearray(256 << 10)
_RECEIVED: Final = memoryview(_RECEIVE)
"""All connections read into this one buffer: there is one reactor thread, and what is handed on is a copy."""

_ACCEPTS: Final = 64
_PAUSE: Final = 0.1
_BUFFERS: Final = 512

LINGER_SECONDS: Final = 10.0
"""An ended connection is kept for what the peer is owed as long as the peer takes some of it in each such time."""


class Overflow(Exception):
    """The peer does not read what it is sent; the connection is dropped."""


@implementer(IReadDescriptor, IWriteDescriptor, IHalfCloseableDescriptor)
class LeanConnection:
    """One connected, non-blocking socket on `reactor`; see the module's docstring.

    Attributes:
        bytes_in, bytes_out: counted since the beginning, as handed on and as taken by the socket.
        pending: bytes kept because the socket did not take them.
        closed: no more comes and none can be sent.
    """

    __slots__ = (
        "__weakref__", "_closing", "_fd", "_lingering", "_out", "_output_limit", "_peer_done", "_reading", "_writing",
        "bytes_in", "bytes_out", "closed", "pending", "reactor", "sock",
    )  # fmt: skip

    def __init__(self, reactor: Reactor, sock: socket.socket, *, output_limit: int = OUTPUT_LIMIT) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reactor = reactor
        self.sock = sock
        self.closed = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.pending = 0
        self._fd = sock.fileno()
        self._out: deque[memoryview | bytes] = deque()
        self._output_limit = output_limit
        self._reading = False
        self._writing = False
        self._closing = False
        self._peer_done = False
        self._lingering: IDelayedCall | None = None

    # ---------------------------------------------------------------- to override

    def received(self, content: bytes) -> None:
        """Bytes arrived: everything one recv gave."""
        raise NotImplementedError

    def lost(self, reason: Exception) -> None:
        """The connection ended without your doing."""

    def drained(self) -> None:
        """What was kept for a slow peer has gone out."""

    # ---------------------------------------------------------------- to call

    def start(self) -> None:
        """Begin to read. Raises OSError where the system has no room to watch one descriptor more."""
        if not self._reading and not self.closed and not self._closing:
            self.reactor.addReader(self)
            self._reading = True

    def pause(self) -> None:
        """Read no further for now: the kernel's buffers fill and the peer waits."""
        if self._reading:
            self._reading = False
            self.reactor.removeReader(self)

    def resume(self) -> None:
        """Read on. Where there is no room for that any more the connection is lost, and nothing else: whoever calls has
        others to see to."""
        try:
            self.start()
        except OSError as error:
            self._break(ConnectionLost(str(error)))

    def send(self, piece: bytes) -> None:
        """Send one piece now, or keep what the socket does not take."""
        if self._out:
            self._keep(piece)
            return
        if self.closed:
            return
        try:
            sent = self.sock.send(piece)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._break(ConnectionLost(str(error)))
            return
        self.bytes_out += sent
        if sent < len(piece):
            self._keep(memoryview(piece)[sent:] if sent else piece)

    def send_all(self, pieces: Sequence[bytes]) -> None:
        """Send several pieces in one call of the kernel, without joining them."""
        if len(pieces) == 1:
            self.send(pieces[0])
            return
        if self._out or len(pieces) > _BUFFERS:
            self.send(b"".join(pieces))
            return
        if self.closed:
            return
        try:
            sent = self.sock.sendmsg(pieces)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._break(ConnectionLost(str(error)))
            return
        self.bytes_out += sent
        for piece in pieces:
            if sent >= len(piece):
                sent -= len(piece)
            else:
                self._keep(memoryview(piece)[sent:] if sent else piece)
                sent = 0

    def close(self, after_flush: bool = False) -> None:
        """End the connection; `after_flush`: read no more, but let what is kept go out first, as long as the peer takes
        it. ``lost`` is not called for it."""
        if self.closed:
            return
        if after_flush and self._out:
            self.pause()
            self._linger()
        else:
            self._release()

    # ---------------------------------------------------------------- the reactor's side

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return type(self).__name__

    def doRead(self) -> Exception | None:  # type: ignore[override] # the reactor wants the exception itself
        try:
            size = self.sock.recv_into(_RECEIVE)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            return ConnectionLost(str(error))
        if not size:
            return CONNECTION_DONE
        self.bytes_in += size
        self.received(_RECEIVED[:size].tobytes())
        return None

    def doWrite(self) -> Exception | None:  # type: ignore[override] # likewise
        out = self._out
        while out:
            piece = out[0]
            try:
                sent = self.sock.send(piece)
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                return ConnectionLost(str(error))
            self.bytes_out += sent
            self.pending -= sent
            if sent < len(piece):
                out[0] = memoryview(piece)[sent:]
                return None
            out.popleft()
        self._writing = False
        self.reactor.removeWriter(self)
        if not self._closing:
            self.drained()
            return None
        self._release()
        if self._peer_done:
            self.lost(ConnectionDone())
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """The peer sends no more: give it what it is owed, then end."""
        self._reading = False
        if self._out:
            self._peer_done = True
            self._linger()
        else:
            self.connectionLost(reason)

    def writeConnectionLost(self, reason: Failure) -> None:
        self.connectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        if not self.closed:
            self._release()
            self.lost(reason.value if isinstance(reason.value, Exception) else ConnectionDone())

    # ---------------------------------------------------------------- inside

    def _keep(self, piece: bytes | memoryview) -> None:
        if self.closed:
            return
        self._out.append(piece)
        self.pending += len(piece)
        if self.pending > self._output_limit:
            self._break(Overflow(f"{self.pending} bytes wait for a peer that does not read"))
        elif not self._writing:
            try:
                self.reactor.addWriter(self)
                self._writing = True
            except OSError as error:
                self._break(ConnectionLost(str(error)))

    def _linger(self) -> None:
        """The connection has ended but for what is kept: that goes out while the peer takes it."""
        self._closing = True
        if self._lingering is None:
            self._lingering = self.reactor.callLater(LINGER_SECONDS, self._lingered, self.bytes_out)

    def _lingered(self, bytes_out: int) -> None:
        self._lingering = None
        if self.bytes_out > bytes_out:
            self._linger()
        elif self._peer_done:
            self._break(Overflow(f"{self.pending} bytes wait for a peer that has gone"))
        else:
            self._release()

    def _break(self, reason: Exception) -> None:
        """Something found during a send: stop at once, tell `lost` from a turn of its own."""
        self._release()
        self.reactor.callLater(0, self.lost, reason)

    def _release(self) -> None:
        self.closed = True
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._reading:
            self._reading = False
            self.reactor.removeReader(self)
        if self._writing:
            self._writing = False
            self.reactor.removeWriter(self)
        self._out.clear()
        self.pending = 0
        self._fd = -1
        self.sock.close()


class Accepted(Protocol):
    """Takes over a fresh connection: its non-blocking socket and the peer's address as the socket module gives it."""

    def __call__(self, sock: socket.socket, address: object) -> None: ...


@implementer(IReadDescriptor)
class LeanListener:
    """Accepts connections on an endpoint string, several a turn.

    Listens from the moment it is made (raises OSError if the address is taken). When the process has no descriptors
    left but the last `reserve` (half of them, if it may have so few) it turns new connections away. When it has none
    at all it does so without spinning, with one descriptor kept for that.
    """

    def __init__(
        self, reactor: Reactor, endpoint: str, accepted: Accepted, *, backlog: int = 1024, reserve: int = 0
    ) -> None:
        self._reactor = reactor
        self._accepted = accepted
        self._kept = reserve
        self.endpoint: Endpoint = listening(endpoint)
        self.turned_away = 0
        """Connections refused for want of descriptors, or of other room in the system."""
        self._sock = socket.socket(self.endpoint.family, socket.SOCK_STREAM)
        try:
            self._bind(backlog)
        except OSError:
            self._sock.close()
            raise
        self._fd = self._sock.fileno()
        self._reserve: int | None = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._pausing: IDelayedCall | None = None
        reactor.addReader(self)

    def _bind(self, backlog: int) -> None:
        if self.endpoint.family == socket.AF_UNIX:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.endpoint.host)
        else:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.setblocking(False)
        self._sock.bind(self.endpoint.address)
        self._sock.listen(backlog)
        if self.endpoint.family != socket.AF_UNIX:
            self.endpoint = self.endpoint._replace(port=self._sock.getsockname()[1])

    def port(self) -> int:
        """The port it is bound to; 0 for a unix socket."""
        return self.endpoint.port

    def stop(self) -> None:
        """Accept no more. Connections made so far are their owners'."""
        if self._fd < 0:
            return
        if self._pausing is not None:
            self._pausing.cancel()
            self._pausing = None
        else:
            self._reactor.removeReader(self)
        self._fd = -1
        self._sock.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
        if self.endpoint.family == socket.AF_UNIX:
            with contextlib.suppress(OSError):
                os.unlink(self.endpoint.host)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "LeanListener"

    def doRead(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        ceiling = limit - min(self._kept, limit // 2)
        for _ in range(_ACCEPTS):
            if self._fd < 0:
                return
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._turn_away()
                    return
                if error.errno in (errno.ECONNABORTED, errno.EPERM, errno.EPROTO):
                    continue
                raise
            if sock.fileno() >= ceiling:  # the kernel gives the lowest number that is free
                sock.close()
                self.turned_away += 1
                continue
            try:
                self._accepted(sock, address)
            except OSError:  # the system has no room for it, or it has ended already: no reason to end ourselves
                sock.close()
                self.turned_away += 1

    def connectionLost(self, reason: Failure) -> None:
        self.stop()

    def _turn_away(self) -> None:
        """Out of descriptors: use the reserve to refuse one caller, then look again a little later."""
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            with contextlib.suppress(OSError):
                self._sock.accept()[0].close()
                self.turned_away += 1
        with contextlib.suppress(OSError):
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._reactor.removeReader(self)
        self._pausing = self._reactor.callLater(_PAUSE, self._look_again)

    def _look_again(self) -> None:
        self._pausing = None
        self._reactor.addReader(self)
