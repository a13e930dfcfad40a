"""What simulated clients do: small endless jobs, each a coroutine on one client, judged by a model.

Jobs command machines by their names only: "registers" and "alarms" (:mod:`.machines`), "counters" and "locks" are
loaded into the cell if their code was given to the simulation. A job works until the client is told to stop, sleeping
between operations; what it was told goes into the history. Every written value is unique.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from ..client.errors import EventsLost, OutcomeUnknown, TicketEnded
from ..wire.native import Consistency
from .clients import Asked, Client, NotDone
from .linearizability import UNKNOWN, Model, Operation
from .models import Bell, Count, Mutex, Register

UNSURE: Final = (NotDone, OutcomeUnknown, EventsLost, TicketEnded)
"""What an operation may end with besides a result."""

MODELS: Final[Mapping[str, Model[Any]]] = {
    "register": Register(),
    "count": Count(),
    "bell": Bell(),
    "mutex": Mutex(),
}
"""What judges the histories, by the name the jobs use."""

READS: Final = ("get", "total")
"""The names of operations that read, under which they stand in histories."""

Job = Callable[[Client, float], Coroutine[Any, Any, None]]
"""Works on a client; the number is the mean time between two operations, in seconds."""


async def registers(client: Client, pause: float) -> None:
    """Read, write and compare-and-set registers, by every linearizable way to read."""
    random = client.random
    last: dict[str, int | None] = {}
    while await client.working(pause):
        key = f"r{random.randrange(client.keys)}"
        value = client.unique()
        try:
            if random.random() < client.reads:
                asked = Asked("register", key, "get", ())
                found = await client.query(asked, _linearizable(client), "registers", "get", key)
                assert found is None or isinstance(found, int)
                last[key] = found
            elif random.random() < 0.7:
                await client.command(Asked("register", key, "set", (value,)), "registers", "set", key, value)
                last[key] = value
            else:
                old = last.get(key)
                asked = Asked("register", key, "cas", (old, value))
                if await client.command(asked, "registers", "cas", key, old, value):
                    last[key] = value
        except UNSURE:
            await client.door.sleep(0.05)


async def counters(client: Client, pause: float) -> None:
    """Add to counters and read them."""
    random = client.random
    while await client.working(pause):
        key = f"c{random.randrange(client.keys)}"
        try:
            if random.random() < client.reads / 2:
                await client.query(Asked("count", key, "total", ()), _linearizable(client), "counters", "get", key)
            else:
                by = random.randrange(1, 1 << 30)  # so that a total tells which of the unanswered ones are in it
                await client.command(Asked("count", key, "add", (by,)), "counters", "add", key, by)
        except UNSURE:
            await client.door.sleep(0.05)


async def alarms(client: Client, pause: float) -> None:
    """Have alarms ring and see, some time later, how often each did."""
    random, name = client.random, ""
    while await client.working(pause):
        if random.random() < 0.6:
            continue
        try:
            if name:
                await client.query(Asked("bell", name, "times", ()), _linearizable(client), "alarms", "times", name)
            name = f"a{client.unique()}"
            await client.command(Asked("bell", name, "ring", ()), "alarms", "ring", name, random.choice((0, 50, 500)))
        except NotDone:
            name = ""  # it may have been begun, if the wait ended with the session
            await client.door.sleep(0.05)
        except UNSURE:
            await client.door.sleep(0.05)


async def locks(client: Client, pause: float) -> None:
    """Acquire locks, hold them for a while, release them; sometimes do not wait, or give up waiting."""
    random, watch = client.random, client.world.watch
    while await client.working(pause):
        name = f"l{random.randrange(client.keys)}"
        session = await client.open()
        number, label = session.id, session.label()
        wait, delay = random.choice((0, 500, 3000, None)), random.choice((0, 0, 1000))
        client.on_end(f"end {name}", partial(_ended, client, name))
        try:
            token = await client.judged(
                Asked("mutex", name, "acquire", ()),
                session,
                lambda: session.call("locks", "acquire", label, [name], [], wait, delay, "simulated"),  # noqa: B023
                read=lambda result: result if isinstance(result, int) else None,
            )
            if not isinstance(token, int):
                continue
            watch.acquired(name, token, number)
            for _ in range(random.randrange(4)):
                await client.door.sleep(random.expovariate(2 / pause))
                if client.lease_left(number) > 0:
                    watch.check_holders()
            watch.released(name, number)
            released = Asked("mutex", name, "release", (token,))
            await client.judged(released, session, lambda: session.call("locks", "release", label))  # noqa: B023
        except UNSURE:
            watch.released(name, number)
            await client.door.sleep(0.05)


def _ended(client: Client, name: str, session: int, since: int) -> None:
    """The session is over: at some time after it was last known to live, its locks were freed."""
    client.history.unknown("mutex", Operation(session, name, "end", (), UNKNOWN, since, None))


def without_clocks(operation: Operation) -> Operation:
    """What a history can say of an operation if its client's clock may be wrong: when a session was last known to live
    is not known then."""
    return operation._replace(call=0) if operation.name == "end" else operation


def _linearizable(client: Client) -> Consistency:
    return client.random.choice((Consistency.LEASE, Consistency.READ_INDEX))


JOBS: Final[Mapping[str, Job]] = {
    "registers": registers,
    "counters": counters,
    "alarms": alarms,
    "locks": locks,
}
"""By the name of the machine they need."""
