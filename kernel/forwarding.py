"""How commands travel from the replica a client talks to into the leader's log, each exactly once.

Theory of operation. Every replica numbers the chunks it originates, one *stream* per machine: 1, 2, 3, ... The
replicated state keeps, per member and machine, the last sequence it applied (the *mark*), and applies a chunk only if
it is the next one. So a chunk may be sent, proposed or even chosen twice and is still applied once, and what is
applied of a stream is always a prefix.

:class:`Outbox` is the origin's side: it remembers every chunk until it sees it applied *here*, and sends the open
suffix again, in order, whenever the leader changes. :class:`Intake` is the leader's side: it admits a stream only
without gaps, so that nothing is proposed that the mark would make void. A new leader starts from the marks of its
applied state, which by then contains everything its predecessors chose. Streams of different machines are
independent: one that is held back by its gate delays no other.

Neither side knows how messages travel.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from .gate import Gate
from .machine import Origin
from .wire.batch import Chunk, iter_chunks, pack_chunk
from .wire.plain import Malformed

Reply: TypeAlias = "bytes | list[bytes] | None"
"""What a chunk's submitter is called with: a typed machine's reply, a raw machine's answers, or None: applied (or
about to be), but the answer is lost because the state came as a snapshot."""


class _Outstanding(NamedTuple):
    sequence: int
    chunk: bytes
    done: Callable[[Reply], None]


class _Stream:
    __slots__ = ("last", "open", "seen", "unsent")

    def __init__(self) -> None:
        self.last = 0
        self.seen = 0  # the first open chunk when somebody looked
        self.open: deque[_Outstanding] = deque()
        self.unsent: deque[bytes] = deque()


class Outbox:
    """This replica's own chunks between their submission and their application here."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._streams: dict[int, _Stream] = {}
        self.bytes = 0
        """Bytes submitted and not yet applied here."""

    def submit(self, machine: int, body: bytes, done: Callable[[Reply], None]) -> None:
        stream = self._streams.get(machine)
        if stream is None:
            stream = self._streams[machine] = _Stream()
        stream.last += 1
        chunk = pack_chunk(machine, self._origin.member, self._origin.incarnation, stream.last, body)
        stream.open.append(_Outstanding(stream.last, chunk, done))
        stream.unsent.append(chunk)
        self.bytes += len(chunk)

    def unsent(self) -> Iterator[bytes]:
        """The chunks that have not been sent to the present leader, oldest first in each stream; they count as sent
        now."""
        for stream in self._streams.values():
            while stream.unsent:
                yield stream.unsent.popleft()

    def rewind(self, machine: int | None = None, sequence: int = 0) -> None:
        """Count everything (or one stream from `sequence` on) as unsent: the leader changed, or it misses something."""
        for number, stream in self._streams.items():
            if machine is None or number == machine:
                stream.unsent = deque(o.chunk for o in stream.open if o.sequence >= sequence)

    def heads(self) -> tuple[tuple[int, int], ...]:
        """(machine, last sequence sent) of every stream that stands still: whose first open chunk was that at the last
        call, too. A leader must have admitted so much by now."""
        found = []
        for number, stream in self._streams.items():
            before, stream.seen = stream.seen, stream.open[0].sequence if stream.open else 0
            if stream.seen and stream.seen == before:
                found.append((number, stream.last - len(stream.unsent)))
        return tuple(found)

    def applied(self, machine: int, sequence: int) -> Callable[[Reply], None] | None:
        """The chunk was applied here: whom to tell. None if it is not open (already settled)."""
        stream = self._streams.get(machine)
        if stream is None or not stream.open or stream.open[0].sequence != sequence:
            return None
        first = stream.open.popleft()
        if len(stream.unsent) > len(stream.open):
            stream.unsent.popleft()
        self.bytes -= len(first.chunk)
        return first.done

    def settle(self, marks: Mapping[tuple[int, int], tuple[int, int]]) -> list[Callable[[Reply], None]]:
        """A snapshot replaced the state: everything at or below its marks is applied, its answers are lost."""
        lost = []
        for number, stream in self._streams.items():
            incarnation, mark = marks.get((self._origin.member, number), (0, 0))
            while incarnation == self._origin.incarnation and stream.open and stream.open[0].sequence <= mark:
                done = self.applied(number, stream.open[0].sequence)
                assert done is not None
                lost.append(done)
        return lost


class Gap(NamedTuple):
    """A stream that the leader has admitted only up to before `sequence`: send again from there."""

    machine: int
    sequence: int


StreamKey: TypeAlias = "tuple[int, int]"
"""(member, machine)."""


class Intake:
    """The leader's side: chunks admitted and not yet proposed, each stream without gaps. Made anew for each
    leadership, when everything chosen before it is applied.

    `marks` is the applied state's live table: (member, machine) -> (incarnation, last sequence). `gates` are the
    machines' say.
    """

    def __init__(self, marks: Mapping[StreamKey, tuple[int, int]], gates: Mapping[int, Gate]) -> None:
        self._marks = marks
        self._gates = gates
        self._admitted: dict[StreamKey, tuple[int, int]] = {}
        self._held: dict[StreamKey, deque[bytes]] = {}
        self._queue: deque[bytes] = deque()
        self.bytes = 0
        """Bytes that may be proposed now."""

    def __bool__(self) -> bool:
        return bool(self._queue)

    def admit(self, chunks: bytes) -> list[Gap]:
        """Take chunks of any streams, back to back; what comes twice is dropped, and what is no chunk with all that is
        behind it. Returns the gaps found."""
        gaps = []
        for chunk in _readable(chunks):
            expected = self.expected(chunk.member, chunk.machine, chunk.incarnation)
            if chunk.sequence == expected:
                key = (chunk.member, chunk.machine)
                self._admitted[key] = (chunk.incarnation, chunk.sequence)
                raw = chunks[chunk.start : chunk.end]
                if chunk.machine in self._gates:
                    self._pass_gate(key, raw)
                else:
                    self._let_in(raw)
            elif chunk.sequence > expected:
                gaps.append(Gap(chunk.machine, expected))
        return gaps

    def expected(self, member: int, machine: int, incarnation: int) -> int:
        """The sequence that the stream must bring next; 0 if `incarnation` is over (nothing of it is ever admitted)."""
        latest, sequence = self._admitted.get((member, machine)) or self._marks.get((member, machine), (0, 0))
        if incarnation == latest:
            return sequence + 1
        return 1 if incarnation > latest else 0

    def take(self, limit: int) -> list[bytes]:
        """The next batch's chunks: at least one if there is any, then up to `limit` bytes."""
        taken: list[bytes] = []
        room = limit
        queue = self._queue
        while queue and (not taken or len(queue[0]) <= room):
            chunk = queue.popleft()
            room -= len(chunk)
            taken.append(chunk)
        self.bytes -= limit - room
        return taken

    def ungated(self, machine: int) -> None:
        """The machine's gate has ended: what it kept goes on without it, to be answered in its place."""
        for key in [key for key in self._held if key[1] == machine]:
            for raw in self._held.pop(key):
                self._let_in(raw)

    def _let_in(self, raw: bytes) -> None:
        self._queue.append(raw)
        self.bytes += len(raw)

    def _pass_gate(self, key: StreamKey, raw: bytes) -> None:
        held = self._held.get(key)
        if held is not None:
            held.append(raw)
        elif self._ask(key, raw):
            self._let_in(raw)
        else:
            self._held[key] = deque([raw])

    def _ask(self, key: StreamKey, raw: bytes) -> bool:
        body = raw[next(iter_chunks(raw)).body_start :]
        return self._gates[key[1]].command(body, lambda: self._go(key, raw))

    def _go(self, key: StreamKey, raw: bytes) -> None:
        """The gate lets `raw` pass, the stream's first held chunk (unless it has ended); those behind it are asked for
        in turn."""
        held = self._held.get(key)
        if held is None or held[0] is not raw:
            return
        del self._held[key]
        self._let_in(held.popleft())
        while held:
            if not self._ask(key, held[0]):
                self._held[key] = held
                return
            self._let_in(held.popleft())


def _readable(chunks: bytes) -> Iterator[Chunk]:
    """The chunks before the first that is none."""
    try:
        yield from iter_chunks(chunks)
    except Malformed:
        return
