"""Looking at a data directory without opening it: the functions behind ``quorate journal dump`` and ``journal verify``.

Reads only, takes no lock. On the directory of a running replica the end of the journal may look torn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from ..paxos.ballot import Slot
from ..paxos.ready import DurableState
from .errors import REPLACE, Malformed, StorageError
from .files import FileSystem, RealFileSystem, join
from .identity import Identity, read_founding, read_identity
from .layout import ALIGNMENT, PAGE, Standing, aligned, unpack_segment
from .marks import Stop, read_marks
from .reading import find_header, last_nonzero, read_batch, read_content
from .recovery import conclude, read_journal
from .replay import describe
from .scan import Finding
from .segments import is_unused, segment_name, segment_number
from .snapshots import FoundSnapshots, SnapshotFile, find_snapshots, is_leftover

_WANTED: Final = "name the directory in which a replica keeps its data"


class Report(NamedTuple):
    """What :func:`verify` found. `findings` that are `damage` make a directory unsound, even if nothing was lost by
    it."""

    directory: str
    identity: Identity
    state: DurableState
    segments: int
    batches: int
    records: int
    snapshots: tuple[Slot, ...]
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Nothing is damaged and nothing is lost."""
        return self.state.intact and not any(finding.damage for finding in self.findings)

    def lines(self) -> Iterator[str]:
        """The report as text."""
        state = self.state
        yield f"{self.directory}: member {self.identity.owner.member} of cell {self.identity.owner.cell.hex()}"
        yield f"{self.segments} segments, {self.batches} batches, last record {self.records}"
        yield f"snapshots at {', '.join(map(str, self.snapshots)) or 'no slot'}"
        yield f"promised {state.promised}, {len(state.votes)} votes above slot {state.snapshot}, chosen {state.chosen}"
        for finding in self.findings:
            yield f"{'DAMAGE' if finding.damage else 'note'}: {finding.text}"
        if state.damaged:
            yield f"damaged slots that the other members can restore: {', '.join(map(str, sorted(state.damaged)))}"
        if not state.intact:
            yield f"LOST: this member can no longer prove what it promised; {REPLACE}"
        yield "sound" if self.sound else "not sound"


def verify(directory: str, fs: FileSystem | None = None) -> Report:
    """Read and check every byte that counts.

    Raises:
        StorageError: it is not a data directory, belongs to a newer release, or its identity is unreadable.
        OSError: it cannot be read at all.
    """
    fs = fs or RealFileSystem()
    identity, complaints = _identity(fs, directory)
    snapshots = _snapshots(fs, directory, identity)
    newest = snapshots.valid[0] if snapshots.valid else SnapshotFile(Slot(0), 0, read_founding(fs, directory))
    read = read_journal(fs, directory, identity.owner, newest.slot)
    findings = [Finding(text) for text in (*complaints, *snapshots.complaints)]
    findings += read.findings
    for name in fs.names(directory):
        if is_unused(name) or is_leftover(name):
            findings.append(Finding(f"{join(directory, name)}: unfinished, removed at the next start", damage=False))
    return Report(
        directory,
        identity,
        conclude(read, newest.configuration, newest.size),
        len(read.segments),
        read.batches,
        read.record,
        tuple(found.slot for found in snapshots.valid),
        tuple(findings),
    )


def dump(directory: str, fs: FileSystem | None = None) -> Iterator[str]:
    """Everything in the directory as text, one line a record, in log order; what is unreadable is said in its place.

    Raises as :func:`verify`.
    """
    fs = fs or RealFileSystem()
    identity, complaints = _identity(fs, directory)
    owner = identity.owner
    yield f"cell {owner.cell.hex()} member {owner.member} disk {owner.disk.hex()} incarnation {identity.incarnation}"
    yield from complaints
    snapshots = _snapshots(fs, directory, identity)
    for found in snapshots.valid:
        members = ", ".join(f"{m.id} {m.role.name.lower()} {m.peer}" for m in found.configuration.members)
        chosen_in = found.configuration.number
        yield f"snapshot at slot {found.slot}: {found.size} bytes; configuration {chosen_in}: {members}"
    yield from snapshots.complaints
    marks = read_marks(fs, directory, owner.disk)
    if (mark := marks.newest) is not None:
        yield (
            f"mark {mark.sequence}: synced up to record {mark.upto} at byte {mark.end} of segment {mark.segment}; "
            f"{_standing(mark.standing)}; {Stop(mark.stop).name.lower()}"
        )
    yield from marks.complaints
    for number in sorted(n for name in fs.names(directory) if (n := segment_number(name)) is not None):
        yield from _segment(fs, join(directory, segment_name(number)), owner.seed(number))


def _identity(fs: FileSystem, directory: str) -> tuple[Identity, tuple[str, ...]]:
    try:
        found = read_identity(fs, directory)
    except FileNotFoundError:
        raise StorageError(f"{directory} does not exist: {_WANTED}") from None
    except NotADirectoryError:
        raise StorageError(f"{directory} is a file: {_WANTED}") from None
    if found is None:
        raise StorageError(f"{directory} is not a data directory, it has no identity file: {_WANTED}")
    return found.identity, found.complaints


def _snapshots(fs: FileSystem, directory: str, identity: Identity) -> FoundSnapshots:
    return find_snapshots(fs, directory, identity.owner.cell, thorough=True)


def _standing(standing: Standing) -> str:
    lost = ", state once lost" if standing.untrusted else ""
    return f"promised {standing.promised}, chosen {standing.chosen}, highest vote {standing.highest}{lost}"


def _segment(fs: FileSystem, path: str, seed: int) -> Iterator[str]:
    file = fs.open(path, writable=False)
    try:
        content = read_content(file)
    finally:
        file.close()
    raw = content.bytes
    try:
        header = unpack_segment(raw[:PAGE], path)
        yield f"{path}: {header.size} bytes, from record {header.first}; {_standing(header.standing)}"
    except Malformed as error:
        yield f"{error}"
    for start, end in content.unreadable:
        yield f"  bytes {start} to {end} cannot be read"
    position = PAGE
    while True:
        batch = read_batch(raw, position, seed)
        if batch is None:
            behind = find_header(raw, position + ALIGNMENT, seed)
            last = last_nonzero(raw, position)
            if behind is None and last < 0:
                yield f"  {position} end"
                return
            yield f"  {position} no batch up to byte {behind or last + 1}"
            if behind is None:
                return
            position = behind
            continue
        numbers = f"{batch.header.first} to {batch.header.first + batch.header.records - 1}"
        yield f"  {position} batch of records {numbers}, {batch.header.size} bytes; {_standing(batch.header.standing)}"
        if batch.entries is None:
            yield "    the table is damaged"
        else:
            for entry, payload in zip(batch.entries, batch.payloads, strict=True):
                yield f"    {describe(entry)}{' DAMAGED' if payload is None else ''}"
        position = aligned(batch.end)
