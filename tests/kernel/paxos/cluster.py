"""A cell of consensus cores in memory: seeded time, network, disks and crashes, the invariants watched all along.

Watched: no slot is chosen with two values, nothing is applied out of order or before a quorum's disks hold it, no two
members hold the lease at one instant, no ballot is used twice, no message claims what the disk of its sender does not
hold, a member that lost votes gives none, and no read is answered with an index below what was applied anywhere before
it began.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush
from random import Random

from paxos_disk import Disk
from quorate.kernel.paxos.ballot import DECIDED, Ballot, MemberId, Slot
from quorate.kernel.paxos.configuration import reconfigured
from quorate.kernel.paxos.messages import (
    Accepted,
    Beaten,
    Kind,
    Message,
    Prepare,
    Promise,
    Sender,
    SnapshotChunk,
    Value,
    Vouched,
)
from quorate.kernel.paxos.quorum import Change, Configuration, Member, Phase, Role, is_quorum
from quorate.kernel.paxos.ready import NOTHING, AcceptedValue, Ready, Record
from quorate.kernel.paxos.replica import Options, Replica

SNAPSHOT = 100
PIECE = 40


class Process:
    """One run of one member."""

    def __init__(self, cluster: Cluster, member: MemberId, disk: Disk) -> None:
        self.cluster, self.member, self.disk = cluster, member, disk
        disk.incarnation += 1
        self.incarnation = disk.incarnation
        self.alive = True
        self.paused_until = 0
        self.woken_at = 0
        self.core = Replica(
            member, disk.incarnation, disk.state(), options=cluster.options, random=cluster.random, now=self.clock()
        )
        self.configuration = disk.configuration
        self.applied = disk.snapshot
        self.writing: list[Ready] = []
        self.waiting: list[Ready] = []
        self.reads: dict[int, Slot] = {}
        self.contexts = 0

    def clock(self) -> int:
        """This member's monotonic clock: its own rate, its own origin."""
        return 1_000_000 + int(self.cluster.now * self.cluster.rates[self.member])

    def turn(self) -> None:
        """Carry out what the core wants, as a driver must."""
        if not self.alive:
            return
        cluster = self.cluster
        self.core.tick(self.clock())
        while (ready := self.core.ready()) is not NOTHING:
            for to, message in ready.messages:
                cluster.post(self, to, message)
            for slot, value in ready.committed:
                self.apply(slot, value)
            for context, index in ready.reads:
                self.answered(context, index)
            for to, fetch in ready.snapshot_requests:
                size = SNAPSHOT if fetch.slot == self.disk.snapshot else 0
                piece = b"s" * max(0, min(PIECE, size - fetch.offset))
                cluster.post(self, to, SnapshotChunk(fetch.slot, fetch.offset, size, piece))
            for chunk in ready.snapshot_chunks:
                if chunk.offset + len(chunk.chunk) == chunk.size:
                    self.install(chunk.slot)
            if ready.records or ready.after:
                self.waiting.append(ready)
        self.write()
        cluster.wake_for(self)

    def apply(self, slot: Slot, value: Value) -> None:
        """A slot is chosen."""
        assert slot == self.applied + 1
        self.applied = slot
        if slot not in self.cluster.log:
            self.cluster.check_durable(slot, value, self.configuration.voters())
        known = self.cluster.log.setdefault(slot, value)
        assert known == value, f"two values chosen in slot {slot}: {known} and {value}"
        if value.kind is Kind.CONFIGURATION:
            self.configuration = reconfigured(self.configuration, value.payload, slot)
        self.cluster.configurations[slot] = self.configuration
        if self.cluster.compact_every and slot % self.cluster.compact_every == 0:
            self.disk.compact(slot, self.configuration)
            self.core.compacted(slot, SNAPSHOT)

    def install(self, slot: Slot) -> None:
        """A snapshot has arrived whole."""
        if not self.core.expects(slot):
            self.core.abandon_snapshot()
            return
        self.applied = slot
        self.configuration = self.cluster.configurations[slot]
        self.disk.compact(slot, self.configuration)
        self.core.installed(slot, SNAPSHOT, self.configuration, self.clock())

    def write(self) -> None:
        """Begin to write what has gathered, unless the disk is busy or stuck."""
        if self.waiting and not self.writing and self.member not in self.cluster.stuck:
            self.writing, self.waiting = self.waiting, []
            self.cluster.at(self.cluster.disk_time(), self.sync)

    def sync(self) -> None:
        """The write reached the disk: what it held is durable, and nothing that came later."""
        if not self.alive:
            return
        if self.member in self.cluster.stuck:
            self.cluster.at(20_000, self.sync)
            return
        batch, self.writing = self.writing, []
        for ready in batch:
            for record in ready.records:
                self.durable(record)
        for ready in batch:
            for to, message in ready.after:
                self.cluster.post(self, to, message)
            self.core.persisted(ready.upto, self.clock())
        self.turn()

    def durable(self, record: Record) -> None:
        """`record` is on the disk."""
        self.disk.write(record)
        if isinstance(record, AcceptedValue) and record.ballot != DECIDED:
            self.cluster.votes[record.slot][record.ballot, record.value].add(self.member)

    def read(self) -> None:
        """Ask for an index that covers everything applied anywhere by now."""
        self.contexts += 1
        self.reads[self.contexts] = self.cluster.highest()
        self.core.read(self.contexts, self.clock())
        self.turn()

    def answered(self, context: int, index: Slot | None) -> None:
        """The answer to a read."""
        bound = self.reads.pop(context)
        if index is not None:
            self.cluster.reads_answered += 1
            assert index >= bound, f"seed {self.cluster.seed}: a read as of {index}, though {bound} was applied before"


class Cluster:
    """A seeded world. `at(delay, call)` schedules; times in microseconds."""

    def __init__(
        self, seed: int, size: int = 3, learners: int = 0, *, options: Options | None = None, compact_every: int = 0
    ) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.options = options or Options(lease=400_000, window=4, retained=1500, ahead=3000, unwritten=3000)
        self.compact_every = compact_every
        self.now = 0
        self.events: list[tuple[int, int, Callable[[], object]]] = []
        self.count = 0
        self.loss = self.duplicate = self.slow = 0.0
        self.disk_times = (100, 3000)
        self.stuck: set[MemberId] = set()
        self.cut: set[tuple[int, int]] = set()
        self.log: dict[Slot, Value] = {}
        self.votes: dict[Slot, dict[tuple[Ballot, Value], set[MemberId]]] = defaultdict(lambda: defaultdict(set))
        self.configurations: dict[Slot, Configuration] = {}
        self.ballots: dict[Ballot, int] = {}
        self.reads_answered = 0
        self.vouched = 0
        roles = [Role.VOTER] * size + [Role.LEARNER] * learners
        self.founding = Configuration(
            Slot(0), tuple(Member(MemberId(i + 1), role, f"tcp:{i + 1}") for i, role in enumerate(roles))
        )
        drift = self.options.drift_ppm / 1_000_000 / 2
        self.rates = {i: 1 + self.random.uniform(-drift, drift) * 0.99 for i in range(1, 40)}
        self.disks = {m.id: Disk(self.founding) for m in self.founding.members}
        self.running: dict[MemberId, Process] = {}
        for member in sorted(self.disks):
            self.start(member)

    # ---------------------------------------------------------------- the world

    def at(self, delay: int, call: Callable[[], object]) -> None:
        """Have `call` happen in `delay`."""
        self.count += 1
        heappush(self.events, (self.now + delay, self.count, call))

    def disk_time(self) -> int:
        """How long a write takes."""
        return self.random.randrange(*self.disk_times)

    def wake_for(self, process: Process) -> None:
        """Have a turn when the core's next tick is due, unless one comes before that anyway."""
        due = process.core.next_tick() - process.clock()
        if due < 1 << 40:
            wait = max(1, int(due / self.rates[process.member]) + 1)
            if process.woken_at <= self.now or process.woken_at > self.now + wait:
                process.woken_at = self.now + wait
                self.at(wait, lambda: self.wake(process))

    def wake(self, process: Process) -> None:
        """A turn, if it can have one."""
        if process.alive:
            if process.paused_until > self.now:
                self.at(process.paused_until - self.now, lambda: self.wake(process))
                return
            process.turn()

    def run(self, until: int) -> None:
        """Let everything happen that is due by then."""
        while self.events and self.events[0][0] <= until:
            self.now, _, call = heappop(self.events)
            call()
            self.check()
        self.now = until

    def pass_time(self, duration: int) -> None:
        """Let so much time pass."""
        self.run(self.now + duration)

    def check(self) -> None:
        """No two members hold the lease at one instant."""
        holders = [m for m, p in self.running.items() if p.alive and p.core.lease_left(p.clock()) > 0]
        assert len(holders) <= 1, f"seed {self.seed}: members {holders} hold the lease at {self.now}"

    def check_durable(self, slot: Slot, value: Value, voters: frozenset[MemberId]) -> None:
        """What is applied for the first time was on the disks of a quorum, in one ballot."""
        holders = [members for (_, voted), members in self.votes[slot].items() if voted == value]
        held = any(is_quorum(Phase.ACCEPT, members, voters) for members in holders)
        assert held, f"seed {self.seed}: slot {slot} is applied, and of {sorted(voters)} only {holders} hold it"

    def post(self, sender: Process, to: MemberId, message: Message) -> None:
        """A message leaves: watched, and then perhaps lost, doubled or delayed."""
        assert sender.disk.supports(message, sender.member), f"seed {self.seed}: {message} is not backed by the disk"
        if isinstance(message, Promise | Accepted | Beaten):
            assert sender.disk.intact, f"seed {self.seed}: member {sender.member} lost votes and says {message}"
        if isinstance(message, Prepare):
            used = self.ballots.setdefault(message.ballot, sender.incarnation)
            assert message.ballot.member == sender.member
            assert used == sender.incarnation, f"seed {self.seed}: ballot {message.ballot} is used in two runs"
        self.vouched += isinstance(message, Vouched)
        random = self.random
        if (sender.member, to) in self.cut or random.random() < self.loss:
            return
        copies = 2 if random.random() < self.duplicate else 1
        for _ in range(copies):
            delay = random.randrange(50, 500)
            if random.random() < self.slow:
                delay = random.randrange(500, 300_000)
            self.at(delay, lambda: self.deliver(Sender(sender.member, sender.incarnation), to, message))

    def deliver(self, sender: Sender, to: MemberId, message: Message) -> None:
        """A message arrives."""
        process = self.running.get(to)
        if process is None or not process.alive:
            return
        if process.paused_until > self.now:
            self.at(process.paused_until - self.now, lambda: self.deliver(sender, to, message))
            return
        process.core.receive(sender, message, process.clock())
        process.turn()

    # ---------------------------------------------------------------- what a test does

    def start(self, member: MemberId) -> None:
        """Begin a run."""
        process = self.running[member] = Process(self, member, self.disks[member])
        self.at(0, process.turn)

    def join(self, member: MemberId) -> None:
        """A new, empty replica for a member that is being added."""
        self.disks[member] = Disk(self.founding)
        self.start(member)

    def crash(self, member: MemberId) -> None:
        """Lose what was not synced; a random prefix of what was being written survives."""
        process = self.running[member]
        process.alive = False
        pending = [record for ready in process.writing for record in ready.records]
        for record in pending[: self.random.randrange(len(pending) + 1)]:
            process.durable(record)

    def leader(self) -> Process | None:
        """Who serves; the newest, if an old one has not noticed."""
        leading = [p for p in self.running.values() if p.alive and p.core.serving]
        return max(leading, key=lambda p: p.core.ballot, default=None)

    def propose(self, payload: bytes) -> bool:
        """Propose, if somebody takes it."""
        leader = self.leader()
        if leader is None or leader.paused_until > self.now or not leader.core.can_propose():
            return False
        leader.core.propose(Value(Kind.COMMANDS, payload), leader.clock())
        leader.turn()
        return True

    def hurry(self, members: frozenset[MemberId]) -> None:
        """Tell the leader, if there is one, where somebody waits."""
        leader = self.leader()
        if leader is not None and leader.paused_until <= self.now:
            leader.core.hurry(members)

    def change(self, change: Change) -> None:
        """Change membership; there is a leader."""
        leader = self.leader()
        assert leader is not None
        leader.core.reconfigure(change, leader.clock())
        leader.turn()

    def highest(self) -> Slot:
        """The highest slot that was applied anywhere."""
        return max(self.log, default=Slot(0))

    def heal(self) -> None:
        """All faults end, and who was down starts."""
        self.loss = self.duplicate = self.slow = 0.0
        self.disk_times = (100, 3000)
        self.stuck.clear()
        self.cut.clear()
        for member, process in sorted(self.running.items()):
            process.paused_until = 0
            if not process.alive:
                self.start(member)
            else:
                self.at(0, process.turn)
