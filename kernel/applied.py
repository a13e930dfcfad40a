"""What applying a batch brought, for the driver of this replica."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .machine import Origin, SessionId
from .system.session import SessionEvent


class Answer(NamedTuple):
    """What became of a chunk of this replica. `reply` for a typed machine: the reply; for a raw one: its answers, or,
    as bytes, the reply that it is halted or missing. None: the chunk was skipped, because it was applied before."""

    machine: int
    sequence: int
    reply: bytes | list[bytes] | None


class Move(NamedTuple):
    """A session is attached to `owner` now. `before` is None if it was just opened."""

    session: SessionId
    before: Origin | None
    owner: Origin


class Change(NamedTuple):
    """A loaded machine is not as before. `what`: "loaded", "unloaded", "upgraded", "halted" or "resumed"."""

    number: int
    name: str
    what: str


class Applied(NamedTuple):
    """What one batch brought; each field in the order in which it came about.

    `answers` is for this replica's own chunks and `events` for the sessions attached to it, as of their moment.
    `attached`: sessions opened or attached, to whatever replica; `moves` says more of it. `ended`: sessions, and
    whether they expired. `changed`: whether the set of machines, a version or a halt changed; `changes` says more of
    it. `wishes`: changes of membership that whoever leads is to propose.
    """

    answers: Sequence[Answer] = ()
    events: Sequence[SessionEvent] = ()
    ended: Sequence[tuple[SessionId, bool]] = ()
    attached: Sequence[SessionId] = ()
    changed: bool = False
    moves: Sequence[Move] = ()
    changes: Sequence[Change] = ()
    wishes: Sequence[bytes] = ()


NOTHING = Applied()


class MachineStatus(NamedTuple):
    """One loaded machine, for people. `installed`: the newest version this replica could run. `halted` is the same on
    every replica; `detail` is this replica's traceback, if it saw the failure."""

    number: int
    name: str
    code: str
    version: int
    installed: int
    halted: str | None
    detail: str
