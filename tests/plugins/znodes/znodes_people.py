"""Clients of a fake cell who keep what they ask and hear, random histories of them, and the verdict on those."""

from __future__ import annotations

from random import Random

import znodes_wire as wire
from quorate.kernel.machine import SessionId
from quorate.plugins.znodes import acl, jute
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.protocol import Op, Xid
from quorate.plugins.znodes.tree import stat
from reference.asking import Ask, Asker
from reference.cell import Cell
from reference.judge import Line, judge
from reference.records import plain
from znodes_log import Log, logged
from znodes_talk import Room, Talk


class Person:
    """A client that keeps what it asks and hears, over all its connections."""

    def __init__(self, place: Place, number: int) -> None:
        self.place = place
        self.number = number
        self.talk: Talk | None = None
        self.line: Line | None = None
        self.session = 0
        self.password = bytes(16)
        self.seen = 0
        self.xid = 0

    def connect(self, front: int) -> None:
        """Open a session, or take the present one to that replica."""
        place = self.place
        self.leave()
        talk = Talk(place.room, place.room.fronts[front])
        response = talk.connect(zxid=self.seen, session=self.session, password=self.password)
        if response is None:
            return
        if not response.session:
            self.session, self.password = 0, bytes(16)
            return
        self.session, self.password, self.talk = talk.session, talk.password, talk
        self.line = Line(self.session, len(place.lines) + 1, since=self.seen)
        place.lines.append(self.line)

    def leave(self) -> None:
        """Close the connection, without a word."""
        if self.talk is not None and self.line is not None:
            self.listen()
            self.line.ended = True
            if not self.talk.wire.closed:
                self.talk.connection.drop()
        self.talk = self.line = None

    def say(self, asks: list[Ask], pieces: int = 1) -> None:
        """Send requests, cut into pieces anywhere."""
        if self.talk is None or self.talk.wire.closed or self.line is None:
            return
        stream = b""
        for ask in asks:
            special = {
                Op.PING: Xid.PING,
                Op.AUTH: Xid.AUTH,
                Op.SET_WATCHES: Xid.SET_WATCHES,
                Op.SET_WATCHES2: Xid.SET_WATCHES,
            }
            xid = special.get(ask.op)
            if xid is None:
                self.xid += 1
                xid = self.xid
            if ask.op != Op.PING:
                self.line.asked.append((int(xid), ask))
            stream += wire.frame(xid, ask.op, ask.body)
        size = -(-len(stream) // pieces)
        for at in range(0, len(stream), size):
            if not self.talk.wire.closed:
                self.talk.connection.received(stream[at : at + size])

    def listen(self) -> None:
        """Take what was heard."""
        if self.talk is None or self.line is None:
            return
        sent, self.talk.wire.sent = self.talk.wire.sent, b""
        while sent:
            size = 4 + int.from_bytes(sent[:4], "big")
            frame, sent = sent[:size], sent[size:]
            self.line.hear(frame)
            if int.from_bytes(frame[4:8], "big", signed=True) != Xid.NOTIFICATION:
                self.seen = max(self.seen, int.from_bytes(frame[8:16], "big", signed=True))
        if self.talk.wire.closed:
            self.line.ended = True
            self.talk = self.line = None

    @property
    def here(self) -> bool:
        return self.talk is not None and not self.talk.wire.closed


class Place:
    """Three replicas without a network, some clients, and everything that they say."""

    def __init__(self, random: Random, clients: int = 4) -> None:
        self.random = random
        self.log = Log()
        self.room = Room(3, machine=logged(self.log), tick="500", grace="100000", **{"extended-types": "true"})
        self.lines: list[Line] = []
        self.asker = Asker(random)
        self.people = [Person(self, number) for number in range(clients)]

    def step(self) -> None:
        """Something happens."""
        random = self.random
        act = random.choices(
            (self.talk_all, self.connect, self.leave, self.expire, self.wait, self.close, self.lose_leader),
            (30, 4, 1, 1, 2, 1, 1),
        )[0]
        act()
        self.room.turn()
        for person in self.people:
            person.listen()

    def requests(self, person: Person) -> list[Ask]:
        """What one client says in one breath."""
        asks = []
        for _ in range(self.random.choice((1, 1, 2, 3, 6))):
            chance = self.random.random()
            if chance < 0.03:
                asks.append(self.asker.auth())
            elif chance < 0.06:
                asks.append(Ask(Op.PING, b""))
            elif chance < 0.5:
                asks.append(self.asker.write())
            else:
                asks.append(self.asker.read())
        return asks

    def talk_all(self) -> None:
        """Some clients say something in the same turn."""
        random = self.random
        for person in random.sample(self.people, random.choice((1, 1, 2, len(self.people)))):
            if not person.here:
                person.connect(random.randrange(3))
            person.say(self.requests(person), random.choice((1, 1, 1, 2, 5)))

    def connect(self) -> None:
        """A client comes (back), and watches again what it may have watched."""
        random = self.random
        person = random.choice(self.people)
        person.connect(random.randrange(3))
        names = [
            [self.asker.random.choice((b"/a", b"/b", b"/a/x", b"/c")) for _ in range(random.randrange(3))]
            for _ in range(5)
        ]
        record = dict(zip(("changed", "exists", "children", "persistent", "recursive"), names, strict=True))
        record["zxid"] = max(0, person.seen - random.choice((0, 0, 3)))
        if random.random() < 0.5:
            person.say([Ask(Op.SET_WATCHES2, jute.SetWatches2.build(record))])
        else:
            person.say([Ask(Op.SET_WATCHES, jute.SetWatches.build(record))])

    def leave(self) -> None:
        """A connection is lost; the session is not."""
        self.random.choice(self.people).leave()

    def expire(self) -> None:
        """A session ends while its client is silent, or speaks."""
        person = self.random.choice(self.people)
        if person.session:
            self.room.cell.propose(lambda cell: cell.end(SessionId(person.session), True))
            if self.random.random() < 0.5:
                person.say(self.requests(person))

    def wait(self) -> None:
        """Time passes: nodes may outlive their time."""
        for _ in range(self.random.choice((1, 3, 20))):
            for person in self.people:
                if person.here:
                    person.say([Ask(Op.PING, b"")])
            self.room.clock.advance(4.0)
            self.room.turn()

    def close(self) -> None:
        """A client says farewell, with something behind it."""
        person = self.random.choice(self.people)
        person.say([*self.requests(person), Ask(Op.CLOSE_SESSION, b""), *self.requests(person)][-4:])

    def lose_leader(self) -> None:
        """Nobody leads for a while, and people go on talking."""
        self.room.cell.serve(False)
        for person in self.people:
            if person.here:
                person.say(self.requests(person))
        self.room.clock.advance(0.1)
        self.room.cell.serve(True)

    def verdict(self) -> None:
        """Everything is said: judge it."""
        self.room.clock.advance(1)  # who asked for what was committed, and could not be told, is sent away
        self.room.turn()
        for person in self.people:
            person.listen()
        self._compare(judge(self.log.entries(), self.lines, ttl=True))

    def _compare(self, cell: Cell) -> None:
        """Every replica, and one restored from an image, holds what the reference holds; the digests kept all along are
        what they are from scratch."""
        restored = ZnodesMachine()
        restored.restore_chunks(self.room.seat(0).tree_machine.snapshot_chunks(), 1)
        for machine in (*(seat.tree_machine for seat in self.room.cell.seats), restored):
            tree = machine.tree
            assert (machine.zxid, set(machine.sessions)) == (cell.zxid, cell.sessions)
            assert machine.digest() == wire.digest_from_scratch(machine)
            assert machine.digest() == restored.digest()
            found = {path.decode(): node for path, node in tree.nodes.items() if path}
            assert found.keys() == cell.tree.nodes.keys()
            for path, node in cell.tree.nodes.items():
                assert plain(jute.Stat.parse(stat(found[path]))) == node.stat(), path
                assert found[path].value == node.data, path
                assert {name.decode() for name in found[path].children or ()} == node.children, path
                entries = tuple(
                    (perms, kind.decode(), name.decode()) for perms, kind, name in acl.entries(found[path].acl)
                )
                assert entries == node.acl, path
            owned = {node.session for node in cell.tree.nodes.values()} - {0}
            assert tree.ephemerals.keys() == owned
            assert tree.size == sum(len(node.data or b"") for node in cell.tree.nodes.values())


def play(random: Random, steps: int) -> Place:
    """One history, judged."""
    place = Place(random)
    for _ in range(steps):
        place.step()
    place.verdict()
    return place
