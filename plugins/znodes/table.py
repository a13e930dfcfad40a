"""The table of nodes: path -> node in many small dicts, each of which grows on its own.

A dict that is full moves all it holds at once: with 700,000 nodes that is a stop of 50 ms, and 64 times 11,000 nodes
are 64 stops of half a millisecond. Operations on the way of every request look into `parts` themselves, as a method of
a Python class costs more than the look-up; all others take the table for the mapping it is."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from itertools import chain
from typing import Final, TypeVar

PARTS: Final = 64
SHIFT: Final = 58
"""The part of a path is ``parts[hash(path) >> SHIFT]``: by the upper bits of a 64-bit hash, as a dict goes by the lower
ones. That is a number from -32 to 31, and a list takes the negative ones from its end."""

V = TypeVar("V")


class Table(MutableMapping[bytes, V]):
    """A mapping of paths, in no order."""

    def __init__(self) -> None:
        self.parts: list[dict[bytes, V]] = [{} for _ in range(PARTS)]

    def __getitem__(self, path: bytes) -> V:
        return self.parts[hash(path) >> SHIFT][path]

    def get(self, path: bytes, default: V | None = None) -> V | None:  # type: ignore[override]
        """As every mapping's, without the price of an exception for a path that is not there."""
        return self.parts[hash(path) >> SHIFT].get(path, default)

    def __setitem__(self, path: bytes, value: V) -> None:
        self.parts[hash(path) >> SHIFT][path] = value

    def __delitem__(self, path: bytes) -> None:
        del self.parts[hash(path) >> SHIFT][path]

    def __contains__(self, path: object) -> bool:
        return path in self.parts[hash(path) >> SHIFT]

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self.parts)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def discard(self, count: int) -> int:
        """Free `count` entries, whichever; returns how many are left."""
        for part in self.parts:
            for _ in range(min(count, len(part))):
                part.popitem()
                count -= 1
        return len(self)
