"""One machine, alone: commands, queries, sessions and time, without a cell around it. For unit tests of machines::

    alone = Alone(Tally)
    assert alone.call("add", "x", by=2) == 2
    assert alone.query("total", "x") == 2

It is the real host that applies: arguments are checked and encoded, an unexpected exception halts the machine (here: is
raised), events are numbered, timers fire by the log's time. What is missing is only that nothing is replicated. Use
:class:`.cell.Cell` to see a machine live through fail-overs.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Final

from ..applied import Applied
from ..catalog import Catalog
from ..host import MachineHost
from ..machine import NO_SESSION, Origin, Plain, Refusal, SessionId, StateMachine
from ..paxos.ballot import MemberId, Slot
from ..paxos.quorum import Configuration, Member, Role
from ..system import PLUGINS, SESSIONS, TIMERS
from ..wire import plain
from ..wire.batch import pack_batch, pack_chunk, pack_request

_CELL: Final = bytes(16)
_ORIGIN: Final = Origin(1, 1)
_BEGIN_MS: Final = 1_000_000
_WALL_MS: Final = 1_700_000_000_000


class Halted(Exception):
    """The machine raised something that is not a Refusal; on a cell it would be halted. The message says where."""


class Alone:
    """A machine of class `kind` under its own name."""

    def __init__(self, kind: type[StateMachine]) -> None:
        """Raises Refusal if the class cannot be loaded, as a cell would refuse it."""
        self.kind = kind
        self.time = _BEGIN_MS
        """Cell time in milliseconds."""
        self.events: dict[SessionId, list[Plain]] = {}
        """What was published to each session that did not end, in order."""
        self.resolved: dict[int, Plain] = {}
        """The results of waits that are over, by ticket."""
        self._sequences: dict[int, int] = {}
        self._numbers: dict[SessionId, int] = {}
        self._host = self._new_host()
        self._host.configured(Slot(0), Configuration(Slot(0), (Member(MemberId(1), Role.VOTER, ""),)))
        self._command(PLUGINS, "announce", [1, {kind.name: kind.version}])
        self._number = self._command(PLUGINS, "load", [kind.name, kind.name])

    @property
    def machine(self) -> StateMachine:
        """The instance, to look at. :meth:`restart` makes another one."""
        return self._host.machine(self.kind.name)

    def call(self, command: str, /, *args: Plain, session: SessionId = NO_SESSION, **named: Plain) -> Any:
        """Apply a command, on behalf of a session if one is given; its result. If the command began a wait the result
        is its ticket: see :attr:`resolved`.

        Raises:
            Refusal: the command said no.
            Halted: the command failed.
        """
        if session:
            self._numbers[session] += 1
        body = pack_request(command, _arguments(args, named), session=session, number=self._numbers.get(session, 0))
        return self._apply(self._number, body)

    def query(self, query: str, /, *args: Plain, **named: Plain) -> Any:
        """Ask the machine. Raises Refusal."""
        return self._value(self._host.query(self.kind.name, plain.encode([query, _arguments(args, named)])))

    def session(self, timeout_ms: int = 10_000) -> SessionId:
        """Open a session."""
        session = SessionId(self._command(SESSIONS, "open", [timeout_ms, "test", *_ORIGIN]))
        self.events[session] = []
        self._numbers[session] = 0
        return session

    def close(self, session: SessionId, *, expired: bool = False) -> None:
        """End a session: its client closed it, or it expired."""
        if expired:
            attachment = self._host.sessions[session].attachment
            self._command(SESSIONS, "expire", [session, attachment, 0])
        else:
            self._command(SESSIONS, "close", [session])
        del self.events[session], self._numbers[session]

    def advance(self, ms: int) -> None:
        """Let `ms` milliseconds of cell time pass; timers fire, each at its time."""
        until = self.time + ms
        while (due := self._host.next_timer()) is not None and due <= until:
            self.time = max(self.time, due)
            self._command(TIMERS, "fire", [self._number, self.time])
        self.time = until

    def restart(self) -> None:
        """Take a snapshot and go on from it with a new instance, as a replica that restarts does."""
        chunks = list(self._host.snapshot())
        self._host = self._new_host()
        self._host.restore(chunks)

    # ---------------------------------------------------------------- inside

    def _new_host(self) -> MachineHost:
        return MachineHost(_CELL, Catalog({self.kind.name: self.kind}), _ORIGIN, Random)

    def _command(self, machine: int, command: str, args: list[Any]) -> Any:
        return self._apply(machine, pack_request(command, args))

    def _apply(self, machine: int, body: bytes) -> Any:
        sequence = self._sequences[machine] = self._sequences.get(machine, 0) + 1
        chunk = pack_chunk(machine, *_ORIGIN, sequence, body)
        wall = _WALL_MS + self.time
        applied = self._host.apply(Slot(self._host.slot + 1), pack_batch(self.time, wall, 0, [chunk]))
        self._take_events(applied)
        if any(status.halted is not None for status in self._host.status()):
            raise Halted(self._host.status()[0].detail)
        reply = applied.answers[0].reply
        assert isinstance(reply, bytes)
        return self._value(reply)

    def _take_events(self, applied: Applied) -> None:
        for event in applied.events:
            decoded: Any = plain.decode(event.event)
            _, _, kind, value = decoded
            if kind == 0:
                self.events[event.session].append(value)
            elif kind == 1:
                ticket, result = value
                self.resolved[ticket] = result

    @staticmethod
    def _value(reply: bytes) -> Any:
        decoded: Any = plain.decode(reply)
        status, value = decoded
        if status == 1:
            raise Refusal(*value)
        return value


def _arguments(args: tuple[Plain, ...], named: Mapping[str, Plain]) -> Any:
    if not named:
        return list(args)
    return {"": list(args), **named} if args else dict(named)
