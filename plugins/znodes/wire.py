"""What a connection needs of the socket below it, be it a lean one or one with TLS, and of its address."""

from __future__ import annotations

from typing import Protocol


class Wire(Protocol):
    """The socket below a connection."""

    @property
    def closed(self) -> bool: ...

    @property
    def pending(self) -> int:
        """Bytes that the client has not taken yet."""

    def send(self, piece: bytes) -> None: ...

    def close(self, after_flush: bool = False) -> None: ...

    def pause(self) -> None:
        """Read no further for now."""

    def resume(self) -> None: ...


def host(address: object) -> str:
    """The host part of a socket's address; clients on a unix socket count as local."""
    if isinstance(address, tuple) and address:
        name = str(address[0])
        return name.removeprefix("::ffff:")
    return "127.0.0.1"
