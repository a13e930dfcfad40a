"""Three doors to one tiny cell, behind one synchronous face, so that every test of a recipe runs over each of them."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.client import aio, blocking
from quorate.kernel.client import twisted as tx
from quorate.kernel.client.live import Session
from quorate.plugins.counters.machine import CountersMachine
from quorate.plugins.locks.machine import LocksMachine
from quorate.recipes import blocking as threads
from quorate.recipes.counter import Counter
from quorate.recipes.held import Held, LockLost
from quorate.recipes.lock import Claimed, Lock
from quorate.recipes.rwlock import ReadWriteLock
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

TINY = Path(__file__).parent.parent / "kernel" / "client" / "tiny_cell.py"


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("tiny_cell", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_cell"] = module
    spec.loader.exec_module(module)
    return module


class AsyncioLoop:
    """An asyncio loop in a thread."""

    def __init__(self) -> None:
        self._background = blocking.Background()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._background.run(work)

    def stop(self) -> None:
        self._background.stop()

    async def connect(self, endpoint: str, **options: Any) -> Session:
        return await aio.connect([endpoint], **options)


class TwistedLoop:
    """A reactor in a thread."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()
        self._thread = threading.Thread(target=self.reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        done: Future[Any] = Future()

        def start() -> None:
            deferred = Deferred.fromCoroutine(work)
            deferred.addCallbacks(done.set_result, lambda failure: done.set_exception(failure.value))

        self.reactor.callFromThread(start)
        return done.result()

    def stop(self) -> None:
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join()

    async def connect(self, endpoint: str, **options: Any) -> Session:
        return await tx.connect([endpoint], reactor=self.reactor, **options)  # type: ignore[arg-type]


class Sync:
    """An object of a recipe with its coroutines as plain functions."""

    def __init__(self, loop: AsyncioLoop | TwistedLoop, inner: Any) -> None:
        self._loop, self._inner = loop, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **named: self._wrapped(self._loop.run(found(*args, **named)))
        return self._wrapped(found)

    def _wrapped(self, value: Any) -> Any:
        return type(self)(self._loop, value) if isinstance(value, Held | Claimed) else value

    def wait_lost(self, timeout: float) -> LockLost | None:
        done = threading.Event()

        async def tell() -> None:
            self._inner.lost.then(done.set)

        self._loop.run(tell())
        return self._inner.lost.result() if done.wait(timeout) else None

    def __enter__(self) -> Any:
        self._held = self.acquire()
        return self._held

    def __exit__(self, *_: object) -> None:
        self._held.release()


class LoopClient:
    """A session and its recipes over a loop."""

    def __init__(self, loop: AsyncioLoop | TwistedLoop, endpoint: str, **options: Any) -> None:
        self.loop = loop
        self.session: Session = loop.run(loop.connect(endpoint, **options))

    def lock(self, name: str, **options: Any) -> Any:
        return Sync(self.loop, Lock(self.session, name, **options))

    def rwlock(self, name: str) -> Any:
        return Sync(self.loop, ReadWriteLock(self.session, name))

    def counter(self, name: str) -> Any:
        return Sync(self.loop, Counter(self.session, name))

    def close(self) -> None:
        self.loop.run(self.session.close())


class ThreadClient:
    """A session and its recipes over the blocking door."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        self.session = blocking.connect([endpoint], **options)

    def lock(self, name: str, **options: Any) -> Any:
        return threads.Lock(self.session, name, **options)

    def rwlock(self, name: str) -> Any:
        return threads.ReadWriteLock(self.session, name)

    def counter(self, name: str) -> Any:
        return threads.Counter(self.session, name)

    def close(self) -> None:
        self.session.close()


@pytest.fixture
def cell() -> Iterator[Any]:
    """A tiny cell with locks and counters."""
    with _load(TINY).TinyCell({"locks": LocksMachine, "counters": CountersMachine}) as cell:
        yield cell


@pytest.fixture(scope="session")
def loops() -> Iterator[dict[str, AsyncioLoop | TwistedLoop]]:
    """One loop of each kind."""
    loops: dict[str, AsyncioLoop | TwistedLoop] = {"asyncio": AsyncioLoop(), "twisted": TwistedLoop()}
    yield loops
    for loop in loops.values():
        loop.stop()


@pytest.fixture(params=["asyncio", "twisted"])
def loop(request: pytest.FixtureRequest, loops: dict[str, AsyncioLoop | TwistedLoop]) -> Any:
    """A loop to run coroutines in."""
    return loops[request.param]


@pytest.fixture(params=["asyncio", "twisted", "threads"])
def connect(
    request: pytest.FixtureRequest, cell: Any, loops: dict[str, AsyncioLoop | TwistedLoop]
) -> Iterator[Callable[..., Any]]:
    """Makes clients over one of the doors; they are closed when the test ends."""
    clients: list[LoopClient | ThreadClient] = []

    def make(**options: Any) -> Any:
        options = {"timeout": 5.0, "name": "test", **options}
        if request.param == "threads":
            clients.append(ThreadClient(cell.endpoint, **options))
        else:
            clients.append(LoopClient(loops[request.param], cell.endpoint, **options))
        return clients[-1]

    yield make
    cell.silent = False
    for client in clients:
        client.close()


@pytest.fixture
def meanwhile() -> Iterator[Callable[..., Future[Any]]]:
    """Runs a blocking function in another thread; its future."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


class Interrupted:
    """Await it to run a coroutine that is cancelled at its n-th await. `reached` tells whether there was one."""

    def __init__(self, work: Coroutine[Any, Any, Any], n: int, cancelled: type[BaseException]) -> None:
        self._work, self._left, self._cancelled = work, n, cancelled
        self.reached = False

    def __await__(self) -> Any:
        sent: Any = None
        while True:
            try:
                waiting = self._work.send(sent)
            except StopIteration as stop:
                return stop.value
            if self._left == 0:
                self.reached = True
                if isinstance(waiting, asyncio.Future):
                    waiting._asyncio_future_blocking = False
                self._left = -1
                try:
                    waiting = self._work.throw(self._cancelled())
                except StopIteration as stop:
                    return stop.value
            self._left -= 1
            try:
                sent = yield waiting
            except BaseException as error:
                self._work.throw(error)
                raise


@pytest.fixture
def interrupted() -> type[Interrupted]:
    """The class that cancels a coroutine at its n-th await."""
    return Interrupted
