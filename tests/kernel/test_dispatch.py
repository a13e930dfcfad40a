"""Typed dispatch: what annotations make of arguments."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.dispatch import Unfit, operations, unknown
from quorate.kernel.machine import (
    Commit,
    Plain,
    RawMachine,
    Refusal,
    SessionId,
    StateMachine,
    Ticket,
    command,
    query,
)
from quorate.kernel.wire import plain

if TYPE_CHECKING:
    from decimal import Decimal


class Mode(enum.Enum):
    FAST = "fast"


class Spot(NamedTuple):
    x: int
    y: int


@dataclass
class Order:
    what: str
    count: int = 1


PRICES = {"tea": 2}


@dataclass
class Priced:
    what: str

    def __post_init__(self) -> None:
        self.price = PRICES[self.what]


class Sample(StateMachine):
    name = "sample"

    @command
    def add(self, commit: Commit, key: str, by: int = 1) -> int:
        return by

    @command
    def many(self, commit: Commit, names: list[str], by: Mapping[str, int], spot: Spot | None = None) -> None: ...

    @command
    def keep(self, commit: Commit, value: Plain, more: Sequence[Plain] = []) -> Plain:
        return value

    @command
    def named(self, commit: Commit, key: str, *, mode: Mode = Mode.FAST, order: Order | None = None) -> list[Any]:
        return [key, mode, order]

    @command
    def own(self, commit: Commit, session: SessionId, ratio: float, word: Literal["a", "b"], raw: bytes) -> None: ...

    @command
    def wait(self, commit: Commit) -> int | Ticket: ...

    @query
    def get(self, key: str) -> int:
        return 1

    def plain_method(self) -> None: ...


TABLE = operations(Sample)


def given_(name: str, args: Any) -> tuple[Any, ...]:
    """The arguments that a command would be called with."""
    return TABLE.commands[name].arguments(plain.encode(args))


def test_marked_methods_are_the_table() -> None:
    """Only what is marked can be called from outside."""
    assert set(TABLE.commands) == {"add", "many", "keep", "named", "own", "wait"}
    assert set(TABLE.queries) == {"get"}
    assert operations(Sample) is TABLE


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("add", ["k"], ("k", 1)),
        ("add", ["k", 5], ("k", 5)),
        ("add", {"by": 2, "key": "k"}, ("k", 2)),
        ("many", [["a"], {"b": 1}], (["a"], {"b": 1}, None)),
        ("many", [[], {}, [1, 2]], ([], {}, Spot(1, 2))),
        ("keep", [{"a": [1, None, b"x", 1.5, True]}], ({"a": [1, None, b"x", 1.5, True]}, [])),
        ("named", ["k"], ("k",)),
        ("named", {"key": "k", "mode": "fast", "order": {"what": "x"}}, ("k", Mode.FAST, Order("x"))),
        ("own", [1, 2, "a", b""], (1, 2.0, "a", b"")),
        ("wait", [], ()),
    ],
)
def test_arguments_become_the_annotated_types(name: str, args: Any, expected: tuple[Any, ...]) -> None:
    """By position or by name, with defaults."""
    assert given_(name, args) == expected


def test_keyword_only_arguments_reach_the_method() -> None:
    """Parameters behind the star are given by name, or have their default."""
    operation = TABLE.commands["named"]
    commit: Any = None
    by_name = operation.arguments(plain.encode({"key": "k", "order": {"what": "x", "count": 2}}))
    assert operation.invoke(Sample(), commit, *by_name) == ["k", Mode.FAST, Order("x", 2)]
    assert operation.invoke(Sample(), commit, *operation.arguments(plain.encode(["k"]))) == ["k", Mode.FAST, None]


@pytest.mark.parametrize(
    ("name", "args", "shape"),
    [
        ("add", [], "()"),
        ("add", [1], "(int)"),
        ("add", ["k", 1, 2], "(str, int, int)"),
        ("add", ["k", True], "(str, bool)"),
        ("add", ["k", "1"], "(str, str)"),
        ("add", {"key": "k", "bye": 1}, "(key: str, bye: int)"),
        ("add", "k", "str in place of arguments"),
        ("add", None, "NoneType in place of arguments"),
        ("many", [["a", 1], {}], "(list, dict)"),
        ("own", [1, "2", "a", b""], "(int, str, str, bytes)"),
        ("own", [1, 2, "c", b""], "(int, int, str, bytes)"),
        ("named", ["k", "fast"], "(str, str)"),
    ],
)
def test_a_mismatch_is_refused_in_words_of_our_own(name: str, args: Any, shape: str) -> None:
    """The reason is built from the source and the shape of the arguments, so it is the same on every replica."""
    with pytest.raises(Refusal) as refusal:
        given_(name, args)
    assert refusal.value.code == "bad-arguments"
    assert refusal.value.reason == f"{TABLE.commands[name].signature} does not take {shape}"


def test_what_a_type_of_the_machine_does_not_take_is_refused() -> None:
    """Whatever it raises when it is made: no call has begun, and a client must not be able to halt anything by it."""

    class Shop(StateMachine):
        name = "shop"

        @command
        def buy(self, commit: Commit, item: Priced) -> None: ...

    buy = operations(Shop).commands["buy"]
    assert buy.arguments(plain.encode([{"what": "tea"}]))[0].price == 2
    with pytest.raises(Refusal, match="bad-arguments"):
        buy.arguments(plain.encode([{"what": "gold"}]))


def test_signatures_are_as_written() -> None:
    """People recognize the method."""
    assert TABLE.commands["add"].signature == "add(key: str, by: int = 1)"
    assert TABLE.commands["keep"].signature == "keep(value: Plain, more: Sequence[Plain] = ...)"


@given(st.binary(max_size=60))
def test_any_bytes_fit_or_are_refused(args: bytes) -> None:
    """Whatever a client sends as arguments, nothing but a refusal comes of it, and what gets through is plain."""
    for operation in TABLE.commands.values():
        try:
            values = operation.arguments(args)
        except Refusal:
            continue
        if operation.name == "keep":
            plain.check(list(values), exact=True)


@pytest.mark.parametrize(
    "args", [b"\x92\xa1k", b"\x91\xd6\xff\x00\x00\x00\x00", b"\x91\x81\x01\x02", b"\x91" * 5000 + b"\xc0", b""]
)
def test_open_arguments_are_checked_to_be_plain(args: bytes) -> None:
    """Where the annotation takes anything, extension types, odd keys and deep nests are still refused."""
    with pytest.raises(Refusal, match="what is not plain data"):
        TABLE.commands["keep"].arguments(args)


def test_a_default_list_is_new_each_time() -> None:
    """A machine that keeps a default value does not share it between calls."""
    first, second = given_("keep", [1]), given_("keep", [1])
    assert first[1] == second[1] == []
    assert first[1] is not second[1]


def test_only_a_ticket_annotation_waits() -> None:
    """The return annotation says whether an int may be a wait."""
    assert TABLE.commands["wait"].waits
    assert not TABLE.commands["add"].waits


def test_machines_that_cannot_be_called_are_unfit() -> None:
    """Each mistake is named when the class is looked at, not when it is called."""

    class Bare(StateMachine):
        @command
        def go(self, commit: Commit, key) -> None: ...  # type: ignore[no-untyped-def]

    class Greedy(StateMachine):
        @command
        def go(self, commit: Commit, *keys: str) -> None: ...

    class Sets(StateMachine):
        @command
        def go(self, commit: Commit, keys: list[set[str]]) -> None: ...

    class Hidden(StateMachine):
        @query
        def go(self, number: Decimal) -> None: ...

    class Foreign(StateMachine):
        @query
        def go(self, thing: object | StateMachine | Spot) -> None: ...

    class Raw(RawMachine):
        @command
        def go(self, commit: Commit) -> None: ...

    for kind, words in [
        (Bare, "annotation"),
        (Greedy, "any number"),
        (Sets, "set"),
        (Hidden, "Decimal"),
        (Foreign, "Foreign.go"),
        (Raw, "raw machine"),
    ]:
        with pytest.raises(Unfit, match=words):
            operations(kind)


def test_an_override_without_a_mark_is_no_command() -> None:
    """A subclass decides itself what stays callable."""

    class Less(Sample):
        def add(self, commit: Commit, key: str, by: int = 1) -> int:
            return 0

    assert "add" not in operations(Less).commands


def test_unknown_operations_name_the_known() -> None:
    """The refusal helps whoever misspelled it, and stays short."""
    refusal = unknown("sample", "command", "x" * 1000, ["b", "a"])
    assert refusal.code == "unknown-command"
    assert refusal.reason.endswith("it has: a, b")
    assert len(unknown("s", "query", "x", [f"q{n}" for n in range(1000)]).reason) < 400
