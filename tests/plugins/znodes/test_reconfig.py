"""Changes of membership that a client asks for, step by step, and the text in /zookeeper/config."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.kernel.paxos.quorum import Role
from quorate.plugins.znodes import ensemble, jute
from quorate.plugins.znodes.protocol import Err, Event, Op
from quorate.plugins.znodes.reconfig import AGAIN, BEHIND, PATIENCE, frame
from znodes_talk import Event as Told
from znodes_talk import Room, Talk
from znodes_wire import create, path_watch

SUPER = jute.Auth.build({"type": 0, "scheme": b"digest", "auth": b"super:test"})
CONFIG = b"/zookeeper/config"
OBSERVER = b"server.9=h9:1:2:observer;h9:3"
VOTER = b"server.9=h9:1:2:participant;h9:3"


def ask(
    joining: bytes | None = None, leaving: bytes | None = None, members: bytes | None = None, version: int = -1
) -> bytes:
    """The body of a request."""
    return jute.Reconfig.build({"joining": joining, "leaving": leaving, "members": members, "version": version})


@pytest.fixture
def room() -> Room:
    """Three replicas that let the super user change who they are."""
    return Room(3, **{"reconfig": "true", "super": "super:D/InIHSb7yEEbrWz8b9l71RjZJU="})


@pytest.fixture
def ruler(room: Room) -> Talk:
    """A client that may."""
    talk = room.talk()
    assert talk.call(Op.AUTH, SUPER, xid=-4).err == 0
    return talk


def test_an_observer_comes_and_goes(room: Room, ruler: Talk) -> None:
    """The answer holds the new text and its Stat, and so does the node on every replica; watches fire."""
    watcher = room.talk(1)
    watcher.call(Op.GET_DATA, path_watch(CONFIG, True))
    answer = ruler.call(Op.RECONFIG, ask(joining=OBSERVER))
    assert answer.err == 0
    found = jute.GetDataReply.parse(answer.body)
    assert OBSERVER in found.data
    assert ensemble.number_of(found.data) == room.cell.configuration.number > 0
    assert found.stat.length == len(found.data)
    assert watcher.heard()[0] == Told(Event.DATA_CHANGED, CONFIG)
    assert {front.tree.nodes[CONFIG].value for front in room.fronts} == {found.data}
    gone = jute.GetDataReply.parse(ruler.call(Op.RECONFIG, ask(leaving=b"9")).body)
    assert OBSERVER not in gone.data
    assert len(room.cell.configuration.members) == 3


def test_a_participant_is_promoted_once_it_has_caught_up(room: Room, ruler: Talk) -> None:
    """It comes as an observer first; the request waits meanwhile, and what is behind it in the connection as well."""
    room.cell.promotes = False
    ruler.send(
        ruler.say(Op.CREATE, create(b"/before")),
        ruler.say(Op.RECONFIG, ask(joining=VOTER)),
        ruler.say(Op.CREATE, create(b"/behind")),
    )
    room.turn()
    assert [each.xid for each in ruler.heard()] == [1]
    assert room.cell.configuration.find(9).role is Role.LEARNER
    assert b"/behind" not in room.fronts[0].tree.nodes
    room.clock.advance(AGAIN)
    room.turn()
    assert not ruler.heard()
    room.cell.promotes = True
    room.clock.advance(AGAIN)
    room.turn()
    changed, behind = ruler.heard()
    assert (changed.xid, changed.err, behind.xid, behind.err) == (2, 0, 3, 0)
    assert VOTER in changed.body
    assert changed.zxid < behind.zxid


def test_what_takes_too_long_is_given_up(room: Room, ruler: Talk) -> None:
    """-13, and the connection goes on; nobody asks any more for what was given up."""
    room.cell.promotes = False
    ruler.send(ruler.say(Op.RECONFIG, ask(joining=VOTER)), ruler.say(Op.EXISTS, path_watch(b"/")))
    for _ in range(int(PATIENCE / AGAIN) + 1):
        room.turn()
        room.clock.advance(AGAIN)
    given_up, exists = ruler.heard()
    assert (given_up.err, exists.err) == (Err.NEW_CONFIG_NO_QUORUM, 0)
    room.cell.promotes = True
    room.clock.advance(1)
    room.turn()
    assert room.cell.configuration.find(9).role is Role.LEARNER


def test_who_may_not_and_what_cannot_be(room: Room, ruler: Talk) -> None:
    """Each refusal has the original's code; the order of checks is the original's, too."""
    stranger = room.talk()
    for talk, body, err in (
        (stranger, ask(joining=OBSERVER), Err.NO_AUTH),
        (stranger, ask(joining=b"some thing"), Err.BAD_ARGUMENTS),
        (stranger, ask(joining=OBSERVER, version=77), Err.BAD_VERSION),
        (ruler, ask(leaving=b"1,2,3"), Err.BAD_ARGUMENTS),
        (ruler, ask(leaving=b"x"), Err.MARSHALLING_ERROR),
        (ruler, ask(leaving="\u00b2".encode()), Err.MARSHALLING_ERROR),
        (ruler, ask(leaving=b"9" * 5000), Err.MARSHALLING_ERROR),
        (ruler, ask(joining=OBSERVER + b"9" * 5000), Err.BAD_ARGUMENTS),
        (ruler, ask(joining=VOTER.replace(b"9=", b"nine=")), Err.MARSHALLING_ERROR),
        (ruler, ask(members=OBSERVER), Err.MARSHALLING_ERROR),
        (ruler, b"\0\0", Err.MARSHALLING_ERROR),
    ):
        assert talk.call(Op.RECONFIG, body).err == err
    assert room.cell.configuration.number == 0
    assert ruler.call(Op.RECONFIG, ask(joining=OBSERVER, version=0)).err == 0
    plain = Room()
    assert plain.talk().call(Op.RECONFIG, ask(joining=OBSERVER)).err == Err.RECONFIG_DISABLED


def test_what_follows_a_request_that_waits_stays_with_the_client(room: Room, ruler: Talk) -> None:
    """A request that waits for what is before it holds up what follows: that is read no further, and all of it is
    answered in order once the cell serves again."""
    room.cell.serve(False)
    ruler.send(ruler.say(Op.CREATE, create(b"/before")), ruler.say(Op.RECONFIG, ask(joining=OBSERVER)))
    assert not ruler.wire.reading
    ruler.send(ruler.say(Op.EXISTS, path_watch(b"/before")))
    room.cell.serve(True)
    room.turn()
    assert ruler.wire.reading
    assert [each.err for each in ruler.heard()] == [0, 0, 0]


def test_one_at_a_time(room: Room, ruler: Talk) -> None:
    """A second request at the same replica is refused (-14) while the first is under way; if its client goes, the
    next one may."""
    room.cell.promotes = False
    ruler.send(ruler.say(Op.RECONFIG, ask(joining=VOTER)))
    room.turn()
    other = room.talk()
    assert other.call(Op.AUTH, SUPER, xid=-4).err == 0
    assert other.call(Op.RECONFIG, ask(leaving=b"9")).err == Err.RECONFIG_IN_PROGRESS
    ruler.connection.drop()
    room.clock.advance(AGAIN)
    room.turn()
    assert other.call(Op.RECONFIG, ask(leaving=b"9")).err == 0


def test_the_text_is_written_without_a_client(room: Room) -> None:
    """Each replica sees to it when a configuration comes into force, the leader's at once, the others' a little later,
    and it is written once; an older text never replaces a newer one."""
    before = room.fronts[0].machine.zxid
    for front in room.fronts:
        front.reconfigured()
    room.clock.advance(0)
    room.turn()
    text = room.fronts[2].tree.nodes[CONFIG].value
    assert text == ensemble.text(room.cell.configuration)
    assert room.fronts[0].machine.zxid == before + 1
    room.clock.advance(BEHIND)
    room.turn()
    assert room.fronts[0].machine.zxid == before + 1
    bench = wire.Bench()
    session = bench.open(7)
    newer = room.cell.configuration._replace(number=5)
    bench.chunk((session, frame(1, newer)))
    bench.chunk((-1, frame(0, room.cell.configuration)))
    assert bench.machine.tree.nodes[CONFIG].value == ensemble.text(newer)


def test_after_writing_alone_answers_go_to_whom_they_belong(room: Room) -> None:
    """What a front writes for itself does not shift the place of notifications among the replies of others."""
    talk = room.talk()
    talk.call(Op.EXISTS, path_watch(b"/w", True))
    room.fronts[0].reconfigured()
    room.clock.advance(0)
    room.turn()
    other = room.talk()
    other.send(other.say(Op.CREATE, create(b"/w")))
    talk.send(talk.say(Op.CREATE, create(b"/x")), talk.say(Op.CREATE, create(b"/y")))
    room.turn()
    assert [type(each) for each in talk.heard()] == [Told, wire.Reply, wire.Reply]
