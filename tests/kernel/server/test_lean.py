"""Connections straight on the reactor, on real socket pairs and a reactor that does nothing by itself."""

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import Any
from unittest import mock

import pytest
from quorate.kernel.server.lean import LINGER_SECONDS, LeanConnection, LeanListener, Overflow
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure


class Recorder(LeanConnection):
    """Keeps what it is told."""

    __slots__ = ("drains", "got", "reasons")

    def __init__(self, reactor: Any, sock: socket.socket, **options: int) -> None:
        super().__init__(reactor, sock, **options)
        self.got = b""
        self.reasons: list[Exception] = []
        self.drains = 0

    def received(self, data: bytes) -> None:
        self.got += data

    def lost(self, reason: Exception) -> None:
        self.reasons.append(reason)

    def drained(self) -> None:
        self.drains += 1


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


@pytest.fixture
def pair(reactor: MemoryReactorClock) -> Any:
    """A started connection and the raw other end."""
    near, far = socket.socketpair()
    connection = Recorder(reactor, near, output_limit=4 << 20)
    connection.start()
    yield connection, far
    connection.close()
    far.close()


def test_reads_everything_at_once(reactor: MemoryReactorClock, pair: Any) -> None:
    """Several pieces that are there arrive in one call, and are counted."""
    connection, far = pair
    far.send(b"one")
    far.send(b"two")
    assert connection.doRead() is None
    assert connection.got == b"onetwo"
    assert connection.bytes_in == 6
    assert connection.doRead() is None  # nothing there: no harm


def test_sends_at_once(reactor: MemoryReactorClock, pair: Any) -> None:
    """A peer that reads gets its bytes without the reactor; pieces need no joining."""
    connection, far = pair
    connection.send(b"one")
    connection.send_all([b"two", b"three"])
    assert far.recv(100) == b"onetwothree"
    assert connection not in reactor.getWriters()
    assert connection.bytes_out == 11


def test_keeps_what_the_socket_does_not_take(reactor: MemoryReactorClock, pair: Any) -> None:
    """The rest goes out in order when there is room, and `drained` tells when it has gone."""
    connection, far = pair
    content = os.urandom(1 << 20)
    connection.send(content)
    connection.send_all([b"and", b"more"])
    assert connection.pending
    assert connection in reactor.getWriters()
    far.setblocking(False)
    got = b""
    while connection.pending or len(got) < len(content) + 7:
        got += far.recv(1 << 16)
        if connection.pending:
            connection.doWrite()
    assert got == content + b"andmore"
    assert connection.drains == 1
    assert connection not in reactor.getWriters()


def test_drops_a_peer_that_does_not_read(reactor: MemoryReactorClock, pair: Any) -> None:
    """Beyond the limit the connection ends, and its owner hears of it in a later turn."""
    connection, _ = pair
    for _ in range(6):
        connection.send(bytes(1 << 20))
    assert connection.closed
    assert connection.reasons == []
    reactor.advance(0)
    assert [type(reason) for reason in connection.reasons] == [Overflow]


def test_pause_and_resume(reactor: MemoryReactorClock, pair: Any) -> None:
    """A paused connection is not read; the kernel keeps what comes."""
    connection, far = pair
    connection.pause()
    assert connection not in reactor.getReaders()
    far.send(b"later")
    connection.resume()
    assert connection in reactor.getReaders()
    connection.doRead()
    assert connection.got == b"later"


def test_close_after_flush(reactor: MemoryReactorClock, pair: Any) -> None:
    """What was sent before goes out first, and `lost` is not called for one's own close."""
    connection, far = pair
    content = bytes(1 << 20)
    connection.send(content)
    connection.close(after_flush=True)
    assert not connection.closed
    got = 0
    while not connection.closed:
        got += len(far.recv(1 << 16))
        connection.doWrite()
    while piece := far.recv(1 << 16):
        got += len(piece)
    assert got == len(content)
    assert connection.reasons == []
    assert not reactor.getDelayedCalls()


@pytest.mark.parametrize("peer_done", [False, True], ids=["we", "the peer"])
def test_what_is_owed_goes_out_only_while_the_peer_takes_it(
    reactor: MemoryReactorClock, pair: Any, peer_done: bool
) -> None:
    """Whoever ended it: a peer that reads nothing for LINGER_SECONDS loses the rest, and the descriptor is free; one
    that reads keeps the connection for longer than that."""
    connection, far = pair
    connection.send(bytes(2 << 20))
    if peer_done:
        connection.readConnectionLost(Failure(ConnectionDone()))
    else:
        connection.close(after_flush=True)
    for _ in range(3):
        reactor.advance(LINGER_SECONDS * 0.9)
        far.recv(1 << 18)
        connection.doWrite()
    assert not connection.closed
    reactor.advance(LINGER_SECONDS)
    reactor.advance(LINGER_SECONDS)
    assert connection.closed
    assert not reactor.getDelayedCalls()
    assert [type(reason) for reason in connection.reasons] == [Overflow] * peer_done


def test_peer_that_hangs_up(reactor: MemoryReactorClock, pair: Any) -> None:
    """An end of input ends the connection once, after what it is owed."""
    connection, far = pair
    far.shutdown(socket.SHUT_WR)
    reason = connection.doRead()
    assert isinstance(reason, ConnectionDone)
    connection.send(bytes(1 << 20))
    connection.readConnectionLost(Failure(reason))
    assert not connection.closed
    while not connection.closed:
        far.recv(1 << 16)
        connection.doWrite()
    assert [type(reason) for reason in connection.reasons] == [ConnectionDone]
    connection.connectionLost(Failure(ConnectionDone()))
    assert len(connection.reasons) == 1


def test_broken_connection_is_told_later(reactor: MemoryReactorClock, pair: Any) -> None:
    """An error found by a send does not call back from within it."""
    connection, far = pair
    far.close()
    connection.send(b"x")
    connection.send(b"y")
    assert connection.closed
    reactor.advance(0)
    assert [type(reason) for reason in connection.reasons] == [ConnectionLost]


@pytest.fixture
def listener(reactor: MemoryReactorClock) -> Any:
    """A listener and what it accepted."""
    accepted: list[socket.socket] = []
    made = LeanListener(reactor, "tcp:0", lambda sock, address: accepted.append(sock))  # type: ignore[arg-type]
    yield made, accepted
    made.stop()
    for sock in accepted:
        sock.close()


def test_accepts_several_a_turn(reactor: MemoryReactorClock, listener: Any) -> None:
    """All callers that wait are taken in one turn; the bound port is told."""
    made, accepted = listener
    callers = [socket.create_connection(("127.0.0.1", made.port())) for _ in range(5)]
    made.doRead()
    assert len(accepted) == 5
    for caller in callers:
        caller.close()
    made.stop()
    assert made not in reactor.getReaders()


def test_survives_running_out_of_descriptors(reactor: MemoryReactorClock, listener: Any) -> None:
    """Without a free descriptor a caller is turned away with the reserve, and listening goes on a little later."""
    made, accepted = listener
    caller = socket.create_connection(("127.0.0.1", made.port()))
    real = made._sock
    full = mock.Mock(wraps=real)
    full.accept.side_effect = [OSError(errno.EMFILE, "too many"), real.accept()]
    made._sock = full
    made.doRead()
    assert made.turned_away == 1
    assert made not in reactor.getReaders()
    assert caller.recv(1) == b""
    made._sock = real
    reactor.advance(1)
    assert made in reactor.getReaders()
    again = socket.create_connection(("127.0.0.1", made.port()))
    made.doRead()
    assert len(accepted) == 1
    caller.close()
    again.close()


def test_a_connection_that_cannot_be_taken_does_not_close_the_door(reactor: MemoryReactorClock) -> None:
    """Where the system has no room to watch one more descriptor, that caller is refused and others are not."""
    accepted: list[socket.socket] = []

    def take(sock: socket.socket, address: object) -> None:
        accepted.append(sock)
        if len(accepted) == 1:
            raise OSError(errno.ENOSPC, "no room to watch one more")

    made = LeanListener(reactor, "tcp:0", take)  # type: ignore[arg-type]
    callers = [socket.create_connection(("127.0.0.1", made.port())) for _ in range(2)]
    made.doRead()
    assert (len(accepted), made.turned_away) == (2, 1)
    assert callers[0].recv(1) == b""
    assert made in reactor.getReaders()
    made.stop()
    for sock in (*callers, *accepted):
        sock.close()


def test_what_could_not_be_watched_is_not_unwatched() -> None:
    """By then its number may be another's, who would never hear anything again."""
    mine, theirs = socket.socketpair()
    reactor = mock.Mock(**{"addReader.side_effect": OSError(errno.ENOSPC, "no room to watch one more")})
    connection = LeanConnection(reactor, mine)
    with pytest.raises(OSError, match="no room"):
        connection.start()
    connection.close()
    reactor.removeReader.assert_not_called()
    theirs.close()


@pytest.mark.parametrize("watching", ["addReader", "addWriter"])
def test_what_can_be_watched_no_longer_is_lost_alone(watching: str) -> None:
    """Where there is no room to read on, or to wait until the peer takes what it is sent, that connection ends, and
    whoever resumes it or sends to it goes on with the others."""
    mine, theirs = socket.socketpair()
    later: list[tuple[Any, ...]] = []
    reactor = mock.Mock(callLater=lambda seconds, *call: later.append(call))
    connection = Recorder(reactor, mine)
    connection.start()
    connection.pause()
    getattr(reactor, watching).side_effect = OSError(errno.ENOSPC, "no room to watch one more")
    if watching == "addReader":
        connection.resume()
    else:
        connection.send(bytes(4 << 20))
    assert connection.closed
    assert connection.reasons == []
    for call, *words in later:
        call(*words)
    assert "no room" in str(connection.reasons[0])
    reactor.removeWriter.assert_not_called()
    theirs.close()


def test_leaves_descriptors_to_others(reactor: MemoryReactorClock) -> None:
    """Callers may have all descriptors but those in reserve, which the journal and the peers need."""
    accepted: list[socket.socket] = []
    made = LeanListener(
        reactor,  # type: ignore[arg-type]
        "tcp:0",
        lambda sock, address: accepted.append(sock),
        reserve=4,
    )
    callers = [socket.create_connection(("127.0.0.1", made.port())) for _ in range(5)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as probe:
        free = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 3 + 4, hard))
    try:
        made.doRead()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (len(accepted), made.turned_away) == (3, 2)
    assert [caller.recv(1) for caller in callers[3:]] == [b"", b""]
    made.doRead()
    made.stop()
    for sock in (*callers, *accepted):
        sock.close()


def test_unix_socket(reactor: MemoryReactorClock, tmp_path: Any) -> None:
    """A path serves as an address too, and its file goes with the listener."""
    path = tmp_path / "door"
    accepted: list[socket.socket] = []
    made = LeanListener(
        reactor,  # type: ignore[arg-type]
        f"unix:{path}",
        lambda sock, address: accepted.append(sock),
    )
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(path))
        made.doRead()
    assert len(accepted) == 1
    accepted[0].close()
    made.stop()
    assert not path.exists()
