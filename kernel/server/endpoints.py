"""Endpoint strings (``tcp:2181:interface=127.0.0.1``, ``tcp:10.0.0.1:7410``, ``unix:/run/q.sock``) for connections that
stand directly on a socket.

The syntax is Twisted's (colons inside a value are written ``\\:``), so that the same string also works where Twisted's
own endpoints are used. Knows no reactor; makes no connection.
"""

from __future__ import annotations

import re
import socket
from typing import Final, NamedTuple, TypeAlias

Address: TypeAlias = "tuple[str, int] | str"
"""What the socket module calls an address: host and port, or the path of a unix socket."""

_COLON: Final = re.compile(r"(?<!\\):")
_DEFAULT_INTERFACE: Final = "127.0.0.1"


class BadEndpoint(ValueError):
    """The string is no endpoint that can be used here."""


class Endpoint(NamedTuple):
    """A parsed endpoint string. For a listening one `host` is the interface; port 0: any free port."""

    family: socket.AddressFamily
    host: str
    port: int = 0

    @property
    def address(self) -> Address:
        return self.host if self.family == socket.AF_UNIX else (self.host, self.port)

    def client_string(self) -> str:
        """The endpoint string by which a client finds this one."""
        if self.family == socket.AF_UNIX:
            return f"unix:{_quoted(self.host)}"
        return f"tcp:{_quoted(self.host)}:{self.port}"


def listening(text: str) -> Endpoint:
    """Parse a server's endpoint: ``tcp:PORT[:interface=HOST]`` or ``unix:PATH``. The interface is 127.0.0.1 unless
    said otherwise; 0.0.0.0 and \\:\\: mean every one. Raises BadEndpoint."""
    kind, args, named = _parts(text)
    if kind == "unix":
        return Endpoint(socket.AF_UNIX, _path(text, args, named))
    port = _port(text, named.get("port") or (args[0] if args else ""))
    host = named.get("interface") or _DEFAULT_INTERFACE
    return Endpoint(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)


def calling(text: str) -> Endpoint:
    """Parse a client's endpoint: ``tcp:HOST:PORT`` or ``unix:PATH``. The host may be a name. Raises BadEndpoint."""
    kind, args, named = _parts(text)
    if kind == "unix":
        return Endpoint(socket.AF_UNIX, _path(text, args, named))
    host = named.get("host") or (args[0] if args else "")
    port = _port(text, named.get("port") or (args[1] if len(args) > 1 else ""))
    if not host or not port:
        raise BadEndpoint(f"{text!r} names no host and port: write tcp:HOST:PORT")
    return Endpoint(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)


def door(listening_text: str) -> str:
    """The client's string for a server's endpoint string, with the interface as the host."""
    return listening(listening_text).client_string()


def _parts(text: str) -> tuple[str, list[str], dict[str, str]]:
    kind, *rest = (part.replace("\\:", ":") for part in _COLON.split(text))
    if kind not in ("tcp", "unix"):
        raise BadEndpoint(f"{text!r}: an endpoint begins with tcp: or unix:")
    args, named = [], {}
    for part in rest:
        name, equals, value = part.partition("=")
        if equals:
            named[name] = value
        else:
            args.append(part)
    return kind, args, named


def _path(text: str, args: list[str], named: dict[str, str]) -> str:
    path = named.get("address") or named.get("path") or (args[0] if args else "")
    if not path:
        raise BadEndpoint(f"{text!r} names no path: write unix:PATH")
    return path


def _port(text: str, port: str) -> int:
    if not port.isdigit() or int(port) > 65535:
        raise BadEndpoint(f"{text!r} names no port between 0 and 65535")
    return int(port)


def _quoted(text: str) -> str:
    return text.replace(":", "\\:")
