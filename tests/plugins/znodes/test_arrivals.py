"""How connections come by their sessions when it is not the ordinary way: without a quorum, and on one replica only."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.plugins.znodes import connection as limits
from quorate.plugins.znodes.acl import OPEN
from quorate.plugins.znodes.front import GREETING_SECONDS
from quorate.plugins.znodes.protocol import Err, Op, WatchMode, Xid
from quorate.plugins.znodes.stages import Stage
from znodes_talk import Room, Talk
from znodes_wire import create, path_watch, put, several

EPHEMERAL = 1


def alone(**options: str) -> Room:
    """Three replicas that lost their quorum long ago; /a was there before."""
    room = Room(3, **{"read-only": "true", "grace": "1000", "words": "*"} | options)
    assert room.talk().call(Op.CREATE, create(b"/a", b"x")).err == 0
    room.cell.serve(False)
    room.clock.advance(2)
    return room


def caller(room: Room, front: int = 0) -> Talk:
    """A connection that has said nothing."""
    return Talk(room, room.fronts[front])


def test_without_a_quorum_readers_are_served() -> None:
    """Who says that reading would do is told that it is so, reads, watches and pings; who does not is sent away."""
    room = alone()
    reader, writer = caller(room), caller(room)
    response = reader.connect(read_only=True)
    assert (response.tail, response.timeout) == (b"\1", 10_000)
    assert response.session < 0
    assert writer.connect() is None
    assert writer.wire.closed
    assert reader.get(b"/a") == b"x"
    assert reader.call(Op.EXISTS, path_watch(b"/a", True)).err == 0
    assert reader.call(Op.PING, xid=Xid.PING).err == 0
    assert reader.call(Op.WHO_AM_I).err == 0
    assert reader.connection.stage is Stage.READING


def test_without_a_quorum_nothing_is_written() -> None:
    """Every request that would change something, and sync and multi, gets -119; the replies keep their order, frames in
    pieces are put together, and a farewell is answered."""
    room = alone()
    reader = caller(room)
    reader.connect(read_only=True)
    refused = (
        (Op.CREATE, create(b"/b")),
        (Op.DELETE, wire.path_version(b"/a")),
        (Op.SET_DATA, put(b"/a", b"")),
        (Op.SYNC, wire.path_only(b"/a")),
        (Op.CHECK, wire.path_version(b"/a")),
        (Op.MULTI, several((Op.CHECK, wire.path_version(b"/a")))),
        (Op.SET_ACL, wire.set_acl(b"/a", wire.WORLD)),
        (Op.CREATE2, create(b"/b")),
        (Op.CREATE_CONTAINER, create(b"/b", flags=4)),
        (Op.CREATE_TTL, wire.create_ttl(b"/b", 5)),
        (Op.RECONFIG, b""),
    )
    frames = b"".join(
        reader.say(op, body) + reader.say(Op.GET_DATA, path_watch(b"/a")) for op, body in refused
    ) + reader.say(Op.CLOSE_SESSION)
    for at in range(0, len(frames), 7):
        reader.send(frames[at : at + 7])
    heard = reader.heard()
    assert [each.xid for each in heard] == list(range(1, 2 * len(refused) + 2))
    assert [each.err for each in heard] == [Err.NOT_READ_ONLY, 0] * len(refused) + [0]
    assert reader.wire.closed
    assert not room.fronts[0].arrivals.local.table


def test_unreasonable_frames_end_a_reader() -> None:
    """An impossible length is not waited for."""
    room = alone()
    for frame in (b"\x7f\xff\xff\xff", b"\0\0\0\4", b"\0\0\0\4" + bytes(8)):
        reader = caller(room)
        reader.connect(read_only=True)
        reader.send(frame)
        assert reader.wire.closed


def test_a_session_of_the_cell_reads_on_and_comes_back() -> None:
    """A client shows its session to a replica without a quorum, reads, and has it again when there is one. A wrong
    password, and a session that nobody knows, are refused."""
    room = Room(3, **{"read-only": "true", "grace": "1000"})
    client = room.talk()
    assert client.call(Op.CREATE, create(b"/e", b"", EPHEMERAL)).err == 0
    room.cell.serve(False)
    room.clock.advance(2)
    assert client.wire.closed
    reader = caller(room, 1)
    response = reader.connect(session=client.session, password=client.password, read_only=True)
    assert (response.session, response.tail) == (client.session, b"\1")
    assert reader.get(b"/e") == b""
    assert reader.call(Op.SET_DATA, put(b"/e", b"")).err == Err.NOT_READ_ONLY
    for session, password in ((client.session, bytes(16)), (77, client.password), (-77, client.password)):
        refused = caller(room).connect(session=session, password=password, read_only=True)
        assert (refused.session, refused.timeout) == (0, 0)
    twice = caller(room, 1)
    assert twice.connect(session=client.session, password=client.password, read_only=True).session
    assert reader.wire.closed
    room.cell.serve(True)
    assert twice.wire.closed
    room.turn()
    again = caller(room, 1)
    assert again.connect(session=client.session, password=client.password, read_only=True).tail == b"\0"
    assert again.call(Op.SET_DATA, put(b"/e", b"")).err == 0


def test_a_reader_of_one_replica_is_forgotten_when_there_is_a_quorum() -> None:
    """What was opened without a quorum is no session of the cell: it is refused there."""
    room = alone()
    reader = caller(room)
    reader.connect(read_only=True)
    room.cell.serve(True)
    assert reader.wire.closed
    other = caller(room, 1)
    assert other.connect(session=reader.session, password=reader.password, read_only=True).timeout == 0


def test_without_leave_nobody_is_served() -> None:
    """Reading without a quorum is for the operator to allow."""
    room = alone(**{"read-only": "false"})
    reader = caller(room)
    assert reader.connect(read_only=True) is None
    assert reader.wire.closed
    assert room.fronts[0].word(b"isro") == b"null"


def test_a_replica_that_begins_without_a_quorum_serves_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the grace period, as one that lost its leader does."""
    monkeypatch.setattr("quorate.plugins.znodes.front.LeanListener", lambda *_, **__: NoListener())
    room = Room(**{"read-only": "true", "grace": "1000"})
    room.cell.serving = False
    front = room.fronts[0]
    front.startService()
    assert not front.reads_only
    room.clock.advance(1)
    assert front.reads_only
    front.stopService()


class NoListener:
    """Nobody can call."""

    def stop(self) -> None:
        """Stop not listening."""


def test_words_of_a_reading_replica() -> None:
    """Monitors and clients that look for a better server see what it is."""
    room = alone()
    front = room.fronts[0]
    assert front.word(b"isro") == b"ro"
    for word in (b"srvr", b"stat"):
        said = front.word(word).splitlines()
        assert said[1] == b"READ-ONLY mode; serving only read-only clients"
        assert said[-2] == b"Mode: read-only"
    room.cell.serve(True)
    assert front.word(b"isro") == b"rw"
    assert b"READ-ONLY" not in front.word(b"srvr")


# ---------------------------------------------------------------- sessions of one replica


def test_a_local_session_writes_but_owns_nothing() -> None:
    """It reads, writes, watches and closes like any other, without an entry in the log for its opening; ephemeral
    nodes are refused (-120), in a multi as well."""
    room = Room(2, **{"local-sessions": "true"})
    before = room.cell.index
    client = room.talk()
    assert client.session < 0
    assert room.cell.index == before
    assert not room.cell.sessions
    assert client.call(Op.CREATE, create(b"/a", b"1")).err == 0
    assert client.call(Op.ADD_WATCH, wire.path_version(b"/a", WatchMode.PERSISTENT)).err == 0
    client.send(client.say(Op.SET_DATA, put(b"/a", b"2")), client.say(Op.GET_DATA, path_watch(b"/a")))
    room.turn()
    assert len(client.heard()) == 3
    for op in (Op.CREATE, Op.CREATE2):
        assert client.call(op, create(b"/e", b"", EPHEMERAL)).err == Err.EPHEMERAL_ON_LOCAL_SESSION
    failed = client.call(Op.MULTI, several((Op.CREATE, create(b"/b")), (Op.CREATE, create(b"/e", b"", EPHEMERAL))))
    assert [int.from_bytes(result, "big", signed=True) for _, _, result in wire.results(failed.body)] == [0, -120]
    assert client.call(Op.CLOSE_SESSION).err == 0
    assert client.wire.closed
    assert not room.fronts[0].arrivals.local.table
    again = caller(room)
    assert again.connect(session=client.session, password=client.password).timeout == 0


def test_who_only_reads_reads_on_while_the_way_into_the_log_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes that wait for a quorum hold up nobody who cannot write, however much he reads at once."""
    monkeypatch.setattr(limits, "REPLY_ROOM", 3000)
    room = alone()
    room.fronts[0].full = True
    reader = caller(room)
    reader.connect(read_only=True)
    for number in range(300):
        room.fronts[0].tree.create(b"/%03d" % number, b"", OPEN, 0, False, (), 1, 0)
    reader.send(*(reader.say(Op.GET_CHILDREN, path_watch(b"/")) for _ in range(5)))
    room.turn()
    assert [each.err for each in reader.heard()] == [0] * 5
    assert reader.wire.reading


def test_a_local_session_comes_back_to_its_replica_only() -> None:
    """With its password it is taken over by the newer connection; elsewhere, or with another password, it is gone."""
    room = Room(2, **{"local-sessions": "true"})
    client = room.talk()
    again = caller(room)
    response = again.connect(session=client.session, password=client.password)
    assert (response.session, response.timeout) == (client.session, 10_000)
    assert client.wire.closed
    assert caller(room).connect(session=client.session, password=bytes(16)).timeout == 0
    assert caller(room, 1).connect(session=client.session, password=client.password).timeout == 0


def test_a_local_session_comes_back_behind_what_it_left() -> None:
    """What its older connection has on its way is there when it is told that it is back, and nothing comes behind that
    (ZK-11.1)."""
    room = Room(**{"local-sessions": "true"})
    client, again = room.talk(), caller(room)
    client.send(client.say(Op.CREATE, create(b"/left")))
    again.connect(session=client.session, password=client.password, turn=False)
    assert client.wire.closed
    again.send(again.say(Op.EXISTS, path_watch(b"/left")))
    room.turn()
    assert again.response().session == client.session
    assert [each.err for each in again.heard()] == [0]


@pytest.mark.parametrize("connected", [True, False])
def test_a_local_session_expires_in_time(connected: bool) -> None:
    """Not before its time-out after the last word, and at most a tick later; renewed by whatever is said."""
    room = Room(**{"local-sessions": "true", "tick": "500"})
    client = Talk(room, room.fronts[0])
    client.connect(timeout=1200)
    table = room.fronts[0].arrivals.local.table
    for _ in range(5):
        room.clock.advance(0.7)
        assert client.call(Op.PING, xid=Xid.PING).err == 0
    if not connected:
        client.connection.drop()
    room.clock.advance(1.19)
    assert client.session in table
    room.clock.advance(0.51)
    assert client.session not in table
    assert client.wire.closed


def test_both_kinds_at_once() -> None:
    """Sessions from before the option was set stay what they are."""
    room = Room(2)
    client = room.talk()
    for front in room.fronts:
        front.settings = front.settings._replace(local_sessions=True)
    again = caller(room, 1)
    assert again.connect(session=client.session, password=client.password).session == client.session
    assert again.call(Op.CREATE, create(b"/e", b"", EPHEMERAL)).err == 0


# ---------------------------------------------------------------- who never says who he is


@pytest.mark.parametrize("said", [b"", b"\0\0", b"\0\0\0\x2d" + bytes(20)])
def test_a_silent_caller_is_sent_away(said: bytes) -> None:
    """Whoever has not said the whole connect request after ten seconds is closed; who has said it is not."""
    room = Room()
    talk = room.talk()
    front = room.fronts[0]
    wire_ = Talk(room, front).wire
    silent = front.admit(wire_, ("10.0.0.1", 1))
    silent.received(said)
    room.clock.advance(GREETING_SECONDS - 0.1)
    assert not wire_.closed
    talk.send(talk.say(Op.PING, xid=Xid.PING))
    room.clock.advance(0.1)
    assert wire_.closed
    assert not talk.wire.closed
