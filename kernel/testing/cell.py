"""A whole cell in memory, for tests of machines and of code that uses them: no server, no sockets, no waiting.

::

    with Cell(Tally) as cell:
        session = cell.session()
        assert session.call("tally", "add", "x", by=2) == 2
        cell.crash(cell.leader)
        assert session.call("tally", "add", "x") == 3       # the others have elected a leader
        cell.expire(session)                                # its client stood still for too long

Everything is real (consensus, journal, snapshots, sessions, the client library) except for the clock, the disks, and
the network, which are simulated: time passes only while something is waited for, as fast as the computer can, and a run
is the same each time. Every promise of the kernel is watched all the while (see :mod:`.checkers`); a broken one raises
:class:`.checkers.Violation` out of whatever was called.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ..client.errors import MachineHalted, TicketEnded
from ..client.live import Session, open_session
from ..client.outputs import Gap
from ..client.states import State
from ..machine import Plain, Refusal, StateMachine
from ..wire.native import Consistency
from .clock import MILLISECOND, SECOND, Clock
from .door import FIRST_PLACE, Cancelled, SimulatedDoor, Task
from .lifecycle import Stage
from .process import Process
from .world import World, endpoint

T = TypeVar("T")

WITHIN: Final = 60.0
"""Simulated seconds after which something that was waited for is given up."""
SESSION_TIMEOUT: Final = 10.0


class NoAnswer(AssertionError):
    """Nothing came within the simulated time allowed. In a cell without a majority that is as it should be."""


class Waiting:
    """A command on its way, or a wait that it began. Time passes only in :meth:`result` and in calls on the cell."""

    def __init__(self, cell: Cell, task: Task[Plain]) -> None:
        self._cell = cell
        self._task = task

    @property
    def done(self) -> bool:
        """Whether the outcome is there."""
        return self._task.done

    def result(self, within: float = WITHIN) -> Any:
        """Let time pass until the outcome is there; the result, or what it raises. Raises NoAnswer."""
        self._cell.wait_until(lambda: self._task.done, within)
        return self._cell.outcome(self._task)


class CellSession:
    """One client's session. `live` is the real one, for recipes and coroutines; see :meth:`Cell.run`."""

    def __init__(self, cell: Cell, door: SimulatedDoor, live: Session, timeout: float) -> None:
        self.live = live
        self.timeout = timeout
        self.door = door
        self._cell = cell
        self._events: dict[str, list[Plain | Gap]] = {}

    @property
    def id(self) -> int:
        return self.live.id

    @property
    def state(self) -> State:
        return self.live.state

    def lease_left(self) -> float:
        """Seconds for which the client is sure that the session lives."""
        return self.live.lease_left()

    def call(self, machine: str, command: str, /, *args: Plain, within: float = WITHIN, **named: Plain) -> Any:
        """Have a command applied, and wait for its result; if it waits in the machine, for the end of that.

        Raises:
            Refusal: the machine said no.
            NoAnswer: nothing came within `within` simulated seconds.
            QuorateError: see :mod:`quorate.kernel.client.errors`.
        """
        return self.begin(machine, command, *args, **named).result(within)

    def begin(self, machine: str, command: str, /, *args: Plain, **named: Plain) -> Waiting:
        """Have a command applied without waiting for it."""
        return Waiting(self._cell, self.door.spawn(self.live.call(machine, command, *args, timeout=None, **named)))

    def query(
        self,
        machine: str,
        query: str,
        /,
        *args: Plain,
        consistency: Consistency = Consistency.LEASE,
        within: float = WITHIN,
        **named: Plain,
    ) -> Any:
        """Ask a machine; linearizable unless `consistency` says otherwise. Raises as :meth:`call`."""
        asking = self.live.query(machine, query, *args, consistency=consistency, timeout=None, **named)
        return Waiting(self._cell, self.door.spawn(asking)).result(within)

    def listen(self, machine: str) -> list[Plain | Gap]:
        """A list to which what the machine publishes to this session is added, from now on."""
        if machine not in self._events:
            events: list[Plain | Gap] = []
            self._events[machine] = events
            self.live.listen(machine, events.append)
        return self._events[machine]

    def close(self) -> None:
        """End the session, in the cell too."""
        Waiting(self._cell, self.door.spawn(self.live.close())).result()


class Cell:
    """A cell that runs machines of these classes under their own names. Replicas are counted from 0.

    Use it in a ``with`` statement; at its end the replicas are compared once more.

    Args:
        replicas: how many (3 or 5 as a rule).
        seed: another seed gives another order of events.
        lossy: what part of the messages between replicas is lost.
    """

    def __init__(
        self, *machines: type[StateMachine], replicas: int = 3, seed: int | str = 0, lossy: float = 0.0
    ) -> None:
        self.world = World(f"cell {seed}", {kind.name: kind for kind in machines}, replicas)
        self.world.network.weather = self.world.network.weather._replace(loss=lossy)
        self._machines = [kind.name for kind in machines]
        self._places = FIRST_PLACE
        self._errors: list[Exception] = []

    def __enter__(self) -> Self:
        self.world.start()
        operator = self.session()
        for name in self._machines:
            self._load(operator, name)
        operator.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.heal()
            for index in range(len(self._processes())):
                self.resume(index)
                self.restart(index)
            self.settle()

    # ---------------------------------------------------------------- clients

    def session(self, timeout: float = SESSION_TIMEOUT) -> CellSession:
        """A new client with a session that may be silent for `timeout` seconds."""
        place, self._places = self._places, self._places + 1
        door = SimulatedDoor(
            self.world, place, Clock(self.world.random(f"clock {place}").randrange(1 << 40)), self._failed
        )
        members = [endpoint(process.member) for process in self._processes()]
        random = self.world.random(f"client {place}")
        opening = open_session(door, members, random, WITHIN, {"timeout": timeout, "grace": timeout})
        task = door.spawn(opening)
        self.wait_until(lambda: task.done, WITHIN)
        return CellSession(self, door, task.result(), timeout)

    def expire(self, session: CellSession) -> None:
        """Let the client stand still until the cell has expired its session; then it goes on, and learns it."""
        session.door.pause()
        self.wait_until(lambda: not self._known(session.id), 10 * session.timeout + WITHIN)
        session.door.resume()
        self.wait_until(lambda: session.state.final, 10 * session.timeout + WITHIN)

    def stall(self, session: CellSession, seconds: float) -> None:
        """Let the client stand still for a while, as a long collection of garbage or a SIGSTOP does."""
        session.door.pause()
        self.advance(seconds)
        session.door.resume()

    def run(self, coroutine: Coroutine[Any, Any, T], session: CellSession, within: float = WITHIN) -> T:
        """Run a coroutine in the process of `session`'s client: the way to test recipes,
        ``cell.run(lock.acquire(), session)``. Raises what it raises; NoAnswer."""
        task = session.door.spawn(coroutine)
        self.wait_until(lambda: task.done, within)
        return self.outcome(task)

    # ---------------------------------------------------------------- replicas

    @property
    def leader(self) -> int:
        """The leader's index; time passes until there is one."""
        self.wait_until(lambda: self.world.leader() is not None, WITHIN)
        leader = self.world.leader()
        assert leader is not None
        return self._processes().index(leader)

    def machine(self, name: str, index: int | None = None) -> StateMachine:
        """The live machine on one replica (the leader if none is named), to look at."""
        return self._process(self.leader if index is None else index).node.host.machine(name)

    def crash(self, index: int, *, power: bool = False) -> None:
        """Kill a replica, as kill -9 does, or with its machine by a power cut."""
        self._process(index).die(power, "killed by the test")

    def restart(self, index: int) -> None:
        """Start a replica that was killed on what its disk holds; nothing if it runs."""
        process = self._process(index)
        if process.stage is Stage.DOWN:
            process.start()

    def pause(self, index: int) -> None:
        """Stop a replica's process, as SIGSTOP does. Its clock goes on."""
        self._process(index).pause()

    def resume(self, index: int) -> None:
        """Let it go on; nothing if it was not stopped."""
        self._process(index).resume()

    def partition(self, *groups: Sequence[int]) -> None:
        """Cut every link between replicas of different groups. Clients reach all of them."""
        members = [[self._process(index).member for index in group] for group in groups]
        for number, here in enumerate(members):
            for there in members[number + 1 :]:
                self.world.network.separate(here, there)

    def cut_off(self, session: CellSession, indexes: Iterable[int] | None = None) -> None:
        """Cut a client off from these replicas, or from all."""
        chosen = range(len(self._processes())) if indexes is None else indexes
        self.world.network.separate([session.door.place], [self._process(index).member for index in chosen])

    def heal(self) -> None:
        """Every link is whole again."""
        self.world.network.mend()

    # ---------------------------------------------------------------- time

    @property
    def now(self) -> float:
        """Simulated seconds since the cell began."""
        return self.world.schedule.now / SECOND

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self.world.schedule.run_until(self.world.schedule.now + int(seconds * SECOND))
        self._raise()

    def settle(self) -> None:
        """Let time pass until every running replica has applied everything; they are compared as they do."""

        def behind() -> bool:
            running = [p for p in self._processes() if p.stage is Stage.RUNNING]
            return any(p.node.host.slot < self.world.watch.frontier for p in running)

        self.wait_until(lambda: not behind(), WITHIN)

    def wait_until(self, condition: Callable[[], bool], within: float = WITHIN) -> None:
        """Let time pass until `condition()` holds. Raises NoAnswer after `within` simulated seconds."""
        schedule = self.world.schedule
        until = schedule.now + int(within * SECOND)
        while not condition():
            if schedule.now >= until or not schedule.step():
                raise NoAnswer(f"not within {within:g} simulated seconds; the last events:\n" + self.trace(12))
            self._raise()

    def trace(self, lines: int = 100) -> str:
        """What happened last in the cell, for people."""
        return "\n".join(self.world.trace_tail(lines))

    # ---------------------------------------------------------------- inside

    def outcome(self, task: Task[T]) -> T:
        """A finished task's result. What a halted machine raised is told with it."""
        try:
            return task.result()
        except (MachineHalted, TicketEnded) as error:
            for process in self._processes():
                if process.alive:
                    for status in process.node.host.status():
                        if status.detail:
                            error.add_note(status.detail)
                            raise
            raise
        except Cancelled:
            raise NoAnswer("the coroutine was cancelled") from None

    def _load(self, operator: CellSession, name: str) -> None:
        """Load a machine as soon as all replicas have said that they have it."""
        while True:
            try:
                operator.call("plugins", "load", name, name)
                return
            except Refusal as refusal:
                if refusal.code != "not-announced":
                    raise
                self.advance(50 * MILLISECOND / SECOND)

    def _known(self, session: int) -> bool:
        """Whether the session lives, as far as the cell has come."""
        hosts = [p.node.host for p in self._processes() if p.alive]
        newest = max(hosts, key=lambda host: host.slot)
        return session in newest.sessions

    def _processes(self) -> list[Process]:
        return list(self.world.processes.values())

    def _process(self, index: int) -> Process:
        return self._processes()[index]

    def _failed(self, error: Exception) -> None:
        """A task failed that nobody awaits yet: whoever asks for its outcome gets it."""

    def _raise(self) -> None:
        if self._errors:
            raise self._errors.pop(0)


__all__ = ["Cell", "CellSession", "NoAnswer", "Waiting"]
