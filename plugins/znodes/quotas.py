"""Quotas: how many nodes and bytes may be below a path.

A quota on ``/app`` is two nodes that clients write: ``/zookeeper/quota/app/zookeeper_limits`` says what is allowed,
``zookeeper_stats`` beside it is kept by the tree: what there is. Both hold one line of text,
``count=4,bytes=5=;byteHardLimit=10;countHardLimit=10``; -1 is no limit. A node counts to the quota nearest above it
only. Soft limits are for monitors to watch; hard ones are refused where the configuration of the replica that took
the request enforces them.

Pure functions on paths and such lines; the tree calls them.

Source: Quotas, StatsTrack and checkQuota of ZooKeeper 3.8."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from . import paths
from .protocol import Err, Fault

LIMITS: Final = b"zookeeper_limits"
STATS: Final = b"zookeeper_stats"
BELOW: Final = paths.QUOTA + b"/"

LINE_MAX: Final = 1024
"""Bytes of a line that is read, as it is read at every change below its path."""
_SEPARATOR: Final = re.compile("[,;]+")
_NUMBER: Final = re.compile("-?[0-9]{1,18}")
_COUNT: Final = "count"
_BYTES: Final = "bytes"
_COUNT_HARD: Final = "countHardLimit"
_BYTES_HARD: Final = "byteHardLimit"


def subject(path: bytes, name: bytes) -> bytes | None:
    """The path whose quota the node at `path` belongs to; None unless it is the node called `name` of a quota."""
    head, _, last = path.rpartition(b"/")
    return head[len(paths.QUOTA) :] if last == name and head.startswith(BELOW) else None


def limits_path(place: bytes) -> bytes:
    """Where the limits of the quota on `place` stand."""
    return paths.QUOTA + place + b"/" + LIMITS


def stats_path(place: bytes) -> bytes:
    """Where it is counted what there is below `place`."""
    return paths.QUOTA + place + b"/" + STATS


def parse(line: bytes | None) -> dict[str, int]:
    """The numbers in a line. Raises ValueError."""
    found: dict[str, int] = {}
    if line and len(line) > LINE_MAX:
        raise ValueError(f"no line of numbers has {len(line)} bytes")
    for pair in _SEPARATOR.split(line.decode(errors="replace")) if line else ():
        name, value, *_ = f"{pair.rstrip('=')}==".split("=")
        if not _NUMBER.fullmatch(value):
            raise ValueError(f"no number: {pair!r}")
        found[name] = int(value)
    return found


def text(numbers: Mapping[str, int]) -> bytes:
    """The line for these numbers: count and bytes first, for the oldest clients."""
    others = sorted(numbers.keys() - {_COUNT, _BYTES})
    line = f"{_COUNT}={numbers.get(_COUNT, -1)},{_BYTES}={numbers.get(_BYTES, -1)}"
    return (line + ("=" if others else "") + "".join(f";{each}={numbers[each]}" for each in others)).encode()


def counted(nodes: int, size: int) -> bytes:
    """The line for so many nodes with so many bytes of data."""
    return text({_COUNT: nodes, _BYTES: size})


def moved(line: bytes | None, nodes: int, size: int) -> bytes:
    """The line after `nodes` more nodes and `size` more bytes. Raises ValueError."""
    numbers = parse(line)
    numbers[_COUNT] = numbers.get(_COUNT, -1) + nodes
    numbers[_BYTES] = numbers.get(_BYTES, -1) + size
    return text(numbers)


def check(limits: bytes | None, stats: bytes | None, nodes: int, size: int) -> None:
    """Refuse what would go beyond a hard limit.

    Raises:
        Fault: QUOTA_EXCEEDED; MARSHALLING_ERROR if a line cannot be read, as the original has it.
    """
    try:
        allowed, there = parse(limits), parse(stats)
    except ValueError:
        raise Fault(Err.MARSHALLING_ERROR) from None
    for more, name, hard in ((nodes, _COUNT, _COUNT_HARD), (size, _BYTES, _BYTES_HARD)):
        limit = allowed.get(hard, -1)
        if more and limit > -1 and there.get(name, -1) + more > limit:
            raise Fault(Err.QUOTA_EXCEEDED)
