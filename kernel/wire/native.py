"""The native client protocol: every frame that passes between a session client and a replica.

:data:`FORMS` below is the specification: one row a frame, its number and its fields in order, declared with
construct. The frames that pass many times a second (requests, replies, queries, keepalives, events) have hand-written
:mod:`struct` code as well; the tests hold the two equal on every truncation and every one-byte change. The rare ones
are read and written by the declaration itself, interpreted: a *compiled* construct takes truncated input without a
word.

On the wire a frame is ``u32 length, u8 number, body``; `length` counts the number and the body. Everything is
big-endian. The client speaks first::

    client                                      replica
    Hello(version, cell or b"", name)      ->
                                           <-   Welcome(cell, leader, members, limits)   or Ended(WRONG_CELL)
    Open(timeout)  or  Attach(session...)  ->
                                           <-   Opened(session, password, timeout)       or Ended(UNKNOWN), Failed
    Request, Query, KeepAlive, Status ...  ->
                                           <-   Event, Reply, QueryReply, Kept, Failed, Moved, StatusReply ...
    Close                                  ->
                                           <-   Ended(CLOSED)

Queries, Status and Admin need no session. A client that has none and neither asks nor waits for anything is told
Failed(CONNECTION, "idle") after 30 seconds and hung up on, so that it takes nobody else's place; one that does not say
Hello within 10 seconds is hung up on without a word.

Replies carry the number of the last event that the session had when the reply was computed: a client hands out those
events first. After an Attach the replica sends the events above `last_event` again. A Failed about a request says that
the request was *not* put into the log by this replica on this connection; after such a "not-serving" the replica takes
no further request on that connection, so that the order of requests holds.

This module knows nothing of sockets, sessions or machines. Payloads stay bytes here; what they hold is said at each
frame.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from construct import (
    Adapter,
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

PROTOCOL_VERSION: Final = 1
PAYLOAD_BYTES_MAX: Final = 1 << 20
FRAME_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 4096
"""Largest `length` a peer may announce: one payload and room for the head."""
PASSWORD_BYTES: Final = 16


class Malformed(ValueError):
    """These bytes are no frame of this protocol (or these fields fit into none)."""


class Consistency(enum.IntEnum):
    """What a query may answer from."""

    LEASE = 0
    """Linearizable: the leader answers at once under its master lease, others after they have asked the leader."""
    READ_INDEX = 1
    """Linearizable without reliance on clocks: the leader first has a quorum answer a round of heartbeats."""
    LOCAL = 2
    """Sequential: what this replica has applied, not older than `min_index`."""


class EndReason(enum.IntEnum):
    """Why a session is over."""

    CLOSED = 0
    EXPIRED = 1
    UNKNOWN = 2
    """The cell knows no such session, or the password is not its password."""
    WRONG_CELL = 3
    """The client named another cell than this one."""


class About(enum.IntEnum):
    """What a Failed speaks about, and so what its `number` means."""

    REQUEST = 0
    QUERY = 1
    """A Query, Status or Admin, by its id."""
    SESSION = 2
    """The Open or Attach of this connection; number 0."""
    CONNECTION = 3
    """The connection itself, which the replica closes now; number 0."""


class Hello(NamedTuple):
    """The client's first frame. `cell` is empty until the client has learned which cell it belongs to."""

    version: int
    cell: bytes
    name: str


class Open(NamedTuple):
    """Ask for a new session that may stay silent for `timeout_ms` before it expires."""

    timeout_ms: int


class Attach(NamedTuple):
    """Go on with a session over this connection; `last_event` is the last event the client has taken in."""

    session: int
    password: bytes
    last_event: int


class Request(NamedTuple):
    """A command of this connection's session. Sent again with the same number it is applied once all the same.

    `acknowledged`: replies to numbers up to it arrived and may be forgotten. `events_acknowledged`: likewise for
    events. `payload`: plain data [command, args], args a list (by position) or a dict (by name).
    """

    number: int
    acknowledged: int
    events_acknowledged: int
    machine: str
    payload: bytes


class Query(NamedTuple):
    """A question that changes nothing. `payload`: plain data [query, args]. The answer is at least as new as command
    `min_index`."""

    id: int
    consistency: Consistency
    min_index: int
    machine: str
    payload: bytes


class KeepAlive(NamedTuple):
    """The client is alive; `stamp` comes back in the Kept. Acknowledgements as in a Request."""

    stamp: int
    acknowledged: int
    events_acknowledged: int


class Close(NamedTuple):
    """End the session. Answered by Ended(CLOSED)."""


class Status(NamedTuple):
    """Ask the replica how it does; answered by a StatusReply."""

    id: int


class Admin(NamedTuple):
    """An operator's command to the replica. `payload`: plain data [command, args]; answered by a QueryReply of the
    same id."""

    id: int
    payload: bytes


class Member(NamedTuple):
    """A replica and the endpoint string at which clients find it."""

    id: int
    endpoint: str


class Welcome(NamedTuple):
    """The replica's first frame. `member` is itself, `leader` is 0 when it knows none."""

    version: int
    cell: bytes
    member: int
    leader: int
    members: tuple[Member, ...]
    payload_bytes_max: int
    in_flight_max: int
    timeout_ms_min: int
    timeout_ms_max: int


class Opened(NamedTuple):
    """The session is attached to this connection. `timeout_ms` is what the cell granted."""

    session: int
    password: bytes
    timeout_ms: int


class Reply(NamedTuple):
    """The answer to a Request. `payload`: plain data [status, value]: 0 result, 1 [code, reason] of a refusal, 2
    ticket, 3 [machine, reason]: the machine is halted and the command not done. Events up to `last_event` come before
    it."""

    number: int
    last_event: int
    payload: bytes


class QueryReply(NamedTuple):
    """The answer to a Query (payload as in Reply), true after command index `applied`."""

    id: int
    applied: int
    payload: bytes


class Kept(NamedTuple):
    """The leader, holding its lease, took note of the KeepAlive with this stamp: from the moment the client *sent*
    it, the session surely lives `lease_ms`."""

    stamp: int
    lease_ms: int


class Event(NamedTuple):
    """A numbered event of the session. `payload`: plain data [number, machine, kind, value]: kind 0 published value,
    1 resolved [ticket, result], 2 resolved by an end [ticket, code, reason], 3 gap [from, to]: these numbers were
    lost."""

    payload: bytes


class Moved(NamedTuple):
    """The leader or the members changed; `leader` is 0 when none is known."""

    leader: int
    members: tuple[Member, ...]


class Ended(NamedTuple):
    """The session is over; told by the cell, never guessed."""

    reason: EndReason


class Failed(NamedTuple):
    """What was asked was not done. `code` is for programs: "not-serving", "too-large", "malformed", "busy",
    "forbidden" ...; try again after `retry_after_ms`, elsewhere at once."""

    about: About
    number: int
    retry_after_ms: int
    code: str
    reason: str


class StatusReply(NamedTuple):
    """`payload`: a plain-data dict of what the status page shows."""

    id: int
    payload: bytes


Frame: TypeAlias = (
    Hello
    | Open
    | Attach
    | Request
    | Query
    | KeepAlive
    | Close
    | Status
    | Admin
    | Welcome
    | Opened
    | Reply
    | QueryReply
    | Kept
    | Event
    | Moved
    | Ended
    | Failed
    | StatusReply
)


# --- the specification ------------------------------------------------------------------------------------------------


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


class _Members(Adapter):  # type: ignore[type-arg]
    """A counted row of members as a tuple of :class:`Member`."""

    def _decode(self, obj: Any, context: Any, path: Any) -> tuple[Member, ...]:
        return tuple(Member(each.id, each.endpoint) for each in obj)

    def _encode(self, obj: tuple[Member, ...], context: Any, path: Any) -> list[dict[str, object]]:
        return [each._asdict() for each in obj]


_NAME = PascalString(Int8ub, "utf8")
_TEXT = PascalString(Int16ub, "utf8")
_BLOB = Prefixed(Int8ub, GreedyBytes)
_REST = GreedyBytes
_MEMBERS = _Members(PrefixedArray(Int8ub, Struct("id" / Int32ub, "endpoint" / _TEXT)))

FORMS: Final[dict[int, tuple[type[Frame], Construct[Any, Any]]]] = {
    # client to replica
    1: (Hello, Struct("version" / Int16ub, "cell" / _BLOB, "name" / _NAME)),
    2: (Open, Struct("timeout_ms" / Int32ub)),
    3: (Attach, Struct("session" / Int64sb, "password" / _BLOB, "last_event" / Int64ub)),
    4: (
        Request,
        Struct(
            "number" / Int64ub,
            "acknowledged" / Int64ub,
            "events_acknowledged" / Int64ub,
            "machine" / _NAME,
            "payload" / _REST,
        ),
    ),
    5: (
        Query,
        Struct(
            "id" / Int32ub,
            "consistency" / _Choice(Int8ub, Consistency),
            "min_index" / Int64ub,
            "machine" / _NAME,
            "payload" / _REST,
        ),
    ),
    6: (KeepAlive, Struct("stamp" / Int64ub, "acknowledged" / Int64ub, "events_acknowledged" / Int64ub)),
    7: (Close, Struct()),
    8: (Status, Struct("id" / Int32ub)),
    9: (Admin, Struct("id" / Int32ub, "payload" / _REST)),
    # replica to client
    65: (
        Welcome,
        Struct(
            "version" / Int16ub,
            "cell" / _BLOB,
            "member" / Int32ub,
            "leader" / Int32ub,
            "members" / _MEMBERS,
            "payload_bytes_max" / Int32ub,
            "in_flight_max" / Int32ub,
            "timeout_ms_min" / Int32ub,
            "timeout_ms_max" / Int32ub,
        ),
    ),
    66: (Opened, Struct("session" / Int64sb, "password" / _BLOB, "timeout_ms" / Int32ub)),
    67: (Reply, Struct("number" / Int64ub, "last_event" / Int64ub, "payload" / _REST)),
    68: (QueryReply, Struct("id" / Int32ub, "applied" / Int64ub, "payload" / _REST)),
    69: (Kept, Struct("stamp" / Int64ub, "lease_ms" / Int32ub)),
    70: (Event, Struct("payload" / _REST)),
    71: (Moved, Struct("leader" / Int32ub, "members" / _MEMBERS)),
    72: (Ended, Struct("reason" / _Choice(Int8ub, EndReason))),
    73: (
        Failed,
        Struct(
            "about" / _Choice(Int8ub, About),
            "number" / Int64ub,
            "retry_after_ms" / Int32ub,
            "code" / _NAME,
            "reason" / _TEXT,
        ),
    ),
    74: (StatusReply, Struct("id" / Int32ub, "payload" / _REST)),
}
"""Frame number -> (frame, its fields on the wire). This table is the protocol."""

NUMBERS: Final[dict[type[Frame], int]] = {frame: number for number, (frame, _) in FORMS.items()}
_BODIES: Final = {number: Struct("fields" / form, Terminated) for number, (_, form) in FORMS.items()}


def encode_by_form(frame: Frame) -> bytes:
    """As :func:`encode`, straight from :data:`FORMS`: the reference."""
    number = NUMBERS[type(frame)]
    try:
        body = bytes((number,)) + FORMS[number][1].build(frame._asdict())
    except (ConstructError, UnicodeError, ValueError) as error:
        raise Malformed(f"{type(frame).__name__} cannot be written: {error}") from None
    return _LENGTH.pack(len(body)) + body


def decode_by_form(body: bytes) -> Frame:
    """As :func:`decode`, straight from :data:`FORMS`: the reference."""
    if not body or body[0] not in FORMS:
        raise Malformed(f"frame number {body[0]}" if body else "empty frame")
    frame = FORMS[body[0]][0]
    try:
        fields = _BODIES[body[0]].parse(body[1:]).fields
    except (ConstructError, UnicodeError, ValueError) as error:
        raise Malformed(f"{frame.__name__} cannot be read: {error}") from None
    return frame(*(fields[name] for name in frame._fields))


# --- the hot frames ---------------------------------------------------------------------------------------------------

_LENGTH: Final = struct.Struct(">I")
_REQUEST: Final = struct.Struct(">IBQQQB")
_QUERY: Final = struct.Struct(">IBIBQB")
_KEEPALIVE: Final = struct.Struct(">IBQQQ")
_REPLY: Final = struct.Struct(">IBQQ")
_QUERY_REPLY: Final = struct.Struct(">IBIQ")
_KEPT: Final = struct.Struct(">IBQI")
_EVENT: Final = struct.Struct(">IB")
# The same without the length, as a body begins.
_REQUEST_BODY: Final = struct.Struct(">xQQQB")
_QUERY_BODY: Final = struct.Struct(">xIBQB")
_KEEPALIVE_BODY: Final = struct.Struct(">xQQQ")
_REPLY_BODY: Final = struct.Struct(">xQQ")
_QUERY_REPLY_BODY: Final = struct.Struct(">xIQ")
_KEPT_BODY: Final = struct.Struct(">xQI")


def _encode_request(frame: Request) -> bytes:
    name = frame.machine.encode()
    head = _REQUEST.pack(
        26 + len(name) + len(frame.payload), 4, frame.number, frame.acknowledged, frame.events_acknowledged, len(name)
    )
    return b"".join((head, name, frame.payload))


def _decode_request(body: bytes) -> Request:
    number, acknowledged, events_acknowledged, size = _REQUEST_BODY.unpack_from(body)
    end = 26 + size
    if end > len(body):
        raise Malformed("Request ends within its machine name")
    return Request(number, acknowledged, events_acknowledged, body[26:end].decode(), body[end:])


def _encode_query(frame: Query) -> bytes:
    name = frame.machine.encode()
    head = _QUERY.pack(
        15 + len(name) + len(frame.payload), 5, frame.id, Consistency(frame.consistency), frame.min_index, len(name)
    )
    return b"".join((head, name, frame.payload))


def _decode_query(body: bytes) -> Query:
    ident, consistency, min_index, size = _QUERY_BODY.unpack_from(body)
    end = 15 + size
    if end > len(body):
        raise Malformed("Query ends within its machine name")
    return Query(ident, Consistency(consistency), min_index, body[15:end].decode(), body[end:])


def _encode_keepalive(frame: KeepAlive) -> bytes:
    return _KEEPALIVE.pack(25, 6, *frame)


def _decode_keepalive(body: bytes) -> KeepAlive:
    if len(body) != 25:
        raise Malformed(f"KeepAlive of {len(body)} bytes")
    return KeepAlive(*_KEEPALIVE_BODY.unpack(body))


def _encode_reply(frame: Reply) -> bytes:
    return _REPLY.pack(17 + len(frame.payload), 67, frame.number, frame.last_event) + frame.payload


def _decode_reply(body: bytes) -> Reply:
    number, last_event = _REPLY_BODY.unpack_from(body)
    return Reply(number, last_event, body[17:])


def _encode_query_reply(frame: QueryReply) -> bytes:
    return _QUERY_REPLY.pack(13 + len(frame.payload), 68, frame.id, frame.applied) + frame.payload


def _decode_query_reply(body: bytes) -> QueryReply:
    ident, applied = _QUERY_REPLY_BODY.unpack_from(body)
    return QueryReply(ident, applied, body[13:])


def _encode_kept(frame: Kept) -> bytes:
    return _KEPT.pack(13, 69, *frame)


def _decode_kept(body: bytes) -> Kept:
    if len(body) != 13:
        raise Malformed(f"Kept of {len(body)} bytes")
    return Kept(*_KEPT_BODY.unpack(body))


def _encode_event(frame: Event) -> bytes:
    return _EVENT.pack(1 + len(frame.payload), 70) + frame.payload


def _decode_event(body: bytes) -> Event:
    return Event(body[1:])


# --- the other frames -------------------------------------------------------------------------------------------------

# They come when connections do, or a leader: after a fail-over everybody's at once, and most alike.
_REMEMBERED: Final = 256
_REMEMBERED_BYTES_MAX: Final = 512
_encode_again: Final = lru_cache(_REMEMBERED, typed=True)(encode_by_form)
_decode_again: Final = lru_cache(_REMEMBERED)(decode_by_form)


def _decode_cold(body: bytes) -> Frame:
    return _decode_again(body) if len(body) <= _REMEMBERED_BYTES_MAX else decode_by_form(body)


_ENCODERS: Final[dict[type[Frame], Callable[[Any], bytes]]] = {
    **dict.fromkeys(NUMBERS, encode_by_form),
    **dict.fromkeys((Hello, Open, Attach, Welcome, Opened, Failed, Moved), _encode_again),
    Request: _encode_request,
    Query: _encode_query,
    KeepAlive: _encode_keepalive,
    Reply: _encode_reply,
    QueryReply: _encode_query_reply,
    Kept: _encode_kept,
    Event: _encode_event,
}
_DECODERS: Final[dict[int, Callable[[bytes], Frame]]] = {
    **dict.fromkeys(FORMS, _decode_cold),
    4: _decode_request,
    5: _decode_query,
    6: _decode_keepalive,
    67: _decode_reply,
    68: _decode_query_reply,
    69: _decode_kept,
    70: _decode_event,
}


def encode(frame: Frame) -> bytes:
    """The frame with its length before it, ready to be sent. Raises Malformed if a field does not fit its place."""
    try:
        return _ENCODERS[type(frame)](frame)
    except Malformed:
        raise
    except (struct.error, ValueError, TypeError) as error:
        raise Malformed(f"{type(frame).__name__} cannot be written: {error}") from None


def decode(body: bytes) -> Frame:
    """The frame in `body`, as :func:`split` cuts it: its number and its fields, nothing before, nothing behind.
    Raises Malformed."""
    if not body:
        raise Malformed("empty frame")
    decoder = _DECODERS.get(body[0])
    if decoder is None:
        raise Malformed(f"frame number {body[0]}")
    try:
        return decoder(body)
    except Malformed:
        raise
    except (struct.error, ValueError) as error:
        raise Malformed(f"{FORMS[body[0]][0].__name__} cannot be read: {error}") from None


def split(buffer: bytes | bytearray, frame_bytes_max: int = FRAME_BYTES_MAX) -> tuple[list[bytes], int]:
    """Cut the whole frames off the front of `buffer`.

    Returns the bodies and how many bytes they took; keep what is behind for the next call. Raises Malformed as soon
    as a length of 0 or above `frame_bytes_max` is announced, before anything of that size is stored.
    """
    bodies = []
    start, size = 0, len(buffer)
    while size - start >= 4:
        (length,) = _LENGTH.unpack_from(buffer, start)
        if not 0 < length <= frame_bytes_max:
            raise Malformed(f"a frame of {length} bytes is announced, the limit is {frame_bytes_max}")
        end = start + 4 + length
        if end > size:
            break
        bodies.append(bytes(buffer[start + 4 : end]))
        start = end
    return bodies, start
