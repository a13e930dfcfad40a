"""The nemesis: lets the faults of a plan loose on a simulation, and undoes them all.

It keeps to what a cell is built to bear. It may stop, cut and slow down anything. It damages the memory of a minority
of disks only, and no further disk before the last one is healed or its member replaced (:mod:`.upkeep`): more than that
loses data in any system.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from ..paxos.quorum import ChangeKind, InvalidChange, Role
from ..paxos.replica import NotLeader
from . import shapes
from .clock import MILLISECOND, SECOND
from .faults import Fault, Plan
from .lifecycle import Boundary, Stage
from .process import DIRECTORY, Fuse, Process
from .upkeep import Upkeep

if TYPE_CHECKING:
    from ..paxos.replica import Replica
    from .clients import Client
    from .simulation import Simulation


class _Fatal(NamedTuple):
    """How a leader dies in a cascade: at one of these boundaries, after up to so many, when it is ripe; alone: secluded
    a moment before."""

    kinds: frozenset[Boundary]
    passing: int
    ripe: Callable[[Replica], bool]
    alone: bool = False


def _leads(core: Replica) -> bool:
    return core.leader == core.member


def _serves(core: Replica) -> bool:
    return core.serving


_ALONE: Final = _Fatal(frozenset({Boundary.PROPOSE}), 0, _leads, alone=True)
_UNTOLD: Final = _Fatal(frozenset({Boundary.PROPOSE, Boundary.SEND, Boundary.REPLY}), 0, _serves)
_PLACES: Final = (Boundary.PROPOSE, Boundary.SEND, Boundary.REPLY, Boundary.REPORT, Boundary.APPEND)
FATAL: Final = (*4 * (_ALONE, _UNTOLD), *(_Fatal(frozenset({place}), 3, _leads) for place in _PLACES))


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
        self._upkeep = Upkeep(simulation)
        self._upkeep.restless = Fault.MEMBERSHIP in plan.kinds
        self._strokes: dict[Fault, Callable[[], bool]] = {
            Fault.STALL: self._stall,
            Fault.PARTITION: self._partition,
            Fault.ISOLATE: self._isolate,
            Fault.ONE_WAY: self._one_way,
            Fault.QUORUM_LOSS: self._quorum_loss,
            Fault.CONSTRAINED: self._constrained,
            Fault.CHAIN: self._chain,
            Fault.PARTIAL: self._partial,
            Fault.KILL: partial(self._kill, False),
            Fault.POWER: partial(self._kill, True),
            Fault.KILL_ALL: self._kill_all,
            Fault.BOUNCE: self._bounce,
            Fault.STRIKE: self._strike,
            Fault.CASCADE: self._cascade,
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
        self._upkeep.begin()

    def heal(self) -> None:
        """End every fault; what is down is started again."""
        world = self._world
        self._active = self._upkeep.restless = False
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
        return self._upkeep.well

    def _schedule(self, kind: Fault) -> None:
        time = self._world.schedule.now + int(self._random.expovariate(1 / self.plan.every) * SECOND) + 1
        beat = self._simulation.beat
        if beat and self._random.random() < 0.7:  # while what the clients have just asked is under way
            time += beat - time % beat + self._random.randrange(self._simulation.under_way)
        self._world.schedule.at(time, partial(self._stroke, kind))

    def _stroke(self, kind: Fault) -> None:
        if not self._active:
            return
        if self._strokes[kind]():
            self.struck[kind] += 1
            self._world.trace(0, "fault: %s", kind.value)
        self._schedule(kind)

    def _later(self, least: float, most: float, undo: Callable[[], None]) -> None:
        """Have a fault undone after a random time, in seconds, if healing did not do it before."""
        length = self._random.uniform(least, most) * self.plan.lasting
        self._world.schedule.after(int(length * SECOND), undo)

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
            weather = weather._replace(loss=random.choice((0.01, 0.05, 0.2)), uneven=random.random() < 0.5)
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

    def _stall(self) -> bool:
        """Links of one member hold back what they carry for about a lease: as long in one direction as in the other, or
        not, or each link as it likes."""
        victim = self._victim()
        if victim is None:
            return False
        random, network, lease = self._random, self._world.network, self._world.options.core.lease
        now, alike = self._world.schedule.now, random.random() < 0.6
        out, back = random.uniform(0.2, 2), random.uniform(0.2, 2)
        for other in self._members():
            if not alike:
                out, back = random.uniform(-1, 2), random.uniform(-1, 2)
            network.hold(victim.member, other, now + int(lease * out))
            network.hold(other, victim.member, now + int(lease * back))
        return True

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

    def _hub(self) -> tuple[list[int], int, int] | None:
        """The members in some order, the leader, and another that becomes the hub of a shape."""
        leader, members = self._world.leader(), self._members()
        others = [member for member in members if leader is not None and member != leader.member]
        if leader is None or len(others) < 2:
            return None
        self._random.shuffle(members)
        return members, leader.member, self._random.choice(others)

    def _cut_pairs(self, pairs: shapes.Pairs) -> None:
        for one, other in pairs:
            self._world.network.separate([one], [other])
        self._mend_later()

    def _quorum_loss(self) -> bool:
        """The leader lives, and only another member reaches a majority."""
        found = self._hub()
        if found is not None:
            members, _, hub = found
            self._cut_pairs(shapes.quorum_loss(members, hub))
        return found is not None

    def _constrained(self) -> bool:
        """Only a member whose log is behind reaches a majority, and it does not reach the leader."""
        found = self._hub()
        if found is None:
            return False
        members, leader, hub = found
        self._world.network.separate([hub], [leader])

        def tighten() -> None:
            if self._active:
                self._cut_pairs(shapes.constrained(members, hub, leader))

        self._later(0.1, 1.0, tighten)
        return True

    def _chain(self) -> bool:
        """Neighbors reach each other; the leader is at one end, or anywhere."""
        members = self._members()
        self._random.shuffle(members)
        leader = self._world.leader()
        if leader is not None and leader.member in members and self._random.random() < 0.7:
            members.remove(leader.member)
            members.append(leader.member)
        self._cut_pairs(shapes.chain(members))
        return True

    def _partial(self) -> bool:
        """Any graph."""
        self._cut_pairs(shapes.any_graph(self._members(), self._random))
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

    def _kill_all(self) -> bool:
        power = self._random.random() < 0.5
        for process in self._running():
            self._die(process, power, "everything dies")
        return True

    def _bounce(self) -> bool:
        """Several processes die, and what supervises them starts them again at once: any, or all but the leader, or
        those by which it still leads: the others do not hear it any more, and then nobody does."""
        leader, running = self._world.leader(), self._running()
        victims = [process for process in running if process is not leader]
        if not running or leader is None or self._random.random() < 0.5:
            victims = self._random.sample(running, self._random.randrange(len(running) + 1))
        elif len(victims) > 1 and self._random.random() < 0.5:
            self._random.shuffle(victims)
            deaf, victims = victims[: len(victims) // 2], victims[len(victims) // 2 :]
            lease = self._world.options.core.lease
            time = int(lease * self._random.uniform(1, 1.5))
            self._deafen(deaf, leader, time + lease)
            self._world.schedule.after(time, partial(self._deafen, victims, leader, lease))
            self._world.schedule.after(time, partial(self._die_briefly, victims))
            return True
        self._die_briefly(victims)
        return bool(victims)

    def _die_briefly(self, victims: list[Process]) -> None:
        for process in victims if self._active else ():
            process.die(False, "bounced")
            self._world.schedule.after(self._random.randrange(30 * MILLISECOND), partial(self._start, process))

    def _deafen(self, listeners: list[Process], speaker: Process, length: int) -> None:
        """For so many microseconds nothing of what `speaker` says arrives there."""
        for process in listeners if self._active else ():
            self._world.network.hold(speaker.member, process.member, self._world.schedule.now + length)

    def _strike(self) -> bool:
        """At one of the next boundaries between two effects, of whichever kinds, the process dies or stops."""
        victim = self._victim()
        if victim is None or victim.fuse is not None:
            return False
        how = self._random.randrange(3)
        kinds = frozenset(self._random.sample(list(Boundary), self._random.choice((1, 2, len(Boundary)))))

        def strike(boundary: Boundary) -> None:
            if how == 2:
                victim.pause()
                self._later(0.01, 2.0, victim.resume)
            else:
                self._die(victim, how == 1, f"struck before {boundary.value}")

        victim.fuse = Fuse(kinds, self._random.randrange(12), strike)
        return True

    def _cascade(self) -> bool:
        """One leader after the other dies with something under way: proposed to itself alone or to a minority; chosen
        and told to nobody; or anywhere else. Each comes back with what it has, before or after the next one dies."""
        deaths = self._random.randrange(2, 6)
        until = self._world.schedule.now + 3 * SECOND

        def strike(victim: Process, alone: bool, boundary: Boundary) -> None:
            nonlocal deaths
            deaths -= 1
            if alone:
                self._seclude(victim)
                time = int(victim.disk.sync * self._random.uniform(0.3, 4))  # for its own disk to take it in
                self._world.schedule.after(time, partial(fall, victim, "alone"))
            else:
                fall(victim, f"before {boundary.value}")

        def fall(victim: Process, how: str) -> None:
            if not self._active:
                return
            victim.die(self._random.random() < 0.5, f"leading, {how}, {deaths} more to come")
            pause = self._random.choice((0, 1, 3, 8)) * self._world.options.core.lease + 1
            self._world.schedule.after(pause, partial(rise, victim))

        def rise(victim: Process) -> None:
            self._world.network.mend()
            self._start(victim)
            arm()

        def arm() -> None:
            if self._active and deaths > 0 and self._world.schedule.now < until:
                for process in self._running():
                    kinds, passing, ripe, alone = self._random.choice(FATAL)
                    passed = self._random.randrange(passing + 1)
                    process.fuse = Fuse(kinds, passed, partial(strike, process, alone), ripe)

        arm()
        return True

    def _seclude(self, victim: Process) -> None:
        """Nobody hears a member any more, but for fewer than would make a majority with it."""
        others = [member for member in self._members() if member != victim.member]
        deaf = self._random.sample(others, len(others) - self._random.randrange((len(others) + 1) // 2))
        self._world.network.separate([victim.member], deaf)

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

    def _flip(self) -> bool:
        """Bits rot on a disk while its machine is down."""
        victim = self._victim()
        if victim is None or not self._upkeep.may_harm(victim.member):
            return False
        files = victim.disk.files
        victim.die(False, "to be damaged")
        names = [n for n in files.names(DIRECTORY) if n != "lock" and files.content(f"{DIRECTORY}/{n}")]
        for _ in range(self._random.choice((1, 1, 3))):
            path = f"{DIRECTORY}/{self._random.choice(names)}"
            content = files.content(path)
            used = len(content.rstrip(b"\0")) or 1
            files.flip(path, self._random.randrange(used), 1 << self._random.randrange(8))
        self._upkeep.damaged(victim.member)
        self._later(0.05, 1.0, partial(self._start, victim))
        return True

    def _wipe(self) -> bool:
        """A disk is replaced by an empty one: the member may not vote any more, whatever it says. Where all the others
        have met it or know it from the log, it is started again under its old name, and they must not be taken in."""
        victim = self._victim()
        if victim is None or not self._upkeep.may_harm(victim.member):
            return False
        disk = victim.disk.identity
        known = all(
            disk in (process.disk.met.get(victim.member), process.alive and process.node.host.disk(victim.member))
            for process in self._world.processes.values()
            if process is not victim
        )
        victim.die(True, "disk lost")
        self._upkeep.lost(victim.member)
        if known and self._random.random() < 0.5:
            victim.replace_disk()
            self._later(0.05, 1.0, partial(self._start, victim))
        else:
            victim.stage = Stage.UNUSABLE
        return True

    # ---------------------------------------------------------------- membership and leadership

    def _membership(self) -> bool:
        """A member joins, leaves, or loses its vote for a while."""
        leader = self._world.leader()
        if leader is None or not self._upkeep.well:
            return False
        members = leader.node.core.configuration.members
        voters = [member for member in members if member.role is Role.VOTER]
        if len(members) <= self._world.size:
            self._upkeep.join()
            return True
        if len(voters) <= 3 and len(members) == len(voters):
            return False
        kind = self._random.choice((ChangeKind.REMOVE, ChangeKind.REMOVE, ChangeKind.DEMOTE))
        return self._upkeep.change(kind, self._random.choice(voters))

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
