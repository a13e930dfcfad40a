"""The place of events among replies, in random histories in which as much as can be is put off to later turns."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.plugins.znodes import connection as limits
from quorate.plugins.znodes import front as front_module
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Op, WatchMode
from znodes_talk import Event, Room, Talk

NODE = b"/n"
BODIES = {
    Op.SET_DATA: wire.put(NODE, bytes(60)),
    Op.GET_DATA: wire.path_watch(NODE),
    Op.EXISTS: wire.path_watch(NODE),
    Op.SYNC: wire.path_only(NODE),
}


class Watcher:
    """A client that watches the node for good and counts: its version is the number of events so far."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        talk.call(Op.ADD_WATCH, wire.path_only(NODE) + WatchMode.PERSISTENT.to_bytes(4, "big"))
        self.events = 0
        self.answered = talk.xid

    def ask(self, ops: list[Op]) -> None:
        """Several requests in one piece."""
        self.talk.send(*(self.talk.say(op, BODIES[op]) for op in ops))

    def judge(self) -> None:
        """What came: every reply in its turn, and as many events before it as it shows changes."""
        for each in self.talk.heard():
            if isinstance(each, Event):
                self.events += 1
                continue
            self.answered += 1
            assert (each.xid, each.err) == (self.answered, 0)
            if len(each.body) >= jute.Stat.sizeof():
                assert jute.Stat.parse(each.body[-jute.Stat.sizeof() :]).version == self.events


@pytest.mark.parametrize("seed", range(4))
def test_as_many_events_as_changes_are_shown(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """On three replicas, one connection is settled a turn and a client gets few replies a turn: still each reply stands
    behind the events of all that it shows, and before all others (ZK-3.2, ZK-8.3)."""
    monkeypatch.setattr(front_module, "SETTLED", 1)
    monkeypatch.setattr(limits, "REPLY_ROOM", 400)
    monkeypatch.setattr(limits, "LARGE", 50)
    random, room = Random(seed), Room(3)
    later, slices = room.clock.callLater, {front._settle for front in room.fronts}
    monkeypatch.setattr(
        room.clock,
        "callLater",
        lambda seconds, call, *words: later(random.choice((0.001, 0.002)) if call in slices else seconds, call, *words),
    )
    room.talk().call(Op.CREATE, wire.create(NODE))
    watchers = [Watcher(room.talk(random.randrange(3))) for _ in range(6)]
    for _ in range(120):
        random.choice(watchers).ask(random.choices(list(BODIES), (2, 2, 1, 1), k=random.randrange(1, 5)))
        for seconds in random.choice([[], [0], [0, 0.001]]):
            room.clock.advance(seconds)
        for watcher in watchers:
            watcher.judge()
    for _ in range(200):
        room.clock.advance(0.002)
    for watcher in watchers:
        watcher.judge()
        assert watcher.answered == watcher.talk.xid
    assert len({watcher.events for watcher in watchers}) == 1
