"""A cell on simulated machines: processes, disks, clocks and a network under one schedule, watched by checkers.

Everything random comes out of one seed, each purpose from a generator of its own, so that one more coin thrown for
faults does not change what the clients do. :class:`World` is the place where it all comes together; it has no will:
:mod:`.simulation` lets clients and faults loose in it, :mod:`.cell` lets a test lead it step by step.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..applied import Applied
from ..catalog import Catalog
from ..host import MachineHost
from ..machine import Origin, StateMachine
from ..node_messages import AnyMessage
from ..node_options import Options as NodeOptions
from ..paxos.ballot import MemberId, Slot
from ..paxos.quorum import Configuration, Member, Role
from ..paxos.ready import DurableState, Ready
from ..paxos.replica import Options as CoreOptions
from ..paxos.replica import Replica
from ..wire import native
from ..wire.codec import Splitter, decode, encode
from ..wire.formats import Greeting, TurnedAway, Welcomed
from .checkers import Watch
from .clock import MILLISECOND, Clock, Schedule
from .door import NATIVE
from .lifecycle import Stage
from .network import Network
from .process import Disk, Packet, Process

if TYPE_CHECKING:
    from ..node import Node
    from .fronts import Beside

TRACE_LENGTH: Final = 5000


class Options(NamedTuple):
    """What a world is made of. Times in microseconds.

    `wire`: members' messages pass as bytes through the codec. `sync`: how long a disk takes to write and sync.
    """

    core: CoreOptions = CoreOptions()
    node: NodeOptions = NodeOptions()
    segment_size: int = 1 << 18
    sync: int = 200
    wire: bool = False
    restart_after: int = 500 * MILLISECOND


class TraceLine(NamedTuple):
    """Something that happened, to whom: a member, a client by its place, or nobody (0)."""

    time: int
    who: int
    words: str
    args: tuple[object, ...]

    def __str__(self) -> str:
        return f"{self.time / 1e6:11.6f}  {self.who:>4}  {self.words % self.args}"


class World:
    """See the module's text.

    Args:
        machines: classes by the name of their code, what every replica has installed.
        replicas: how many members the cell is founded with; their ids are 1, 2, 3, ...
    """

    def __init__(
        self, seed: str, machines: Mapping[str, type[StateMachine]], replicas: int, options: Options | None = None
    ) -> None:
        self.seed = seed
        self.options = options or Options()
        self.schedule = Schedule()
        self.catalog = Catalog(machines)
        self.cell = hashlib.sha256(seed.encode()).digest()[:16]
        self.network: Network[Any] = Network(self.schedule, self.random("network"), self._arrived)
        self.processes: dict[int, Process] = {}
        self.beside: dict[str, Callable[[Process, Node], Beside]] = {}
        """What makes the places beside the native port, by scheme; see :mod:`.fronts`."""
        self.size = replicas
        """How many members the cell is meant to have."""
        self._lines: deque[TraceLine] = deque(maxlen=TRACE_LENGTH)
        self._chance = self.random("disks")
        members = tuple(Member(MemberId(i), Role.VOTER, f"sim:{i}") for i in range(1, replicas + 1))
        self.founding = Configuration(Slot(0), members)
        self.watch = Watch(self.founding, self.processes.values)
        for member in members:
            self.add(member.id)

    # ---------------------------------------------------------------- members

    def add(self, member: int, clock: Clock | None = None) -> Process:
        """A new machine with an empty disk, for a member to be; not started."""
        random = self.random(f"machine {member}")
        disk = Disk(member, random.randbytes(16), self.random(f"disk {member}"), self.options.sync)
        clock = clock or Clock(random.randrange(1, 1 << 40))
        process = Process(self, member, disk, clock, self.founding)
        self.processes[member] = process
        return process

    def start(self) -> None:
        """Start every process that is down."""
        for process in list(self.processes.values()):
            if process.stage is Stage.DOWN:
                process.start()

    def leader(self) -> Process | None:
        """The member that serves as leader now, the one with the highest ballot if several think so."""
        serving = [p for p in self.processes.values() if p.stage is Stage.RUNNING and p.node.core.serving]
        return max(serving, key=lambda p: p.node.core.ballot, default=None)

    def resolve(self, member: int) -> Process | None:
        """Whose machine has the address of `member`: an operator gives that of a member that is gone to another one."""
        process = self.processes.get(member)
        if process is None and self.processes:
            process = self.processes[sorted(self.processes)[member % len(self.processes)]]
        return process

    def configuration(self) -> Configuration:
        """The newest configuration that any live member has."""
        known = [p.node.core.configuration for p in self.processes.values() if p.alive]
        return max(known, key=lambda c: c.number, default=self.founding)

    def new_core(self, member: MemberId, incarnation: int, state: DurableState, random: Random, now: int) -> Replica:
        """A core whose commits are watched."""
        return WatchedCore(self, member, incarnation, state, random, now)

    def new_host(self, member: int, origin: Origin) -> MachineHost:
        """An empty host whose progress is watched."""
        return WatchedHost(self, member, origin)

    def disk_failed(self, process: Process) -> None:
        """A process found that its disk failed: it ends, and is started again after a while."""
        process.die(False, "disk failed")
        self.schedule.after(self.options.restart_after, lambda: self._start_again(process))

    def _start_again(self, process: Process) -> None:
        if process.stage is Stage.DOWN and self.processes.get(process.member) is process:
            process.start()

    def members(self, configuration: Configuration) -> tuple[native.Member, ...]:
        """How clients find the members."""
        return tuple(native.Member(m.id, endpoint(m.id)) for m in configuration.members)

    # ---------------------------------------------------------------- messages

    def _arrived(self, to: int, sender: int, packet: Packet) -> None:
        process = self.processes.get(to)
        if process is not None:
            process.receive(packet)

    def encode(self, messages: Sequence[AnyMessage]) -> bytes:
        """Messages as the frames of one link."""
        return b"".join(piece for message in messages for piece in encode(message))

    def decode(self, content: bytes) -> list[AnyMessage]:
        """The messages in the frames."""
        messages = []
        for body in Splitter().feed(content):
            frame = decode(body)
            assert not isinstance(frame, Greeting | Welcomed | TurnedAway), "greetings belong to real connections"
            messages.append(frame)
        return messages

    # ---------------------------------------------------------------- chance

    def random(self, purpose: str) -> Random:
        """A generator of its own for each purpose."""
        return Random(f"{self.seed}/{purpose}")

    def disk_time(self, disk: Disk) -> int:
        """How long the next write and sync takes."""
        return int(disk.sync * (0.7 + 0.6 * self._chance.random()))

    def snapshot_time(self) -> int:
        """How long a snapshot takes to be written."""
        return int((5 + 40 * self._chance.random()) * MILLISECOND)

    def shuffle(self, places: list[int]) -> None:
        """Put places into an order that nobody can foresee."""
        self._chance.shuffle(places)

    def spare_moment(self) -> bool:
        """Whether the disk has nothing better to do for a moment."""
        return self._chance.random() < 0.1

    # ---------------------------------------------------------------- trace

    def trace(self, who: int, words: str, *args: object) -> None:
        """Note what happened; `words` is formatted only if somebody reads it."""
        self._lines.append(TraceLine(self.schedule.now, who, words, args))

    def trace_tail(self, lines: int = TRACE_LENGTH) -> list[str]:
        """The last of what happened, readable."""
        return [str(line) for line in list(self._lines)[-lines:]]

    def fingerprint(self) -> str:
        """A short text that is the same for two runs only if they went the same way."""
        digest = hashlib.sha256()
        for slot in sorted(self.watch.values):
            digest.update(repr((slot, self.watch.values[slot])).encode())
        traffic = self.network.traffic
        lines = [str(line) for line in self._lines]
        facts = (self.schedule.now, self.schedule.happened, traffic.sent, traffic.lost, lines)
        digest.update(repr(facts).encode())
        return digest.hexdigest()[:16]


class WatchedHost(MachineHost):
    """The real host, telling the watch how far it is."""

    def __init__(self, world: World, member: int, origin: Origin) -> None:
        super().__init__(world.cell, world.catalog, origin, Random)
        self._watch = world.watch
        self._member = member
        self.configured(Slot(0), world.founding)

    def apply(self, slot: Slot, payload: bytes) -> Applied:
        applied = super().apply(slot, payload)
        self._watch.applied(self._member, self)
        return applied


class WatchedCore(Replica):
    """The real core, telling the watch what it hands out."""

    def __init__(
        self, world: World, member: MemberId, incarnation: int, state: DurableState, random: Random, now: int
    ) -> None:
        self._watch = world.watch
        self._reads: dict[int, int] = {}  # by context: how far anybody had applied when it was asked
        super().__init__(member, incarnation, state, options=world.options.core, random=random, now=now)

    def read(self, context: int, now: int, by_round: bool = False) -> None:
        self._reads[context] = self._watch.frontier
        super().read(context, now, by_round)

    def ready(self) -> Ready:
        ready = super().ready()
        watch = self._watch
        for slot, value in ready.committed:
            watch.chosen(self.member, slot, value)
        for context, index in ready.reads:
            frontier = self._reads.pop(context)
            if index is not None:
                watch.read(self.member, index, frontier)
        return ready


def endpoint(member: int) -> str:
    """The endpoint string of a member's client port."""
    return f"{NATIVE}:{member}"
