"""Plain data as bytes: MessagePack, without its extension types, and nothing that would come back as something else.

Everything that replicas must agree on byte for byte goes through here: arguments, replies, events, images of machines.
The order of a mapping is kept, not sorted: a machine may rely on the order in which it inserted, and would behave
differently after a restore if the order were lost.

This module knows the shape of plain data and no meaning.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from ..machine import DEPTH_MAX, Plain

LIMIT: Final = 64 << 20
"""Bytes that :func:`decode` takes unless told otherwise."""

SCALARS: Final = frozenset({type(None), bool, int, float, str, bytes})

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder()


class Malformed(ValueError):
    """These bytes are not plain data, or more of it than allowed."""


class NotPlain(TypeError):
    """This value is not plain data; the message says where it starts to differ."""


def encode(value: Plain) -> bytes:
    """The bytes of `value`; equal values with equally ordered mappings give equal bytes.

    Tuples are written as lists, members of an IntEnum or StrEnum as their value.

    Raises:
        NotPlain: it holds another type, a key that is no str, an integer beyond 64 bits, text that is not Unicode, or
            is nested deeper than DEPTH_MAX.
    """
    kind = type(value)
    if kind not in SCALARS and not (kind is list and SCALARS.issuperset(map(type, value))):  # type: ignore[arg-type]
        check(value)
    try:
        return _encoder.encode(value)
    except (OverflowError, UnicodeEncodeError) as error:
        raise NotPlain(str(error)) from None


def decode(encoded: bytes, limit: int = LIMIT) -> Plain:
    """The value that `encoded` holds, whole.

    Raises:
        Malformed: it is cut, has something behind it, holds what is not plain data, or is longer than `limit` bytes.
    """
    if len(encoded) > limit:
        raise Malformed(f"{len(encoded)} bytes, but {limit} are allowed")
    try:
        value: Plain = _decoder.decode(encoded)
    except RecursionError:
        raise Malformed(f"nested deeper than {DEPTH_MAX}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError) as error:
        raise Malformed(str(error)) from None
    if type(value) not in SCALARS:
        try:
            check(value)
        except NotPlain as error:
            raise Malformed(str(error)) from None
    return value


def check(value: object, exact: bool = False) -> None:
    """Pass if `value` is plain data. It is walked level by level, so no depth of nesting can exhaust the stack.

    Args:
        exact: refuse also what would come back as another type: tuples, subclasses of dict, enum members.

    Raises:
        NotPlain: it is not.
    """
    level = [value]
    for depth in range(DEPTH_MAX + 1):
        deeper: list[object] = []
        for item in level:
            if depth == DEPTH_MAX and isinstance(item, list | tuple | dict):
                raise NotPlain(f"nested deeper than {DEPTH_MAX}")
            deeper += _deeper(item, exact)
        if not deeper:
            return
        level = deeper


def _deeper(item: Any, exact: bool) -> Iterable[object]:
    """What remains to be looked at inside `item`."""
    kind = type(item)
    if kind is list or (isinstance(item, list | tuple) and not exact):
        members = item
    elif kind is dict or (isinstance(item, dict) and not exact):
        for key in item:
            if type(key) is not str:
                raise NotPlain(f"a mapping has a key of type {type(key).__name__}, but only str is allowed")
        members = item.values()
    elif kind in SCALARS or (isinstance(item, enum.Enum) and isinstance(item, int | str) and not exact):
        return ()
    else:
        raise NotPlain(f"{kind.__module__}.{kind.__qualname__} is not plain data")
    if SCALARS.issuperset(map(type, members)):
        return ()
    return [member for member in members if type(member) not in SCALARS]
