"""Dump and verify read a directory and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.storage.errors import StorageError
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.inspect import dump, verify
from quorate.kernel.storage.memory import MemoryFileSystem


def filled(kit: Any) -> MemoryFileSystem:
    """A directory with a bit of everything."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    kit.write(recovered.journal, kit.promise(3))
    for slot in range(1, 8):
        kit.write(recovered.journal, kit.vote(slot, bytes([slot]) * 400, (3, 1)), kit.chosen(slot))
    recovered.snapshots.write(Slot(2), kit.founding, [b"state"])
    recovered.close()
    return fs


def test_a_sound_directory(kit: Any) -> None:
    """Counts, the acceptor's standing, and the verdict; every record in the dump."""
    fs = filled(kit)
    report = verify(kit.directory, fs)
    assert report.sound
    assert (report.segments, report.batches, report.records, report.snapshots) == (3, 8, 15, (2,))
    assert list(report.lines())[-1] == "sound"
    lines = list(dump(kit.directory, fs))
    assert "snapshot at slot 2" in lines[1]
    assert sum("accepted slot" in line for line in lines) == 7
    assert sum("chosen up to" in line for line in lines) == 7
    assert any("promised ballot 3.1" in line for line in lines)
    assert any("; closed" in line for line in lines)


def test_nothing_is_changed(kit: Any) -> None:
    """No byte, no name, no lock, no incarnation: it may run beside the replica."""
    fs = filled(kit)
    kit.recover(fs)
    effects = fs.effects
    list(dump(kit.directory, fs))
    verify(kit.directory, fs)
    assert fs.effects == effects


def test_damage_is_named(kit: Any) -> None:
    """Where, what, and what it means; in the dump in its place."""
    fs = filled(kit)
    content = fs.content(kit.segment(2))
    position = content.index(b"\x05" * 400)
    fs.flip(kit.segment(2), position)
    report = verify(kit.directory, fs)
    assert not report.sound
    text = "\n".join(report.lines())
    assert f"DAMAGE: {kit.segment(2)} at offset 4" in text
    assert "damaged slots that the other members can restore: 5" in text
    assert text.endswith("not sound")
    assert any("accepted slot 5" in line and line.endswith("DAMAGED") for line in dump(kit.directory, fs))
    fs.put(kit.segment(2), content[:4096] + bytes(100) + content[4196:])
    assert any("no batch up to byte" in line for line in dump(kit.directory, fs))
    fs.put(kit.segment(2), bytes(len(content)))
    assert any("begins with" in line for line in dump(kit.directory, fs))
    fs.unreadable(kit.segment(1), 4096, 4097)
    assert any("cannot be read" in line for line in dump(kit.directory, fs))


def test_loss_is_named(kit: Any) -> None:
    """A member that must not vote any more is told what to do."""
    fs = filled(kit)
    fs.remove(kit.path("marks"))
    fs.remove(kit.segment(3))
    fs.put(kit.segment(2), fs.content(kit.segment(2))[:5000])
    report = verify(kit.directory, fs)
    assert not report.state.intact
    assert "LOST" in "\n".join(report.lines())


def test_leftovers_are_only_noted(kit: Any) -> None:
    """An unfinished snapshot is no damage."""
    fs = filled(kit)
    fs.put(kit.path("snapshot-00000000000000000009.3.incoming"), b"half")
    report = verify(kit.directory, fs)
    assert report.sound
    assert "note: " in "\n".join(report.lines())


def test_not_a_data_directory(kit: Any, tmp_path: Path) -> None:
    """Missing or empty directories are refused by name, on the real file system by default."""
    for call in (lambda path: list(dump(path)), verify):
        with pytest.raises(StorageError, match="does not exist"):
            call(str(tmp_path / "none"))
        with pytest.raises(StorageError, match="no identity file"):
            call(str(tmp_path))
    kit.recover(RealFileSystem(), str(tmp_path / "replica")).close()
    assert verify(str(tmp_path / "replica")).sound
