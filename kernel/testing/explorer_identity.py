"""When two consensus cores are the same: everything in them that can influence what they will ever do is equal.

:func:`identity` walks all attributes of all parts of a core, whatever they are called, so that a new attribute counts
by itself. Left out is only what says the same in every core or nothing at all: settings, wiring (methods), and the
count of records, for which numbers of records stand as distances from the newest; and what is `idle`: in this world it
influences nothing, as whoever says so must argue. Order counts in lists; in dictionaries only where the core goes
through them in order (`ORDERED`). Parts get numbers, so that what many cores have in common is kept once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from enum import Enum
from random import Random
from types import FunctionType, MethodType
from typing import Any, Final

from ..paxos.ballot import Ballot
from ..paxos.messages import Value, Vote
from ..paxos.options import Options
from ..paxos.quorum import Configuration
from ..paxos.replica import Replica

ORDERED: Final = frozenset({"_waiting", "questions", "in_flight"})
"""Dictionaries whose order matters, by the name of the attribute that holds them."""

_ATOMS: Final = frozenset({int, str, bytes, bool, float, type(None), Ballot, Value, Vote, Configuration})
_WIRING: Final = (MethodType, FunctionType, Random, Options)
_SKIPPED: Final = frozenset({"_takers", "_untaken", "_unwritten", "all", "recorded", "unwritten"})
_WIRED: Final = "wired"


class Names:
    """A number for everything that was ever named: equal things have one number."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, thing: Hashable) -> int:
        return self._numbers.setdefault(thing, len(self._numbers))


Idle = frozenset[tuple[type, str]]
"""Attributes that influence nothing: type of the part, and name."""


def identity(core: Replica, newest: int, names: Names, idle: Idle = frozenset()) -> int:
    """The name of what `core` is, but for what is `idle`; the newest record that it ever wrote is number `newest`."""
    return _Walk(newest, names, idle).part(core)


class _Walk:
    """One walk: a part that is reached a second time is not entered again."""

    def __init__(self, newest: int, names: Names, idle: Idle) -> None:
        self._newest = newest
        self._names = names
        self._idle = idle
        self._met: dict[int, int] = {}

    def part(self, part: object) -> int:
        met = self._met
        number = met.get(id(part))
        if number is not None:
            return -1 - number
        met[id(part)] = len(met)
        found: list[Any] = [type(part)]
        for name in _attributes(part):
            if name not in _SKIPPED and (type(part), name) not in self._idle:
                found.append(self.attribute(part, name, getattr(part, name)))
        return self._names[tuple(found)]

    def attribute(self, part: object, name: str, value: Any) -> Hashable:
        if name == "_own":  # records that await the disk
            if type(value) is deque:  # votes, with what is known of each
                return tuple((self._newest - record, *rest) for record, *rest in value)
            return None if value is None else self._newest - value
        if type(value) is dict:
            items = tuple((self.value(key), self.value(each)) for key, each in value.items())
            return items if name in ORDERED else frozenset(items)
        return self.value(value)

    def value(self, value: Any) -> Hashable:
        kind = type(value)
        if kind in _ATOMS:
            return value  # type: ignore[no-any-return]
        if isinstance(value, _WIRING):
            return _WIRED
        if isinstance(value, tuple):
            return (kind, *map(self.value, value))
        if kind is list or kind is deque:
            return tuple(map(self.value, value))
        if kind is set or kind is frozenset:
            return frozenset(value)
        if kind is dict:
            return frozenset((self.value(key), self.value(each)) for key, each in value.items())
        if isinstance(value, Enum | type):
            return value
        return self.part(value)


_NAMES: dict[type, tuple[str, ...]] = {}


def _attributes(part: object) -> tuple[str, ...]:
    """The attributes of `part`: its class's slots, or what its dictionary holds."""
    held = getattr(part, "__dict__", None)
    if held is not None:
        return tuple(held)
    kind = type(part)
    names = _NAMES.get(kind)
    if names is None:
        slots = [slot for each in kind.__mro__ for slot in getattr(each, "__slots__", ())]
        names = _NAMES[kind] = tuple(slots)
    return names
