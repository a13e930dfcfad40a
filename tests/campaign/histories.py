"""Clients of a real cell that write down what they asked and were told, by one monotonic clock, and the judge of that.

Native sessions work on counters and locks in an asyncio loop of their own thread; stock ZooKeeper clients (kazoo) write
and read nodes, each in a thread. Everything is judged by :mod:`quorate.kernel.testing.linearizability`:

=============== ======================== =====================================================================
machine         model                    what it shows
=============== ======================== =====================================================================
counters        ``Count``                each addition counts once, also when its answer was lost and it was
                                         asked again; reads by lease and by read-index are never stale
locks           ``Mutex``                one holder at a time, and every token larger than all before
znodes          ``Register``             a write that was acknowledged is seen by every later sync and read
znodes          created and listed       a node whose creation was acknowledged exists for ever after
=============== ======================== =====================================================================

Keys are fresh in each round, so that operations without an answer, which make the search long, stay few for a key. At
the end every key of every round is read once more: what was acknowledged must still be there.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Hashable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, SessionMovedError
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import ForceRetryError, KazooRetry
from quorate.kernel.client import aio
from quorate.kernel.client.errors import QuorateError, SessionEnded
from quorate.kernel.client.live import Session
from quorate.kernel.machine import Plain
from quorate.kernel.testing.linearizability import UNKNOWN, Judgement, Operation, Verdict, linearizable
from quorate.kernel.testing.models import Count, Mutex, Register
from quorate.kernel.wire.native import Consistency

KEYS: Final = 3
SESSION_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 20.0
"""How long a client waits before it gives an operation up as unknown."""
ROOT: Final = "/campaign"
READS: Final = frozenset(("total", "get"))
"""Operations that change nothing."""
MODELS: Final = {"count": Count(), "mutex": Mutex(), "register": Register()}


class Record:
    """What all clients together saw. `round` names the keys that are in use."""

    def __init__(self) -> None:
        self.round = 0
        self.operations: dict[str, list[Operation]] = defaultdict(list)  # by model
        self.created: dict[str, int] = {}
        """Names of nodes whose creation was acknowledged -> when."""
        self.acknowledged: list[int] = []
        """When writes were acknowledged, in nanoseconds."""
        self.unknown = 0
        self.sessions_lost = 0
        self._under_way: dict[tuple[str, Hashable, int], Operation] = {}
        self._mutex = threading.Lock()
        self._unique = itertools.count(1)

    def unique(self) -> int:
        """A number that nobody else gets."""
        return next(self._unique)

    def key(self, letter: str, random: Random) -> str:
        """One of the keys in use."""
        return f"{letter}{self.round}.{random.randrange(KEYS)}"

    def begin(self, model: str, client: Hashable, key: str, name: str, *args: Hashable) -> Operation:
        """A client begins an operation; :meth:`add` must follow."""
        operation = Operation(client, key, name, args, UNKNOWN, time.monotonic_ns(), None)
        if name not in READS:
            with self._mutex:
                self._under_way[model, client, operation.call] = operation
        return operation

    def add(self, model: str, operation: Operation) -> None:
        """An operation, answered or not; unanswered reads say nothing."""
        write = operation.name not in READS
        with self._mutex:
            self._under_way.pop((model, operation.client, operation.call), None)
            if operation.end is None:
                self.unknown += 1
                if not write:
                    return
            elif write:
                self.acknowledged.append(operation.end)
            self.operations[model].append(operation)

    def note_created(self, name: str) -> None:
        """The creation of this node was acknowledged."""
        with self._mutex:
            self.created[name] = time.monotonic_ns()
            self.acknowledged.append(self.created[name])

    def keys(self, model: str) -> list[str]:
        """Every key that was ever used."""
        return sorted({each.key for each in self.operations[model]})

    def count(self) -> int:
        """Operations so far."""
        return sum(map(len, self.operations.values())) + len(self.created)

    def gap(self, start: int, end: int) -> int:
        """The longest time in nanoseconds between `start` and `end` in which no write was acknowledged."""
        times = [start, *sorted(each for each in self.acknowledged if start <= each <= end), end]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    def first_after(self, moment: int) -> int | None:
        """When the first write after `moment` was acknowledged; None so far."""
        return min((each for each in self.acknowledged if each > moment), default=None)

    def judge(self, rounds: set[int] | None = None) -> list[str]:
        """What is wrong with the histories of these rounds (of all by default), in words."""
        wrong = []
        with self._mutex:
            under_way = [(model, operation) for (model, *_), operation in self._under_way.items()]
            answered = {name: list(self.operations[name]) for name in MODELS}
        for name, model in MODELS.items():
            history = answered[name] + [operation for of, operation in under_way if of == name]
            history = [each for each in history if rounds is None or _round(each.key) in rounds]
            judgement: Judgement = linearizable(history, model)  # type: ignore[arg-type]
            if judgement.verdict is Verdict.NOT_LINEARIZABLE:
                wrong.append(f"{name}: {judgement}")
            elif judgement.verdict is Verdict.UNDECIDED:
                wrong.append(f"{name}: {judgement} (key {judgement.key})")
        return wrong


def _round(key: str) -> int:
    return int(key[1:].split(".")[0])


class Clients:
    """`native` asyncio sessions and `kazoos` ZooKeeper clients at work on a cell until :meth:`stop`. `pause`: mean
    seconds between two operations of one client."""

    def __init__(
        self,
        record: Record,
        endpoints: Sequence[str],
        zookeepers: str,
        random: Random,
        *,
        native: int = 6,
        kazoos: int = 2,
        pause: float = 0.02,
    ) -> None:
        self.record = record
        self.endpoints = endpoints
        self.zookeepers = zookeepers
        self.pause = pause
        self.stopping = threading.Event()
        self.failed: list[str] = []
        self._loop = asyncio.new_event_loop()
        jobs = [_counters, _locks]
        seeds = [random.randrange(1 << 32) for _ in range(native + kazoos)]
        self._threads = [threading.Thread(target=self._run, args=(jobs, seeds[:native]), name="native clients")]
        self._threads += [
            threading.Thread(target=self._guarded, args=(_nodes, Random(seed)), name="kazoo client")
            for seed in seeds[native:]
        ]
        for each in self._threads:
            each.start()

    def stop(self) -> None:
        """Let every client end its operation and go."""
        self.stopping.set()
        for each in self._threads:
            each.join(3 * ANSWER_SECONDS)
            if each.is_alive():
                self.failed.append(f"the thread of {each.name} does not end")

    def _run(self, jobs: Sequence[Callable[..., Coroutine[Any, Any, None]]], seeds: Sequence[int]) -> None:
        async def everybody() -> None:
            made = zip(itertools.cycle(jobs), seeds, strict=False)
            found = await asyncio.gather(*(job(self, Random(seed)) for job, seed in made), return_exceptions=True)
            self.failed += [f"a native client failed: {each!r}" for each in found if isinstance(each, BaseException)]

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(everybody())
        self._loop.close()

    def _guarded(self, job: Callable[[Clients, Random], None], random: Random) -> None:
        try:
            job(self, random)
        except Exception as error:
            self.failed.append(f"a ZooKeeper client failed: {error!r}")

    async def rest(self, random: Random) -> bool:
        """Pause; whether to go on."""
        await asyncio.sleep(random.expovariate(1 / self.pause))
        return not self.stopping.is_set()

    async def session(self) -> Session | None:
        """A session, whatever it takes; None when the clients are to stop."""
        while not self.stopping.is_set():
            try:
                return await aio.connect(self.endpoints, timeout=SESSION_SECONDS, connect_timeout=5.0)
            except QuorateError:
                await asyncio.sleep(0.1)
        return None


# ---------------------------------------------------------------- native clients


async def _asked(
    record: Record, model: str, operation: Operation, answer: Coroutine[Any, Any, Plain]
) -> Plain | Exception:
    """Have an operation done and written down; the answer, or why there is none."""
    try:
        result: Plain = await answer
    except (QuorateError, TimeoutError) as error:
        record.add(model, operation)
        return error
    assert isinstance(result, Hashable)
    record.add(model, operation._replace(result=result, end=time.monotonic_ns()))
    return result


async def _counters(clients: Clients, random: Random) -> None:
    """Add and read."""
    record = clients.record
    session = await clients.session()
    while session is not None and await clients.rest(random):
        key = record.key("c", random)
        if random.random() < 0.4:
            how = random.choice((Consistency.LEASE, Consistency.READ_INDEX))
            asked = session.query("counters", "get", key, consistency=how, timeout=ANSWER_SECONDS)
            found = await _asked(record, "count", record.begin("count", session.id, key, "total"), asked)
        else:
            by = random.randrange(1, 10)
            asked = session.call("counters", "add", key, by, timeout=ANSWER_SECONDS)
            found = await _asked(record, "count", record.begin("count", session.id, key, "add", by), asked)
        if isinstance(found, SessionEnded) or session.ending is not None:
            record.sessions_lost += 1
            session = await clients.session()
    if session is not None:
        await session.close()


async def _locks(clients: Clients, random: Random) -> None:
    """Acquire, hold, release. After anything uncertain the session is ended, which frees what it may hold."""
    record = clients.record
    session = await clients.session()
    while session is not None and await clients.rest(random):
        key = record.key("l", random)
        began = time.monotonic_ns()
        if not await _hold(record, session, key, random):
            record.add("mutex", Operation(session.id, key, "end", (), UNKNOWN, began, None))
            record.sessions_lost += session.ending is not None
            await session.close()
            session = await clients.session()
    if session is not None:
        await session.close()


async def _hold(record: Record, session: Session, key: str, random: Random) -> bool:
    """One turn with a lock; False if it is uncertain whether it is held still."""
    label = session.label()
    wait = random.choice((0, 300, 2000))
    operation = record.begin("mutex", session.id, key, "acquire")
    try:
        token = await session.call("locks", "acquire", label, [key], [], wait, 0, "campaign", timeout=ANSWER_SECONDS)
    except (QuorateError, TimeoutError):
        record.add("mutex", operation)
        return False
    got = token if isinstance(token, int) else None
    record.add("mutex", operation._replace(result=got, end=time.monotonic_ns()))
    if got is None:
        return True
    await asyncio.sleep(random.expovariate(1 / 0.02))
    released = session.call("locks", "release", label, timeout=ANSWER_SECONDS)
    found = await _asked(record, "mutex", record.begin("mutex", session.id, key, "release", got), released)
    return found is True


# ---------------------------------------------------------------- ZooKeeper clients

_UNSURE: Final = (KazooException, KazooTimeoutError)


def connected(zookeepers: str) -> KazooClient:
    """A ZooKeeper client that connects, and connects again, for as long as it takes."""
    again = KazooRetry(max_tries=-1, delay=0.02, backoff=1.5, max_delay=0.3)
    client = KazooClient(zookeepers, timeout=SESSION_SECONDS, connection_retry=again)
    client.start(timeout=120)
    return client


def _within(answer: Any) -> Any:
    """Wait for an answer of kazoo, not for ever."""
    return answer.get(timeout=ANSWER_SECONDS)


def _nodes(clients: Clients, random: Random) -> None:
    """Set, read, create."""
    record = clients.record
    client = connected(clients.zookeepers)
    try:
        while not clients.stopping.wait(random.expovariate(1 / clients.pause)):
            _once(record, client, random)
    finally:
        client.stop()
        client.close()


def _once(record: Record, client: KazooClient, random: Random) -> None:
    session = client.client_id[0] if client.client_id else 0
    key = record.key("z", random)
    path = f"{ROOT}/{key}"
    chance = random.random()
    if chance < 0.25:
        name = f"n-{record.unique()}"
        try:
            _within(client.create_async(f"{ROOT}/log/{name}", b""))
        except _UNSURE:
            record.unknown += 1
        else:
            record.note_created(name)
        return
    if chance < 0.6:
        operation, value = record.begin("register", session, key, "get"), None
    else:
        value = record.unique()
        operation = record.begin("register", session, key, "set", value)
    try:
        if value is None:
            _within(client.sync_async(path))
            found, _ = _within(client.get_async(path))
            result = int(found) if found else None
        else:
            _within(client.set_async(path, str(value).encode()))
            result = None
    except _UNSURE:
        record.add("register", operation)
    else:
        record.add("register", operation._replace(result=result, end=time.monotonic_ns()))


# ---------------------------------------------------------------- a steady hand


class Ground(NamedTuple):
    """The client that prepares rounds and reads everything at the end."""

    record: Record
    client: KazooClient

    def begin_round(self, number: int) -> None:
        """Make the nodes of a round, then have it used. The cell must be whole."""
        for path in (f"{ROOT}/log", *(f"{ROOT}/z{number}.{each}" for each in range(KEYS))):
            self._steadily(self.client.ensure_path_async, path)
        self.record.round = number

    def _steadily(self, ask: Callable[[str], Any], path: str) -> Any:
        """Ask until there is an answer. A session may turn out to have moved when a late attach of an attempt to
        connect that was given up takes effect."""

        def once() -> Any:
            try:
                return ask(path).get(timeout=ANSWER_SECONDS)
            except (SessionMovedError, KazooTimeoutError) as error:
                raise ForceRetryError from error

        return KazooRetry(max_tries=60, delay=0.1, max_delay=0.5)(once)

    def end(self) -> None:
        """Close its session."""
        self.client.stop()
        self.client.close()

    def last_reads(self, endpoints: Sequence[str]) -> list[str]:
        """Read every key once more, into the histories; what is wrong with the nodes created, in words."""
        record, client = self.record, self.client
        asyncio.run(_read_counters(record, endpoints))
        for key in record.keys("register"):
            operation = record.begin("register", "last", key, "get")
            self._steadily(client.sync_async, f"{ROOT}/{key}")
            found, _ = self._steadily(client.get_async, f"{ROOT}/{key}")
            end = time.monotonic_ns()
            record.add("register", operation._replace(result=int(found) if found else None, end=end))
        self._steadily(client.sync_async, f"{ROOT}/log")
        there = set(self._steadily(client.get_children_async, f"{ROOT}/log"))
        missing = sorted(set(record.created) - there)
        return [f"{len(missing)} acknowledged nodes are gone, such as {missing[0]}"] if missing else []


async def _read_counters(record: Record, endpoints: Sequence[str]) -> None:
    async with await aio.connect(endpoints, timeout=SESSION_SECONDS) as session:
        for key in record.keys("count"):
            asked = session.query("counters", "get", key, timeout=ANSWER_SECONDS)
            await _asked(record, "count", record.begin("count", "last", key, "total"), asked)
