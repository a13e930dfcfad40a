"""The marks file: how far the journal is known to be on the disk, kept apart from it.

Two slots, each in a page of its own, are written in turn: the newest valid one counts, and while one is being written
the other stands. A mark is written *after* the sync that it speaks of, so a mark never claims what was not durable; it
is synced only now and then (see :mod:`.journal`), so it may be older than the journal's end, never newer.
The file is allocated when the directory is founded: a full disk can still be told apart by its last mark.
"""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from .errors import Malformed, WrongDirectory
from .files import File, FileSystem, join
from .layout import PAGE, Mark, pack_mark, unpack_mark

NAME: Final = "marks"
SLOTS: Final = 2


class Stop(enum.IntEnum):
    """Why the last run ended, as far as it could still say."""

    RUNNING = 0  # it could not: killed, power cut, or still running
    CLOSED = 1
    FULL = 2  # no room for the journal
    FAILED = 3  # a write or sync failed


class FoundMarks(NamedTuple):
    """`newest`: None if no slot holds a valid mark; `complaints`: what is wrong with the slots, if anything."""

    newest: Mark | None
    complaints: tuple[str, ...]


def read_marks(fs: FileSystem, directory: str, disk: bytes | None) -> FoundMarks:
    """What the marks file says. A missing or damaged file is told in `complaints`.

    Raises:
        WrongDirectory: the marks are not of `disk` (None: of whichever).
        NewerFormat.
    """
    path = join(directory, NAME)
    newest: Mark | None = None
    complaints: list[str] = []
    try:
        file = fs.open(path, writable=False)
    except FileNotFoundError:
        return FoundMarks(None, (f"{path} is missing",))
    try:
        for slot in range(SLOTS):
            where = f"{path} at offset {slot * PAGE}"
            try:
                content = file.read(slot * PAGE, PAGE)
                if content == bytes(PAGE):
                    continue  # never written: only one mark was made so far
                mark = unpack_mark(content, where)
            except (OSError, Malformed) as error:
                complaints.append(str(error) if isinstance(error, Malformed) else f"{where}: {error}")
                continue
            if disk not in (None, mark.disk):
                raise WrongDirectory(
                    f"{where} is of the disk {mark.disk.hex()}, not the one that the identity file names: the "
                    "files of two directories were mixed; restore the right ones or replace the member"
                )
            if newest is None or mark.sequence > newest.sequence:
                newest = mark
    finally:
        file.close()
    if newest is None and not complaints:
        complaints.append(f"{path} holds no mark")
    return FoundMarks(newest, tuple(complaints))


class Marks:
    """Writes marks; one thread at a time."""

    def __init__(self, file: File, newest: Mark) -> None:
        self._file = file
        self.newest = newest
        self._synced = newest.sequence

    @classmethod
    def found(cls, fs: FileSystem, directory: str, mark: Mark) -> Marks:
        """A new file whose slots both hold `mark`, durable but for its name (sync the directory)."""
        file = fs.create(join(directory, NAME))
        file.allocate(SLOTS * PAGE)
        return cls._filled(file, mark)

    @classmethod
    def reopen(cls, fs: FileSystem, directory: str, mark: Mark) -> Marks:
        """The existing file, both slots rewritten with `mark` one after the other, durably; made anew if it is
        missing."""
        try:
            file = fs.open(join(directory, NAME))
        except FileNotFoundError:
            marks = cls.found(fs, directory, mark)
            fs.sync_directory(directory)
            return marks
        return cls._filled(file, mark)

    @classmethod
    def _filled(cls, file: File, mark: Mark) -> Marks:
        try:
            for _ in range(SLOTS):
                mark = mark._replace(sequence=mark.sequence + 1)
                file.write((mark.sequence % SLOTS) * PAGE, pack_mark(mark).ljust(PAGE, b"\0"))
                file.datasync()
        except BaseException:
            file.close()
            raise
        return cls(file, mark)

    def write(self, mark: Mark) -> None:
        """Make `mark` the newest, without syncing it. Its sequence must be the next one."""
        self._file.write((mark.sequence % SLOTS) * PAGE, pack_mark(mark))
        self.newest = mark

    def sync(self) -> None:
        """The newest mark is durable when this returns. Nothing to do if it is already."""
        if self._synced != self.newest.sequence:
            self._file.datasync()
            self._synced = self.newest.sequence

    def close(self) -> None:
        self._file.close()
