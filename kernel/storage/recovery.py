"""Starting: from a directory to what the acceptor knew, and a journal that goes on from there.

:func:`recover` founds an empty directory, or reads one: identity, marks, the newest valid snapshot (an older one, with
the longer log behind it, if the newest is damaged), the segments. It never picks up what it did not write itself for
this member on this disk. What it changes before the journal is used again, and why:

* the incarnation grows, in both identity files;
* a torn tail is wiped with zeros, so that no later scan can take it for anything;
* the last batch, if it is not known to have been synced, is written once more and synced (the process may have died
  before its sync, or in one that failed: then the page cache shows bytes that the disk may not have);
* after damage at the end a new segment is begun; damaged files are left as they are, as evidence;
* both marks are rewritten, so that they vouch for all that is handed out;
* unfinished files are removed.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from ..paxos.ballot import MemberId, Slot
from ..paxos.quorum import Configuration
from ..paxos.ready import DurableState
from .errors import REPLACE, JournalFailed, Malformed, StorageError, WrongDirectory, out_of_space
from .files import File, FileSystem, Lock, join
from .identity import (
    FOUNDING_NAMES,
    IDENTITY_NAMES,
    Identity,
    check_owner,
    read_founding,
    read_identity,
    write_founding,
    write_identity,
)
from .journal import FIRST_SIZE, SEGMENT_SIZE, ClosedSegment, Journal, Opening
from .layout import PAGE, Mark, Owner, SegmentHeader, Standing, unpack_segment
from .marks import NAME as MARKS_NAME
from .marks import FoundMarks, Marks, Stop, read_marks
from .reading import Content, last_nonzero, read_content
from .replay import Replay
from .scan import Finding, Scanner, Tail
from .segments import Supply, discard, is_unused, publish, segment_name, segment_number
from .snapshots import SnapshotFile, Snapshots, find_snapshots, is_leftover, snapshot_slot


class Segment(NamedTuple):
    """A segment as it was found. `header` None: unreadable. `highest`: the highest slot voted on up to its end."""

    number: int
    path: str
    size: int
    header: SegmentHeader | None
    highest: Slot
    tail: Tail


class Journaled(NamedTuple):
    """What the segments and marks of a directory say."""

    replay: Replay
    segments: tuple[Segment, ...]
    marks: FoundMarks
    chain: int
    record: int  # number of the last record
    batches: int
    findings: tuple[Finding, ...]
    unreadable: tuple[str, ...]


class Recovered(NamedTuple):
    """A data directory, open. `fresh`: it was founded just now. `notes`: what was odd, damaged or mended, for the log.
    `stopped`: why the last run ended."""

    state: DurableState
    journal: Journal
    snapshots: Snapshots
    snapshot: SnapshotFile | None
    identity: Identity
    fresh: bool
    stopped: Stop
    notes: tuple[str, ...]
    lock: Lock

    def close(self) -> None:
        """Close the journal and let go of the directory."""
        self.snapshots.release()
        self.journal.close()
        self.lock.release()


def recover(
    fs: FileSystem,
    directory: str,
    *,
    cell: bytes,
    member: MemberId,
    disk: bytes,
    founding: Configuration | None = None,
    segment_size: int = SEGMENT_SIZE,
) -> Recovered:
    """Open the data directory of `member` of the cell `cell` (16 bytes).

    Args:
        disk: 16 random bytes, the identity of the disk if the directory is founded now; not used otherwise.
        founding: the configuration that a new directory starts from; None: refuse a directory that is empty.
        segment_size: bytes of a journal segment from now on.

    Raises:
        DirectoryInUse, WrongDirectory, NewerFormat: see there; nothing was changed.
        JournalFailed: the disk refused what had to be written.
        StorageError: the directory cannot be used; the message says what to do.
    """
    if not _exists(fs, directory):
        if founding is None:
            raise StorageError(
                f"{directory} does not exist and no founding configuration was given: correct the path, or found or "
                "join a cell"
            )
        fs.make_directory(directory)
    lock = fs.lock(directory)
    try:
        try:
            found = read_identity(fs, directory)
            if found is None:
                return _found(fs, directory, Owner(cell, member, disk), founding, segment_size, lock)
            check_owner(directory, found.identity.owner, cell, member)
            return _reopen(fs, directory, found.identity, found.complaints, segment_size, lock)
        except OSError as error:
            raise JournalFailed(
                f"{error.filename or directory}: {error.strerror or error}, while the directory was opened. Check "
                "the disk and the permissions, then start again",
                out_of_space(error),
            ) from error
    except BaseException:
        lock.release()
        raise


def _exists(fs: FileSystem, directory: str) -> bool:
    try:
        fs.names(directory)
    except FileNotFoundError:
        return False
    return True


# ---------------------------------------------------------------- a new directory


def _found(
    fs: FileSystem, directory: str, owner: Owner, founding: Configuration | None, segment_size: int, lock: Lock
) -> Recovered:
    """The identity is written last: a directory without one was never used. What an interrupted founding left is
    removed."""
    names = fs.names(directory)
    _refuse_orphans(fs, directory, names)
    if founding is None:
        raise StorageError(
            f"{directory} holds no replica and no founding configuration was given: correct the path, or found or "
            "join a cell"
        )
    _remove_leftovers(fs, directory)
    for name in (MARKS_NAME, segment_name(1), *FOUNDING_NAMES):
        if name in names:
            fs.remove(join(directory, name))
    write_founding(fs, directory, founding)
    identity = Identity(owner, 1)
    with contextlib.ExitStack() as opened:
        size = min(segment_size, FIRST_SIZE)
        file = _new_segment(fs, directory, SegmentHeader(owner, 1, size, 1, PAGE, 0, Standing()))
        opened.callback(file.close)
        marks = Marks.found(fs, directory, Mark(owner.disk, 0, 1, PAGE, 0, 0, Standing(), Stop.RUNNING))
        opened.callback(marks.close)
        fs.sync_directory(directory)
        write_identity(fs, directory, identity)
        opened.pop_all()
    opening = Opening((), file, 1, size, PAGE, 0, 0, Standing(), marks)
    return Recovered(
        DurableState(Standing().promised, (), Slot(0), Slot(0), founding),
        Journal(fs, directory, owner, segment_size, opening),
        Snapshots(fs, directory, owner.cell, identity.incarnation),
        None,
        identity,
        True,
        Stop.CLOSED,
        (),
        lock,
    )


def _refuse_orphans(fs: FileSystem, directory: str, names: list[str]) -> None:
    """Without identity files there may be nothing that was ever used."""
    used = [name for name in names if snapshot_slot(name) is not None]
    mark = read_marks(fs, directory, None).newest
    if mark is not None and mark.upto > 0:
        used.append(MARKS_NAME)
    for name in names:
        if segment_number(name) is not None:
            file = fs.open(join(directory, name), writable=False)
            content = read_content(file)
            file.close()
            if segment_number(name) != 1 or content.unreadable or last_nonzero(content.bytes, PAGE) >= 0:
                used.append(name)
    if used:
        raise WrongDirectory(
            f"{directory} holds {used[0]} but neither {IDENTITY_NAMES[0]} nor {IDENTITY_NAMES[1]}: whose votes "
            f"these are is unknown. Restore one of the two files, or {REPLACE}; nothing was changed"
        )


# ---------------------------------------------------------------- an existing directory


def read_journal(fs: FileSystem, directory: str, owner: Owner, snapshot: Slot) -> Journaled:
    """Read all segments and the marks; change nothing. Raises NewerFormat, WrongDirectory, OSError."""
    marks = read_marks(fs, directory, owner.disk)
    replay = Replay(snapshot)
    scanner = Scanner(owner, replay, marks.newest, not marks.complaints)
    scanner.findings.extend(Finding(complaint) for complaint in marks.complaints)
    numbers = sorted(number for name in fs.names(directory) if (number := segment_number(name)) is not None)
    segments = []
    for number in numbers:
        path = join(directory, segment_name(number))
        file = fs.open(path, writable=False)
        try:
            content = read_content(file)
        finally:
            file.close()
        header = _read_header(content, path, owner, number, scanner)
        tail = scanner.segment(number, path, content, header, number == numbers[-1])
        segments.append(Segment(number, path, len(content.bytes), header, replay.standing.highest, tail))
    scanner.finish()
    return Journaled(
        replay,
        tuple(segments),
        marks,
        scanner.chain or 0,
        scanner.record - 1,
        scanner.batches,
        tuple(scanner.findings),
        tuple(scanner.unreadable),
    )


def _read_header(content: Content, path: str, owner: Owner, number: int, scanner: Scanner) -> SegmentHeader | None:
    try:
        header = unpack_segment(content.bytes[:PAGE], path)
    except Malformed as error:
        scanner.findings.append(Finding(str(error)))
        return None
    if header.owner != owner or header.number != number:
        scanner.findings.append(
            Finding(
                f"{path}: is segment {header.number} of member {header.owner.member}, disk "
                f"{header.owner.disk.hex()}: not this replica's file of that name"
            )
        )
        return None
    return header


def _reopen(
    fs: FileSystem, directory: str, identity: Identity, complaints: tuple[str, ...], segment_size: int, lock: Lock
) -> Recovered:
    owner = identity.owner
    fs.sync_directory(directory)
    snapshots = find_snapshots(fs, directory, owner.cell)
    snapshot = snapshots.valid[0] if snapshots.valid else None
    configuration = snapshot.configuration if snapshot else read_founding(fs, directory)
    read = read_journal(fs, directory, owner, snapshot.slot if snapshot else Slot(0))
    state = conclude(read, configuration, snapshot.size if snapshot else 0)
    if not state.intact and read.unreadable:
        raise StorageError(
            f"reading failed at {'; '.join(read.unreadable)}, and what is there cannot be done without. Nothing was "
            f"changed: try again; if it stays so, {REPLACE}"
        )
    identity = identity._replace(incarnation=identity.incarnation + 1)
    write_identity(fs, directory, identity)
    _remove_leftovers(fs, directory)
    standing = read.replay.standing._replace(untrusted=not state.intact)
    opening = _resume(fs, directory, owner, read, standing, segment_size)
    notes = [*complaints, *snapshots.complaints, *(finding.text for finding in read.findings)]
    if state.damaged:
        notes.append(f"damaged and to be fetched from the others: {_slots(state.damaged)}")
    if not state.intact:
        notes.append(_not_intact(directory, read))
    newest = read.marks.newest
    return Recovered(
        state,
        Journal(fs, directory, owner, segment_size, opening),
        Snapshots(fs, directory, owner.cell, identity.incarnation, snapshots.valid),
        snapshot,
        identity,
        False,
        Stop(newest.stop) if newest is not None else Stop.RUNNING,
        tuple(notes),
        lock,
    )


def conclude(read: Journaled, configuration: Configuration, snapshot_size: int) -> DurableState:
    """What the core is told of a journal.

    A slot that was known chosen and has no vote, though nothing is damaged (a snapshot above it became unreadable),
    only means that the commit index is not to be believed beyond it: it was never voted on here. And if the snapshot
    that a peer gave is lost, the votes below it may be for values that were not chosen (see `Replay.chosen`).
    """
    replay = read.replay
    standing = replay.standing
    votes = tuple(replay.votes[slot] for slot in sorted(replay.votes) if slot > replay.snapshot)
    chosen = replay.chosen
    intact = not standing.untrusted and replay.open_gap is None and all(slot <= chosen for slot in replay.lost)
    damaged = {slot for slot in replay.lost if slot <= chosen}
    expected = replay.snapshot + 1
    while expected <= chosen and (expected in replay.votes or expected in damaged):
        expected += 1
    if expected <= chosen:
        if damaged:
            damaged.update(Slot(slot) for slot in range(expected, chosen + 1) if slot not in replay.votes)
        else:
            chosen = Slot(expected - 1)
    return DurableState(
        standing.promised, votes, chosen, replay.snapshot, configuration, frozenset(damaged), intact, snapshot_size
    )


def _not_intact(directory: str, read: Journaled) -> str:
    replay = read.replay
    beyond = frozenset(slot for slot in replay.lost if slot > replay.chosen)
    if replay.open_gap is not None:
        why = f"the promise may be lost with what is damaged at {replay.open_gap}"
    elif beyond:
        why = f"votes on slots not known to be chosen are lost: {_slots(beyond)}"
    else:
        why = "votes or promises were lost at an earlier start"
    return (
        f"{directory}: {why}. This member never votes again under this id: {REPLACE}. The others lose nothing as long "
        "as a majority is intact"
    )


def _slots(slots: frozenset[Slot]) -> str:
    listed = sorted(slots)
    if len(listed) > 8:
        return f"{len(listed)} slots from {listed[0]} to {listed[-1]}"
    return f"slot{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"


def _resume(
    fs: FileSystem, directory: str, owner: Owner, read: Journaled, standing: Standing, segment_size: int
) -> Opening:
    """Mend the journal's end and open it for appending."""
    newest = read.segments[-1] if read.segments else None
    mark = read.marks.newest
    closed = [ClosedSegment(s.number, s.size, s.highest) for s in read.segments]
    reusable = (
        newest is not None
        and not newest.tail.broken
        and (mark is None or mark.segment <= newest.number)
        and read.replay.open_gap is None
    )
    with contextlib.ExitStack() as opened:
        if reusable and newest is not None and newest.header is not None:
            closed.pop()
            number, size, position = newest.number, newest.header.size, newest.tail.position
            file = fs.open(newest.path)
            opened.callback(file.close)
            _mend(file, newest.tail, size)
        else:
            number = max([s.number for s in read.segments] + [mark.segment if mark is not None else 0]) + 1
            size, position = min(segment_size, FIRST_SIZE), PAGE
            header = SegmentHeader(owner, number, size, read.record + 1, PAGE, read.chain, standing)
            file = _new_segment(fs, directory, header)
            opened.callback(file.close)
        sequence = mark.sequence if mark is not None else 0
        certified = Mark(owner.disk, sequence, number, position, read.record, read.chain, standing, Stop.RUNNING)
        marks = Marks.reopen(fs, directory, certified)
        opened.pop_all()
    return Opening(tuple(closed), file, number, size, position, read.chain, read.record, standing, marks)


def _new_segment(fs: FileSystem, directory: str, header: SegmentHeader) -> File:
    """A named segment without batches, filled with zeros."""
    supply = Supply(fs, directory, header.size)
    while supply.prepare():
        pass
    unnamed = supply.take(header.size)
    try:
        return publish(fs, directory, unnamed, header, b"")
    except OSError:
        unnamed.close()
        raise


def _mend(file: File, tail: Tail, size: int) -> None:
    """Wipe what a crash left behind the last batch; make that batch durable if it may not be."""
    if tail.torn:
        rest = file.read(tail.position, size - tail.position)
        file.write(tail.position, bytes(last_nonzero(rest, 0) + 1))
    if tail.uncertain:
        file.write(tail.uncertain, file.read(tail.uncertain, tail.position - tail.uncertain))
    if tail.torn or tail.uncertain:
        file.datasync()


def _remove_leftovers(fs: FileSystem, directory: str) -> None:
    for name in fs.names(directory):
        if is_unused(name) or is_leftover(name):
            discard(fs, join(directory, name))
