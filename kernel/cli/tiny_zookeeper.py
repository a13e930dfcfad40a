"""A ZooKeeper client as small as can be, for machines without kazoo: connect, create, set, get.

It shows that the wire is the one every ZooKeeper client speaks. When its replica goes away it attaches its session to
the next one. Not for production: one request at a time, no watches.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Sequence
from typing import Final

_CREATE: Final = 1
_GET: Final = 4
_SET: Final = 5
_CLOSE: Final = -11
_WORLD: Final = struct.pack(">ii", 1, 31) + b"\0\0\0\5world\0\0\0\6anyone"


class ZooKeeperError(Exception):
    """The server said no; `code` is ZooKeeper's number for it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"ZooKeeper error {code}")
        self.code = code


class TinyZooKeeper:
    """One session. `hosts` are host:port. A call raises OSError when nobody answers within `timeout` seconds; the next
    call goes to the next host."""

    def __init__(self, hosts: Sequence[str], timeout: float) -> None:
        self._hosts = list(hosts)
        self._timeout = timeout
        self._session, self._password, self._xid = 0, bytes(16), 0
        self._link: socket.socket | None = None

    def create(self, path: str, value: bytes) -> None:
        """Make a node that everybody may do everything with."""
        self._call(_CREATE, _text(path.encode()) + _text(value) + _WORLD + struct.pack(">i", 0))

    def set(self, path: str, value: bytes) -> None:
        """Set a node's value, whatever its version is."""
        self._call(_SET, _text(path.encode()) + _text(value) + struct.pack(">i", -1))

    def get(self, path: str) -> bytes:
        """A node's value."""
        answer = self._call(_GET, _text(path.encode()) + b"\0")
        return answer[4 : 4 + int.from_bytes(answer[:4])]

    def close(self) -> None:
        """End the session."""
        try:
            self._call(_CLOSE, b"")
        finally:
            self._drop()

    def _call(self, kind: int, body: bytes) -> bytes:
        """One request, one answer."""
        try:
            link = self._link or self._connect()
            self._xid += 1
            link.sendall(_text(struct.pack(">ii", self._xid, kind) + body))
            xid, _, code = struct.unpack(">iqi", (answer := _receive(link))[:16])
            if xid != self._xid:
                raise ConnectionError(f"answer {xid} to request {self._xid}")
        except OSError:
            self._drop()
            raise
        if code:
            raise ZooKeeperError(code)
        return answer[16:]

    def _connect(self) -> socket.socket:
        """Open the session, or attach it to the first host that serves."""
        deadline = time.monotonic() + self._timeout
        while True:
            host, _, port = self._hosts[0].rpartition(":")
            try:
                self._link = socket.create_connection((host, int(port)), self._timeout)
                asked = struct.pack(">iqiq", 0, 0, int(self._timeout * 1000), self._session) + _text(self._password)
                self._link.sendall(_text(asked + b"\0"))
                answer = _receive(self._link)
                granted, self._session = struct.unpack_from(">iq", answer, 4)
                if granted <= 0:
                    raise ConnectionError("the session has expired")
                self._password = answer[20:36]
                return self._link
            except OSError:
                self._drop()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _drop(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None
        self._hosts.append(self._hosts.pop(0))


def _text(value: bytes) -> bytes:
    """A buffer as the wire has it: its length, then itself."""
    return len(value).to_bytes(4) + value


def _receive(link: socket.socket) -> bytes:
    """One frame. Raises ConnectionError when the peer closes."""
    return _exactly(link, int.from_bytes(_exactly(link, 4)))


def _exactly(link: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        more = link.recv(size - len(received))
        if not more:
            raise ConnectionError("the replica closed the connection")
        received += more
    return received
