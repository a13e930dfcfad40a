"""The door to asyncio: ``session = await aio.connect(["tcp:127.0.0.1:7420"], timeout=10)``.

Plain asyncio, any event loop, no Twisted. Endpoints: ``tcp:HOST:PORT`` and ``unix:PATH``, with colons inside a part
written ``\\:``. Names are resolved anew for every attempt.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Generator, Iterable
from random import SystemRandom
from typing import Any, Final, NamedTuple, Unpack

from .door import Alarm, Line, T, Task, Wire, lease_clock
from .live import CONNECT_TIMEOUT, Options, Session, open_session

_COLON: Final = re.compile(r"(?<!\\):")


class _Slot:
    """A future that is only ever set."""

    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def set(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def __await__(self) -> Generator[Any, Any, None]:
        return self._future.__await__()


class _Line(asyncio.Protocol):
    """One connection, from the attempt on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target, wire: Wire) -> None:
        self._wire = wire
        self._transport: asyncio.Transport | None = None
        self._dropped = False
        self._attempt = loop.create_task(self._open(loop, target))

    def write(self, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(content)

    def drop(self) -> None:
        self._dropped = True
        if self._transport is not None:
            self._transport.close()
        else:
            self._attempt.cancel()

    async def _open(self, loop: asyncio.AbstractEventLoop, target: Target) -> None:
        try:
            if target.path:
                await loop.create_unix_connection(lambda: self, target.path)
            else:
                await loop.create_connection(lambda: self, target.host, target.port)
        except (OSError, ValueError) as error:
            if not self._dropped:
                self._wire.disconnected(f"{target}: {error}")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._dropped:
            transport.abort()
        else:
            self._wire.connected()

    def data_received(self, content: bytes) -> None:
        if not self._dropped:
            self._wire.received(content)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._dropped:
            self._wire.disconnected(str(error) if error else "the member closed the connection")


class _Nowhere:
    """The line to an endpoint that makes no sense."""

    def write(self, content: bytes) -> None:
        pass

    def drop(self) -> None:
        pass


class AsyncioDoor:
    """Runs sessions and recipes in the running asyncio loop."""

    cancelled: type[BaseException] = asyncio.CancelledError

    def __init__(self, clock: Callable[[], float] = lease_clock) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = clock

    def soon(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon(callback)

    def later(self, seconds: float, callback: Callable[[], object]) -> Alarm:
        return self._loop.call_later(seconds, callback)

    def slot(self) -> _Slot:
        return _Slot(self._loop)

    def spawn(self, work: Coroutine[Any, Any, T]) -> Task[T]:
        return self._loop.create_task(work)

    def dial(self, endpoint: str, wire: Wire) -> Line:
        try:
            target = parse(endpoint)
        except ValueError as error:
            reason = str(error)
            self.soon(lambda: wire.disconnected(reason))
            return _Nowhere()
        return _Line(self._loop, target, wire)


class Target(NamedTuple):
    """Where an endpoint string points: host and port, or the path of a unix socket."""

    host: str
    port: int
    path: str

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def parse(endpoint: str) -> Target:
    """Read a client's endpoint string. Raises ValueError."""
    kind, *rest = (part.replace("\\:", ":") for part in _COLON.split(endpoint))
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    placed = [part for part in rest if "=" not in part]
    if kind == "unix":
        path = named.get("path") or "".join(placed[:1])
        if path:
            return Target("", 0, path)
    elif kind == "tcp":
        host = named.get("host") or "".join(placed[:1])
        port = named.get("port") or "".join(placed[1:2])
        if host and port.isdigit() and 0 < int(port) < 65536:
            return Target(host, int(port), "")
    raise ValueError(f"{endpoint!r} is no endpoint: write tcp:HOST:PORT or unix:PATH")


async def connect(
    endpoints: Iterable[str],
    *,
    connect_timeout: float = CONNECT_TIMEOUT,
    **options: Unpack[Options],
) -> Session:
    """Open a session with the cell that these members belong to; one that answers is enough.

    `timeout` is how many seconds the client may be silent before the cell ends the session. Raises NotServing after
    `connect_timeout` seconds, SessionEnded and its kinds if the cell refuses this client.
    """
    return await open_session(AsyncioDoor(), endpoints, SystemRandom(), connect_timeout, options)
