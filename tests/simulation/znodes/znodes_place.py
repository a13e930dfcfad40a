"""The ZooKeeper front on a simulated replica: does for its connections what sockets do on a real one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from quorate.kernel.node import Node
from quorate.kernel.testing.fronts import Cause, Seated
from quorate.kernel.testing.lifecycle import Boundary
from quorate.kernel.testing.process import Process
from quorate.kernel.testing.world import World
from quorate.plugins.znodes.connection import Connection
from quorate.plugins.znodes.front import ZooKeeperFront
from quorate.plugins.znodes.machine import ZnodesMachine

SCHEME = "zookeeper"

Hears = Callable[[int, int, bool], None]
"""Told (session, member, whether that member leads) whenever bytes of a session come in."""


class DoorWire:
    """The socket below one connection."""

    def __init__(self, place: ZooKeeperPlace, send: Callable[[bytes], None], hang_up: Callable[[], None]) -> None:
        self.place = place
        self.send_packet = send
        self.hang_up = hang_up
        self.connection: Connection | None = None
        self.closed = False
        self.pending = 0
        self.reading = True
        self.held: list[bytes] = []
        self.outgoing: list[bytes] = []

    def send(self, piece: bytes) -> None:
        if not self.closed:
            self.outgoing.append(piece)
            self.place.dirty[id(self)] = self

    def close(self, after_flush: bool = False) -> None:
        if not self.closed:
            self.closed = True
            if not after_flush:
                self.outgoing.clear()
            self.place.dirty[id(self)] = self

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True
        if self.held:
            self.place.seat.reactor.callLater(0, self.deliver)

    def deliver(self) -> None:
        """Hand on what came while nobody read."""
        held, self.held = self.held, []
        if held and self.reading and not self.closed and self.connection is not None:
            self.connection.received(b"".join(held))
        else:
            self.held = held


class ZooKeeperPlace(Seated):
    """All ZooKeeper connections of one run of a replica."""

    def __init__(self, process: Process, node: Node, world: World, options: Mapping[str, str], hears: Hears) -> None:
        super().__init__(process, node, world)
        self.dirty: dict[int, DoorWire] = {}
        self.front: ZooKeeperFront | None = None
        self._process = process
        self._options = options
        self._hears = hears
        self._wires: list[DoorWire] = []

    def connected(self, place: int, send: Callable[[bytes], None], close: Callable[[], None]) -> DoorWire:
        wire = DoorWire(self, send, close)
        self._wires.append(wire)
        return wire

    def received(self, door: DoorWire, content: bytes) -> None:
        if door.closed:
            return
        if door.connection is None:
            self._admit(door)
            if door.connection is None:
                door.close()
                return
        core = self.seat.node.core
        leads = self.seat.node.leading and core.lease_left(self._process.now) > 5_000
        self._hears(door.connection.session, self._process.member, leads)
        if door.reading:
            door.connection.received(content)
        else:
            door.held.append(content)

    def _admit(self, door: DoorWire) -> None:
        """Take a connection on, once the machine is loaded."""
        if self.front is None:
            if not any(isinstance(each, ZnodesMachine) for each in self.seat.host.loaded().values()):
                return
            handle = self.seat.handle(SCHEME)
            self.front = ZooKeeperFront(handle, self.seat.reactor, "sim:", self._options)
            self.front.serving_changed(self.seat.serves)
        door.connection = self.front.admit(door, ("127.0.0.1", 0))

    def lost(self, door: DoorWire) -> None:
        door.closed = True
        self._forget(door)

    def gone(self) -> None:
        for wire in self._wires:
            wire.closed = True
            wire.hang_up()
        self._wires.clear()

    def flush(self, cause: Cause) -> None:
        self.seat.end_turn()
        dirty, self.dirty = self.dirty, {}
        for wire in dirty.values():
            if wire.outgoing:
                cause(Boundary.REPLY, partial(wire.send_packet, b"".join(wire.outgoing)))
                wire.outgoing.clear()
            if wire.closed:
                self._forget(wire)
                cause(Boundary.REPLY, wire.hang_up)

    def _forget(self, wire: DoorWire) -> None:
        if wire in self._wires:
            self._wires.remove(wire)
        if wire.connection is not None and self.front is not None:
            self.front.gone(wire.connection)
