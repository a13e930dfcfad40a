"""Ask one replica something that needs no session: how it does.

A socket, a Hello, a Status, the answer. It works while the cell has no quorum, which is when one asks most urgently.
Knows the native protocol's frames and nothing of sessions; commands go through :mod:`quorate.kernel.client`.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping

from ..client.aio import Target, parse
from ..machine import Plain
from ..wire import native, plain
from .command import Complaint, Exit


class NoAnswer(Exception):
    """Nobody there, or nobody who speaks our protocol; the words say which."""


def status(endpoint: str, timeout: float) -> Mapping[str, Plain]:
    """What the replica at `endpoint` says of itself; waits at most `timeout` seconds. Raises NoAnswer."""
    try:
        where = parse(endpoint)
    except ValueError as bad:
        raise Complaint(str(bad), status=Exit.REFUSED) from None
    deadline = time.monotonic() + timeout
    try:
        with _connected(where, timeout) as link:
            link.sendall(native.encode(native.Hello(native.PROTOCOL_VERSION, b"", "quorate status")))
            link.sendall(native.encode(native.Status(1)))
            for frame in _frames(link, deadline):
                if isinstance(frame, native.StatusReply):
                    answer = plain.decode(frame.payload, native.PAYLOAD_BYTES_MAX)
                    if not isinstance(answer, dict):
                        break
                    return answer
    except TimeoutError:
        raise NoAnswer(f"{endpoint} did not answer within {timeout:g} s") from None
    except OSError as error:
        raise NoAnswer(f"{endpoint}: {error.strerror or error}") from None
    except ValueError as error:
        raise NoAnswer(f"{endpoint} does not speak Quorate's client protocol: {error}") from None
    raise NoAnswer(f"{endpoint} closed the connection without an answer")


def _connected(where: Target, timeout: float) -> socket.socket:
    if not where.path:
        return socket.create_connection((where.host, where.port), timeout)
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.settimeout(timeout)
    try:
        link.connect(where.path)
    except OSError:
        link.close()
        raise
    return link


def _frames(link: socket.socket, deadline: float) -> Iterator[native.Frame]:
    """Frames as they arrive, until the peer closes. Raises TimeoutError at the deadline."""
    buffer = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        link.settimeout(left)
        received = link.recv(65536)
        if not received:
            return
        buffer += received
        bodies, taken = native.split(buffer)
        del buffer[:taken]
        yield from map(native.decode, bodies)
