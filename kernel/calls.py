"""Calling machines: the commit a call gets, what comes of its effects, and what of its failure.

Effects of a call are gathered and carried out only after it has succeeded, and after everything in it has been encoded:
a result or an event that is not plain data is a failure of the machine, found before anything of it shows. Hooks that
follow from a call come behind it, in order, each with an index of its own.

This module knows nothing of batches, streams and snapshots.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakMethod
from zlib import crc32

import msgspec

from . import dispatch, replies
from .applied import Change, Move
from .catalog import Catalog
from .machine import Commit, Origin, Refusal, SessionId, StateMachine, Ticket
from .stop import StopReplica
from .system import DIGESTS, MEMBERSHIP, PLUGINS, SESSIONS, TIMERS, asks
from .system.asks import Ask, Hook, SystemCommit, SystemEffects, TimerFired, Upgraded
from .system.digests import Digests
from .system.loaded import Halt, Loaded
from .system.membership import Membership
from .system.plugins import Plugins
from .system.session import Session, SessionEvent
from .system.sessions import Sessions
from .system.timers import KEY_CHARS_MAX, Timers
from .wire import plain

if TYPE_CHECKING:
    from random import Random

NOWHERE: Final = Origin(0, 0)
DETAIL_CHARS_MAX: Final = 8192
"""Of the traceback that is kept for people."""


class Reached(Exception):
    """The call came before which everything was to stop; it did not happen."""


class _Encoded(NamedTuple):
    """What a call asked for, ready to be carried out."""

    effects: SystemEffects
    published: list[tuple[SessionId, bytes]]
    resolved: list[tuple[Ticket, bytes]]


class Calls:
    """The machines of one host, and the place in the log where they are called.

    Whoever drives it sets :attr:`origin`, :attr:`time`, :attr:`wall` and :attr:`epoch`, calls, and then has
    :meth:`settle` call the hooks that follow.
    """

    def __init__(
        self,
        cell: bytes,
        catalog: Catalog,
        own: Origin,
        random: Callable[[str], Random],
        good: Callable[[Loaded, Halt], StateMachine],
        until: int,
    ) -> None:
        """`good` gives a halted machine as it was before its failure. `until`: the index that must not be drawn (0:
        none)."""
        self.index = 0
        """The last index drawn."""
        self.time = 0
        self.wall = 0
        self.epoch = 0
        self.origin = NOWHERE
        """Where the present command came from."""
        self.membership: Final = Membership()
        self.sessions: Final = Sessions(cell)
        self.timers: Final = Timers()
        self.digests: Final = Digests()
        self.plugins: Final = Plugins(catalog, self.membership)
        systems: dict[int, StateMachine] = {
            SESSIONS: self.sessions,
            MEMBERSHIP: self.membership,
            TIMERS: self.timers,
            PLUGINS: self.plugins,
            DIGESTS: self.digests,
        }
        self.machines = {n: Loaded(n, m.name, m.name, m.version, m, system=True) for n, m in systems.items()}
        """All machines, the cell's own first, by number in ascending order."""
        self.events: list[SessionEvent] = []
        """For sessions that were attached to `own`."""
        self.ended: list[tuple[SessionId, bool]] = []
        self.moves: list[Move] = []
        self.changes: list[Change] = []
        self.wishes: list[bytes] = []
        """Changes of membership that whoever leads is to propose."""
        self._cell = cell
        self._catalog = catalog
        self._own = own
        self._random = random
        self._good: Final = WeakMethod(good)  # the host has this object: a cycle would outlive it, as nobody looks
        self._until = until
        self._effects = SystemEffects()
        self._pending: deque[tuple[Loaded, Hook]] = deque()

    # ---------------------------------------------------------------- calls

    def command(
        self, loaded: Loaded, command: str, args: msgspec.Raw, identities: tuple[str, ...], session: Session | None
    ) -> bytes:
        """Call a command, carry out its effects; the reply."""
        if loaded.halt is not None:
            return replies.halted(loaded.name, loaded.halt.reason)
        operation = loaded.commands.get(command)
        effects = self._effects
        try:
            if operation is None:
                raise dispatch.unknown(loaded.name, "command", command, loaded.commands)
            arguments = operation.arguments(bytes(args))
        except Refusal as refusal:
            return replies.refused(refusal.code, refusal.reason)
        if session is not None:
            if loaded.system and loaded.number != PLUGINS:
                return replies.CELL_ONLY
            effects.tickets_left = self.sessions.tickets_left(session)
        commit = self._commit(loaded)
        commit.identities = identities
        if session is not None:
            commit.session = session.id
        encoded: _Encoded | None = None
        try:
            result = operation.invoke(loaded.machine, commit, *arguments)
            if result is None:
                reply = replies.OK_NONE
            elif (effects.parked or operation.waits) and self._is_ticket(loaded, result, session):
                reply = replies.ticketed(result)
            else:
                reply = replies.OK_HEAD + plain.encode(result)
            if _any(effects):
                encoded = self._encoded(loaded)
        except Refusal as refusal:
            try:
                reply = replies.refused(refusal.code, refusal.reason)
            except Exception as error:  # its words are no text
                return self._halt(loaded, commit.index, f"the command {command}", error)
            if _any(effects):
                self._effects = SystemEffects()
        except BaseException as error:
            return self._halt(loaded, commit.index, f"the command {command}", error)
        if encoded is not None:
            self._carry_out(loaded, encoded)
        if len(reply) > replies.REPLY_MAX:
            reply = replies.refused("result-too-large", f"it was done; its result of {len(reply)} bytes is not told")
        loaded.chain = crc32(reply, loaded.chain)
        return reply

    def settle(self) -> None:
        """Call the hooks that follow from what was called."""
        pending = self._pending
        while pending:
            self._deliver(*pending.popleft())

    def _deliver(self, loaded: Loaded, hook: Hook) -> None:
        """Call a hook. A halted machine gets to know later."""
        if isinstance(hook, TimerFired):
            if loaded.halt is not None or not self.timers.take(loaded.number, *hook):
                return
        elif loaded.halt is not None:
            loaded.halt.miss(hook)
            return
        commit = self._commit(loaded)
        try:
            hook.deliver(loaded.machine, commit)
            encoded = self._encoded(loaded) if _any(self._effects) else None
        except BaseException as error:
            self._halt(loaded, commit.index, f"the hook {type(hook).__name__}", error, hook)
            return
        if encoded is not None:
            self._carry_out(loaded, encoded)

    def _commit(self, loaded: Loaded) -> Commit:
        """The next call's place in the log."""
        index = self.index + 1
        if index == self._until:
            raise Reached
        self.index = index
        return (SystemCommit if loaded.system else Commit)(
            index,
            self.time,
            self.wall,
            origin=self.origin,
            version=loaded.version,
            epoch=self.epoch,
            sessions=self.sessions.origins,
            random=loaded.random,
            effects=self._effects,
        )

    def _is_ticket(self, loaded: Loaded, result: object, session: Session | None) -> bool:
        """Whether a command's result is a wait that it began or that its session has on this machine."""
        if type(result) is not int:
            return False
        if any(ticket == result for ticket, _ in self._effects.parked):
            return True
        return session is not None and session.tickets.get(Ticket(result)) == loaded.number

    def chunk(
        self, loaded: Loaded, apply: Callable[..., None], chunk: bytes, answers: list[bytes] | None
    ) -> bytes | list[bytes] | None:
        """Have a raw machine apply a chunk; `answers`, or the reply that it is halted."""
        if loaded.halt is not None:
            return replies.halted(loaded.name, loaded.halt.reason)
        commit = self._commit(loaded)
        try:
            apply(commit, chunk, answers)
            encoded = self._encoded(loaded) if _any(self._effects) else None
        except BaseException as error:
            return self._halt(loaded, commit.index, "a chunk", error)
        if encoded is not None:
            self._carry_out(loaded, encoded)
        return answers

    # ---------------------------------------------------------------- effects

    def _encoded(self, loaded: Loaded) -> _Encoded:
        """Everything that a call asked for, as bytes. What cannot be carried out is the machine's failure."""
        effects = self._effects
        published, resolved, timers = effects.published, effects.resolved, effects.timers
        for key, at in timers:
            if type(key) is not str or len(key) > KEY_CHARS_MAX or not (at is None or _is_int64(at)):
                raise TypeError(f"a timer has a key of up to {KEY_CHARS_MAX} characters and a time in milliseconds")
        addressed = [*effects.closed, *[each for each, _ in published], *[each for each, _ in resolved]]
        if not all(map(_is_int64, addressed)):
            raise TypeError("sessions and tickets are integers")
        if timers and not self.timers.room(loaded.number, len(timers)):
            raise OverflowError("more timers than a machine may have")
        return _Encoded(
            effects,
            [(session, plain.encode(event)) for session, event in published],
            [(ticket, plain.encode(result)) for ticket, result in resolved],
        )

    def _carry_out(self, loaded: Loaded, encoded: _Encoded) -> None:
        """Do what a successful call asked for."""
        self._effects = SystemEffects()
        effects, sessions = encoded.effects, self.sessions
        for ticket, session in effects.parked:
            sessions.park(ticket, session, loaded.number)
        for session, value in encoded.published:
            self._tell(loaded, sessions.publish(session, loaded.tag, value))
        for ticket, value in encoded.resolved:
            self._tell(loaded, sessions.resolve(ticket, loaded.number, loaded.tag, value))
        for key, at in effects.timers:
            self.timers.set(loaded.number, key, at)
        for session in effects.closed:
            if sessions.end(session):
                self._carry(asks.Ended(session, False))
        for ask in effects.asked:
            self._carry(ask)

    def _tell(self, loaded: Loaded, event: SessionEvent | None) -> None:
        if event is not None:
            loaded.chain = crc32(event.event, loaded.chain)
            if self.sessions.origins[event.session] == self._own:
                self.events.append(event)

    def _carry(self, ask: Ask) -> None:
        """Do what a system machine asked for."""
        if isinstance(ask, asks.Ended):
            self.ended.append((ask.session, ask.expired))
            self._tell_machines(asks.SessionClosed(ask.session, ask.expired))
        elif isinstance(ask, asks.Attached):
            self.moves.append(Move(ask.session, ask.before, self.sessions.origins[ask.session]))
            if ask.before is None:
                self._tell_machines(asks.SessionOpened(ask.session, ask.face))
        elif isinstance(ask, asks.Fire):
            loaded = self.plugins.machines.get(ask.machine)
            if loaded is not None and loaded.halt is None:
                self._pending.extend((loaded, TimerFired(*timer)) for timer in self.timers.due(ask.machine, ask.upto))
        elif isinstance(ask, asks.Load):
            self.place(ask.loaded)
            self._note(ask.loaded, "loaded")
        elif isinstance(ask, asks.Unload):
            self._unload(ask.loaded)
        elif isinstance(ask, asks.Upgrade):
            self._upgrade(ask.loaded, ask.version)
        elif isinstance(ask, asks.Reconfigure):
            self.wishes.append(ask.change)
        else:
            self._skip(ask.loaded)

    def _tell_machines(self, hook: Hook) -> None:
        self._pending.extend((loaded, hook) for loaded in self.plugins.machines.values())

    def _note(self, loaded: Loaded, what: str) -> None:
        self.changes.append(Change(loaded.number, loaded.name, what))

    # ---------------------------------------------------------------- machines come, go, halt and go on

    def place(self, loaded: Loaded) -> None:
        """Put a loaded machine where it can be called."""
        seed, random = f"{self._cell.hex()}/{loaded.number}/", self._random
        loaded.random = lambda index: random(f"{seed}{index}")
        self.machines[loaded.number] = loaded

    def _unload(self, loaded: Loaded) -> None:
        del self.machines[loaded.number]
        self.timers.drop(loaded.number)
        reason = f"the machine {loaded.name} was unloaded"
        for event in self.sessions.abandon(loaded.number, loaded.tag, "machine-unloaded", reason):
            self._tell(loaded, event)
        self._note(loaded, "unloaded")

    def _upgrade(self, loaded: Loaded, version: int) -> None:
        """Move to a newer version; one that is halted goes on and gets another chance at the hook at which it
        halted."""
        self._catalog.find(loaded.code, version)
        old, retried = loaded.version, None
        if loaded.halt is not None:
            retried = loaded.halt.pending
            if isinstance(retried, Upgraded):
                old, retried = retried.old, None
        loaded.version = version
        self._note(loaded, "upgraded")
        hooks: list[Hook] = [Upgraded(old, version)]
        if retried is not None:
            hooks.append(retried)
        self._go_on(loaded, hooks)

    def _skip(self, loaded: Loaded) -> None:
        """A halted machine goes on without what halted it."""
        assert loaded.halt is not None
        pending = loaded.halt.pending
        if isinstance(pending, TimerFired):
            self.timers.take(loaded.number, *pending)
        self._go_on(loaded, [])

    def _go_on(self, loaded: Loaded, hooks: list[Hook]) -> None:
        """Have `hooks` called, and what the machine missed while it was halted."""
        halt = loaded.halt
        if halt is not None:
            good = self._good()
            assert good is not None, "calls without their host"
            loaded.become(good(loaded, halt))
            loaded.halt = None
            hooks += halt.missed.values()
            self._note(loaded, "resumed")
        self._pending.extend((loaded, hook) for hook in hooks)

    def _halt(self, loaded: Loaded, index: int, what: str, error: BaseException, pending: Hook | None = None) -> bytes:
        """A call failed: halt the machine (the reply says so), or stop this replica if others need not have failed
        alike."""
        if isinstance(error, StopReplica):
            raise error
        place = f"{what}, index {index}"
        if not isinstance(error, Exception) or isinstance(error, MemoryError | RecursionError):
            raise StopReplica(f"{type(error).__name__} in {loaded.name}, {place}") from error
        if loaded.system:
            raise StopReplica(f"a defect of the kernel in {loaded.name}, {place}") from error
        self._effects = SystemEffects()
        if isinstance(pending, TimerFired):
            self.timers.set(loaded.number, pending.key, pending.at)
        detail = "".join(traceback.format_exception(error))[-DETAIL_CHARS_MAX:]
        loaded.halt = Halt(index, f"{type(error).__name__} in {place}", pending, detail)
        self._note(loaded, "halted")
        return replies.halted(loaded.name, loaded.halt.reason)


def _any(effects: SystemEffects) -> bool:
    return bool(
        effects.published or effects.resolved or effects.timers or effects.parked or effects.closed or effects.asked
    )


def _is_int64(value: object) -> bool:
    return type(value) is int and -(1 << 63) <= value < 1 << 63
