"""The plugin interface: what a state machine is. Start reading here.

A cell agrees on one log of commands. A *state machine* is a class whose instances, one on every replica, receive the
same commands in the same order and therefore always hold the same state. Write one by subclassing
:class:`StateMachine` and marking methods::

    class Tally(StateMachine):
        name = "tally"
        version = 1

        def __init__(self) -> None:
            self.totals: dict[str, int] = {}

        @command
        def add(self, commit: Commit, key: str, by: int = 1) -> int:
            self.totals[key] = self.totals.get(key, 0) + by
            return self.totals[key]

        @query
        def total(self, key: str) -> int:
            return self.totals.get(key, 0)

The rules that make replication work, all of them:

* A command computes its effects from its arguments, the machine's state and the :class:`Commit` it is given; from
  nothing else: no clock, no randomness, no files, no iteration over a set where the order shows. Time is
  ``commit.time``, randomness is ``commit.random``.
* State, arguments, results and events are plain data: None, bool, int (64 bit), float, str, bytes, and lists and
  str-keyed dicts of these, nested at most :data:`DEPTH_MAX` deep.
  Numbers that clients may add to need a bound.
* An *expected* refusal is a :class:`Refusal`, raised before the first change of state. Any other exception is taken as
  a bug: it is the same on every replica, halts this machine (not the cell) at that command everywhere and shows in the
  status.
* Commands are applied exactly once: the kernel keeps replies until the client has acknowledged them and repeats them to
  retries, across fail-over and snapshots.

This module knows nothing of logs, networks or disks, and a machine needs nothing but this module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    NamedTuple,
    NewType,
    Protocol,
    TypeAlias,
    TypeVar,
    runtime_checkable,
)

if TYPE_CHECKING:
    from random import Random

Plain: TypeAlias = "bool | int | float | str | bytes | Sequence[Plain] | Mapping[str, Plain] | None"
"""Plain data, the only kind that enters a log, a reply, an event or a snapshot."""

SessionId = NewType("SessionId", int)
"""A client's session, alive until it closes or expires. 0: the command came from the cell itself."""

Ticket = NewType("Ticket", int)
"""A wait that a command began; see :meth:`Commit.park`."""

NO_SESSION: Final = SessionId(0)
DEPTH_MAX: Final = 32
TICKETS_MAX: Final = 255
"""How many waits one command may begin; a session may have more of them outstanding."""


class Refusal(Exception):
    """An expected no. Raise it before the first change of state; the client gets the same class with the same words.

    `code` is for programs (short, stable, lower case with dashes: ``"not-held"``), `reason` is for people.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Origin(NamedTuple):
    """The run of a replica's process through which a command came or a session is attached."""

    member: int
    incarnation: int


class Timer(NamedTuple):
    """A timer of this machine: its key and the cell time (milliseconds) at which it was due."""

    key: str
    at: int


class Effects:
    """What commands asked the kernel to do, gathered until the command has succeeded. Machines use :class:`Commit`.

    The kernel carries them out in this order: parked, published, resolved, timers, closed; each in the order of the
    calls.
    """

    __slots__ = ("closed", "parked", "published", "resolved", "tickets_left", "timers")

    def __init__(self) -> None:
        self.tickets_left = TICKETS_MAX  # how many more waits the commanding session may begin
        self.published: list[tuple[SessionId, Plain]] = []
        self.parked: list[tuple[Ticket, SessionId]] = []
        self.resolved: list[tuple[Ticket, Plain]] = []
        self.timers: list[tuple[str, int | None]] = []
        self.closed: list[SessionId] = []


class Commit:
    """One command's place in the log, and the machine's way to cause effects. Valid only during the call it is given
    to.

    Attributes:
        index: cell-wide number of this command, 64 bit, strictly growing, kept in snapshots: the fencing token to hand
            out. A call of a hook (``timer_fired``, ``session_closed`` ...) has its own.
        time: cell time in milliseconds: never decreases, stamped by the leader, runs only while a leader serves. Decide
            by it.
        wall: wall-clock time in milliseconds since 1970, for display only.
        session: the client's session (:data:`NO_SESSION` if the cell itself acts).
        identities: what the client proved to be, as ``scheme:id`` strings (its address included).
        origin: the replica through which it came.
        version: the version of this machine that the cell has agreed on.
        epoch: names the leadership that proposed this command; the same number means the same leader, all the time in
            between (Paxos Made Live, section 5.3).
        sessions: every live session and the origin it is attached to (read only; reflects the state before this
            command).
    """

    __slots__ = (
        "_drawn", "_effects", "_parked", "_random", "epoch", "identities", "index", "origin", "session", "sessions",
        "time", "version", "wall",
    )  # fmt: skip

    def __init__(
        self,
        index: int,
        time: int,
        wall: int,
        *,
        session: SessionId = NO_SESSION,
        identities: Sequence[str] = (),
        origin: Origin = Origin(0, 0),  # noqa: B008 - immutable
        version: int = 1,
        epoch: int = 0,
        sessions: Mapping[SessionId, Origin],
        random: Callable[[int], Random],
        effects: Effects,
    ) -> None:
        self.index = index
        self.time = time
        self.wall = wall
        self.session = session
        self.identities = identities
        self.origin = origin
        self.version = version
        self.epoch = epoch
        self.sessions = sessions
        self._random = random
        self._drawn: Random | None = None
        self._effects = effects
        self._parked = 0

    @property
    def random(self) -> Random:
        """A generator seeded by cell, machine and index, the same on every replica and one for the whole command.
        Never for secrets: anybody can compute it."""
        if self._drawn is None:
            self._drawn = self._random(self.index)
        return self._drawn

    def publish(self, session: SessionId, event: Plain) -> None:
        """Send `event` to a session: numbered, kept until acknowledged, delivered before any reply that was computed
        later. To a session that is gone it is a no-op."""
        self._effects.published.append((session, event))

    def park(self) -> Ticket:
        """Begin a wait for the commanding session: return the ticket as the command's result, keep it in your state
        and :meth:`resolve` it in a later command. The client's await ends with that result. A retried command gets
        the same ticket; tickets of a session that ends are dropped by the kernel (you learn it by
        ``session_closed``). Call it before the first change of state: it refuses (``no-session``,
        ``too-many-waits``)."""
        if not self.session:
            raise Refusal("no-session", "only a session can wait")
        if self._parked >= self._effects.tickets_left:
            raise Refusal("too-many-waits", "this session has too many unfinished waits")
        ticket = Ticket((self.index << 8) | self._parked)
        self._parked += 1
        self._effects.parked.append((ticket, self.session))
        return ticket

    def resolve(self, ticket: Ticket, result: Plain) -> None:
        """End a wait. A ticket that is resolved already, or whose session is gone, is ignored."""
        self._effects.resolved.append((ticket, result))

    def set_timer(self, key: str, at: int) -> None:
        """Have ``timer_fired(commit, key)`` called once at the first command-free moment at or after cell time `at`.
        A timer of the same key is replaced. Timers are replicated state: they survive fail-over and snapshots and
        fire exactly once, in order of (at, key)."""
        self._effects.timers.append((key, at))

    def cancel_timer(self, key: str) -> None:
        """Forget a timer; nothing happens if there is none."""
        self._effects.timers.append((key, None))

    def close_session(self, session: SessionId) -> None:
        """End a session after this command, as if its client had closed it."""
        self._effects.closed.append(session)


_F = TypeVar("_F", bound=Callable[..., Any])


def command(method: _F) -> _F:
    """Mark ``method(self, commit, ...)`` as a command: it may change state. Arguments are checked against the
    annotations before the call (a mismatch is a Refusal ``bad-arguments``); defaults and keyword arguments work."""
    method.__quorate__ = "command"  # type: ignore[attr-defined]
    return method


def query(method: _F) -> _F:
    """Mark ``method(self, ...)`` as a query: it reads and must not change anything."""
    method.__quorate__ = "query"  # type: ignore[attr-defined]
    return method


class StateMachine:
    """A replicated state machine. Only `name` and the commands are required; every other method has a default.

    A machine is made without arguments. ``restore`` is always called on a new instance.
    """

    name: ClassVar[str]
    """The name it is loaded and called under, unless the operator chooses another: ``[a-z][a-z0-9-]*``."""

    version: ClassVar[int] = 1
    """The newest behavior this code knows. The cell agrees on one version in the log; ``commit.version`` tells
    which."""

    def snapshot(self) -> Plain:
        """The whole state as plain data; by default the instance's attributes. May run in a forked child: read only."""
        return dict(vars(self))

    def restore(self, state: Plain, version: int) -> None:
        """Become `state`, which ``snapshot`` of `version` (this one or an older) wrote. Called on a new instance.
        Raise ValueError if it is not what you wrote: the file is then treated as damaged."""
        if not isinstance(state, dict):
            raise ValueError(f"{type(self).__name__}: expected a mapping of attributes, got {type(state).__name__}")
        unknown = sorted(state.keys() - vars(self).keys())
        if unknown:
            raise ValueError(f"{type(self).__name__}: the snapshot holds unknown attributes {unknown}")
        vars(self).update(state)

    def session_opened(self, commit: Commit, session: SessionId, face: str) -> None:
        """A session began; `face` is the door it came through ("native", "znodes", ...). Of those that were open when
        this machine was loaded it is not told; see ``commit.sessions``."""

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        """A session ended; `expired` tells a lapse from a deliberate close. Drop what it owned here."""

    def timer_fired(self, commit: Commit, key: str) -> None:
        """A timer is due. It is already removed."""

    def upgraded(self, commit: Commit, old: int, new: int) -> None:
        """The cell agreed to move from version `old` to `new`; reshape the state if need be."""

    def digest(self) -> int | None:
        """A 64-bit number that is equal on replicas in equal state, computed in O(1) (keep it incrementally). None:
        the kernel chains the commands' results instead, which finds a divergence as soon as it shows."""
        return None


@runtime_checkable
class ChunkedImage(Protocol):
    """Optional, for machines with much state: the snapshot in pieces instead of as one value, so that no second copy
    of the whole is ever in memory. The kernel then calls these two instead of ``snapshot`` and ``restore``."""

    def snapshot_chunks(self) -> Iterator[bytes]:
        """The whole state in pieces of your own form, each well below 1 MiB. May run in a forked child: read only."""
        ...

    def restore_chunks(self, chunks: Iterable[bytes], version: int) -> None:
        """Become the state whose pieces these are, in the same order and with the same borders. As ``restore``
        otherwise."""
        ...


class RawMachine(StateMachine):
    """The form for hot paths: bytes in, bytes out, many operations a command, encoding and session checks your own.

    A chunk is whatever the machine's front on one replica gathered in one turn. It is one command to the kernel (one
    index). Chunks come from fronts only, so what is in them can be believed: the requests of native clients to such a
    machine are refused (``front-only``).
    """

    def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None:
        """Apply every operation in `chunk`. `answers` is None except on the replica whose front submitted it: append
        there what the front shall send, one item an operation, in order. State must not depend on it. An exception
        halts the machine as usual."""
        raise NotImplementedError
