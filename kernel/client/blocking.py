"""The door for threads: a session that runs in a background thread and is called from any other.

``with blocking.connect(["tcp:127.0.0.1:7420"], timeout=10) as session: session.call("counters", "add", "x")``

The background thread keeps the session alive even while the application is stuck; pass `liveness` to tie the two
together. A process that was forked gets ForkedClient: the thread and the socket are its parent's. Interrupting a
blocked call (Ctrl-C) cancels it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, Unpack

from ..machine import Plain
from ..wire.native import Consistency
from . import aio
from .door import T
from .errors import ForkedClient, SessionClosed, WrongThread
from .live import CONNECT_TIMEOUT, Options, Session
from .outputs import Gap
from .states import State


class Background:
    """An asyncio loop in a thread of its own, to run coroutines from other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._process = os.getpid()
        self._lock = threading.RLock()  # the collector may call `soon` in the midst of what holds it
        self._ending = False
        """Nothing that is given to the loop from now on would be run."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="quorate client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it. If the waiting thread is interrupted, the coroutine is cancelled, and
        not waited for."""
        try:
            self.check()
            future = self._given(work)
        except BaseException:
            work.close()
            raise
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def soon(self, callback: Callable[[], object]) -> None:
        """Have a callback run there, if there still is such a thread."""
        if os.getpid() == self._process:
            with self._lock:
                if not self._ending:
                    self._loop.call_soon_threadsafe(callback)

    def check(self) -> None:
        """Raise unless the calling thread may wait for this loop."""
        if os.getpid() != self._process:
            raise ForkedClient("this session belongs to the parent process; open one in this process")
        if threading.current_thread() is self._thread:
            raise WrongThread("a callback of this session cannot wait for the session: it would wait for itself")

    def _given(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._ending:
                raise SessionClosed("this client closed the session")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """End the thread. What still runs there is cancelled."""

        async def cancel_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            self._loop.stop()

        if os.getpid() != self._process:
            return
        with self._lock:
            first, self._ending = not self._ending, True
            if first:
                asyncio.run_coroutine_threadsafe(cancel_all(), self._loop)
        self._thread.join()
        if first:
            self._loop.close()


class BlockingSession:
    """A session for threads: the methods of :class:`~.live.Session` as plain functions. Any thread may call any of
    them."""

    def __init__(self, background: Background, inner: Session) -> None:
        self.background = background
        self.inner = inner
        """The session in the background thread, for recipes."""

    @property
    def state(self) -> State:
        """How the session stands."""
        return self.inner.state

    @property
    def id(self) -> int:
        """The session's number in the cell."""
        return self.inner.id

    def lease_left(self) -> float:
        """For how many seconds the session surely lives, counted conservatively; 0 in jeopardy and afterwards."""
        return self.inner.lease_left()

    def call(self, machine: str, command: str, /, *args: Plain, timeout: float | None = None, **named: Plain) -> Plain:
        """See :meth:`.live.Session.call`."""
        return self.background.run(self.inner.call(machine, command, *args, timeout=timeout, **named))

    def query(
        self,
        machine: str,
        query: str,
        /,
        *args: Plain,
        consistency: Consistency = Consistency.LEASE,
        timeout: float | None = None,
        **named: Plain,
    ) -> Plain:
        """See :meth:`.live.Session.query`."""
        work = self.inner.query(machine, query, *args, consistency=consistency, timeout=timeout, **named)
        return self.background.run(work)

    def status(self, timeout: float | None = None) -> Mapping[str, Plain]:
        """How the connected replica does."""
        return self.background.run(self.inner.status(timeout))

    def admin(self, command: str, /, *args: Plain, timeout: float | None = None, **named: Plain) -> Plain:
        """See :meth:`.live.Session.admin`."""
        return self.background.run(self.inner.admin(command, *args, timeout=timeout, **named))

    def events(self, machine: str) -> Iterator[Plain | Gap]:
        """What the machine publishes to this session from now on; see :class:`~.subscription.Subscription`."""

        async def subscribe() -> Any:
            return self.inner.events(machine)

        subscription = self.background.run(subscribe())

        def items() -> Iterator[Plain | Gap]:
            try:
                while True:
                    try:
                        yield self.background.run(subscription.__anext__())
                    except StopAsyncIteration:
                        return
            finally:
                self.background.soon(subscription.stop)

        return items()

    def close(self) -> None:
        """End the session in the cell, and the background thread. Closing twice is the same as once."""
        try:
            self.background.run(self.inner.close())
        except SessionClosed:
            return
        self.background.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    endpoints: Iterable[str],
    *,
    connect_timeout: float = CONNECT_TIMEOUT,
    **options: Unpack[Options],
) -> BlockingSession:
    """Open a session with the cell that these members belong to; arguments and errors as for :func:`.aio.connect`."""
    background = Background()
    try:
        inner = background.run(aio.connect(endpoints, connect_timeout=connect_timeout, **options))
    except BaseException:
        background.stop()
        raise
    return BlockingSession(background, inner)
