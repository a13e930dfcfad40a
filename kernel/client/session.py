"""A client's session with a cell, without any input or output: :class:`SessionCore`.

Whoever drives it tells it what happened (connected, received, disconnected, the time) and carries out what
:meth:`SessionCore.take` returns. Time is an argument everywhere, in seconds of one clock that never goes back and
counts suspended time; so is the random source. The parts: :mod:`.route` (which member next), :mod:`.outbox` (commands
on their way), :mod:`.inbox` (events and waits), :mod:`.lease` (keepalives), :mod:`.states` (what the session is in).

**Exactly once.** Whatever is unanswered when a connection breaks is sent again under its old number over the next
one; the cell keeps the reply to each number until it is acknowledged. A command whose caller gave up is still
repeated and answered, so that order holds.

**In jeopardy** the lease has run out, which says nothing about the session itself: it goes on when a Kept comes, is
over when the cell tells so, and its end is presumed when the grace period is over as well.

**A silent replica** is given up for the next member, see :mod:`.lease`. The member named as leader is asked first; a
client that already works with a follower stays with it, so that a change of leader does not move every session.

A reply is held back until the events that it mentions are in. This module knows nothing of sockets, threads and
futures.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ..machine import Plain, Refusal
from ..wire import native, plain
from ..wire.native import About, Consistency, EndReason, Frame
from .errors import MachineHalted, OutcomeUnknown, Overloaded, SessionClosed, SessionEnded, SessionExpired, WrongCell
from .inbox import Disorder, Inbox
from .lease import Lease
from .outbox import Outbox
from .outputs import Answered, Call, Changed, Connect, Disconnect, Finished, Kind, Output, Send
from .route import Route
from .states import TRANSITIONS, State, Turn

if TYPE_CHECKING:
    from random import Random

TIMEOUT: Final = 10.0
GRACE: Final = 45.0
DRIFT: Final = 0.01
IN_FLIGHT_MAX: Final = 256
QUEUED_MAX: Final = 10_000
CLOSE_WITHIN: Final = 2.0
ATTEMPT_MIN: Final = 1.0
EVENTS_UNTOLD_MAX: Final = 512
"""So many events taken in are acknowledged at once instead of with the next KeepAlive: the cell keeps a bounded
number."""
REFUSED_FOR_GOOD: Final = frozenset({"forbidden", "unauthenticated", "version"})
ELSEWHERE: Final = frozenset({"not-serving", "busy"})


class Link(enum.Enum):
    """How far the one connection is."""

    NONE = "none"
    DIALING = "dialing"
    GREETING = "greeting"
    ATTACHING = "attaching"
    READY = "ready"


class SessionCore:
    """One session. Begin with :meth:`start`; call :meth:`take` after everything else that is called here.

    Arguments: `endpoints`, member endpoint strings, one that answers is enough; `timeout`, how many seconds of
    silence the cell shall bear; `grace`, how many seconds to hope after the lease ran out; `drift`, by what part the
    cell's clocks may run faster; `name`, shown to operators; `cell`, the id to insist on if it is known; `liveness`,
    asked before each KeepAlive: False lets the session lapse; `attach` False: open no session, only ask queries,
    status and admin.
    """

    def __init__(
        self,
        endpoints: Iterable[str],
        random: Random,
        *,
        timeout: float = TIMEOUT,
        grace: float = GRACE,
        drift: float = DRIFT,
        name: str = "",
        cell: bytes = b"",
        in_flight_max: int = IN_FLIGHT_MAX,
        queued_max: int = QUEUED_MAX,
        liveness: Callable[[], bool] | None = None,
        attach: bool = True,
    ) -> None:
        if not (timeout > 0 and grace >= 0 and 0 <= drift < 1 and in_flight_max > 0):
            raise ValueError("timeout and in_flight_max are positive, grace is not negative, 0 <= drift < 1")
        self.state = State.CONNECTING
        self.ending: SessionEnded | None = None
        """Why the session is over, once it is."""
        self.cell = cell
        self.session = 0
        self.member = 0
        """The member this client is connected to, 0 if none."""
        self.lease = Lease(timeout, drift)
        self._password = b""
        self._grace, self._name, self._liveness, self._attach = grace, name, liveness, attach
        self._route = Route(endpoints, random)
        self._members: dict[int, str] = {}
        self._leader = 0
        self._window, self._queued_max = in_flight_max, queued_max
        self._payload_bytes_max = native.PAYLOAD_BYTES_MAX
        self._out: list[Output] = []

        self._link = Link.NONE
        self._buffer = bytearray()
        self._retry_at = math.inf
        self._attempt_until = math.inf
        self._asked_at = 0.0  # when the Open or Attach of this connection was sent
        self._presume_at = math.inf
        self._closing_until = math.inf
        self._over = False

        self._outbox = Outbox(in_flight_max)
        self._inbox = Inbox()
        self._held: deque[native.Reply] = deque()  # replies that wait for events
        self._queries: dict[int, Call] = {}
        self._last_query = 0
        self._seen = 0  # the newest command index that an answer told

    # --- what happened ----------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Begin to connect."""
        self._dial(now)

    def connected(self, now: float) -> None:
        """The connection that was asked for is open."""
        if self._link is Link.DIALING:
            self._link = Link.GREETING
            self._buffer.clear()
            self._send(native.Hello(native.PROTOCOL_VERSION, self.cell, self._name[:60]))

    def disconnected(self, reason: str, now: float) -> None:
        """The connection broke, or could not be opened."""
        if self._link is not Link.NONE:
            self._lost(reason, now)

    def received(self, content: bytes, now: float) -> None:
        """These bytes came over the connection."""
        if self._link in (Link.NONE, Link.DIALING):
            return
        self._buffer += content
        try:
            bodies, used = native.split(self._buffer)
            del self._buffer[:used]
            for body in bodies:
                self._take(native.decode(body), now)
                if self._link in (Link.NONE, Link.DIALING):
                    return  # the rest belongs to a connection that is given up
        except (native.Malformed, plain.Malformed, Disorder) as error:
            self._drop(f"the replica sent something unreadable: {error}", now)
            return
        self._fill()
        if self._inbox.last - self._inbox.told >= EVENTS_UNTOLD_MAX:
            self._keep_alive(now)

    def tick(self, now: float) -> None:
        """Time has passed. Call it at :meth:`deadline`, or any time."""
        if self._over:
            return
        if now >= self._closing_until:
            self._finish("closed")
            return
        self._watch_lease(now)
        if self._over:
            return
        if self._link is Link.NONE:
            if now >= self._retry_at:
                self._dial(now)
        elif self._link is not Link.READY:
            if now >= self._attempt_until:
                self._drop("the member did not answer in time", now)
        elif now >= self.lease.silent_at():
            self._drop("the member did not confirm that the cell keeps the session", now)
        elif now >= self.lease.due_at:
            self._keep_alive(now)

    def deadline(self) -> float:
        """When :meth:`tick` is to be called at the latest; infinity if there is nothing to wait for."""
        if self._over:
            return math.inf
        if self._link is Link.NONE:
            due = self._retry_at
        elif self._link is Link.READY:
            due = min(self.lease.due_at, self.lease.silent_at())
        else:
            due = self._attempt_until
        if self.state is State.JEOPARDY:
            due = min(due, self._presume_at)
        elif self.session and not self.state.final:
            due = min(due, self.lease.until)
        return min(due, self._closing_until)

    def take(self) -> list[Output]:
        """What is to be done and told now, in order. Bytes for one connection come as one Send."""
        taken: list[Output] = []
        content: list[bytes] = []
        for each in self._out:
            if isinstance(each, Send):
                content.append(each.content)
                continue
            if content and isinstance(each, Disconnect | Connect):
                taken.append(Send(b"".join(content)))
                content.clear()
            taken.append(each)
        if content:
            taken.append(Send(b"".join(content)))
        self._out.clear()
        return taken

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def call(
        self, machine: str, command: str, args: Sequence[Plain] | Mapping[str, Plain], *, spare: bool = False
    ) -> Call:
        """Have a command applied exactly once. Raises SessionEnded, Overloaded, Refusal "too-large".

        `spare`: it undoes something and may use the room kept for that, as much again as for all others.
        """
        if not self._attach:
            raise SessionClosed("this client only asks; it opened no session to give commands in")
        call = self._asked(Kind.COMMAND, machine, [command, args], Consistency.LEASE, spare)
        self._outbox.add(call)
        self._fill()
        return call

    def query(
        self, machine: str, query: str, args: Sequence[Plain] | Mapping[str, Plain], consistency: Consistency
    ) -> Call:
        """Ask a machine. Raises like :meth:`call`."""
        return self._ask(self._asked(Kind.QUERY, machine, [query, args], consistency))

    def status(self) -> Call:
        """Ask the replica at hand how it does. Raises like :meth:`call`."""
        return self._ask(self._asked(Kind.STATUS, "", None, Consistency.LOCAL))

    def admin(self, command: str, args: Sequence[Plain] | Mapping[str, Plain]) -> Call:
        """Give the replica at hand an operator's command. It is not repeated: if the connection breaks its outcome is
        unknown. Raises like :meth:`call`."""
        return self._ask(self._asked(Kind.ADMIN, "", [command, args], Consistency.LEASE))

    def abandon(self, call: Call) -> bool:
        """Nobody waits for this call any more. True: it was not done and will not be, or changes nothing. False: it
        may be done."""
        call.abandoned = True
        if call.kind is Kind.COMMAND:
            return self.ending is None and self._outbox.forget(call)
        self._queries.pop(call.number, None)
        return call.kind is not Kind.ADMIN or not call.sends

    def close(self, now: float) -> None:
        """End the session: nothing is answered any more. Finished comes when the cell was told, or could not be
        reached within :data:`CLOSE_WITHIN` seconds."""
        if self.state.final:
            return
        exists = bool(self.session) or self._link is Link.ATTACHING
        self._end(Turn.CLOSED, SessionClosed("this client closed the session"))
        if not exists:
            self._finish("closed")
            return
        self._closing_until = now + CLOSE_WITHIN
        if self._link is Link.READY:
            self._send(native.Close())

    def lease_left(self, now: float) -> float:
        """For how many seconds the session surely lives; 0 in jeopardy and when it is over. Safe from any thread."""
        return max(0.0, self.lease.until - now)

    # --- frames -----------------------------------------------------------------------------------------------------

    def _take(self, frame: Frame, now: float) -> None:
        match frame:
            case native.Reply():
                self._held.append(frame)
                self._release(now)
            case native.Event():
                self._out += self._inbox.event(frame.payload)
                self._release(now)
            case native.QueryReply() | native.StatusReply():
                self._query_replied(frame)
            case native.Kept():
                self._kept(frame, now)
            case native.Moved():
                self._learn(frame.leader, frame.members)
            case native.Failed():
                self._failed(frame, now)
            case native.Ended():
                self._ended(frame, now)
            case native.Welcome():
                self._welcomed(frame, now)
            case native.Opened():
                self._opened(frame, now)
            case _:
                raise native.Malformed(f"{type(frame).__name__} is not for clients")

    def _welcomed(self, frame: native.Welcome, now: float) -> None:
        if self._link is not Link.GREETING:
            raise native.Malformed("a second Welcome")
        if frame.version != native.PROTOCOL_VERSION:
            self._drop(f"the member speaks version {frame.version} of the protocol", now)
            return
        if self.cell and frame.cell != self.cell:
            self._wrong_cell(frame.cell.hex())
            return
        self.cell, self.member = frame.cell, frame.member
        self._payload_bytes_max = frame.payload_bytes_max
        self._outbox.window = max(1, min(self._window, frame.in_flight_max))
        self._learn(frame.leader, frame.members)
        if not self._attach:
            self.lease.until = math.inf
            self._ready(now)
        elif self._leader != self.member and self._route.hint(self._members.get(self._leader, "")):
            self._out.append(Disconnect("another member leads"))
            self.member = self._leader = 0
            self._dial(now)
        else:
            self._link = Link.ATTACHING
            self._asked_at = now
            if self.session:
                self._send(native.Attach(self.session, self._password, self._inbox.last))
            else:
                self._send(native.Open(round(self.lease.timeout * 1000)))

    def _opened(self, frame: native.Opened, now: float) -> None:
        if self._link is not Link.ATTACHING or self.session not in (0, frame.session):
            raise native.Malformed("an Opened that was not asked for")
        self._password = frame.password
        self.lease.timeout = frame.timeout_ms / 1000
        if not self.session:
            self.session = frame.session
            if not self.state.final:
                self.lease.granted(self._asked_at, self.lease.timeout)
        self._ready(now)

    def _ready(self, now: float) -> None:
        """The connection is of use: say again what is unanswered, and all that waited."""
        self._link = Link.READY
        self._route.settled()
        if self.state.final:
            self._send(native.Close())
            return
        if self._attach:
            self._keep_alive(now)
        if self.state is State.CONNECTING and now < self.lease.until:
            self._turn(Turn.ATTACHED, "attached")
        for call in self._outbox.again():
            self._send_command(call)
        for call in self._queries.values():
            self._send_query(call)
        self._fill()

    def _release(self, now: float) -> None:
        """Take the replies whose events are in."""
        while self._held and self._held[0].last_event <= self._inbox.last:
            self._replied(self._held.popleft(), now)

    def _replied(self, frame: native.Reply, now: float) -> None:
        call = self._outbox.get(frame.number)
        if call is None:
            return
        ticket, value, error = _read(frame.payload)
        if isinstance(error, Refusal) and error.code == "session-expired":
            self._expired()
            return
        if isinstance(error, Refusal) and error.code == "session-moved":
            self._drop("the session is attached elsewhere", now)
            return
        self._outbox.answered(call)
        if ticket is not None:
            self._out += self._inbox.parked(call, ticket)
        else:
            self._answer(call, value, error)
        if not self._outbox.in_flight:
            self._inbox.all_answered()

    def _query_replied(self, frame: native.QueryReply | native.StatusReply) -> None:
        call = self._queries.pop(frame.id, None)
        if call is None:
            return
        if isinstance(frame, native.StatusReply):
            self._answer(call, plain.decode(frame.payload), None)
            return
        self._seen = max(self._seen, frame.applied)
        _, value, error = _read(frame.payload)
        self._answer(call, value, error)

    def _kept(self, frame: native.Kept, now: float) -> None:
        if self.state.final or not self.lease.kept(frame.stamp, frame.lease_ms / 1000) or now >= self.lease.until:
            return
        if self.state is State.JEOPARDY:
            self._turn(Turn.KEPT, "the cell kept the session")
        elif self.state is State.CONNECTING:
            self._turn(Turn.ATTACHED, "attached")

    def _ended(self, frame: native.Ended, now: float) -> None:
        if self.state.final:
            self._finish("closed")
        elif frame.reason is EndReason.WRONG_CELL:
            self._wrong_cell("another cell")
        elif not self.session:
            self._drop(f"no session was opened: {frame.reason.name.lower()}", now)
        elif frame.reason is EndReason.CLOSED:
            self._end(Turn.CLOSED, SessionClosed("the cell closed the session"))
            self._finish("closed")
        else:
            self._expired()

    def _expired(self) -> None:
        self._end(Turn.EXPIRED, SessionExpired("the cell told that the session is gone", presumed=False))
        self._finish("expired")

    def _failed(self, frame: native.Failed, now: float) -> None:
        words = f"{frame.code}: {frame.reason}"
        if frame.about in (About.SESSION, About.CONNECTION):
            if frame.code in REFUSED_FOR_GOOD and not self.state.final:
                self._end(Turn.CLOSED, SessionClosed(f"the cell does not take this client: {words}"))
                self._finish(words)
            else:
                self._drop(words, now, frame.retry_after_ms / 1000)
            return
        about_request = frame.about is About.REQUEST
        call = self._outbox.get(frame.number) if about_request else self._queries.get(frame.number)
        if call is None:
            return
        if frame.code in ELSEWHERE and call.kind is not Kind.ADMIN:
            self._drop(words, now, frame.retry_after_ms / 1000)
            return
        error: Exception = Refusal(frame.code, frame.reason)
        if about_request:
            self._outbox.answered(call)
            if call.sends > 1:
                cause, error = error, OutcomeUnknown(f"sent, then refused over another connection: {words}")
                error.__cause__ = cause
        else:
            del self._queries[frame.number]
        self._answer(call, None, error)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _asked(self, kind: Kind, machine: str, content: Plain, consistency: Consistency, spare: bool = False) -> Call:
        if self.ending is not None:
            raise self.ending
        if self._outbox.queued + len(self._queries) >= self._queued_max << spare:
            raise Overloaded(f"{self._queued_max} calls wait in this client")
        payload = plain.encode(content)
        if len(payload) > self._payload_bytes_max:
            raise Refusal("too-large", f"{len(payload)} bytes, the cell takes {self._payload_bytes_max}")
        return Call(kind, machine, payload, consistency)

    def _ask(self, call: Call) -> Call:
        self._last_query = self._last_query % 0xFFFFFFFF + 1
        call.number = self._last_query
        self._queries[call.number] = call
        if self._link is Link.READY:
            self._send_query(call)
        return call

    def _fill(self) -> None:
        """Send what waits, as far as the window reaches."""
        if self._link is Link.READY:
            for call in self._outbox.first_sends():
                self._send_command(call)

    def _send_command(self, call: Call) -> None:
        call.sends += 1
        self._inbox.told = self._inbox.last
        acknowledged = self._outbox.acknowledged
        self._send(native.Request(call.number, acknowledged, self._inbox.last, call.machine, call.payload))

    def _send_query(self, call: Call) -> None:
        call.sends += 1
        if call.kind is Kind.QUERY:
            self._send(native.Query(call.number, call.consistency, self._seen, call.machine, call.payload))
        elif call.kind is Kind.STATUS:
            self._send(native.Status(call.number))
        else:
            self._send(native.Admin(call.number, call.payload))

    def _keep_alive(self, now: float) -> None:
        if self._liveness is not None and not self._liveness():
            self.lease.due_at = now + self.lease.interval
            return
        self._inbox.told = self._inbox.last
        self._send(native.KeepAlive(self.lease.sending(now), self._outbox.acknowledged, self._inbox.last))

    def _send(self, frame: Frame) -> None:
        self._out.append(Send(native.encode(frame)))

    def _watch_lease(self, now: float) -> None:
        if self.session and not self.state.final and self.state is not State.JEOPARDY and now >= self.lease.until:
            self._presume_at = self.lease.until + self._grace
            self._turn(Turn.LAPSED, "the lease ran out")
        if self.state is State.JEOPARDY and now >= self._presume_at:
            words = f"the cell was not heard for {self._grace:g} s after the lease had run out"
            self._end(Turn.PRESUMED, SessionExpired(words, presumed=True))
            self._finish("expired")

    def _answer(self, call: Call, value: Plain, error: Exception | None) -> None:
        if not call.abandoned:
            self._out.append(Answered(call, value, error))

    def _turn(self, turn: Turn, reason: str, error: Exception | None = None) -> None:
        self.state = TRANSITIONS[self.state, turn]
        self._out.append(Changed(self.state, reason, error))

    def _end(self, turn: Turn, error: SessionEnded) -> None:
        """The session is over: every call and every wait ends with what is known of it."""
        self.ending = error
        self.lease.over()
        self._turn(turn, str(error), error)
        sent, unsent = self._outbox.clear()
        for call in sent:
            unknown = OutcomeUnknown(f"the answer will not come: {error}")
            unknown.__cause__ = error
            self._answer(call, None, unknown)
        for call in [*unsent, *self._queries.values()]:
            self._answer(call, None, error)
        self._queries.clear()
        self._held.clear()
        self._out += self._inbox.over(error)

    def _finish(self, reason: str) -> None:
        if self._link is not Link.NONE:
            self._out.append(Disconnect(reason))
            self._link = Link.NONE
        self.member = 0
        self._over = True
        self._out.append(Finished())

    def _wrong_cell(self, other: str) -> None:
        if not self.state.final:
            error = WrongCell(f"this client belongs to cell {self.cell.hex()}, the member to {other}")
            self._end(Turn.EXPIRED if self.session else Turn.CLOSED, error)
        self._finish("wrong cell")

    def _learn(self, leader: int, members: Sequence[native.Member]) -> None:
        self._leader = leader
        self._members = {member.id: member.endpoint for member in members}
        self._route.learn(self._members.values())

    def _dial(self, now: float) -> None:
        self._link = Link.DIALING
        self._attempt_until = now + max(ATTEMPT_MIN, self.lease.interval)
        self._out.append(Connect(self._route.next()))

    def _drop(self, reason: str, now: float, retry_after: float = 0.0) -> None:
        """Give the connection up and try the next member."""
        self._out.append(Disconnect(reason))
        self._lost(reason, now, retry_after)

    def _lost(self, reason: str, now: float, retry_after: float = 0.0) -> None:
        if self._leader != self.member:
            self._route.hint(self._members.get(self._leader, ""))
        self._link = Link.NONE
        self.member = self._leader = 0
        self._held.clear()
        self.lease.disconnected()
        self._retry_at = now + max(self._route.pause(), retry_after)
        for number in [each for each, call in self._queries.items() if call.kind is Kind.ADMIN and call.sends]:
            self._answer(self._queries.pop(number), None, OutcomeUnknown(f"the connection broke: {reason}"))
        if self.state is State.ALIVE:
            self._turn(Turn.LOST, reason)


def _read(payload: bytes) -> tuple[int | None, Plain, Exception | None]:
    """A reply's ticket, or its value, or its error."""
    try:
        match plain.decode(payload):
            case [0, value]:
                return None, value, None
            case [1, [str(code), str(reason)]]:
                return None, None, Refusal(code, reason)
            case [2, int(ticket)]:
                return ticket, None, None
            case [3, [str(machine), str(reason)]]:
                return None, None, MachineHalted(machine, reason)
    except plain.Malformed:
        pass
    return None, None, OutcomeUnknown("the reply cannot be read")
