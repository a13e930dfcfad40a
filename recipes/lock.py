"""Locks that the cell grants: exclusive, fair, fenced, and not silently lost.

The smallest use::

    lock = Lock(session, "/jobs/42")
    async with lock as held:
        write(..., fence=held.token)

The recommended one cancels the work when the lock is lost::

    await lock.run(work)      # work(held) is a coroutine

The queue, the deadline of the wait and the lock-delay live in the machine (:mod:`quorate.plugins.locks.machine`); an
acquire is one command. A cancelled or failed acquire is withdrawn: it leaves nothing in the cell. Source of token and
lock-delay: Burrows, "The Chubby lock service", OSDI 2006, section 2.4.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, TypeVar

from ..kernel.client.errors import MachineHalted, Overloaded, SessionEnded, TicketEnded
from ..kernel.client.live import Session
from ..kernel.client.states import State
from ..kernel.machine import Refusal
from ..kernel.wire.native import Consistency
from ..plugins.locks.client import TIMEOUT, Contender, LocksClient
from .held import Held, InJeopardy, LockLost, LockTimeout

T = TypeVar("T")
ANSWER_WITHIN: Final = 2.0
"""Seconds that the cell may be late with the end of a wait; then the client gives up by itself."""
NOT_DONE: Final = (Refusal, MachineHalted, Overloaded, SessionEnded, TicketEnded)
"""What an acquire may end with that leaves nothing to withdraw."""

_entered: ContextVar[tuple[tuple[Claimed, Held], ...]] = ContextVar("quorate_entered", default=())


class Claimed:
    """Names that are acquired together, all or none, each exclusively or shared. :class:`Lock` is the one with a
    single name.

    Arguments: `delay`, for how many seconds the names stay blocked if the session expires while it holds them
    (lock-delay, at most 60): time for what a paused holder had sent to arrive and be refused; `who`, shown to
    operators.
    """

    def __init__(
        self,
        session: Session,
        *,
        exclusive: Sequence[str] = (),
        shared: Sequence[str] = (),
        delay: float = 0.0,
        who: str = "",
        machine: str = "locks",
    ) -> None:
        self.session = session
        self.exclusive = tuple(exclusive)
        self.shared = tuple(shared)
        self.client = LocksClient(session, machine)
        self._delay = delay
        self._who = who or f"{socket.gethostname()}:{os.getpid()}"

    async def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait in the queue, first come, first served, at most `timeout` seconds (0: do not wait at all).

        Raises LockTimeout, and what calls raise when the session ends meanwhile. Two acquires of one session contend
        like any others.
        """
        client, label = self.client, self.session.label()
        held = Held(
            self.session,
            client.machine,
            label,
            release=lambda: client.release(label),
            verify=lambda token: client.check((*self.exclusive, *self.shared)[0], token),
        )
        alarm = None
        try:
            outcome = client.acquire(label, self.exclusive, self.shared, wait=timeout, delay=self._delay, who=self._who)
            if timeout is not None:
                late = LockTimeout(f"no answer within {timeout + ANSWER_WITHIN:g} s")
                alarm = self.session.door.later(timeout + ANSWER_WITHIN, lambda: outcome.fail(late))
            token = await outcome
        except BaseException as error:
            held.forget()
            if self.session.ending is None and not isinstance(error, NOT_DONE):
                client.withdraw(label)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        if not isinstance(token, int):
            held.forget()
            raise LockTimeout("it was not free in time" if token == TIMEOUT else f"the wait ended: {token}")
        held.granted(token)
        return held

    async def run(
        self,
        body: Callable[[Held], Coroutine[Any, Any, T]],
        *,
        timeout: float | None = None,
        through_jeopardy: bool = False,
    ) -> T:
        """Acquire, run ``body(held)``, release; the body's result. The body is cancelled when the grant is lost, and
        before that as soon as the session is in jeopardy unless `through_jeopardy`; LockLost is raised then, after
        the body has ended."""
        held = await self.acquire(timeout=timeout)
        why: list[LockLost] = []
        try:
            if not through_jeopardy:
                held.check()
            task = self.session.door.spawn(body(held))

            def stop(reason: LockLost) -> None:
                why.append(reason)
                task.cancel()

            def on_state(state: State) -> None:
                if state is State.JEOPARDY and not through_jeopardy:
                    stop(InJeopardy("the lease of the session ran out"))

            unwatch = self.session.watch(on_state)
            held.lost.then(lambda: stop(held.lost.result()))
            try:
                result = await task
            except self.session.door.cancelled:
                if not why:
                    raise
            finally:
                unwatch()
            if why:
                raise why[0]
            return result
        finally:
            if why:
                held.let_go()  # the cell may be out of reach: do not wait for it
            else:
                await held.release()

    async def __aenter__(self) -> Held:
        held = await self.acquire()
        _entered.set((*_entered.get(), (self, held)))
        return held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = list(_entered.get())
        place = max(place for place, (lock, _) in enumerate(entered) if lock is self)
        _, held = entered.pop(place)
        _entered.set(tuple(entered))
        await held.release()


class Lock(Claimed):
    """An exclusive lock on one name. Make one wherever it is needed; the name is what counts."""

    def __init__(
        self, session: Session, name: str, *, delay: float = 0.0, who: str = "", machine: str = "locks"
    ) -> None:
        super().__init__(session, exclusive=[name], delay=delay, who=who, machine=machine)
        self.name = name

    async def contenders(self, consistency: Consistency = Consistency.LEASE) -> list[Contender]:
        """Who holds it and who waits, in order."""
        return await self.client.contenders(self.name, consistency)

    async def break_(self, reason: str) -> int:
        """As an operator, end whatever holds it; the holder is told the reason. How many grants that were."""
        return await self.client.break_lock(self.name, reason)
