"""Endpoint strings."""

from __future__ import annotations

import socket

import pytest
from quorate.kernel.server.endpoints import BadEndpoint, calling, door, listening


def test_listening() -> None:
    """Loopback unless an interface is named; colons can be written."""
    assert listening("tcp:2181").address == ("127.0.0.1", 2181)
    assert listening("tcp:2181:interface=0.0.0.0").address == ("0.0.0.0", 2181)
    assert listening("tcp:port=1:interface=\\:\\:1").family == socket.AF_INET6
    assert listening("unix:/run/q").address == "/run/q"


def test_calling() -> None:
    """Host and port, by place or by name."""
    assert calling("tcp:example.org:7420").address == ("example.org", 7420)
    assert calling("tcp:host=10.0.0.1:port=1").address == ("10.0.0.1", 1)
    assert calling("tcp:\\:\\:1:80").family == socket.AF_INET6


def test_door_is_what_a_client_would_write() -> None:
    """A listening endpoint as its clients' endpoint."""
    assert door("tcp:2181:interface=10.0.0.1") == "tcp:10.0.0.1:2181"
    assert calling(door("tcp:80:interface=\\:\\:1")).address == ("::1", 80)
    assert door("unix:/run/q") == "unix:/run/q"


@pytest.mark.parametrize("text", ["", "tcp", "tcp:x", "tcp:70000", "udp:1", "unix:", "tcp:-1"])
def test_bad_listening(text: str) -> None:
    """Nonsense is refused in words."""
    with pytest.raises(BadEndpoint):
        listening(text)


@pytest.mark.parametrize("text", ["tcp:localhost", "tcp::1", "tcp:localhost:0", "tls:a:1"])
def test_bad_calling(text: str) -> None:
    """A client needs a host and a port."""
    with pytest.raises(BadEndpoint):
        calling(text)
