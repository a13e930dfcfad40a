"""What travels in the log: the requests one replica's front gathered in one turn, as the bytes that came in.

A chunk is a head and runs. The head is the version, flags (what the front's configuration allows) and the sets of
identities its runs refer to, each once. A run is one connection's frames back to back, with their length prefixes,
under one session and one set of identities: so a client's pipelined requests cost one slice, not one record each.

Between frames stands at times a *pause*: a frame of our own, which no client can send. It marks where in the order of
its session's requests the front holds back reads: when the front's own replica applies it, the front answers them,
and elsewhere it is nothing. So requests of one session take effect strictly in the order sent, and no read is ever
written to the log.

Layout, big-endian: u8 version, u8 flags, u16 sets, {u16 length, vector of Id} for each set; then runs: i64 session,
u16 set, u32 length, frames."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntFlag
from functools import lru_cache
from struct import Struct
from typing import Final

from .acl import Identities
from .codec import REQUEST, ids

VERSION: Final = 1
RUN: Final = Struct(">qHI")
PAUSE_OP: Final = 0
"""The type of a pause; clients' requests of this type never get into a chunk (in the original it is a
notification's)."""

MEMBERS_OP: Final = -16
"""The type of a frame of our own that tells who is in the cell, or answers a client's request to change it; no client
can send it either."""

IDENTITIES_MAX: Final = 0xFFFF
"""Bytes of one client's identities at most, and sets of them in a chunk; what clients can prove is bounded below it."""

_HEAD: Final = Struct(">BBH")
_SIZE: Final = Struct(">H")


class Allow(IntFlag):
    """What the configuration of the replica that took the requests allows; it decides alike on every replica."""

    NOTHING = 0
    EXTENDED_TYPES = 1
    """Nodes with a time to live."""
    ENFORCE_QUOTA = 2
    """Hard limits of quotas are held."""


def pause(connection: int) -> bytes:
    """A pause; the number tells the front which of its connections holds back reads."""
    return REQUEST.pack(8, connection, PAUSE_OP)


_decoded = lru_cache(4096)(ids)


def pack(allow: Allow, identities: Iterable[bytes], runs: Iterable[bytes]) -> bytes:
    """A chunk from its packed sets of identities and the pieces of its runs."""
    sets = [piece for packed in identities for piece in (_SIZE.pack(len(packed)), packed)]
    return b"".join((_HEAD.pack(VERSION, allow, len(sets) // 2), *sets, *runs))


def unpack_head(chunk: bytes) -> tuple[Allow, list[Identities], int]:
    """Flags, identities, and where the runs begin. Raises ValueError for a version this code does not know."""
    version, allow, count = _HEAD.unpack_from(chunk)
    if version != VERSION:
        raise ValueError(f"chunk version {version}")
    at = _HEAD.size
    found = []
    for _ in range(count):
        (length,) = _SIZE.unpack_from(chunk, at)
        at += 2 + length
        found.append(_decoded(chunk[at - length : at]))
    return Allow(allow), found, at
