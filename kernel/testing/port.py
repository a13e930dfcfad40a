"""The native client protocol at one simulated replica: frames in, node calls, frames out.

It does for simulated connections what the server's client port does for sockets, on the same frames and the same node:
sessions are opened and attached through the log, requests are submitted under their session's number, queries wait for
a barrier, keepalives for the leader's word. What one batch causes leaves each connection in one packet, events before
replies.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..applied import Applied
from ..forwarding import Reply
from ..host import MachineHost, MachineMissing
from ..machine import Refusal, SessionId
from ..node import Node
from ..paxos.quorum import Configuration
from ..paxos.ready import NOTHING, Ready, joined
from ..system import SESSIONS
from ..system.membership import NOBODY
from ..wire import native, plain
from ..wire.batch import pack_request, wrap_payload
from ..wire.native import About, Consistency, EndReason
from .clock import SECOND
from .lifecycle import Boundary
from .witnessing import condemn

if TYPE_CHECKING:
    from .fronts import Beside
    from .process import Process
    from .world import World

IN_FLIGHT_MAX: Final = 64
FACE: Final = "native"
ACKNOWLEDGE: Final = SECOND
"""How often the cell is told what clients have acknowledged by keepalives alone."""


class Door:
    """One connection, seen from the replica. `send` and `close` are the network's; a door that is not open is
    silent."""

    def __init__(self, place: int, send: Callable[[bytes], None], close: Callable[[], None]) -> None:
        self.place = place
        self.open = True
        self.session = SessionId(0)
        self.attachment = 0
        self.attaching = False
        self.events_told = 0
        self.outgoing: list[bytes] = []
        self.replies: list[tuple[int, bytes]] = []  # (number, payload), until the batch's events are known
        self.send = send
        self.close = close
        self.buffer = bytearray()

    def say(self, frame: native.Frame) -> None:
        if self.open:
            self.outgoing.append(native.encode(frame))


class Port:
    """All connections of one run of a replica's process; also what the node tells of applied batches."""

    def __init__(self, process: Process, world: World) -> None:
        self._process = process
        self._world = world
        self._doors: list[Door] = []
        self._owners: dict[int, Door] = {}
        self._dirty: dict[int, Door] = {}
        self._node: Node | None = None
        self._closing: list[Door] = []
        self._told = NOBODY  # the configuration that clients were told
        self._acknowledged: dict[SessionId, tuple[int, int]] = {}  # by keepalives alone: up to which event, which reply
        self.leaving = NOTHING
        """Messages of the turn that is not closed yet."""
        self.beside: dict[str, Beside] = {}
        """Where clients of other protocols come in, by the scheme under which they dial."""

    def attach(self, node: Node) -> None:
        """The node that this port serves."""
        self._node = node
        self.beside = {scheme: make(self._process, node) for scheme, make in self._world.beside.items()}

    @property
    def node(self) -> Node:
        assert self._node is not None
        return self._node

    # ---------------------------------------------------------------- connections

    def connected(self, place: int, send: Callable[[bytes], None], close: Callable[[], None]) -> Door:
        """A client's connection is open. `place` is where it comes from."""
        door = Door(place, send, close)
        self._doors.append(door)
        return door

    def received(self, door: Door, content: bytes) -> None:
        """Bytes of a client."""
        if not door.open:
            return
        door.buffer += content
        bodies, used = native.split(door.buffer)
        del door.buffer[:used]
        for body in bodies:
            frame = native.decode(body)
            _TAKERS[type(frame)](self, door, frame)
        self._touched(door)

    def gone(self) -> None:
        """The process ends: every connection is reset."""
        for door in self._doors:
            if door.open:
                door.open = False
                door.close()
        self._doors.clear()
        for place in self.beside.values():
            place.gone()

    def drop(self, door: Door) -> None:
        """Close one connection, after what is to be said on it."""
        if door.open:
            self._touched(door)
            self._closing.append(door)
            if self._owners.get(door.session) is door:
                del self._owners[door.session]

    def lost(self, door: Door) -> None:
        """The client's end is gone."""
        door.open = False
        if door in self._doors:
            self._doors.remove(door)
        if self._owners.get(door.session) is door:
            del self._owners[door.session]

    def flush(self) -> None:
        """The turn is over: what was said leaves, one packet a connection."""
        process = self._process
        run = process.run
        assert run is not None
        for place in self.beside.values():
            place.flush(partial(process.cause, run))
        configuration = run.node.host.configuration
        if configuration is not self._told:
            self._tell_members(configuration)
        if not self._dirty and not self._closing:
            return
        dirty, self._dirty = self._dirty, {}
        closing, self._closing = self._closing, []
        for door in dirty.values():
            self._tell(door)
            if door.outgoing and door.open:
                content = b"".join(door.outgoing)
                door.outgoing.clear()
                process.cause(run, Boundary.REPLY, _leave, door, content)
        for door in closing:
            process.cause(run, Boundary.REPLY, self._close, door)

    def _tell_members(self, configuration: Configuration) -> None:
        """Clients are told where the members are when that changes."""
        before, self._told = self._told, configuration
        if configuration.number != before.number:
            for door in self._owners.values():
                door.say(native.Moved(self._leader_for(door), self._world.members(configuration)))
                self._touched(door)

    def _close(self, door: Door) -> None:
        if door.open:
            self.lost(door)
            door.close()

    def _touched(self, door: Door) -> None:
        self._dirty[id(door)] = door
        self._process.want_turn()

    def _tell(self, door: Door) -> None:
        """Replies carry the number of the last event, and come behind it."""
        if not door.replies:
            return
        session = self.node.host.sessions.get(door.session)
        last = session.last_event if session is not None else door.events_told
        for number, payload in door.replies:
            door.say(native.Reply(number, last, payload))
        door.replies.clear()

    # ---------------------------------------------------------------- frames

    def _hello(self, door: Door, frame: native.Hello) -> None:
        if frame.cell and frame.cell != self._world.cell:
            door.say(native.Ended(EndReason.WRONG_CELL))
            self.drop(door)
            return
        door.say(
            native.Welcome(
                native.PROTOCOL_VERSION,
                self._world.cell,
                self._process.member,
                self._leader_for(door),
                self._world.members(self.node.host.configuration),
                native.PAYLOAD_BYTES_MAX,
                IN_FLIGHT_MAX,
                1,
                3_600_000,
            )
        )

    def _leader_for(self, door: Door) -> int:
        """What a client is told of the leader. Clients prefer the leader, so every other one is left in the dark, to
        stay where it is."""
        return (self.node.core.leader or 0) if door.place % 2 else 0

    def _open(self, door: Door, frame: native.Open) -> None:
        if not self.node.serving or self.node.host.password_key is None:
            self._not_serving(door)
            return
        origin = self.node.origin
        body = pack_request("open", [frame.timeout_ms, FACE, origin.member, origin.incarnation])

        def opened(reply: Reply) -> None:
            session = _value(reply)
            found = self.node.host.sessions.get(SessionId(session or 0))
            if found is None or not door.open:
                self.drop(door)
                return
            self._own(door, found.id, found.attachment)
            door.say(native.Opened(found.id, self.node.host.password(found.id), found.timeout_ms))

        self.node.submit(SESSIONS, body, opened)

    def _attach(self, door: Door, frame: native.Attach) -> None:
        host = self.node.host
        if not self.node.serving or host.password_key is None:
            self._not_serving(door)
            return
        identity = SessionId(frame.session)
        if not hmac.compare_digest(host.password(identity), frame.password):
            door.say(native.Ended(EndReason.UNKNOWN))
            self.drop(door)
            return
        origin = self.node.origin
        body = pack_request("attach", [identity, origin.member, origin.incarnation])

        def attached(reply: Reply) -> None:
            if reply is None:
                self.drop(door)
                return
            attachment = _value(reply)
            session = self.node.host.sessions.get(identity)
            if attachment is None or session is None:
                door.say(native.Ended(EndReason.EXPIRED))
                self.drop(door)
            elif door.open and session.attachment == attachment:
                self._own(door, identity, attachment)
                door.say(native.Opened(identity, frame.password, session.timeout_ms))
                for event in session.events_after(frame.last_event):
                    door.say(native.Event(event.event))
                door.events_told = session.last_event
            else:
                self.drop(door)

        self.node.submit(SESSIONS, body, attached)

    def _not_serving(self, door: Door) -> None:
        door.say(native.Failed(About.SESSION, 0, 50, "not-serving", "no leader is known here"))
        self.drop(door)

    def _own(self, door: Door, session: SessionId, attachment: int) -> None:
        before = self._owners.get(session)
        if before is not None and before is not door:
            self.drop(before)
        door.session, door.attachment = session, attachment
        self._owners[session] = door
        self._touched(door)

    def _request(self, door: Door, frame: native.Request) -> None:
        if not door.session:
            self.drop(door)
            return
        try:
            machine = self.node.host.request_number(frame.machine)
        except MachineMissing as error:
            door.say(native.Failed(About.REQUEST, frame.number, 0, "machine-missing", str(error)))
            return
        except Refusal as refusal:
            door.say(native.Failed(About.REQUEST, frame.number, 0, refusal.code, refusal.reason))
            return
        self.node.touch(door.session)
        body = wrap_payload(
            frame.payload,
            session=door.session,
            number=frame.number,
            acknowledged=frame.acknowledged,
            events_acknowledged=frame.events_acknowledged,
            identities=(),
        )

        def replied(reply: Reply) -> None:
            if not door.open:
                return
            if not isinstance(reply, bytes):
                self.drop(door)  # applied, but the answer is lost here: the client asks again and gets it
                return
            door.replies.append((frame.number, reply))
            self._touched(door)

        self.node.submit(machine, body, replied)

    def _query(self, door: Door, frame: native.Query) -> None:
        node = self.node

        def answer(ready: bool) -> None:
            if not ready:
                door.say(native.Failed(About.QUERY, frame.id, 20, "not-serving", "no leader could say so"))
            else:
                door.say(native.QueryReply(frame.id, node.host.index, node.host.query(frame.machine, frame.payload)))
            self._touched(door)

        if door.session:
            node.touch(door.session)
        if frame.consistency is Consistency.LOCAL:
            answer(node.host.index >= frame.min_index)
        else:
            node.barrier(answer, self._process.now, frame.consistency is Consistency.READ_INDEX)

    def _keep_alive(self, door: Door, frame: native.KeepAlive) -> None:
        session = self.node.host.sessions.get(door.session)
        if not door.session or session is None:
            return

        def confirmed(lives: bool) -> None:
            if lives and door.open:
                door.say(native.Kept(frame.stamp, session.timeout_ms))
                self._touched(door)

        self.node.confirm(door.session, confirmed)
        if (session.replies and frame.acknowledged > session.acknowledged) or (
            session.events and frame.events_acknowledged > session.events_acknowledged
        ):
            if not self._acknowledged:
                self._world.schedule.after(ACKNOWLEDGE, self._process.arrives, 0, self._acknowledge)
            self._acknowledged[door.session] = (frame.events_acknowledged, frame.acknowledged)

    def _acknowledge(self) -> None:
        """Have the cell forget what clients have acknowledged meanwhile."""
        seen, self._acknowledged = self._acknowledged, {}
        run = self._process.run
        if run is not None and run.port is self and self.node.serving:
            rows: list[Any] = [[session, events, replies] for session, (events, replies) in seen.items()]
            self.node.submit(SESSIONS, pack_request("acknowledge", [rows]), _ignore)

    def _end(self, door: Door, frame: native.Close) -> None:
        if door.session:
            self.node.submit(SESSIONS, pack_request("close", [door.session]), _ignore)

    def _status(self, door: Door, frame: native.Status | native.Admin) -> None:
        door.say(native.Failed(About.QUERY, frame.id, 0, "unknown", "a simulated replica has no such door"))

    # ---------------------------------------------------------------- what the node tells

    def applied(self, applied: Applied) -> None:
        """A batch was applied; its replies have been handed out."""
        for event in applied.events:
            door = self._owners.get(event.session)
            if door is not None and event.number > door.events_told:
                door.events_told = event.number
                door.say(native.Event(event.event))
                self._touched(door)
        host = self.node.host
        for identity in applied.attached:
            door = self._owners.get(identity)
            session = host.sessions.get(SessionId(identity))
            if door is not None and session is not None and session.owner != self.node.origin:
                self.drop(door)
        for identity, expired in applied.ended:
            door = self._owners.get(identity)
            if door is not None:
                self._tell(door)
                door.say(native.Ended(EndReason.EXPIRED if expired else EndReason.CLOSED))
                self.drop(door)
        for place in self.beside.values():
            place.applied(applied)
        self._process.applied(applied)

    def restored(self, host: MachineHost) -> None:
        """A snapshot replaced the machines: clients attach again, and get the events they missed."""
        for door in list(self._owners.values()):
            self.drop(door)
        for place in self.beside.values():
            place.restored()

    def serving(self, serving: bool) -> None:
        """A leader is known (or no longer)."""
        for place in self.beside.values():
            place.serving()

    def carry_out(self, ready: Ready) -> None:
        """Before anything else of this turn. That the process may end before it has applied what it tells of as chosen
        shows to nobody, so the end of the turn is early enough."""
        self.leaving = joined(self.leaving, ready)

    def disowned(self, disk: bytes) -> None:
        """The cell knows this member with another disk: the process ends, for good, when its turn is over."""
        run = self._process.run
        assert run is not None
        self._world.schedule.after(0, partial(condemn, self._world, run.greeting))


def _leave(door: Door, content: bytes) -> None:
    if door.open:
        door.send(content)


def _ignore(reply: Reply) -> None:
    pass


def _value(reply: Reply) -> int | None:
    """The integer in an ok reply."""
    if not isinstance(reply, bytes):
        return None
    decoded = plain.decode(reply)
    if isinstance(decoded, list) and decoded[0] == 0 and isinstance(decoded[1], int):
        return decoded[1]
    return None


_TAKERS: Final[dict[type, Callable[[Port, Door, Any], None]]] = {
    native.Hello: Port._hello,
    native.Open: Port._open,
    native.Attach: Port._attach,
    native.Request: Port._request,
    native.Query: Port._query,
    native.KeepAlive: Port._keep_alive,
    native.Close: Port._end,
    native.Status: Port._status,
    native.Admin: Port._status,
}
