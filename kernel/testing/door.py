"""The door to a simulated machine: real client sessions, and any coroutine built on them, in simulated time.

It is the fourth door beside asyncio, Twisted and threads (see :mod:`..client.door`), so that the client library and the
recipes run under simulation as they are. Each client has a machine of its own: a place in the network, a clock that
drifts, and a process that can be stopped (everything waits, the clock runs on) or killed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from ..client.door import Wire
from .clock import SECOND, Clock
from .process import Process

if TYPE_CHECKING:
    from .fronts import Beside
    from .port import Port
    from .world import World

T = TypeVar("T")

NATIVE: Final = "sim"
"""The scheme of the native client protocol; others go to the places beside the native port."""

FIRST_PLACE: Final = 1000
"""Places of clients in the network; members have their ids. Clients at odd places prefer the leader; a lone client, at
the first place, does not."""


class Cancelled(BaseException):
    """Raised in a simulated task that is cancelled, where it awaits."""


class Slot:
    """Something to await once."""

    __slots__ = ("_door", "_set", "task")

    def __init__(self, door: SimulatedDoor) -> None:
        self._door = door
        self._set = False
        self.task: Task[Any] | None = None

    def set(self) -> None:
        if not self._set:
            self._set = True
            if self.task is not None:
                self._door.soon(self.task.step)

    def __await__(self) -> Generator[Any, Any, None]:
        if not self._set:
            yield self


class Task(Generic[T]):
    """A coroutine that runs by itself."""

    __slots__ = ("_cancel", "_context", "_coroutine", "_door", "_error", "_slot", "_value", "_waiting", "done")

    def __init__(self, door: SimulatedDoor, coroutine: Coroutine[Any, Any, T]) -> None:
        self.done = False
        self._door = door
        self._coroutine = coroutine
        self._context = copy_context()
        self._slot: Slot | None = None
        self._waiting: list[Slot] = []
        self._cancel = False
        self._error: BaseException | None = None
        self._value: T | None = None
        door.soon(self.step)

    def step(self) -> None:
        """Run on until it awaits again."""
        if self.done or not self._door.alive:
            return
        self._slot = None
        try:
            if self._cancel:
                self._cancel = False
                slot = self._context.run(self._coroutine.throw, Cancelled())
            else:
                slot = self._context.run(self._coroutine.send, None)
        except StopIteration as stop:
            self._finish(stop.value, None)
        except Cancelled as error:
            self._finish(None, error)
        except Exception as error:
            if not self._waiting:
                self._door.failed(error)
            self._finish(None, error)
        else:
            assert isinstance(slot, Slot), "a simulated task awaits what its own door gives"
            self._slot = slot
            slot.task = self

    def cancel(self) -> None:
        """Raise :class:`Cancelled` in it where it awaits."""
        if self.done:
            return
        self._cancel = True
        if self._slot is not None:
            self._slot.task = None
            self._slot = None
            self._door.soon(self.step)

    @property
    def orphaned(self) -> bool:
        """Whether the process that ran it is dead."""
        return not self._door.alive

    def result(self) -> T:
        """What it returned or raised. Only when it is done."""
        assert self.done
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        self.done, self._value, self._error = True, value, error
        for slot in self._waiting:
            slot.set()
        self._waiting.clear()

    def __await__(self) -> Generator[Any, Any, T]:
        if not self.done:
            slot = self._door.slot()
            self._waiting.append(slot)
            yield from slot.__await__()
        return self.result()


class _Alarm:
    """A callback to come, which waits its turn when the time is there."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback

    @property
    def on(self) -> bool:
        return self._callback is not None

    def cancel(self) -> None:
        self._callback = None

    def ring(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class SimulatedDoor:
    """One client's process, as the event loop that its coroutines run in.

    `failed` is called with what a task raised that nobody awaits.
    """

    cancelled: type[BaseException] = Cancelled

    def __init__(self, world: World, place: int, clock: Clock, failed: Callable[[Exception], None]) -> None:
        self.world = world
        self.place = place
        self.clock = clock
        self.alive = True
        self.failed = failed
        self.paused = False
        self._ready: deque[Callable[[], object]] = deque()
        self._due = False
        self._connections: list[Connection] = []

    def now(self) -> float:
        return self.clock.read(self.world.schedule.now) / SECOND

    def soon(self, callback: Callable[[], object]) -> None:
        self._ready.append(callback)
        if not self._due:
            self._due = True
            self.world.schedule.after(0, self._run)

    def later(self, seconds: float, callback: Callable[[], object]) -> _Alarm:
        schedule = self.world.schedule
        shown = self.clock.read(schedule.now) + int(seconds * SECOND) + 1
        alarm = _Alarm(callback)
        schedule.at(self.clock.when(shown), self._ring, alarm)
        return alarm

    def _ring(self, alarm: _Alarm) -> None:
        if alarm.on:
            self.soon(alarm.ring)

    def slot(self) -> Slot:
        return Slot(self)

    def spawn(self, work: Coroutine[Any, Any, T]) -> Task[T]:
        return Task(self, work)

    def dial(self, endpoint: str, wire: Wire) -> Connection:
        scheme, _, member = endpoint.partition(":")
        connection = Connection(self, scheme, int(member), wire)
        self._connections.append(connection)
        return connection

    async def sleep(self, seconds: float) -> None:
        """Wait by this client's clock."""
        slot = self.slot()
        self.later(seconds, slot.set)
        await slot

    # ---------------------------------------------------------------- faults

    def pause(self) -> None:
        """Stop the process, as SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """Let it go on with all that has arrived."""
        self.paused = False
        if self._ready and not self._due:
            self._due = True
            self.world.schedule.after(0, self._run)

    def kill(self) -> None:
        """End the process at once."""
        self.alive = False
        self._ready.clear()
        for connection in self._connections:
            connection.drop()
        self._connections.clear()

    # ---------------------------------------------------------------- inside

    def _run(self) -> None:
        self._due = False
        ready = self._ready
        while ready and not self.paused and self.alive:
            ready.popleft()()

    def forget(self, connection: Connection) -> None:
        """The connection is over."""
        if connection in self._connections:
            self._connections.remove(connection)


class Connection:
    """A client's connection to a member, from the attempt on: two streams, and what happens at their ends."""

    def __init__(self, door: SimulatedDoor, scheme: str, member: int, wire: Wire) -> None:
        self._door = door
        self._world = door.world
        self._scheme = scheme
        self._member = member
        self._wire = wire
        self._open = True
        self._process: Process | None = None
        self._run: object = None
        self._port: Port | Beside | None = None
        self._port_door: Any = None
        network = self._world.network
        self._up = network.stream(door.place, member, self._heard_by_member)
        self._down = network.stream(member, door.place, self._heard_by_client)
        self._up.send(_HELLO)

    # ---------------------------------------------------------------- the client's end

    def write(self, content: bytes) -> None:
        self._up.send(content)

    def drop(self) -> None:
        """The client closes; the member learns it, if the network lets it."""
        if not self._open:
            return
        self._open = False
        self._down.close()
        self._door.forget(self)
        if self._port_door is None:
            self._up.close()
        else:
            self._up.send(_BYE)

    def _heard_by_client(self, packet: bytes) -> None:
        self._door.soon(partial(self._take, packet))

    def _take(self, packet: bytes) -> None:
        if not self._open:
            return
        if packet is _HELLO:
            self._wire.connected()
        elif packet is _BYE:
            self._lost("the member closed the connection")
        else:
            self._wire.received(packet)

    def _lost(self, reason: str) -> None:
        if self._open:
            self._open = False
            self._up.close()
            self._down.close()
            self._door.forget(self)
            self._wire.disconnected(reason)

    # ---------------------------------------------------------------- the member's end

    def _heard_by_member(self, packet: bytes) -> None:
        if packet is _HELLO:
            self._accept()
            return
        process = self._process
        if process is None or process.run is None or process.run is not self._run:
            return
        process.arrives(self._door.place, partial(self._at_member, packet))

    def _accept(self) -> None:
        """The member's system takes the connection, whether or not its process looks."""
        process = self._world.resolve(self._member)
        if process is None or process.run is None:
            self._down.send(_BYE)
            return
        self._process, self._run = process, process.run
        port = process.run.port
        self._port = port if self._scheme == NATIVE else port.beside[self._scheme]
        self._port_door = self._port.connected(self._door.place, self._down.send, self._close_at_member)
        self._down.send(_HELLO)

    def _at_member(self, packet: bytes) -> None:
        process, port, door = self._process, self._port, self._port_door
        if process is None or process.run is None or process.run is not self._run or port is None:
            return
        if packet is _BYE:
            port.lost(door)
            self._up.close()
        else:
            port.received(door, packet)

    def _close_at_member(self) -> None:
        """The replica closes the connection, or its process ended."""
        self._up.close()
        self._down.send(_BYE)


_HELLO: Final = bytes(bytearray(b"hello"))
_BYE: Final = bytes(bytearray(b"bye"))
"""Told apart from content by identity."""


def clock_of(random: Random, drift_ppm: int) -> Clock:
    """A clock with an origin of its own that drifts by at most half of `drift_ppm`, either way."""
    return Clock(random.randrange(1, 1 << 40), random.randint(-drift_ppm // 2, drift_ppm // 2))
