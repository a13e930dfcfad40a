"""The port that speaks ZooKeeper: one service on each replica, serving reads from the live tree and gathering writes
into chunks.

Everything that arrives in one reactor turn leaves as one chunk at the end of the turn (or earlier when it grows
large); the answers of one applied batch and the notifications it caused leave in one write per connection.

While the replica follows no leader, connections stay open for a grace period, reads go on and writes wait: a
fail-over costs a client of a surviving replica neither its connection nor its writes. After the grace period, or half
of the session's time-out if that is shorter, connections are closed, so that clients look for a replica that has a
quorum; those that say that reading would do are served so meanwhile, if the operator allows it. When a snapshot from a
peer replaces the tree, all are closed as well: their watches and the answers on their way belong to the old one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from secrets import token_hex
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import ref

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred

from ...kernel.machine import SessionId
from ...kernel.server.endpoints import listening
from ...kernel.server.front import Replica
from ...kernel.server.lean import RESERVED, LeanConnection, LeanListener
from ...kernel.server.turn import Turns
from . import chunks, tls, words
from .arrivals import Arrivals
from .chunks import RUN
from .codec import pack_ids
from .connection import Connection
from .machine import ZnodesMachine
from .protocol import INT_MAX
from .reconfig import Reconfiguring
from .sasl import Exchange
from .settings import Settings
from .stages import Stage
from .table import Table
from .tree import Node, Tree
from .watches import Watches
from .wire import host

if TYPE_CHECKING:
    import socket

    from twisted.internet.interfaces import IDelayedCall, IListeningPort

    from ...kernel.server.lean import Reactor
    from .wire import Wire

CHUNK_SIZE: Final = 128 << 10
"""Bytes of writes after which a chunk is submitted before the turn ends."""

SETTLED: Final = 250
"""Connections that get in one turn what is due to them: a send takes 10 us, and ten thousand may have watched one
node."""

DISCARDED: Final = 5000
"""Nodes of a replaced tree that are freed in one turn, and how long the next waits."""
DISCARD_SECONDS: Final = 0.002

GREETING_SECONDS: Final = 10.0
"""How long a connection may stay silent before its connect request."""


class Counters:
    """What the monitoring words report, counted cheaply: per chunk or rarer."""

    __slots__ = (
        "auth_failed", "drops", "latency_max", "latency_min", "latency_sum", "received", "rejected", "sent", "silent",
        "timed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.drops = self.auth_failed = self.rejected = self.silent = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self.received = self.sent = self.timed = 0
        self.latency_sum = self.latency_max = 0.0
        self.latency_min = 0.0

    def timed_writes(self, count: int, seconds: float) -> None:
        """A chunk of `count` requests was answered after `seconds`."""
        self.latency_sum += seconds * count
        self.latency_max = max(self.latency_max, seconds)
        self.latency_min = min(self.latency_min, seconds) if self.timed else seconds
        self.timed += count


class _Wire(LeanConnection):
    """A connection's socket on the reactor. The front holds the connection, and when that is gone nothing does: a cycle
    of the two would never be freed."""

    __slots__ = ("client",)
    client: ref[Connection]

    def received(self, arrived: bytes) -> None:
        client = self.client()
        if client is not None:
            client.received(arrived)

    def drained(self) -> None:
        client = self.client()
        if client is not None:
            client.drained()

    def lost(self, reason: Exception) -> None:
        client = self.client()
        if client is not None:
            client.front.gone(client)


class ZooKeeperFront(Service):
    """The service. `watches`, `machine`, `tree`: what requests are answered from."""

    face: ClassVar[str] = "zookeeper"

    def __init__(self, replica: Replica, reactor: Reactor, endpoint: str, options: Mapping[str, str]) -> None:
        self.replica = replica
        self.reactor = reactor
        self.endpoint = endpoint
        self.settings = Settings.parse(options)
        self.counters = Counters()
        self.trace_mask = 306
        """Set and shown by words, for scripts that do; nothing is traced by it."""
        self.started = reactor.seconds()
        self.watches = Watches(self._watch)
        self.connections: dict[int, Connection] = {}
        """By the number that is theirs while this process runs."""
        self.by_session: dict[int, Connection] = {}
        self.per_address: dict[str, int] = {}
        self.touched: dict[Connection, None] = {}
        """Connections that something is due to, in the order in which they get it."""
        self._settling: IDelayedCall | None = None
        self.full = False
        """The way into the log is full: nothing is read until it has room."""
        self._pieces: list[bytes] = []
        self._runs: list[tuple[Connection, int]] = []
        self._sets: dict[bytes, int] = {}
        self._size = 0
        self._last = 0
        self._delivered = 0
        self._generation = 0
        self._submitted = self._applied = 0
        """How many chunks."""
        self._moves: deque[tuple[int, Callable[[], None]]] = deque()
        """Sessions that wait to be moved here until so many chunks have been applied."""
        self._turns = Turns(reactor, self._flush, early=True)
        self._stream = replica.stream(ZnodesMachine.name, self._room)
        self._listener: LeanListener | None = None
        self._secure: IListeningPort | None = None
        self._admin: IListeningPort | None = None
        self._leaving: IDelayedCall | None = None
        self._alone_since = 0.0
        self.alone = False
        """There has been no leader for longer than the grace period: nothing can be written, no session moves."""
        self.arrivals = Arrivals(self)
        self.reconfiguring = Reconfiguring(self)
        self.machine = self._adopt()
        replica.observe(self)

    @property
    def tree(self) -> Tree:
        return self.machine.tree

    def _adopt(self) -> ZnodesMachine:
        machine = self.replica.machine(ZnodesMachine.name)
        assert isinstance(machine, ZnodesMachine)
        machine.reader = self._at_pause
        self._delivered = machine.answered
        return machine

    def _replaced(self) -> bool:
        """Whether another machine takes the place of ours. One that is halted is none, and this front will be
        stopped."""
        try:
            return self.replica.machine(ZnodesMachine.name) is not self.machine
        except LookupError:
            return False

    # ------------------------------------------------------------ the service

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._listener = LeanListener(self.reactor, self.endpoint, self._accepted, reserve=RESERVED)
        secure = self.settings.secure
        if secure is not None:
            place = listening(secure.endpoint)
            self._secure = tls.listen(self, secure, place.port, place.host)
        if self.settings.admin:
            from . import admin  # brings a web server, which the others need not wait for

            place = listening(self.settings.admin)
            self._admin = admin.listen(self, place.port, place.host)
        self.serving_changed(self.replica.serving())

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]
        ports, self._secure, self._admin = (self._secure, self._admin), None, None
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        self.arrivals.local.stop()
        self.reconfiguring.stop()
        self.drop_all()
        self._flush()
        self._generation += 1  # what is answered from now on is nobody's, and another front may have the machine
        return DeferredList([maybeDeferred(port.stopListening) for port in ports if port is not None])

    def port(self) -> int:
        """The port it listens on."""
        assert self._listener is not None
        return self._listener.port()

    def secure_port(self) -> int:
        """The port it listens on for TLS."""
        assert self._secure is not None
        return int(self._secure.getHost().port)  # type: ignore[attr-defined]

    def admin_port(self) -> int:
        """The port it answers administrators on."""
        assert self._admin is not None
        return int(self._admin.getHost().port)  # type: ignore[attr-defined]

    def _accepted(self, sock: socket.socket, address: object) -> None:
        wire = _Wire(self.reactor, sock)
        connection = self.admit(wire, address)
        if connection is None:
            wire.close()
            return
        wire.client = ref(connection)
        try:
            wire.start()
        except OSError:
            connection.drop()
            raise

    def admit(self, wire: Wire, address: object) -> Connection | None:
        """Take a fresh connection on; None if there are enough of them."""
        settings = self.settings
        name = host(address)
        count = self.per_address.get(name, 0)
        if 0 < settings.per_address <= count or 0 < settings.connections_max <= len(self.connections):
            self.counters.rejected += 1
            return None
        self.per_address[name] = count + 1
        self._last = self._last + 1 & INT_MAX
        connection = self.connections[self._last] = Connection(self, wire, self._last, address)
        self.reactor.callLater(GREETING_SECONDS, self._expect_greeting, connection)
        return connection

    def _expect_greeting(self, connection: Connection) -> None:
        if connection.stage is Stage.GREETING and not connection.wire.closed:
            self.counters.silent += 1
            connection.drop()

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        if self.connections.pop(connection.number, None) is None:
            return
        self.counters.drops += 1
        self.counters.received += connection.received_count
        self.counters.sent += connection.sent_count
        self.touched.pop(connection, None)
        self.watches.forget(connection)
        name = host(connection.address)
        self.per_address[name] -= 1
        if not self.per_address[name]:
            del self.per_address[name]
        if self.by_session.get(connection.session) is connection:
            del self.by_session[connection.session]

    def drop_all(self) -> None:
        """Close every connection; sessions live on."""
        for connection in list(self.connections.values()):
            connection.drop()

    @property
    def reads_only(self) -> bool:
        """Whether clients are served, but only read."""
        return self.alone and self.settings.read_only

    def exchange(self) -> Exchange | None:
        """The beginning of an authentication by SASL; None where nobody can."""
        users = self.settings.users
        return Exchange(users, token_hex(16).encode()) if users else None

    # ------------------------------------------------------------ writes

    def gather(self, connection: Connection, frames: bytes, count: int) -> None:
        """Put a run of one connection into the turn's chunk; it will bring `count` answers."""
        sets = self._sets
        identities = connection.packed_identities
        number = sets.get(identities)
        if number is None:
            number = sets[identities] = len(sets)
            self._size += len(identities)
        self._pieces.append(RUN.pack(connection.session, number, len(frames)))
        self._pieces.append(frames)
        self._runs.append((connection, count))
        self._size += len(frames)
        if self._size >= CHUNK_SIZE or len(sets) == chunks.IDENTITIES_MAX:
            self._flush()
        else:
            self._turns.request()

    def _flush(self) -> None:
        """Submit what the turn has gathered."""
        runs = self._runs
        if not runs:
            return
        chunk = chunks.pack(self.settings.allow, self._sets, self._pieces)
        self._pieces, self._runs, self._sets, self._size = [], [], {}, 0
        submitted = self.reactor.seconds()
        generation = self._generation
        self._submitted += 1

        def applied(answers: list[bytes]) -> None:
            self._applied += 1
            if generation == self._generation:
                self._deliver(runs, answers)
                self.counters.timed_writes(len(answers), self.reactor.seconds() - submitted)
            else:  # whoever waited for them is gone; the machine has counted them
                self._delivered += len(answers)
            while self._moves and self._moves[0][0] <= self._applied:
                self._moves.popleft()[1]()

        self._stream.submit(chunk, applied)
        self.full = self._stream.room() <= 0

    def after_chunks(self, call: Callable[[], None]) -> None:
        """Call once everything that was gathered until now has been applied."""
        self._flush()
        if self._applied == self._submitted:
            call()
        else:
            self._moves.append((self._submitted, call))

    def write_alone(self, frame: bytes) -> None:
        """Have one request applied that is no client's."""
        self._flush()

        def applied(answers: list[bytes]) -> None:
            self._delivered += len(answers)

        run = RUN.pack(-1, 0, len(frame))
        self._stream.submit(chunks.pack(self.settings.allow, [pack_ids(())], [run, frame]), applied)

    def _deliver(self, runs: list[tuple[Connection, int]], answers: list[bytes]) -> None:
        if len(answers) != sum(count for _, count in runs):
            # The machine did not take the chunk, or a snapshot brought its effects without its answers.
            for connection, _ in runs:
                connection.drop()
            if self._replaced():
                self.restored()
            return
        number = self._delivered
        touched = self.touched
        at = 0
        for connection, count in runs:
            if not connection.wire.closed:
                connection.answered(answers[at : at + count], number + at)
                touched[connection] = None
            at += count
        self._delivered = number + at

    def _room(self) -> None:
        self.full = False
        for connection in list(self.connections.values()):
            if connection.stage is Stage.OPEN:
                connection.settle()

    def _at_pause(self, number: int) -> bytes:
        connection = self.connections.get(number)
        return connection.at_pause() if connection is not None else b""

    def answers_so_far(self) -> int:
        """How many answers this replica's chunks have got, those of the chunk being applied included."""
        return self.machine.answered + len(self.machine.answers)

    def _watch(self, any_watch: bool) -> None:
        self.machine.observer = self.watches.fire if any_watch else None

    def word(self, said: bytes) -> bytes | None:
        """The answer to a four-letter word and what came behind it; None if it is none."""
        return words.answer(self, said)

    # ------------------------------------------------------------ what the replica tells (FrontObserver)

    def after_batch(self) -> None:
        """A batch has been applied: everything it brought leaves now, or within the next turns if that is much. What a
        connection reads before its turn comes goes behind what is due to it."""
        if self._settling is None:
            self._settle()

    def _settle(self) -> None:
        touched = self.touched
        if len(touched) <= SETTLED:
            self._settling = None
            self.touched = {}
        else:
            self._settling = self.reactor.callLater(0, self._settle)
            touched = dict.fromkeys(islice(touched, SETTLED))
            for connection in touched:
                del self.touched[connection]
        for connection in touched:
            connection.settle()

    def session_ended(self, session: SessionId, expired: bool) -> None:
        """A session attached here ended. One that its client closed gets its answer first."""
        connection = self.by_session.get(session)
        if connection is not None and (expired or connection.stage is not Stage.ENDING):
            connection.drop()

    def session_moved(self, session: SessionId) -> None:
        """A session is attached elsewhere now."""
        connection = self.by_session.get(session)
        if connection is not None:
            connection.drop()

    def restored(self) -> None:
        """A snapshot replaced the machine. Told twice when answers were lost with it."""
        self._generation += 1
        self.drop_all()
        if self._replaced():
            replaced, self.machine = self.machine, self._adopt()
            self._discard(replaced.tree.nodes)
        self._watch(len(self.watches.held) > 0)

    def _discard(self, nodes: Table[Node]) -> None:
        """Free the nodes of a tree that nobody needs any more: some a turn, as freeing a million at once would stop
        the replica for half a second."""
        if nodes.discard(DISCARDED):
            self.reactor.callLater(DISCARD_SECONDS, self._discard, nodes)

    def serving_changed(self, serving: bool) -> None:
        """A leader was lost or found. Who was only let read comes again, for more."""
        if serving:
            self.reconfiguring.changed()
            if self.alone:
                self.alone = False
                self.drop_all()
            if self._leaving is not None:
                self._leaving.cancel()
                self._leaving = None
        elif self._leaving is None:
            self._alone_since = self.reactor.seconds()
            self._leaving = self.reactor.callLater(0, self._leave)

    def reconfigured(self) -> None:
        """Another configuration is in force."""
        self.reconfiguring.changed()

    def _leave(self) -> None:
        """Send away those whose patience is at its end, and look again when the next one's is."""
        waited = self.waited_ms
        if waited >= self.settings.grace_ms:
            self._leaving = None
            self.alone = True
            self.drop_all()
            return
        waits = [self.settings.grace_ms - waited]
        for connection in list(self.connections.values()):
            left = self.patience_ms(connection) - waited
            if left > 0:
                waits.append(left)
            else:
                connection.drop()
        self._leaving = self.reactor.callLater(min(waits) / 1000, self._leave)

    @property
    def waited_ms(self) -> int:
        """For how long there has been no leader; 0 while there is one. Whole milliseconds: nobody shall wait for what
        no clock shows."""
        return round((self.reactor.seconds() - self._alone_since) * 1000) if self._leaving is not None else 0

    def patience_ms(self, connection: Connection) -> int:
        """How long a client is kept without a leader: in the other half of its session's time-out it must find a
        replica that has one, or the session expires although its client is well."""
        grace = self.settings.grace_ms
        return min(grace, connection.timeout_ms // 2) if connection.timeout_ms and connection.session >= 0 else grace
