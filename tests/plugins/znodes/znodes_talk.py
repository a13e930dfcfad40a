"""A client's side of a connection without a socket: what it says goes in as bytes, what it hears is taken apart."""

from __future__ import annotations

from typing import NamedTuple

import znodes_wire as wire
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.connection import Connection
from quorate.plugins.znodes.front import ZooKeeperFront
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.protocol import Op
from twisted.internet.task import Clock
from znodes_cell import FakeCell, Seat


class Event(NamedTuple):
    """A notification."""

    type: int
    path: bytes


class Response(NamedTuple):
    """A connect response."""

    timeout: int
    session: int
    password: bytes
    tail: bytes


class PaperWire:
    """A socket that only writes down. `takes`: whether the client reads what it is sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.writes = 0
        self.pending = 0
        self.closed = False
        self.reading = True
        self.takes = True

    def send(self, piece: bytes) -> None:
        assert not self.closed
        self.writes += 1
        self.sent += piece
        if not self.takes:
            self.pending += len(piece)

    def close(self, after_flush: bool = False) -> None:
        self.closed = True

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True


class Room:
    """A fake cell with a front on every seat, on a clock that tests move."""

    def __init__(self, size: int = 1, machine: type[ZnodesMachine] = ZnodesMachine, **options: str) -> None:
        self.clock = Clock()
        self.cell = FakeCell(self.clock, size, machine=machine)
        self.fronts = [ZooKeeperFront(seat, self.clock, "tcp:0", options) for seat in self.cell.seats]

    def seat(self, number: int = 0) -> Seat:
        """One replica."""
        return self.cell.seats[number]

    def turn(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(8):
            self.clock.advance(0)

    def talk(self, front: int = 0, *, address: str = "127.0.0.1", **connect: object) -> Talk:
        """A connection that has said its connect request."""
        talk = Talk(self, self.fronts[front], address)
        talk.connect(**connect)
        return talk


class Talk:
    """One client."""

    last = 0

    def __init__(self, room: Room, front: ZooKeeperFront, address: str = "127.0.0.1") -> None:
        Talk.last += 1
        self.room = room
        self.wire = PaperWire()
        self.connection = Connection(front, self.wire, Talk.last, (address, 4711))
        front.connections[Talk.last] = self.connection
        front.per_address[address] = front.per_address.get(address, 0) + 1
        self.session = 0
        self.password = bytes(16)
        self.xid = 0

    def connect(
        self,
        *,
        zxid: int = 0,
        timeout: int = 10_000,
        session: int = 0,
        password: bytes = bytes(16),
        old: bool = False,
        read_only: bool = False,
        turn: bool = True,
    ) -> Response | None:
        """Say the connect request; the response if there is one. `old`: as clients before 3.4 do."""
        request = jute.ConnectRequest.build(
            {
                "protocol": 0,
                "last_zxid": zxid,
                "timeout": timeout,
                "session": session,
                "password": password,
                "read_only": read_only,
            }
        )
        request = request[:-1] if old else request
        self.connection.received(len(request).to_bytes(4, "big") + request)
        if not turn:
            return None
        self.room.turn()
        return self.response()

    def response(self) -> Response | None:
        """The connect response, if it came."""
        if not self.wire.sent:
            return None
        size = 4 + int.from_bytes(self.wire.sent[:4], "big")
        body, self.wire.sent = self.wire.sent[4:size], self.wire.sent[size:]
        self.session = int.from_bytes(body[8:16], "big", signed=True)
        self.password = body[20:36]
        return Response(int.from_bytes(body[4:8], "big"), self.session, self.password, body[36:])

    def say(self, op: int, body: bytes = b"", *, xid: int | None = None) -> bytes:
        """One request's frame, with the next xid."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        return wire.frame(xid, op, body)

    def send(self, *frames: bytes) -> None:
        """Have frames come in in one piece."""
        self.connection.received(b"".join(frames))

    def heard(self) -> list[wire.Reply | Event]:
        """Everything heard since the last time, in order."""
        found: list[wire.Reply | Event] = []
        while self.wire.sent:
            size = 4 + int.from_bytes(self.wire.sent[:4], "big")
            assert len(self.wire.sent) >= size, "half a frame was sent"
            frame, self.wire.sent = self.wire.sent[:size], self.wire.sent[size:]
            reply = wire.reply(frame)
            if reply.xid == -1:
                event = jute.WatcherEvent.parse(reply.body)
                found.append(Event(event.type, event.path))
            else:
                found.append(reply)
        return found

    def call(self, op: int, body: bytes = b"", *, xid: int | None = None) -> wire.Reply:
        """One request and its reply."""
        self.send(self.say(op, body, xid=xid))
        self.room.turn()
        (reply,) = [each for each in self.heard() if isinstance(each, wire.Reply)]
        return reply

    def get(self, path: bytes) -> bytes | None:
        """The value at a path."""
        reply = self.call(Op.GET_DATA, wire.path_watch(path))
        return jute.GetDataReply.parse(reply.body).data if not reply.err else None
