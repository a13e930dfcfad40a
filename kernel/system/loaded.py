"""A machine in its place: what the host keeps beside the machine's own state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..dispatch import operations
from ..machine import Plain, RawMachine, SessionId, StateMachine
from ..wire import plain
from .asks import Hook, SessionClosed, SessionOpened, TimerFired, pack_hook, unpack_hook

if TYPE_CHECKING:
    from random import Random


class Halt:
    """Why a machine stands still, and what it misses.

    Its commands are refused meanwhile (their clients know that nothing was done), its timers wait. Only the sessions
    that come and go must be told to it later.
    """

    __slots__ = ("detail", "good", "index", "missed", "pending", "reason")

    def __init__(self, index: int, reason: str, pending: Hook | None, detail: str = "") -> None:
        self.index: Final = index
        """The index of the command or hook that failed."""
        self.reason: Final = reason
        self.pending: Final = pending
        """The hook that failed, to be called again by an upgrade; None: a command failed, which is not done for
        ever."""
        self.detail: Final = detail
        """The traceback, on this replica only, if it saw the failure."""
        self.missed: dict[SessionId, SessionOpened | SessionClosed] = {}
        self.good: StateMachine | None = None
        """The machine as it was before the failure, once it has been rebuilt."""

    def miss(self, hook: Hook) -> None:
        """A hook that the machine should have seen. Of a session that came and went it need not know."""
        if isinstance(hook, SessionOpened):
            self.missed[hook.session] = hook
        elif isinstance(hook, SessionClosed):
            if isinstance(self.missed.pop(hook.session, None), SessionOpened):
                return
            self.missed[hook.session] = hook
        else:
            assert not isinstance(hook, TimerFired), "timers wait in their table"

    def image(self) -> list[Plain]:
        """Everything that is replicated, as plain data."""
        pending = None if self.pending is None else pack_hook(self.pending)
        return [self.index, self.reason, pending, [pack_hook(hook) for hook in self.missed.values()]]

    @classmethod
    def of_image(cls, image: Plain) -> Halt:
        """The halt whose :meth:`image` that is."""
        fields: Any = image
        index, reason, pending, missed = fields
        halt = cls(index, reason, None if pending is None else unpack_hook(pending))
        for packed in missed:
            hook = unpack_hook(packed)
            assert isinstance(hook, SessionOpened | SessionClosed)
            halt.missed[hook.session] = hook
        return halt


class Loaded:
    """One machine under its number and name. `machine` is replaced when a halted one goes on."""

    __slots__ = (
        "apply_chunk", "chain", "code", "commands", "halt", "machine", "name", "number", "queries", "random", "system",
        "tag", "version",
    )  # fmt: skip

    apply_chunk: Callable[..., None] | None

    def __init__(self, number: int, name: str, code: str, version: int, machine: StateMachine, system: bool) -> None:
        self.number: Final = number
        self.name: Final = name
        self.tag: Final = plain.encode(name)
        self.code: Final = code
        self.version = version
        """What the cell agreed on."""
        self.system: Final = system
        self.commands, self.queries = operations(type(machine))
        self.halt: Halt | None = None
        self.chain = 0
        """Grows out of every reply and event: differs soon after the replicas differ."""
        self.random: Callable[[int], Random] = _no_random
        self.become(machine)

    def become(self, machine: StateMachine) -> None:
        """Put another instance in place."""
        self.machine = machine
        self.apply_chunk = machine.apply_chunk if isinstance(machine, RawMachine) else None


def _no_random(index: int) -> Random:
    raise AssertionError("the host gives each machine its source of randomness")
