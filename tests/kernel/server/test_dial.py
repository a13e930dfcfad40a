"""Calling another replica."""

from __future__ import annotations

import errno
import socket

import pytest
from quorate.kernel.server.dial import Dial
from twisted.internet.testing import MemoryReactorClock


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
