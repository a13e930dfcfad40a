"""Links between the members of a cell.

Theory of operation. Every member calls every other and speaks on its own call; what it hears comes on the calls of
the others. So each link has one direction and one owner, who alone decides when to call again. A link begins with a
greeting (:mod:`..wire.formats`) by which the called member judges whose disk it is (:mod:`.witness`).

A caller need not be a member by what the called one knows: who was away for long, or starts with the founders' names
only, may know nobody of those that are in the cell by now, and has to learn it from them. Having no address for such a
guest it answers on the guest's own call; what counts for quorums is the core's business.

Nothing here is reliable, because Paxos does not need it to be: a message for a member that cannot be reached is
dropped, and so are messages beyond ``queue_limit`` bytes for one that does not read; whoever misses something asks
for it. Order on one link is kept, but for *urgent* messages (heartbeats and their answers), which overtake whatever
waits: a lease must not end because a long catch-up is on its way.

Silence is found by the kernel (keepalive and user time-out of TCP). What was sent and is not confirmed for a second
ends a link: TCP itself would wait longer and longer before it tries again, and after a cut of some seconds the cell
would stand still for as long once more. A lost link is called again after a pause that grows from 20 ms to 1 s, with
jitter; without one if the call was not answered at all, and at once when the other member has called.

Knows no roles, no leader and no log.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final, Protocol

from twisted.logger import Logger

from ..node_messages import AnyMessage
from ..paxos.messages import Accepted, Beaten, Heartbeat, Promise, Sender
from ..paxos.quorum import Configuration
from ..paxos.ready import Send
from ..wire.codec import Splitter, decode, encode
from ..wire.formats import (
    PEER_VERSION,
    Greeting,
    Malformed,
    Refusing,
    TurnedAway,
    Welcomed,
)
from .dial import Dial
from .lean import LeanConnection, LeanListener
from .witness import Witness

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .lean import Reactor

URGENT: Final = (Heartbeat, Beaten)
PAUSE_MIN: Final = 0.02
PAUSE_MAX: Final = 1.0
CALL_PATIENCE: Final = 0.5
"""How long a call may go unanswered at first; longer with every pause, for members that are far away."""
GREETING_PATIENCE: Final = 5.0
STRANGERS_MAX: Final = 32
"""Callers that have not said who they are; if there are more, the one that has waited longest goes."""
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 1000}
_BURST: Final = 256 << 10
_UNBOUNDED: Final = 1 << 40  # a link bounds its own queue


class Hearing(Protocol):
    """Who is told what the peers say."""

    def heard(self, sender: Sender, message: AnyMessage) -> None:
        """A message of a member."""

    def disk(self, member: int) -> bytes | None:
        """The disk with which a member introduced itself to the cell."""

    def condemned(self, refusal: TurnedAway) -> None:
        """A peer says that this replica's disk may not vote: it must not, here or anywhere."""

    def links_changed(self) -> None:
        """A link came up or went down."""


class Peers:
    """All links of one member. `configuration` names the others; see :meth:`configure`."""

    _log = Logger()

    def __init__(
        self,
        reactor: Reactor,
        greeting: Greeting,
        configuration: Configuration,
        witness: Witness,
        hearing: Hearing,
        *,
        random: Random,
        queue_limit: int,
    ) -> None:
        self.reactor = reactor
        self.greeting = greeting
        self.configuration = configuration
        self.witness = witness
        self.hearing = hearing
        self.random = random
        self.queue_limit = queue_limit
        self._links: dict[int, Link] = {}
        self._calls: dict[int, Call] = {}
        self._strangers: dict[Call, None] = {}
        self._listener: LeanListener | None = None
        self._silent = False

    def start(self, endpoint: str) -> None:
        """Listen, and call the others. Raises OSError if the address is taken."""
        self._listener = LeanListener(self.reactor, endpoint, self._accepted)
        self.configure(self.configuration)

    def stop(self) -> None:
        """End every link."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        for link in self._links.values():
            link.stop()
        self._links.clear()
        for call in (*self._calls.values(), *self._strangers):
            call.close()
        self._calls.clear()

    def silence(self) -> None:
        """Say nothing and hear nothing any more."""
        self._silent = True
        self.stop()

    def configure(self, configuration: Configuration) -> None:
        """The members are these now: call the new ones, leave those that are gone."""
        self.configuration = configuration
        if self._listener is None:
            return
        wanted: dict[int, str] = {
            member.id: member.peer for member in configuration.members if member.id != self.greeting.member
        }
        for member in [each for each, link in self._links.items() if wanted.get(each) != link.endpoint]:
            self._links.pop(member).stop()
        for member, endpoint in wanted.items():
            if member not in self._links:
                self._links[member] = Link(self, member, endpoint)

    def send_all(self, messages: Iterable[Send]) -> None:
        """Send; what is said to one member in a row leaves together."""
        row: list[bytes] = []
        receiver = 0
        last: AnyMessage | None = None
        pieces: Sequence[bytes] = ()
        for to, message in messages:
            if message is not last:
                last, pieces = message, encode(message)
            urgent = isinstance(message, URGENT)
            if row and (urgent or to != receiver):
                self._send(receiver, row)
                row = []
            if urgent:
                self._send(to, pieces, urgent=True)
            else:
                receiver = to
                row += pieces
        if row:
            self._send(receiver, row)

    def _send(self, to: int, pieces: Sequence[bytes], urgent: bool = False) -> None:
        link = self._links.get(to)
        if link is None:
            guest = self._calls.get(to)
            if guest is not None and not guest.pending:
                guest.send_all(pieces)
        elif link.up:
            link.send(pieces, urgent)

    def connected(self) -> list[int]:
        """The members that hear this one."""
        return sorted(member for member, link in self._links.items() if link.up)

    def port(self) -> int:
        """The port on which it listens."""
        return 0 if self._listener is None else self._listener.port()

    # ---------------------------------------------------------------- what the calls of others bring

    def _accepted(self, sock: socket.socket, address: object) -> None:
        _keep_alive(sock)
        call = Call(self, sock)
        self._strangers[call] = None
        if len(self._strangers) > STRANGERS_MAX:
            next(iter(self._strangers)).close()
        call.start()

    def greeted(self, call: Call, greeting: Greeting) -> TurnedAway | None:
        """Judge a caller; a good one replaces its earlier call."""
        mine = self.greeting
        if greeting.version != PEER_VERSION:
            return TurnedAway(Refusing.VERSION, f"version {greeting.version} is spoken, here it is {PEER_VERSION}")
        if greeting.cell != mine.cell:
            return TurnedAway(
                Refusing.CELL,
                f"this is a replica of the cell {mine.cell.hex()}, not of {greeting.cell.hex()}: its name or its "
                "founders differ",
            )
        if greeting.to != mine.member:
            return TurnedAway(Refusing.MISDIRECTED, f"this is member {mine.member}, not {greeting.to}")
        refusal = self.witness.judge(greeting, self.hearing.disk(greeting.member))
        if refusal is not None:
            self._log.warn("turned member {member} away: {reason}", member=greeting.member, reason=refusal.reason)
            return refusal
        before = self._calls.get(greeting.member)
        if before is not None:
            if before.sender is not None and before.sender.incarnation > greeting.incarnation:
                return TurnedAway(Refusing.ROLLED_BACK, "a later run of this member is connected")
            before.close()
        self._calls[greeting.member] = call
        del self._strangers[call]
        if greeting.member in self._links:
            self._links[greeting.member].called()
        else:
            self._log.info("member {member} calls, which is not in the cell as known here", member=greeting.member)
        return None

    def heard(self, sender: Sender, message: AnyMessage) -> None:
        """A message came on a call, or as an answer on a link."""
        if isinstance(message, (Accepted, Promise)):
            self.witness.hear(sender.member, message)
        self.hearing.heard(sender, message)

    def hung_up(self, call: Call) -> None:
        """A call ended."""
        self._strangers.pop(call, None)
        if call.sender is not None and self._calls.get(call.sender.member) is call:
            del self._calls[call.sender.member]


class Call(LeanConnection):
    """What another member says to this one."""

    __slots__ = ("_patience", "_peers", "_splitter", "sender")

    def __init__(self, peers: Peers, sock: socket.socket) -> None:
        super().__init__(peers.reactor, sock)
        self.sender: Sender | None = None
        self._peers = peers
        self._splitter = Splitter()
        self._patience: IDelayedCall = peers.reactor.callLater(GREETING_PATIENCE, self.close)

    def received(self, content: bytes) -> None:
        try:
            for body in self._splitter.feed(content):
                message = decode(body)
                sender = self.sender
                if sender is None:
                    self._greeted(message)
                elif isinstance(message, (Greeting, Welcomed, TurnedAway)):
                    raise Malformed(f"{type(message).__name__} in the middle of a link")
                else:
                    self._peers.heard(sender, message)
                if self.closed:
                    return
        except Malformed as error:
            Peers._log.warn("a peer link is closed: {error}", error=error)
            self.close()

    def _greeted(self, greeting: object) -> None:
        if not isinstance(greeting, Greeting):
            raise Malformed("no greeting")
        if self._patience.active():
            self._patience.cancel()
        refusal = self._peers.greeted(self, greeting)
        if refusal is not None:
            self.send_all(encode(refusal))
            self.close(after_flush=True)
            return
        self.sender = Sender(greeting.member, greeting.incarnation)  # type: ignore[arg-type]
        mine = self._peers.greeting
        self.send_all(encode(Welcomed(mine.member, mine.incarnation, mine.disk)))

    def close(self, after_flush: bool = False) -> None:
        if self._patience.active():
            self._patience.cancel()
        super().close(after_flush)
        self._peers.hung_up(self)

    def lost(self, reason: Exception) -> None:
        if self._patience.active():
            self._patience.cancel()
        self._peers.hung_up(self)


class Link:
    """This member's own line to another one: calls, calls again, and queues while the line is full."""

    def __init__(self, peers: Peers, member: int, endpoint: str) -> None:
        self.member = member
        self.endpoint = endpoint
        self.up = False
        """Whether the other has welcomed us on the present connection."""
        self.dropped = 0
        """Messages given up because the queue was full."""
        self.peers = peers
        self._dial: Dial | None = None
        self._line: Line | None = None
        self._again: IDelayedCall | None = None
        self._pause = PAUSE_MIN
        self._refusal: Refusing | None = None
        self._queue: deque[Sequence[bytes]] = deque()
        self._urgent: deque[Sequence[bytes]] = deque()
        self._queued = 0
        self._call()

    def send(self, pieces: Sequence[bytes], urgent: bool) -> None:
        """Send now if the line is free, else queue; drop beyond the limit."""
        line = self._line
        assert line is not None
        if not line.pending:
            line.send_all(pieces)
            return
        if urgent:
            self._urgent.append(pieces)
            return
        size = sum(map(len, pieces))
        if self._queued + size > self.peers.queue_limit:
            self.dropped += 1
        else:
            self._queued += size
            self._queue.append(pieces)

    def stop(self) -> None:
        """Hang up for good."""
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._dial is not None:
            self._dial.cancel()
        if self._line is not None:
            self._line.close()
        self._drop()

    # ---------------------------------------------------------------- calling

    def called(self) -> None:
        """The other member has called, so it can be reached: our own call need not wait any longer."""
        if self._line is not None:
            return
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self._dial is not None:
            self._dial.cancel()
        self._call()

    def _call(self) -> None:
        patience = CALL_PATIENCE + 2 * self._pause
        self._dial = Dial(self.peers.reactor, self.endpoint, self._answered, self.lost, patience)

    def _answered(self, sock: socket.socket) -> None:
        self._dial = None
        _keep_alive(sock)
        line = self._line = Line(self, self.peers.reactor, sock)
        line.start()
        line.send_all(encode(self.peers.greeting._replace(to=self.member)))

    def welcomed(self, welcome: Welcomed) -> None:
        """The other member takes messages on this line."""
        if welcome.member != self.member:
            self.lost(Malformed(f"member {welcome.member} answered for {self.member}"))
            return
        self.up = True
        self._pause = PAUSE_MIN
        self._refusal = None
        self.peers.hearing.links_changed()

    def turned_away(self, refusal: TurnedAway) -> None:
        """The other member refuses us."""
        if refusal.why is not self._refusal:
            self._refusal = refusal.why
            Peers._log.warn(
                "member {member} turns us away: {reason}", member=self.member, reason=refusal.reason, why=refusal.why
            )
        self._pause = PAUSE_MAX
        self.lost(ConnectionRefusedError(refusal.reason))
        if refusal.why in (Refusing.DISK, Refusing.ROLLED_BACK):
            self.peers.hearing.condemned(refusal)

    def lost(self, reason: Exception) -> None:
        """The line is gone, or never came to be: call again later."""
        self._dial = None
        if self._line is not None:
            self._line.close()
        was_up = self.up
        self._drop()
        pause = PAUSE_MIN if isinstance(reason, TimeoutError) else self._pause
        self._again = self.peers.reactor.callLater(pause * (0.5 + self.peers.random.random()), self._call)
        self._pause = min(PAUSE_MAX, 2 * self._pause)
        if was_up:
            self.peers.hearing.links_changed()

    def _drop(self) -> None:
        self._line = None
        self.up = False
        self._queue.clear()
        self._urgent.clear()
        self._queued = 0

    def drained(self) -> None:
        """The line is free: send what waits, the urgent first, until it is full again."""
        line = self._line
        while line is not None and not line.pending and (self._urgent or self._queue):
            pieces: list[bytes] = []
            while self._urgent:
                pieces += self._urgent.popleft()
            size = 0
            while self._queue and size < _BURST:
                waiting = self._queue.popleft()
                size += sum(map(len, waiting))
                pieces += waiting
            self._queued -= size
            line.send_all(pieces)
            line = self._line


class Line(LeanConnection):
    """The connection of a link while it lasts."""

    __slots__ = ("_link", "_sender", "_splitter")

    def __init__(self, link: Link, reactor: Reactor, sock: socket.socket) -> None:
        super().__init__(reactor, sock, output_limit=_UNBOUNDED)
        self._link = link
        self._splitter = Splitter()
        self._sender: Sender | None = None

    def received(self, content: bytes) -> None:
        try:
            for body in self._splitter.feed(content):
                message = decode(body)
                sender = self._sender
                if isinstance(message, Welcomed):
                    self._sender = Sender(message.member, message.incarnation)  # type: ignore[arg-type]
                    self._link.welcomed(message)
                elif isinstance(message, TurnedAway):
                    self._link.turned_away(message)
                elif sender is None or isinstance(message, Greeting):
                    raise Malformed(f"{type(message).__name__} as an answer to a greeting")
                else:
                    self._link.peers.heard(sender, message)
                if self.closed:
                    return
        except Malformed as error:
            Peers._log.warn("the link to member {member} is closed: {error}", member=self._link.member, error=error)
            self._link.lost(error)

    def lost(self, reason: Exception) -> None:
        if self._link._line is self:  # else it was given up already, for another reason
            self._link.lost(reason)

    def drained(self) -> None:
        self._link.drained()


def _keep_alive(sock: socket.socket) -> None:
    """Have the kernel find out within seconds that the other side is gone."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
