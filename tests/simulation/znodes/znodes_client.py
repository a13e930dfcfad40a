"""A ZooKeeper client on a simulated machine: raw frames, random requests, and everything it asks and hears kept.

It does what client libraries do: pings when it has been idle, looks for another replica after silence, takes its
session and its watches along, with the newest transaction it has seen, and opens a new session when the old one is
gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from quorate.kernel.testing.clock import Clock
from quorate.kernel.testing.door import SimulatedDoor, Slot
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.paths import CONFIG
from quorate.plugins.znodes.protocol import Err, Op, WatchMode, Xid
from reference import records
from reference.asking import Ask, Asker
from reference.client import WRITES
from reference.judge import Line, Violation
from znodes_place import SCHEME

if TYPE_CHECKING:
    from quorate.kernel.testing.door import Connection
    from znodes_run import ZnodesRun

WATCHING = {Op.GET_DATA: "changed", Op.EXISTS: "changed", Op.GET_CHILDREN: "children", Op.GET_CHILDREN2: "children"}


class ZkClient:
    """One client's process. `place` is where it is in the network; `timeout` of its sessions in seconds."""

    def __init__(self, run: ZnodesRun, place: int, clock: Clock, timeout: float) -> None:
        self.run = run
        self.place = place
        self.timeout = timeout
        self.random = run.world.random(f"zookeeper client {place}")
        self.door = SimulatedDoor(run.world, place, clock, self._failed)
        self.asker = Asker(self.random, odd=0.01)
        self.failure: Exception | None = None
        self.stopping = False
        self.session = 0
        self.password = bytes(16)
        self.granted = timeout
        self.seen = 0
        self.watched: dict[str, set[bytes]] = {}
        self.line: Line | None = None
        self.done = 0
        """Requests that were answered."""
        self.waiting = 0
        """Requests that are not answered yet."""
        self.heard_at = 0.0
        self._xid = 0
        self._connection: Connection | None = None
        self._buffer = b""
        self._slot: Slot | None = None
        self._asks: list[tuple[int, Ask]] = []
        self._said_at = 0.0
        self._member = 0  # where it was last; another is tried next
        self._floors: dict[int, int] = {}  # by the number of a sync: what it must at least show
        self._forget_watches()

    # ---------------------------------------------------------------- life

    async def work(self, pause: float) -> None:
        """Ask for things until told to stop."""
        while not self.stopping:
            if self.line is None and not await self._connect():
                await self.door.sleep(self.random.uniform(0.05, 0.4))
                continue
            chance = self.random.random()
            if chance < 0.01:
                self._leave()
                continue
            if chance < 0.02:
                self._say([Ask(Op.CLOSE_SESSION, b"")])
            elif self.waiting < 40:
                self._say(self._requests())
            await self.door.sleep(self.random.expovariate(1 / pause))
            self._look()

    async def idle(self) -> None:
        """Only keep the session."""
        while not self.stopping:
            if self.line is None and not await self._connect():
                await self.door.sleep(0.1)
                continue
            await self.door.sleep(self.granted / 10)
            self._look()

    def stop(self) -> None:
        """No more requests."""
        self.stopping = True

    def finish(self) -> None:
        """The run is over."""

    def end(self) -> None:
        """The process is killed."""
        self.door.kill()
        if self.line is not None:
            self.line.ended = True

    def _failed(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
        raise error

    # ---------------------------------------------------------------- connecting

    async def _connect(self) -> bool:
        """Try one replica; whether there is a session now."""
        members = sorted(self.run.world.processes.keys() - {self._member}) or [self._member]
        self._member = self.random.choice(members)
        self._buffer = b""
        self._asks.clear()
        self.waiting = 0
        self._slot = slot = self.door.slot()
        self._connection = self.door.dial(f"{SCHEME}:{self._member}", _Ears(self))
        alarm = self.door.later(self.granted / 3, slot.set)
        await slot
        alarm.cancel()
        self._slot = None
        if self.line is None:
            self._hang_up()
            return False
        if any(self.watched.values()):
            self._watch_again()
        return True

    def _greet(self) -> None:
        request = jute.ConnectRequest.build(
            {
                "protocol": 0,
                "last_zxid": self.seen,
                "timeout": int(self.timeout * 1000),
                "session": self.session,
                "password": self.password,
                "read_only": False,
            }
        )
        self._write(len(request).to_bytes(4, "big") + request)

    def _welcomed(self, frame: bytes) -> None:
        timeout, session = int.from_bytes(frame[8:12], "big"), int.from_bytes(frame[12:20], "big")
        if not session:
            self.session, self.password = 0, bytes(16)
            self._forget_watches()
        else:
            if session != self.session:
                self.run.opened(session, timeout)
            self.session, self.password, self.granted = session, frame[24:40], timeout / 1000
            self.line = self.run.new_line(self)
            self.heard_at = self.door.now()
        if self._slot is not None:
            self._slot.set()

    def _watch_again(self) -> None:
        """Set the watches again on the new connection, as client libraries do."""
        watched = {kind: sorted(paths) for kind, paths in self.watched.items()} | {"zxid": self.seen}
        self._forget_watches(keep=True)
        self._say([Ask(Op.SET_WATCHES2, jute.SetWatches2.build(watched))])

    def _forget_watches(self, keep: bool = False) -> None:
        if not keep:
            kinds = ("changed", "exists", "children", "persistent", "recursive")
            self.watched = {kind: set() for kind in kinds}

    def _leave(self) -> None:
        """The connection is over, as far as this client is concerned."""
        if self.line is not None:
            self.line.ended = True
            self.line = None
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.drop()
            self._connection = None

    # ---------------------------------------------------------------- talking

    def _requests(self) -> list[Ask]:
        random = self.random
        asks = [
            self.asker.write() if random.random() < self.run.writes else self.asker.read()
            for _ in range(random.choice((1, 1, 2, 4)))
        ]
        if random.random() < 0.05:
            asks.append(Ask(Op.GET_DATA, jute.PathWatch.build({"path": CONFIG, "watch": random.random() < 0.7})))
        if random.random() < 0.1:
            asks.insert(0, Ask(Op.SYNC, jute.PathOnly.build({"path": b"/"})))
        return asks

    def _say(self, asks: list[Ask]) -> None:
        stream = b""
        for ask in asks:
            if ask.op == Op.PING:
                xid = int(Xid.PING)
            elif ask.op == Op.SET_WATCHES2:
                xid = int(Xid.SET_WATCHES)
            else:
                self._xid += 1
                xid = self._xid
            if ask.op != Op.PING:
                assert self.line is not None
                self.line.asked.append((xid, ask))
                self._asks.append((xid, ask))
                self.waiting += 1
            if ask.op == Op.SYNC:
                self._floors[xid] = self.run.newest
            content = xid.to_bytes(4, "big", signed=True) + int(ask.op).to_bytes(4, "big", signed=True) + ask.body
            stream += len(content).to_bytes(4, "big") + content
        self._said_at = self.door.now()
        self._write(stream)

    def _write(self, content: bytes) -> None:
        if self._connection is not None:
            self._connection.write(content)

    def _look(self) -> None:
        """Ping when idle; go elsewhere after silence."""
        if self.line is None:
            return
        now = self.door.now()
        if now - self.heard_at > 2 / 3 * self.granted:
            self._leave()
        elif now - self._said_at > self.granted / 3:
            self._say([Ask(Op.PING, b"")])

    # ---------------------------------------------------------------- hearing

    def heard(self, content: bytes) -> None:
        """Bytes of the replica."""
        self._buffer += content
        while len(self._buffer) >= 4:
            size = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < size:
                return
            frame, self._buffer = self._buffer[:size], self._buffer[size:]
            if self.line is None:
                self._welcomed(frame)
                if self.line is None:
                    return
            else:
                self._frame(frame)

    def _frame(self, frame: bytes) -> None:
        assert self.line is not None
        self.heard_at = self.door.now()
        self.line.hear(frame)
        xid = int.from_bytes(frame[4:8], "big", signed=True)
        if xid == Xid.NOTIFICATION:
            path = records.notice(frame).path.encode()
            for kind in ("changed", "exists", "children"):
                self.watched[kind].discard(path)
            return
        if xid == Xid.PING:
            return
        zxid = int.from_bytes(frame[8:16], "big", signed=True)
        self.seen = max(self.seen, zxid)
        self.waiting -= 1
        self.done += 1
        self.run.history.outcomes["done"] += 1
        xid, ask = self._asks.pop(0)
        if ask.op in WRITES:
            self.run.newest = max(self.run.newest, zxid)
        elif ask.op == Op.SYNC and zxid < self._floors.pop(xid):
            raise Violation("sync", f"client {self.place}, request {xid}: shows {zxid}, and newer was known before it")
        self._note_watch(ask, int.from_bytes(frame[16:20], "big", signed=True))
        if ask.op == Op.CLOSE_SESSION:
            self.session, self.password = 0, bytes(16)
            self._forget_watches()

    def _note_watch(self, ask: Ask, err: int) -> None:
        """What this answer arms, for the next replica."""
        if ask.op in WATCHING:
            if err not in (0, Err.NO_NODE) or (err and ask.op != Op.EXISTS):
                return
            record = jute.read(jute.PathWatch, ask.body)
            if record.watch:
                self.watched["exists" if err else WATCHING[Op(ask.op)]].add(record.path)
        elif ask.op == Op.ADD_WATCH and not err:
            record = jute.read(jute.PathKind, ask.body)
            self.watched["persistent" if record.kind == WatchMode.PERSISTENT else "recursive"].add(record.path)
        elif ask.op == Op.REMOVE_WATCHES and not err:
            for kind in self.watched.values():
                kind.discard(jute.read(jute.PathKind, ask.body).path)

    def over(self) -> None:
        """The replica closed the connection, or it broke."""
        self._connection = None
        if self.line is not None:
            self.line.ended = True
            self.line = None
        if self._slot is not None:
            self._slot.set()


class _Ears:
    """One connection's ears: what comes late of an old one is not heard."""

    def __init__(self, client: ZkClient) -> None:
        self._client = client
        self._mine: Callable[[], bool] = lambda: client._connection is not None and client._connection._wire is self

    def connected(self) -> None:
        if self._mine():
            self._client._greet()

    def received(self, content: bytes) -> None:
        if self._mine():
            self._client.heard(content)

    def disconnected(self, reason: str) -> None:
        if self._mine():
            self._client.over()
