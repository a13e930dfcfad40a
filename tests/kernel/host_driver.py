"""A replica's host without a log: batches are made by hand. Also two machines that do everything a machine can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from quorate.kernel.catalog import Catalog
from quorate.kernel.host import Applied, MachineHost
from quorate.kernel.machine import Commit, Origin, Plain, RawMachine, SessionId, StateMachine, Ticket, command, query
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.system import PLUGINS, SESSIONS, TIMERS
from quorate.kernel.wire import plain
from quorate.kernel.wire.batch import pack_batch, pack_chunk, pack_request

CELL = b"cell-for-tests"
OWN = Origin(1, 1)
OTHER = Origin(2, 1)
FOUNDERS = Configuration(
    Slot(0), tuple(Member(MemberId(each), Role.VOTER, f"tcp:127.0.0.1:{each}") for each in (1, 2, 3))
)


class Scrap(StateMachine):
    """Remembers every call, and fails where it is told to."""

    name = "scrap"
    version = 1

    def __init__(self) -> None:
        self.seen: list[Plain] = []
        self.totals: dict[str, int] = {}
        self.bombs: dict[str, bool] = {}

    @command
    def add(self, commit: Commit, key: str, by: int = 1) -> int:
        self.seen.append(["add", commit.index, commit.session, list(commit.identities), commit.time])
        self.totals[key] = self.totals.get(key, 0) + by
        return self.totals[key]

    @command
    def fail(self, commit: Commit) -> None:
        self.totals["dirty"] = 1
        commit.publish(commit.session, "never told")
        commit.set_timer("never", 0)
        raise KeyError("a defect")

    @command
    def arm(self, commit: Commit, hook: str) -> None:
        """From now on the hook fails, until version 2 is agreed on."""
        self.bombs[hook] = True

    @command
    def wait(self, commit: Commit) -> Ticket:
        return commit.park()

    @command
    def again(self, commit: Commit, ticket: int) -> Ticket:
        return Ticket(ticket)

    @command
    def resolve(self, commit: Commit, ticket: int, result: Plain) -> None:
        commit.resolve(Ticket(ticket), result)

    @command
    def tell(self, commit: Commit, session: int, value: Plain, times: int = 1) -> None:
        for _ in range(times):
            commit.publish(SessionId(session), value)

    @command
    def tell_much(self, commit: Commit, session: int, size: int) -> None:
        commit.publish(SessionId(session), b"x" * size)

    @command
    def timer(self, commit: Commit, key: str, at: int) -> None:
        commit.set_timer(key, at)

    @command
    def cancel(self, commit: Commit, key: str) -> None:
        commit.cancel_timer(key)

    @command
    def end(self, commit: Commit, session: int) -> None:
        commit.close_session(SessionId(session))

    @command
    def draw(self, commit: Commit) -> list[Plain]:
        return [commit.random.randrange(1 << 30), commit.random.randrange(1 << 30)]

    @command
    def odd_result(self, commit: Commit) -> Any:
        return {1, 2}

    @command
    def odd_event(self, commit: Commit) -> None:
        commit.publish(commit.session, object())  # type: ignore[arg-type]

    @command
    def much(self, commit: Commit, size: int) -> bytes:
        self.totals["much"] = self.totals.get("much", 0) + 1
        return b"x" * size

    @command
    def who(self, commit: Commit) -> list[Plain]:
        return [commit.session, list(commit.identities), *commit.origin, commit.epoch, commit.version, commit.wall]

    @command
    def alive(self, commit: Commit) -> list[Plain]:
        return [[session, *origin] for session, origin in commit.sessions.items()]

    @command
    def no_memory(self, commit: Commit) -> None:
        raise MemoryError

    @query
    def total(self, key: str) -> int:
        return self.totals.get(key, 0)

    @query
    def calls(self) -> list[Plain]:
        return self.seen

    @query
    def break_down(self) -> int:
        raise ZeroDivisionError("on purpose")

    def session_opened(self, commit: Commit, session: SessionId, face: str) -> None:
        self._hook(commit, "opened", session, face)

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        self._hook(commit, "closed", session, expired)

    def timer_fired(self, commit: Commit, key: str) -> None:
        self._hook(commit, "fired", key)

    def upgraded(self, commit: Commit, old: int, new: int) -> None:
        self._hook(commit, "upgraded", old, new)

    def _hook(self, commit: Commit, what: str, *more: Plain) -> None:
        self.seen.append([what, commit.index, *more])
        if self.bombs.get(what) and commit.version < 2:
            raise RuntimeError("a bomb")


class MendedScrap(Scrap):
    """The release that mends it."""

    version = 2


class Tape(RawMachine):
    """A raw machine: each chunk is a list of numbers to append; it answers with its length."""

    name = "tape"
    version = 1

    def __init__(self) -> None:
        self.cells: list[int] = []

    def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None:
        for number in chunk:
            if number == 255:
                raise ValueError("a defect")
            self.cells.append(number)
            if answers is not None:
                answers.append(b"%d" % len(self.cells))

    @query
    def length(self) -> int:
        return len(self.cells)

    def snapshot(self) -> Plain:
        return bytes(self.cells)

    def restore(self, state: Plain, version: int) -> None:
        if not isinstance(state, bytes):
            raise ValueError("not a tape")
        self.cells = list(state)

    def digest(self) -> int:
        return sum(self.cells)


MACHINES: Mapping[str, type[StateMachine]] = {"scrap": Scrap, "tape": Tape}


class Driver:
    """One host, fed by hand. `log` is what it was given, for other hosts to apply."""

    def __init__(
        self, machines: Mapping[str, type[StateMachine]] = MACHINES, own: Origin = OWN, founded: bool = True
    ) -> None:
        self.catalog = Catalog(machines)
        self.host = self.new_host(own)
        self.time = 0
        self.log: list[tuple[Slot, bytes]] = []
        self.sequences: dict[tuple[int, Origin], int] = {}
        self.applied = Applied()
        if founded:
            self.found()

    def new_host(self, own: Origin = OWN) -> MachineHost:
        """An empty host of the same cell."""
        return MachineHost(CELL, self.catalog, own, Random)

    def found(self) -> None:
        """Three members with the same software; every machine loaded under the name of its code."""
        self.host.configured(Slot(0), FOUNDERS)
        for member in FOUNDERS.ids():
            self.call(PLUGINS, "announce", member, dict(self.catalog.versions))
        for code in self.catalog.versions:
            self.call(PLUGINS, "load", code, code, 1)

    def chunk(self, machine: int | str, body: bytes, origin: Origin = OWN) -> bytes:
        """The next chunk of that stream."""
        number = self.host.machine_number(machine) if isinstance(machine, str) else machine
        sequence = self.sequences[number, origin] = self.sequences.get((number, origin), 0) + 1
        return pack_chunk(number, *origin, sequence, body)

    def apply(self, *chunks: bytes, time: int | None = None, epoch: int = 7) -> Applied:
        """One batch, a millisecond later (or at `time`)."""
        self.time = self.time + 1 if time is None else time
        payload = pack_batch(self.time, 1_000_000 + self.time, epoch, chunks)
        slot = Slot(self.host.slot + 1)
        self.log.append((slot, payload))
        self.applied = self.host.apply(slot, payload)
        return self.applied

    def call(
        self,
        machine: int | str,
        command: str,
        *args: Plain,
        origin: Origin = OWN,
        time: int | None = None,
        epoch: int = 7,
        **head: Any,
    ) -> Any:
        """One command in a batch of its own; its decoded reply, or None if the chunk is another replica's."""
        body = pack_request(command, list(args), **head)
        applied = self.apply(self.chunk(machine, body, origin), time=time, epoch=epoch)
        return plain.decode(applied.answers[0].reply) if applied.answers else None  # type: ignore[arg-type]

    def open(self, origin: Origin = OWN, timeout_ms: int = 5000) -> SessionId:
        """A new session attached to `origin`."""
        before = set(self.host.sessions)
        self.call(SESSIONS, "open", timeout_ms, "native", *origin)
        (session,) = set(self.host.sessions) - before
        return session

    def fire(self, machine: str, upto: int) -> None:
        """Let cell time come to `upto`, and have that machine's timers fire."""
        self.call(TIMERS, "fire", self.host.machine_number(machine), upto, time=upto)

    def ask(self, machine: str, query: str, *args: Plain) -> Any:
        """A query's result."""
        status, value = plain.decode(self.host.query(machine, plain.encode([query, list(args)])))  # type: ignore
        assert status == 0, value
        return value

    def events(self, session: SessionId, after: int = 0) -> list[Any]:
        """What a session was told, decoded."""
        return [plain.decode(event.event) for event in self.host.sessions[session].events_after(after)]

    def image(self) -> bytes:
        """The host's snapshot, joined."""
        return b"".join(self.host.snapshot())

    def restored(self, own: Origin = OWN, chunks: Sequence[bytes] | None = None) -> MachineHost:
        """A new host in the same state."""
        host = self.new_host(own)
        host.restore(list(self.host.snapshot()) if chunks is None else chunks)
        return host
