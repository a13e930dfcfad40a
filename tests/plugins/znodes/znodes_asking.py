"""A raw client of the ZooKeeper protocol on a blocking socket, and its answers in words: without what differs between
two runs by nature, which are times, session ids, and where transaction numbers begin."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import znodes_wire as wire
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Err, Event, Op
from znodes_wire import path_watch

Answers = Iterator[tuple[str, object]]
"""Questions, each with its answer."""


def int32(number: int) -> bytes:
    """A jute int."""
    return struct.pack(">i", number)


def int64(number: int) -> bytes:
    """A jute long."""
    return struct.pack(">q", number)


def entry(perms: int, scheme: bytes | None, name: bytes | None) -> dict[str, Any]:
    """One entry of an access control list."""
    return {"perms": perms, "scheme": scheme, "id": name}


class Client:
    """A connection that has said its connect request; ``session`` is 0 if that was refused, ``response`` None if it
    was not even answered."""

    def __init__(self, port: int, *, request: bytes | None = None, first: bytes | None = None, **said: Any) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 5)
        self.xid = 0
        self.zxid = 0
        self.base = 0
        self.session = 0
        self.events: list[tuple[str, str]] = []
        self.response: bytes | None = None
        if first is not None:
            self.sock.sendall(first)
            return
        if request is None:
            fields = {"protocol": 0, "last_zxid": 0, "timeout": 10_000, "session": 0, "password": bytes(16)}
            request = jute.ConnectRequest.build({**fields, "read_only": False, **said})
        self.sock.sendall(int32(len(request)) + request)
        self.response = self.frame()
        if self.response is not None:
            self.timeout, self.session = struct.unpack_from(">iq", self.response, 8)
            self.password = self.response[24:40]

    def frame(self) -> bytes | None:
        """The next frame; None when the connection is closed instead."""
        found = b""
        while len(found) < 4 or len(found) < 4 + int.from_bytes(found[:4], "big"):
            wanted = 4 - len(found) if len(found) < 4 else 4 + int.from_bytes(found[:4], "big") - len(found)
            try:
                piece = self.sock.recv(wanted)
            except ConnectionResetError:
                piece = b""
            if not piece:
                return None
            found += piece
        return found

    def rest(self) -> bytes:
        """Everything until the connection is closed."""
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.sock.recv(65536):
                found += piece
        return found

    def send(self, op: int, body: bytes = b"", xid: int | None = None) -> None:
        """One request."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.sock.sendall(wire.frame(xid, op, body))

    def reply(self) -> wire.Reply | None:
        """The next reply; notifications before it are kept."""
        while (found := self.frame()) is not None:
            reply = wire.reply(found)
            if reply.xid != -1:
                self.zxid = reply.zxid
                return reply
            event = jute.WatcherEvent.parse(reply.body)
            assert (event.state, reply.zxid, reply.err) == (3, -1, 0)
            self.events.append((Event(event.type).name.lower(), event.path.decode()))
        return None

    def call(self, op: int, body: bytes = b"", xid: int | None = None) -> wire.Reply | None:
        """One request and its reply."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send(op, body, xid)
        return self.reply()

    def told(self) -> list[tuple[str, str]]:
        """The notifications that have come."""
        self.call(Op.PING, xid=-2)
        events, self.events = self.events, []
        return events

    def mark(self) -> None:
        """Count transaction numbers from here."""
        self.call(Op.PING, xid=-2)
        self.base = self.zxid

    def ask(self, op: int, body: bytes = b"", xid: int | None = None) -> object:
        """What is answered, in words."""
        found = self.call(op, body, xid)
        if found is None:
            return "closed"
        if found.err:
            return Err(found.err).name
        return self.shown(jute.REPLIES[Op(op)].parse(found.body)) or "OK"

    def shown(self, found: Any, name: str = "") -> Any:
        """A record without what differs by nature."""
        if isinstance(found, dict) and "head" in found:  # a multi's result
            if found.head.done:
                return "end"
            result = self.shown(found.record)
            if found.head.type == Op.ERROR:
                assert found.head.err == result
                return Err(result).name
            return Op(found.head.type).name.lower(), result
        if isinstance(found, dict):
            shown = {key: self.shown(value, key) for key, value in found.items() if key != "_io"}
            return next(iter(shown.values())) if len(shown) == 1 else shown
        if isinstance(found, list):
            found = [self.shown(each) for each in found]
            return sorted(found) if name in ("children", "paths") and found and isinstance(found[0], str) else found
        if isinstance(found, bytes):
            return found.decode()
        if name in ("czxid", "mzxid", "pzxid"):
            return f"+{found - self.base}" if found > self.base else "earlier" if found else 0
        if name in ("ctime", "mtime"):
            return "T" if found else 0
        if name == "ephemeral_owner" and found:
            return "mine" if found == self.session else "another's"
        return found

    def stat(self, path: bytes) -> Any:
        """The Stat of a node."""
        return self.ask(Op.EXISTS, path_watch(path))

    def alive(self) -> str:
        """Whether the connection still answers."""
        return "alive" if self.call(Op.PING, xid=-2) is not None else "closed"


Dial = Callable[..., Client]
"""Makes a client of the server that is asked."""
