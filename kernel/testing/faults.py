"""What goes wrong in a simulated cell: kinds of fault, and a nemesis that draws and schedules them.

Swarm testing (Groce et al., "Swarm Testing", ISSTA 2012): each seed enables a random subset of the kinds, with random
intensities, because a run in which everything goes wrong at once never reaches the states behind a long quiet stretch
with one trouble only. Whatever the nemesis does it can undo: :meth:`Nemesis.heal` ends every fault, after which a cell
must become live again.

The nemesis keeps to what a cell is built to bear. It may stop, cut and slow down anything. It damages the memory of a
minority of disks only, and no further disk before the last one is healed or its member replaced (an operator's duty):
more than that loses data in any system.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from ..paxos.ballot import MemberId
from ..paxos.quorum import Change, ChangeKind, InvalidChange, Member, Role
from ..paxos.replica import NotLeader
from .clock import MILLISECOND, SECOND
from .process import DIRECTORY, Boundary, Process, Stage

if TYPE_CHECKING:
    from .clients import Client
    from .simulation import Simulation


class Fault(enum.Enum):
    """Kinds of fault. The word is how they are written on the command line."""

    LOSS = "loss"
    DOUBLE = "double"
    OVERTAKE = "overtake"
    LATE = "late"
    SLOW = "slow-network"
    PARTITION = "partition"
    ISOLATE = "isolate"
    ONE_WAY = "one-way"
    PARTIAL = "partial"
    KILL = "kill"
    POWER = "power"
    KILL_ALL = "kill-all"
    STRIKE = "strike"
    PAUSE = "pause"
    DRIFT = "drift"
    SLOW_DISK = "slow-disk"
    FULL_DISK = "full-disk"
    BAD_SYNC = "bad-sync"
    SHORT_WRITE = "short-write"
    FLIP = "flip"
    WIPE = "wipe"
    MEMBERSHIP = "membership"
    TRANSFER = "transfer"
    CLIENT_PAUSE = "client-pause"
    CLIENT_KILL = "client-kill"
    CLIENT_CUT = "client-cut"


class Plan(NamedTuple):
    """The faults of one run: which kinds, and the mean time between two strokes of one kind, in seconds."""

    kinds: tuple[Fault, ...]
    every: float

    @classmethod
    def draw(cls, random: Random) -> Plan:
        """A random subset, at least three kinds, one of which moves the leader if it works out."""
        kinds = list(Fault)
        count = random.randrange(3, 9)
        chosen = random.sample(kinds, count)
        if not any(kind in MOVERS for kind in chosen):
            chosen[0] = random.choice(MOVERS)
        return cls(tuple(kind for kind in kinds if kind in chosen), random.choice((2.0, 4.0, 8.0)))


MOVERS: Final = (Fault.ISOLATE, Fault.KILL, Fault.POWER, Fault.PAUSE, Fault.TRANSFER, Fault.STRIKE)
"""Kinds that prefer the leader."""


class Nemesis:
    """Lets the faults of a plan loose on a simulation, from :meth:`begin` to :meth:`heal`."""

    def __init__(self, simulation: Simulation, plan: Plan) -> None:
        self.plan = plan
        self.struck: Counter[Fault] = Counter()
        """How often each kind was really done."""
        self._simulation = simulation
        self._world = simulation.world
        self._random = simulation.world.random("nemesis")
        self._active = False
        self._next_member = max(self._world.processes) + 1
        self._sick: set[MemberId] = set()  # members whose disk lost something, until they are well or replaced
        self._seen: set[MemberId] = set()  # who is, or was until just now, in the cell
        self._weak: dict[int, int] = {}  # member -> slot that it must have reached to be well
        self._strokes: dict[Fault, Callable[[], bool]] = {
            Fault.PARTITION: self._partition,
            Fault.ISOLATE: self._isolate,
            Fault.ONE_WAY: self._one_way,
            Fault.PARTIAL: self._partial,
            Fault.KILL: partial(self._kill, False),
            Fault.POWER: partial(self._kill, True),
            Fault.KILL_ALL: self._kill_all,
            Fault.STRIKE: self._strike,
            Fault.PAUSE: self._pause,
            Fault.SLOW_DISK: self._slow_disk,
            Fault.FULL_DISK: self._full_disk,
            Fault.BAD_SYNC: self._bad_sync,
            Fault.SHORT_WRITE: self._short_write,
            Fault.FLIP: self._flip,
            Fault.WIPE: self._wipe,
            Fault.MEMBERSHIP: self._membership,
            Fault.TRANSFER: self._transfer,
            Fault.CLIENT_PAUSE: self._client_pause,
            Fault.CLIENT_KILL: self._client_kill,
            Fault.CLIENT_CUT: self._client_cut,
        }

    # ---------------------------------------------------------------- from beginning to end

    def begin(self) -> None:
        """Let them loose."""
        self._active = True
        self._weather()
        for kind in self.plan.kinds:
            if kind in self._strokes:
                self._schedule(kind)
        self._world.schedule.after(SECOND, self._operate)

    def heal(self) -> None:
        """End every fault; what is down is started again."""
        world = self._world
        self._active = False
        world.trace(0, "--- heal ---")
        world.network.weather = world.network.weather._replace(
            delay=200, jitter=200, ordered=True, loss=0.0, double=0.0, stray=0.0
        )
        world.network.mend()
        for process in list(world.processes.values()):
            process.fuse = None
            faults = process.disk.files.faults
            faults.capacity = faults.failing_syncs = faults.short_write = faults.torn_write = None
            process.disk.sync = world.options.sync
            process.resume()
            if process.stage is Stage.DOWN:
                process.start()
        for client in self._simulation.clients:
            client.door.resume()

    def well(self) -> bool:
        """Whether every member that lost its memory has been replaced."""
        return not self._sick & self._world.configuration().ids()

    def _schedule(self, kind: Fault) -> None:
        delay = self._random.expovariate(1 / self.plan.every)
        self._world.schedule.after(int(delay * SECOND) + 1, partial(self._stroke, kind))

    def _stroke(self, kind: Fault) -> None:
        if not self._active:
            return
        if self._strokes[kind]():
            self.struck[kind] += 1
            self._world.trace(0, "fault: %s", kind.value)
        self._schedule(kind)

    def _later(self, least: float, most: float, undo: Callable[[], None]) -> None:
        """Have a fault undone after a random time, in seconds, if healing did not do it before."""
        self._world.schedule.after(int(self._random.uniform(least, most) * SECOND), undo)

    # ---------------------------------------------------------------- choosing

    def _running(self) -> list[Process]:
        return [p for p in self._world.processes.values() if p.stage is Stage.RUNNING]

    def _victim(self) -> Process | None:
        """A running process, the leader as often as not."""
        leader = self._world.leader()
        if leader is not None and self._random.random() < 0.5:
            return leader
        running = self._running()
        return self._random.choice(running) if running else None

    def _members(self) -> list[int]:
        return list(self._world.processes)

    # ---------------------------------------------------------------- the network

    def _weather(self) -> None:
        kinds, random = self.plan.kinds, self._random
        weather = self._world.network.weather
        if Fault.LOSS in kinds:
            weather = weather._replace(loss=random.choice((0.01, 0.05, 0.2)))
        if Fault.DOUBLE in kinds:
            weather = weather._replace(double=random.choice((0.02, 0.1, 0.3)))
        if Fault.OVERTAKE in kinds:
            weather = weather._replace(ordered=False, jitter=random.choice((1_000, 5_000, 30_000)))
        if Fault.LATE in kinds:
            weather = weather._replace(stray=random.choice((0.005, 0.03)), stray_us=random.choice((500_000, 8_000_000)))
        if Fault.SLOW in kinds:
            weather = weather._replace(delay=random.choice((2_000, 10_000)))
        self._world.network.weather = weather

    def _mend_later(self) -> None:
        self._later(0.3, 4.0, self._world.network.mend)

    def _partition(self) -> bool:
        """Two groups, nothing between them."""
        members = self._members()
        self._random.shuffle(members)
        cut = self._random.randrange(1, len(members))
        self._world.network.separate(members[:cut], members[cut:])
        self._mend_later()
        return True

    def _isolate(self) -> bool:
        """One member, mostly the leader, alone; its clients may still reach it."""
        victim = self._victim()
        if victim is None:
            return False
        others = [member for member in self._members() if member != victim.member]
        self._world.network.separate([victim.member], others)
        self._mend_later()
        return True

    def _one_way(self) -> bool:
        """Some links carry nothing in one direction."""
        members = self._members()
        links = [(a, b) for a in members for b in members if a != b]
        for a, b in self._random.sample(links, self._random.randrange(1, len(links) // 2 + 1)):
            self._world.network.cut(a, b)
        self._mend_later()
        return True

    def _partial(self) -> bool:
        """A shape of Ng et al. ("Omni-Paxos", EuroSys 2023: quorum-loss, constrained election, chain), or any graph."""
        random, network = self._random, self._world.network
        members = self._members()
        random.shuffle(members)
        shape = random.randrange(4)
        if shape == 0:  # everybody hears one member only
            for i, a in enumerate(members[1:], 1):
                network.separate([a], members[i + 1 :])
        elif shape == 1:  # as before, and that one cannot reach the present leader
            for i, a in enumerate(members[1:], 1):
                network.separate([a], members[i + 1 :])
            leader = self._world.leader()
            if leader is not None and leader.member != members[0]:
                network.separate([members[0]], [leader.member])
        elif shape == 2:  # a chain
            for i, a in enumerate(members):
                network.separate([a], members[i + 2 :])
        else:
            for i, a in enumerate(members):
                for b in members[i + 1 :]:
                    if random.random() < 0.4:
                        network.separate([a], [b])
        self._mend_later()
        return True

    # ---------------------------------------------------------------- processes

    def _kill(self, power: bool) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        self._die(victim, power, "power cut" if power else "kill -9")
        return True

    def _die(self, victim: Process, power: bool, why: str) -> None:
        victim.die(power, why)
        self._later(0.05, 3.0, partial(self._start, victim))

    def _start(self, process: Process) -> None:
        if process.stage is Stage.DOWN and self._world.processes.get(process.member) is process:
            process.start()
            if process.stage is Stage.DOWN:
                self._later(0.5, 1.0, partial(self._start, process))
            elif process.stage is Stage.UNUSABLE or not process.intact:
                self._sick.add(process.member)

    def _kill_all(self) -> bool:
        power = self._random.random() < 0.5
        for process in self._running():
            self._die(process, power, "everything dies")
        return True

    def _strike(self) -> bool:
        """At one of the next boundaries between two effects, whichever that is, the process dies or stops."""
        victim = self._victim()
        if victim is None or victim.fuse is not None:
            return False
        how = self._random.randrange(3)

        def strike(boundary: Boundary) -> None:
            if how == 2:
                victim.pause()
                self._later(0.01, 2.0, victim.resume)
            else:
                self._die(victim, how == 1, f"struck before {boundary.value}")

        victim.fuse = (self._random.randrange(40), strike)
        return True

    def _pause(self) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        victim.pause()
        self._later(0.01, 3.0, victim.resume)
        return True

    # ---------------------------------------------------------------- disks

    def _slow_disk(self) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        disk = victim.disk
        disk.sync = self._random.choice((5, 50, 400)) * MILLISECOND
        self._later(0.5, 3.0, partial(setattr, disk, "sync", self._world.options.sync))
        return True

    def _full_disk(self) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        files = victim.disk.files
        files.faults.capacity = files.used() + self._random.choice((0, 300, 5_000))
        self._later(0.5, 4.0, partial(setattr, files.faults, "capacity", None))
        return True

    def _bad_sync(self) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        victim.disk.files.faults.failing_syncs = 1
        return True

    def _short_write(self) -> bool:
        victim = self._victim()
        if victim is None:
            return False
        victim.disk.files.faults.short_write = self._random.randrange(400)
        return True

    def _may_harm(self, member: int) -> bool:
        """Whether the disk of `member` may lose its memory: the others must hold everything, and outvote it."""
        configuration = self._world.configuration()
        voters = configuration.voters()
        harmed = {m for m in (*self._sick, *self._weak) if m in voters}
        if member not in voters or harmed or len(voters) < 3:
            return False
        return not any(p.stage is Stage.UNUSABLE for p in self._world.processes.values() if p.member in voters)

    def _flip(self) -> bool:
        """Bits rot on a disk while its machine is down."""
        victim = self._victim()
        if victim is None or not self._may_harm(victim.member):
            return False
        files = victim.disk.files
        victim.die(False, "to be damaged")
        names = [n for n in files.names(DIRECTORY) if n != "lock" and files.content(f"{DIRECTORY}/{n}")]
        for _ in range(self._random.choice((1, 1, 3))):
            path = f"{DIRECTORY}/{self._random.choice(names)}"
            content = files.content(path)
            used = len(content.rstrip(b"\0")) or 1
            files.flip(path, self._random.randrange(used), 1 << self._random.randrange(8))
        self._weak[victim.member] = self._world.watch.frontier
        self._later(0.05, 1.0, partial(self._start, victim))
        return True

    def _wipe(self) -> bool:
        """A disk is replaced by an empty one: the member may not vote any more, whatever it says."""
        victim = self._victim()
        if victim is None or not self._may_harm(victim.member):
            return False
        victim.die(True, "disk lost")
        self._sick.add(victim.member)
        victim.stage = Stage.UNUSABLE
        return True

    # ---------------------------------------------------------------- the operator

    def _operate(self) -> None:
        """What an operator does all the time: replace members that lost their memory."""
        simulation, world = self._simulation, self._world
        if simulation.over:
            return
        world.schedule.after(300 * MILLISECOND, self._operate)
        for process in world.processes.values():
            if process.stage is Stage.UNUSABLE or (process.alive and not process.intact):
                self._sick.add(process.member)
                self._weak.pop(process.member, None)
            elif process.stage is Stage.RUNNING and process.node.host.slot >= self._weak.get(process.member, 0):
                self._weak.pop(process.member, None)
        leader = world.leader()
        if leader is None:
            return
        configuration = leader.node.core.configuration
        members = configuration.ids()
        for member in sorted(self._seen - members):
            self._later(0.5, 3.0, partial(self._retire, member))
        self._seen = set(members)
        sick = sorted(self._sick & members)
        learner = next((m for m in configuration.members if m.role is Role.LEARNER), None)
        if learner is not None and learner.id not in sick:
            if sick or Fault.MEMBERSHIP not in self.plan.kinds or self._random.random() < 0.3:
                self._change(ChangeKind.PROMOTE, learner)
            return
        if sick:
            gone = configuration.find(sick[0])
            if learner is None and len(members) <= world.size:
                self._join()
            elif gone is not None:
                self._change(ChangeKind.REMOVE, gone)
        elif len(configuration.members) > world.size + 1 or (
            len(configuration.members) > world.size and not self._active
        ):
            self._change(ChangeKind.REMOVE, self._random.choice(configuration.members))

    def _join(self) -> None:
        member = self._next_member
        self._next_member += 1
        process = self._world.add(member, self._simulation.clock(f"member {member}"))
        process.start()
        self._change(ChangeKind.ADD_LEARNER, Member(MemberId(member), Role.LEARNER, f"sim:{member}"))

    def _retire(self, member: int) -> None:
        process = self._world.processes.pop(member, None)
        if process is not None and process.alive:
            process.die(False, "removed from the cell")

    def _change(self, kind: ChangeKind, member: Member) -> bool:
        leader = self._world.leader()
        if leader is None:
            return False
        try:
            slot = leader.node.core.reconfigure(Change(kind, member), leader.now)
        except (InvalidChange, NotLeader) as error:
            self._world.trace(leader.member, "no %s of member %d: %s", kind.name.lower(), member.id, error)
            return False
        self._world.trace(leader.member, "proposes to %s member %d at slot %d", kind.name.lower(), member.id, slot)
        leader.want_turn()
        return True

    def _membership(self) -> bool:
        """A member joins, leaves, or changes its role."""
        leader = self._world.leader()
        if leader is None or not self.well() or self._weak:
            return False
        configuration = leader.node.core.configuration
        voters = [m for m in configuration.members if m.role is Role.VOTER]
        if len(configuration.members) <= self._world.size:
            self._join()
            return True
        gone = self._random.choice(voters)
        kind = self._random.choice((ChangeKind.REMOVE, ChangeKind.REMOVE, ChangeKind.DEMOTE))
        if len(voters) <= 3 and kind is ChangeKind.REMOVE and len(configuration.members) == len(voters):
            return False
        return self._change(kind, gone)

    def _transfer(self) -> bool:
        leader = self._world.leader()
        if leader is None:
            return False
        others = sorted(leader.node.core.configuration.voters() - {leader.member})
        if not others:
            return False
        try:
            leader.node.core.transfer(self._random.choice(others), leader.now)
        except (InvalidChange, NotLeader):
            return False
        leader.want_turn()
        return True

    # ---------------------------------------------------------------- clients

    def _client(self) -> Client | None:
        living = [client for client in self._simulation.clients if client.door.alive]
        return self._random.choice(living) if living else None

    def _client_pause(self) -> bool:
        client = self._client()
        if client is None:
            return False
        client.door.pause()
        self._later(0.01, 2 * self._simulation.session_timeout, client.door.resume)
        return True

    def _client_kill(self) -> bool:
        client = self._client()
        if client is None:
            return False
        self._simulation.replace_client(client)
        return True

    def _client_cut(self) -> bool:
        """A client reaches nobody, or some members only."""
        client = self._client()
        if client is None:
            return False
        members = self._members()
        self._world.network.separate(
            [client.place], self._random.sample(members, self._random.randrange(1, len(members) + 1))
        )
        self._mend_later()
        return True


__all__: Sequence[str] = ["MOVERS", "Fault", "Nemesis", "Plan"]
