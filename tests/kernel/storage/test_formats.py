"""Directories of every released format are read for ever, and today's code still writes the newest of them.

``formats/vN`` is what the release that introduced format N wrote; its files are never changed. When the format has to
change: raise ``layout.FORMAT``, keep reading the old one, add a directory here and its expectations below.
To write a new directory: ``python test_formats.py DIRECTORY``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from quorate.kernel.paxos.ballot import DECIDED, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import AcceptedValue, KnownChosen, Promised, Record
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.inspect import dump, verify
from quorate.kernel.storage.layout import FORMAT
from quorate.kernel.storage.marks import Stop
from quorate.kernel.storage.memory import MemoryFileSystem
from quorate.kernel.storage.recovery import Recovered, recover

FORMATS = Path(__file__).parent / "formats"
CELL, MEMBER, DISK = b"the format cell!", MemberId(2), b"the format disk!"
FOUNDING = Configuration(
    Slot(0),
    (
        Member(MemberId(1), Role.VOTER, "tcp:one.example:7000", (("client", "one.example:7001"),)),
        Member(MEMBER, Role.VOTER, "tcp:two.example:7000", (("client", "two.example:7001"), ("zookeeper", "two:2181"))),
        Member(MemberId(3), Role.LEARNER, "tcp:three.example:7000"),
    ),
)
LATER = Configuration(Slot(4), FOUNDING.members[:2])
CHUNKS = [b"machines", b"", bytes(range(256))]
FIRST, SECOND = Ballot(1, MemberId(1)), Ballot(2, MEMBER)
VOTES = [
    AcceptedValue(FIRST, Slot(1), Value(Kind.NOOP, b"")),
    AcceptedValue(FIRST, Slot(2), Value(Kind.COMMANDS, b"two" * 100)),
    AcceptedValue(DECIDED, Slot(3), Value(Kind.COMMANDS, b"learned")),
    AcceptedValue(FIRST, Slot(4), Value(Kind.CONFIGURATION, b"a change")),
    AcceptedValue(FIRST, Slot(5), Value(Kind.COMMANDS, bytes(600))),
    AcceptedValue(SECOND, Slot(6), Value(Kind.COMMANDS, b"six")),
]
BATCHES: list[list[Record]] = [
    [Promised(FIRST)],
    VOTES[:3],
    [KnownChosen(Slot(3)), VOTES[3]],
    [KnownChosen(Slot(4)), VOTES[4]],
    [Promised(SECOND), VOTES[5], KnownChosen(Slot(5))],
]


def write(fs: MemoryFileSystem, directory: str) -> None:
    """What every format's directory holds."""

    def opened() -> Recovered:
        return recover(fs, directory, cell=CELL, member=MEMBER, disk=DISK, founding=FOUNDING, segment_size=4096 + 1024)

    recovered = opened()
    for batch in BATCHES[:3]:
        recovered.journal.append(batch)
        sealed = recovered.journal.seal()
        assert sealed is not None
        recovered.journal.write(sealed)
    recovered.close()
    recovered = opened()
    for batch in BATCHES[3:]:
        recovered.journal.append(batch)
        sealed = recovered.journal.seal()
        assert sealed is not None
        recovered.journal.write(sealed)
    recovered.snapshots.write(Slot(4), LATER, CHUNKS)
    recovered.close()


def read(recovered: Recovered) -> None:
    """What recovery must say of it."""
    state = recovered.state
    assert recovered.notes == ()
    assert recovered.stopped is Stop.CLOSED
    assert recovered.identity.owner == (CELL, MEMBER, DISK)
    assert recovered.identity.incarnation == 3
    assert (state.promised, state.chosen, state.snapshot) == (SECOND, 5, 4)
    assert list(state.votes) == VOTES[4:]
    assert state.configuration == LATER
    assert state.intact
    assert not state.damaged
    reader = recovered.snapshots.open(Slot(4))
    assert list(reader.chunks()) == CHUNKS
    reader.close()
    assert recovered.journal.base == sum(map(len, BATCHES))


READERS: dict[str, Callable[[Recovered], None]] = {"v1": read}


@pytest.mark.parametrize("version", sorted(READERS))
def test_read_for_ever(version: str, tmp_path: Path) -> None:
    """What an older release wrote is understood, with and without its snapshot, and can be written on."""
    for without in ("snapshot", "nothing"):
        directory = tmp_path / without
        shutil.copytree(FORMATS / version, directory)
        if without == "snapshot":
            for path in directory.glob("snapshot-*"):
                path.unlink()
        report = verify(str(directory))
        assert report.sound
        assert len(list(dump(str(directory)))) > 15
        recovered = recover(RealFileSystem(), str(directory), cell=CELL, member=MEMBER, disk=bytes(16))
        if without == "snapshot":
            assert list(recovered.state.votes) == VOTES
            assert recovered.state.configuration == FOUNDING
        else:
            read(recovered)
        recovered.journal.append([Promised(Ballot(3, MEMBER))])
        batch = recovered.journal.seal()
        assert batch is not None
        recovered.journal.write(batch)
        recovered.close()
        again = recover(RealFileSystem(), str(directory), cell=CELL, member=MEMBER, disk=bytes(16))
        assert again.state.promised.round == 3
        again.close()


def test_every_format_has_its_reader() -> None:
    """No directory without a test and none missing, up to the format that is written now."""
    assert sorted(path.name for path in FORMATS.iterdir()) == sorted(READERS)
    assert set(READERS) == {f"v{number}" for number in range(1, FORMAT + 1)}


def test_the_bytes_written_today_are_the_newest_format() -> None:
    """A change of the format cannot happen unnoticed."""
    fs = MemoryFileSystem(Random(0))
    write(fs, "/replica")
    newest = FORMATS / f"v{FORMAT}"
    assert fs.names("/replica") == sorted(path.name for path in newest.iterdir())
    for path in newest.iterdir():
        assert fs.content(f"/replica/{path.name}") == path.read_bytes(), path.name


if __name__ == "__main__":
    made = MemoryFileSystem(Random(0))
    write(made, "/replica")
    target = Path(sys.argv[1])
    target.mkdir(parents=True)
    for name in made.names("/replica"):
        (target / name).write_bytes(made.content(f"/replica/{name}"))
