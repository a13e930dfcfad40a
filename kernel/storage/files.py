"""The few file operations that storage is built on, and their real form.

All of storage's promises rest on these words: after `datasync` returned, everything written to that file before is on
the disk; after `sync_directory` returned, so are the names created, renamed or removed in it before. Nothing else is
durable, and what is not may survive in any part, sector by sector. :mod:`.memory` is the same disk in memory, with
crashes and faults. This module knows nothing about what is inside a file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import Final, Protocol

from .errors import DirectoryInUse

LOCK_NAME: Final = "lock"


class File(Protocol):
    """An open file, read and written by position. Errors are OSErrors."""

    @property
    def path(self) -> str: ...

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position` on; fewer only where the file ends."""

    def write(self, position: int, content: bytes | memoryview) -> None:
        """All of `content`, or an OSError after any part of it. Not durable before :meth:`datasync`."""

    def datasync(self) -> None:
        """Everything written so far, and the size, is on the disk when this returns. After an error it is unknown what
        is, and a second call proves nothing."""

    def allocate(self, size: int) -> None:
        """Reserve blocks up to `size` bytes and make the file at least that long; new bytes read as zero."""

    def size(self) -> int: ...

    def close(self) -> None: ...


class Lock(Protocol):
    """An exclusive lock on a directory."""

    def release(self) -> None:
        """Let others have it."""

    def abandon(self) -> None:
        """For a forked child: forget the lock, which stays with the parent."""


class FileSystem(Protocol):
    """Files by path. Errors are OSErrors."""

    def create(self, path: str) -> File:
        """A new, empty file to read and write. FileExistsError if there is one."""

    def open(self, path: str, writable: bool = True) -> File:
        """An existing file. FileNotFoundError if there is none."""

    def rename(self, old: str, new: str) -> None:
        """Atomically; an existing `new` is replaced."""

    def remove(self, path: str) -> None: ...

    def names(self, directory: str) -> list[str]:
        """The names of the files in `directory`, sorted. FileNotFoundError if there is no such directory."""

    def make_directory(self, path: str) -> None:
        """With its parents, durably; nothing if it exists."""

    def sync_directory(self, directory: str) -> None: ...

    def lock(self, directory: str) -> Lock:
        """Raises DirectoryInUse if another process (or another user of this object) holds it."""


def join(directory: str, name: str) -> str:
    """The path of `name` in `directory`."""
    return f"{directory}/{name}"


class RealFile:
    """A file of the operating system."""

    __slots__ = ("_descriptor", "path")

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read(self, position: int, size: int) -> bytes:
        piece = os.pread(self._descriptor, size, position)
        if len(piece) == size or not piece:
            return piece
        pieces = [piece]
        got = len(piece)
        while got < size:
            piece = os.pread(self._descriptor, size - got, position + got)
            if not piece:
                break
            pieces.append(piece)
            got += len(piece)
        return b"".join(pieces)

    def write(self, position: int, content: bytes | memoryview) -> None:
        written = os.pwrite(self._descriptor, content, position)
        if written == len(content):
            return
        rest = memoryview(content)
        while written < len(rest):  # a short write: the rest tells why, by an error, or succeeds
            step = os.pwrite(self._descriptor, rest[written:], position + written)
            if step == 0:
                raise OSError(errno.EIO, "the operating system wrote nothing", self.path)
            written += step

    def datasync(self) -> None:
        os.fdatasync(self._descriptor)

    def allocate(self, size: int) -> None:
        os.posix_fallocate(self._descriptor, 0, size)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def fileno(self) -> int:
        """The descriptor, for who can have it synced without waiting."""
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)  # also after EIO it is closed, and its number another's


class RealLock:
    """flock on a file in the directory. The lock belongs to the open file, which a forked child shares."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing is not enough while a forked child has it open
            self.abandon()

    def abandon(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class RealFileSystem:
    """The operating system's files. Safe to use from several threads (it has no state)."""

    def create(self, path: str) -> RealFile:
        return RealFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def open(self, path: str, writable: bool = True) -> RealFile:
        return RealFile(path, os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def remove(self, path: str) -> None:
        os.unlink(path)

    def names(self, directory: str) -> list[str]:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=True))

    def make_directory(self, path: str) -> None:
        made = os.path.abspath(path)
        with contextlib.suppress(FileExistsError):
            os.makedirs(made, 0o700)
            while (parent := os.path.dirname(made)) != made:
                with contextlib.suppress(PermissionError):  # a parent that we may not read existed before us
                    self.sync_directory(parent)
                made = parent

    def sync_directory(self, directory: str) -> None:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, directory: str) -> RealLock:
        path = join(directory, LOCK_NAME)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise DirectoryInUse(
                f"{directory} is in use by another process (it holds {path}): stop that one, or give this replica "
                "its own directory"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return RealLock(descriptor)
