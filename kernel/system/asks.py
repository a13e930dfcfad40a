"""What the cell's own machines can cause and others cannot.

A command of a system machine changes that machine's state and *asks* the host for the rest: call a hook on the loaded
machines, fire timers, put a machine in place. The host carries asks out after the command has succeeded, as it does
with every effect, so that a system machine needs no reference to the host and is tested without one.

A *hook* is a call of a loaded machine that no client commanded. Each has its own index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from ..machine import Commit, Effects, Origin, Plain, SessionId, StateMachine

if TYPE_CHECKING:
    from .loaded import Loaded


class SessionOpened(NamedTuple):
    """Hook: ``session_opened``."""

    session: SessionId
    face: str

    def deliver(self, machine: StateMachine, commit: Commit) -> None:
        machine.session_opened(commit, self.session, self.face)


class SessionClosed(NamedTuple):
    """Hook: ``session_closed``."""

    session: SessionId
    expired: bool

    def deliver(self, machine: StateMachine, commit: Commit) -> None:
        machine.session_closed(commit, self.session, self.expired)


class TimerFired(NamedTuple):
    """Hook: ``timer_fired``, if the timer is still set to that time when its turn comes."""

    key: str
    at: int

    def deliver(self, machine: StateMachine, commit: Commit) -> None:
        machine.timer_fired(commit, self.key)


class Upgraded(NamedTuple):
    """Hook: ``upgraded``."""

    old: int
    new: int

    def deliver(self, machine: StateMachine, commit: Commit) -> None:
        machine.upgraded(commit, self.old, self.new)


Hook = SessionOpened | SessionClosed | TimerFired | Upgraded

_HOOKS: Final[tuple[type[Hook], ...]] = (SessionOpened, SessionClosed, TimerFired, Upgraded)


def pack_hook(hook: Hook) -> list[Plain]:
    """`hook` as plain data."""
    return [_HOOKS.index(type(hook)), *hook]


def unpack_hook(packed: list[Plain]) -> Hook:
    """What :func:`pack_hook` made. Raises ValueError, TypeError or IndexError if it is something else."""
    kind, *fields = packed
    if type(kind) is not int or kind < 0:
        raise ValueError("not a hook")
    return _HOOKS[kind](*fields)  # type: ignore[arg-type]


class Attached(NamedTuple):
    """Ask: tell that a session is attached, before to `before`. A new one (None) is told to every loaded machine,
    too."""

    session: SessionId
    face: str
    before: Origin | None


class Ended(NamedTuple):
    """Ask: tell that a session ended, and have every loaded machine hear of it."""

    session: SessionId
    expired: bool


class Fire(NamedTuple):
    """Ask: fire the timers of a machine that are due at cell time `upto`."""

    machine: int
    upto: int


class Load(NamedTuple):
    """Ask: put a machine in place."""

    loaded: Loaded


class Unload(NamedTuple):
    """Ask: take a machine out, and what belongs to it."""

    loaded: Loaded


class Upgrade(NamedTuple):
    """Ask: move a machine to a version. One that is halted goes on, and the hook it may have halted at is called
    again."""

    loaded: Loaded
    version: int


class Skip(NamedTuple):
    """Ask: have a halted machine go on behind what it halted at."""

    loaded: Loaded


class Reconfigure(NamedTuple):
    """Ask: have whoever leads propose a change of membership, as :mod:`..paxos.configuration` writes it."""

    change: bytes


Ask = Attached | Ended | Fire | Load | Unload | Upgrade | Skip | Reconfigure


class SystemEffects(Effects):
    """Effects with room for asks."""

    __slots__ = ("asked",)

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Ask] = []


class SystemCommit(Commit):
    """The commit that a system machine's command gets."""

    __slots__ = ()

    _effects: SystemEffects

    def ask(self, ask: Ask) -> None:
        """Have the host do it once this command has succeeded."""
        self._effects.asked.append(ask)
