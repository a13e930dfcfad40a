"""Stamped headers, batch headers and marks: whole or refused, newer told from damaged."""

from __future__ import annotations

from typing import Any

import pytest
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.storage.errors import Malformed, NewerFormat
from quorate.kernel.storage.layout import (
    BATCH_SIZE,
    ENTRY,
    MARK_MAGIC,
    SECTOR,
    SEGMENT_MAGIC,
    Mark,
    Owner,
    SegmentHeader,
    Standing,
    aligned,
    pack_batch,
    pack_mark,
    pack_segment,
    stamp,
    unpack_batch,
    unpack_mark,
    unpack_segment,
    unstamp,
)

STANDING = Standing(Ballot(7, MemberId(3)), Slot(40), Slot(44), True)


def test_headers_come_back(kit: Any) -> None:
    """Segment headers and marks survive the round trip and fit into the sector that makes them atomic."""
    owner = Owner(kit.cell, kit.member, kit.disk)
    header = SegmentHeader(owner, 5, 1 << 26, 1000, 8192, 0xDEADBEEF, STANDING)
    assert unpack_segment(pack_segment(header), "x") == header
    mark = Mark(kit.disk, 9, 5, 8192, 1010, 17, STANDING, 2)
    assert unpack_mark(pack_mark(mark), "x") == mark
    assert max(len(pack_segment(header)), len(pack_mark(mark))) <= SECTOR


def test_every_change_of_a_stamp_is_seen() -> None:
    """No byte of a stamped block can be changed or cut unnoticed; bytes behind it do not matter."""
    content = stamp(MARK_MAGIC, b"some body")
    assert unstamp(MARK_MAGIC, content + b"junk", "x") == b"some body"
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x21
        with pytest.raises(Malformed):
            unstamp(MARK_MAGIC, bytes(changed), "x")
        with pytest.raises(Malformed):
            unstamp(MARK_MAGIC, content[:position], "x")


def test_newer_is_not_damaged() -> None:
    """A whole block of a newer version is refused as such; another kind of block as damaged; both name the place."""
    with pytest.raises(NewerFormat, match=r"the place.*format 2"):
        unstamp(MARK_MAGIC, stamp(MARK_MAGIC, b"unknown to us", version=2), "the place")
    with pytest.raises(Malformed, match="the place"):
        unstamp(SEGMENT_MAGIC, stamp(MARK_MAGIC, b""), "the place")


def test_a_batch_header_counts_only_where_it_was_written(kit: Any) -> None:
    """The same bytes at another offset, in another segment, or on another disk are no batch header."""
    owner = Owner(kit.cell, kit.member, kit.disk)
    packed, crc = pack_batch(500, 3, 100, 4096, STANDING, 11, 22, owner.seed(1))
    assert len(packed) == BATCH_SIZE
    content = bytes(4096) + packed + packed
    found = unpack_batch(content, 4096, owner.seed(1))
    assert found is not None
    assert (found.size, found.records, found.first, found.standing) == (500, 3, 100, STANDING)
    assert (found.previous, found.table, found.crc) == (11, 22, crc)
    assert unpack_batch(content, 4096 + BATCH_SIZE, owner.seed(1)) is None
    assert unpack_batch(content, 4096, owner.seed(2)) is None
    assert unpack_batch(content, 4096, owner._replace(disk=bytes(16)).seed(1)) is None
    assert unpack_batch(content[:-1], 4096 + BATCH_SIZE, owner.seed(1)) is None


def test_sizes_stay() -> None:
    """The sizes that the format's description names."""
    assert (BATCH_SIZE, ENTRY.size) == (72, 32)
    assert [aligned(position) for position in (0, 1, 8, 9)] == [0, 8, 8, 16]
