"""Plain data as bytes."""

from __future__ import annotations

import datetime
import enum
import math
from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.machine import DEPTH_MAX
from quorate.kernel.wire import plain

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
)


class Color(enum.IntEnum):
    RED = 3


class Pair(NamedTuple):
    left: int
    right: str


def nested(depth: int) -> Any:
    """A list in a list ..., `depth` of them."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@given(VALUES)
def test_round_trip(value: Any) -> None:
    """What is encoded comes back equal, of the same types and in the same order."""
    back = plain.decode(plain.encode(value))
    assert repr(back) == repr(value)


@given(st.binary(max_size=60))
def test_decoding_anything_is_plain_or_malformed(encoded: bytes) -> None:
    """No bytes make decode raise anything else or return what encode would refuse."""
    try:
        value = plain.decode(encoded)
    except plain.Malformed:
        return
    plain.check(value, exact=True)


def test_order_of_a_mapping_is_kept() -> None:
    """A machine that relies on insertion order behaves the same after a restore."""
    assert list(plain.decode(plain.encode({"b": 1, "a": 2}))) == ["b", "a"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        object(),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC),
        bytearray(b"x"),
        {1: 2},
        {("a",): 1},
        [1, {"a": [{b"k": 1}]}],
        1 << 64,
        -(1 << 63) - 1,
        "\ud800",
        ["ok", "\ud800"],
        1j,
    ],
)
def test_other_values_are_refused(value: Any) -> None:
    """What would not come back as itself is refused when it is written."""
    with pytest.raises(plain.NotPlain):
        plain.encode(value)


def test_near_relatives_are_written_as_what_they_are_like() -> None:
    """Tuples, mappings and int enums are accepted where nothing depends on their type."""
    value: Any = [Pair(1, "x"), OrderedDict(a=1), defaultdict(int, b=2), Color.RED, (1, 2)]
    assert plain.decode(plain.encode(value)) == [[1, "x"], {"a": 1}, {"b": 2}, 3, [1, 2]]


@pytest.mark.parametrize("value", [(1, 2), [Pair(1, "x")], {"a": OrderedDict()}, [Color.RED], Color.RED])
def test_exact_check_refuses_near_relatives(value: Any) -> None:
    """State that restores by itself must come back as the same types."""
    plain.check(value)
    with pytest.raises(plain.NotPlain):
        plain.check(value, exact=True)


def test_depth_is_bounded_both_ways() -> None:
    """Exactly DEPTH_MAX containers may lie in each other, for writers and readers."""
    deepest = nested(DEPTH_MAX)
    assert plain.decode(plain.encode(deepest)) == deepest
    with pytest.raises(plain.NotPlain):
        plain.encode(nested(DEPTH_MAX + 1))
    with pytest.raises(plain.Malformed):
        plain.decode(msgspec.msgpack.encode(nested(DEPTH_MAX + 1)))


def test_a_bottomless_nest_is_malformed_and_not_a_crash() -> None:
    """Neither a long row of openings nor a value that contains itself exhausts the stack."""
    with pytest.raises(plain.Malformed):
        plain.decode(b"\x91" * 100_000 + b"\xc0")
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(plain.NotPlain):
        plain.encode(circle)


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x01",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc7\x01\x05a",
        b"\x81\x01\x02",
        b"\xa1\xff",
    ],
)
def test_malformed_bytes(encoded: bytes) -> None:
    """Cut, trailing, extension types, keys that are no text and bad text are all refused."""
    with pytest.raises(plain.Malformed):
        plain.decode(encoded)


def test_limit() -> None:
    """Longer input than allowed is refused before it is looked at."""
    encoded = plain.encode("x" * 100)
    assert plain.decode(encoded, len(encoded)) == "x" * 100
    with pytest.raises(plain.Malformed):
        plain.decode(encoded, len(encoded) - 1)


def test_not_a_number_is_kept() -> None:
    """A NaN is plain data, too."""
    assert math.isnan(plain.decode(plain.encode(math.nan)))  # type: ignore[arg-type]
