"""What a front holds of its replica: :class:`.front.Replica` and :class:`.front.Stream`, made for one face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..machine import SessionId, StateMachine
from ..paxos.configuration import encode_change
from ..paxos.quorum import Change, Configuration
from ..system import MEMBERSHIP
from .front import FrontObserver, Opened

if TYPE_CHECKING:
    from .replica import LiveReplica


class FrontStream:
    """One raw machine's way into the log. See :class:`.front.Stream`."""

    __slots__ = ("_number", "_on_room", "_replica", "waiting")

    def __init__(self, replica: LiveReplica, number: int, on_room: Callable[[], None]) -> None:
        self._replica = replica
        self._number = number
        self._on_room = on_room
        self.waiting = False
        """Whether the front was told that there is no room."""

    def submit(self, chunk: bytes, on_applied: Callable[[list[bytes]], None]) -> None:
        """As in the protocol; an empty list means that the machine did not take the chunk (it is halted or unloaded)
        or that its answers are lost, because the state came as a snapshot."""
        self._replica.submit(self._number, chunk, lambda reply: on_applied(reply if isinstance(reply, list) else []))

    def room(self) -> int:
        room = max(0, self._replica.node.room())
        if not room:
            self.waiting = True
        return room

    def has_room(self) -> None:
        """There is room again."""
        if self.waiting:
            self.waiting = False
            self._on_room()


class FrontHandle:
    """One front's handle. See :class:`.front.Replica`."""

    def __init__(self, replica: LiveReplica, face: str) -> None:
        self.origin = replica.origin
        self._replica = replica
        self._face = face
        self._streams: list[FrontStream] = []
        self._watchers: list[FrontObserver] = []

    def restored(self) -> None:
        """Another instance has taken the place of the front's machine."""
        for watcher in self._watchers:
            watcher.restored()

    def release(self) -> None:
        """The front has ended: tell it nothing any more, and keep nothing of it."""
        replica = self._replica
        replica.streams = [each for each in replica.streams if each not in self._streams]
        replica.observers = [each for each in replica.observers if each not in self._watchers]

    def stream(self, machine: str, on_room: Callable[[], None]) -> FrontStream:
        """Raises MachineMissing."""
        stream = FrontStream(self._replica, self._replica.host.machine_number(machine), on_room)
        self._streams.append(stream)
        self._replica.streams.append(stream)
        return stream

    def machine(self, name: str) -> StateMachine:
        """Raises MachineMissing."""
        return self._replica.host.machine(name)

    def open_session(self, timeout_ms: int, face: str, opened: Callable[[Opened | None], None]) -> None:
        self._replica.sessions.open(timeout_ms, face, opened)

    def attach_session(self, session: SessionId, password: bytes, attached: Callable[[Opened | None], None]) -> None:
        self._replica.sessions.attach(session, password, attached)

    def known_session(self, session: SessionId, password: bytes) -> Opened | None:
        return self._replica.sessions.known(session, password)

    def close_session(self, session: SessionId, closed: Callable[[], None]) -> None:
        self._replica.sessions.close(session, closed)

    def touch(self, session: SessionId) -> None:
        self._replica.node.touch(session)

    def barrier(self, ready: Callable[[bool], None]) -> None:
        self._replica.barrier(ready)

    def serving(self) -> bool:
        return self._replica.serves

    def leading(self) -> bool:
        return self._replica.node.leading

    def members(self) -> Mapping[int, str]:
        return self._replica.doors(self._face)

    def configuration(self) -> Configuration:
        return self._replica.host.configuration

    def change_membership(self, number: int, change: Change) -> None:
        self._replica.command(MEMBERSHIP, "change", [number, encode_change(change)], lambda _: None)

    def facts(self) -> Mapping[str, str | int]:
        return self._replica.facts(self._face)

    def observe(self, watcher: FrontObserver) -> None:
        self._watchers.append(watcher)
        self._replica.observers.append(watcher)
