"""Calling another replica."""

from __future__ import annotations

import errno
import select
import socket

import pytest
from quorate.kernel.server.dial import Dial
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.testing import MemoryReactorClock


class Names:
    """A resolver that knows some addresses for every name."""

    def __init__(self, *addresses: IPv4Address | IPv6Address) -> None:
        self._addresses = addresses

    def resolveHostName(self, receiver: IResolutionReceiver, name: str, port: int) -> None:
        receiver.resolutionBegan(None)
        for address in self._addresses:
            receiver.addressResolved(address)
        receiver.resolutionComplete()


def test_a_call_begins_in_a_later_turn() -> None:
    """A socket that took the number of one closed in this turn would be told what had happened to that one."""
    reactor = MemoryReactorClock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        called: list[socket.socket] = []
        dial = Dial(reactor, f"tcp:127.0.0.1:{server.getsockname()[1]}", called.append, lambda _: None)
        assert dial.fileno() == -1
        reactor.advance(0)
        assert dial.fileno() > 0
        assert reactor.getWriters() == [dial]
        dial.doWrite()
        assert len(called) == 1
        called[0].close()


def test_a_call_that_is_given_up_never_begins() -> None:
    """Given up in the turn in which it was made."""
    reactor = MemoryReactorClock()
    dial = Dial(reactor, "tcp:127.0.0.1:1", lambda _: None, lambda _: None)
    dial.cancel()
    reactor.advance(0)
    assert dial.fileno() == -1
    assert not reactor.getWriters()
    assert not reactor.getDelayedCalls()


def test_a_call_that_gets_no_socket_fails_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the call hears at once what is wrong here, not later that the other does not answer."""

    def refuse(*_: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    reactor = MemoryReactorClock()
    failed: list[Exception] = []
    Dial(reactor, "tcp:127.0.0.1:1", lambda _: None, failed.append)
    monkeypatch.setattr(socket, "socket", refuse)
    reactor.pump((0, 0))
    assert [str(each) for each in failed] == ["[Errno 24] Too many open files"]
    assert not reactor.getDelayedCalls()


def test_every_address_of_a_name_is_tried() -> None:
    """A name may have an address of a family, or of an interface, on which nobody listens."""
    reactor = MemoryReactorClock()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        reactor.nameResolver = Names(  # type: ignore[assignment]
            IPv6Address("TCP", "::1", 0), IPv4Address("TCP", "127.0.0.2", 0), IPv4Address("TCP", "127.0.0.1", 0)
        )
        called: list[socket.socket] = []
        failed: list[Exception] = []
        dial = Dial(reactor, f"tcp:quorate.example:{port}", called.append, failed.append)
        for _ in range(20):
            reactor.advance(0)
            if reactor.getWriters() and select.select([], [dial], [], 10)[1]:
                dial.doWrite()
        assert not failed
        assert called[0].getpeername() == ("127.0.0.1", port)
        called[0].close()


def test_an_address_that_keeps_silent_has_its_share_of_the_time() -> None:
    """The next one is tried while there is some left; in the end it is told that nobody answers."""
    reactor = MemoryReactorClock()
    silent = IPv4Address("TCP", "127.0.0.1", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        reactor.nameResolver = Names(silent, silent)  # type: ignore[assignment]
        failed: list[Exception] = []
        Dial(reactor, f"tcp:quorate.example:{server.getsockname()[1]}", lambda _: None, failed.append, 2.0)
        server.settimeout(10)
        reactor.advance(0)
        server.accept()[0].close()
        reactor.advance(1.0)
        server.accept()[0].close()
        assert not failed
        reactor.advance(1.0)
        assert [type(each) for each in failed] == [TimeoutError]
        assert "quorate.example" in str(failed[0])
        assert not reactor.getDelayedCalls()


def test_a_name_that_nobody_knows() -> None:
    """The failure says which, in a later turn."""
    reactor = MemoryReactorClock()
    reactor.nameResolver = Names()  # type: ignore[assignment]
    failed: list[Exception] = []
    Dial(reactor, "tcp:quorate.example:1", lambda _: None, failed.append)
    assert not failed
    reactor.advance(0)
    assert [str(each) for each in failed] == ["no address of quorate.example is known"]
