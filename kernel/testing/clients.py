"""Simulated clients: real sessions on simulated machines, and the history of what they asked and were told.

A client keeps a session open as an application would: when it ends, the client opens another. What it asks is written
down with true times, in the words of :mod:`.models`: done operations with their results, operations whose outcome is
unknown without an end, and operations that the library says were not done not at all. So the library is on trial, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..client.errors import EventsLost, NotServing, OutcomeUnknown, Overloaded, SessionEnded, TicketEnded
from ..client.live import Options as SessionOptions
from ..client.live import Session, open_session
from ..machine import Plain, Refusal
from ..wire.native import Consistency
from .clock import SECOND, Clock
from .door import SimulatedDoor, Slot
from .linearizability import UNKNOWN, Operation

if TYPE_CHECKING:
    from .world import World

CONNECT_WITHIN: Final = 30.0


class NotDone(Exception):
    """It was certainly not done; the reason is the cause."""


class History:
    """What all clients of a run asked and were told, by the name of the model that judges it."""

    def __init__(self) -> None:
        self.operations: dict[str, list[Operation]] = {}
        self.outcomes: Counter[str] = Counter()
        """How many operations ended how: "done", "unknown", "not done", "refused"."""

    def done(self, model: str, operation: Operation) -> None:
        """An operation was answered."""
        self.outcomes["done"] += 1
        self.operations.setdefault(model, []).append(operation)

    def unknown(self, model: str, operation: Operation) -> None:
        """An operation may have been done."""
        self.outcomes["unknown"] += 1
        self.operations.setdefault(model, []).append(operation)


class Asked(NamedTuple):
    """An operation on its way: in which model's words, on which key, what."""

    model: str
    key: str
    name: str
    args: tuple[Hashable, ...]


class Client:
    """One client's process. `place` is where it is in the network."""

    def __init__(
        self, world: World, place: int, clock: Clock, history: History, members: list[str], options: SessionOptions
    ) -> None:
        self.world = world
        self.place = place
        self.random = world.random(f"client {place}")
        self.history = history
        self.door = SimulatedDoor(world, place, clock, self._failed)
        self.session: Session | None = None
        self.sessions = 0
        """How many sessions it has opened."""
        self.failure: Exception | None = None
        self.sure_at = 0
        """The last true time at which it was seen to be sure of its session."""
        self.keys = 3
        """How many objects of each kind the jobs use: few, so that clients meet."""
        self.reads = 0.4
        """What part of the operations reads."""
        self.beat = 0
        """If not 0: everybody asks at the multiples of so many microseconds of true time, so that much is under way at
        once, and nothing at other times."""
        self.stopping = False
        """Jobs end when they look next, which they do at once if they only sleep."""
        self._sleeping: dict[Slot, None] = {}
        self._ended: dict[str, Callable[[int, int], None]] = {}
        self._values = 0
        self._pending: dict[int, tuple[str, Operation]] = {}  # what may be done though nobody will tell
        self._members = members
        self._options = options
        self._opening = False
        self._opened: list[Slot] = []

    # ---------------------------------------------------------------- the session

    async def open(self) -> Session:
        """The session; a new one if there is none or it ended. Several tasks may ask for it at the same time."""
        while self.session is None or self.session.state.final:
            if self.session is not None:
                self._tell_end(self.session)
            if self._opening:
                slot = self.door.slot()
                self._opened.append(slot)
                await slot
                continue
            self._opening = True
            try:
                chance = Random(self.random.random())
                self.session = await open_session(self.door, self._members, chance, CONNECT_WITHIN, self._options)
                self.sessions += 1
                self.world.watch.session(self.session.id, self)
                self.session.watch(lambda _: self.world.watch.check_holders())
            except (NotServing, SessionEnded):
                await self.door.sleep(0.2)
            finally:
                self._opening = False
                for slot in self._opened:
                    slot.set()
                self._opened.clear()
        return self.session

    def lease_left(self, session: int) -> float:
        """Seconds for which it is sure, by its own clock at this instant, that the session lives."""
        if not self.door.alive or self.session is None or self.session.id != session:
            return 0.0
        left = self.session.lease_left()
        if left > 0:
            self.sure_at = self.world.schedule.now
        return left

    def on_end(self, what: str, ended: Callable[[int, int], None]) -> None:
        """Call `ended(session, since)` once the present session is found to be over; it lived at true time `since`. One
        callback for each `what`."""
        self._ended[what] = ended

    def _tell_end(self, session: Session) -> None:
        callbacks, self._ended = self._ended, {}
        for ended in callbacks.values():
            ended(session.id, self.sure_at)

    def end(self) -> None:
        """The client is killed: nobody will know what became of what it asked."""
        self.door.kill()
        for model, operation in self._pending.values():
            self.history.unknown(model, operation)
        self._pending.clear()
        self.finish()

    def finish(self) -> None:
        """The run is over: the session may have ended in the cell by now, though the client has not seen it."""
        if self.session is not None:
            self._tell_end(self.session)

    # ---------------------------------------------------------------- operations

    async def working(self, pause: float) -> bool:
        """Sleep about `pause` seconds, or until the next beat; whether to do another operation then."""
        if not self.stopping:
            if self.beat:
                pause = (self.beat - self.world.schedule.now % self.beat) / SECOND + self.random.random() * 0.003
            else:
                pause = self.random.expovariate(1 / pause)
            slot = self.door.slot()
            self._sleeping[slot] = None
            self.door.later(pause, slot.set)
            await slot
            self._sleeping.pop(slot, None)
        return not self.stopping

    def stop(self) -> None:
        """No more operations: every job ends after the one that it is at."""
        self.stopping = True
        sleeping, self._sleeping = self._sleeping, {}
        for slot in sleeping:
            slot.set()

    def unique(self) -> int:
        """A number that no other call and no other client gives."""
        self._values += 1
        return self.place * 1_000_000 + self._values

    async def command(
        self, asked: Asked, machine: str, command: str, *args: Plain, timeout: float | None = None
    ) -> Plain:
        """Have a command applied, and write down what came of it: its result as it is.

        Raises:
            NotDone: it was not done, or refused.
            OutcomeUnknown: nobody can say.
        """
        session = await self.open()
        result: Plain = await self.judged(asked, session, lambda: session.call(machine, command, *args))
        return result

    async def query(self, asked: Asked, consistency: Consistency, machine: str, query: str, *args: Plain) -> Plain:
        """Ask a machine; an unanswered query leaves no trace. Raises NotDone."""
        session = await self.open()
        result: Plain = await self.judged(
            asked, session, lambda: session.query(machine, query, *args, consistency=consistency, timeout=10.0), True
        )
        return result

    async def judged(
        self,
        asked: Asked,
        session: Session,
        ask: Callable[[], Awaitable[Any]],
        reads: bool = False,
        read: Callable[[Any], Hashable] = lambda result: result,
    ) -> Any:
        """Await what `ask` begins, and write down what came of it: what `read` makes of the result."""
        schedule, history = self.world.schedule, self.history
        model, key, name, args = asked
        operation = Operation(session.id, key, name, args, UNKNOWN, schedule.now, None)
        number = self.unique()
        if not reads:
            self._pending[number] = (model, operation)
        try:
            result = await ask()
        except (NotServing, Overloaded, SessionEnded) as error:
            history.outcomes["not done"] += 1
            raise NotDone from error
        except Refusal as error:
            history.outcomes["refused"] += 1
            self.world.trace(self.place, "%s: %s", operation, error)
            raise NotDone from error
        except (OutcomeUnknown, EventsLost, TicketEnded):
            if reads:
                raise NotDone from None
            history.unknown(model, operation)
            self.world.trace(self.place, "%s", operation)
            raise
        finally:
            self._pending.pop(number, None)
        operation = operation._replace(result=read(result), end=schedule.now)
        self.lease_left(session.id)
        history.done(model, operation)
        self.world.trace(self.place, "%s", operation)
        return result

    def _failed(self, error: Exception) -> None:
        """A task of this client raised what nobody expected: the run is over."""
        if self.failure is None:
            self.failure = error
        raise error
