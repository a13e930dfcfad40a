"""Snapshots: whole or not there, two kept, given away in pieces and taken in with distrust."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.storage.errors import Malformed, NewerFormat, SnapshotFailed, SnapshotMissing, StorageError
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.layout import SNAPSHOT_MAGIC, stamp
from quorate.kernel.storage.memory import Crash, MemoryFileSystem
from quorate.kernel.storage.snapshots import SYNC_EVERY, SnapshotReceiver, Snapshots, find_snapshots, is_leftover

CHUNKS = [b"first", b"", b"x" * 3000]


def made(kit: Any) -> tuple[MemoryFileSystem, Snapshots]:
    """An empty directory."""
    fs = kit.memory()
    fs.make_directory(kit.directory)
    return fs, Snapshots(fs, kit.directory, kit.cell, 1)


def name(slot: int) -> str:
    """A snapshot's file name."""
    return f"snapshot-{slot:020d}.snap"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=2000), max_size=8))
def test_chunks_come_back(kit: Any, chunks: list[bytes]) -> None:
    """Any chunks, in order, with the configuration."""
    fs, snapshots = made(kit)
    written = snapshots.write(Slot(7), kit.founding, iter(chunks))
    fs.crash(Random(1))
    found = find_snapshots(fs, kit.directory, kit.cell)
    assert found.valid == (written,)
    reader = Snapshots(fs, kit.directory, kit.cell, 2).open(Slot(7))
    assert (reader.slot, reader.configuration, reader.size) == (7, kit.founding, written.size)
    assert list(reader.chunks()) == chunks
    reader.close()


def test_written_in_pieces_with_syncs_between(kit: Any) -> None:
    """So that the journal never waits behind hundreds of MiB: a sync at least every few MiB, writes of about one."""
    sizes: list[int] = []
    fs = MemoryFileSystem(Random(0))
    fs.make_directory(kit.directory)
    unsynced = 0

    def before(effect: str, path: str) -> None:
        nonlocal unsynced
        if effect == "datasync":
            sizes.append(fs.used() - unsynced)
            unsynced = fs.used()

    fs.before = before
    Snapshots(fs, kit.directory, kit.cell, 1).write(Slot(1), kit.founding, (bytes(100_000) for _ in range(150)))
    assert sum(sizes) > 15_000_000
    assert max(sizes) <= SYNC_EVERY + (2 << 20)
    assert len(sizes) >= 4


def test_every_cut_and_every_changed_byte_is_noticed(kit: Any) -> None:
    """And the older snapshot is used instead."""
    fs, snapshots = made(kit)
    older = snapshots.write(Slot(5), kit.founding, CHUNKS)
    snapshots.write(Slot(9), kit.founding, [b"abc", b"d" * 90])
    path = kit.path(name(9))
    content = fs.content(path)
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        for bad in (bytes(changed), content[:position]):
            fs.put(path, bad)
            found = find_snapshots(fs, kit.directory, kit.cell)
            assert found.valid == (older,)
            assert path in found.complaints[0]
    fs.put(path, content + b"\0")
    assert find_snapshots(fs, kit.directory, kit.cell).valid == (older,)
    fs.put(path, content)
    fs.unreadable(path, 50, 60)
    assert find_snapshots(fs, kit.directory, kit.cell).valid == (older,)


def test_two_are_kept(kit: Any) -> None:
    """The newest two; older ones and damaged ones among them are deleted; the floor is the older of the two."""
    fs, snapshots = made(kit)
    assert snapshots.floor == 0
    fs.put(kit.path(name(3)), b"damaged")
    for slot in (5, 9):
        snapshots.write(Slot(slot), kit.founding, CHUNKS)
        assert snapshots.delete(snapshots.retire()) == (slot == 9)
    assert snapshots.floor == 5
    assert snapshots.read_at(Slot(5), 0, 3) == b"QRT"
    snapshots.write(Slot(12), kit.founding, CHUNKS)
    assert snapshots.floor == 9
    assert snapshots.delete(snapshots.retire()) == 1
    assert [found.slot for found in snapshots.kept] == [12, 9]
    assert fs.names(kit.directory) == [name(9), name(12)]
    with pytest.raises(SnapshotMissing, match="slot 5"):
        snapshots.read_at(Slot(5), 0, 3)
    with pytest.raises(SnapshotMissing, match="slot 5"):
        snapshots.open(Slot(5))


def test_a_rejected_snapshot_is_known_no_more(kit: Any) -> None:
    """Nobody is served of it, the one before is the newest again, and its file goes."""
    fs, snapshots = made(kit)
    for slot in (5, 9):
        snapshots.write(Slot(slot), kit.founding, CHUNKS)
    assert snapshots.read_at(Slot(9), 0, 3) == b"QRT"
    snapshots.reject(Slot(9))
    snapshots.remove(Slot(9))
    assert [found.slot for found in snapshots.kept] == [5]
    assert fs.names(kit.directory) == [name(5)]
    with pytest.raises(SnapshotMissing, match="slot 9"):
        snapshots.read_at(Slot(9), 0, 3)


def test_what_is_deleted_elsewhere_disturbs_nobody(kit: Any) -> None:
    """Between the decision and the deletion on another thread, a snapshot may be adopted, and the older ones asked
    for."""
    _, snapshots = made(kit)
    for slot in (5, 9, 12):
        snapshots.write(Slot(slot), kit.founding, CHUNKS)
    assert snapshots.read_at(Slot(5), 0, 3) == b"QRT"
    floor = snapshots.retire()
    assert [found.slot for found in snapshots.kept] == [12, 9]
    snapshots.write(Slot(15), kit.founding, CHUNKS)
    assert snapshots.read_at(Slot(9), 0, 3) == b"QRT"
    assert snapshots.delete(floor) == 1
    assert [found.slot for found in snapshots.kept] == [15, 12, 9]
    assert snapshots.read_at(Slot(9), 0, 3) == b"QRT"


def test_two_deletions_at_once_are_no_error(kit: Any) -> None:
    """One follows a snapshot that was fetched, another one that was taken; what is old is gone in any case."""
    fs, snapshots = made(kit)
    for slot in (3, 5, 9, 12):
        snapshots.write(Slot(slot), kit.founding, CHUNKS)

    def quicker(effect: str, path: str) -> None:
        if effect == "remove":
            fs.before = None
            fs.remove(kit.path(name(5)))

    fs.before = quicker
    snapshots.delete(snapshots.retire())
    assert fs.names(kit.directory) == [name(9), name(12)]


def test_chunks_leave_no_file_open(kit: Any, tmp_path: Path) -> None:
    """Be it that not all are taken: a file that is open takes room even when it is deleted."""
    snapshots = Snapshots(RealFileSystem(), str(tmp_path), kit.cell, 1)
    snapshots.write(Slot(5), kit.founding, CHUNKS)

    def opened() -> int:
        return len(os.listdir("/dev/fd"))

    before = opened()
    assert list(snapshots.chunks(Slot(5))) == CHUNKS
    assert next(snapshots.chunks(Slot(5))) == b"first"
    assert opened() == before


def test_failure_leaves_nothing(kit: Any) -> None:
    """A full disk, a failing sync, or a source that breaks off: no file, and the older snapshot untouched."""
    fs, snapshots = made(kit)
    snapshots.write(Slot(5), kit.founding, CHUNKS)

    def breaks_off() -> Iterator[bytes]:
        yield b"a"
        raise RuntimeError("the machines could not be encoded")

    with pytest.raises(RuntimeError):
        snapshots.write(Slot(9), kit.founding, breaks_off())
    fs.faults.capacity = fs.used() + 1000
    with pytest.raises(SnapshotFailed, match="slot 9"):
        snapshots.write(Slot(9), kit.founding, CHUNKS)
    fs.faults.capacity = None
    fs.faults.failing_syncs = 1
    with pytest.raises(SnapshotFailed):
        snapshots.write(Slot(9), kit.founding, CHUNKS)
    assert fs.names(kit.directory) == [name(5)]
    assert snapshots.floor == 0


def test_a_crash_leaves_the_whole_or_nothing(kit: Any) -> None:
    """At every effect: after it the older one is there, and the newer only if it is valid."""
    seen = set()
    for stop in range(8):
        for seed in range(6):
            fs, snapshots = made(kit)
            snapshots.write(Slot(5), kit.founding, CHUNKS)
            fuse = stop

            def before(effect: str, path: str) -> None:
                nonlocal fuse
                fuse -= 1
                if fuse < 0:
                    raise Crash

            fs.before = before
            try:
                snapshots.write(Slot(9), kit.founding, CHUNKS)
                acknowledged = True
            except Crash:
                acknowledged = False
            fs.before = None
            fs.crash(Random(seed))
            found = find_snapshots(fs, kit.directory, kit.cell)
            slots = [each.slot for each in found.valid]
            assert not found.complaints
            assert slots in ([9, 5], [5])
            assert slots == [9, 5] or not acknowledged
            assert all(is_leftover(each) for each in fs.names(kit.directory) if each not in (name(5), name(9)))
            seen.add(len(slots))
    assert seen == {1, 2}


def test_what_comes_twice_at_a_time_does_not_mix(kit: Any) -> None:
    """Fetching may begin anew while a thread still writes, verifies or removes what came before of the same one."""
    _, giver = made(kit)
    size = giver.write(Slot(9), kit.founding, CHUNKS).size
    content = giver.read_at(Slot(9), 0, size)
    for end in (SnapshotReceiver.abandon, SnapshotReceiver.finish):
        fs, taker = made(kit)
        before, after = taker.receive(Slot(9)), taker.receive(Slot(9))
        before.write(0, content)
        after.write(0, content[:100])
        end(before)
        after.write(100, content[100:])
        assert after.finish().size == size
        assert taker.adopt(Slot(9)).slot == 9
        assert fs.names(kit.directory) == [name(9)]


def test_given_and_taken(kit: Any) -> None:
    """Read in pieces at one member, written in pieces at another: the same snapshot, adopted after it is verified."""
    _, giver = made(kit)
    given_ = giver.write(Slot(9), kit.founding, CHUNKS)
    fs, taker = made(kit)
    receiver = taker.receive(Slot(9))
    while receiver.received < given_.size:
        receiver.write(receiver.received, giver.read_at(Slot(9), receiver.received, 700))
    assert giver.read_at(Slot(9), given_.size, 700) == b""
    assert receiver.finish() == given_
    assert taker.kept == ()
    assert taker.adopt(Slot(9)) == given_
    assert taker.kept == (given_,)
    fs.crash(Random(0))
    assert find_snapshots(fs, kit.directory, kit.cell).valid == (given_,)


@pytest.mark.parametrize("fault", ["cut", "changed", "another cell", "another slot", "full"])
def test_what_arrives_is_not_believed(kit: Any, fault: str) -> None:
    """A bad snapshot from a peer leaves nothing behind."""
    _, giver = made(kit)
    size = giver.write(Slot(9), kit.founding, CHUNKS).size
    content = giver.read_at(Slot(9), 0, size)
    twin, taker = made(kit)
    if fault == "another cell":
        taker = Snapshots(twin, kit.directory, b"another cell's 1", 1)
    if fault == "full":
        twin.faults.capacity = 500
    receiver = taker.receive(Slot(8) if fault == "another slot" else Slot(9))
    if fault == "cut":
        content = content[:-1]
    if fault == "changed":
        content = content[:-200] + b"?" + content[-199:]

    def take() -> None:
        receiver.write(0, content)
        receiver.finish()

    with pytest.raises(SnapshotFailed, match=r"receiving the snapshot at slot \d"):
        take()
    assert twin.names(kit.directory) == []
    receiver.abandon()


def test_abandoned_or_restarted(kit: Any) -> None:
    """Half a snapshot disappears; a second attempt begins anew; pieces out of order are a bug."""
    fs, taker = made(kit)
    receiver = taker.receive(Slot(9))
    receiver.write(0, b"abc")
    with pytest.raises(AssertionError, match="order"):
        receiver.write(5, b"abc")
    taker.receive(Slot(9)).abandon()
    receiver.abandon()
    assert fs.names(kit.directory) == []


def test_foreign_renamed_and_newer_files(kit: Any) -> None:
    """Another cell's snapshot and a renamed one are not used; a newer format stops everything."""
    fs, snapshots = made(kit)
    snapshots.write(Slot(5), kit.founding, CHUNKS)
    foreign, twins = made(kit)
    Snapshots(foreign, kit.directory, b"another cell's 1", 1).write(Slot(70), kit.founding, CHUNKS)
    fs.put(kit.path(name(70)), foreign.content(kit.path(name(70))))
    fs.put(kit.path(name(80)), fs.content(kit.path(name(5))))
    fs.put(kit.path("snapshot-7.snap"), fs.content(kit.path(name(5))))
    found = find_snapshots(fs, kit.directory, kit.cell)
    assert [each.slot for each in found.valid] == [5]
    assert "renamed" in found.complaints[0]
    assert "cell" in found.complaints[1]
    with pytest.raises(StorageError):
        twins.adopt(Slot(1))
    fs.put(kit.path(name(90)), stamp(SNAPSHOT_MAGIC, b"unknown to us", version=2))
    with pytest.raises(NewerFormat):
        find_snapshots(fs, kit.directory, kit.cell)


def test_only_the_newest_is_read_in_full(kit: Any) -> None:
    """Unless thoroughness is asked for: a start must not read everything twice."""
    fs, snapshots = made(kit)
    for slot in (5, 9):
        snapshots.write(Slot(slot), kit.founding, CHUNKS)
    fs.flip(kit.path(name(5)), fs.used() // 2 - 100)
    assert len(find_snapshots(fs, kit.directory, kit.cell).valid) == 2
    assert len(find_snapshots(fs, kit.directory, kit.cell, thorough=True).valid) == 1


def test_a_damaged_chunk_is_not_handed_out(kit: Any) -> None:
    """The reader stops at it and says where."""
    fs, snapshots = made(kit)
    snapshots.write(Slot(5), kit.founding, CHUNKS)
    fs.flip(kit.path(name(5)), fs.used() - 1000)
    chunks = snapshots.open(Slot(5)).chunks()
    assert next(chunks) == b"first"
    assert next(chunks) == b""
    with pytest.raises(Malformed, match=r"chunk at byte \d+ is damaged"):
        next(chunks)


def test_a_forked_child_writes(kit: Any, tmp_path: Path) -> None:
    """The child writes, the parent adopts."""
    snapshots = Snapshots(RealFileSystem(), str(tmp_path), kit.cell, 1)
    child = os.fork()
    if child == 0:
        snapshots.write(Slot(5), kit.founding, CHUNKS)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert snapshots.adopt(Slot(5)).slot == 5
    assert list(snapshots.chunks(Slot(5))) == CHUNKS
