"""One replica's process on one simulated machine: the real node, journal and snapshots, driven turn by turn.

What a driver owes the core (see :mod:`..paxos.ready`) is done here one *effect* at a time: the append, each packet to a
peer, each packet to a client, the write, the sync, what was waiting for it. Before every one of them the process can be
made to die, or to be stopped for a while, so that every boundary between two effects is a place where a crash happens.

Disk writes take simulated time, during which the process goes on. A process that dies leaves its disk as a real one
would be found: after a kill with everything that it wrote, after a power cut with what was synced and some part of what
was not. A stopped process does nothing, while its clock and its disk go on; what arrives meanwhile is read in one
burst.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..applied import Applied
from ..machine import Origin
from ..node import Node
from ..node_messages import AnyMessage, Renewed
from ..paxos.ballot import MemberId
from ..paxos.messages import Accept, Accepted, Beaten, Commit, Heartbeat, Prepare, Promise, Sender, Vouched
from ..paxos.options import NEVER
from ..paxos.quorum import Configuration
from ..paxos.ready import NOTHING, Ready, Send, joined
from ..server.replica import greeting_of
from ..storage.errors import JournalFailed, JournalFull, StorageError
from ..storage.memory import Crash, MemoryFileSystem
from ..storage.recovery import recover
from ..system import SESSIONS
from ..wire.batch import pack_request
from ..wire.formats import Greeting
from .clock import MILLISECOND, Clock
from .lifecycle import Boundary, Stage
from .port import Port
from .run import Run, Waiting
from .snapshotting import Snapshotting
from .witnessing import greets, witness_of

if TYPE_CHECKING:
    from ..paxos.replica import Replica
    from .world import World

DIRECTORY: Final = "/replica"
EPOCH_MS: Final = 1_700_000_000_000
"""What the time of day was at true time 0."""

TURN: Final = 80
"""Microseconds between the arrival of something and the end of the turn that takes it in."""
QUIET: Final = (Accepted, Beaten, Commit, Heartbeat, Vouched)
"""Messages for the core that need no turn if they stir nothing."""
VOTES: Final = (Accepted, Promise)
"""Messages that say what is on the sender's disk."""
WATCHED: Final = (Renewed, Vouched)
"""Messages that the watch hears of when they are sent."""
RETRY_FULL: Final = 200 * MILLISECOND
"""How soon a write is tried again after the disk was full."""


class Packet(NamedTuple):
    """What one turn says to one member. `run` is the receiver's process for which it was meant: packets do not outlive
    their connection. `greeting` is how the connection began. `messages` are values, or one string of frames."""

    sender: Sender
    greeting: Greeting
    run: int
    messages: Sequence[AnyMessage] | bytes


class Fuse(NamedTuple):
    """After `passing` more boundaries of these kinds `strike` is called at the next, with the effect that does not
    happen now. Only boundaries at which the process is `ripe` count."""

    kinds: frozenset[Boundary]
    passing: int
    strike: Callable[[Boundary], None]
    ripe: Callable[[Replica], bool] | None = None


class Disk:
    """The disk of a member's machine. `sync`: the microseconds of a write and its sync."""

    def __init__(self, member: int, identity: bytes, random: Random, sync: int) -> None:
        self.member = MemberId(member)
        self.identity = identity
        self.files = MemoryFileSystem(random)
        self.witness: dict[str, bytes] = {}
        self.met: dict[int, bytes] = {}
        """The disks of the members with which it was ever in touch."""
        self.sync = sync


class Process:
    """See the module's text. `member` is its id; `clock` is its machine's."""

    def __init__(self, world: World, member: int, disk: Disk, clock: Clock, founding: Configuration) -> None:
        self.member = MemberId(member)
        self.disk = disk
        self.clock = clock
        self.stage = Stage.DOWN
        self.founding = founding
        self.run: Run | None = None
        self.intact = True
        """Whether its disk was good enough to vote when it started last."""
        self.fuse: Fuse | None = None
        self._world = world
        self._schedule = world.schedule
        self._inbox: dict[int, list[Callable[[], object]]] = {}  # by where it comes from
        self._wanted = False
        self._due = NEVER  # what the clock shows when the process looks at it next
        self._snapshots = Snapshotting(self, world)
        self._draining = False
        self._writing = False  # inside a call of the journal

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Start the process on its disk."""
        assert self.stage in (Stage.DOWN, Stage.UNUSABLE)
        world, fs = self._world, self.disk.files
        fs.before = None
        try:
            recovered = recover(
                fs,
                DIRECTORY,
                cell=world.cell,
                member=self.member,
                disk=self.disk.identity,
                founding=self.founding,
                segment_size=world.options.segment_size,
            )
        except JournalFailed as error:
            world.trace(self.member, "cannot start now: %s", error)
            fs.kill()
            return
        except StorageError as error:
            world.trace(self.member, "cannot use its disk: %s", error)
            self.stage = Stage.UNUSABLE
            fs.kill()
            return
        self.stage = Stage.RUNNING
        self.intact = recovered.state.intact
        origin = Origin(self.member, recovered.identity.incarnation)
        now = self.clock.read(world.schedule.now)
        host = world.new_host(self.member, origin)
        if recovered.snapshot is not None:
            host.restore(recovered.snapshots.chunks(recovered.snapshot.slot))
        world.watch.recovered(self.disk, recovered.state)
        world.watch.started(self.member, host)
        chance = world.random(f"core {self.member} {origin.incarnation}")
        core = world.new_core(self.member, origin.incarnation, recovered.state, chance, now)
        if recovered.snapshot is not None:
            core.compacted(recovered.snapshot.slot, recovered.snapshot.size)
        port = Port(self, world)
        node = Node(
            core,
            host,
            port,
            origin=origin,
            disk=self.disk.identity,
            new_host=lambda: world.new_host(self.member, origin),
            secret=world.random(f"secret {self.member}").randbytes(32),
            options=world.options.node,
            now=now,
        )
        greeting = greeting_of(recovered, world.random(f"run {self.member} {origin.incarnation}").randbytes(16))
        sender = Sender(self.member, origin.incarnation)
        self.run = Run(sender, recovered, node, port, greeting, witness_of(self.disk.witness))
        port.attach(node)
        state = recovered.state
        found = (state.promised, len(state.votes), state.chosen, state.snapshot)
        flaws = (f", damaged {sorted(state.damaged)}" if state.damaged else "") + (
            "" if self.intact else ", not intact"
        )
        line = "starts run %d: promised %s, %d votes, chosen %d, snapshot %d%s"
        world.trace(self.member, line, origin.incarnation, *found, flaws)
        self.want_turn()

    def die(self, power: bool, why: str) -> None:
        """The process ends at once: killed, or with its machine if `power`."""
        if self.stage is Stage.DOWN or self.stage is Stage.UNUSABLE:
            return
        world, run, fs = self._world, self.run, self.disk.files
        assert run is not None
        world.trace(self.member, "dies (%s)", why)
        random = world.random(f"death {self.member} {run.incarnation}")
        if run.writing is not None and not run.written and not self._writing:
            self._half_write(run, random)
        run.port.gone()
        self.stage = Stage.DOWN
        self.run = None
        self.fuse = None
        self._inbox.clear()
        self._due = NEVER
        fs.before = None
        if power:
            fs.crash(random)
        else:
            fs.kill()
        world.watch.stopped(self.member)

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does."""
        if self.stage is Stage.RUNNING:
            self.stage = Stage.PAUSED
            self._world.trace(self.member, "is stopped")

    def resume(self) -> None:
        """Let a stopped process go on, with all that has arrived meanwhile."""
        if self.stage is not Stage.PAUSED:
            return
        self.stage = Stage.RUNNING
        self._world.trace(self.member, "goes on")
        self._drain()
        if self.run is not None and self.run.written:
            self._report()
        inbox, self._inbox = self._inbox, {}
        inbox[self.member] = [self._read]
        sources = list(inbox)  # each has a connection of its own, and nobody knows which is read first
        self._world.shuffle(sources)
        for source in sources:
            for arrival in inbox[source]:
                self.arrives(source, arrival)
        self.want_turn()

    def probe(self, executed: Callable[[], None]) -> None:
        """Begin an update of no consequence here; `executed` is called when it is applied here."""
        body = pack_request("acknowledge", [[]])
        self.node.submit(SESSIONS, body, lambda _: executed())
        self.want_turn()

    def _read(self) -> None:
        """Ask for a linearizable index, for the watch to judge."""
        self.node.barrier(lambda _: None, self.now)

    @property
    def alive(self) -> bool:
        """Whether there is a process, running or stopped."""
        return self.run is not None

    @property
    def now(self) -> int:
        """What its clock shows."""
        return self.clock.read(self._schedule.now)

    @property
    def node(self) -> Node:
        assert self.run is not None, f"member {self.member} is down"
        return self.run.node

    # ---------------------------------------------------------------- turns

    def arrives(self, source: int, arrival: Callable[[], object]) -> None:
        """Something reached the process from that place: taken in now, or when it goes on. `arrival` returns True if it
        needs no turn."""
        if self.stage is Stage.RUNNING:
            if arrival() is not True:
                self.want_turn()
        elif self.stage is Stage.PAUSED:
            self._inbox.setdefault(source, []).append(arrival)

    def receive(self, packet: Packet) -> None:
        """A packet of another member."""
        run = self.run
        if run is None or packet.run != run.incarnation:
            return
        if self.stage is Stage.RUNNING:
            if not self._hear(packet):
                self.want_turn()
        else:
            self.arrives(packet.sender.member, partial(self._hear, packet))

    def _hear(self, packet: Packet) -> bool:
        """Take messages in; whether they changed nothing that anybody must be told now."""
        run = self.run
        assert run is not None
        sender, greeting, _, messages = packet
        if run.greeted.get(sender.member) is not greeting and not greets(self, run, greeting, self._world):
            return True
        if isinstance(messages, bytes):
            messages = self._world.decode(messages)
        node, now = run.node, self.clock.read(self._schedule.now)
        quiet = True
        for message in messages:
            node.receive(sender, message, now)
            kind = type(message)
            if kind not in QUIET:
                quiet = False
            if kind in VOTES:
                run.witness.hear(sender.member, message)  # type: ignore[arg-type]
        if not quiet or node.core.stirred:
            return False
        self._look_at(node.next_tick())
        return True

    def replace_disk(self) -> None:
        """The disk is lost; an empty one is in its place."""
        assert self.run is None
        random = self._world.random(f"another disk {self.member} {self._world.schedule.now}")
        self.disk = Disk(self.member, random.randbytes(16), random, self._world.options.sync)

    def want_turn(self) -> None:
        """Have a turn soon."""
        if not self._wanted:
            self._wanted = True
            self._schedule.after(TURN, self._wanted_turn)

    def _wanted_turn(self) -> None:
        self._wanted = False
        if self.stage is Stage.RUNNING:
            self._take_turn()

    def _look_at(self, due: int) -> None:
        """Look at the clock again when it shows `due`; a look that is already planned before that will do."""
        if due < self._due:
            self._due = due
            schedule = self._schedule
            schedule.at(max(schedule.now + TURN, self.clock.when(due)), self._look, due)

    def _look(self, due: int) -> None:
        if due != self._due:
            return  # an earlier look has taken its place
        self._due = NEVER
        run = self.run
        if self.stage is not Stage.RUNNING or run is None:
            return
        due = run.node.next_tick()
        if due > self.now:
            self._look_at(due)
        else:
            self._take_turn()

    def _take_turn(self) -> None:
        run = self.run
        assert run is not None
        node, world = run.node, self._world
        true = world.schedule.now
        now = self.clock.read(true)
        ready = node.turn(now, EPOCH_MS + true // 1000)
        port = run.port
        if port.leaving is not NOTHING:
            ready = joined(port.leaving, ready)
            port.leaving = NOTHING
        if ready is not NOTHING:
            self._carry_out(run, ready)
        if self.run is run:
            port.flush()
        if self.run is not run:
            return
        if node.snapshot_due and self._snapshots.may_take(run):
            self._snapshots.take(run)
        core = node.core
        if core.leader == self.member:
            if core.ballot != run.led:
                run.led = core.ballot
                self._read()  # at the worst moment: what was chosen under the ballots before is not known yet
            world.watch.leading(self, core, now)
        self._look_at(node.next_tick())

    def _carry_out(self, run: Run, ready: Ready) -> None:
        """Cause the effects of a Ready, in their order."""
        messages, records, _, after, _, _, requests, chunks = ready
        if records or after:
            self.cause(run, Boundary.APPEND, self._append, run, ready)
        if messages:
            self.send(run, None, messages)
        for request in requests:
            self.cause(run, Boundary.SNAPSHOT, self._snapshots.serve, run, request.to, request.fetch)
        for chunk in chunks:
            self.cause(run, Boundary.SNAPSHOT, self._snapshots.arrived, run, chunk)

    def send(self, run: Run, boundary: Boundary | None, sends: Iterable[Send]) -> None:
        """One packet for each receiver. Without a `boundary`: the one before proposals or before other messages."""
        by_receiver: dict[MemberId, list[AnyMessage]] = {}
        proposes = False
        for to, message in sends:
            if to in by_receiver:
                by_receiver[to].append(message)
            else:
                by_receiver[to] = [message]
            if type(message) is Accept:
                proposes = True
            elif isinstance(message, WATCHED):
                self._watched(run, message)
        if boundary is None:
            boundary = Boundary.PROPOSE if proposes else Boundary.SEND
        world = self._world
        processes, wire, send = world.processes, world.options.wire, world.network.send
        for to, messages in by_receiver.items():
            receiver = processes.get(to)
            if receiver is not None and receiver.run is not None:
                content = world.encode(messages) if wire else messages
                packet = Packet(run.sender, run.greeting, receiver.run.incarnation, content)
                self.cause(run, boundary, send, self.member, to, packet)

    def _watched(self, run: Run, message: Renewed | Vouched) -> None:
        watch = self._world.watch
        if isinstance(message, Renewed):
            watch.refused(self.member, message.lost, run.node.host)
        else:
            watch.count("vouched to a lone client's member" if message.alone else "vouched")

    def cause(self, run: Run, boundary: Boundary, effect: Callable[..., object], *args: Any) -> None:
        """Have `effect(*args)` happen, behind everything that was caused before it, if the process lives so long and is
        not stopped or struck before."""
        if self.fuse is None and not run.effects and self.run is run:
            effect(*args)  # nothing can come between
            return
        run.effects.append((boundary, effect, args))
        self._drain()

    def _drain(self) -> None:
        """Carry out effects one by one, for as long as the process lives and is not stopped."""
        run = self.run
        if run is None or self._draining:
            return
        self._draining = True
        try:
            while run.effects and self.stage is Stage.RUNNING and self.run is run:
                boundary, effect, args = run.effects[0]
                if self.boundary(boundary):
                    continue
                run.effects.popleft()
                effect(*args)
        finally:
            self._draining = False

    def boundary(self, boundary: Boundary) -> bool:
        """Whether something happened here instead of the effect."""
        fuse = self.fuse
        if fuse is None or boundary not in fuse.kinds:
            return False
        if fuse.ripe is not None and not (self.run is not None and fuse.ripe(self.run.node.core)):
            return False
        if fuse.passing > 0:
            self.fuse = fuse._replace(passing=fuse.passing - 1)
            return False
        self.fuse = None
        self._world.watch.struck(boundary)
        fuse.strike(boundary)
        return True

    # ---------------------------------------------------------------- the journal

    def _append(self, run: Run, ready: Ready) -> None:
        if ready.records:
            run.journal.append(ready.records)
            run.gathered.extend(ready.records)
            run.upto = ready.upto
        run.waiting.append(Waiting(run.journal.last, run.upto, ready.after))
        if run.writing is None:
            self._write(run)

    def _write(self, run: Run) -> None:
        """Begin to write what has gathered."""
        run.writing = run.journal.seal()
        run.records, run.gathered = run.gathered, []
        run.written = False
        if run.writing is None:
            self._release(run)
            return
        self._world.schedule.after(self._world.disk_time(self.disk), self._disk_done, run)

    def _disk_done(self, run: Run) -> None:
        """The disk is done with the write, whether or not the process looks."""
        if self.run is not run or run.writing is None:
            return
        fs = self.disk.files
        if self.fuse is not None and self.stage is Stage.RUNNING:
            fs.before = self._disk_boundary
        self._writing = True
        try:
            run.journal.write(run.writing)
        except Crash:
            if self.run is run:  # a torn write: the machine is gone
                self.die(True, "power cut during a write")
            return
        except JournalFull as error:
            self._world.trace(self.member, "disk full: %s", error)
            self._world.watch.count("disk full")
            self._world.schedule.after(RETRY_FULL, self._disk_done, run)
            return
        except JournalFailed as error:
            self._world.watch.count("disk failed")
            self._world.trace(self.member, "disk failed: %s", error)
            run.writing = None
            self._world.disk_failed(self)
            return
        finally:
            fs.before = None
            self._writing = False
        self._world.watch.durable(self.disk, run.records)
        run.written = True
        if self.stage is Stage.RUNNING:
            self._report()

    def _disk_boundary(self, effect: str, path: str) -> None:
        boundary = {"write": Boundary.WRITE, "datasync": Boundary.SYNC}.get(effect)
        if boundary is not None and self.boundary(boundary) and self.stage is not Stage.RUNNING:
            if self.stage is Stage.PAUSED:
                return  # the system call ends although the process stands still
            raise Crash(path)

    def _report(self) -> None:
        """Tell the core what is durable, let leave what waited for it, and write what has gathered meanwhile."""
        run = self.run
        assert run is not None
        run.written = False
        run.writing = None
        self.cause(run, Boundary.REPORT, self._release, run)
        if self.run is run and self._world.spare_moment():
            self._maintain(run)
        if not run.journal.failed:
            self.cause(run, Boundary.APPEND, self._write, run)

    def _release(self, run: Run) -> None:
        durable, waiting = run.journal.durable, run.waiting
        upto = -1
        sends: list[Send] = []
        while waiting and waiting[0].record <= durable:
            upto = waiting[0].upto
            sends.extend(waiting.popleft().after)
        if upto < 0:
            return
        run.node.persisted(upto, self.now)
        for _, message in sends:
            if type(message) is Prepare:
                self._world.watch.prepares(self.member, run.incarnation, message.ballot)
        if sends:
            self.send(run, Boundary.SEND_AFTER, sends)
        if run.node.core.stirred:
            self.want_turn()

    def _maintain(self, run: Run) -> None:
        """What a driver does when the disk has nothing better to do."""
        try:
            run.journal.settle()
            run.journal.prepare()
        except JournalFull:
            pass
        except JournalFailed as error:
            self._world.trace(self.member, "disk failed: %s", error)
            self._world.disk_failed(self)

    def _half_write(self, run: Run, random: Random) -> None:
        """The process dies while the disk writes: some of it has reached the page cache."""
        assert run.writing is not None
        fs = self.disk.files
        chance = random.random()
        if chance < 0.3:
            return
        if chance < 0.6:
            fs.faults.torn_write = random.randrange(run.writing.size + 1)
        else:

            def before(effect: str, path: str) -> None:
                if effect == "datasync":
                    raise Crash(path)

            fs.before = before
        try:
            run.journal.write(run.writing)
        except (Crash, JournalFull, JournalFailed):
            pass
        else:
            self._world.watch.durable(self.disk, run.records)
        fs.faults.torn_write = None
        fs.before = None
        self._world.watch.count("deaths during a write")

    # ---------------------------------------------------------------- for the port

    def applied(self, applied: Applied) -> None:
        self._world.watch.batch(self.member, applied)
