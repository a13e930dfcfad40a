"""Snapshot files: the state of the cell's machines at one slot, written whole or not at all.

A file is

    stamped header      cell, slot, configuration
    chunks              length (4 bytes), CRC (4), bytes; each CRC starts from the one before, so the last covers all
    end                 length 0xFFFFFFFF, then a stamped footer: bytes before it, number of chunks, last CRC

It is written under another name in pieces with a sync after each few MiB (so that the journal's syncs never queue
behind hundreds of MiB), read back and verified, and only then renamed. What the chunks hold is the host's business.
Nothing here needs threads or logging: a forked child may write.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from zlib import crc32

from ..paxos.ballot import Slot
from ..paxos.quorum import Configuration
from .encoding import decode_configuration, encode_configuration
from .errors import Malformed, NewerFormat, SnapshotFailed, SnapshotMissing
from .files import File, FileSystem, join
from .layout import FOOTER_MAGIC, SNAPSHOT_MAGIC, STAMP_SIZE, stamp, unstamp
from .segments import discard

KEPT: Final = 2
SYNC_EVERY: Final = 4 << 20
_PIECE: Final = 1 << 20
_NAME: Final = re.compile(r"snapshot-(\d{20})\.snap")
_LEFTOVER: Final = re.compile(r"snapshot-\d{20}\.\d+(\.\d+)?\.(partial|incoming)")
_HEADER: Final = struct.Struct(">16sQ")
_CHUNK: Final = struct.Struct(">II")
_LENGTH: Final = struct.Struct(">I")
_FOOTER: Final = struct.Struct(">QQI")
_END: Final = 0xFFFFFFFF
_HEADER_LIMIT: Final = 16 << 20
_FOOTER_SIZE: Final = STAMP_SIZE + _FOOTER.size


class SnapshotFile(NamedTuple):
    """A durable, verified snapshot of `size` bytes."""

    slot: Slot
    size: int
    configuration: Configuration


def _name(slot: Slot) -> str:
    return f"snapshot-{slot:020d}.snap"


def snapshot_slot(name: str) -> Slot | None:
    """The slot in a snapshot's file name; None if it is not one."""
    match = _NAME.fullmatch(name)
    return Slot(int(match[1])) if match else None


class _Source:
    """Reads a file front to back with few system calls."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._size = file.size()
        self._buffer = b""
        self._start = 0  # file position of the buffer's first byte
        self.position = 0

    def take(self, size: int, what: str) -> bytes:
        if self.position + size > self._size:
            raise Malformed(f"{self._file.path}: ends at byte {self._size}, in {what} at byte {self.position}")
        at = self.position - self._start
        if at + size > len(self._buffer):
            self._start, at = self.position, 0
            self._buffer = self._file.read(self._start, max(size, min(_PIECE, self._size - self._start)))
        piece = self._buffer[at : at + size]
        if len(piece) != size:
            raise Malformed(f"{self._file.path}: shrank while it was read, at byte {self.position}")
        self.position += size
        return piece

    def at_end(self) -> bool:
        return self.position == self._size


def _stamped(source: _Source, magic: bytes, limit: int, where: str) -> bytes:
    head = source.take(STAMP_SIZE - 4, where)
    size = int.from_bytes(head[-4:], "big")
    if not STAMP_SIZE <= size <= limit:
        raise Malformed(f"{where}: claims {size} bytes")
    return unstamp(magic, head + source.take(size - len(head), where), where)


class SnapshotReader:
    """One snapshot file, verified as it is read."""

    def __init__(self, file: File, cell: bytes) -> None:
        """Raises Malformed, NewerFormat; OSError."""
        self._file = file
        self._source = _Source(file)
        where = f"{file.path}, header"
        body = _stamped(self._source, SNAPSHOT_MAGIC, _HEADER_LIMIT, where)
        if len(body) < _HEADER.size:
            raise Malformed(f"{where}: only {len(body)} bytes")
        found, slot = _HEADER.unpack_from(body)
        if found != cell:
            raise Malformed(f"{where}: belongs to the cell {found.hex()}, not to {cell.hex()}: remove the file")
        self.slot = Slot(slot)
        self.configuration = decode_configuration(body[_HEADER.size :])
        self.size = file.size()

    def chunks(self) -> Iterator[bytes]:
        """The chunks as they were written, once. Each is checked before it is given out; that all are there is known
        only when the iterator ends. Raises Malformed (with the offset)."""
        source, path = self._source, self._file.path
        count = crc = 0
        while True:
            at = source.position
            (length,) = _LENGTH.unpack(source.take(4, "the length of a chunk"))
            if length == _END:
                break
            stored = source.take(4, "the checksum of a chunk")
            chunk = source.take(length, f"a chunk of {length} bytes")
            crc = crc32(chunk, crc32(length.to_bytes(4, "big"), crc))
            if crc != int.from_bytes(stored, "big"):
                raise Malformed(f"{path}: the chunk at byte {at} is damaged")
            count += 1
            yield chunk
        body = _stamped(source, FOOTER_MAGIC, _FOOTER_SIZE, f"{path}, footer at byte {source.position}")
        if _FOOTER.unpack(body) != (at, count, crc):
            raise Malformed(f"{path}: the footer does not fit the {count} chunks before it")
        if not source.at_end():
            raise Malformed(f"{path}: bytes follow the footer, from byte {source.position} on")

    def verify(self) -> SnapshotFile:
        """Read all of it. Raises Malformed."""
        for _ in self.chunks():
            pass
        return SnapshotFile(self.slot, self.size, self.configuration)

    def close(self) -> None:
        self._file.close()


def _pieces(cell: bytes, slot: Slot, configuration: Configuration, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The file's bytes."""
    header = stamp(SNAPSHOT_MAGIC, _HEADER.pack(cell, slot) + encode_configuration(configuration))
    yield header
    count = crc = 0
    size = len(header)
    for chunk in chunks:
        length = len(chunk)
        assert length < _END, "a chunk is shorter than 4 GiB"
        crc = crc32(chunk, crc32(length.to_bytes(4, "big"), crc))
        yield _CHUNK.pack(length, crc)
        yield chunk
        size += _CHUNK.size + length
        count += 1
    yield _LENGTH.pack(_END) + stamp(FOOTER_MAGIC, _FOOTER.pack(size, count, crc))


class SnapshotReceiver:
    """A peer's snapshot arriving in pieces. Made by :meth:`Snapshots.receive`."""

    def __init__(self, fs: FileSystem, directory: str, cell: bytes, slot: Slot, path: str) -> None:
        self.slot = slot
        self.received = 0
        self._fs = fs
        self._directory = directory
        self._cell = cell
        self._synced = 0
        self._file: File | None = None
        with self._guarded():
            discard(fs, path)
            self._file = fs.create(path)

    def write(self, offset: int, piece: bytes) -> None:
        """The next piece; `offset` must be :attr:`received`. Raises SnapshotFailed (the file is then gone)."""
        assert self._file is not None, "the receiver was finished or abandoned"
        assert offset == self.received, "pieces come in order"
        with self._guarded():
            self._file.write(offset, piece)
            self.received += len(piece)
            if self.received - self._synced >= SYNC_EVERY:
                self._file.datasync()
                self._synced = self.received

    def finish(self) -> SnapshotFile:
        """All is there: verify, make durable, give it its name. Raises SnapshotFailed (the file is then gone)."""
        assert self._file is not None, "the receiver was finished or abandoned"
        with self._guarded():
            found = _finish(self._fs, self._directory, self._file, self._cell, self.slot)
        self._file = None
        return found

    def abandon(self) -> None:
        """Throw away what came."""
        if self._file is not None:
            self._file.close()
            discard(self._fs, self._file.path)
            self._file = None

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (OSError, Malformed, NewerFormat) as error:
            self.abandon()
            raise SnapshotFailed(
                f"receiving the snapshot at slot {self.slot} into {self._directory} failed after {self.received} "
                f"bytes: {error}"
            ) from error


def _finish(fs: FileSystem, directory: str, file: File, cell: bytes, slot: Slot) -> SnapshotFile:
    file.datasync()
    found = SnapshotReader(file, cell).verify()
    if found.slot != slot:
        raise Malformed(f"{file.path}: is a snapshot at slot {found.slot}, not {slot}")
    fs.rename(file.path, join(directory, _name(slot)))
    fs.sync_directory(directory)
    file.close()
    return found


class Snapshots:
    """The snapshots of one data directory.

    Args:
        run: the incarnation; files being written carry it in their name, so that a child that outlives its parent
            does not meddle with the next run's.
    """

    def __init__(
        self, fs: FileSystem, directory: str, cell: bytes, run: int, known: Iterable[SnapshotFile] = ()
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._cell = cell
        self._run = run
        self._known = {found.slot: found for found in known}
        self._receptions = itertools.count(1)
        self._serving: tuple[Slot, File] | None = None

    def write(self, slot: Slot, configuration: Configuration, chunks: Iterable[bytes]) -> SnapshotFile:
        """Write the snapshot at `slot`; `configuration` is the one in force there. Durable and verified when this
        returns. In a forked child: tell the parent the result, which then calls :meth:`adopt`.

        Raises:
            SnapshotFailed: the disk is full or failing; whatever was written is removed.
        """
        path = self._temporary(slot, "partial")
        file: File | None = None
        done = False
        try:
            discard(self._fs, path)
            file = self._fs.create(path)
            _write(file, _pieces(self._cell, slot, configuration, chunks))
            found = _finish(self._fs, self._directory, file, self._cell, slot)
            done = True
        except (OSError, Malformed) as error:
            raise SnapshotFailed(f"{path}: the snapshot at slot {slot} could not be written: {error}") from error
        finally:
            if not done and file is not None:
                file.close()
                discard(self._fs, path)
        self._known[slot] = found
        return found

    def adopt(self, slot: Slot) -> SnapshotFile:
        """Take notice of a snapshot that a forked child wrote (and verified) or a receiver finished. Raises
        SnapshotMissing."""
        reader = self.open(slot)
        reader.close()
        found = SnapshotFile(slot, reader.size, reader.configuration)
        self._known[slot] = found
        return found

    def receive(self, slot: Slot) -> SnapshotReceiver:
        """Begin to take in a peer's snapshot; :meth:`adopt` it after :meth:`SnapshotReceiver.finish`. One begun before
        may still be at work on another thread: each has a file of its own. Raises SnapshotFailed."""
        path = self._temporary(slot, f"{next(self._receptions)}.incoming")
        return SnapshotReceiver(self._fs, self._directory, self._cell, slot, path)

    @property
    def kept(self) -> tuple[SnapshotFile, ...]:
        """The known snapshots, newest first."""
        return tuple(self._known[slot] for slot in sorted(self._known, reverse=True))

    @property
    def floor(self) -> Slot:
        """The journal may be forgotten up to here: the slot of the older of two snapshots; 0 with fewer."""
        kept = self.kept
        return kept[KEPT - 1].slot if len(kept) >= KEPT else Slot(0)

    def retire(self) -> Slot:
        """Know no more of those older than the two newest; returns the floor, below which files may be deleted."""
        floor = self.floor
        if self._serving is not None and self._serving[0] < floor:
            self.release()
        self._known = {slot: found for slot, found in self._known.items() if slot >= floor}
        return floor

    def delete(self, below: Slot) -> int:
        """Delete every snapshot file, good or damaged, that is older than the one at `below`, which :meth:`retire`
        returned. It waits for the disk and touches nothing else of this object, so it may run on a thread of its own.
        Returns how many are gone. Raises OSError."""
        names = self._fs.names(self._directory)
        doomed = [name for name in names if (slot := snapshot_slot(name)) is not None and slot < below]
        for name in doomed:
            with contextlib.suppress(FileNotFoundError):  # a deletion on another thread was quicker
                self._fs.remove(join(self._directory, name))
        if doomed:
            self._fs.sync_directory(self._directory)
        return len(doomed)

    def reject(self, slot: Slot) -> None:
        """The snapshot at `slot` is of no use, whole as it is: know it no more."""
        if self._serving is not None and self._serving[0] == slot:
            self.release()
        self._known.pop(slot, None)

    def remove(self, slot: Slot) -> None:
        """Delete the file of a snapshot that is of no use, on any thread, before another of that slot is asked for.
        Raises OSError."""
        self._fs.remove(join(self._directory, _name(slot)))
        self._fs.sync_directory(self._directory)

    def open(self, slot: Slot) -> SnapshotReader:
        """Read a snapshot. Raises SnapshotMissing, Malformed, NewerFormat, OSError."""
        try:
            file = self._fs.open(join(self._directory, _name(slot)), writable=False)
        except FileNotFoundError:
            raise SnapshotMissing(f"{self._directory}: there is no snapshot at slot {slot}") from None
        try:
            reader = SnapshotReader(file, self._cell)
            if reader.slot != slot:
                raise Malformed(f"{file.path}: is a snapshot at slot {reader.slot}: it was renamed; remove it")
        except BaseException:
            file.close()
            raise
        return reader

    def chunks(self, slot: Slot) -> Iterator[bytes]:
        """What the snapshot at `slot` holds. The file is open from the first chunk to the last. Raises as :meth:`open`
        and :meth:`SnapshotReader.chunks`."""
        reader = self.open(slot)
        try:
            yield from reader.chunks()
        finally:
            reader.close()

    def read_at(self, slot: Slot, offset: int, size: int) -> bytes:
        """A piece of the file at `slot`, to be sent to a peer, which verifies. Empty at its end. The file stays open
        for the next piece (:meth:`release`). Raises SnapshotMissing, OSError."""
        if self._serving is None or self._serving[0] != slot:
            self.release()
            try:
                file = self._fs.open(join(self._directory, _name(slot)), writable=False)
            except FileNotFoundError:
                raise SnapshotMissing(f"{self._directory}: there is no snapshot at slot {slot} any more") from None
            self._serving = (slot, file)
        return self._serving[1].read(offset, size)

    def release(self) -> None:
        """Close the file that :meth:`read_at` keeps open."""
        if self._serving is not None:
            self._serving[1].close()
            self._serving = None

    def _temporary(self, slot: Slot, kind: str) -> str:
        return join(self._directory, f"snapshot-{slot:020d}.{self._run}.{kind}")


def _write(file: File, pieces: Iterable[bytes]) -> None:
    """Write `pieces` back to back, in writes of about 1 MiB, synced every few MiB."""
    gathered: list[bytes] = []
    size = position = synced = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= _PIECE:
            file.write(position, b"".join(gathered))
            position += size
            gathered.clear()
            size = 0
            if position - synced >= SYNC_EVERY:
                file.datasync()
                synced = position
    file.write(position, b"".join(gathered))


def is_leftover(name: str) -> bool:
    """Whether `name` is of a snapshot that was never finished."""
    return _LEFTOVER.fullmatch(name) is not None


class FoundSnapshots(NamedTuple):
    """Newest first; `complaints` names files that are damaged or foreign, which are not used."""

    valid: tuple[SnapshotFile, ...]
    complaints: tuple[str, ...]


def find_snapshots(fs: FileSystem, directory: str, cell: bytes, thorough: bool = False) -> FoundSnapshots:
    """The snapshots of `directory`. The newest valid one is verified in full; of older ones only the header is, unless
    `thorough`. Raises NewerFormat."""
    valid: list[SnapshotFile] = []
    complaints = []
    snapshots = Snapshots(fs, directory, cell, 0)
    slots = sorted((slot for name in fs.names(directory) if (slot := snapshot_slot(name)) is not None), reverse=True)
    for slot in slots:
        try:
            reader = snapshots.open(slot)
            try:
                found = SnapshotFile(slot, reader.size, reader.configuration)
                valid.append(found if valid and not thorough else reader.verify())
            finally:
                reader.close()
        except (Malformed, SnapshotMissing) as error:
            complaints.append(str(error))
        except OSError as error:
            complaints.append(f"{join(directory, _name(slot))}: {error.strerror or error}")
    return FoundSnapshots(tuple(valid), tuple(complaints))
