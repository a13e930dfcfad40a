"""A whole run from one number: a cell, its clients, faults, healing, and the verdict.

A run has the two phases of Chandra, Griesemer and Redstone ("Paxos Made Live", PODC 2007, section 6): first *safety*,
with faults, in which the cell may stand still but must not do anything wrong; then everything is healed and *liveness*
is asked for (:mod:`.liveness`), in the two senses of Kirsch and Amir, and in that every client's operation ends.

Everything is drawn from the seed: the cell's size and times, the clients and their jobs, the kinds of fault, and every
coin thrown on the way. The same seed gives the same run, event by event.
"""

from __future__ import annotations

import enum
import traceback
from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Final, NamedTuple

from ..machine import StateMachine
from ..node_options import Options as NodeOptions
from ..paxos.replica import Options as CoreOptions
from ..storage.memory import Crash
from ..wire.native import Consistency
from .checkers import BY_CLOCKS
from .clients import Asked, Client, History
from .clock import MILLISECOND, SECOND, Clock
from .door import FIRST_PLACE, Task, clock_of
from .faults import Fault, Plan
from .linearizability import Verdict, linearizable
from .liveness import Liveness
from .nemesis import Nemesis
from .sessionless import MACHINE as SESSIONLESS_MACHINE
from .sessionless import Sessionless
from .violation import Violation
from .workload import JOBS, MODELS, READS, without_clocks
from .world import Options, World, endpoint

DRIFT_PPM: Final = 20_000
BEYOND_PPM: Final = 1_000_000
"""Drift beyond the bound: the slowest clock at half the speed, the fastest at one and a half."""
LOADED_WITHIN: Final = 5 * SECOND
BUSY_PAUSE: Final = 0.06
BUSY_TIMEOUT: Final = 8.0
JOBS_END_WITHIN: Final = 40 * SECOND


class Mode(enum.Enum):
    """What kind of cell a seed makes, and what is done to it."""

    SWARM = "swarm"
    """Everything drawn at random: sizes, times, and a subset of the kinds of fault."""
    DEPLOYED = "deployed"
    """Five replicas and twenty clients with the times of the defaults, and such troubles."""
    RESTLESS = "restless"
    """A short lease and little log, and one to three kinds of fault that strike again and again: many elections,
    restarts and snapshots in little time."""
    BEYOND = "beyond"
    """As the swarm, with clocks that drift far beyond the bound: see what that breaks, and that nothing else does."""


class Settings(NamedTuple):
    """Everything about a run that is decided before it begins. Times in seconds unless said otherwise.

    `pause` lies between two operations of one job, of which each client has one for each machine, unless all ask at
    the same times, every `beat` microseconds. `busy` clients more do nothing but read and write one register, all the
    time, and stay where they are: they see what is stale. `delay`: microseconds that a message takes at least.
    `faulty` is the least length of the safety phase. `tolerated` promises may be broken, because the clocks are wrong.
    """

    seed: int
    plan: Plan
    replicas: int = 3
    clients: int = 5
    busy: int = 0
    operations: int = 200
    pause: float = 0.5
    beat: int = 0
    keys: int = 3
    reads: float = 0.4
    session_timeout: float = 3.0
    faulty: float = 10.0
    delay: int = 150
    drift_ppm: int = 0
    wire: bool = False
    tolerated: tuple[str, ...] = ()
    options: Options = Options()
    mode: Mode = Mode.SWARM

    @classmethod
    def of(cls, mode: Mode, seed: int) -> Settings:
        """The settings of a seed in a mode."""
        if mode is Mode.DEPLOYED:
            settings = cls.deployed(seed)
        elif mode is Mode.RESTLESS:
            settings = cls.restless(seed)
        else:
            settings = cls.draw(seed)
        if mode is Mode.BEYOND:
            kinds = {*settings.plan.kinds, Fault.DRIFT, Fault.ISOLATE}
            plan = settings.plan._replace(kinds=tuple(kind for kind in Fault if kind in kinds))
            settings = settings._replace(plan=plan, drift_ppm=BEYOND_PPM, tolerated=BY_CLOCKS)
        return settings._replace(mode=mode)

    @classmethod
    def draw(cls, seed: int) -> Settings:
        """The settings of a seed."""
        random = Random(f"settings {seed}")
        plan = Plan.draw(random)
        lease = random.choice((100, 200, 400, 800)) * MILLISECOND
        core = CoreOptions(
            lease=lease,
            heartbeat=lease // 8,
            drift_ppm=DRIFT_PPM,
            campaign_spread=random.choice((lease // 8, lease // 4)),
            window=random.choice((1, 3, 8)),
            fetch_limit=random.choice((600, 4_000, 1 << 20)),
            promise_limit=random.choice((500, 5_000, 1 << 20)),
            retained=random.choice((0, 4_000, 1 << 20)),
            apply_limit=Random(f"portions {seed}").choice((600, 1 << 20, 1 << 20)),
        )
        node = NodeOptions(
            batch=random.choice((100, 400, 1 << 20)),
            digest_every=random.choice((16, 64)),
            snapshot_slots=random.choice((20, 40, 100)),
        )
        sync = random.choice((150, 300, 2_000, 8_000))
        clients = random.choice((0, 3, 4, 5, 6, 7, 12, 19))  # and the one that loads the machines
        options = Options(core, node, random.choice((1 << 13, 1 << 16)), sync, random.random() < 0.15)
        return cls(
            seed,
            plan,
            replicas=random.choice((3, 3, 5)),
            clients=clients,
            busy=random.choice((0, 0, 0, 2)),
            pause=max(clients, 1) * random.choice((0.1, 0.15, 0.2)),
            beat=int(random.choice((0, 0, 0.06, 0.1)) * clients * SECOND),
            delay=random.choice((150, 150, 1_000, 4_000)),
            keys=random.choice((1, 2, 3)) + clients // 6,
            reads=random.choice((0.2, 0.4, 0.7)),
            session_timeout=random.choice((2.0, 4.0, 8.0)),
            faulty=random.choice((5.0, 7.0, 10.0)) * (0.5 if plan.every < 1 else 1),
            drift_ppm=DRIFT_PPM if Fault.DRIFT in plan.kinds else 0,
            options=options,
        )

    @classmethod
    def restless(cls, seed: int) -> Settings:
        """As drawn, but with short times, and with few kinds of fault that hardly ever rest."""
        random = Random(f"restless {seed}")
        drawn = cls.draw(seed)
        lease = 100 * MILLISECOND
        slots, retained = random.choice(((3, 0), (10, 0), (100, 1 << 20)))
        core = drawn.options.core._replace(
            lease=lease, heartbeat=lease // 8, campaign_spread=lease // 8, retained=retained
        )
        node = drawn.options.node._replace(snapshot_slots=slots)
        options = drawn.options._replace(core=core, node=node, sync=random.choice((300, 2_000, 20_000)))
        return drawn._replace(
            plan=Plan.restless(random),
            replicas=random.choice((3, 3, 5)),
            faulty=5.0,
            drift_ppm=0,
            options=options,
        )

    @classmethod
    def deployed(cls, seed: int) -> Settings:
        """A cell as people run it: five replicas and twenty clients with the times of the defaults, three operations a
        second, and troubles seconds apart; only snapshots are more frequent than in a deployed cell."""
        random = Random(f"deployed {seed}")
        plan = Plan.draw(random)._replace(every=random.choice((8.0, 16.0)), lasting=1.0)
        node = NodeOptions(digest_every=128, snapshot_slots=random.choice((50, 100)))
        options = Options(node=node, segment_size=1 << 16)
        drift = DRIFT_PPM if Fault.DRIFT in plan.kinds else 0
        return cls(
            seed,
            plan,
            replicas=5,
            clients=19,  # and the one that loads the machines
            operations=220,
            pause=10.0,
            keys=9,
            session_timeout=10.0,
            faulty=50.0,
            drift_ppm=drift,
            options=options,
        )


class Report(NamedTuple):
    """How a run went that kept every promise. Times in seconds."""

    settings: Settings
    simulated: float
    events: int
    operations: int
    outcomes: Mapping[str, int]
    faults: Mapping[Fault, int]
    counts: Mapping[str, int]
    boundaries: Mapping[str, int]
    leaders: int
    changes_of_leader: int
    slots: int
    recovered_in: float
    fingerprint: str


class Failed(AssertionError):
    """A promise was broken. The message has all that is needed to see it again."""

    def __init__(self, simulation: Simulation, cause: BaseException, trace_lines: int = 60) -> None:
        self.settings = simulation.settings
        self.cause = cause
        self.promise = cause.promise if isinstance(cause, Violation) else type(cause).__name__
        """Which one, as the checkers name it; the kind of the exception if it was none of theirs."""
        self.trace = simulation.world.trace_tail()
        frames = "".join(traceback.format_exception(cause)[-6:])
        tail = "\n".join(self.trace[-trace_lines:])
        mode = "" if self.settings.mode is Mode.SWARM else f" --mode {self.settings.mode.value}"
        super().__init__(
            f"seed {self.settings.seed} at {simulation.world.schedule.now / SECOND:.6f} s: {cause}\n"
            f"settings: {self.settings}\n"
            f"to see it again: python -m quorate.kernel.testing.simulate --seed {self.settings.seed}{mode} --trace\n"
            f"{frames}\nlast of the trace:\n{tail}"
        )


class Simulation:
    """One run. Make it, call :meth:`run` once."""

    def __init__(self, settings: Settings | int, machines: Mapping[str, type[StateMachine]]) -> None:
        """`settings`: or just a seed. `machines`: what the cell shall run, by name; jobs are known for those of
        :data:`.workload.JOBS`."""
        self.settings = Settings.draw(settings) if isinstance(settings, int) else settings
        s = self.settings
        self.world = World(f"run {s.seed}", machines, s.replicas, s.options)
        for process in self.world.processes.values():
            process.clock = self.clock(f"member {process.member}")
        self.world.watch.tolerated = s.tolerated
        self.history = History()
        self.liveness = Liveness(self.world)
        self.clients: list[Client] = []
        self.sessionless = Sessionless(self.world, self.history, s.keys, s.pause)
        self.over = False
        self.session_timeout = s.session_timeout
        self.beat = s.beat
        self.under_way = 4 * s.delay + 3 * s.options.sync + 3_000
        """Microseconds after a beat during which most of what was asked is under way."""
        weather = self.world.network.weather
        self.world.network.weather = weather._replace(delay=s.delay, jitter=s.delay)
        self.nemesis = Nemesis(self, s.plan)
        self._machines = sorted(machines)
        self._places = FIRST_PLACE
        self._jobs: list[Task[None]] = []
        self._random = self.world.random("simulation")
        self.recovered_in = 0

    def clock(self, purpose: str) -> Clock:
        """A machine's clock."""
        return clock_of(self.world.random(f"clock {purpose}"), self.settings.drift_ppm)

    # ---------------------------------------------------------------- the run

    def run(self) -> Report:
        """Run it.

        Raises:
            Failed: with seed, settings and trace.
        """
        try:
            self._boot()
            self._safety()
            self._liveness()
            self._judge()
        except (Exception, Crash) as error:
            raise Failed(self, error) from error
        return self._report()

    def _boot(self) -> None:
        """Start the cell and load the machines, in fair weather."""
        self.world.start()
        client = self._new_client()
        loaded = client.door.spawn(self._load(client))
        self.liveness.until(lambda: loaded.done, LOADED_WITHIN, "L1", "the machines are not loaded")
        for _ in range(self.settings.clients):
            self._put_to_work(self._new_client())
        self._put_to_work(client)
        if SESSIONLESS_MACHINE in self._machines and self.settings.clients:  # a lone client is alone
            self.sessionless.begin()
        for _ in range(self.settings.busy):
            busy = self._new_client(BUSY_TIMEOUT)
            busy.keys, busy.reads, busy.beat = 1, 0.7, 0
            self._jobs.append(busy.door.spawn(JOBS["registers"](busy, BUSY_PAUSE)))

    async def _load(self, client: Client) -> None:
        session = await client.open()
        for name in self._machines:
            while True:
                try:
                    await session.call("plugins", "load", name, name)
                    break
                except Exception as error:
                    self.world.trace(client.place, "loading %s: %s", name, error)
                    await client.door.sleep(0.05)

    def _safety(self) -> None:
        """Faults: anything may happen, nothing may be wrong."""
        schedule, settings = self.world.schedule, self.settings
        self.nemesis.begin()
        begun = schedule.now
        least, most = begun + int(settings.faulty * SECOND), begun + int(2 * settings.faulty * SECOND)
        while schedule.now < least or (self._done() < settings.operations and schedule.now < most):
            schedule.run_until(schedule.now + SECOND)

    def _liveness(self) -> None:
        """No faults any more: everything must come to its end."""
        live = self.liveness
        self.nemesis.heal()
        self.recovered_in = live.leader()
        live.progress()
        live.replication()
        enough = self.settings.operations
        live.until(lambda: self._done() >= enough, JOBS_END_WITHIN, "completion", f"fewer than {enough} operations end")
        live.until(self.nemesis.well, JOBS_END_WITHIN, "replacement", "a member that lost its memory is still there")
        self.sessionless.stop()
        for client in self.clients:
            client.stop()
        within = JOBS_END_WITHIN + int(8 * self.settings.pause * SECOND)  # for those that hold a lock meanwhile
        live.until(self._jobs_ended, within, "completion", "an operation does not end")
        self.over = True

    def _judge(self) -> None:
        """Read everything once more, compare the members, and judge what clients saw."""
        world = self.world
        reader = self._new_client()
        read = reader.door.spawn(self._read_all(reader))
        self.liveness.until(lambda: read.done, JOBS_END_WITHIN, "completion", "the last reads do not end")
        world.schedule.run_until(world.schedule.now + SECOND)
        self.sessionless.finish()
        for client in self.clients:
            client.finish()
        self.liveness.quiet()
        for name, operations in sorted(self.history.operations.items()):
            if self.settings.tolerated:
                operations = [without_clocks(each) for each in operations if each.name not in READS]
            judgement = linearizable(operations, MODELS[name])
            if judgement.verdict is Verdict.UNDECIDED:
                world.watch.count("undecided histories")
            elif not judgement:
                raise Violation("linearizable", f"history of {name}: {judgement}")

    async def _read_all(self, client: Client) -> None:
        for key in range(self.settings.keys):
            for model, name, machine in (("register", "r", "registers"), ("count", "c", "counters")):
                if machine in self._machines:
                    question = "get" if model == "register" else "total"
                    asked = Asked(model, f"{name}{key}", question, ())
                    await client.query(asked, Consistency.READ_INDEX, machine, "get", f"{name}{key}")

    # ---------------------------------------------------------------- clients

    def _new_client(self, timeout: float | None = None) -> Client:
        place, self._places = self._places, self._places + 1
        settings = self.settings
        client = Client(
            self.world,
            place,
            self.clock(f"client {place}"),
            self.history,
            [endpoint(member) for member in self.world.processes],
            {"timeout": timeout or settings.session_timeout, "grace": 3.0, "drift": DRIFT_PPM / 1_000_000},
        )
        client.keys, client.reads, client.beat = settings.keys, settings.reads, settings.beat
        self.clients.append(client)
        return client

    def _put_to_work(self, client: Client) -> None:
        for name in self._machines:
            if name in JOBS:
                self._jobs.append(client.door.spawn(JOBS[name](client, self.settings.pause)))

    def replace_client(self, client: Client) -> None:
        """A client is killed, another takes its place."""
        self.world.trace(client.place, "client dies")
        client.end()
        self.clients.remove(client)
        self._jobs = [job for job in self._jobs if not job.orphaned]
        self._put_to_work(self._new_client())

    # ---------------------------------------------------------------- inside

    def _jobs_ended(self) -> bool:
        """Whether every job came to its end; those that did are not looked at again."""
        jobs = self._jobs
        while jobs and jobs[-1].done:
            jobs.pop()
        return not jobs

    def _done(self) -> int:
        return self.history.outcomes["done"]

    def _report(self) -> Report:
        world = self.world
        traffic = world.network.traffic
        faults = Counter(self.nemesis.struck)
        for kind, number in (
            (Fault.LOSS, traffic.lost),
            (Fault.DOUBLE, traffic.doubled),
            (Fault.OVERTAKE, traffic.overtaken),
            (Fault.LATE, traffic.late),
        ):
            if kind in self.settings.plan.kinds and number:
                faults[kind] = number
        for kind in (Fault.SLOW, Fault.DRIFT):
            if kind in self.settings.plan.kinds:
                faults[kind] = 1
        return Report(
            self.settings,
            world.schedule.now / SECOND,
            world.schedule.happened,
            self._done(),
            dict(self.history.outcomes),
            dict(faults),
            dict(world.watch.counts),
            {boundary.value: number for boundary, number in world.watch.boundaries.items()},
            len(world.watch.leaders),
            world.watch.changes_of_leader,
            world.watch.frontier,
            self.recovered_in / SECOND,
            world.fingerprint(),
        )
