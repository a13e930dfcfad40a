"""Appending, sealing, writing, rolling over, forgetting; and what happens when the disk does not play along."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import DECIDED, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.ready import AcceptedValue, KnownChosen, Promised, Record
from quorate.kernel.storage.errors import JournalFailed, JournalFull
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.journal import Batch, Journal
from quorate.kernel.storage.marks import Stop
from quorate.kernel.storage.memory import MemoryFileSystem

BALLOTS = st.builds(Ballot, st.integers(0, 2**63 - 2), st.integers(1, 9).map(MemberId))
SLOTS = st.integers(1, 30).map(Slot)
RECORDS = st.one_of(
    st.builds(Promised, BALLOTS),
    st.builds(KnownChosen, st.just(Slot(0))),
    st.builds(
        AcceptedValue,
        st.one_of(BALLOTS, st.just(DECIDED)),
        SLOTS,
        st.builds(Value, st.sampled_from(Kind), st.binary(max_size=300)),
    ),
)


def test_numbers(kit: Any) -> None:
    """append counts records, seal takes what is pending once, write makes it durable."""
    journal = kit.recover(kit.memory()).journal
    assert journal.seal() is None
    assert journal.append([kit.promise(1), kit.vote(1)]) == 2
    assert journal.append([]) == 2
    batch = journal.seal()
    assert (batch.first, batch.upto) == (1, 2)
    assert journal.seal() is None
    assert journal.append([kit.vote(2)]) == 3
    assert (journal.base, journal.last, journal.durable) == (0, 3, 0)
    journal.write(batch)
    assert journal.durable == 2
    journal.write(journal.seal())
    assert journal.durable == 3


def test_numbers_go_on_after_a_restart(kit: Any) -> None:
    """The base of a reopened journal is the last record found; what was never written does not count."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    kit.write(recovered.journal, kit.vote(1), kit.vote(2))
    recovered.journal.append([kit.vote(3)])
    recovered.close()
    journal = kit.recover(fs).journal
    assert (journal.base, journal.last, journal.durable) == (2, 2, 2)
    assert journal.append([kit.vote(3)]) == 3


def test_misuse_is_caught(kit: Any) -> None:
    """Batches out of order or written twice are a bug of the driver."""
    journal = kit.recover(kit.memory()).journal
    first, second = (journal.append([kit.vote(slot)]) and journal.seal() for slot in (1, 2))
    with pytest.raises(AssertionError, match="order"):
        journal.write(second)
    journal.write(first)
    with pytest.raises(AssertionError, match="order"):
        journal.write(first)
    journal.write(second)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=5), max_size=12), st.booleans(), st.integers(0, 999))
def test_whatever_was_written_is_found(kit: Any, batches: list[list[Record]], prepare: bool, seed: int) -> None:
    """Any records in any batches over any number of segments, after a power cut."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    records: list[Record] = []
    for batch in batches:
        kit.write(journal, *batch)
        records += batch
        if prepare:
            journal.prepare()
    fs.crash(Random(seed))
    state = kit.recover(fs).state
    assert kit.found(state) == kit.known(records)
    assert state.intact


def test_learned_values_promise_nothing(kit: Any) -> None:
    """A value learned from others is kept under the ballot above all; the promise must not rise to it."""
    fs = kit.memory()
    kit.write(kit.recover(fs).journal, kit.promise(4), AcceptedValue(DECIDED, Slot(1), Value(Kind.NOOP, b"")))
    fs.kill()
    assert kit.recover(fs).state.promised == Ballot(4, MemberId(1))


def test_one_write_and_one_sync(kit: Any) -> None:
    """A batch of any size costs one write, one sync and one unsynced mark."""
    heard: list[tuple[str, str]] = []
    fs = MemoryFileSystem(Random(0))
    journal = kit.recover(fs, segment_size=1 << 16).journal
    fs.before = lambda effect, path: heard.append((effect, path))
    kit.write(journal, *(kit.vote(slot, bytes(1000)) for slot in range(1, 20)))
    assert heard == [("write", kit.segment(1)), ("datasync", kit.segment(1)), ("write", kit.path("marks"))]
    heard.clear()
    journal.settle()
    journal.settle()
    assert heard == [("datasync", kit.path("marks"))]


def test_a_write_in_two_halves(kit: Any) -> None:
    """Nothing counts before the driver says that the file was synced; a sync that it says failed is the end."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    batches = []
    for slot in (1, 2, 3):
        journal.append([kit.vote(slot, bytes(300))])
        batches.append(journal.seal())
    journal.begin(batches[0]).datasync()
    with pytest.raises(AssertionError, match="one write"):
        journal.begin(batches[1])
    assert journal.durable == 0
    journal.synced(batches[0])
    with pytest.raises(AssertionError, match="begun"):
        journal.synced(batches[0])
    assert journal.durable == 1
    journal.begin(batches[1])
    assert not isinstance(journal.sync_failed(OSError(errno.EIO, "bad")), JournalFull)
    assert (journal.failed, journal.durable) == (True, 1)
    with pytest.raises(JournalFailed, match="bad"):
        journal.begin(batches[2])
    fs.crash(Random(0))
    found = kit.recover(fs)
    assert found.state.intact
    assert found.journal.base in (1, 2)


def test_what_does_not_fit_is_not_begun(kit: Any) -> None:
    """A batch for the next segment goes through write(), which rolls over."""
    journal = kit.recover(kit.memory()).journal
    journal.append([kit.vote(1, bytes(3000))])
    batch = journal.seal()
    assert not journal.fits(batch)
    journal.write(batch)
    assert journal.durable == 1


@pytest.mark.parametrize("prepared", [True, False])
def test_rolling_over(kit: Any, prepared: bool) -> None:
    """A batch that does not fit begins the next segment, with or without one prepared; a huge one gets a huge one."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    journal = recovered.journal
    for slot in range(1, 30):
        while prepared and journal.prepare():
            pass
        kit.write(journal, kit.vote(slot, bytes([slot]) * 500))
    kit.write(journal, kit.vote(30, b"huge" * 5000))
    kit.write(journal, kit.vote(31))
    segments = [name for name in fs.names(kit.directory) if name.endswith(".log")]
    assert len(segments) > 5
    assert journal.size == sum(len(fs.content(kit.path(name))) for name in segments)
    recovered.close()
    again = kit.recover(fs)
    assert [vote.slot for vote in again.state.votes] == list(range(1, 32))
    assert not again.notes
    assert not [name for name in fs.names(kit.directory) if name.endswith(".unused")]
    assert again.journal.size == sum(len(fs.content(kit.path(name))) for name in segments)


def test_from_slow_to_prepared_blocks(kit: Any) -> None:
    """A segment made in haste is left as soon as a prepared one is there; a prepared one is filled to its end, and
    nothing is prepared before it is needed."""
    fs = kit.memory()
    journal = kit.recover(fs, segment_size=1 << 15).journal
    assert not journal.prepare()
    assert not [name for name in fs.names(kit.directory) if name.endswith(".unused")]
    slots = iter(range(1, 1000))

    def write_until(number: int) -> int:
        """Bytes used of the segment before."""
        while True:
            used = journal._position
            kit.write(journal, kit.vote(next(slots), bytes(300)))
            if fs.names(kit.directory).count(f"journal-{number:010d}.log"):
                return used

    assert write_until(2) > (1 << 15) - 500  # nothing was prepared
    assert not journal.prepare()  # one piece
    kit.write(journal, kit.vote(next(slots), bytes(1 << 14)))
    assert fs.names(kit.directory).count("journal-0000000003.log")
    assert not journal._slow
    while journal._position < 1 << 14:
        kit.write(journal, kit.vote(next(slots), bytes(300)))
    journal.prepare()
    kit.write(journal, kit.vote(next(slots), bytes(300)))
    assert write_until(4) > (1 << 15) - 500
    fs.kill()
    assert len(kit.recover(fs).state.votes) == next(slots) - 1


def test_forgetting(kit: Any) -> None:
    """Whole segments below a slot go, never the current one; the promise stays although its record is gone."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    journal = recovered.journal
    kit.write(journal, kit.promise(9, 2))
    for slot in range(1, 31):
        kit.write(journal, kit.vote(slot, bytes(500), (10, 2)), kit.chosen(slot - 1))
    recovered.snapshots.write(Slot(20), kit.founding, [b"state"])
    count = len(fs.names(kit.directory))
    assert journal.forget(Slot(0)) == 0
    gone = journal.forget(Slot(20))
    assert gone > 3
    assert len(fs.names(kit.directory)) == count - gone
    assert journal.forget(Slot(20)) == 0
    recovered.close()
    again = kit.recover(fs)
    assert again.state.promised == Ballot(10, MemberId(2))
    assert [vote.slot for vote in again.state.votes] == list(range(21, 31))
    assert again.state.intact
    assert not again.notes
    again.journal.forget(Slot(1000))
    again.close()
    assert kit.recover(fs).state.promised == Ballot(10, MemberId(2))


def test_a_log_forgotten_too_far_is_noticed(kit: Any) -> None:
    """Without the snapshot that covers them, forgotten votes are missed."""
    fs = kit.memory()
    recovered = kit.recover(fs)
    for slot in range(1, 31):
        kit.write(recovered.journal, kit.vote(slot, bytes(500)), kit.chosen(slot - 1))
    recovered.journal.forget(Slot(20))
    recovered.close()
    state = kit.recover(fs).state
    assert state.intact
    assert min(state.damaged) == 1
    assert len(state.damaged) + len(state.votes) == 30


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_is_the_end(kit: Any, number: int) -> None:
    """No call works after it, the sync is never tried again, and nothing else is written but the reason."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    kit.write(journal, kit.vote(1))
    fs.faults.failing_syncs = 1
    journal.append([kit.vote(2)])
    batch = journal.seal()
    if number == errno.ENOSPC:
        journal._file.datasync = lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "no space at sync"))
    with pytest.raises(JournalFailed, match=r"segment 1.*restart") as caught:
        journal.write(batch)
    assert caught.value.full is (number == errno.ENOSPC)
    effects = fs.effects
    calls = (
        lambda: journal.write(batch),
        lambda: journal.append([kit.vote(3)]),
        lambda: journal.seal(),
        lambda: journal.settle(),
        lambda: journal.prepare(),
        lambda: journal.forget(Slot(1)),
    )
    for call in calls:
        with pytest.raises(JournalFailed):
            call()
    assert journal.failed
    assert journal.durable == 1
    assert fs.effects == effects
    journal.close()
    fs.kill()
    assert kit.recover(fs).stopped is Stop.FAILED


@pytest.mark.parametrize("call", ["settle", "prepare", "forget"])
def test_other_failures_are_the_end_as_well(kit: Any, call: str) -> None:
    """A disk that fails anywhere is not trusted with the next vote."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    for slot in range(1, 10):
        kit.write(journal, kit.vote(slot, bytes(500)))
    fs.faults.failing_syncs = -1
    fs.remove(kit.segment(1))
    with pytest.raises(JournalFailed):
        {"settle": journal.settle, "prepare": journal.prepare, "forget": lambda: journal.forget(Slot(5))}[call]()
    with pytest.raises(JournalFailed):
        journal.append([kit.vote(11)])


def test_a_full_disk_stops_and_goes_on(kit: Any) -> None:
    """Without room for a segment nothing of the batch counts, the marks say why, and the same batch can be written when
    there is room again."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    fs.faults.capacity = fs.used() + 100
    slot = 0
    with pytest.raises(JournalFull, match="Free space"):
        journal.prepare()
    assert not journal.failed
    while True:
        slot += 1
        journal.append([kit.vote(slot, bytes(400))])
        batch = journal.seal()
        try:
            journal.write(batch)
        except JournalFull:
            break
    assert slot > 2
    for _ in range(2):
        with pytest.raises(JournalFull):
            journal.write(batch)
    assert not [name for name in fs.names(kit.directory) if name.endswith(".unused")]
    twin = fs.copy(Random(0))
    found = kit.recover(twin)
    assert (found.stopped, len(found.state.votes)) == (Stop.FULL, slot - 1)
    fs.faults.capacity = None
    journal.write(batch)
    fs.crash(Random(1))
    found = kit.recover(fs)
    assert (found.stopped, len(found.state.votes)) == (Stop.RUNNING, slot)


def test_full_in_the_middle_of_a_write(kit: Any) -> None:
    """A file system that copies on write may refuse even allocated blocks: the same bytes are written again later."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    journal.append([kit.vote(1, b"x" * 900)])
    batch = journal.seal()
    write, file = journal._file.write, journal._file

    def refuse(position: int, content: bytes) -> None:
        write(position, content[:300])
        raise OSError(errno.ENOSPC, "no space")

    file.write = refuse
    with pytest.raises(JournalFull):
        journal.write(batch)
    fs_then = fs.copy(Random(0))
    assert kit.recover(fs_then).state.votes == ()
    del file.write
    journal.write(batch)
    fs.crash(Random(2))
    assert len(kit.recover(fs).state.votes) == 1


def test_a_mark_is_not_written_by_two_threads(kit: Any, tmp_path: Path) -> None:
    """Preparing beside writing, on real files: every record is found again."""
    fs = RealFileSystem()
    directory = str(tmp_path / "replica")
    recovered = kit.recover(fs, directory, 1 << 16)
    journal = recovered.journal
    stop = threading.Event()

    def prepare() -> None:
        while not stop.is_set():
            journal.prepare()

    thread = threading.Thread(target=prepare)
    thread.start()
    for slot in range(1, 300):
        kit.write(journal, kit.vote(slot, bytes(1500)))
    stop.set()
    thread.join()
    recovered.close()
    again = kit.recover(fs, directory)
    assert len(again.state.votes) == 299
    assert not again.notes
    again.close()


def test_a_file_system_that_copies_on_write_is_full(kit: Any) -> None:
    """No block at all can be written, the marks' neither: the same batch is written when there is room, and marks that
    could not be written in between do not matter."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    kit.write(journal, kit.vote(1))
    journal.append([kit.vote(2, b"x" * 900)])
    batch = journal.seal()
    full = {"journal", "marks"}

    def refuse(effect: str, path: str) -> None:
        if effect == "write" and any(path.startswith(kit.path(name)) for name in full):
            raise OSError(errno.ENOSPC, "no space")

    fs.before = refuse
    for _ in range(2):
        with pytest.raises(JournalFull):
            journal.write(batch)
    full.remove("journal")
    journal.write(batch)
    fs.before = None
    kit.write(journal, kit.vote(3))
    journal.settle()
    fs.crash(Random(2))
    found = kit.recover(fs)
    assert found.state.intact
    assert len(found.state.votes) == 3


@contextmanager
def few_descriptors(count: int) -> Iterator[None]:
    """No more than `count` more files can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        *_, last = [stack.enter_context(open(os.devnull)).fileno() for _ in range(count + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("spare", [0, 1])
def test_no_descriptor_is_waited_for_on_a_real_disk(kit: Any, tmp_path: Path, spare: int) -> None:
    """However far the next segment gets, its name included, before no more files can be opened: nothing is uncertain
    and the same batch is written later."""
    directory = str(tmp_path)
    recovered = kit.recover(RealFileSystem(), directory)
    journal = recovered.journal
    kit.write(journal, kit.vote(1, bytes(1500)))
    journal.append([kit.vote(2, bytes(1500))])
    batch = journal.seal()
    with few_descriptors(spare), pytest.raises(JournalFull, match="Have fewer files open"):
        journal.write(batch)
    assert not journal.fits(batch)
    journal.write(batch)
    recovered.close()
    again = kit.recover(RealFileSystem(), directory)
    again.close()
    assert (again.state.intact, [vote.slot for vote in again.state.votes], again.notes) == (True, [1, 2], ())


def about_to_roll(kit: Any, fs: Any) -> tuple[Journal, Batch]:
    """A journal that begins another segment with this batch, although there is room in the present one."""
    journal = kit.recover(fs).journal
    journal._slow = True
    while journal.prepare():
        pass
    journal.append([kit.vote(1)])
    return journal, journal.seal()


def test_a_batch_whose_segment_may_have_its_name_goes_nowhere_else(kit: Any) -> None:
    """Written into the segment before as well it would be there twice, and recovery would miss what is between."""
    fs = kit.memory()
    journal, batch = about_to_roll(kit, fs)

    def refuse(effect: str, path: str) -> None:
        if effect == "sync_directory":
            raise OSError(errno.EMFILE, "too many open files")

    fs.before = refuse
    with pytest.raises(JournalFull):
        journal.write(batch)
    fs.before = None
    journal.write(batch)
    fs.crash(Random(1))
    again = kit.recover(fs)
    assert (again.state.intact, [vote.slot for vote in again.state.votes], again.notes) == (True, [1], ())


def test_a_segment_that_cannot_be_named_leaves_the_room_in_the_one_before(kit: Any) -> None:
    """No name was given, so nothing is uncertain: with no room for another segment the batch goes where there is."""
    fs = kit.memory()
    journal, batch = about_to_roll(kit, fs)

    def refuse(effect: str, path: str) -> None:
        if effect in ("rename", "create"):
            raise OSError(errno.ENOSPC, "no space")

    fs.before = refuse
    with pytest.raises(JournalFull):
        journal.write(batch)
    journal.write(batch)
    fs.crash(Random(1))
    fs.before = None
    again = kit.recover(fs)
    assert (again.state.intact, [vote.slot for vote in again.state.votes], again.notes) == (True, [1], ())


def test_deleting_old_segments_waits_for_descriptors(kit: Any, tmp_path: Path) -> None:
    """It is no matter for a vote: what cannot be deleted now is deleted another time."""
    recovered = kit.recover(RealFileSystem(), str(tmp_path))
    journal = recovered.journal
    for slot in range(1, 4):
        kit.write(journal, kit.vote(slot, bytes(1500)))
    with few_descriptors(0):
        assert journal.forget(Slot(2)) == 0
    assert not journal.failed
    assert journal.forget(Slot(2)) == 2
    recovered.close()


def test_no_descriptor_for_a_segment_is_waited_for(kit: Any) -> None:
    """A computer whose files are all open has a disk that is as good as before."""
    fs = kit.memory()
    journal = kit.recover(fs).journal

    def refuse(effect: str, path: str) -> None:
        if effect == "create":
            raise OSError(errno.ENFILE, "too many open files in the system")

    fs.before = refuse
    kit.write(journal, kit.vote(1, bytes(1500)))
    journal.append([kit.vote(2, bytes(1500))])
    batch = journal.seal()
    with pytest.raises(JournalFull):
        journal.write(batch)
    fs.before = None
    journal.write(batch)
    assert not journal.failed
