"""A connection: the handshake, and the order of everything a client hears."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.kernel.machine import SessionId
from quorate.plugins.znodes import connection as limits
from quorate.plugins.znodes import jute, sasl
from quorate.plugins.znodes.acl import OPEN
from quorate.plugins.znodes.proofs import PROVED_MAX
from quorate.plugins.znodes.protocol import Err, Op, Xid
from quorate.plugins.znodes.reads import LOOKED
from twisted.logger import capturedLogs
from znodes_talk import Event, Room, Talk
from znodes_wire import create, frame, path_watch, put, several

ANN = jute.Auth.build({"type": 0, "scheme": b"digest", "auth": b"ann:pw"})
MINE = [{"perms": 31, "scheme": b"auth", "id": b""}]


@pytest.fixture
def room() -> Room:
    """One replica."""
    return Room(words="*", tick="500")


def value(reply: wire.Reply) -> bytes | None:
    """The value in a getData's reply."""
    return jute.GetDataReply.parse(reply.body).data


def test_timeouts_are_negotiated(room: Room) -> None:
    """Between 2 and 20 ticks; the password is there, and the read-only byte only for who sent one."""
    assert room.talk().connection.timeout_ms == 10_000
    for asked, got in ((1, 1000), (10**8, 10_000), (4321, 4321)):
        response = Talk(room, room.fronts[0]).connect(timeout=asked)
        assert (response.timeout, len(response.password), response.tail) == (got, 16, b"\0")
    assert Talk(room, room.fronts[0]).connect(old=True).tail == b""


def test_requests_before_the_response_wait(room: Room) -> None:
    """What comes with the connect request is answered after its response, in order."""
    talk = Talk(room, room.fronts[0])
    talk.connect(turn=False)
    talk.send(talk.say(Op.CREATE, create(b"/a", b"1")), talk.say(Op.GET_DATA, path_watch(b"/a")))
    assert not talk.wire.sent
    room.turn()
    assert talk.response().session
    assert [each.xid for each in talk.heard()] == [1, 2]


def test_handshake_in_pieces(room: Room) -> None:
    """Bytes may come one by one."""
    talk = Talk(room, room.fronts[0])
    request = jute.ConnectRequest.build(
        {"protocol": 0, "last_zxid": 0, "timeout": 5000, "session": 0, "password": bytes(16), "read_only": False}
    )
    for byte in len(request).to_bytes(4, "big") + request:
        talk.connection.received(bytes((byte,)))
    room.turn()
    assert talk.response().timeout == 5000
    for byte in talk.say(Op.EXISTS, path_watch(b"/")) + talk.say(Op.CREATE, create(b"/x")):
        talk.connection.received(bytes((byte,)))
    room.turn()
    assert [each.err for each in talk.heard()] == [0, 0]


@pytest.mark.parametrize("behind", [b"", create(b"/after")])
def test_a_large_request_in_pieces(room: Room, behind: bytes) -> None:
    """It is put together once, with what came behind it; meanwhile the session is alive and other bytes are not
    looked at."""
    talk, other = room.talk(), room.talk()
    content = bytes(range(256)) * 4000
    said = talk.say(Op.CREATE, create(b"/large", content)) + (talk.say(Op.CREATE, behind) if behind else b"")
    size = 1000
    heard = room.cell.heard[SessionId(talk.session)]
    room.clock.advance(1)
    for at in range(0, len(said), size):
        assert len(talk.connection.rest) <= limits.PART + size
        talk.send(said[at : at + size])
    assert room.cell.heard[SessionId(talk.session)] > heard
    room.turn()
    assert [each.err for each in talk.heard()] == [0] * (2 if behind else 1)
    assert (talk.connection.rest, talk.connection.pieces, talk.connection.pieces_size) == (b"", [], 0)
    assert other.get(b"/large") == content


def test_a_large_request_before_the_session_is_there(room: Room) -> None:
    """Its pieces wait with the connection."""
    talk = Talk(room, room.fronts[0])
    talk.connect(turn=False)
    said = talk.say(Op.CREATE, create(b"/large", bytes(200_000)))
    for at in range(0, len(said) - 1, 30_000):
        talk.send(said[at : at + 30_000])
    room.turn()
    talk.response()
    assert talk.heard()[0].err == 0


def test_client_that_has_seen_more_is_sent_away(room: Room) -> None:
    """A replica that is behind the client closes without a word; one that has caught up serves (ZK-2.3, ZK-11.2)."""
    talk = room.talk(zxid=1 << 40)
    assert talk.wire.closed
    assert not talk.wire.sent
    zxid = room.fronts[0].machine.zxid
    assert room.talk(zxid=zxid).session


def test_sessions_are_taken_up_again(room: Room) -> None:
    """Id and password bring the same session; the older connection is closed. A wrong password or an unknown id gets
    zeros."""
    first = room.talk()
    first.call(Op.CREATE, create(b"/e", b"", 1))
    again = room.talk(session=first.session, password=first.password)
    assert again.session == first.session
    assert first.wire.closed
    assert again.call(Op.EXISTS, path_watch(b"/e")).err == 0
    for session, password in ((first.session, b"x" * 16), (12345, first.password)):
        refused = room.talk(session=session, password=password)
        assert (refused.session, refused.password, refused.wire.closed) == (0, bytes(16), True)
    assert not again.wire.closed


def test_pipelined_requests_take_effect_in_order(room: Room) -> None:
    """Reads between writes, all in one piece, see exactly the writes before them (ZK-3.2, ZK-11.1)."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/a", b"0"))
    frames = []
    for number in range(1, 6):
        frames += [talk.say(Op.SET_DATA, put(b"/a", b"%d" % number)), *[talk.say(Op.GET_DATA, path_watch(b"/a"))] * 2]
    talk.send(*frames)
    room.turn()
    replies = talk.heard()
    assert [each.xid for each in replies] == sorted(each.xid for each in replies)
    assert [value(each) for each in replies if len(each.body) > 68] == [b"%d" % n for n in range(1, 6) for _ in "ab"]
    zxids = [each.zxid for each in replies]
    assert zxids == sorted(zxids)


def test_answers_of_a_batch_leave_in_one_write(room: Room) -> None:
    """Many replies and events, one send."""
    talk = room.talk()
    talk.call(Op.EXISTS, path_watch(b"/n9", True))
    talk.wire.writes = 0
    talk.send(*(talk.say(Op.CREATE, create(b"/n%d" % number)) for number in range(20)))
    room.turn()
    assert len(talk.heard()) == 21
    assert talk.wire.writes == 1


def test_reads_do_not_wait_for_the_turn(room: Room) -> None:
    """With nothing on its way a read is answered within the call that brought it."""
    talk = room.talk()
    talk.send(talk.say(Op.GET_DATA, path_watch(b"/")), talk.say(Op.PING, xid=Xid.PING))
    assert [each.xid for each in talk.heard()] == [1, -2]


def test_event_stands_between_what_was_before_and_after(room: Room) -> None:
    """A watch set by a read behind a write, fired by the next write of the same piece: reply, event, reply."""
    talk = room.talk()
    talk.send(
        talk.say(Op.CREATE, create(b"/a", b"0")),
        talk.say(Op.GET_DATA, path_watch(b"/a", True)),
        talk.say(Op.SET_DATA, put(b"/a", b"1")),
        talk.say(Op.GET_DATA, path_watch(b"/a")),
    )
    room.turn()
    first, read, event, write, last = talk.heard()
    assert [each.xid for each in (first, read, write, last)] == [1, 2, 3, 4]
    assert (value(read), event, value(last)) == (b"0", Event(3, b"/a"), b"1")


def test_event_comes_before_newer_values(room: Room) -> None:
    """Another client's writes: the event is there before any reply that shows them, also when reads wait behind a
    write (ZK-8.3)."""
    talk, other = room.talk(), room.talk()
    talk.call(Op.CREATE, create(b"/a", b"0"))
    talk.call(Op.GET_DATA, path_watch(b"/a", True))
    other.send(other.say(Op.SET_DATA, put(b"/a", b"1")))
    talk.send(talk.say(Op.CREATE, create(b"/b")), talk.say(Op.GET_DATA, path_watch(b"/a")))
    room.turn()
    event, made, read = talk.heard()
    assert (event, made.xid, value(read)) == (Event(3, b"/a"), 3, b"1")


def test_idle_client_is_told_at_once(room: Room) -> None:
    """An event needs no request to travel on."""
    talk, other = room.talk(), room.talk()
    talk.call(Op.EXISTS, path_watch(b"/new", True))
    other.call(Op.CREATE, create(b"/new"))
    assert talk.heard() == [Event(1, b"/new")]


def test_events_across_replicas() -> None:
    """A watch on one replica is fired by a write through another."""
    room = Room(3)
    talk, other = room.talk(0), room.talk(2)
    talk.call(Op.GET_CHILDREN, path_watch(b"/", True))
    other.call(Op.CREATE, create(b"/new"))
    assert talk.heard() == [Event(4, b"/")]
    assert talk.call(Op.EXISTS, path_watch(b"/new")).err == 0


def test_sync_waits_and_so_does_what_follows(room: Room) -> None:
    """A sync is answered after the barrier, reads behind it after it; a write behind it carries them all along
    (ZK-9.6)."""
    talk = room.talk()
    talk.send(talk.say(Op.SYNC, b"\0\0\0\1/"), talk.say(Op.GET_DATA, path_watch(b"/")))
    assert not talk.wire.sent
    room.turn()
    assert [each.xid for each in talk.heard()] == [1, 2]
    talk.send(
        talk.say(Op.SYNC, b"\0\0\0\1/"),
        talk.say(Op.CREATE, create(b"/a", b"1")),
        talk.say(Op.SYNC, b"\0\0\0\1/"),
        talk.say(Op.GET_DATA, path_watch(b"/a")),
    )
    room.turn()
    replies = talk.heard()
    assert [each.xid for each in replies] == [3, 4, 5, 6]
    assert replies[0].body == b"\0\0\0\1/"
    assert value(replies[3]) == b"1"


def test_sync_without_a_quorum_ends_the_connection(room: Room) -> None:
    """A barrier that cannot be is not answered as if it had been."""
    talk = room.talk()
    room.cell.serve(False)
    talk.send(talk.say(Op.SYNC, b"\0\0\0\1/"))
    room.clock.advance(1)
    assert talk.wire.closed
    assert not talk.wire.sent


def test_authentication_counts_from_where_it_stands(room: Room) -> None:
    """What was sent before an authentication is refused, what follows is allowed, and the replies keep their order."""
    talk = room.talk()
    talk.send(
        talk.say(Op.CREATE, create(b"/m1", b"", 0, MINE)),
        talk.say(Op.AUTH, ANN, xid=Xid.AUTH),
        talk.say(Op.CREATE, create(b"/m2", b"", 0, MINE)),
        talk.say(Op.WHO_AM_I),
    )
    room.turn()
    refused, authenticated, made, who = talk.heard()
    assert [each.err for each in (refused, authenticated, made, who)] == [Err.INVALID_ACL, 0, 0, 0]
    assert (authenticated.xid, authenticated.zxid) == (Xid.AUTH, 0)
    assert [(each.scheme, each.id) for each in jute.Ids.parse(who.body)] == [(b"ip", b"127.0.0.1"), (b"digest", b"ann")]


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_failed_authentication_ends_the_connection(room: Room, behind_a_write: bool) -> None:
    """-115, then the end; what follows is not looked at, what came before is answered."""
    talk = room.talk()
    before = [talk.say(Op.CREATE, create(b"/w"))] if behind_a_write else []
    wrong = jute.Auth.build({"type": 0, "scheme": b"nosuch", "auth": b"x"})
    talk.send(*before, talk.say(Op.AUTH, wrong, xid=-4), talk.say(Op.CREATE, create(b"/late")))
    room.turn()
    *earlier, refused = talk.heard()
    assert [each.err for each in earlier] == [0] * len(before)
    assert (refused.xid, refused.err) == (-4, Err.AUTH_FAILED)
    assert talk.wire.closed
    assert b"/late" not in room.fronts[0].tree.nodes


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_sasl_is_answered_at_once(behind_a_write: bool) -> None:
    """Both steps, ahead of what is on its way, without a transaction number; what it proves counts from then on."""
    room = Room(**{"sasl.ann": "secret"})
    talk = room.talk()
    before = [talk.say(Op.CREATE, create(b"/w"))] if behind_a_write else []
    talk.send(*before, talk.say(Op.SASL, jute.Sasl.build({"token": b""}), xid=7))
    (challenge,) = talk.heard()
    assert (challenge.xid, challenge.zxid, challenge.err) == (7, 0, 0)
    said = sasl.directives(jute.Sasl.parse(challenge.body).token)
    talk.send(talk.say(Op.SASL, jute.Sasl.build({"token": sasl_answer(said, b"ann", b"secret")}), xid=8))
    (proof,) = talk.heard()
    assert jute.Sasl.parse(proof.body).token.startswith(b"rspauth=")
    room.turn()
    assert [each.err for each in talk.heard()] == [0] * len(before)
    assert talk.call(Op.CREATE, create(b"/mine", b"", 0, MINE)).err == 0
    acl_reply = jute.GetAclReply.parse(talk.call(Op.GET_ACL, wire.path_only(b"/mine")).body)
    assert [(each.scheme, each.id) for each in acl_reply.acl] == [(b"sasl", b"ann")]
    assert room.talk().call(Op.GET_DATA, path_watch(b"/mine")).err == Err.NO_AUTH
    assert not room.fronts[0].counters.auth_failed


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_failed_sasl_ends_the_connection(behind_a_write: bool) -> None:
    """-115 and a null token, as the original has it, then the end; nothing behind it is looked at."""
    room = Room(**{"sasl.ann": "secret"})
    talk = room.talk()
    before = [talk.say(Op.CREATE, create(b"/w"))] if behind_a_write else []
    talk.send(
        *before,
        talk.say(Op.SASL, jute.Sasl.build({"token": b""}), xid=7),
        talk.say(Op.SASL, jute.Sasl.build({"token": b"username=ann"}), xid=8),
        talk.say(Op.CREATE, create(b"/late")),
    )
    room.turn()
    heard = {each.xid: each for each in talk.heard()}
    assert {xid: each.err for xid, each in heard.items()} == {7: 0, 8: Err.AUTH_FAILED} | (
        {1: 0} if behind_a_write else {}
    )
    assert jute.Sasl.parse(heard[8].body).token is None
    assert talk.wire.closed
    assert b"/late" not in room.fronts[0].tree.nodes
    assert room.fronts[0].counters.auth_failed == 1


def test_sasl_where_nobody_can(room: Room) -> None:
    """Without users the answer is a null token, as in the original without a login configuration."""
    reply = room.talk().call(Op.SASL, jute.Sasl.build({"token": b""}))
    assert (reply.err, reply.body) == (0, b"\xff\xff\xff\xff")


def test_an_auth_packet_for_what_the_connection_shows(room: Room) -> None:
    """An address is there already; a certificate is not."""
    talk = room.talk()
    assert talk.call(Op.AUTH, jute.Auth.build({"type": 0, "scheme": b"ip", "auth": b""}), xid=-4).err == 0
    refused = talk.call(Op.AUTH, jute.Auth.build({"type": 0, "scheme": b"x509", "auth": b""}), xid=-4)
    assert refused.err == Err.AUTH_FAILED
    assert talk.wire.closed


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_what_a_client_proves_is_bounded(room: Room, behind_a_write: bool) -> None:
    """Many users are taken, and again at no cost; a client that proves more than a chunk can hold of it is refused as
    one with a wrong proof, and the writes of others go on."""
    talk, other = room.talk(), room.talk()
    users = [jute.Auth.build({"type": 0, "scheme": b"digest", "auth": b"user%d:pw" % each}) for each in range(100)]
    assert {talk.call(Op.AUTH, user, xid=Xid.AUTH).err for user in users * 2} == {0}
    assert talk.call(Op.CREATE, create(b"/many", b"", 0, MINE)).err == 0
    long = jute.Auth.build({"type": 0, "scheme": b"digest", "auth": bytes(PROVED_MAX) + b":pw"})
    before = [talk.say(Op.CREATE, create(b"/w"))] if behind_a_write else []
    talk.send(*before, talk.say(Op.AUTH, long, xid=Xid.AUTH), talk.say(Op.CREATE, create(b"/late")))
    room.turn()
    assert [each.err for each in talk.heard()] == [0] * len(before) + [Err.AUTH_FAILED]
    assert talk.wire.closed
    assert other.call(Op.EXISTS, path_watch(b"/late")).err == Err.NO_NODE
    assert other.call(Op.CREATE, create(b"/other")).err == 0


def sasl_answer(said: Mapping[bytes, bytes], user: bytes, password: bytes) -> bytes:
    """A client's answer to a challenge."""
    said = {b"realm": said[b"realm"], b"nonce": said[b"nonce"], b"cnonce": b"mine"}
    secret = sasl._secret(said, user, password)
    uri = b"zookeeper/zk-sasl-md5"
    said |= {b"username": user, b"digest-uri": uri, b"nc": b"00000001", b"qop": b"auth"}
    said[b"response"] = sasl._response(said, secret, b"AUTHENTICATE:" + uri)
    return b",".join(b'%s="%s"' % each for each in said.items())


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_unknown_request_ends_the_connection(room: Room, behind_a_write: bool) -> None:
    """-6 without a transaction number, then the end; the cell's own operations count as unknown."""
    for op in (99, 0, Op.DELETE_CONTAINER, Op.CREATE_SESSION):
        talk = room.talk()
        before = [talk.say(Op.CREATE, create(b"/w"))] if behind_a_write else []
        talk.send(*before, talk.say(op), talk.say(Op.CREATE, create(b"/late")))
        room.turn()
        reply = talk.heard()[-1]
        assert (reply.zxid, reply.err, talk.wire.closed) == (-1, Err.UNIMPLEMENTED, True)
    assert b"/late" not in room.fronts[0].tree.nodes


def test_close_session(room: Room) -> None:
    """Everything before it is answered, then it, then the end; the ephemerals are gone."""
    talk = room.talk()
    talk.send(
        talk.say(Op.CREATE, create(b"/e", b"", 1)),
        talk.say(Op.EXISTS, path_watch(b"/e")),
        talk.say(Op.CLOSE_SESSION),
        talk.say(Op.CREATE, create(b"/late")),
    )
    room.turn()
    assert [(each.xid, each.err) for each in talk.heard()] == [(1, 0), (2, 0), (3, 0)]
    assert talk.wire.closed
    assert not room.fronts[0].connections
    assert not {b"/e", b"/late"} & room.fronts[0].tree.nodes.keys()


@pytest.mark.parametrize("length", [-1, 0, 4, 7, 0xFFFFF + 1, 0x7FFFFFFF])
def test_impossible_frames_end_the_connection(room: Room, length: int) -> None:
    """Too short for a header or longer than allowed: closed without a word, nothing kept."""
    talk = room.talk()
    talk.send(length.to_bytes(4, "big", signed=True), bytes(8))
    assert talk.wire.closed
    assert not talk.wire.sent
    assert not room.fronts[0].connections


def test_a_ping_is_answered_as_one(room: Room) -> None:
    """Whatever xid it had, also behind a write that is under way (ZK-3.1)."""
    talk = room.talk()
    talk.send(talk.say(Op.PING, xid=7), talk.say(Op.CREATE, create(b"/a")), talk.say(Op.PING, xid=8))
    assert [each.xid for each in talk.heard()] == [Xid.PING, Xid.PING]


@pytest.mark.parametrize("behind", [False, True])
def test_half_an_auth_packet_ends_without_a_word(room: Room, behind: bool) -> None:
    """As in the original; what was asked before it is answered (ZK-7.5)."""
    talk = room.talk()
    first = talk.say(Op.CREATE, create(b"/a")) if behind else talk.say(Op.EXISTS, path_watch(b"/"))
    talk.send(first, talk.say(Op.AUTH, ANN[:-1], xid=Xid.AUTH), talk.say(Op.EXISTS, path_watch(b"/")))
    room.turn()
    assert [each.xid for each in talk.heard()] == [1]
    assert talk.wire.closed
    assert room.fronts[0].counters.auth_failed == 1


def test_malformed_records_are_answered(room: Room) -> None:
    """A cut record gets -5 and the connection goes on, for reads of every kind."""
    talk = room.talk()
    for op in (3, 4, 6, 8, 9, 12, 17, 18, 22, 101, 103, 104, 105, 106):
        for body in (b"", b"\0", b"\0\0\0", b"\0\0\0\x10/x", b"\xff\xff\xff\xf9/"):
            reply = talk.call(op, body)
            assert reply.err == Err.MARSHALLING_ERROR, (op, body)
    assert talk.call(Op.EXISTS, path_watch(b"/") + b"junk").err == 0


def test_slow_client_is_waited_for(room: Room) -> None:
    """A client that does not take large replies is read no further, and loses nothing when it does."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/big", b"x" * 500_000))
    talk.wire.takes = False
    talk.send(*(talk.say(Op.GET_DATA, path_watch(b"/big")) for _ in range(30)), talk.say(Op.CREATE, create(b"/after")))
    room.turn()
    assert not talk.wire.reading
    assert talk.wire.pending < 4 << 20
    assert b"/after" not in room.fronts[0].tree.nodes
    talk.wire.takes = True
    while talk.connection.stalled:
        talk.wire.pending = 0
        talk.connection.drained()
    room.turn()
    assert [each.xid for each in talk.heard()] == list(range(2, 33))
    assert talk.wire.reading


def test_who_asks_for_much_lets_others_ask_between(room: Room) -> None:
    """However quickly a client takes its replies, so many bytes of them are made in one turn, and the next in the next;
    what it has asked behind them keeps its place."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/big", b"x" * 500_000))
    talk.send(*(talk.say(Op.GET_DATA, path_watch(b"/big")) for _ in range(9)), talk.say(Op.CREATE, create(b"/after")))
    turns = [[each.xid for each in talk.heard()]]
    while room.clock.calls and room.clock.calls[0].getTime() <= room.clock.seconds():
        room.clock.calls.pop(0).func()
        turns.append([each.xid for each in talk.heard()])
    assert [each for each in turns if each] == [[2, 3, 4], [5, 6, 7], [8, 9, 10], [11]]
    assert talk.wire.reading


@pytest.mark.parametrize("op", [Op.GET_ALL_CHILDREN_NUMBER, Op.GET_EPHEMERALS])
def test_who_has_much_counted_lets_others_ask_between(room: Room, monkeypatch: pytest.MonkeyPatch, op: int) -> None:
    """A small reply may have cost a look at many nodes: that counts like bytes."""
    monkeypatch.setattr(limits, "REPLY_ROOM", 1000)
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/top"))
    nodes = limits.REPLY_ROOM // LOOKED + 1
    tree = room.fronts[0].tree
    owner = talk.session if op == Op.GET_EPHEMERALS else 0
    for number in range(nodes):
        tree.create(b"/top/%d" % number, b"", OPEN, owner, False, (), 1, 0)
    asked = wire.path_only(b"/top" if op == Op.GET_ALL_CHILDREN_NUMBER else b"/none")
    talk.send(*(talk.say(op, asked) for _ in range(3)))
    assert len(talk.heard()) == 1
    room.turn()
    assert [each.err for each in talk.heard()] == [0, 0]
    assert talk.call(Op.GET_ALL_CHILDREN_NUMBER, wire.path_only(b"/")).err == 0


@pytest.mark.parametrize("length", [-1, 0, 4, 0xFFFFF + 1])
def test_an_impossible_frame_of_a_slow_client(room: Room, length: int) -> None:
    """It ends the connection once the client has taken the replies before it, though nothing more comes."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/big", b"x" * 500_000))
    talk.wire.takes = False
    reads = [talk.say(Op.GET_DATA, path_watch(b"/big")) for _ in range(3)]
    talk.send(*reads, length.to_bytes(4, "big", signed=True))
    assert talk.connection.stalled
    talk.wire.pending = 0
    talk.connection.drained()
    assert [each.err for each in talk.heard()] == [0] * 3
    assert talk.wire.closed


def test_a_multi_read_is_bounded(room: Room) -> None:
    """One that asks for a large node again and again is refused before the replies to it fill the memory."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/big", b"x" * 500_000))
    for times, err in ((30, 0), (40, Err.MARSHALLING_ERROR)):
        reply = talk.call(Op.MULTI_READ, several(*[(Op.GET_DATA, path_watch(b"/big"))] * times))
        assert reply.err == err
        assert bool(reply.body) is not bool(err)


def test_events_for_a_slow_client_wait_in_its_socket_only(room: Room) -> None:
    """However much fires for a client that does not read, nothing of it is kept above the wire, which is bounded and
    drops the client rather than an event (ZK-8.7)."""
    slow, other = room.talk(), room.talk()
    slow.call(Op.ADD_WATCH, wire.path_only(b"/") + b"\0\0\0\1")
    slow.wire.takes = False
    for number in range(50):
        other.call(Op.CREATE, create(b"/n%d" % number))
    assert not slow.connection.events
    assert not slow.connection.out
    assert slow.wire.pending == len(slow.wire.sent)
    assert [each.path for each in slow.heard()] == [b"/n%d" % number for number in range(50)]


@pytest.mark.parametrize("behind_a_write", [False, True])
def test_a_read_that_fails_fails_alone(room: Room, monkeypatch: pytest.MonkeyPatch, behind_a_write: bool) -> None:
    """An answer that cannot be made, by a defect, is -5 as in the original. Above all it does not end the batch in
    which it is called for, which the other replicas apply."""
    monkeypatch.setitem(limits.ANSWERS, Op.GET_ACL, lambda *_: 1 // 0)
    talk = room.talk()
    before = [talk.say(Op.CREATE, create(b"/a"))] if behind_a_write else []
    with capturedLogs() as told:
        talk.send(*before, talk.say(Op.GET_ACL, wire.path_only(b"/")), talk.say(Op.CREATE, create(b"/b")))
        room.turn()
    assert [each.err for each in talk.heard()] == [0] * len(before) + [Err.MARSHALLING_ERROR, 0]
    assert [each["log_failure"].type for each in told] == [ZeroDivisionError]


def test_a_farewell_that_comes_too_late(room: Room) -> None:
    """When the session expires before its client's farewell is applied, the connection ends as any other of an expired
    session: what was to come before the farewell could not be answered in its order any more (ZK-3.2)."""
    talk = room.talk()
    room.cell.propose(lambda cell: cell.end(SessionId(talk.session), True))
    talk.send(
        talk.say(Op.CREATE, create(b"/a")),
        talk.say(Op.EXISTS, path_watch(b"/")),
        talk.say(Op.CREATE, create(b"/b")),
        talk.say(Op.CLOSE_SESSION),
    )
    room.turn()
    assert [each.xid for each in talk.heard()] == []
    assert talk.wire.closed


def test_what_is_answered_at_a_pause_is_counted_one_by_one(room: Room) -> None:
    """Each request and each reply, however many reads stand between two writes, and no event as a reply."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/n"))
    received, sent = talk.connection.received_count, talk.connection.sent_count
    missed = jute.SetWatches.build({"zxid": 0, "changed": [b"/n", b"/gone"], "exists": [b"/n"], "children": []})
    talk.send(
        talk.say(Op.CREATE, create(b"/a")),
        talk.say(Op.SET_WATCHES, missed),
        talk.say(Op.EXISTS, path_watch(b"/a")),
        talk.say(Op.CREATE, create(b"/b")),
    )
    room.turn()
    assert len(talk.heard()) == 7
    assert (talk.connection.received_count - received, talk.connection.sent_count - sent) == (4, 7)


@pytest.mark.parametrize("at_one", [True, False])
def test_too_much_at_a_pause_drops_the_client(room: Room, at_one: bool) -> None:
    """Reads between writes cannot be waited for: one that asks for more than fits is dropped, and the others go on.
    So is one that asks for as much at many pauses of a batch, or it would fill the memory."""
    talk, other = room.talk(), room.talk()
    talk.call(Op.CREATE, create(b"/big", b"x" * 900_000))
    frames = [talk.say(Op.CREATE, create(b"/a"))]
    for _ in range(30):
        frames.append(talk.say(Op.GET_DATA, path_watch(b"/big")))
        if not at_one:
            frames.append(talk.say(Op.SET_DATA, put(b"/a", b"")))
    talk.send(*frames, talk.say(Op.CREATE, create(b"/b")))
    room.turn()
    assert talk.wire.closed
    assert not talk.wire.sent
    assert other.call(Op.EXISTS, path_watch(b"/b")).err == 0


def test_what_is_answered_at_pauses_is_bounded_anew_when_it_was_sent(room: Room) -> None:
    """However much a client reads in the long run, it is served."""
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/big", b"x" * 900_000))
    for _ in range(3):
        for _ in range(10):
            talk.send(talk.say(Op.SET_DATA, put(b"/", b"")), talk.say(Op.GET_DATA, path_watch(b"/big")))
        talk.send(talk.say(Op.SET_DATA, put(b"/", b"")))
        room.turn()
        assert [each.err for each in talk.heard()] == [0] * 21


def test_much_in_flight_stops_reading(room: Room) -> None:
    """Above the bound a connection is read no further until its answers have come."""
    talk = room.talk()
    room.cell.serve(False)
    talk.send(*(talk.say(Op.CREATE, create(b"/n%d" % number)) for number in range(limits.IN_FLIGHT_MAX + 1)))
    assert not talk.wire.reading
    room.cell.serve(True)
    room.turn()
    assert talk.wire.reading
    assert len(talk.heard()) == limits.IN_FLIGHT_MAX + 1


def test_full_backlog_stops_reading(room: Room) -> None:
    """Without room in the stream nothing is read; with room again all go on."""
    talk, seat = room.talk(), room.seat()
    seat.room_left = 0
    talk.send(talk.say(Op.CREATE, create(b"/a")))
    room.turn()
    talk.send(talk.say(Op.CREATE, create(b"/b")))
    assert not talk.wire.reading
    seat.room_left = 1
    seat.on_room()
    room.turn()
    assert talk.wire.reading
    assert len(talk.heard()) == 2


def test_pauses_belong_to_a_connection(room: Room) -> None:
    """Reads held back on a new connection of a session are not answered by what the old one left in the log."""
    old = room.talk()
    old.call(Op.CREATE, create(b"/a", b"0"))
    again = Talk(room, room.fronts[0])
    again.connect(session=old.session, password=old.password, turn=False)
    old.send(
        old.say(Op.SET_DATA, put(b"/a", b"1")),
        old.say(Op.GET_DATA, path_watch(b"/a")),
        old.say(Op.SET_DATA, put(b"/a", b"2")),
    )
    room.clock.advance(0)
    again.response()
    again.send(
        again.say(Op.SET_DATA, put(b"/a", b"3")),
        again.say(Op.GET_DATA, path_watch(b"/a")),
        again.say(Op.SET_DATA, put(b"/a", b"4")),
    )
    room.turn()
    assert old.wire.closed
    assert [value(each) for each in again.heard() if len(each.body) > 68] == [b"3"]


def test_watches_again_after_a_reconnect(room: Room) -> None:
    """setWatches tells what was missed before its reply, and arms the rest."""
    talk = room.talk()
    for path in (b"/a", b"/b", b"/p"):
        talk.call(Op.CREATE, create(path))
    zxid = talk.call(Op.GET_DATA, path_watch(b"/a")).zxid
    talk.call(Op.SET_DATA, put(b"/a", b"1"))
    talk.call(Op.CREATE, create(b"/new"))
    body = jute.SetWatches.build(
        {"zxid": zxid, "changed": [b"/a", b"/b", b"/gone"], "exists": [b"/new", b"/none"], "children": [b"/p"]}
    )
    again = room.talk(session=talk.session, password=talk.password)
    again.send(frame(Xid.SET_WATCHES, Op.SET_WATCHES, body))
    *events, reply = again.heard()
    assert events == [Event(3, b"/a"), Event(2, b"/gone"), Event(1, b"/new")]
    assert (reply.xid, reply.err) == (Xid.SET_WATCHES, 0)
    talk = room.talk()
    talk.call(Op.SET_DATA, put(b"/b", b"1"))
    talk.call(Op.CREATE, create(b"/p/c"))
    assert again.heard() == [Event(3, b"/b"), Event(4, b"/p")]


@pytest.mark.parametrize("op", [Op.SET_WATCHES, Op.SET_WATCHES2])
def test_watches_again_on_no_path_at_all(room: Room, op: Op) -> None:
    """A null list, or a null path in one, is malformed: nothing is armed and the connection stays."""
    talk = room.talk()
    record = jute.REQUESTS[op]
    empty = {name: [] for name in ("changed", "exists", "children", "persistent", "recursive")}
    lists = len(record.build({"zxid": 0, **empty})) // 4 - 2
    for at in range(lists):
        for bad in (b"\xff\xff\xff\xff", b"\0\0\0\1\xff\xff\xff\xff"):
            pieces = [b"\0\0\0\1\0\0\0\2/a"] * lists
            pieces[at] = bad
            assert talk.call(op, bytes(8) + b"".join(pieces), xid=Xid.SET_WATCHES).err == Err.MARSHALLING_ERROR
    assert not room.fronts[0].watches.held
    assert talk.call(op, bytes(8) + b"\xff\xff\xff\xfe" * lists, xid=Xid.SET_WATCHES).err == 0


def test_every_reply_is_as_declared() -> None:
    """Each operation's request and reply read back, to the last byte, through their declarations in jute."""
    talk = Room(**{"extended-types": "true"}).talk()
    read = wire.several(
        (Op.GET_DATA, path_watch(b"/a")), (Op.GET_CHILDREN, path_watch(b"/")), (Op.GET_DATA, path_watch(b"/z"))
    )
    write = wire.several(
        (Op.CREATE, create(b"/m")), (Op.CREATE_CONTAINER, create(b"/mc", b"", 4)), (Op.SET_DATA, put(b"/m", b"1")),
        (Op.CHECK, wire.path_version(b"/m")), (Op.DELETE, wire.path_version(b"/m")),
    )  # fmt: skip
    path, no_vectors = wire.path_only(b"/a"), b"\0\0\0\0"
    asked = [
        (Op.CREATE, create(b"/a", b"x")), (Op.CREATE2, create(b"/b")), (Op.CREATE_CONTAINER, create(b"/c", b"", 4)),
        (Op.CREATE_TTL, wire.create_ttl(b"/t", 5000)), (Op.EXISTS, path_watch(b"/a")), (Op.GET_DATA, path_watch(b"/a")),
        (Op.SET_DATA, put(b"/a", b"y")), (Op.GET_ACL, path), (Op.SET_ACL, wire.set_acl(b"/a", wire.WORLD)),
        (Op.GET_CHILDREN, path_watch(b"/")), (Op.GET_CHILDREN2, path_watch(b"/")), (Op.SYNC, path),
        (Op.CHECK, wire.path_version(b"/a")), (Op.MULTI, write), (Op.MULTI_READ, read), (Op.PING, b""),
        (Op.ADD_WATCH, path + bytes(4)), (Op.CHECK_WATCHES, path + b"\0\0\0\3"),
        (Op.REMOVE_WATCHES, path + b"\0\0\0\3"), (Op.SET_WATCHES, bytes(8) + no_vectors * 3),
        (Op.SET_WATCHES2, bytes(8) + no_vectors * 5), (Op.GET_EPHEMERALS, path), (Op.GET_ALL_CHILDREN_NUMBER, path),
        (Op.WHO_AM_I, b""), (Op.DELETE, wire.path_version(b"/b")), (Op.CLOSE_SESSION, b""),
    ]  # fmt: skip
    assert {op for op, _ in asked} == jute.REPLIES.keys() - {Op.AUTH, Op.SASL, Op.RECONFIG}
    for op, body in asked:
        assert jute.REQUESTS[op].build(jute.REQUESTS[op].parse(body)) == body
        answer = talk.call(op, body)
        assert answer.err == 0, op
        record = jute.REPLIES[op]
        assert record.build(record.parse(answer.body)) == answer.body, op


def test_session_expires_in_silence(room: Room) -> None:
    """A silent client's session ends, its connection is closed; one that pings stays (ZK-10.1)."""
    quiet, lively = room.talk(timeout=1000), room.talk(timeout=1000)
    quiet.call(Op.CREATE, create(b"/e", b"", 1))
    for _ in range(8):
        room.clock.advance(0.5)
        room.turn()
        lively.call(Op.PING, xid=Xid.PING)
    assert quiet.wire.closed
    assert not lively.wire.closed
    assert b"/e" not in room.fronts[0].tree.nodes
    assert SessionId(quiet.session) not in room.cell.sessions


def test_what_is_proved_counts_from_there_on(room: Room) -> None:
    """A read that waits before an authentication does not know of it; a write right behind it does."""
    talk = room.talk()
    talk.send(
        talk.say(Op.CREATE, create(b"/a")),
        talk.say(Op.WHO_AM_I),
        talk.say(Op.AUTH, ANN, xid=Xid.AUTH),
        talk.say(Op.CREATE, create(b"/mine", b"", 0, MINE)),
        talk.say(Op.WHO_AM_I),
    )
    room.turn()
    _, before, _, made, after = talk.heard()
    assert made.err == 0
    assert b"ann" not in before.body
    assert b"ann" in after.body
