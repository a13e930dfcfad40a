"""A cell of one for tests of clients: the real machine host and the real frames on loopback, without consensus and
disks.

It lives in a thread of its own with an asyncio loop; what a test wants of it goes through :meth:`TinyCell.do`. It can
be made to fail in the ways that matter to a client: connections that break before or after a command is applied,
silence, sessions that expire.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import TypeVar

from quorate.kernel.catalog import Catalog
from quorate.kernel.host import MachineHost
from quorate.kernel.machine import Origin, SessionId, StateMachine
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.system import PLUGINS, SESSIONS, TIMERS
from quorate.kernel.wire import native, plain
from quorate.kernel.wire.batch import pack_batch, pack_chunk, pack_request, wrap_payload

T = TypeVar("T")
OWN = Origin(1, 1)
CELL = b"a tiny test cell"


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, cell: TinyCell) -> None:
        self.cell = cell
        self.buffer = bytearray()
        self.waiting: deque[native.Frame] = deque()
        self.session = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.cell.connections.append(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.cell.connections.remove(self)

    def data_received(self, content: bytes) -> None:
        self.buffer += content
        bodies, used = native.split(self.buffer)
        del self.buffer[:used]
        for body in bodies:
            frame = native.decode(body)
            self.cell.seen.append(frame)
            self.waiting.append(frame)
        self.serve()

    def serve(self) -> None:
        """Take what came, in order, unless the cell is silent: then it waits, as before a process that was stopped."""
        while self.waiting and not self.cell.silent and self in self.cell.connections:
            self.cell.take(self, self.waiting.popleft())

    def send(self, frame: native.Frame) -> None:
        assert self.transport is not None
        if not self.transport.is_closing():
            self.transport.write(native.encode(frame))

    def drop(self) -> None:
        assert self.transport is not None
        self.waiting.clear()
        self.transport.abort()


class TinyCell:
    """Start it with ``with``. `endpoint` is where clients connect."""

    def __init__(self, machines: Mapping[str, type[StateMachine]], cell: bytes = CELL) -> None:
        self.host = MachineHost(cell, Catalog(machines), OWN, Random)
        self.connections: list[Connection] = []
        self.seen: list[native.Frame] = []
        self.heard: dict[int, float] = {}
        self.silent = False
        self.expiring = True
        self.lose_before = self.lose_after = 0
        self.endpoint = ""
        self._cell = cell
        self._sequences: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._started = time.monotonic()
        self.host.configured(0, Configuration(0, (Member(1, Role.VOTER, ""),)))
        self._command(SESSIONS, "found", [b"0123456789abcdef"])
        self._command(PLUGINS, "announce", [1, {name: kind.version for name, kind in machines.items()}])
        for name in machines:
            self._command(PLUGINS, "load", [name, name])

    # --- for tests --------------------------------------------------------------------------------------------------

    def do(self, what: Callable[[], T]) -> T:
        """Run it in the cell's thread and return what it returned."""

        async def run() -> T:
            return what()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def drop_all(self) -> None:
        """Break every connection."""
        self.do(lambda: [each.drop() for each in list(self.connections)])

    def expire(self, session: int) -> None:
        """End a session as if nothing had been heard of it."""

        def judge() -> None:
            found = self.host.sessions[SessionId(session)]
            self._command(SESSIONS, "expire", [session, found.attachment, 1])

        self.do(judge)

    def machine(self, name: str) -> StateMachine:
        """The live machine; look at it inside :meth:`do`."""
        return self.host.machine(name)

    def listen(self) -> None:
        """Take connections, again at the same place if it did before."""
        port = int(self.endpoint.rpartition(":")[2]) if self.endpoint else 0

        async def start() -> None:
            self._server = await self._loop.create_server(lambda: Connection(self), "127.0.0.1", port)
            self.endpoint = f"tcp:127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

        asyncio.run_coroutine_threadsafe(start(), self._loop).result(10)

    def deafen(self) -> None:
        """Take no more connections and break those that are there."""

        def close() -> None:
            assert self._server is not None
            self._server.close()
            for each in list(self.connections):
                each.drop()

        self.do(close)

    def __enter__(self) -> TinyCell:
        self._thread.start()
        self.listen()
        self._loop.call_soon_threadsafe(self._tick)
        return self

    def __exit__(self, *_: object) -> None:
        self.deafen()
        self.do(lambda: None)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- the log ----------------------------------------------------------------------------------------------------

    def _command(self, machine: int, command: str, args: list[object]) -> object:
        return plain.decode(self._apply(machine, pack_request(command, args)))  # type: ignore[arg-type]

    def _apply(self, machine: int, body: bytes) -> bytes:
        self._sequences[machine] = self._sequences.get(machine, 0) + 1
        chunk = pack_chunk(machine, *OWN, self._sequences[machine], body)
        now = time.monotonic() - self._started
        applied = self.host.apply(
            self.host.slot + 1, pack_batch(round(now * 1000), round(time.time() * 1000), 1, [chunk])
        )
        for event in applied.events:
            for connection in self._of(event.session):
                connection.send(native.Event(event.event))
        for session, expired in applied.ended:
            for connection in self._of(session):
                connection.send(native.Ended(native.EndReason.EXPIRED if expired else native.EndReason.CLOSED))
                connection.session = 0
        (answer,) = applied.answers
        assert isinstance(answer.reply, bytes)
        return answer.reply

    def _of(self, session: int) -> list[Connection]:
        return [each for each in self.connections if each.session == session]

    def _tick(self) -> None:
        for connection in list(self.connections):
            connection.serve()
        now = time.monotonic()
        for machine, upto in self.host.due_timers(round((now - self._started) * 1000)):
            self._command(TIMERS, "fire", [machine, upto])
        for session, found in list(self.host.sessions.items()):
            if self.expiring and now - self.heard.setdefault(session, now) > found.timeout_ms / 1000:
                self._command(SESSIONS, "expire", [session, found.attachment, 1])
        self._loop.call_later(0.005, self._tick)

    # --- the protocol -----------------------------------------------------------------------------------------------

    def take(self, connection: Connection, frame: native.Frame) -> None:
        """Serve one frame."""
        self.heard[connection.session] = time.monotonic()
        match frame:
            case native.Hello():
                members = (native.Member(1, self.endpoint),)
                connection.send(native.Welcome(1, self._cell, 1, 1, members, 1 << 20, 256, 100, 60_000))
            case native.Open(timeout_ms):
                _, session = self._command(SESSIONS, "open", [timeout_ms, "native", *OWN])  # type: ignore[misc]
                self._attached(connection, session, 0)
            case native.Attach(session, password, last_event):
                known = session in self.host.sessions and self.host.password(SessionId(session)) == password
                if known:
                    self._command(SESSIONS, "attach", [session, *OWN])
                    self._attached(connection, session, last_event)
                else:
                    connection.send(native.Ended(native.EndReason.UNKNOWN))
            case native.Request():
                self._requested(connection, frame)
            case native.Query():
                reply = self.host.query(frame.machine, frame.payload)
                connection.send(native.QueryReply(frame.id, self.host.slot, reply))
            case native.KeepAlive(stamp, acknowledged, events):
                self._command(SESSIONS, "acknowledge", [[[connection.session, events, acknowledged]]])
                if connection.session:
                    timeout = self.host.sessions[SessionId(connection.session)].timeout_ms
                    connection.send(native.Kept(stamp, timeout))
            case native.Status(ident):
                connection.send(native.StatusReply(ident, plain.encode({"member": 1})))
            case native.Close():
                self._command(SESSIONS, "close", [connection.session])

    def _attached(self, connection: Connection, session: int, last_event: int) -> None:
        for other in self._of(session):
            other.session = 0
        connection.session = session
        self.heard[session] = time.monotonic()
        found = self.host.sessions[SessionId(session)]
        connection.send(native.Opened(session, self.host.password(SessionId(session)), found.timeout_ms))
        for event in found.events_after(last_event):
            connection.send(native.Event(event.event))

    def _requested(self, connection: Connection, frame: native.Request) -> None:
        if self.lose_before:
            self.lose_before -= 1
            connection.drop()
            return
        session = connection.session
        body = wrap_payload(
            frame.payload,
            session=session,
            number=frame.number,
            acknowledged=frame.acknowledged,
            events_acknowledged=frame.events_acknowledged,
            identities=["ip:127.0.0.1"],
        )
        reply = self._apply(self.host.machine_number(frame.machine), body)
        if self.lose_after:
            self.lose_after -= 1
            connection.drop()
            return
        found = self.host.sessions.get(SessionId(session))
        connection.send(native.Reply(frame.number, found.last_event if found else 0, reply))
