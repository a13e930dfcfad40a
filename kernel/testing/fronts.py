"""Fronts in a simulated cell: what the server's driver is to a foreign protocol's front, in simulated time.

A front gets the real handle (:mod:`..server.handle`) and the real session desk (:mod:`..server.sessions`); only the
replica below them is a simulated process, and the reactor its clock. A *place beside* the native port takes the
connections that clients dial under its own scheme, ``"scheme:member"``; :attr:`.world.World.beside` names the makers.

::

    world.beside["gopher"] = lambda process, node: GopherPlace(process, node, world)

A place (:class:`Seated`, and the rest of :class:`Beside`) does for its connections what sockets would, and puts its
front together once its machine is loaded (:attr:`Seat.node` tells). This module knows no protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ..applied import Applied
from ..forwarding import Reply
from ..host import MachineHost
from ..machine import Plain, SessionId
from ..node import Node
from ..server.front import FrontObserver
from ..server.handle import FrontHandle, FrontStream
from ..server.sessions import Sessions
from ..wire.batch import pack_request
from .clock import SECOND
from .lifecycle import Boundary

if TYPE_CHECKING:
    from ..server.replica import LiveReplica
    from .process import Process
    from .world import World

Cause = Callable[[Boundary, Callable[[], None]], None]
"""Has an effect happen at the end of the turn, unless the process dies or is stopped before."""

INSIDE: Final = 0
"""Where the alarms of a process come from, among the places of the network."""


class Beside(Protocol):
    """One run's place beside the native port."""

    def connected(self, place: int, send: Callable[[bytes], None], close: Callable[[], None]) -> Any:
        """A client dialed; what is returned stands for the connection in the other calls."""

    def received(self, door: Any, content: bytes) -> None:
        """Bytes of a client."""

    def lost(self, door: Any) -> None:
        """The client's end is gone."""

    def gone(self) -> None:
        """The process ends."""

    def flush(self, cause: Cause) -> None:
        """The turn is over: cause what is to be sent."""

    def applied(self, applied: Applied) -> None:
        """A batch was applied; its replies have been handed out."""

    def restored(self) -> None:
        """A snapshot replaced the machines."""

    def serving(self) -> None:
        """A leader is known, or no longer."""


class Alarm:
    """A call to come."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def active(self) -> bool:
        return self._call is not None

    def cancel(self) -> None:
        self._call = None

    def ring(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call()


class SimulatedReactor:
    """The part of a reactor that tells the time, for one run of a simulated process."""

    def __init__(self, process: Process, world: World) -> None:
        self._process = process
        self._world = world
        self._run: object = None

    def seconds(self) -> float:
        return self._process.now / SECOND

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **named: Any) -> Alarm:
        """By the process's own clock; while it is stopped, nothing rings."""
        process, schedule = self._process, self._world.schedule
        run = process.run
        alarm = Alarm(lambda: call(*args, **named))

        def due() -> None:
            if run is not None and process.run is run:
                process.arrives(INSIDE, alarm.ring)

        schedule.at(process.clock.when(process.now + ceil(delay * SECOND)), due)
        return alarm


class Seat:
    """One run of a simulated replica, as the server's front handle sees a live one."""

    def __init__(self, process: Process, node: Node, world: World) -> None:
        self.node = node
        self.origin = node.origin
        self.reactor = cast("Any", SimulatedReactor(process, world))
        self.observers: list[FrontObserver] = []
        self.streams: list[FrontStream] = []
        self.sessions = Sessions(self)
        self._process = process
        self._answered = False
        self._serving = False
        self._configuration = node.core.configuration

    def handle(self, face: str) -> FrontHandle:
        """The handle for a front."""
        return FrontHandle(cast("LiveReplica", self), face)

    # ---------------------------------------------------------------- what the handle asks for

    @property
    def host(self) -> MachineHost:
        return self.node.host

    @property
    def serves(self) -> bool:
        return self.node.serving

    def submit(self, machine: int, body: bytes, done: Callable[[Reply], None]) -> None:
        self.node.submit(machine, body, done)
        self._process.want_turn()

    def command(self, machine: int, name: str, args: list[Plain], done: Callable[[object], None]) -> None:
        self.submit(machine, pack_request(name, args), done)

    def barrier(self, ready: Callable[[bool], None]) -> None:
        self.node.barrier(ready, self._process.now)
        self._process.want_turn()

    def doors(self, face: str) -> Mapping[int, str]:
        return {member.id: f"{face}:{member.id}" for member in self.node.core.configuration.members}

    def facts(self, face: str) -> Mapping[str, str | int]:
        return {"member": self.origin.member, "sessions": len(self.sessions.here)}

    # ---------------------------------------------------------------- what the node tells

    def applied(self, applied: Applied) -> None:
        """As the server's driver does."""
        self._answered = True
        if applied.attached or applied.ended or self.sessions.waiting:
            moved, ended = self.sessions.applied(applied)
            for session in moved:
                self._moved(session)
            for session, expired in ended:
                for observer in self.observers:
                    observer.session_ended(session, expired)

    def restored(self) -> None:
        """A snapshot replaced the machines."""
        self._answered = True
        for session in self.sessions.restored():
            self._moved(session)
        for observer in self.observers:
            observer.restored()

    def serving_changed(self) -> None:
        """A leader is known, or no longer."""
        if self.serves != self._serving:
            self._serving = self.serves
            for observer in self.observers:
                observer.serving_changed(self._serving)

    def end_turn(self) -> None:
        """The turn is over: what was applied in it is told now."""
        if self.node.core.configuration is not self._configuration:
            self._configuration = self.node.core.configuration
            for observer in self.observers:
                observer.reconfigured()
        if not self._answered:
            return
        self._answered = False
        for observer in self.observers:
            observer.after_batch()
        if self.node.room() > self.node.options.backlog // 2:
            for stream in self.streams:
                stream.has_room()

    def _moved(self, session: SessionId) -> None:
        for observer in self.observers:
            observer.session_moved(session)


class Seated:
    """The half of a place that every one with a seat has: it passes on what the node tells."""

    def __init__(self, process: Process, node: Node, world: World) -> None:
        self.seat = Seat(process, node, world)

    def applied(self, applied: Applied) -> None:
        """A batch was applied."""
        self.seat.applied(applied)

    def restored(self) -> None:
        """A snapshot replaced the machines."""
        self.seat.restored()

    def serving(self) -> None:
        """A leader is known, or no longer."""
        self.seat.serving_changed()
