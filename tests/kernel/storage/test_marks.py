"""The marks file: two slots in turn, the newest whole one counts."""

from __future__ import annotations

from typing import Any

import pytest
from quorate.kernel.storage.errors import WrongDirectory
from quorate.kernel.storage.layout import PAGE, Mark, Standing
from quorate.kernel.storage.marks import NAME, Marks, Stop, read_marks
from quorate.kernel.storage.memory import MemoryFileSystem


def made(kit: Any) -> tuple[MemoryFileSystem, Marks]:
    """A directory with a marks file."""
    fs = kit.memory()
    fs.make_directory(kit.directory)
    return fs, Marks.found(fs, kit.directory, Mark(kit.disk, 0, 1, PAGE, 0, 0, Standing(), Stop.RUNNING))


def test_written_in_turn(kit: Any) -> None:
    """Each mark replaces the older of the two; reading finds the newest."""
    fs, marks = made(kit)
    assert marks.newest.sequence == 2
    for sequence in range(3, 8):
        marks.write(marks.newest._replace(sequence=sequence, upto=sequence * 10))
        found = read_marks(fs, kit.directory, kit.disk)
        assert found.newest == marks.newest
        assert not found.complaints
    fs.flip(kit.path(NAME), (7 % 2) * PAGE + 20)
    found = read_marks(fs, kit.directory, kit.disk)
    assert found.newest is not None
    assert found.newest.upto == 60
    assert kit.path(NAME) in found.complaints[0]


def test_sync_only_when_needed(kit: Any) -> None:
    """A mark that is durable is not synced again."""
    fs, marks = made(kit)
    effects = fs.effects
    marks.sync()
    assert fs.effects == effects
    marks.write(marks.newest._replace(sequence=3))
    marks.sync()
    marks.sync()
    assert fs.effects == effects + 2


def test_missing_empty_or_foreign(kit: Any) -> None:
    """No file and no mark are told as complaints; another disk's marks are refused."""
    fs = kit.memory()
    fs.make_directory(kit.directory)
    assert "missing" in read_marks(fs, kit.directory, kit.disk).complaints[0]
    fs.put(kit.path(NAME), bytes(2 * PAGE))
    assert "no mark" in read_marks(fs, kit.directory, kit.disk).complaints[0]
    fs, _ = made(kit)
    with pytest.raises(WrongDirectory, match="mixed"):
        read_marks(fs, kit.directory, b"another disk !!!")
    assert read_marks(fs, kit.directory, None).newest is not None
    fs.unreadable(kit.path(NAME), 0, 10)
    found = read_marks(fs, kit.directory, kit.disk)
    assert found.newest is not None
    assert len(found.complaints) == 1


def test_made_anew(kit: Any) -> None:
    """Reopening writes both slots, and makes the file if it is gone."""
    fs, marks = made(kit)
    mark = marks.newest._replace(upto=5)
    fs.remove(kit.path(NAME))
    again = Marks.reopen(fs, kit.directory, mark)
    assert again.newest == mark._replace(sequence=4)
    for slot in range(2):
        twin = fs.copy(fs.random)
        twin.flip(kit.path(NAME), slot * PAGE)
        found = read_marks(twin, kit.directory, kit.disk)
        assert found.newest is not None
        assert found.newest.upto == 5
