"""The front as a whole: fail-over, moving sessions, replaced machines, bounds, and what leaves in a turn."""

from __future__ import annotations

import errno
import gc
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from weakref import ref

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.kernel.host import MachineMissing
from quorate.kernel.server.front import Opened
from quorate.plugins.znodes import front as front_module
from quorate.plugins.znodes.front import GREETING_SECONDS, ZooKeeperFront
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.protocol import Err, Op, Xid
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from znodes_cell import FakeCell
from znodes_talk import Event, Room, Talk
from znodes_wire import create, path_watch, put


def test_one_chunk_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What several clients send in one turn is one chunk; a large turn is cut."""
    room = Room()
    talks = [room.talk() for _ in range(3)]
    seat, chunks = room.seat(), []
    submit = seat.submit
    monkeypatch.setattr(seat, "submit", lambda chunk, applied: (chunks.append(chunk), submit(chunk, applied))[1])
    for number, talk in enumerate(talks):
        talk.send(*(talk.say(Op.CREATE, create(b"/n%d-%d" % (number, each))) for each in range(5)))
    room.turn()
    assert len(chunks) == 1
    assert [len(talk.heard()) for talk in talks] == [5, 5, 5]
    talks[0].send(*(talks[0].say(Op.SET_DATA, put(b"/n0-0", bytes(60_000))) for _ in range(12)))
    talks[1].send(talks[1].say(Op.SET_DATA, put(b"/n1-0", b"")))
    room.turn()
    assert len(chunks) == 3


def put_off(room: Room, pause: float, monkeypatch: pytest.MonkeyPatch) -> ZooKeeperFront:
    """Have `pause` seconds lie between the turns in which connections get what is due to them; returns the front."""
    front, later = room.fronts[0], room.clock.callLater
    monkeypatch.setattr(
        room.clock,
        "callLater",
        lambda seconds, call, *words: later(pause if call == front._settle else seconds, call, *words),
    )
    return front


def test_what_a_batch_brings_to_many_leaves_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many connections a turn get what is due to them, in order. A read that comes before is answered behind the
    event, and what later batches bring goes behind what waits."""
    monkeypatch.setattr(front_module, "SETTLED", 2)
    room = Room()
    front = put_off(room, 0.001, monkeypatch)
    writer, *watchers = talks = [room.talk() for _ in range(6)]
    writer.call(Op.CREATE, create(b"/n"))
    for watcher in watchers:
        watcher.call(Op.EXISTS, path_watch(b"/n", True))

    def told() -> list[bool]:
        return [bool(talk.wire.sent) for talk in talks]

    writer.send(writer.say(Op.SET_DATA, put(b"/n", b"1")))
    room.turn()
    assert told() == [False, True, True, False, False, False]
    watchers[4].send(watchers[4].say(Op.GET_DATA, path_watch(b"/n")))
    event, reply = watchers[4].heard()
    assert (event, reply.err) == (Event(3, b"/n"), 0)
    front.after_batch()
    assert told() == [False, True, True, False, False, False]
    room.clock.advance(0.001)
    assert told() == [False, True, True, True, True, False]
    room.clock.advance(0.001)
    assert [len(talk.heard()) for talk in talks] == [1, 1, 1, 1, 1, 0]
    assert not front.touched


def test_an_event_keeps_its_place_while_others_get_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happened behind a client's own write in one batch is told before anything newer, be it a value that it
    reads or a later event, also while the client waits for its turn to be told (ZK-8.3)."""
    monkeypatch.setattr(front_module, "SETTLED", 1)
    room = Room()
    put_off(room, 1, monkeypatch)
    first, talk, other = (room.talk() for _ in range(3))
    for path in (b"/first", b"/a", b"/b"):
        (first if path == b"/first" else talk).call(Op.EXISTS, path_watch(path, True))
    talk.send(talk.say(Op.CREATE, create(b"/mine")))
    other.send(*(other.say(Op.CREATE, create(path)) for path in (b"/first", b"/a")))
    room.turn()
    assert first.heard() == [Event(1, b"/first")]
    assert not talk.wire.sent
    other.send(other.say(Op.CREATE, create(b"/b")))
    room.turn()
    talk.send(talk.say(Op.EXISTS, path_watch(b"/a")))
    made, *events, read = talk.heard()
    assert events == [Event(1, b"/a"), Event(1, b"/b")]
    assert (made.xid, read.xid, read.err) == (3, 4, 0)


def test_fail_over_costs_nothing_within_the_grace() -> None:
    """Without a leader for a while: reads and pings go on, writes wait and are answered later, nobody is
    disconnected (ZK-11.1)."""
    room = Room(grace="4000")
    talk = room.talk()
    room.cell.serve(False)
    talk.send(talk.say(Op.CREATE, create(b"/a")), talk.say(Op.PING, xid=Xid.PING))
    other = Talk(room, room.fronts[0])
    other.connect(turn=False)
    room.clock.advance(3)
    assert [each.xid for each in talk.heard()] == [Xid.PING]
    assert not talk.wire.closed
    room.cell.serve(True)
    room.turn()
    assert [each.xid for each in talk.heard()] == [1]
    assert other.response().session
    room.clock.advance(10)
    assert talk.call(Op.EXISTS, path_watch(b"/a")).err == 0


def test_long_without_a_leader_sends_clients_away() -> None:
    """After the grace all are closed, to look elsewhere; sessions live on and can be taken up when the cell serves
    again."""
    room = Room(grace="4000")
    talk = room.talk()
    room.cell.serve(False)
    room.clock.advance(4.1)
    assert talk.wire.closed
    assert not room.fronts[0].connections
    room.cell.serve(True)
    assert room.talk(session=talk.session, password=talk.password).session == talk.session


def test_a_short_session_must_not_wait_for_the_grace() -> None:
    """A client is sent away while half of its session's time-out is left to find a replica that has a leader; one with
    more time stays for the grace."""
    room = Room(tick="1000", grace="4000")
    short, long = room.talk(timeout=3000), room.talk(timeout=20_000)
    room.cell.serve(False)
    room.clock.advance(1.4)
    assert not short.wire.closed
    room.clock.advance(0.2)
    assert (short.wire.closed, long.wire.closed) == (True, False)
    again = Talk(room, room.fronts[0])
    again.connect(session=short.session, password=short.password, timeout=3000, turn=False)
    assert again.wire.closed
    room.clock.advance(2.5)
    assert long.wire.closed


def test_lost_quorum_is_not_told_as_expiry(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attach that fails for want of a quorum closes the connection; telling the client that its session is gone
    would make it give up locks it still holds."""
    room = Room()
    first = room.talk()
    seat = room.seat()

    def refuse(session: int, password: bytes, attached: Callable[[Opened | None], None]) -> None:
        room.clock.callLater(0, attached, None)

    monkeypatch.setattr(seat, "attach_session", refuse)
    room.cell.serve(False)
    again = Talk(room, room.fronts[0])
    again.connect(session=first.session, password=first.password, turn=False)
    room.clock.pump([1, 1])
    assert again.wire.closed
    assert not again.wire.sent


def test_sessions_move_between_replicas() -> None:
    """A session that comes to another replica leaves the old connection closed; what was still on its way there is
    not done (ZK-2.5)."""
    room = Room(3)
    old = room.talk(0)
    old.call(Op.CREATE, create(b"/e", b"", 1))
    again = Talk(room, room.fronts[1])
    again.connect(session=old.session, password=old.password, turn=False)
    room.clock.advance(0)
    old.connection.received(old.say(Op.CREATE, create(b"/late")))
    room.turn()
    assert again.response().session == old.session
    assert old.wire.closed
    assert b"/late" not in room.fronts[1].tree.nodes
    assert again.call(Op.EXISTS, path_watch(b"/e")).err == 0


def test_replaced_machine() -> None:
    """When a snapshot brings a new machine every client starts over, on the new state."""
    room = Room()
    talk = room.talk()
    talk.call(Op.EXISTS, path_watch(b"/x", True))
    seat, front = room.seat(), room.fronts[0]
    fresh = ZnodesMachine()
    fresh.restore_chunks(seat.tree_machine.snapshot_chunks(), 1)
    seat.tree_machine = fresh
    front.restored()
    assert talk.wire.closed
    again = room.talk(session=talk.session, password=talk.password)
    again.send(
        again.say(Op.CREATE, create(b"/y", b"1")),
        again.say(Op.GET_DATA, path_watch(b"/y", True)),
        again.say(Op.SET_DATA, put(b"/y", b"2")),
    )
    room.turn()
    assert len(again.heard()) == 4
    assert fresh.observer is None


def test_a_replaced_tree_goes_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nodes are freed some a turn, and the new one is served meanwhile."""
    monkeypatch.setattr(front_module, "DISCARDED", 3)
    room = Room()
    seat, front = room.seat(), room.fronts[0]
    old = seat.tree_machine.tree.nodes
    for number in range(4):
        room.talk().call(Op.CREATE, create(b"/n%d" % number))
    fresh = ZnodesMachine()
    fresh.restore_chunks(seat.tree_machine.snapshot_chunks(), 1)
    seat.tree_machine = fresh
    assert len(old) == 9
    front.restored()
    front.restored()  # as when answers were lost with the old machine
    assert len(old) == 6
    room.clock.advance(front_module.DISCARD_SECONDS)
    assert len(old) == 3
    assert len(front.tree.nodes) == 9
    room.clock.advance(front_module.DISCARD_SECONDS)
    assert not old


def test_answers_that_nobody_waits_for_are_counted() -> None:
    """A chunk from before a snapshot that is applied behind it is answered for nobody. Later events must find their
    places all the same."""
    room = Room()
    talk = room.talk()
    seat, front = room.seat(), room.fronts[0]
    room.cell.serve(False)
    talk.send(talk.say(Op.CREATE, create(b"/late")), talk.say(Op.CREATE, create(b"/later")))
    room.clock.advance(0)
    fresh = ZnodesMachine()
    fresh.restore_chunks(seat.tree_machine.snapshot_chunks(), 1)
    seat.tree_machine = fresh
    front.restored()
    room.cell.serve(True)
    room.turn()
    assert b"/later" in fresh.tree.nodes
    again = room.talk()
    again.call(Op.EXISTS, path_watch(b"/n", True))
    again.send(again.say(Op.CREATE, create(b"/n")), again.say(Op.DELETE, wire.path_version(b"/n")))
    room.turn()
    event, *replies = again.heard()
    assert event == Event(1, b"/n")
    assert [reply.err for reply in replies] == [0, 0]


def test_a_session_moves_behind_what_it_left_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an older connection has on its way is applied before the session is attached anew: it may have been
    elsewhere meanwhile, and what it wrote there is newer."""
    room = Room()
    first = room.talk()
    seat, moves = room.seat(), []
    attach = seat.attach_session
    monkeypatch.setattr(seat, "attach_session", lambda *args: (moves.append(args[0]), attach(*args)))
    room.cell.serve(False)
    first.send(first.say(Op.CREATE, create(b"/left")))
    again = Talk(room, room.fronts[0])
    again.connect(session=first.session, password=first.password, turn=False)
    room.clock.advance(0)
    assert not moves
    room.cell.serve(True)
    room.turn()
    assert moves == [first.session]
    assert again.response().session == first.session
    assert b"/left" in seat.tree_machine.tree.nodes


def test_nothing_comes_behind_a_session_that_was_taken_up_again() -> None:
    """What an older connection brings once its client has come back with the session is not done: the client may have
    seen already that it was not (ZK-2.4). Who does not know the password ends no connection."""
    room = Room()
    first = room.talk()
    Talk(room, room.fronts[0]).connect(session=first.session, password=b"x" * 16, turn=False)
    assert not first.wire.closed
    again = Talk(room, room.fronts[0])
    again.connect(session=first.session, password=first.password, turn=False)
    again.send(again.say(Op.EXISTS, path_watch(b"/late")))
    if not first.wire.closed:
        first.send(first.say(Op.CREATE, create(b"/late")))
    room.turn()
    assert again.response().session == first.session
    assert [each.err for each in again.heard()] == [Err.NO_NODE]
    assert again.call(Op.EXISTS, path_watch(b"/late")).err == Err.NO_NODE


def test_lost_answers_end_the_connections_they_were_for() -> None:
    """A chunk whose effects came in a snapshot has no answers: its clients must ask anew, the others go on."""
    room = Room()
    talk, other = room.talk(), room.talk()
    room.fronts[0]._deliver([(talk.connection, 2)], [])
    assert talk.wire.closed
    assert other.call(Op.EXISTS, path_watch(b"/")).err == 0


def test_a_halted_machine_sends_its_clients_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk at which the machine halts has no answers, and there is no machine to look at: its clients lose their
    connections, and the replica, which is in the middle of a batch, hears of nothing. Nor does it when a snapshot
    brings a halted machine."""
    room = Room()
    talk, other = room.talk(), room.talk()
    front, seat = room.fronts[0], room.seat()

    def halted(name: str) -> ZnodesMachine:
        raise MachineMissing(f"the machine {name} is halted")

    monkeypatch.setattr(seat, "machine", halted)
    monkeypatch.setattr(seat, "submit", lambda chunk, applied: room.clock.callLater(0, applied, []))
    talk.send(talk.say(Op.CREATE, create(b"/a")))
    room.turn()
    assert (talk.wire.closed, other.wire.closed) == (True, False)
    front.restored()
    assert other.wire.closed


def test_a_front_that_ended_lets_the_next_one_be() -> None:
    """An answer that is lost behind the unloading of its machine is told to a front that has ended: it lays no hand on
    the machine that was loaded since, whose own front asks for reads at pauses and hears of changes."""
    room = Room()
    seat, front = room.seat(), room.fronts[0]
    lost: list[Callable[[list[bytes]], None]] = []
    submit, seat.submit = seat.submit, lambda chunk, applied: lost.append(applied)  # type: ignore[method-assign]
    talk = room.talk()
    talk.send(talk.say(Op.CREATE, create(b"/a")))
    room.turn()
    front.stopService()
    seat.watchers.remove(front)
    seat.submit = submit  # type: ignore[method-assign]
    seat.tree_machine = ZnodesMachine()
    room.fronts[0] = ZooKeeperFront(seat, room.clock, "tcp:0", {})
    (applied,) = lost
    client = room.talk()
    assert client.call(Op.EXISTS, path_watch(b"/b", True)).err == Err.NO_NODE
    applied([])
    client.send(
        client.say(Op.CREATE, create(b"/a")),
        client.say(Op.EXISTS, path_watch(b"/a")),
        client.say(Op.CREATE, create(b"/b")),
    )
    room.turn()
    made, read, event, last = client.heard()
    assert [made.xid, read.xid, last.xid] == [2, 3, 4]
    assert event == Event(1, b"/b")


def test_silent_callers_are_sent_away() -> None:
    """Who connects and says nothing does not stay; nor does half a connect request (ZK-2.10)."""
    room = Room()
    front = room.fronts[0]
    talk = Talk(room, front)
    room.clock.callLater(GREETING_SECONDS, front._expect_greeting, talk.connection)
    talk.connection.received(b"\0\0")
    room.clock.advance(GREETING_SECONDS - 1)
    assert not talk.wire.closed
    room.clock.advance(2)
    assert talk.wire.closed


def test_nothing_is_kept_of_the_gone() -> None:
    """Closed connections leave no watch, no counter, no entry behind."""
    room = Room()
    front = room.fronts[0]
    for _ in range(3):
        talk = room.talk()
        for kind in (0, 1):
            talk.call(Op.ADD_WATCH, wire.path_only(b"/w") + kind.to_bytes(4, "big"))
        talk.connection.drop()
    room.turn()
    assert not front.connections
    assert not front.by_session
    assert not front.per_address
    assert not front.watches.held
    assert not any(front.watches.tables)
    assert front.machine.observer is None


def test_who_cannot_be_watched_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller who is refused because the system has no room for him does not count among the clients."""
    clock = MemoryReactorClock()
    front = ZooKeeperFront(FakeCell(clock, 1).seats[0], clock, "tcp:0", {})
    ours, theirs = socket.socketpair()

    def full(reader: object) -> None:
        raise OSError(errno.ENOSPC, "no room to watch one more")

    monkeypatch.setattr(clock, "addReader", full)
    with pytest.raises(OSError, match="no room"):
        front._accepted(ours, ("127.0.0.1", 1))
    assert (front.connections, front.per_address) == ({}, {})
    theirs.close()


def test_who_has_left_is_forgotten() -> None:
    """A connection is freed when it has ended, by itself or by its client, without the collector: no cycle holds it."""
    clock = MemoryReactorClock()
    cell = FakeCell(clock, 1)
    front = ZooKeeperFront(cell.seats[0], clock, "tcp:0", {})
    pairs = [socket.socketpair() for _ in range(2)]
    for ours, _ in pairs:
        front._accepted(ours, ("127.0.0.1", 1))
    gone = [ref(each) for each in front.connections.values()]
    gc.collect()
    gc.disable()
    try:
        pairs[0][1].close()
        wires = [each.wire for each in front.connections.values()]
        wires[0].connectionLost(Failure(ConnectionDone()))
        next(iter(front.connections.values())).drop()
        del wires
        clock.advance(GREETING_SECONDS)
        assert not front.connections
        assert [each() for each in gone] == [None, None]
    finally:
        gc.enable()
        pairs[1][1].close()
