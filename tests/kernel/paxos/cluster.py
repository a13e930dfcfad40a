"""A cell of consensus cores in memory: seeded time, network, disks and crashes, the invariants watched all along."""

from __future__ import annotations

from heapq import heappop, heappush
from random import Random

from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT, MemberId, Slot
from quorate.kernel.paxos.configuration import reconfigured
from quorate.kernel.paxos.messages import Kind, Message, Sender, SnapshotChunk, Value
from quorate.kernel.paxos.quorum import Change, Configuration, Member, Role
from quorate.kernel.paxos.ready import NOTHING, AcceptedValue, DurableState, Promised, Ready, Record
from quorate.kernel.paxos.replica import Options, Replica


class Disk:
    """What one member has written: durable records, and those still on their way."""

    def __init__(self, configuration: Configuration) -> None:
        self.records: list[Record] = []
        self.snapshot = Slot(0)
        self.configuration = configuration
        self.incarnation = 0

    def state(self) -> DurableState:
        """What a start on this disk recovers."""
        promised, chosen = NO_BALLOT, self.snapshot
        votes: dict[Slot, AcceptedValue] = {}
        for record in self.records:
            if isinstance(record, Promised):
                promised = max(promised, record.ballot)
            elif isinstance(record, AcceptedValue):
                if record.ballot != DECIDED:
                    promised = max(promised, record.ballot)
                votes[record.slot] = record
            else:
                chosen = max(chosen, record.slot)
        live = tuple(v for v in votes.values() if v.slot > self.snapshot)
        return DurableState(promised, live, chosen, self.snapshot, self.configuration, snapshot_size=100)


class Process:
    """One run of one member."""

    def __init__(self, cluster: Cluster, member: MemberId, disk: Disk) -> None:
        self.cluster, self.member, self.disk = cluster, member, disk
        disk.incarnation += 1
        self.alive = True
        self.paused_until = 0
        self.core = Replica(
            member, disk.incarnation, disk.state(), options=cluster.options, random=cluster.random, now=self.clock()
        )
        self.configuration = disk.configuration
        self.applied = disk.snapshot
        self.writing = False
        self.waiting: list[Ready] = []
        self.fetched = 0
        self.reads: dict[int, tuple[int, Slot]] = {}

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
                cluster.read_done(self, context, index)
            for to, fetch in ready.snapshot_requests:
                data = b"s" * 100
                chunk = SnapshotChunk(fetch.slot, fetch.offset, 100, data[fetch.offset : fetch.offset + 40])
                if fetch.slot != self.disk.snapshot:
                    chunk = SnapshotChunk(fetch.slot, fetch.offset, 0, b"")
                cluster.post(self, to, chunk)
            for chunk in ready.snapshot_chunks:
                if chunk.offset + len(chunk.chunk) == chunk.size:
                    self.install(chunk.slot)
            if ready.records or ready.after:
                self.waiting.append(ready)
        if self.waiting and not self.writing:
            self.writing = True
            cluster.at(cluster.random.randrange(100, 3000), self.sync)
        cluster.at_wake(self)

    def apply(self, slot: Slot, value: Value) -> None:
        assert slot == self.applied + 1
        self.applied = slot
        known = self.cluster.log.setdefault(slot, value)
        assert known == value, f"two values chosen in slot {slot}: {known} and {value}"
        if value.kind is Kind.CONFIGURATION:
            self.configuration = reconfigured(self.configuration, value.payload, slot)
        self.cluster.configurations[slot] = self.configuration
        if self.cluster.compact_every and slot % self.cluster.compact_every == 0:
            self.compact(slot)

    def compact(self, slot: Slot) -> None:
        self.disk.snapshot, self.disk.configuration = slot, self.configuration
        self.core.compacted(slot, 100)

    def install(self, slot: Slot) -> None:
        if not self.core.expects(slot):
            self.core.abandon_snapshot()
            return
        self.applied = slot
        self.configuration = self.cluster.configurations[slot]
        self.disk.snapshot, self.disk.configuration = slot, self.configuration
        self.core.installed(slot, 100, self.configuration, self.clock())

    def sync(self) -> None:
        """A write reached the disk: everything appended when it began is durable."""
        if not self.alive:
            return
        self.writing = False
        batch, self.waiting = self.waiting, []
        for ready in batch:
            self.disk.records += ready.records
        for ready in batch:
            for to, message in ready.after:
                self.cluster.post(self, to, message)
            self.core.persisted(ready.upto, self.clock())
        self.turn()


class Cluster:
    """A seeded world. `at(delay, call)` schedules; times in microseconds."""

    def __init__(self, seed: int, size: int = 3, *, options: Options | None = None, compact_every: int = 0) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.options = options or Options(lease=400_000, window=4, retained=200)
        self.compact_every = compact_every
        self.now = 0
        self.events: list[tuple[int, int, object]] = []
        self.count = 0
        self.loss = self.duplicate = self.slow = 0.0
        self.cut: set[tuple[int, int]] = set()
        self.log: dict[Slot, Value] = {}
        self.configurations: dict[Slot, Configuration] = {}
        self.founding = Configuration(
            Slot(0), tuple(Member(MemberId(i), Role.VOTER, f"tcp:{i}") for i in range(1, size + 1))
        )
        drift = self.options.drift_ppm / 1_000_000 / 2
        self.rates = {i: 1 + self.random.uniform(-drift, drift) * 0.99 for i in range(1, 20)}
        self.disks = {m.id: Disk(self.founding) for m in self.founding.members}
        self.running: dict[MemberId, Process] = {}
        self.answers: dict[int, Slot | None] = {}
        for member in sorted(self.disks):
            self.start(member)

    # ---------------------------------------------------------------- the world

    def at(self, delay: int, call: object) -> None:
        self.count += 1
        heappush(self.events, (self.now + delay, self.count, call))

    def at_wake(self, process: Process) -> None:
        due = process.core.next_tick() - process.clock()
        if due < 1 << 40:
            wait = max(1, int(due / self.rates[process.member]) + 1)
            if getattr(process, "wake", 0) <= self.now or process.wake > self.now + wait:  # type: ignore[attr-defined]
                process.wake = self.now + wait  # type: ignore[attr-defined]
                self.at(wait, lambda: self.wake(process))

    def wake(self, process: Process) -> None:
        if process.alive:
            if process.paused_until > self.now:
                self.at(process.paused_until - self.now, lambda: self.wake(process))
                return
            process.turn()

    def run(self, until: int) -> None:
        while self.events and self.events[0][0] <= until:
            self.now, _, call = heappop(self.events)
            call()  # type: ignore[operator]
            self.check()
        self.now = until

    def check(self) -> None:
        """No two members hold the lease at one instant."""
        holders = [m for m, p in self.running.items() if p.alive and p.core.lease_left(p.clock()) > 0]
        assert len(holders) <= 1, f"seed {self.seed}: members {holders} hold the lease at {self.now}"

    def post(self, sender: Process, to: MemberId, message: Message) -> None:
        random = self.random
        if (sender.member, to) in self.cut or random.random() < self.loss:
            return
        copies = 2 if random.random() < self.duplicate else 1
        for _ in range(copies):
            delay = random.randrange(50, 500)
            if random.random() < self.slow:
                delay = random.randrange(500, 300_000)
            self.at(delay, lambda: self.deliver(Sender(sender.member, sender.disk.incarnation), to, message))

    def deliver(self, sender: Sender, to: MemberId, message: Message) -> None:
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
        pending = [record for ready in process.waiting for record in ready.records]
        process.disk.records += pending[: self.random.randrange(len(pending) + 1)]

    def leader(self) -> Process | None:
        leading = [p for p in self.running.values() if p.alive and p.core.serving]
        return max(leading, key=lambda p: p.core.ballot, default=None)

    def propose(self, payload: bytes) -> bool:
        leader = self.leader()
        if leader is None or leader.paused_until > self.now or not leader.core.can_propose():
            return False
        leader.core.propose(Value(Kind.COMMANDS, payload), leader.clock())
        leader.turn()
        return True

    def change(self, change: Change) -> None:
        leader = self.leader()
        assert leader is not None
        leader.core.reconfigure(change, leader.clock())
        leader.turn()

    def read_done(self, process: Process, context: int, index: Slot | None) -> None:
        self.answers[context] = index

    def heal(self) -> None:
        self.loss = self.duplicate = self.slow = 0.0
        self.cut.clear()
        for member, process in sorted(self.running.items()):
            process.paused_until = 0
            if not process.alive:
                self.start(member)
