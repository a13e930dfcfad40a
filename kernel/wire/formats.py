"""What members of a cell say to each other, byte by byte: the readable specification of the peer wire.

:data:`FORMS` has one row a frame: its number and its fields in order. On the wire a frame is ``u32 length, u8 number,
body``; `length` counts the number and the body. Everything is big-endian. The declarations are used as they stand,
interpreted, for frames that are rare, and by the tests as the measure of :mod:`.codec`, which has :mod:`struct` code
for the frequent ones. (A *compiled* construct takes truncated input without a word, so none is compiled.)

A connection is used in one direction: the member that made it speaks, the other only answers the greeting::

    caller                                                 called
    Greeting(version, cell, to, member, disk, run ...)  ->
                                                        <- Welcomed(member, incarnation, disk)   or TurnedAway(why)
    Accept, Accepted, Heartbeat, Forward ...            ->

So the sender of a message is a property of its connection, and no frame repeats it. A client that comes to this port by
mistake fails at the greeting. The native client protocol is :mod:`.native`'s.
"""

from __future__ import annotations

import enum
import struct
from typing import Any, Final, NamedTuple, TypeAlias

from construct import (
    Adapter,
    Bytes,
    Construct,
    ConstructError,
    GreedyBytes,
    Int8ub,
    Int16ub,
    Int32ub,
    Int64sb,
    Int64ub,
    PascalString,
    Prefixed,
    PrefixedArray,
    Struct,
    Terminated,
    ValidationError,
)

from ..forwarding import Gap
from ..node_messages import AnyMessage, Forward, Gaps, Heads, Renew, Renewed
from ..paxos.ballot import Ballot, Slot
from ..paxos.messages import (
    Accept,
    Accepted,
    Beaten,
    Canvass,
    Canvassed,
    Chosen,
    Commit,
    Compacted,
    Fetch,
    FetchSnapshot,
    Heartbeat,
    Kind,
    Prepare,
    Promise,
    ReadGranted,
    ReadIndex,
    Refused,
    SnapshotChunk,
    Value,
    Vote,
    Vouched,
    Yield,
)

PEER_VERSION: Final = 1
FRAME_BYTES_MAX: Final = 64 << 20
"""Largest `length` that is read: a full window of the largest batches, several times over."""

CELL_BYTES: Final = 16
DISK_BYTES: Final = 16
RUN_BYTES: Final = 8


class Malformed(ValueError):
    """These bytes are no frame of the peer wire (or these fields fit into none)."""


# --- frames of the connection itself ----------------------------------------------------------------------------------


class Greeting(NamedTuple):
    """The caller's first frame. `to`: whom it means to have called; `disk`: the identity of the caller's disk.

    `incarnation` numbers the runs of its process on that disk and `run` is drawn anew for each; `promised` and `slot`
    are the highest ballot promised and the highest slot voted on that the run found on the disk when it began. A disk
    that shows less than it has shown before was rolled back.
    """

    version: int
    cell: bytes
    to: int
    member: int
    incarnation: int
    disk: bytes
    run: bytes
    promised: Ballot
    slot: Slot


class Welcomed(NamedTuple):
    """The called member takes messages on this connection."""

    member: int
    incarnation: int
    disk: bytes


class Refusing(enum.IntEnum):
    """Why a caller is turned away."""

    VERSION = 0
    CELL = 1
    MISDIRECTED = 2
    """The caller meant another member."""
    DISK = 3
    """The member is known with another disk: this one must join under a new id."""
    ROLLED_BACK = 4
    """The disk has shown a later run or a higher promise before: it is an old copy and may not vote."""


class TurnedAway(NamedTuple):
    """The called member refuses; the connection ends."""

    why: Refusing
    reason: str


Frame: TypeAlias = AnyMessage | Greeting | Welcomed | TurnedAway


# --- field types ------------------------------------------------------------------------------------------------------


class _Choice(Adapter):  # type: ignore[type-arg]
    """A number that stands for a member of `choices`; others are refused."""

    def __init__(self, subcon: Construct[Any, Any], choices: type[enum.IntEnum]) -> None:
        super().__init__(subcon)
        self.choices = choices

    def _decode(self, obj: int, context: Any, path: Any) -> enum.IntEnum:
        try:
            return self.choices(obj)
        except ValueError as error:
            raise ValidationError(str(error), path=path) from None

    def _encode(self, obj: int, context: Any, path: Any) -> int:
        return int(self.choices(obj))


class _Truth(Adapter):  # type: ignore[type-arg]
    """False is 0, True is 1, anything else is refused."""

    def _decode(self, obj: int, context: Any, path: Any) -> bool:
        if obj > 1:
            raise ValidationError(f"{obj} is neither false nor true", path=path)
        return bool(obj)

    def _encode(self, obj: bool, context: Any, path: Any) -> int:
        return int(bool(obj))


class _Record(Adapter):  # type: ignore[type-arg]
    """Fields side by side as a named tuple."""

    def __init__(self, made: type[Any], **fields: Construct[Any, Any]) -> None:
        super().__init__(Struct(**fields))
        self.made = made

    def _decode(self, obj: Any, context: Any, path: Any) -> Any:
        return self.made(*(obj[name] for name in self.made._fields))

    def _encode(self, obj: Any, context: Any, path: Any) -> Any:
        return obj._asdict()


class _Row(Adapter):  # type: ignore[type-arg]
    """A counted row as a tuple."""

    def _decode(self, obj: Any, context: Any, path: Any) -> tuple[Any, ...]:
        return tuple(obj)

    def _encode(self, obj: Any, context: Any, path: Any) -> list[Any]:
        return list(obj)


class _Pair(Adapter):  # type: ignore[type-arg]
    """Two fields, `one` and `two`, as a plain pair."""

    def _decode(self, obj: Any, context: Any, path: Any) -> tuple[Any, Any]:
        return obj.one, obj.two

    def _encode(self, obj: Any, context: Any, path: Any) -> dict[str, Any]:
        one, two = obj
        return {"one": one, "two": two}


_SLOT = Int64ub
_TIME = Int64ub
_TRUTH = _Truth(Int8ub)
_TEXT = PascalString(Int16ub, "utf8")
_REST = GreedyBytes
_BALLOT = _Record(Ballot, round=Int64ub, member=Int32ub)
_VALUE = _Record(Value, kind=_Choice(Int8ub, Kind), payload=Prefixed(Int32ub, GreedyBytes))
_VOTE = _Record(Vote, slot=_SLOT, ballot=_BALLOT, value=_VALUE)
_VALUES = _Row(PrefixedArray(Int32ub, _VALUE))
_SESSIONS = _Row(PrefixedArray(Int32ub, Int64sb))
_STREAMS = _Row(PrefixedArray(Int16ub, _Pair(Struct("one" / Int16ub, "two" / Int64ub))))
_GAPS = _Row(PrefixedArray(Int16ub, _Record(Gap, machine=Int16ub, sequence=Int64ub)))

FORMS: Final[dict[int, tuple[type[Any], Construct[Any, Any]]]] = {
    # the connection
    1: (
        Greeting,
        Struct(
            "version" / Int16ub,
            "cell" / Bytes(CELL_BYTES),
            "to" / Int32ub,
            "member" / Int32ub,
            "incarnation" / Int32ub,
            "disk" / Bytes(DISK_BYTES),
            "run" / Bytes(RUN_BYTES),
            "promised" / _BALLOT,
            "slot" / _SLOT,
        ),
    ),
    2: (Welcomed, Struct("member" / Int32ub, "incarnation" / Int32ub, "disk" / Bytes(DISK_BYTES))),
    3: (TurnedAway, Struct("why" / _Choice(Int8ub, Refusing), "reason" / _TEXT)),
    # leadership
    16: (Canvass, Struct("ballot" / _BALLOT, "chosen" / _SLOT, "configuration" / _SLOT)),
    17: (Canvassed, Struct("ballot" / _BALLOT, "granted" / _TRUTH, "promised" / _BALLOT, "chosen" / _SLOT)),
    18: (Prepare, Struct("ballot" / _BALLOT, "first" / _SLOT, "configuration" / _SLOT, "waiver" / _BALLOT)),
    19: (
        Promise,
        Struct(
            "ballot" / _BALLOT,
            "first" / _SLOT,
            "votes" / _Row(PrefixedArray(Int32ub, _VOTE)),
            "chosen" / _SLOT,
            "compacted" / _SLOT,
            "part" / Int32ub,
            "parts" / Int32ub,
        ),
    ),
    20: (Refused, Struct("ballot" / _BALLOT, "promised" / _BALLOT)),
    21: (Yield, Struct("ballot" / _BALLOT, "chosen" / _SLOT)),
    22: (
        Heartbeat,
        Struct("ballot" / _BALLOT, "commit" / _SLOT, "sent" / _TIME, "round" / Int64ub, "configuration" / _SLOT),
    ),
    23: (Beaten, Struct("ballot" / _BALLOT, "sent" / _TIME, "round" / Int64ub, "applied" / _SLOT)),
    # the log
    32: (Accept, Struct("ballot" / _BALLOT, "first" / _SLOT, "values" / _VALUES, "commit" / _SLOT)),
    33: (Accepted, Struct("ballot" / _BALLOT, "first" / _SLOT, "last" / _SLOT)),
    34: (Commit, Struct("ballot" / _BALLOT, "commit" / _SLOT)),
    35: (Fetch, Struct("first" / _SLOT, "limit" / Int64ub)),
    36: (Chosen, Struct("first" / _SLOT, "values" / _VALUES, "commit" / _SLOT)),
    37: (Compacted, Struct("slot" / _SLOT, "size" / Int64ub)),
    38: (FetchSnapshot, Struct("slot" / _SLOT, "offset" / Int64ub)),
    39: (SnapshotChunk, Struct("slot" / _SLOT, "offset" / Int64ub, "size" / Int64ub, "chunk" / _REST)),
    40: (Vouched, Struct("ballot" / _BALLOT, "slot" / _SLOT, "alone" / _TRUTH)),
    # reads
    48: (ReadIndex, Struct("context" / Int64ub, "by_round" / _TRUTH)),
    49: (ReadGranted, Struct("context" / Int64ub, "slot" / _SLOT)),
    # commands and sessions on their way to the leader
    64: (Forward, Struct("chunks" / _REST)),
    65: (Heads, Struct("incarnation" / Int32ub, "streams" / _STREAMS)),
    66: (Gaps, Struct("gaps" / _GAPS)),
    67: (Renew, Struct("report" / Int64ub, "sessions" / _SESSIONS)),
    68: (Renewed, Struct("report" / Int64ub, "lost" / _SESSIONS)),
}
"""Frame number -> (frame, its fields on the wire). This table is the protocol."""

NUMBERS: Final[dict[type[Any], int]] = {frame: number for number, (frame, _) in FORMS.items()}
_BODIES: Final = {number: Struct("fields" / form, Terminated) for number, (_, form) in FORMS.items()}
_LENGTH: Final = struct.Struct(">I")


def encode_by_form(frame: Frame) -> bytes:
    """The whole frame with its length before it, straight from :data:`FORMS`. Raises Malformed."""
    number = NUMBERS[type(frame)]
    try:
        body = bytes((number,)) + FORMS[number][1].build(frame._asdict())
    except (ConstructError, UnicodeError, ValueError) as error:
        raise Malformed(f"{type(frame).__name__} cannot be written: {error}") from None
    return _LENGTH.pack(len(body)) + body


def decode_by_form(body: bytes) -> Frame:
    """The frame in `body` (its number and its fields, nothing behind), straight from :data:`FORMS`. Raises
    Malformed."""
    if not body or body[0] not in FORMS:
        raise Malformed(f"frame number {body[0]}" if body else "empty frame")
    frame: type[Any] = FORMS[body[0]][0]
    try:
        fields = _BODIES[body[0]].parse(body[1:]).fields
    except (ConstructError, UnicodeError, ValueError) as error:
        raise Malformed(f"{frame.__name__} cannot be read: {error}") from None
    made: Frame = frame(*(fields[name] for name in frame._fields))
    return made
