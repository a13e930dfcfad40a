"""A session as applications and recipes hold it: the core of :mod:`.session`, driven through a door.

Everything here belongs to the thread that made it; another thread gets WrongThread, a forked child ForkedClient.
Callbacks run in a later turn, so calling the session from one of them is fine.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from random import Random
from types import TracebackType
from typing import Any, Final, Self, TypedDict

from ..machine import Plain
from ..wire.native import Consistency
from .door import Alarm, Door, Line, Promise, T
from .errors import ForkedClient, NotServing, OutcomeUnknown, SessionEnded, WrongThread
from .outputs import (
    Answered,
    Call,
    Changed,
    Connect,
    Disconnect,
    Finished,
    Gap,
    Output,
    Parked,
    Published,
    Resolved,
    Send,
)
from .session import SessionCore
from .states import State
from .subscription import Subscription

log: Final = logging.getLogger("quorate.client")

CONNECT_TIMEOUT: Final = 30.0


class Options(TypedDict, total=False):
    """What every door's ``connect`` takes besides endpoints; see :class:`~.session.SessionCore`."""

    timeout: float
    grace: float
    drift: float
    name: str
    cell: bytes
    in_flight_max: int
    queued_max: int
    liveness: Callable[[], bool] | None
    attach: bool


class Wait:
    """A command that has been taken and whose result may take long: await it. `ticket` is 0 if the result came at
    once."""

    def __init__(self, ticket: int, outcome: Promise[Plain]) -> None:
        self.ticket = ticket
        self._outcome = outcome

    def __await__(self) -> Generator[Any, Any, Plain]:
        return self._outcome.__await__()


class _Asked:
    """A call and who waits for it. `taken` is there if somebody wants to know the ticket."""

    __slots__ = ("call", "outcome", "taken", "ticket")

    def __init__(self, call: Call, outcome: Promise[Plain]) -> None:
        self.call = call
        self.outcome = outcome
        self.taken: Promise[int] | None = None
        self.ticket = 0


class _Current:
    """The wire of one connection; deaf once the session has another."""

    def __init__(self, session: Session) -> None:
        self.session: Session | None = session

    def connected(self) -> None:
        if self.session is not None:
            self.session._told(self.session._core.connected)

    def received(self, content: bytes) -> None:
        if self.session is not None:
            self.session._told(partial(self.session._core.received, content))

    def disconnected(self, reason: str) -> None:
        if self.session is not None:
            session, self.session = self.session, None
            session._line = session._wire = None
            session.trouble = reason
            session._told(partial(session._core.disconnected, reason))


class Session:
    """A session with a cell. Get one from a door's ``connect``; end it with :meth:`close`, or use it in ``async with``.

    Commands are applied exactly once, in the order in which they are called, across reconnects and changes of the
    leader. What calls may raise: :mod:`.errors`. Without a `timeout` a call lasts at most as long as the session
    (for ever in a client that opened none).
    """

    def __init__(self, core: SessionCore, door: Door) -> None:
        self.door = door
        self.trouble = ""
        """Why the last connection broke or could not be had; for people."""
        self._core = core
        self._line: Line | None = None
        self._wire: _Current | None = None
        self._asked: dict[Call, _Asked] = {}
        self._waits: dict[int, _Asked] = {}
        self._watchers: dict[int, Callable[[State], object]] = {}
        self._listeners: dict[int, tuple[str, Callable[[Plain | Gap], object]]] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self._numbers = count(1)
        self._finished: Promise[None] = Promise(door)
        self._pump_due = False
        self._alarm: Alarm | None = None
        self._alarm_at = 0.0
        self._thread = threading.get_ident()
        self._process = os.getpid()

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """As the core last saw it."""
        return self._core.state

    @property
    def id(self) -> int:
        """The session's number in the cell, 0 before it is opened."""
        return self._core.session

    @property
    def cell(self) -> bytes:
        """The cell's id, empty before it is known."""
        return self._core.cell

    @property
    def member(self) -> int:
        """The member this client is connected to, 0 if none."""
        return self._core.member

    @property
    def ending(self) -> SessionEnded | None:
        """Why it is over, once it is."""
        return self._core.ending

    def lease_left(self) -> float:
        """For how many seconds the session surely lives, counted conservatively; 0 in jeopardy and afterwards. From
        any thread."""
        return self._core.lease_left(self.door.now())

    def label(self) -> int:
        """A number that this session has not given before; machines that let clients name things use it."""
        return next(self._numbers)

    # --- what it can do ---------------------------------------------------------------------------------------------

    async def call(
        self, machine: str, command: str, /, *args: Plain, timeout: float | None = None, **named: Plain
    ) -> Plain:
        """Have a command applied and return its result; if the machine makes it wait, the result of that wait.

        After `timeout` seconds it raises NotServing if the command was certainly not done, else OutcomeUnknown. A
        cancelled call may have been done as well; what it began in the machine stays begun.
        """
        return await self._result(self._command(machine, command, args, named), timeout)

    async def begin(
        self, machine: str, command: str, /, *args: Plain, timeout: float | None = None, **named: Plain
    ) -> Wait:
        """Have a command applied; return as soon as the cell has taken it, with the wait for its result. `timeout` as
        in :meth:`call`."""
        asked = self._command(machine, command, args, named)
        asked.taken = Promise(self.door)
        await self._guarded(asked, asked.taken, timeout)
        return Wait(asked.ticket, asked.outcome)

    def post(self, machine: str, command: str, /, *args: Plain, spare: bool = False, **named: Plain) -> Promise[Plain]:
        """Send a command whether or not anybody waits: it is repeated until it is answered or the session is over,
        and no cancel takes it back. Await the promise for its result."""
        return self._command(machine, command, args, named).outcome

    async def query(
        self,
        machine: str,
        query: str,
        /,
        *args: Plain,
        consistency: Consistency = Consistency.LEASE,
        timeout: float | None = None,
        **named: Plain,
    ) -> Plain:
        """Ask a machine. Linearizable unless `consistency` says LOCAL. After `timeout` seconds it raises NotServing."""
        self._enter()
        call = self._core.query(machine, query, _arguments(args, named), consistency)
        return await self._result(self._ask(call), timeout)

    async def status(self, timeout: float | None = None) -> Mapping[str, Plain]:
        """How the connected replica does."""
        self._enter()
        status = await self._result(self._ask(self._core.status()), timeout)
        return status if isinstance(status, dict) else {}

    async def admin(self, command: str, /, *args: Plain, timeout: float | None = None, **named: Plain) -> Plain:
        """An operator's command to the connected replica. It is not repeated: OutcomeUnknown if the connection
        breaks."""
        self._enter()
        return await self._result(self._ask(self._core.admin(command, _arguments(args, named))), timeout)

    def events(self, machine: str) -> Subscription:
        """What the machine publishes to this session from now on."""
        self._enter()
        subscription = Subscription(self.door)
        if self.ending is not None:
            subscription.finish(self.ending)
            return subscription
        number = self.label()
        stop = self.listen(machine, subscription.take)
        self._subscriptions[number] = subscription

        def stopped() -> None:
            stop()
            self._subscriptions.pop(number, None)

        subscription.on_end = stopped
        return subscription

    def listen(self, machine: str, callback: Callable[[Plain | Gap], object]) -> Callable[[], object]:
        """Call back with each event of the machine, and each gap. Returns what stops it."""
        number = self.label()
        self._listeners[number] = (machine, callback)
        return lambda: self._listeners.pop(number, None)

    def watch(self, callback: Callable[[State], object]) -> Callable[[], object]:
        """Call back with each new state of the session. Returns what stops it."""
        number = self.label()
        self._watchers[number] = callback
        return lambda: self._watchers.pop(number, None)

    async def close(self) -> None:
        """End the session in the cell too: what it holds there is freed at once. Returns when the cell was told, or
        cannot be told now. Closing twice is the same as once."""
        self._enter()
        self._core.close(self.door.now())
        self._pump()
        await self._finished

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        if threading.get_ident() != self._thread or os.getpid() != self._process:
            if os.getpid() != self._process:
                raise ForkedClient("this session belongs to the parent process; open one in this process")
            raise WrongThread("this session belongs to another thread; threads use quorate.kernel.client.blocking")

    def _command(
        self, machine: str, command: str, args: Sequence[Plain], named: Mapping[str, Plain], spare: bool = False
    ) -> _Asked:
        self._enter()
        return self._ask(self._core.call(machine, command, _arguments(args, named), spare=spare))

    def _ask(self, call: Call) -> _Asked:
        asked = self._asked[call] = _Asked(call, Promise(self.door))
        if not self._pump_due:
            self._pump_due = True
            self.door.soon(self._pump)
        return asked

    async def _result(self, asked: _Asked, timeout: float | None) -> Plain:
        return await self._guarded(asked, asked.outcome, timeout)

    async def _guarded(self, asked: _Asked, promise: Promise[T], timeout: float | None) -> T:
        alarm = None if timeout is None else self.door.later(timeout, partial(self._late, asked, promise, timeout))
        try:
            return await promise
        finally:
            if not promise.settled:
                self._forget(asked)
            if alarm is not None:
                alarm.cancel()

    def _late(self, asked: _Asked, promise: Promise[Any], timeout: float) -> None:
        if promise.settled:
            return
        if self._forget(asked):
            promise.fail(NotServing(f"no answer within {timeout:g} s, nothing was done {self.trouble}".rstrip()))
        else:
            promise.fail(OutcomeUnknown(f"no answer within {timeout:g} s {self.trouble}".rstrip()))

    def _forget(self, asked: _Asked) -> bool:
        """Nobody waits any more. True: it was not done and will not be."""
        self._waits.pop(asked.ticket, None)
        if self._asked.pop(asked.call, None) is None:
            return False
        return self._core.abandon(asked.call)

    def _told(self, what: Callable[[float], None]) -> None:
        """The connection has news for the core."""
        what(self.door.now())
        self._pump()

    def _pump(self) -> None:
        """Carry out what the core wants until it wants nothing more."""
        self._pump_due = False
        while outputs := self._core.take():
            for output in outputs:
                self._carry_out(output)
        self._arm()

    def _carry_out(self, output: Output) -> None:
        match output:
            case Send(content):
                if self._line is not None:
                    self._line.write(content)
            case Answered(call, value, error):
                answered = self._asked.pop(call, None)
                if answered is not None:
                    _settle(answered.outcome, value, error)
                    if answered.taken is not None:
                        _settle(answered.taken, 0, error)
            case Published(machine, value):
                self._tell_listeners(machine, value)
            case Parked(call, ticket):
                parked = self._asked.pop(call, None)
                if parked is not None:
                    parked.ticket = ticket
                    self._waits[ticket] = parked
                    if parked.taken is not None:
                        parked.taken.succeed(ticket)
            case Resolved(ticket, value, error):
                waiting = self._waits.pop(ticket, None)
                if waiting is not None:
                    _settle(waiting.outcome, value, error)
            case Gap():
                self._tell_listeners(None, output)
            case Changed(state, reason, _):
                self._changed(state, reason)
            case Connect(endpoint):
                self._wire = _Current(self)
                self._line = self.door.dial(endpoint, self._wire)
            case Disconnect(reason):
                self.trouble = reason
                self._hang_up()
            case Finished():
                self._hang_up()
                self._finished.succeed(None)

    def _hang_up(self) -> None:
        line, wire = self._line, self._wire
        self._line = self._wire = None
        if wire is not None:
            wire.session = None
        if line is not None:
            line.drop()

    def _changed(self, state: State, reason: str) -> None:
        log.debug("session %x is %s: %s", self.id, state.value, reason)
        for watcher in list(self._watchers.values()):
            self.door.soon(partial(watcher, state))
        if self.ending is not None:
            for subscription in list(self._subscriptions.values()):
                subscription.finish(self.ending)

    def _tell_listeners(self, machine: str | None, item: Plain | Gap) -> None:
        for name, callback in list(self._listeners.values()):
            if machine is None or name == machine:
                self.door.soon(partial(callback, item))

    def _arm(self) -> None:
        """Have the core ticked in time. An alarm that comes too early is left alone, unless nothing is ever due again:
        it will see that nothing is due."""
        due = self._core.deadline()
        if self._alarm is not None and self._alarm_at <= due < float("inf"):
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if due != float("inf"):
            self._alarm_at = due
            self._alarm = self.door.later(max(0.0, due - self.door.now()), self._rang)

    def _rang(self) -> None:
        self._alarm = None
        now = self.door.now()
        late = now - self._alarm_at
        if late > self._core.lease.interval:
            log.warning("the event loop was blocked for %.1f s; sessions expire when keepalives cannot go out", late)
        self._core.tick(now)
        self._pump()


def _settle(outcome: Promise[T], value: T, error: Exception | None) -> None:
    if error is not None:
        outcome.fail(error)
    else:
        outcome.succeed(value)


def _arguments(args: Sequence[Plain], named: Mapping[str, Plain]) -> Sequence[Plain] | Mapping[str, Plain]:
    """Arguments as they travel: a list, a mapping, or, if both are given, a mapping that begins with the list under
    the empty name."""
    if not named:
        return args
    return {"": args, **named} if args else named


async def open_session(
    door: Door, endpoints: Iterable[str], random: Random, connect_timeout: float, options: Options
) -> Session:
    """A session that is open; what every door's ``connect`` comes down to.

    Raises NotServing if no member let this client in within `connect_timeout` seconds, SessionEnded and its kinds if
    one refused it.
    """
    session = Session(SessionCore(endpoints, random, **options), door)
    settled: Promise[None] = Promise(door)
    unwatch = session.watch(lambda _: settled.succeed(None))
    alarm = door.later(connect_timeout, lambda: settled.succeed(None))
    session._core.start(door.now())
    session._pump()
    try:
        await settled
    except BaseException:
        session._core.close(door.now())
        session._pump()
        raise
    finally:
        alarm.cancel()
        unwatch()
    if session.ending is not None:
        raise session.ending
    if session.state is State.CONNECTING:
        trouble = session.trouble or "no member answered"
        await session.close()
        raise NotServing(f"no session within {connect_timeout:g} s: {trouble}")
    return session
