"""The simulated disk loses what a disk may lose, and nothing else."""

from __future__ import annotations

import errno
from collections import Counter
from random import Random

import pytest
from quorate.kernel.storage.memory import SECTOR, Crash, MemoryFileSystem


def disk(seed: int = 0) -> MemoryFileSystem:
    """An empty disk with one directory."""
    fs = MemoryFileSystem(Random(seed))
    fs.make_directory("/d")
    return fs


def test_synced_bytes_stay() -> None:
    """After datasync and a directory sync a power cut takes nothing."""
    for seed in range(20):
        fs = disk()
        file = fs.create("/d/a")
        file.write(0, b"x" * 2000)
        file.datasync()
        fs.sync_directory("/d")
        fs.crash(Random(seed))
        assert fs.content("/d/a") == b"x" * 2000


def test_unsynced_sectors_come_out_in_any_part() -> None:
    """Each sector is old or new as a whole; every mixture occurs."""
    seen = Counter()
    for seed in range(200):
        fs = disk()
        file = fs.create("/d/a")
        file.write(0, b"o" * 3 * SECTOR)
        file.datasync()
        fs.sync_directory("/d")
        file.write(SECTOR // 2, b"n" * 2 * SECTOR)
        assert fs.content("/d/a").count(b"n") == 2 * SECTOR
        fs.crash(Random(seed))
        content = fs.content("/d/a")
        half = b"o" * (SECTOR // 2)
        new = (half + b"n" * (SECTOR // 2), b"n" * SECTOR, b"n" * (SECTOR // 2) + half)
        sectors = [content[at : at + SECTOR] for at in range(0, 3 * SECTOR, SECTOR)]
        assert all(sector in (b"o" * SECTOR, wanted) for sector, wanted in zip(sectors, new, strict=True))
        seen[tuple(sector == wanted for sector, wanted in zip(sectors, new, strict=True))] += 1
    assert len(seen) == 8


def test_a_sector_may_keep_a_version_in_between() -> None:
    """Written twice without a sync: the first version may be what is left."""
    left = set()
    for seed in range(60):
        fs = disk()
        file = fs.create("/d/a")
        file.allocate(10)
        file.datasync()
        fs.sync_directory("/d")
        file.write(0, b"1")
        file.write(0, b"2")
        fs.crash(Random(seed))
        left.add(fs.content("/d/a")[:1])
    assert left == {b"\0", b"1", b"2"}


def test_names_survive_as_a_prefix_of_what_was_done() -> None:
    """Creates, renames and removes without a directory sync are lost from the end, never from the middle."""
    left = set()
    for seed in range(60):
        fs = disk()
        fs.create("/d/a")
        fs.rename("/d/a", "/d/b")
        fs.create("/d/c")
        fs.remove("/d/b")
        fs.crash(Random(seed))
        left.add(tuple(fs.names("/d")))
    assert left == {(), ("a",), ("b",), ("b", "c"), ("c",)}


def test_a_failed_sync_lies_afterwards() -> None:
    """As on Linux: the sync fails once, the next succeeds, and the bytes of the first may be gone for good."""
    left = set()
    for seed in range(40):
        fs = disk(seed)
        file = fs.create("/d/a")
        file.allocate(SECTOR)
        file.datasync()
        fs.sync_directory("/d")
        fs.faults.failing_syncs = 1
        file.write(0, b"x")
        with pytest.raises(OSError, match="I/O"):
            file.datasync()
        file.datasync()
        assert file.read(0, 1) == b"x"
        fs.crash(Random(seed))
        left.add(fs.content("/d/a")[:1])
    assert left == {b"\0", b"x"}


def test_a_full_disk_takes_what_fits() -> None:
    """ENOSPC after part of a write; overwriting needs no room; room helps."""
    fs = disk()
    file = fs.create("/d/a")
    fs.faults.capacity = 10
    file.write(0, b"12345678")
    with pytest.raises(OSError, match="space") as caught:
        file.write(8, b"abcd")
    assert caught.value.errno == errno.ENOSPC
    assert fs.content("/d/a") == b"12345678ab"
    file.write(0, b"again")
    with pytest.raises(OSError, match="space"):
        fs.create("/d/b")
    with pytest.raises(OSError, match="space"):
        file.allocate(11)
    fs.faults.capacity = 20
    file.write(8, b"abcd")


def test_writes_cut_short() -> None:
    """A short write fails after a part; a torn one ends the program after a part."""
    fs = disk()
    file = fs.create("/d/a")
    fs.faults.short_write = 2
    with pytest.raises(OSError, match="I/O"):
        file.write(0, b"abc")
    assert fs.content("/d/a") == b"ab"
    fs.faults.torn_write = 1
    with pytest.raises(Crash):
        file.write(0, b"xyz")
    assert fs.content("/d/a") == b"xb"
    file.write(0, b"xyz")
    assert fs.content("/d/a") == b"xyz"


def test_unreadable_and_changed_bytes() -> None:
    """Read errors where they were set; flipped bits stay flipped through a crash."""
    fs = disk()
    fs.put("/d/a", bytes(1000))
    fs.unreadable("/d/a", 100, 200)
    file = fs.open("/d/a")
    assert file.read(0, 100) == bytes(100)
    with pytest.raises(OSError, match="read error"):
        file.read(50, 100)
    fs.flip("/d/a", 5, 0x10)
    fs.crash(Random(1))
    assert fs.content("/d/a")[5] == 0x10


def test_a_dead_program_writes_no_more() -> None:
    """Files and locks of the program that ended are void; a kill leaves the page cache as it was."""
    fs = disk()
    file = fs.create("/d/a")
    fs.lock("/d")
    file.write(0, b"x")
    fs.kill()
    assert fs.content("/d/a") == b"x"
    with pytest.raises(OSError, match="ended"):
        file.write(0, b"y")
    fs.lock("/d")


def test_effects_are_counted_and_announced() -> None:
    """The hook hears of each effect before it happens and can stop it."""
    heard: list[str] = []

    def before(effect: str, path: str) -> None:
        heard.append(effect)
        if effect == "datasync":
            raise Crash

    fs = MemoryFileSystem(Random(0), before)
    fs.make_directory("/d")
    file = fs.create("/d/a")
    file.write(0, b"x")
    file.allocate(5)
    fs.rename("/d/a", "/d/b")
    fs.sync_directory("/d")
    with pytest.raises(Crash):
        file.datasync()
    fs.remove("/d/b")
    assert heard == [
        "make_directory",
        "create",
        "write",
        "allocate",
        "rename",
        "sync_directory",
        "datasync",
        "remove",
    ]
    assert fs.effects == len(heard) - 1


def test_a_copy_is_independent() -> None:
    """What happens on one disk does not happen on its copy."""
    fs = disk()
    fs.create("/d/a").write(0, b"x")
    twin = fs.copy(Random(1))
    fs.open("/d/a").write(0, b"y")
    assert (twin.content("/d/a"), twin.used()) == (b"x", 1)
