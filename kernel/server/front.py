"""What a front gets: the handle on its replica, as interfaces only.

A *front* serves a foreign protocol (the ZooKeeper wire, DNS, a page) on one replica. It is found by the entry-point
group ``quorate.fronts`` under its machine's name, made once its machine is loaded, and started as a Twisted service.
All callbacks run on the reactor thread, never from within the call that registered them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, Protocol

from twisted.application.service import IService

from ..machine import Origin, SessionId, StateMachine
from ..paxos.quorum import Change, Configuration


class Opened(NamedTuple):
    """A session that this replica owns now. `password` proves it when it attaches again (16 bytes, keyed MAC)."""

    session: SessionId
    password: bytes
    timeout_ms: int


class Stream(Protocol):
    """The way into the log for one raw machine's chunks from this replica."""

    def submit(self, chunk: bytes, on_applied: Callable[[list[bytes]], None]) -> None:
        """Have `chunk` applied exactly once, after every chunk submitted before it. `on_applied` gets the answers
        when it has been applied *here*; it is called after the observers of that batch and before ``after_batch``.
        Chunks survive a fail-over of the leader; only the end of this process loses them. Submissions of one reactor
        turn leave together."""

    def room(self) -> int:
        """Bytes that may still be submitted before the backlog is full; stop reading from clients at 0 and resume in
        ``on_room``."""


class Replica(Protocol):
    """One replica as its fronts see it."""

    origin: Origin

    def stream(self, machine: str, on_room: Callable[[], None]) -> Stream: ...

    def machine(self, name: str) -> StateMachine:
        """The live machine, to read from between batches. Never change it. A snapshot from a peer replaces it: see
        ``restored``. Raises LookupError while it is halted: the front will be stopped."""

    def open_session(self, timeout_ms: int, face: str, opened: Callable[[Opened | None], None]) -> None:
        """Open a session attached here. None: no quorum within the session's time-out."""

    def attach_session(self, session: SessionId, password: bytes, attached: Callable[[Opened | None], None]) -> None:
        """Move a session here. None: wrong password, or it ended, or no quorum."""

    def known_session(self, session: SessionId, password: bytes) -> Opened | None:
        """A session of the cell as far as this replica knows, without asking anybody and without moving it: it may
        have ended or moved since. None: wrong password, or it is not known here."""

    def close_session(self, session: SessionId, closed: Callable[[], None]) -> None: ...

    def touch(self, session: SessionId) -> None:
        """Its client was heard. Cheap; told to the leader in batches."""

    def barrier(self, ready: Callable[[bool], None]) -> None:
        """Call `ready(True)` once everything committed in the cell before this call is applied here; False without a
        quorum."""

    def serving(self) -> bool:
        """Whether this replica leads or follows a leader right now."""

    def leading(self) -> bool: ...

    def members(self) -> Mapping[int, str]:
        """Member id -> address of this face's door, for those that have one."""

    def configuration(self) -> Configuration:
        """Who is in the cell, as far as is applied here."""

    def change_membership(self, number: int, change: Change) -> None:
        """Have the leader propose a change, if configuration `number` is still in force. That it took effect shows in
        ``reconfigured``; it must be repeated while it does not."""

    def facts(self) -> Mapping[str, str | int]:
        """What monitoring words report: member, role, ballot, applied, sessions, followers, synced_followers, version
        ..."""

    def observe(self, watcher: FrontObserver) -> None: ...


class FrontObserver(Protocol):
    """What a front is told. Order within one applied batch: machine calls (which reach the front through its
    machine's observer), on_applied callbacks, session endings, then ``after_batch`` once: write replies and events
    there, one write a connection."""

    def after_batch(self) -> None: ...

    def session_ended(self, session: SessionId, expired: bool) -> None:
        """A session attached here ended, in the log."""

    def session_moved(self, session: SessionId) -> None:
        """A session that was attached here is attached elsewhere now: close its connection."""

    def restored(self) -> None:
        """A snapshot replaced the machines: fetch ``machine(name)`` again and recheck every watch."""

    def serving_changed(self, serving: bool) -> None: ...

    def reconfigured(self) -> None:
        """Another configuration is in force."""


class FrontMaker(Protocol):
    """What the entry point names: a class or function with these two features."""

    face: ClassVar[str]
    """The name of the door in configuration, status and ``Member.doors``: "zookeeper"."""

    def __call__(self, replica: Replica, reactor: object, endpoint: str, options: Mapping[str, str]) -> IService:
        """The front of `replica`, not started. `options` come from the configuration (``[options.FACE]``). Raises
        ValueError for what it cannot use, OSError for a file it cannot read: the replica then ends with these words."""
