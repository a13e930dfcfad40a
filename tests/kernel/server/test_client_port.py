"""The native port, spoken to frame by frame."""

from __future__ import annotations

import errno
import gc
import socket
from typing import Any
from weakref import ref

import pytest
from quorate.kernel.server import client_connection, shares
from quorate.kernel.server.endpoints import calling
from quorate.kernel.server.lean import LeanConnection
from quorate.kernel.system import PLUGINS
from quorate.kernel.wire import native, plain
from quorate.kernel.wire.native import (
    About,
    Admin,
    Attach,
    Close,
    Consistency,
    Ended,
    EndReason,
    Event,
    Failed,
    Hello,
    KeepAlive,
    Kept,
    Open,
    Opened,
    Query,
    QueryReply,
    Reply,
    Request,
    Status,
    StatusReply,
    Welcome,
)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

pytestmark = pytest.mark.cell


class Raw(LeanConnection):
    """A client that says exactly what a test wants."""

    __slots__ = ("buffer", "ended", "frames", "sizes")

    def __init__(self, endpoint: str) -> None:
        super().__init__(reactor, socket.create_connection(calling(endpoint).address))  # type: ignore[arg-type]
        self.buffer = bytearray()
        self.frames: list[native.Frame] = []
        self.sizes: list[int] = []
        self.ended = False
        self.start()

    def say(self, *frames: native.Frame) -> None:
        self.send(b"".join(map(native.encode, frames)))

    def received(self, content: bytes) -> None:
        self.buffer += content
        bodies, taken = native.split(self.buffer)
        del self.buffer[:taken]
        self.frames += map(native.decode, bodies)
        self.sizes.append(len(bodies))

    def lost(self, reason: Exception) -> None:
        self.ended = True

    def of(self, kind: type) -> list[Any]:
        return [frame for frame in self.frames if isinstance(frame, kind)]


HELLO = Hello(native.PROTOCOL_VERSION, b"", "test")


def request(number: int, command: str, *args: Any, machine: str = "ledger") -> Request:
    return Request(number, 0, 0, machine, plain.encode([command, list(args)]))


class ClientPortTests(TestCase):
    """One replica is a cell, and enough here."""

    cell: Any
    timeout = 60

    async def started(self, **options: Any) -> Any:
        cell = self.cell(size=1, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(cell.stop()))
        cell.start()
        await cell.serving()
        return cell

    def client(self, cell: Any) -> Raw:
        made = Raw(cell.endpoints[0])
        self.addCleanup(made.close)
        return made

    async def opened(self, cell: Any) -> tuple[Raw, Opened]:
        """A client with a session."""
        client = self.client(cell)
        client.say(HELLO, Open(5000))
        await cell.until(lambda: client.of(Opened))
        return client, client.of(Opened)[0]

    async def test_queries_say_what_they_rely_on(self) -> None:
        """By lease the leader's clock is enough, by index there is a round of heartbeats, locally nobody is asked."""
        cell = await self.started()
        client = self.client(cell)
        asked: list[bool] = []
        self.patch(cell.replica(1), "barrier", lambda ready, by_round: (asked.append(by_round), ready(True)))
        client.say(HELLO)
        for number, each in enumerate(Consistency, 1):
            client.say(Query(number, each, 0, "ledger", plain.encode(["sum", ["a"]])))
        await cell.until(lambda: len(client.of(QueryReply)) == 3)
        assert asked == [False, True]

    async def test_an_order_whose_answer_is_lost_ends_the_connection(self) -> None:
        """It was applied as part of a snapshot. Nobody repeats it; who gave it must not wait for ever."""
        cell = await self.started()
        client = self.client(cell)
        self.patch(cell.replica(1), "submit", lambda machine, body, done: done(None))
        client.say(HELLO, Admin(1, plain.encode(["load", ["second", "conftest:Ledger"]])))
        await cell.until(lambda: client.ended)

    async def test_pipelined_requests(self) -> None:
        """What is sent in one go is answered in order, once each; a number sent again gets its first answer."""
        cell = await self.started()
        client, opened = await self.opened(cell)
        assert opened.timeout_ms == 5000
        client.say(*(request(number, "add", "a") for number in range(1, 101)))
        await cell.until(lambda: len(client.of(Reply)) == 100)
        assert [reply.number for reply in client.of(Reply)] == list(range(1, 101))
        client.say(request(40, "add", "a"))
        await cell.until(lambda: len(client.of(Reply)) == 101)
        assert plain.decode(client.of(Reply)[-1].payload) == [0, 40]
        assert cell.machine(1).sums["a"] == 100

    async def test_no_more_than_allowed_is_under_way(self) -> None:
        """A client that sends more than its window is read no further, and everything is answered all the same."""
        cell = await self.started(requests_in_flight_max=4)
        client, _ = await self.opened(cell)
        most = [0]
        (server,) = cell.running[1].client_port.clients
        real = server._submit

        def counted(*args: Any) -> None:
            real(*args)
            most[0] = max(most[0], server._in_flight)

        self.patch(type(server), "_submit", lambda self, *args: counted(*args))
        client.say(*(request(number, "add", "a") for number in range(1, 201)))
        await cell.until(lambda: len(client.of(Reply)) == 200)
        assert 0 < most[0] <= 4

    async def test_events_come_before_the_reply_and_again_after_attach(self) -> None:
        """The event of a command is there when its reply is; a new connection gets what was not acknowledged."""
        cell = await self.started()
        client, opened = await self.opened(cell)
        client.say(request(1, "tell", "one"), request(2, "tell", "two"))
        await cell.until(lambda: len(client.of(Reply)) == 2)
        kinds = [type(frame) for frame in client.frames if isinstance(frame, Event | Reply)]
        assert kinds.index(Event) < kinds.index(Reply)
        assert client.of(Reply)[-1].last_event == 2
        second = self.client(cell)
        second.say(HELLO, Attach(opened.session, opened.password, 1))
        await cell.until(lambda: second.of(Event))
        assert [plain.decode(event.payload)[3] for event in second.of(Event)] == ["two"]  # type: ignore[index]
        await cell.until(lambda: client.ended)

    async def test_sessions_are_proven(self) -> None:
        """A wrong password, or a session that never was, is told as unknown."""
        cell = await self.started()
        _, opened = await self.opened(cell)
        for attach in (Attach(opened.session, b"x" * 16, 0), Attach(12345, opened.password, 0), Attach(-1, b"", 0)):
            client = self.client(cell)
            client.say(HELLO, attach)
            await cell.until(lambda client=client: client.ended)
            assert client.of(Ended) == [Ended(EndReason.UNKNOWN)]

    async def test_another_cell(self) -> None:
        """A client of another cell is told so and hung up on; one that knows the cell, or none yet, is welcome."""
        cell = await self.started()
        wrong, right = self.client(cell), self.client(cell)
        wrong.say(Hello(native.PROTOCOL_VERSION, b"x" * 16, "test"))
        right.say(Hello(native.PROTOCOL_VERSION, cell.configs[1].cell_id, "test"))
        await cell.until(lambda: wrong.ended and right.of(Welcome))
        assert wrong.of(Ended) == [Ended(EndReason.WRONG_CELL)]
        welcome = right.of(Welcome)[0]
        assert welcome.cell == cell.configs[1].cell_id
        assert [member.endpoint for member in welcome.members] == cell.endpoints

    async def test_nonsense_ends_the_connection_with_words(self) -> None:
        """A malformed frame, a frame out of order, or a too long one: told, closed, and nobody else notices."""
        cell = await self.started()
        for content in (
            b"\0\0\0\1\xff",
            b"\xff\xff\xff\xff",
            native.encode(Open(1000)),
            native.encode(HELLO) + native.encode(request(1, "add", "a")),
            native.encode(HELLO) + native.encode(Kept(1, 1)),
        ):
            client = self.client(cell)
            client.send(content)
            await cell.until(lambda client=client: client.ended)
            assert client.of(Failed)[-1].about is About.CONNECTION
        _, opened = await self.opened(cell)
        assert opened.session

    async def test_nonsense_is_told_also_to_who_had_to_wait(self) -> None:
        """A frame out of order that was taken up in a later turn ends the connection with the same words."""
        cell = await self.started()
        self.patch(shares, "SHARE_SECONDS", 0.0)
        client = self.client(cell)
        client.say(HELLO, Kept(1, 1))
        await cell.until(lambda: client.ended)
        assert [(each.about, each.code) for each in client.of(Failed)] == [(About.CONNECTION, "malformed")]

    async def test_nothing_behind_nonsense_is_taken_up(self) -> None:
        """Nor is it while the connection is kept for what its client has not read yet."""
        cell = await self.started()
        client, opened = await self.opened(cell)
        server = cell.running[1].client_port.by_session[opened.session]
        client.pause()
        client.say(*(request(number, "tell", "x" * 250_000) for number in range(1, 41)))
        await cell.until(lambda: server.pending and not server._in_flight)
        replica, waiting, submitted = cell.replica(1), [], []
        self.patch(replica, "barrier", lambda ready, by_round: waiting.append(ready))
        self.patch(replica, "submit", lambda *command: submitted.append(command))
        self.patch(shares, "SHARE_SECONDS", 0.0)
        question = Query(1, Consistency.LEASE, 0, "ledger", plain.encode(["sum", ["a"]]))
        client.say(question, Kept(1, 1), request(41, "add", "a"))
        await cell.until(lambda: server not in cell.running[1].client_port.clients)
        assert not server.closed
        waiting.pop()(True)
        await deferLater(reactor, 0.0)
        assert not submitted

    async def test_who_cannot_be_watched_takes_no_place(self) -> None:
        """A caller who is refused because the system has no room for him does not count among the clients."""
        cell = await self.started()
        port = cell.running[1].client_port
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)

        def full(client: LeanConnection) -> None:
            raise OSError(errno.ENOSPC, "no room to watch one more")

        self.patch(client_connection.ClientConnection, "start", full)
        with pytest.raises(OSError, match="no room"):
            port._accepted(ours, ("127.0.0.1", 1))
        assert not port.clients

    async def test_who_idles_without_a_session_is_sent_away(self) -> None:
        """Who does not even greet, or greets and asks nothing, loses its place, the latter with words; who has a
        session, or is owed an answer, keeps it, and every question begins the patience anew."""
        cell = await self.started()
        port = cell.running[1].client_port
        asks = self.client(cell)
        asks.say(HELLO)
        await cell.until(lambda: asks.of(Welcome))
        (server,) = port.clients
        first = server._patience.getTime()
        asks.say(Status(1))
        await cell.until(lambda: asks.of(StatusReply))
        assert server._patience.getTime() > first
        self.patch(client_connection, "IDLE_SECONDS", 0.1)
        self.patch(client_connection, "GREETING_PATIENCE", 0.1)
        stays, _ = await self.opened(cell)
        stays.say(HELLO)
        owed = self.client(cell)
        self.patch(cell.replica(1), "submit", lambda *_: None)
        owed.say(HELLO, Admin(1, plain.encode(["load", ["second", "conftest:Ledger"]])))
        asking, waiting = self.client(cell), []
        self.patch(cell.replica(1), "barrier", lambda ready, by_round: waiting.append(ready))
        asking.say(HELLO, Query(1, Consistency.LEASE, 0, "ledger", plain.encode(["sum", ["a"]])))
        await cell.until(lambda: owed.of(Welcome) and asking.of(Welcome))
        silent, idle = self.client(cell), self.client(cell)
        idle.say(HELLO)
        await cell.until(lambda: silent.ended and idle.ended)
        assert silent.frames == []
        assert [(each.about, each.code) for each in idle.of(Failed)] == [(About.CONNECTION, "idle")]
        assert (stays.ended, owed.ended, asking.ended) == (False, False, False)

    async def test_a_raw_machine_hears_its_front_only(self) -> None:
        """It believes each chunk to be its front's: what a client says to it is refused before the log."""
        cell = await self.started()
        client, _ = await self.opened(cell)
        client.say(Admin(1, plain.encode(["load", ["roll", "conftest:Roll"]])))
        await cell.until(lambda: client.of(QueryReply))
        client.say(request(1, "any", machine="roll"), request(2, "add", "a"))
        await cell.until(lambda: client.of(Reply))
        assert [(each.number, each.code) for each in client.of(Failed)] == [(1, "front-only")]
        assert [each.halted for each in cell.replica(1).host.status()] == [None, None]

    async def test_queries_and_limits(self) -> None:
        """Every consistency answers; what a query may not, is a refusal; a time-out is brought within bounds."""
        cell = await self.started()
        client = self.client(cell)
        question = plain.encode(["sum", ["a"]])
        client.say(HELLO, *(Query(each, each, 0, "ledger", question) for each in Consistency))
        client.say(Query(9, Consistency.LOCAL, 0, "ledger", plain.encode(["no", []])))
        await cell.until(lambda: len(client.of(QueryReply)) == 4)
        answers = {reply.id: plain.decode(reply.payload) for reply in client.of(QueryReply)}
        assert [answers[each] for each in Consistency] == [[0, 0]] * 3
        assert answers[9][0] == 1  # type: ignore[index]
        client.say(Open(1))
        await cell.until(lambda: client.of(Opened))
        assert client.of(Opened)[0].timeout_ms == cell.configs[1].timing.session_timeout_ms_min

    async def test_keepalives_are_confirmed(self) -> None:
        """A keepalive comes back with the whole time-out, and lets the cell forget replies."""
        cell = await self.started()
        client, opened = await self.opened(cell)
        client.say(request(1, "add", "a"))
        await cell.until(lambda: client.of(Reply))
        session = cell.replica(1).host.sessions[opened.session]
        assert session.replies
        client.say(KeepAlive(7, 1, 0))
        await cell.until(lambda: client.of(Kept))
        assert client.of(Kept) == [Kept(7, 5000)]
        await cell.until(lambda: not session.replies)

    async def test_who_has_left_is_forgotten(self) -> None:
        """A client's connection is freed when it has ended, without the collector: no cycle holds it."""
        cell = await self.started()
        port = cell.running[1].client_port
        left, _ = await self.opened(cell)
        closed, _ = await self.opened(cell)
        gone = [ref(client) for client in port.clients]
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        left.close()
        closed.say(Close())
        await cell.until(lambda: not port.clients and not any(each() for each in gone))

    async def test_closing(self) -> None:
        """A closed session is gone, and the connection with it."""
        cell = await self.started()
        client, opened = await self.opened(cell)
        client.say(Close())
        await cell.until(lambda: client.ended)
        assert client.of(Ended) == [Ended(EndReason.CLOSED)]
        assert opened.session not in cell.replica(1).host.sessions

    async def test_status_and_operators(self) -> None:
        """The status needs no session; an operator may load machines and nothing else."""
        cell = await self.started()
        client = self.client(cell)
        client.say(HELLO, Status(1), Admin(2, plain.encode(["load", ["second", "conftest:Ledger"]])))
        client.say(Admin(3, plain.encode(["announce", [1, {}]])))
        await cell.until(lambda: client.of(QueryReply) and client.of(StatusReply) and client.of(Failed))
        status: Any = plain.decode(client.of(StatusReply)[0].payload)
        assert status["role"] == "leader"
        assert [plugin["name"] for plugin in status["plugins"]] == ["ledger"]
        assert plain.decode(client.of(QueryReply)[0].payload) == [0, 17]
        assert client.of(Failed)[0].code == "forbidden"

    async def test_a_client_that_does_not_read_is_dropped(self) -> None:
        """Events for a client that never reads end its connection, not the replica's memory."""
        cell = await self.started(client_output=200_000)
        client, opened = await self.opened(cell)
        client.pause()
        for number in range(1, 40):
            client.say(request(number, "tell", "x" * 250_000))
        port = cell.running[1].client_port
        await cell.until(lambda: opened.session not in port.by_session)

    async def test_who_asks_much_is_answered_in_shares(self) -> None:
        """Questions without end are answered, a few in each turn, so that heartbeats and others have theirs."""
        cell = await self.started()
        client, written = self.client(cell), []
        flush = client_connection.ClientConnection.flush
        self.patch(
            client_connection.ClientConnection, "flush", lambda server: (written.append(server), flush(server))[1]
        )
        self.patch(shares, "SHARE_SECONDS", 1e-9)
        client.say(HELLO, *(Status(number) for number in range(400)))
        await cell.until(lambda: len(client.of(StatusReply)) == 400, 30)
        assert [reply.id for reply in client.of(StatusReply)] == list(range(400))
        assert len(written) > 100

    async def test_answers_that_become_possible_together_are_given_in_shares(self) -> None:
        """However many questions waited for the same index, others have their turns between the answers."""
        cell = await self.started()
        client, waiting, asked = self.client(cell), [], []
        replica = cell.replica(1)
        query = replica.host.query
        self.patch(replica, "barrier", lambda ready, by_round: waiting.append(ready))
        self.patch(replica.host, "query", lambda *question: (asked.append(question), query(*question))[1])
        client.say(HELLO, *(Query(n, Consistency.LEASE, 0, "ledger", plain.encode(["sum", ["a"]])) for n in range(50)))
        await cell.until(lambda: len(waiting) == 50)
        self.patch(shares, "SHARE_SECONDS", 1e-9)
        for ready in waiting:
            ready(True)
        assert len(asked) == 1
        await cell.until(lambda: len(client.of(QueryReply)) == 50)
        assert [reply.id for reply in client.of(QueryReply)] == list(range(50))

    async def test_what_waits_for_a_leader_is_bounded(self) -> None:
        """A client that asks, or says that it lives, without end while no leader answers is not read beyond what it may
        have under way; when one does it goes on."""
        cell = await self.started(requests_in_flight_max=10)
        client, _ = await self.opened(cell)
        replica, waiting = cell.replica(1), []
        self.patch(replica, "barrier", lambda ready, by_round: waiting.append(ready))
        self.patch(replica, "confirm", lambda session, kept: waiting.append(kept))
        for number in range(30):
            client.say(Query(number, Consistency.LEASE, 0, "ledger", plain.encode(["sum", ["a"]])))
            client.say(KeepAlive(number, 0, 0))
        (server,) = cell.running[1].client_port.clients
        await cell.until(lambda: server._paused)
        assert len(waiting) == 10
        told = 0
        while told < 60:
            await cell.until(lambda: waiting)
            told += len(waiting)
            for each in [waiting.pop(0) for _ in waiting[:]]:
                each(True)
        await cell.until(lambda: len(client.of(QueryReply)) == len(client.of(Kept)) == 30)

    async def test_a_request_does_not_overtake_one_whose_machine_is_looked_for(self) -> None:
        """Commands are applied in the order in which they were given, also behind one for a machine that this replica
        does not know yet."""
        cell = await self.started()
        client, _ = await self.opened(cell)
        replica, waiting = cell.replica(1), []
        patched = self.patch(replica, "barrier", waiting.append)
        client.say(request(1, "add", "a", machine="second"), request(2, "add", "a"), request(3, "add", "a"))
        await cell.until(lambda: waiting)
        patched.restore()
        loaded: list[Any] = []
        replica.command(PLUGINS, "load", ["second", "conftest:Ledger"], loaded.append)
        await cell.until(lambda: loaded)
        assert not client.of(Reply)
        waiting.pop()(True)
        await cell.until(lambda: len(client.of(Reply)) == 3)
        assert [reply.number for reply in client.of(Reply)] == [1, 2, 3]

    async def test_without_a_leader_no_machine_counts_as_missing(self) -> None:
        """Nobody could say whether it is loaded: the client is to ask elsewhere, and nothing overtakes its request."""
        cell = await self.started()
        client, _ = await self.opened(cell)
        self.patch(cell.replica(1), "barrier", lambda ready: ready(False))
        client.say(request(1, "add", "a", machine="second"), request(2, "add", "a"))
        await cell.until(lambda: len(client.of(Failed)) == 2)
        told = [(failed.number, failed.code) for failed in client.of(Failed)]
        assert told == [(1, "not-serving"), (2, "not-serving")]

    async def test_an_order_makes_room_for_the_request_behind_it(self) -> None:
        """Orders count among what a client may have under way, and the end of one lets it go on."""
        cell = await self.started(requests_in_flight_max=1)
        client, _ = await self.opened(cell)
        client.say(Admin(1, plain.encode(["load", ["second", "conftest:Ledger"]])), request(1, "add", "a"))
        await cell.until(lambda: client.of(Reply))

    async def test_orders_wait_for_room_too(self) -> None:
        """A client that orders, or closes, without end does not fill the memory of a replica that has no room."""
        cell = await self.started()
        client, _ = await self.opened(cell)
        replica, submitted = cell.replica(1), []
        self.patch(replica.node, "room", lambda: 0)
        self.patch(replica, "submit", lambda *command: submitted.append(command))
        client.say(*(Admin(number, plain.encode(["skip", ["ledger"]])) for number in range(20)), Close())
        await cell.until(lambda: cell.running[1].client_port._starved)
        assert not submitted

    async def test_a_full_backlog_holds_clients_back(self) -> None:
        """While the replica has no room a client's requests wait outside; all are answered once there is."""
        cell = await self.started()
        client, _ = await self.opened(cell)
        node = cell.replica(1).node
        self.patch(node, "options", node.options._replace(backlog=1))
        client.say(*(request(number, "add", "a") for number in range(1, 51)))
        await cell.until(lambda: len(client.of(Reply)) == 50)
        assert cell.machine(1).sums["a"] == 50
