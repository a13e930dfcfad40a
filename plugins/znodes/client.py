"""A small client of ZooKeeper's protocol for tools: it talks to this project's port and to the original alike, keeps
as many requests on their way as it is given, and knows no watches.

Applications take kazoo or another stock client; what this one is for is reading and writing whole trees.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Final, NamedTuple

from . import codec, jute
from .codec import INT, STAT, ustring
from .protocol import ANY_VERSION, Op, Xid
from .protocol import Err as Err

OPEN_ACL: Final = codec.OPEN_ACL
"""Anybody may do anything."""
OWN_ACL: Final = b"\0\0\0\1\0\0\0\x1f\0\0\0\4auth\0\0\0\0"
"""Those who made the node, as they have authenticated, may do anything."""
SILENCE_MS: Final = 30_000
"""The session's time-out that is asked for."""

_HEAD: Final = Struct(">iqi")


class Lost(ConnectionError):
    """The connection ended, or could not be made: what was on its way may or may not have happened."""


class Refusal(Exception):
    """The server answered with an error. `err` is its number: one of :class:`.protocol.Err`, or an unknown one."""

    def __init__(self, err: int, path: bytes) -> None:
        known = next((each.name for each in Err if each == err), f"error {err}")
        super().__init__(f"{path.decode(errors='replace')}: {known.lower().replace('_', ' ')}")
        self.err = err
        self.path = path


class Stat(NamedTuple):
    """What the server tells of a node besides its value."""

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    length: int
    children: int
    pzxid: int


class Client:
    """One connection with a session of its own. Made by :meth:`connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: deque[tuple[int, bytes, asyncio.Future[bytes]]] = deque()
        self._xid = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._lost: Lost | None = None

    @classmethod
    async def connect(cls, hosts: Sequence[str], auth: Iterable[tuple[bytes, bytes]] = ()) -> Client:
        """A session with the first of `hosts` ("host:port") that gives one, authenticated by each (scheme, secret) of
        `auth`. Raises Lost if none does, Refusal if an authentication fails."""
        reasons = []
        for each in hosts:
            host, _, port = each.rpartition(":")
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(host.strip("[]"), int(port)), 10)
                client = cls(reader, writer)
                try:
                    await asyncio.wait_for(client._greet(), 10)
                    client._tasks = [asyncio.create_task(client._read()), asyncio.create_task(client._keep_alive())]
                    for scheme, secret in auth:
                        packet = jute.Auth.build({"type": 0, "scheme": scheme, "auth": secret})
                        await client.call(Op.AUTH, packet, scheme, xid=Xid.AUTH)
                except BaseException:
                    await client._end(Lost("given up"))
                    raise
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                reasons.append(f"{each}: {error or type(error).__name__}")
            else:
                return client
        raise Lost("; ".join(reasons) or "no server was named")

    async def _greet(self) -> None:
        request = {"protocol": 0, "last_zxid": 0, "timeout": SILENCE_MS, "session": 0, "password": bytes(16)}
        body = jute.ConnectRequest.build({**request, "read_only": False})
        self._writer.write(len(body).to_bytes(4, "big") + body)
        answer = await self._frame()
        if not any(answer[8:16]):
            raise Lost("no session was given")

    async def close(self) -> None:
        """End the session."""
        with contextlib.suppress(Lost):
            await self.call(Op.CLOSE_SESSION, b"", b"")
        await self._end(Lost("closed"))

    async def _end(self, reason: Lost) -> None:
        self._fail(reason)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    # ------------------------------------------------------------ requests

    def call(self, op: int, body: bytes, path: bytes, *, xid: int | None = None) -> asyncio.Future[bytes]:
        """Send a request; the body of its reply. The future raises Refusal, which names `path`, or Lost."""
        found: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._lost is not None:
            found.set_exception(self._lost)
            return found
        if xid is None:
            self._xid = xid = self._xid % 0x7FFFFFFF + 1
        self._waiting.append((xid, path, found))
        self._writer.write(codec.REQUEST.pack(8 + len(body), xid, op) + body)
        return found

    async def value(self, path: bytes) -> tuple[bytes | None, Stat]:
        """A node's value."""
        body = await self.call(Op.GET_DATA, ustring(path) + b"\0", path)
        length = INT.unpack_from(body)[0]
        stat = Stat(*STAT.unpack_from(body, len(body) - STAT.size))
        return (None if length < 0 else body[4 : 4 + length]), stat

    async def acl(self, path: bytes) -> bytes:
        """A node's access control list, as the bytes of its vector."""
        return (await self.call(Op.GET_ACL, ustring(path), path))[: -STAT.size]

    async def children(self, path: bytes) -> list[bytes]:
        """The names of a node's children."""
        found = jute.Children2Reply.parse(await self.call(Op.GET_CHILDREN2, ustring(path) + b"\0", path))
        return list(found.children or ())

    async def create(self, path: bytes, value: bytes | None, acl: bytes = codec.OPEN_ACL) -> None:
        """Make a persistent node."""
        await self.call(Op.CREATE, ustring(path) + _buffer(value) + acl + INT.pack(0), path)

    async def put(self, path: bytes, value: bytes | None) -> None:
        """Give a node another value."""
        await self.call(Op.SET_DATA, ustring(path) + _buffer(value) + INT.pack(ANY_VERSION), path)

    async def set_acl(self, path: bytes, acl: bytes) -> None:
        """Give a node another access control list."""
        await self.call(Op.SET_ACL, ustring(path) + acl + INT.pack(ANY_VERSION), path)

    async def delete(self, path: bytes) -> None:
        """Delete a node."""
        await self.call(Op.DELETE, ustring(path) + INT.pack(ANY_VERSION), path)

    async def count_up(self, path: bytes, times: int) -> None:
        """Advance the number that the next sequential child of a node gets: make and delete a child so often."""
        child = path.rstrip(b"/") + b"/quorate-counts"
        make = codec.MULTI_HEADER.pack(Op.CREATE, False, -1) + ustring(child) + _buffer(b"") + codec.OPEN_ACL
        drop = codec.MULTI_HEADER.pack(Op.DELETE, False, -1) + ustring(child) + INT.pack(ANY_VERSION)
        answer = await self.call(Op.MULTI, (make + INT.pack(0) + drop) * times + codec.MULTI_END, path)
        if codec.MULTI_HEADER.unpack_from(answer)[0] == Op.ERROR:  # then every result is one: zero before the culprit
            size = codec.MULTI_HEADER.size + INT.size
            codes = (INT.unpack_from(answer, at - INT.size)[0] for at in range(size, len(answer), size))
            raise Refusal(next(code for code in codes if code), path)

    async def drain(self) -> None:
        """Wait until the connection takes more."""
        try:
            await self._writer.drain()
        except OSError as error:
            raise Lost(str(error)) from None

    # ------------------------------------------------------------ replies

    async def _frame(self) -> bytes:
        return await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4), "big"))

    async def _read(self) -> None:
        try:
            while True:
                frame = await self._frame()
                xid, _zxid, err = _HEAD.unpack_from(frame)
                if xid in (Xid.PING, Xid.NOTIFICATION):
                    continue
                expected, path, found = self._waiting.popleft()
                if xid != expected:
                    raise Lost(f"reply {xid} where {expected} was due")
                if found.cancelled():
                    continue
                if err:
                    found.set_exception(Refusal(err, path))
                else:
                    found.set_result(frame[16:])
        except (OSError, EOFError, IndexError, StructError) as error:
            self._fail(error if isinstance(error, Lost) else Lost(str(error) or "the server ended the connection"))

    def _fail(self, reason: Lost) -> None:
        self._lost = self._lost or reason
        while self._waiting:
            _xid, _path, found = self._waiting.popleft()
            if not found.done():
                found.set_exception(reason)

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_MS / 3000)
            self._writer.write(codec.REQUEST.pack(8, Xid.PING, Op.PING))


def _buffer(value: bytes | None) -> bytes:
    return INT.pack(-1) if value is None else ustring(value)
