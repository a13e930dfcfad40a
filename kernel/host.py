"""The machines of one replica, and the loop that applies the log to them.

Theory of operation. Everything that decides is replicated: the host is a function of the log alone, and two hosts that
have applied the same slots give the same bytes in :meth:`MachineHost.snapshot`.

* **Index.** Each call of a command, a raw chunk or a hook draws the next index, whether it succeeds or not. What is
  skipped, repeated or refused before a machine is called draws none. Hooks come behind the command that caused them.
* **Effects** of a call are gathered and carried out only after it has succeeded, and after everything in it has been
  encoded: a result or event that is not plain data is a failure of the machine, found before anything of it shows.
* **Failure.** An exception other than an expected refusal halts the machine, not the cell. Its state may be half
  changed, so it is thrown away. The good state is rebuilt when it is needed (to be snapshot, or to go on): a second
  host starts from the last durable snapshot, applies the log since then, and stops before the failing call. That is
  exact, because it is the same code on the same log. The caller's command counts as not done and never is.
* **What must not happen on one replica only** (memory ran out, a kernel bug, code that is missing here) raises
  :class:`~.stop.StopReplica`; the host is then unusable.

It knows nothing of consensus, clocks, disks or connections. Apply in order of slots; take snapshots between batches.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from operator import itemgetter
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from . import dispatch, image, replies
from .applied import NOTHING, Answer, Applied, MachineStatus
from .calls import NOWHERE, Calls, Reached
from .catalog import Catalog
from .machine import Origin, Plain, Refusal, SessionId, StateMachine
from .paxos.ballot import Slot
from .paxos.quorum import Configuration
from .stop import StopReplica
from .system import NAMES, PLUGINS
from .system.digests import Divergence
from .system.loaded import Halt, Loaded
from .system.session import Session, SessionEvent
from .wire import plain
from .wire.batch import CHUNK_HEAD, PLACE_BYTES, UnknownVersion, batch_head, request_head

if TYPE_CHECKING:
    from random import Random

__all__ = ["Answer", "Applied", "MachineHost", "MachineMissing", "MachineStatus", "SessionEvent"]

HISTORY_BYTES_MAX: Final = 256 << 20
"""Bytes of log kept behind the last snapshot that :meth:`MachineHost.imaged` told of; beyond, a host that may takes one
itself."""

_NEVER: Final = (0, 0)

Source: TypeAlias = Callable[[], Iterable[bytes]]
"""Reads a snapshot's chunks, again and again."""


class MachineMissing(LookupError):
    """No machine of that name is loaded (or it is halted, and its state is not to be looked at)."""


class _Question(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    name: str
    args: msgspec.Raw


_questions: Final = msgspec.msgpack.Decoder(_Question)


class _History:
    """Where the present state came from: a snapshot at a slot (None: an empty cell) and the slots applied since."""

    def __init__(
        self, slot: int, source: Source | None, slots: Iterable[tuple[Slot, bytes | Configuration]] = ()
    ) -> None:
        self.slot: Final = slot
        self.source: Final = source
        self.slots = list(slots)
        self.bytes = sum(len(value) for _, value in self.slots if isinstance(value, bytes))

    def add(self, slot: Slot, value: bytes | Configuration) -> None:
        self.slots.append((slot, value))
        if isinstance(value, bytes):
            self.bytes += len(value)


class MachineHost:
    """One replica's machines. See the module's text.

    Args:
        cell: names the cell; part of every seed and session id.
        catalog: what could be loaded here.
        origin: this run of this member; only its chunks get answers.
        random: makes a generator out of a seed, the same for the same text on every replica: ``random.Random``.
    """

    def __init__(
        self, cell: bytes, catalog: Catalog, origin: Origin, random: Callable[[str], Random], *, until: int = 0
    ) -> None:
        """`until` is for rebuilding only: the index whose call must not happen."""
        self.cell: Final = cell
        self.catalog: Final = catalog
        self.origin: Final = origin
        self.slot = Slot(0)
        """The last slot applied."""
        self.malformed = 0
        """Batches that did not come out even: what could not be read of them is void."""
        self.marks: dict[tuple[int, int], tuple[int, int]] = {}
        """(member, machine) -> (incarnation, sequence) of the last chunk applied. Live; read only."""
        self.images_itself = True
        """Whether it takes a snapshot itself when much log has gathered. That takes long with much state, and is of no
        use where somebody takes snapshots and keeps the log until then anyway."""
        self._random = random
        self._calls = Calls(cell, catalog, origin, random, self._good, until)
        self._history = _History(0, None)

    @property
    def index(self) -> int:
        """The last index drawn."""
        return self._calls.index

    @property
    def cell_time(self) -> int:
        """In milliseconds; never decreases."""
        return self._calls.time

    @property
    def sessions(self) -> Mapping[SessionId, Session]:
        """Every live session. Live; read only."""
        return self._calls.sessions.table

    # ---------------------------------------------------------------- applying the log

    def apply(self, slot: Slot, payload: bytes) -> Applied:
        """Apply a batch.

        What cannot be read of it (which no correct leader proposes) is void, on every replica alike.

        Raises:
            StopReplica: see there.
        """
        assert slot > self.slot, f"slot {slot} comes after {self.slot}"
        self._history.add(slot, payload)
        if self._history.bytes > HISTORY_BYTES_MAX and self.images_itself:
            self._image_myself()
        self.slot = slot
        try:
            time, wall, epoch, offset = batch_head(payload)
        except UnknownVersion as error:
            raise StopReplica(f"slot {slot}: {error}; install a newer release on this replica") from error
        except plain.Malformed:
            self.malformed += 1
            return NOTHING
        calls = self._calls
        calls.time, calls.wall, calls.epoch = max(time, calls.time), wall, epoch
        answers = self._apply_chunks(payload, offset)
        return self._applied(answers)

    def _applied(self, answers: list[Answer]) -> Applied:
        """What the batch brought."""
        calls = self._calls
        events = calls.events
        if events:
            calls.events = []
        if not (calls.ended or calls.moves or calls.changes or calls.wishes):
            return Applied(answers, events) if events else Applied(answers)
        ended, moves, changes, wishes = calls.ended, calls.moves, calls.changes, calls.wishes
        calls.ended, calls.moves, calls.changes, calls.wishes = [], [], [], []
        attached = [move.session for move in moves]
        return Applied(answers, events, ended, attached, bool(changes), moves, changes, wishes)

    def _apply_chunks(self, payload: bytes, offset: int) -> list[Answer]:
        """Apply a batch's chunks, those which come next in their streams; the answers to our own."""
        answers: list[Answer] = []
        calls, marks = self._calls, self.marks
        machines = calls.machines
        unpack, size, end = CHUNK_HEAD.unpack_from, CHUNK_HEAD.size, len(payload)
        own_member, own_incarnation = self.origin
        origin = NOWHERE
        while offset < end:
            try:
                length, number, member, incarnation, sequence = unpack(payload, offset)
            except struct.error:
                self.malformed += 1
                break
            start = offset + size
            offset += 4 + length
            if length < PLACE_BYTES or offset > end:
                self.malformed += 1
                break
            own = member == own_member and incarnation == own_incarnation
            loaded = machines.get(number)
            key = (member, number)
            run, mark = marks.get(key, _NEVER)
            if incarnation < run or sequence != (mark + 1 if incarnation == run else 1):
                if own:
                    answers.append(Answer(number, sequence, None))
                continue
            # The streams of an unloaded machine go on, or a new leader would ask for them from their beginning.
            if loaded is not None or calls.plugins.numbered(number):
                marks[key] = (incarnation, sequence)
            if loaded is None:
                if own:
                    answers.append(Answer(number, sequence, _missing(str(number), calls.plugins.names)))
                continue
            if member != origin[0] or incarnation != origin[1]:
                origin = calls.origin = Origin(member, incarnation)
            reply: bytes | list[bytes] | None
            if loaded.apply_chunk is None:
                reply = self._apply_request(loaded, payload[start:offset])
            else:
                reply = calls.chunk(loaded, loaded.apply_chunk, payload[start:offset], [] if own else None)
            calls.settle()
            if own:
                answers.append(Answer(number, sequence, reply))
        return answers

    def _apply_request(self, loaded: Loaded, body: bytes) -> bytes:
        """A typed command: the session's rights and repetitions first, then the call."""
        try:
            request = request_head(body)
        except plain.Malformed:
            return replies.MALFORMED
        if not request.session:
            return self._calls.command(loaded, request.command, request.args, request.identities, None)
        session = self._calls.sessions.table.get(SessionId(request.session))
        if session is None:
            return replies.EXPIRED
        if session.owner != self._calls.origin:
            return replies.MOVED
        if request.acknowledged > session.acknowledged or request.events_acknowledged > session.events_acknowledged:
            session.acknowledge(request.acknowledged, request.events_acknowledged)
        number = request.number
        if not number:
            return self._calls.command(loaded, request.command, request.args, request.identities, session)
        reply = session.replies.get(number)
        if reply is not None:
            return reply
        if number <= session.acknowledged:
            return replies.ACKNOWLEDGED
        if session.full():
            return replies.FULL
        reply = self._calls.command(loaded, request.command, request.args, request.identities, session)
        session.keep(number, reply)
        return reply

    # ---------------------------------------------------------------- halted machines

    def _good(self, loaded: Loaded, halt: Halt) -> StateMachine:
        """A halted machine as it was before the call that failed."""
        if halt.good is None:
            halt.good = self._rebuilt(loaded, halt)
        return halt.good

    def _rebuilt(self, loaded: Loaded, halt: Halt) -> StateMachine:
        """Apply again what led to the failure, and stop before it."""
        twin = MachineHost(self.cell, self.catalog, NOWHERE, self._random, until=halt.index)
        twin.images_itself = False  # it refers to the log that is kept here anyway
        try:
            found = twin._replay(self._history, loaded.number, halt.index)
        except StopReplica:
            raise
        except Exception as error:
            raise StopReplica(f"{loaded.name} cannot be rebuilt: {type(error).__name__}: {error}") from error
        return found.machine if found.halt is None else twin._good(found, found.halt)

    def _replay(self, history: _History, number: int, index: int) -> Loaded:
        """Become what the cell was before `index`, or at the image if the machine had halted there by then."""
        if history.source is not None:
            self.restore(history.source(), history.source)
        found = self._calls.machines.get(number)
        if found is not None and found.halt is not None and found.halt.index == index:
            return found
        try:
            for slot, value in history.slots:
                if isinstance(value, bytes):
                    self.apply(slot, value)
                else:
                    self.configured(slot, value)
        except Reached:
            return self._calls.machines[number]
        raise StopReplica(f"machine {number} cannot be rebuilt: index {index} did not come again")

    # ---------------------------------------------------------------- membership and empty slots

    def configured(self, slot: Slot, configuration: Configuration) -> None:
        """A change of membership took effect; slot 0: the founding one."""
        assert slot > self.slot or slot == 0, f"slot {slot} comes after {self.slot}"
        self._history.add(slot, configuration)
        self.slot = slot
        self._calls.membership.configuration = configuration
        members = configuration.ids()
        self._calls.plugins.retain(members)
        self._calls.digests.retain(members)

    def skipped(self, slot: Slot) -> None:
        """A slot without effect was chosen."""
        assert slot > self.slot, f"slot {slot} comes after {self.slot}"
        self.slot = slot

    @property
    def configuration(self) -> Configuration:
        """The membership in force after the last slot applied."""
        return self._calls.membership.configuration

    def disk(self, member: int) -> bytes | None:
        """The disk with which a member introduced itself to the cell."""
        return self._calls.membership.disks.get(member)

    # ---------------------------------------------------------------- questions

    def query(self, machine: str, request: bytes) -> bytes:
        """Ask a machine (the cell's own included): MessagePack [query, arguments]; a reply.

        Linearizable only if everything committed before the call is applied here. Nothing changes.
        """
        loaded = self._named(machine)
        if loaded is None:
            return _missing(machine, self._calls.plugins.names)
        if loaded.halt is not None:
            return replies.halted(loaded.name, loaded.halt.reason)
        try:
            question = _questions.decode(request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return replies.MALFORMED
        try:
            reply = _answer(loaded, question)
        except MemoryError as error:
            raise StopReplica(f"MemoryError in {machine}, the query {question.name}") from error
        except Exception as error:
            return replies.refused("query-failed", f"{type(error).__name__}: {error}")
        if len(reply) > replies.REPLY_MAX:
            return replies.refused("result-too-large", f"the answer has {len(reply)} bytes; ask for less")
        return reply

    def machine_number(self, name: str) -> int:
        """The number under which commands reach a machine.

        Raises:
            MachineMissing: it is not loaded.
        """
        loaded = self._named(name)
        if loaded is None:
            raise MachineMissing(_loaded_names(name, self._calls.plugins.names))
        return loaded.number

    def request_number(self, name: str) -> int:
        """The number under which a client's own request reaches a machine.

        Raises:
            MachineMissing: it is not loaded.
            Refusal: it is a raw machine, which believes every chunk to be its front's.
        """
        number = self.machine_number(name)
        if self._calls.machines[number].apply_chunk is not None:
            raise Refusal("front-only", f"{name} takes nothing but what its own door brings")
        return number

    def machine(self, name: str) -> StateMachine:
        """The live instance, to read from between batches. Another one takes its place when a snapshot is restored
        and when a halted machine goes on.

        Raises:
            MachineMissing: it is not loaded, or halted.
        """
        loaded = self._named(name)
        if loaded is None:
            raise MachineMissing(_loaded_names(name, self._calls.plugins.names))
        if loaded.halt is not None:
            raise MachineMissing(f"the machine {name} is halted: {loaded.halt.reason}")
        return loaded.machine

    def loaded(self) -> Mapping[int, StateMachine]:
        """The live instances of the loaded machines that are not halted, by number."""
        return {
            number: loaded.machine for number, loaded in self._calls.plugins.machines.items() if loaded.halt is None
        }

    def status(self) -> list[MachineStatus]:
        """The loaded machines in order of number."""
        return [
            MachineStatus(
                each.number,
                each.name,
                each.code,
                each.version,
                self.available.get(each.code, 0),
                None if each.halt is None else each.halt.reason,
                "" if each.halt is None else each.halt.detail,
            )
            for each in self._calls.plugins.machines.values()
        ]

    @property
    def available(self) -> Mapping[str, int]:
        """What this replica could run: newest version by name of code."""
        return self.catalog.versions

    def announced(self, member: int) -> Mapping[str, int] | None:
        """What a member announced last."""
        return self._calls.plugins.announced.get(member)

    @property
    def password_key(self) -> bytes | None:
        """What session passwords are made with; None before the first leader founded it."""
        return self._calls.sessions.key

    def password(self, session: SessionId) -> bytes:
        """What proves that a client is the session's (16 bytes). Raises LookupError before the key is founded."""
        return self._calls.sessions.password(session)

    def due_timers(self, time: int) -> list[tuple[int, int]]:
        """(machine, `time`) for every machine that has timers due at cell time `time`: have it proposed that they
        fire."""
        return [(number, time) for number, first in self._first_timers() if first <= time]

    def next_timer(self) -> int | None:
        """The cell time at which the next timer is due."""
        return min((first for _, first in self._first_timers()), default=None)

    def _first_timers(self) -> Iterator[tuple[int, int]]:
        for number, loaded in self._calls.plugins.machines.items():
            first = self._calls.timers.first(number)
            if first is not None and loaded.halt is None:
                yield number, first

    def digest(self) -> int:
        """64 bits that are equal on replicas that have applied the same slots. Costs the same however large the state
        is."""
        digest = blake2b(digest_size=8)
        digest.update(plain.encode([self.slot, self.index, self.cell_time, self.malformed, len(self.sessions)]))
        for number, loaded in self._calls.machines.items():
            halted = 0 if loaded.halt is None else loaded.halt.index
            digest.update(plain.encode([number, loaded.version, halted, loaded.chain, _own_digest(loaded)]))
        return int.from_bytes(digest.digest(), "big")

    def divergence(self) -> Divergence | None:
        """Which members' digests differ from the majority's, or are missing; None if nobody's."""
        return self._calls.digests.divergence(self.configuration.voters())

    def _named(self, name: str) -> Loaded | None:
        number = NAMES.get(name)
        return self._calls.plugins.names.get(name) if number is None else self._calls.machines[number]

    # ---------------------------------------------------------------- snapshots

    def snapshot(self) -> Iterator[bytes]:
        """Everything, in chunks well below 1 MiB. Take all of it before the next batch, or in a forked child.

        Raises:
            Unkept: a machine's state is not plain data.
        """
        marks = [[*key, *mark] for key, mark in sorted(self.marks.items())]
        calls = self._calls
        head: Plain = [self.cell, self.slot, calls.index, calls.time, calls.wall, self.malformed, marks]
        chains: Plain = [self._calls.machines[number].chain for number in NAMES.values()]
        return image.write([head, chains], self._images())

    def _images(self) -> Iterator[tuple[image.Image, StateMachine]]:
        for number, loaded in self._calls.machines.items():
            machine = loaded.machine if loaded.halt is None else self._good(loaded, loaded.halt)
            yield image.Image(number, loaded.name, loaded.version), machine

    def restore(self, chunks: Iterable[bytes], source: Source | None = None) -> None:
        """Become what :meth:`snapshot` of a host of this cell wrote. On a new host only; after an error it is unusable.

        Args:
            chunks: the bytes, cut in any way.
            source: reads the same bytes again, at any time until the next :meth:`imaged`. None: they are kept in
            memory.

        Raises:
            SnapshotDamaged: this is no such snapshot, or a machine does not recognize its image.
            MissingPlugin: code that it needs is missing here.
            StopReplica: it was written by a later release.
        """
        assert self.index == 0, "restore on a new host only"
        if source is None:
            kept = list(chunks)
            chunks, source = kept, lambda: kept
        try:
            self._restore(image.Reader(chunks))
        except (StopReplica, MemoryError, image.SnapshotDamaged):
            raise
        except Exception as error:
            raise image.SnapshotDamaged(f"{type(error).__name__}: {error}") from error
        self._history = _History(self.slot, source)

    def _restore(self, reader: image.Reader) -> None:
        head, chains = reader.head
        calls = self._calls
        cell, self.slot, calls.index, calls.time, calls.wall, self.malformed, marks = head
        if cell != self.cell:
            raise image.SnapshotDamaged(f"the snapshot is of the cell {cell.hex()}, not of {self.cell.hex()}")
        self.marks.update(((member, machine), (run, sequence)) for member, machine, run, sequence in marks)
        for number, chain in zip(NAMES.values(), chains, strict=True):
            self._calls.machines[number].chain = chain
        restored = []
        while (whose := reader.image()) is not None:
            loaded = self._calls.machines[whose.number]
            if loaded.system and whose.version > loaded.version:
                raise StopReplica(
                    f"the snapshot needs version {whose.version} of {whose.name}; install a newer release"
                )
            reader.restore(whose, loaded.machine)
            restored.append(whose.number)
            if whose.number == PLUGINS:
                for each in self._calls.plugins.machines.values():
                    self._calls.place(each)
            if loaded.halt is not None:
                loaded.halt.good = loaded.machine
        if restored != list(self._calls.machines):
            raise image.SnapshotDamaged(f"the snapshot holds the machines {restored}, not {list(self._calls.machines)}")

    def imaged(self, slot: Slot, source: Source) -> None:
        """A snapshot of this cell at `slot` is durable, and `source` reads it until the next call. Then the log up to
        there need not be kept here any more for the sake of machines that halt."""
        if slot >= self._history.slot:
            slots = self._history.slots
            self._history = _History(slot, source, slots[bisect_right(slots, slot, key=itemgetter(0)) :])

    def _image_myself(self) -> None:
        """Nobody tells of snapshots: take one, so that memory is bounded."""
        chunks = list(self.snapshot())
        self.imaged(self.slot, lambda: chunks)


def _answer(loaded: Loaded, question: _Question) -> bytes:
    """A query's result, or refusal."""
    try:
        operation = loaded.queries.get(question.name)
        if operation is None:
            raise dispatch.unknown(loaded.name, "query", question.name, loaded.queries)
        arguments = operation.arguments(bytes(question.args))
        return replies.OK_HEAD + plain.encode(operation.invoke(loaded.machine, *arguments))
    except Refusal as refusal:
        return replies.refused(refusal.code, refusal.reason)


def _own_digest(loaded: Loaded) -> int | None:
    """The machine's own digest. If it fails or is no number of 64 bits, which it does everywhere, the chain must do."""
    if loaded.halt is not None:
        return None
    try:
        digest = loaded.machine.digest()
    except MemoryError as error:
        raise StopReplica(f"MemoryError in {loaded.name}, its digest") from error
    except Exception:
        return None
    return digest if type(digest) is int and -(1 << 63) <= digest < 1 << 64 else None


def _loaded_names(name: str, names: Iterable[str]) -> str:
    return f"no machine {name[:64]!r} is loaded; loaded: {', '.join(names) or 'none'}"


def _missing(name: str, names: Iterable[str]) -> bytes:
    return replies.refused("machine-missing", _loaded_names(name, names))
