"""A blocking client on a real socket, with or without TLS."""

from __future__ import annotations

import socket
import ssl

import znodes_wire as wire
from quorate.plugins.znodes import jute
from znodes_wire import frame


class Client:
    """One connection. `session`, `password`, `timeout` and `read_only` are what the server answered."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.link = socket.create_connection(("127.0.0.1", port), 10)
        if context is not None:
            try:
                self.link = context.wrap_socket(self.link, server_hostname="localhost")
            except BaseException:
                self.link.close()
                raise
        self.link.settimeout(30)
        self.stream = self.link.makefile("rb")

    def connect(
        self, *, timeout: int = 5000, session: int = 0, password: bytes = bytes(16), read_only: bool = False
    ) -> Client:
        """Open a session, or come with one; returns itself."""
        request = {"protocol": 0, "last_zxid": 0, "timeout": timeout, "session": session, "password": password}
        body = jute.ConnectRequest.build(request | {"read_only": read_only})
        self.link.sendall(len(body).to_bytes(4, "big") + body)
        answer = self.frame()
        self.timeout = int.from_bytes(answer[4:8], "big")
        self.session = int.from_bytes(answer[8:16], "big", signed=True)
        self.password = answer[20:36]
        self.read_only = bool(answer[36])
        return self

    def frame(self) -> bytes:
        """The next frame."""
        length = self.stream.read(4)
        if not length:
            raise ConnectionError("the server ended the connection")
        return self.stream.read(int.from_bytes(length, "big"))

    def call(self, op: int, body: bytes = b"", xid: int = 1) -> wire.Reply:
        """One request and its reply."""
        self.link.sendall(frame(xid, op, body))
        answer = self.frame()
        return wire.reply(len(answer).to_bytes(4, "big") + answer)

    def ended(self) -> bool:
        """Whether the server ends the connection without another word; waits for either."""
        try:
            return self.stream.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        """End it."""
        self.stream.close()
        self.link.close()
