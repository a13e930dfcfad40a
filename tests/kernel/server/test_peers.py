"""Links between members, over real TCP on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from quorate.kernel.node_messages import AnyMessage, Forward
from quorate.kernel.paxos.ballot import NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Heartbeat, Sender
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import Send
from quorate.kernel.server.peers import CALL_PATIENCE, PAUSE_MAX, PAUSE_MIN, STRANGERS_MAX, Peers
from quorate.kernel.server.witness import Witness
from quorate.kernel.wire.formats import PEER_VERSION, Greeting, TurnedAway
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

pytestmark = pytest.mark.cell
BEAT = Heartbeat(Ballot(1, MemberId(1)), Slot(0), 1, 1, Slot(0))


class Ear:
    """Keeps what a member hears."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, AnyMessage]] = []
        self.condemnations: list[TurnedAway] = []
        self.disks: dict[int, bytes] = {}

    def heard(self, sender: Sender, message: AnyMessage) -> None:
        self.messages.append((sender.member, message))

    def disk(self, member: int) -> bytes | None:
        return self.disks.get(member)

    def condemned(self, refusal: TurnedAway) -> None:
        self.condemnations.append(refusal)

    def links_changed(self) -> None:
        pass


def ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return found


class PeersTests(TestCase):
    """Two members, made and ended by each test."""

    timeout = 30
    directory: Path

    def make(self, member: int, cell: bytes = bytes(16), run: bytes = b"r" * 8, **changes: Any) -> tuple[Peers, Ear]:
        ear = Ear()
        greeting = Greeting(PEER_VERSION, cell, 0, member, 1, bytes([member]) * 16, run, NO_BALLOT, Slot(0))._replace(
            **changes
        )
        folder = self.directory / f"{member}{run[0]}"
        folder.mkdir(exist_ok=True)
        peers = Peers(
            reactor,  # type: ignore[arg-type]
            greeting,
            self.configuration,
            Witness(folder),
            ear,
            random=Random(1),
            queue_limit=1 << 20,
        )
        self.addCleanup(peers.stop)
        return peers, ear

    def setUp(self) -> None:
        self.ports = ports(2)
        self.configuration = Configuration(
            Slot(0),
            tuple(Member(MemberId(i + 1), Role.VOTER, f"tcp:127.0.0.1:{port}") for i, port in enumerate(self.ports)),
        )

    def start(self, peers: Peers) -> None:
        peers.start(f"tcp:{self.ports[peers.greeting.member - 1]}")

    async def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(1000):
            if condition():
                return
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        raise AssertionError("it did not come true in time")

    async def linked(self) -> tuple[Peers, Ear, Peers, Ear]:
        one, ear_one = self.make(1)
        two, ear_two = self.make(2)
        self.start(one)
        self.start(two)
        await self.until(lambda: one.connected() == [2] and two.connected() == [1])
        return one, ear_one, two, ear_two

    async def test_messages_arrive_in_order_with_their_sender(self) -> None:
        """What one says the other hears, as said, from whom."""
        one, _, _, ear = await self.linked()
        said = [Forward(bytes([i]) * i) for i in range(50)]
        for message in said:
            one.send_all([Send(MemberId(2), message)])
        await self.until(lambda: len(ear.messages) == 50)
        assert ear.messages == [(1, message) for message in said]

    async def test_what_is_said_to_one_member_in_a_row_leaves_in_one_piece(self) -> None:
        """However much that is. Urgent words leave alone, in their place."""
        one, _, _, ear = await self.linked()
        line = one._links[2]._line
        assert line is not None
        first, second, third, fourth = (Forward(bytes([i]) * i) for i in range(1, 5))
        with patch.object(type(line), "send_all", autospec=True, side_effect=type(line).send_all) as leave:
            one.send_all([Send(MemberId(2), each) for each in (first, second, BEAT, third, fourth)])
        assert leave.call_count == 3
        await self.until(lambda: len(ear.messages) == 5)
        assert [message for _, message in ear.messages] == [first, second, BEAT, third, fourth]

    async def test_what_is_said_to_several_reaches_each_in_order(self) -> None:
        """Who is no member any more, or never was, gets nothing, and keeps nobody's message."""
        one, _, _, ear = await self.linked()
        said = [Forward(bytes([i]) * i) for i in range(1, 7)]
        receivers = (2, 7, 2, 2, 7, 2)
        one.send_all([Send(MemberId(to), message) for to, message in zip(receivers, said, strict=True)])
        await self.until(lambda: len(ear.messages) == 4)
        assert [message for _, message in ear.messages] == [said[0], said[2], said[3], said[5]]

    async def test_calls_again(self) -> None:
        """A member that went away is found when it is back."""
        one, _, two, _ = await self.linked()
        two.stop()
        await self.until(lambda: not one.connected())
        again, ear = self.make(2)
        self.start(again)
        await self.until(lambda: one.connected() == [2])
        one.send_all([Send(MemberId(2), BEAT)])
        await self.until(lambda: ear.messages)

    async def test_who_is_called_calls_back_at_once(self) -> None:
        """A call that comes shows that the other member can be reached again: our own does not wait out its pause."""
        one, _ = self.make(1)
        two, _ = self.make(2)
        self.start(one)
        link = one._links[2]
        await self.until(lambda: link._again is not None and link._again.active())
        assert link._again is not None
        link._again.reset(3600)
        self.start(two)
        await self.until(lambda: one.connected() == [2])

    async def test_who_was_left_is_not_called_any_more(self) -> None:
        """Be it that the line broke in the same turn, of which the link is told in the next."""
        one, _, _, _ = await self.linked()
        link = one._links[2]
        assert link._line is not None
        link._line.sock.shutdown(socket.SHUT_WR)
        one.send_all([Send(MemberId(2), BEAT)])
        one.configure(Configuration(Slot(7), self.configuration.members[:1]))
        await deferLater(reactor, 0)  # type: ignore[arg-type]
        assert link._again is None

    async def test_a_silent_place_is_called_again_and_again(self) -> None:
        """Where no packet is answered, as behind a cut, calls follow one another without long pauses, each with more
        patience than the one before."""
        one, _ = self.make(1)
        with patch("quorate.kernel.server.peers.Dial") as dial:
            self.start(one)
            link = one._links[2]
            pauses, patience = [], []
            for _ in range(8):
                patience.append(dial.call_args.args[-1])
                link.lost(TimeoutError("no answer"))
                assert link._again is not None
                pauses.append(link._again.getTime() - reactor.seconds())  # type: ignore[attr-defined]
                link.called()
        assert max(pauses) <= 1.5 * PAUSE_MIN
        assert patience == sorted(patience)
        assert CALL_PATIENCE < patience[0] < patience[-1] == CALL_PATIENCE + 2 * PAUSE_MAX

    async def test_urgent_messages_overtake_and_queues_are_bounded(self) -> None:
        """For a member that does not read, ordinary messages wait up to the limit and are then dropped; a heartbeat
        goes before all that wait."""
        one, _, two, ear = await self.linked()
        for call in two._calls.values():
            call.pause()
        big = Forward(bytes(200_000))
        for _ in range(60):
            one.send_all([Send(MemberId(2), big)])
        one.send_all([Send(MemberId(2), BEAT)])
        link = one._links[2]
        assert link.dropped > 0
        assert link._queued <= 1 << 20
        waiting = len(link._queue)
        for call in two._calls.values():
            call.resume()
        await self.until(lambda: len(ear.messages) == 61 - link.dropped)
        place = [message for _, message in ear.messages].index(BEAT)
        assert place <= len(ear.messages) - 1 - waiting

    async def test_a_guest_is_heard_and_answered_on_its_own_call(self) -> None:
        """Who knows nobody that is in the cell by now, or is in it no more, can still learn from those that know it."""
        members = self.configuration.members
        one, ear_one = self.make(1)
        self.configuration = Configuration(Slot(0), members[1:])
        two, ear_two = self.make(2)
        self.start(one)
        self.start(two)
        await self.until(lambda: one.connected() == [2])
        one.send_all([Send(MemberId(2), BEAT)])
        await self.until(lambda: ear_two.messages == [(1, BEAT)])
        two.send_all([Send(MemberId(1), Forward(b"a" * 10_000))])
        await self.until(lambda: ear_one.messages == [(2, Forward(b"a" * 10_000))])
        assert two.connected() == []
        two.configure(Configuration(Slot(7), members))
        await self.until(lambda: two.connected() == [1])
        two.send_all([Send(MemberId(1), BEAT)])
        await self.until(lambda: ear_one.messages[1:] == [(2, BEAT)])
        two.configure(self.configuration)
        two.send_all([Send(MemberId(1), BEAT)])
        await self.until(lambda: ear_one.messages[2:] == [(2, BEAT)])

    async def test_a_disk_that_the_cell_does_not_know_is_condemned(self) -> None:
        """Also by one that never met the right one."""
        one, ear_one = self.make(1)
        two, ear_two = self.make(2)
        ear_one.disks[2] = b"x" * 16
        self.start(one)
        self.start(two)
        await self.until(lambda: ear_two.condemnations)
        assert "replace this member by a new one" in ear_two.condemnations[0].reason

    async def test_another_cell_is_turned_away(self) -> None:
        """Nothing is heard from a member of another cell."""
        one, _ = self.make(1)
        two, ear = self.make(2, cell=b"x" * 16)
        self.start(one)
        self.start(two)
        await self.until(lambda: one._links[2]._refusal is not None)
        assert one.connected() == []
        assert ear.condemnations == []

    async def test_a_disk_that_shows_less_is_condemned(self) -> None:
        """A second run under an incarnation that was used before is told that it must not vote."""
        _, _, two, _ = await self.linked()
        two.stop()
        copy, ear = self.make(2, run=b"s" * 8)
        self.start(copy)
        await self.until(lambda: ear.condemnations)

    async def test_noise_is_hung_up_on(self) -> None:
        """A stranger that speaks another protocol, or none, is not listened to."""
        one, ear = self.make(1)
        self.start(one)
        with socket.create_connection(("127.0.0.1", one.port())) as stranger:
            stranger.setblocking(False)
            stranger.send(b"GET / HTTP/1.1\r\n\r\n")
            ended: list[bytes] = []

            def closed() -> bool:
                try:
                    ended.append(stranger.recv(100))
                except BlockingIOError:
                    return False
                except ConnectionResetError:
                    ended.append(b"")
                return ended[-1] == b""

            await self.until(closed)
        assert ear.messages == []

    async def test_strangers_cannot_take_every_place(self) -> None:
        """However many call and say nothing, few are kept, the latest; members are let in all the while."""
        one, _ = self.make(1)
        two, _ = self.make(2)
        self.start(one)
        callers = [socket.create_connection(("127.0.0.1", one.port())) for _ in range(STRANGERS_MAX + 10)]
        for caller in callers:
            self.addCleanup(caller.close)
            caller.setblocking(False)
        self.start(two)
        await self.until(lambda: two.connected() == [1])

        def gone(caller: socket.socket) -> bool:
            try:
                return caller.recv(1) == b""
            except BlockingIOError:
                return False

        assert [gone(caller) for caller in callers[:10]] == [True] * 10
        assert len(one._strangers) <= STRANGERS_MAX
        assert sum(map(gone, callers)) <= 11
        one.stop()
        assert all(gone(caller) for caller in callers)
