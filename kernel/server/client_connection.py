"""One native client's connection: its frames in, replies and events out.

What it is told in one turn leaves in one write: first the events, then the replies, each in apply order. A client
that asks for more than it may have under way is simply not read until there is room; one that does not read what it
is told is dropped, and finds its session, its replies and its events again when it comes back.

A request goes into the log with the bytes that came in. A query is answered from the machines of this replica: at
once if LOCAL suffices, otherwise when the node says that everything committed before it is applied here.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..forwarding import Reply as NodeReply
from ..host import MachineMissing
from ..machine import Refusal, SessionId
from ..system import PLUGINS
from ..wire import native, plain
from ..wire.batch import wrap_payload
from ..wire.native import (
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
    Malformed,
    Open,
    Query,
    QueryReply,
    Reply,
    Request,
    Status,
    StatusReply,
    Welcome,
)
from .front import Opened
from .lean import LeanConnection
from .status import status

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .client_port import ClientPort

FACE: Final = "native"
RETRY_MS: Final = 50
GREETING_PATIENCE: Final = 10.0
IDLE_SECONDS: Final = 30.0
"""For so long a client without a session keeps its place when it says nothing and waits for nothing."""
ADMIN: Final = frozenset(("load", "unload", "upgrade", "skip"))
_COMMANDS: Final = frozenset((Request, Admin, Close))


class ClientConnection(LeanConnection):
    """One client's connection."""

    __slots__ = (
        "_asking", "_awaited", "_buffer", "_events", "_frames", "_in_flight", "_opening", "_patience", "_paused",
        "_port", "_refusing", "_replies", "_ripe", "address", "greeted", "identities", "session", "timeout_ms",
    )  # fmt: skip

    def __init__(self, port: ClientPort, sock: socket.socket, address: object) -> None:
        super().__init__(port.replica.reactor, sock, output_limit=port.replica.config.limits.client_output)
        self.session = SessionId(0)
        self.timeout_ms = 0
        self.greeted = False
        self.address = address
        host = address[0] if isinstance(address, tuple) else "local"
        self.identities = (f"ip:{host}",)
        self._port = port
        self._buffer = bytearray()
        self._frames: deque[native.Frame] = deque()
        self._ripe: deque[Query] = deque()  # questions that may be answered, but were not in this turn
        self._events: list[bytes] = []
        self._replies: list[bytes] = []
        self._in_flight = 0
        self._awaited = 0  # questions and keepalives that wait for the leader's word
        self._refusing = False
        self._paused = False
        self._opening = False
        self._asking = False  # whether the machine of a request is loaded: others wait, for the sake of their order
        self._patience: IDelayedCall = port.replica.reactor.callLater(GREETING_PATIENCE, self._idle)

    # ---------------------------------------------------------------- in

    def received(self, content: bytes) -> None:
        buffer = self._buffer
        buffer += content
        try:
            bodies, taken = native.split(buffer)
            del buffer[:taken]
            self._frames.extend(map(native.decode, bodies))
            self._work()
        except Malformed as error:
            self._hang_up("malformed", str(error)[:1000])
            return
        if bodies and self.greeted:
            self._spoke()

    def _work(self) -> None:
        """Take up what came, as far as there is room for it."""
        frames, ripe = self._frames, self._ripe
        while ripe and not self.closed:
            if not self._port.shares.has(self):
                self._hold()
                return
            self._answer(ripe.popleft(), True)
        while frames and not self.closed:
            if self._opening or self._asking or not self._has_room(frames[0]):
                self._hold()
                return
            frame = frames.popleft()
            if not self.greeted and not isinstance(frame, Hello):
                raise Malformed(f"{type(frame).__name__} before Hello")
            take = _TAKERS.get(type(frame))
            if take is None:
                raise Malformed(f"{type(frame).__name__} is not for a client to say")
            take(self, frame)
        if self._paused and not self.closed:
            self._paused = False
            self.resume()

    def _hold(self) -> None:
        """Read no further until what came is taken up."""
        if not self._paused:
            self._paused = True
            self.pause()

    def _has_room(self, frame: native.Frame) -> bool:
        """Whether `frame` can be taken up now; if not, :meth:`take_up` will be called when it can."""
        replica = self._port.replica
        command = type(frame) in _COMMANDS
        if (self._in_flight if command else self._awaited) >= replica.config.limits.requests_in_flight_max:
            return False
        if not command:
            return self._port.shares.has(self)
        if replica.node.room() > 0:
            return True
        self._port.starve(self)
        return False

    def _hello(self, hello: Hello) -> None:
        replica = self._port.replica
        self._spoke()
        if hello.cell and hello.cell != replica.cell:
            self.end(EndReason.WRONG_CELL)
            return
        if hello.version != native.PROTOCOL_VERSION:
            raise Malformed(f"version {hello.version} of the protocol; this replica speaks {native.PROTOCOL_VERSION}")
        self.greeted = True
        timing, limits = replica.config.timing, replica.config.limits
        self.tell(
            Welcome(
                native.PROTOCOL_VERSION,
                replica.cell,
                replica.origin.member,
                replica.core.leader or 0,
                self._port.members(),
                native.PAYLOAD_BYTES_MAX,
                limits.requests_in_flight_max,
                timing.session_timeout_ms_min,
                timing.session_timeout_ms_max,
            )
        )

    def _open(self, frame: Open) -> None:
        if self._may_have_session():
            timing = self._port.replica.config.timing
            timeout_ms = min(max(frame.timeout_ms, timing.session_timeout_ms_min), timing.session_timeout_ms_max)
            self._port.replica.sessions.open(timeout_ms, FACE, lambda opened: self._opened(opened, 0))

    def _attach(self, frame: Attach) -> None:
        if self._may_have_session():
            self._port.replica.sessions.attach(
                SessionId(frame.session),
                frame.password,
                lambda opened: self._opened(opened, frame.last_event),
                lambda: self.end(EndReason.UNKNOWN),
            )

    def _may_have_session(self) -> bool:
        if self.session or self._opening:
            raise Malformed("this connection has a session")
        if not self._port.replica.serves:
            self.tell(Failed(About.SESSION, 0, RETRY_MS, "not-serving", "no leader is known here"))
            return False
        self._opening = True
        return True

    def _opened(self, opened: Opened | None, last_event: int) -> None:
        if self.closed:
            return
        self._opening = False
        if opened is None:
            self.tell(Failed(About.SESSION, 0, RETRY_MS, "not-serving", "the cell did not answer in time"))
        else:
            before = self._port.by_session.get(opened.session)
            if before is not None:
                before.close()
            self._expect_nothing()
            self.session, _, self.timeout_ms = opened
            self._port.by_session[self.session] = self
            self._events.append(native.encode(native.Opened(*opened)))
            found = self._port.replica.host.sessions[self.session]
            for event in found.events_after(last_event):
                self.tell_event(event.event)
            self._port.has_output(self)
        self.go_on()

    def _request(self, frame: Request) -> None:
        number = frame.number
        if not self.session:
            raise Malformed("a request without a session")
        replica = self._port.replica
        if self._refusing or not replica.serves:
            self._refuse(number)
            return
        try:
            self._submit(frame)
        except MachineMissing:
            self._asking = True
            replica.barrier(lambda ready: self._request_again(frame, ready))

    def _request_again(self, frame: Request, ready: bool) -> None:
        """The machine was not known here; it may have been loaded by a command that is not applied here yet."""
        self._asking = False
        if self.closed:
            return
        if ready:
            try:
                self._submit(frame)
            except MachineMissing as missing:
                self._fail_request(frame.number, 0, "machine-missing", str(missing))
        else:
            self._refuse(frame.number)
        self.go_on()

    def _refuse(self, number: int) -> None:
        """Take no request over this connection any more, or one would overtake this one."""
        self._refusing = True
        self._fail_request(number, RETRY_MS, "not-serving", "no leader is known here")

    def _submit(self, frame: Request) -> None:
        """Have it applied, or refuse it. Raises MachineMissing."""
        try:
            machine = self._port.replica.host.request_number(frame.machine)
            body = wrap_payload(
                frame.payload,
                session=self.session,
                number=frame.number,
                acknowledged=frame.acknowledged,
                events_acknowledged=frame.events_acknowledged,
                identities=self.identities,
            )
        except Refusal as refusal:
            self._fail_request(frame.number, 0, refusal.code, refusal.reason)
            return
        except plain.Malformed as error:
            self._fail_request(frame.number, 0, "malformed", str(error))
            return
        self._in_flight += 1
        self._port.replica.node.touch(self.session)
        number = frame.number
        self._port.replica.submit(machine, body, lambda reply: self._replied(number, reply))

    def _replied(self, number: int, reply: NodeReply) -> None:
        self._in_flight -= 1
        if self.closed:
            return
        session = self._port.replica.host.sessions.get(self.session)
        if not isinstance(reply, bytes):
            # Applied, but as part of a snapshot: the session has the reply, so have the client ask for it.
            self.close()
            return
        last_event = 0 if session is None else session.last_event
        self._replies.append(native.encode(Reply(number, last_event, reply)))
        self._port.has_output(self)
        self.go_on()

    def _fail_request(self, number: int, retry_ms: int, code: str, reason: str) -> None:
        self.tell(Failed(About.REQUEST, number, retry_ms, code, reason[:1000]))

    def _query(self, frame: Query) -> None:
        replica = self._port.replica
        if frame.consistency is Consistency.LOCAL and replica.host.index >= frame.min_index:
            self._answer(frame, True)
        elif not replica.serves:
            self._fail_query(frame.id)
        else:
            self._awaited += 1
            replica.barrier(lambda ready: self._ripen(frame, ready), frame.consistency is Consistency.READ_INDEX)

    def _ripen(self, frame: Query, ready: bool) -> None:
        """Everything that was committed before the question is applied here, or nobody could say so. Many questions
        may come to that in one moment."""
        if ready and not self.closed and (self._ripe or not self._port.shares.has(self)):
            self._ripe.append(frame)
        else:
            self._answer(frame, ready)
        self._awaited -= 1
        self.go_on()

    def _answer(self, frame: Query, ready: bool) -> None:
        if self.closed:
            return
        host = self._port.replica.host
        if not ready or host.index < frame.min_index:
            self._fail_query(frame.id)
            return
        self.tell(QueryReply(frame.id, host.index, host.query(frame.machine, frame.payload)))

    def _fail_query(self, number: int) -> None:
        self.tell(Failed(About.QUERY, number, RETRY_MS, "not-serving", "no leader is known here"))

    def _keep_alive(self, frame: KeepAlive) -> None:
        if not self.session:
            raise Malformed("a keepalive without a session")
        stamp = frame.stamp
        self._awaited += 1
        self._port.replica.confirm(self.session, lambda kept: self._kept(stamp, kept))
        self._port.acknowledge(self.session, frame.events_acknowledged, frame.acknowledged)

    def _kept(self, stamp: int, kept: bool) -> None:
        self._awaited -= 1
        if kept and not self.closed and self.session:
            self.tell(Kept(stamp, self.timeout_ms))
        self.go_on()

    def _close_session(self, frame: Close) -> None:
        if self.session:
            self._port.replica.sessions.close(self.session, lambda: self.end(EndReason.CLOSED))
        else:
            self.end(EndReason.CLOSED)

    def _status(self, frame: Status) -> None:
        self.tell(StatusReply(frame.id, plain.encode(status(self._port.replica))))

    def _admin(self, frame: Admin) -> None:
        replica = self._port.replica
        asked: Any = plain.decode(frame.payload, native.PAYLOAD_BYTES_MAX)
        if not (isinstance(asked, list) and len(asked) == 2 and asked[0] in ADMIN):
            known = ", ".join(sorted(ADMIN))
            self.tell(Failed(About.QUERY, frame.id, 0, "forbidden", f"an operator may {known}"))
        elif not replica.serves:
            self._fail_query(frame.id)
        else:
            body = wrap_payload(
                frame.payload, session=0, number=0, acknowledged=0, events_acknowledged=0, identities=self.identities
            )
            self._in_flight += 1
            replica.submit(PLUGINS, body, lambda reply: self._administered(frame.id, reply))

    def _administered(self, number: int, reply: NodeReply) -> None:
        self._in_flight -= 1
        if self.closed:
            return
        if isinstance(reply, bytes):
            self.tell(QueryReply(number, self._port.replica.host.index, reply))
            self.go_on()
        else:  # applied as part of a snapshot, which does not have the reply: it will not come
            self.close()

    # ---------------------------------------------------------------- out

    def tell(self, frame: native.Frame) -> None:
        """Send at the end of the turn, behind the events."""
        self._replies.append(native.encode(frame))
        self._port.has_output(self)

    def tell_event(self, event: bytes) -> None:
        """Send at the end of the turn, before the replies."""
        self._events.append(native.encode(Event(event)))
        self._port.has_output(self)

    def flush(self) -> None:
        """Send what has gathered, in one write."""
        if self._events or self._replies:
            content = b"".join((*self._events, *self._replies))
            self._events.clear()
            self._replies.clear()
            self.send(content)

    def end(self, reason: EndReason) -> None:
        """The session is over."""
        if not self.closed:
            self.tell(Ended(reason))
            self.flush()
            self.close(after_flush=True)

    def _hang_up(self, code: str, reason: str) -> None:
        """Close the connection, with words."""
        self.tell(Failed(About.CONNECTION, 0, 0, code, reason))
        self.flush()
        self.close(after_flush=True)

    def _spoke(self) -> None:
        """The client has said something: without a session it may now be silent for a while again."""
        if self._patience.active():
            self._patience.reset(IDLE_SECONDS)

    def _expect_nothing(self) -> None:
        """The client may be silent for ever from now on: its session tells whether it is there, or it is gone."""
        if self._patience.active():
            self._patience.cancel()

    def _idle(self) -> None:
        """There is no session, and the client has said nothing for as long as it may."""
        if not self.greeted:
            self.close()
        elif self._opening or self._in_flight or self._awaited or self._frames or self._ripe:  # it waits itself
            self._patience = self._port.replica.reactor.callLater(IDLE_SECONDS, self._idle)
        else:
            self._hang_up("idle", f"no session, and no question for {IDLE_SECONDS:g} s")

    def go_on(self) -> None:
        """There may be room: take up what waits, if anything does, from a turn of its own."""
        if self._paused:
            self._port.replica.reactor.callLater(0, self.take_up)

    def take_up(self) -> None:
        """Take up what waits."""
        if not self.closed:
            try:
                self._work()
            except Malformed as error:
                self._hang_up("malformed", str(error)[:1000])

    def close(self, after_flush: bool = False) -> None:
        self._expect_nothing()
        self._frames.clear()
        self._ripe.clear()
        super().close(after_flush)
        self._port.forget(self)

    def lost(self, reason: Exception) -> None:
        self._expect_nothing()
        self._port.forget(self)


_TAKERS: Final[dict[type, Callable[[ClientConnection, Any], None]]] = {
    Hello: ClientConnection._hello,
    Open: ClientConnection._open,
    Attach: ClientConnection._attach,
    Request: ClientConnection._request,
    Query: ClientConnection._query,
    KeepAlive: ClientConnection._keep_alive,
    Close: ClientConnection._close_session,
    Status: ClientConnection._status,
    Admin: ClientConnection._admin,
}
