"""Founding, reopening, and what each kind of damage does to a member's right to vote."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.ready import DurableState, KnownChosen
from quorate.kernel.storage.errors import (
    DirectoryInUse,
    JournalFailed,
    NewerFormat,
    StorageError,
    WrongDirectory,
)
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.layout import (
    BATCH_MAGIC,
    FOUNDING_MAGIC,
    IDENTITY_MAGIC,
    MARK_MAGIC,
    PAGE,
    SEGMENT_MAGIC,
    SNAPSHOT_MAGIC,
    stamp,
)
from quorate.kernel.storage.marks import Stop
from quorate.kernel.storage.memory import Crash, MemoryFileSystem
from quorate.kernel.storage.recovery import recover


def filled(kit: Any, slots: int = 20, known: int = 18) -> MemoryFileSystem:
    """A directory with votes over several segments, cleanly closed."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    kit.write(recovered.journal, kit.promise(3))
    for slot in range(1, slots + 1):
        kit.write(recovered.journal, kit.vote(slot, bytes([slot]) * 400, (3, 1)), kit.chosen(min(known, slot - 1)))
    recovered.close()
    return fs


def locate(kit: Any, fs: MemoryFileSystem, slot: int) -> tuple[str, int]:
    """The segment, and the offset in it, of a payload that :func:`filled` wrote."""
    for name in fs.names(kit.directory):
        if name.endswith(".log") and (at := fs.content(kit.path(name)).find(bytes([slot]) * 400)) >= 0:
            return kit.path(name), at
    raise AssertionError(f"no payload of slot {slot}")


# ---------------------------------------------------------------- founding


def test_a_new_directory(kit: Any) -> None:
    """Founded: nothing voted, incarnation 1; then it is not new any more, and its configuration is kept."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    assert recovered.fresh
    assert recovered.state == DurableState(NO_BALLOT, (), Slot(0), Slot(0), kit.founding)
    assert recovered.identity.owner.disk == kit.disk
    recovered.close()
    again = recover(fs, kit.directory, cell=kit.cell, member=kit.member, disk=b"not used")
    assert not again.fresh
    assert again.state == recovered.state
    assert (recovered.identity.incarnation, again.identity.incarnation) == (1, 2)
    assert again.identity.owner.disk == kit.disk
    assert (again.stopped, again.notes) == (Stop.CLOSED, ())


def test_a_founding_that_crashed_is_done_again(kit: Any) -> None:
    """At every effect of it: the next start founds the directory or finds it founded."""
    fresh = set()
    for stop in range(40):
        for seed in range(4):
            fs = kit.memory(seed)
            fuse = stop

            def before(effect: str, path: str) -> None:
                nonlocal fuse
                fuse -= 1
                if fuse < 0:
                    raise Crash

            fs.before = before
            try:
                kit.recover(fs)
            except Crash:
                pass
            else:
                continue
            fs.before = None
            fs.crash(Random(seed)) if seed else fs.kill()
            recovered = kit.recover(fs)
            assert recovered.state.intact
            fresh.add(recovered.fresh)
    assert fresh == {True, False}


def test_nothing_to_found_from(kit: Any) -> None:
    """Without a founding configuration an empty or missing directory is a mistake to be told."""
    fs = kit.memory()
    for _ in range(2):
        with pytest.raises(StorageError, match="no founding configuration"):
            recover(fs, kit.directory, cell=kit.cell, member=kit.member, disk=kit.disk)
        fs.make_directory(kit.directory)
    assert fs.names(kit.directory) == []


@pytest.mark.parametrize("left", ["journal", "snapshot", "marks"])
def test_orphans_are_not_founded_over(kit: Any, left: str) -> None:
    """Files that were used, without the identity that says whose: refused and untouched."""
    fs = filled(kit)
    recovered = kit.recover(fs)
    recovered.snapshots.write(Slot(5), kit.founding, [])
    recovered.close()
    prefix = {"journal": "journal-", "snapshot": "snapshot-", "marks": "marks"}[left]
    for name in fs.names(kit.directory):
        if not name.startswith(prefix):
            fs.remove(kit.path(name))
    before = fs.names(kit.directory)
    with pytest.raises(WrongDirectory, match="neither identity nor"):
        kit.recover(fs)
    assert fs.names(kit.directory) == before


def test_other_files_do_not_matter(kit: Any) -> None:
    """Neither a file system's own nor a user's file keeps a directory from being new, or is touched."""
    fs = kit.memory()
    fs.make_directory(kit.directory)
    strangers = ("README", "journal-1.log", "journal-0000000001.log.bak", "snapshot-5.snap")
    for name in strangers:
        fs.put(kit.path(name), b"mine")
    kit.recover(fs).close()
    kit.recover(fs).close()
    assert all(fs.content(kit.path(name)) == b"mine" for name in strangers)


# ---------------------------------------------------------------- reopening


def test_one_process_at_a_time(kit: Any) -> None:
    """A second start is refused, and possible after the first has ended; a failed start leaves no lock."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    with pytest.raises(DirectoryInUse):
        kit.recover(fs)
    recovered.close()
    with pytest.raises(WrongDirectory):
        recover(fs, kit.directory, cell=kit.cell, member=MemberId(5), disk=kit.disk)
    kit.recover(fs).close()


def test_another_replicas_directory(kit: Any) -> None:
    """Another cell's or member's directory is refused and not changed."""
    fs = filled(kit)
    contents = {name: fs.content(kit.path(name)) for name in fs.names(kit.directory)}
    for cell, member in ((bytes(16), kit.member), (kit.cell, MemberId(7))):
        with pytest.raises(WrongDirectory, match="nothing was changed"):
            recover(fs, kit.directory, cell=cell, member=member, disk=kit.disk)
    assert contents == {name: fs.content(kit.path(name)) for name in fs.names(kit.directory)}


@pytest.mark.parametrize(
    "name", ["identity", "identity.copy", "founding", "journal-0000000002.log", "marks", f"snapshot-{15:020d}.snap"]
)
def test_a_newer_format_is_refused(kit: Any, name: str) -> None:
    """A newer release's file: nothing is guessed and nothing changed."""
    fs = filled(kit)
    if name.startswith("snapshot"):
        recovered = kit.recover(fs)
        recovered.snapshots.write(Slot(15), kit.founding, [b"a"])
        recovered.close()
    content = fs.content(kit.path(name))
    fs.put(kit.path(name), stamp(content[:8], b"what a newer release knows", version=2).ljust(PAGE, b"\0"))
    contents = {name: fs.content(kit.path(name)) for name in fs.names(kit.directory)}
    with pytest.raises(NewerFormat, match="format 2"):
        kit.recover(fs)
    assert contents == {name: fs.content(kit.path(name)) for name in fs.names(kit.directory)}
    assert content[:8] in (IDENTITY_MAGIC, FOUNDING_MAGIC, SEGMENT_MAGIC, MARK_MAGIC, SNAPSHOT_MAGIC)


def test_a_failing_disk_at_the_start(kit: Any) -> None:
    """A disk that cannot be written says so and can be tried again; no file stays open, no lock is kept."""
    fs = filled(kit)
    fs.faults.failing_syncs = 1
    with pytest.raises(JournalFailed, match="start again"):
        kit.recover(fs)
    assert kit.recover(fs).state.intact


def test_a_full_disk_at_the_start(kit: Any) -> None:
    """A start needs no room: the identity and the marks are written in place."""
    fs = filled(kit)
    fs.faults.capacity = fs.used()
    assert kit.recover(fs).state.intact


def test_snapshot_and_log(kit: Any) -> None:
    """The newest snapshot, the votes above it, its configuration and size."""
    fs = filled(kit)
    recovered = kit.recover(fs)
    configuration = kit.founding._replace(number=Slot(4))
    recovered.snapshots.write(Slot(7), kit.founding, [b"a"])
    written = recovered.snapshots.write(Slot(15), configuration, [b"b"])
    recovered.close()
    again = kit.recover(fs)
    state = again.state
    assert again.snapshot == written
    assert (state.snapshot, state.snapshot_size, state.configuration) == (15, written.size, configuration)
    assert [vote.slot for vote in state.votes] == [16, 17, 18, 19, 20]
    assert state.chosen == 18
    assert again.snapshots.floor == 7
    again.close()
    fs.flip(kit.path(f"snapshot-{15:020d}.snap"), 40)
    older = kit.recover(fs)
    assert (older.state.snapshot, older.state.configuration) == (7, kit.founding)
    assert [vote.slot for vote in older.state.votes] == list(range(8, 21))
    assert older.state.intact
    assert "snapshot-00000000000000000015" in older.notes[0]


def test_a_fetched_snapshot_that_is_lost_leaves_no_hole(kit: Any) -> None:
    """It was far above the log: without it the member believes no more than the log can show."""
    fs = filled(kit)
    recovered = kit.recover(fs)
    recovered.snapshots.write(Slot(10), kit.founding, [])
    recovered.snapshots.write(Slot(500), kit.founding, [])
    kit.write(recovered.journal, kit.chosen(500), kit.vote(501, b"v", (4, 1)))
    recovered.journal.forget(recovered.snapshots.floor)
    recovered.close()
    assert kit.recover(fs.copy(Random(0))).state.chosen == 500
    fs.remove(kit.path(f"snapshot-{500:020d}.snap"))
    state = kit.recover(fs).state
    assert state.intact
    assert not state.damaged
    assert state.chosen == 20
    assert [vote.slot for vote in state.votes] == [*range(11, 21), 501]


def test_votes_below_a_lost_snapshot_from_a_peer_are_not_believed(kit: Any) -> None:
    """A vote recorded before a peer's snapshot was installed may be for a value that was not chosen: without that
    snapshot it is not applied as if it were, however healthy the journal is."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    kit.write(recovered.journal, kit.vote(1), kit.vote(2), kit.chosen(1))
    recovered.snapshots.write(Slot(40), kit.founding, [])
    kit.write(recovered.journal, KnownChosen(Slot(40), installed=True))
    for slot in range(41, 46):
        kit.write(recovered.journal, kit.vote(slot), kit.chosen(slot))
    recovered.close()
    assert kit.recover(fs.copy(Random(0))).state.chosen == 45
    fs.remove(kit.path(f"snapshot-{40:020d}.snap"))
    state = kit.recover(fs).state
    assert state.intact
    assert state.chosen == 1
    assert [vote.slot for vote in state.votes] == [1, 2, *range(41, 46)]


def test_an_old_snapshot_put_beside_changes_nothing(kit: Any) -> None:
    """Months-old leftovers are never preferred."""
    fs = filled(kit)
    recovered = kit.recover(fs)
    recovered.snapshots.write(Slot(3), kit.founding, [b"old"])
    old = fs.content(kit.path(f"snapshot-{3:020d}.snap"))
    for slot in (10, 15):
        recovered.snapshots.write(Slot(slot), kit.founding, [b"new"])
    recovered.snapshots.delete(recovered.snapshots.retire())
    recovered.journal.forget(recovered.snapshots.floor)
    recovered.close()
    expected = kit.recover(fs.copy(Random(0))).state
    fs.put(kit.path(f"snapshot-{3:020d}.snap"), old)
    fs.put(kit.path("snapshot-00000000000000000099.1.partial"), old)
    fs.put(kit.path("journal.5.unused"), old)
    found = kit.recover(fs)
    assert found.state == expected
    assert not [name for name in fs.names(kit.directory) if "partial" in name or "unused" in name]


# ---------------------------------------------------------------- damage


def test_a_known_chosen_slot_is_healed_and_stays_healed(kit: Any) -> None:
    """Its value is asked from others; once written again the damage is of no account, although it is still there."""
    fs = filled(kit)
    fs.flip(*locate(kit, fs, 7))
    recovered = kit.recover(fs)
    assert recovered.state.damaged == {7}
    assert "slot 7 " in " ".join(recovered.notes)
    kit.write(recovered.journal, kit.vote(7, b"\x07" * 400, (3, 1)))
    recovered.close()
    again = kit.recover(fs)
    assert again.state.intact
    assert not again.state.damaged
    assert len(again.state.votes) == 20


def test_an_open_slot_is_not_healed(kit: Any) -> None:
    """A vote that nobody else may know of is lost: this member is not to vote, now or at any later start."""
    fs = filled(kit, known=5)
    fs.flip(*locate(kit, fs, 7))
    recovered = kit.recover(fs)
    assert not recovered.state.intact
    assert "never votes again" in recovered.notes[-1]
    kit.write(recovered.journal, kit.vote(7, b"\x07" * 400, (3, 1)), kit.chosen(20))
    recovered.close()
    again = kit.recover(fs)
    assert not again.state.intact
    assert not again.state.damaged
    for slot in (15, 20):
        again.snapshots.write(Slot(slot), kit.founding, [])
    again.journal.forget(Slot(15))
    again.close()
    assert not kit.recover(fs).state.intact


def test_a_promise_behind_a_hole_survives(kit: Any) -> None:
    """The record of a promise may be lost: every later header repeats it."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    kit.write(recovered.journal, kit.vote(1), kit.chosen(1))
    start = recovered.journal._position
    kit.write(recovered.journal, kit.promise(77, 2))
    end = recovered.journal._position
    kit.write(recovered.journal, kit.chosen(1))
    recovered.close()
    content = fs.content(kit.segment(1))
    fs.put(kit.segment(1), content[:start] + bytes(end - start) + content[end:])
    state = kit.recover(fs).state
    assert state.intact
    assert state.promised == Ballot(77, MemberId(2))


def test_unreadable_is_not_lost(kit: Any) -> None:
    """A read error where nothing can be spared: no start, nothing changed, and a later start may succeed. Where the
    others can help, it starts."""
    fs = filled(kit, known=18)
    (old, start), (new, last) = locate(kit, fs, 7), locate(kit, fs, 20)
    bad = fs.copy(Random(0))
    bad.unreadable(new, last, last + 10)
    contents = {name: bad.content(kit.path(name)) for name in bad.names(kit.directory)}
    with pytest.raises(StorageError, match=f"reading failed at {new}, bytes"):
        kit.recover(bad)
    assert contents == {name: bad.content(kit.path(name)) for name in bad.names(kit.directory)}
    fs.unreadable(old, start, start + 10)
    state = kit.recover(fs).state
    assert state.intact
    assert 7 in state.damaged


def test_damage_at_the_end_begins_a_new_segment(kit: Any) -> None:
    """A damaged file is not written again; what follows is found."""
    fs = filled(kit)
    closing = kit.recover(fs)
    kit.write(closing.journal, kit.chosen(20))
    closing.close()
    last = [name for name in fs.names(kit.directory) if name.endswith(".log")][-1]
    fs.flip(kit.path(last), fs.content(kit.path(last)).rindex(BATCH_MAGIC))
    damaged = fs.content(kit.path(last))
    recovered = kit.recover(fs)
    assert recovered.state.intact
    assert 20 in recovered.state.damaged
    kit.write(recovered.journal, kit.vote(21, b"new", (5, 2)))
    recovered.close()
    assert fs.content(kit.path(last)) == damaged
    state = kit.recover(fs).state
    assert state.promised == Ballot(5, MemberId(2))
    assert state.votes[-1].slot == 21
    assert state.intact


def test_another_members_segment(kit: Any) -> None:
    """A file of the right name from another directory is not read as ours."""
    fs = filled(kit, known=18)
    other = kit.memory()
    stranger = recover(
        other,
        kit.directory,
        cell=kit.cell,
        member=MemberId(2),
        disk=b"another disk's 1",
        founding=kit.founding,
        segment_size=kit.small,
    )
    for slot in range(1, 20):
        kit.write(stranger.journal, kit.vote(slot, b"not ours" * 50))
    fs.put(kit.segment(2), other.content(kit.segment(2)))
    recovered = kit.recover(fs)
    assert any("member 2" in note for note in recovered.notes)
    assert not [vote for vote in recovered.state.votes if b"not ours" in vote.value.payload]
    assert recovered.state.damaged


def test_everything_gone_but_the_identity(kit: Any) -> None:
    """No segment and no marks: not a fresh member, but one that lost its memory."""
    fs = filled(kit)
    for name in fs.names(kit.directory):
        if name.startswith(("journal-", "marks")):
            fs.remove(kit.path(name))
    recovered = kit.recover(fs)
    assert not recovered.state.intact
    recovered.close()
    assert not kit.recover(fs).state.intact


# ---------------------------------------------------------------- real files


def test_a_directory_copied_while_it_is_written(kit: Any, tmp_path: Path) -> None:
    """What a kill would leave at any moment: a copy taken meanwhile has everything acknowledged before it began."""
    fs = RealFileSystem()
    directory = tmp_path / "replica"
    recovered = kit.recover(fs, str(directory), 1 << 15)
    journal = recovered.journal
    stop = threading.Event()

    def write() -> None:
        slot = 0
        while not stop.is_set():
            slot += 1
            kit.write(journal, kit.vote(slot, bytes([slot % 256]) * (slot * 37 % 3000)))
            journal.prepare()

    thread = threading.Thread(target=write)
    thread.start()
    copies = []
    while len(copies) < 12:
        durable = journal.durable
        copy = tmp_path / f"copy{len(copies)}"
        copy.mkdir()
        # the marks first: an older mark beside newer batches is what a power cut leaves, too
        shutil.copyfile(directory / "marks", copy / "marks")
        for name in sorted(set(os.listdir(directory)) - {"marks"}):
            try:
                shutil.copyfile(directory / name, copy / name)
            except FileNotFoundError:
                continue
        copies.append((copy, durable))
    stop.set()
    thread.join()
    recovered.close()
    for copy, durable in copies:
        found = kit.recover(fs, str(copy))
        assert found.state.intact, found.notes
        assert found.journal.base >= durable
        for vote in found.state.votes:
            assert vote.value.payload == bytes([vote.slot % 256]) * (vote.slot * 37 % 3000)
        found.close()


WRITER = """
import sys
from random import Random
sys.path.insert(0, {tests!r})
from conftest import Kit
from quorate.kernel.storage.files import RealFileSystem
kit = Kit()
recovered = kit.recover(RealFileSystem(), {directory!r}, 1 << 16)
slot = recovered.journal.base
while True:
    slot += 1
    kit.write(recovered.journal, kit.vote(slot, bytes([slot % 256]) * (slot * 37 % 3000)))
    print(slot, flush=True)
"""


def test_killed_again_and_again(kit: Any, tmp_path: Path) -> None:
    """A process killed at any moment: every vote it told us of is found by the next."""
    directory = str(tmp_path / "replica")
    code = WRITER.format(tests=str(Path(__file__).parent), directory=directory)
    told = 0
    random = Random(3)
    for _ in range(3):
        lines = random.randrange(20, 300)
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _, line in zip(range(lines), process.stdout, strict=False):
                told = int(line)
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:
                told = int(line) if line.endswith("\n") else told
        recovered = kit.recover(RealFileSystem(), directory, 1 << 16)
        assert recovered.state.intact
        assert len(recovered.state.votes) == recovered.journal.base >= told
        recovered.close()
        assert recovered.stopped is Stop.RUNNING
