"""Torn or damaged: what a crash can leave of a batch, and what it cannot."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.ready import AcceptedValue, KnownChosen, Promised, Record
from quorate.kernel.storage.layout import PAGE, SECTOR, Owner, unpack_segment
from quorate.kernel.storage.memory import MemoryFileSystem
from quorate.kernel.storage.reading import (
    find_header,
    last_nonzero,
    may_be_torn,
    read_batch,
    read_content,
    read_run,
)
from quorate.kernel.storage.replay import Replay
from quorate.kernel.storage.scan import Scanner

SLOTS = st.integers(1, 12).map(Slot)
BALLOTS = st.builds(Ballot, st.integers(1, 3), st.integers(1, 3).map(MemberId))
VALUES = st.builds(Value, st.sampled_from(Kind), st.binary(max_size=20))
RECORDS = (
    st.builds(Promised, BALLOTS)
    | st.builds(AcceptedValue, BALLOTS, SLOTS, VALUES)
    | st.builds(KnownChosen, SLOTS, st.booleans())
)
"""A record of any kind there is; their order may be one that no acceptor writes."""


class Careful(Scanner):
    """Never takes the fast way."""

    def _run(self, raw: bytes, position: int, seed: int) -> tuple[int, int] | None:
        return None


class Segment(NamedTuple):
    """A segment's content, where its last batch begins and ends, and the seed."""

    content: bytes
    start: int
    end: int
    seed: int


def segment(kit: Any, size: int) -> Segment:
    """Three batches; the last has a payload of `size` bytes."""
    fs = kit.memory()
    journal = kit.recover(fs, segment_size=1 << 14).journal
    kit.write(journal, kit.vote(1))
    kit.write(journal, kit.vote(2, b"x" * 333))
    start = journal._position
    batch = kit.write(journal, kit.promise(2), kit.vote(3, Random(1).randbytes(size), (2, 1)))
    seed = Owner(kit.cell, kit.member, kit.disk).seed(1)
    return Segment(fs.content(kit.segment(1)), start, start + batch.size, seed)


@pytest.mark.parametrize("size", [0, 5, 100, 700, 3000])
def test_every_prefix_may_be_torn(kit: Any, size: int) -> None:
    """A write that ends after any byte is either whole or torn."""
    content, start, end, seed = segment(kit, size)
    whole = 0
    for cut in range(start, end + 1):
        left = content[:cut] + bytes(len(content) - cut)
        batch = read_batch(left, start, seed)
        if batch is not None and batch.whole:
            whole += 1
        elif cut > start:
            assert may_be_torn(left, start, batch), cut
        assert find_header(left, start + 8, seed) is None
    assert 5 <= whole <= (5 if size else 9)  # without the trailer, or zeros before it, nothing is missing


@pytest.mark.parametrize("size", [0, 5, 100, 700, 3000])
def test_every_choice_of_sectors_may_be_torn(kit: Any, size: int) -> None:
    """Any sectors missing, the others whole: torn."""
    content, start, end, seed = segment(kit, size)
    first, last = start // SECTOR, (end - 1) // SECTOR
    for choice in range(2 ** (last - first + 1) - 1):
        left = bytearray(content)
        for number in range(first, last + 1):
            if not choice >> (number - first) & 1:
                left[max(start, number * SECTOR) : (number + 1) * SECTOR] = bytes(
                    (number + 1) * SECTOR - max(start, number * SECTOR)
                )
        batch = read_batch(bytes(left), start, seed)
        assert batch is None or not batch.whole
        if any(left[start:]):
            assert may_be_torn(bytes(left), start, batch)


@pytest.mark.parametrize("size", [0, 5, 100, 700])
def test_no_changed_byte_looks_torn(kit: Any, size: int) -> None:
    """One wrong byte in a batch that was written to its end is damage."""
    content, start, end, seed = segment(kit, size)
    for position in range(start, end):
        for bits in (0xFF, 0x01):
            left = bytearray(content)
            left[position] ^= bits
            batch = read_batch(bytes(left), start, seed)
            if batch is None or not batch.whole:
                assert not may_be_torn(bytes(left), start, batch)
            else:
                assert position >= end - 4


def test_the_fast_way_agrees_with_the_careful_one(kit: Any) -> None:
    """A run reads exactly the batches that are whole and chained, and stops at the first that is not."""
    content, start, end, seed = segment(kit, 100)
    run = read_run(content, PAGE, seed, 0, 1, Slot(0))
    assert run is not None
    assert (run.last, run.record, run.batches, sorted(run.votes)) == (start, 5, 3, [1, 2, 3])
    last = read_batch(content, start, seed)
    assert last is not None
    assert (run.chain, run.standing) == (last.header.crc, last.header.standing)
    assert read_run(content, PAGE, seed, 1, 1, Slot(0)) is None
    assert read_run(content, PAGE, seed, 0, 2, Slot(0)) is None
    for position in range(start, end - 4):
        changed = bytearray(content)
        changed[position] ^= 0x40
        run = read_run(bytes(changed), PAGE, seed, 0, 1, Slot(0))
        assert run is not None
        assert (run.position, sorted(run.votes)) == (start, [1, 2])


@settings(max_examples=150, deadline=None)
@given(batches=st.lists(st.lists(RECORDS, min_size=1, max_size=4), max_size=8), snapshot=st.integers(0, 8))
def test_the_fast_way_means_what_the_careful_one_means(kit: Any, batches: list[list[Record]], snapshot: int) -> None:
    """Whatever is recorded, a healthy journal says the same with and without the fast way, for any snapshot."""
    fs = kit.memory()
    opened = kit.recover(fs, segment_size=1 << 16)
    for records in batches:
        kit.write(opened.journal, *records)
    opened.close()
    owner, path = opened.identity.owner, kit.segment(1)
    content = read_content(fs.open(path))
    header = unpack_segment(content.bytes, path)
    said = []
    for scanner in (Scanner, Careful):
        replay = Replay(Slot(snapshot))
        walk = scanner(owner, replay, None, True)
        tail = walk.segment(1, path, content, header, newest=True)
        walk.finish()
        assert not walk.findings
        said.append((tail, walk.chain, walk.record, walk.batches, replay.votes, replay.chosen, replay.standing))
    assert said[0] == said[1]


def test_a_client_cannot_forge_a_batch(kit: Any) -> None:
    """A value that holds the bytes of a journal is not mistaken for one, even when its own batch is damaged."""
    content, _, end, seed = segment(kit, 100)
    fs = kit.memory()
    journal = kit.recover(fs, segment_size=1 << 15).journal
    kit.write(journal, kit.vote(1, content[PAGE:end]))
    copied = fs.content(kit.segment(1))
    assert find_header(copied, PAGE + 8, seed) is None


def test_last_nonzero() -> None:
    """Found across block borders, and not before the start."""
    assert last_nonzero(bytes(3 << 20), 0) == -1
    content = bytearray(3 << 20)
    for position in (0, 5, (1 << 20) - 1, 1 << 20, (3 << 20) - 1):
        content[position] = 1
        assert last_nonzero(bytes(content), 0) == position
    assert last_nonzero(b"\1\0\0", 1) == -1
    assert last_nonzero(b"", 0) == -1


def test_unreadable_pages_are_named(kit: Any) -> None:
    """Where reading fails there are zeros, and the place is known."""
    fs = MemoryFileSystem(Random(0))
    fs.make_directory("/d")
    fs.put("/d/a", b"x" * (3 * PAGE + 10))
    fs.unreadable("/d/a", PAGE + 5, PAGE + 6)
    found = read_content(fs.open("/d/a"))
    assert found.unreadable == ((PAGE, 2 * PAGE),)
    assert found.bytes == b"x" * PAGE + bytes(PAGE) + b"x" * (PAGE + 10)
