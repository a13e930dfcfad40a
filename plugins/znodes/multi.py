"""The wire form of several operations in one request: how a multi or multiRead is split, and how its results are put
together.

Each operation is a header (type, done, err) and its record; a header with `done` ends the list. Results look the
same; one that failed has type -1 and holds the error code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import error as StructError
from typing import Final

from .codec import INT, MULTI_HEADER, buffer_end, create_end
from .protocol import Malformed, Mode, Op

_int = INT.unpack_from
_CREATES: Final = frozenset((Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER))
_TTLS: Final = frozenset((Mode.TTL, Mode.TTL_SEQUENTIAL))


def _path(frame: bytes, at: int) -> int:
    end = buffer_end(frame, at)
    if frame[at] >= 0x80:
        raise Malformed("null path")
    return end


def _create(frame: bytes, at: int) -> int:
    _path(frame, at)
    return create_end(frame, at)


_BY_FLAGS: Final[Mapping[int, Op]] = {
    Mode.CONTAINER: Op.CREATE_CONTAINER,
    Mode.TTL: Op.CREATE_TTL,
    Mode.TTL_SEQUENTIAL: Op.CREATE_TTL,
}

WRITES: Final[Mapping[int, Callable[[bytes, int], int]]] = {
    Op.CREATE: _create,
    Op.CREATE2: _create,
    Op.CREATE_CONTAINER: _create,
    Op.CREATE_TTL: lambda frame, at: _create(frame, at) + 8,
    Op.DELETE: lambda frame, at: _path(frame, at) + 4,
    Op.CHECK: lambda frame, at: _path(frame, at) + 4,
    Op.SET_DATA: lambda frame, at: buffer_end(frame, _path(frame, at)) + 4,
}
"""What a multi may hold: the type, and where a record of it ends."""

READS: Final[Mapping[int, Callable[[bytes, int], int]]] = {
    Op.GET_DATA: lambda frame, at: _path(frame, at) + 1,
    Op.GET_CHILDREN: lambda frame, at: _path(frame, at) + 1,
}
"""What a multiRead may hold."""

RESULTS: Final[Mapping[int, Op]] = {
    Op.CREATE: Op.CREATE,
    Op.CREATE_CONTAINER: Op.CREATE2,
    Op.CREATE_TTL: Op.CREATE2,
    Op.DELETE: Op.DELETE,
    Op.CHECK: Op.CHECK,
    Op.SET_DATA: Op.SET_DATA,
}
"""The type under which a multi's result is reported."""


def split(frame: bytes, at: int, allowed: Mapping[int, Callable[[bytes, int], int]]) -> list[tuple[int, bytes]]:
    """The operations of a request as (type, record). Raises Malformed, also for a type that is not `allowed`."""
    steps: list[tuple[int, bytes]] = []
    try:
        while True:
            op, done, _err = MULTI_HEADER.unpack_from(frame, at)
            if done:
                return steps
            at += MULTI_HEADER.size
            record_end = allowed.get(op)
            if record_end is None:
                raise Malformed(f"operation {op} in a multi")
            end = record_end(frame, at)
            if end > len(frame):
                raise Malformed("record cut short")
            record = frame[at:end]
            if op == Op.CREATE_TTL and _int(record, len(record) - 12)[0] not in _TTLS:
                op, record = Op.CREATE, record[:-8]
            if op in _CREATES:
                # As in the original the flags decide what is created and so what its result looks like; one with a
                # time to live, which it has not, is malformed when its turn comes.
                op = _BY_FLAGS.get(_int(record, len(record) - 4)[0], Op.CREATE)
            steps.append((op, record))
            at = end
    except StructError:
        raise Malformed("multi cut short") from None


def failed(err: int) -> bytes:
    """The result of an operation that did not happen."""
    return MULTI_HEADER.pack(Op.ERROR, False, err) + INT.pack(err)
