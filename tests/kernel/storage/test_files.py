"""The real file system keeps the contract that the simulated one is held to; both sides run the same tests."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from quorate.kernel.storage.errors import DirectoryInUse, out_of_space
from quorate.kernel.storage.files import FileSystem, RealFileSystem, join
from quorate.kernel.storage.memory import MemoryFileSystem


class Place(NamedTuple):
    """A file system and a directory in it."""

    fs: FileSystem
    directory: str


@pytest.fixture(params=["real", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Both kinds."""
    if request.param == "real":
        made = Place(RealFileSystem(), str(tmp_path / "deep" / "directory"))
    else:
        made = Place(MemoryFileSystem(Random(0)), "/deep/directory")
    made.fs.make_directory(made.directory)
    return made


def test_write_read_and_size(place: Place) -> None:
    """Bytes are where they were put; what was never written reads as zero; reads stop at the end."""
    file = place.fs.create(join(place.directory, "a"))
    file.write(10, b"hello")
    file.write(12, memoryview(b"L"))
    assert file.read(0, 100) == bytes(10) + b"heLlo"
    assert (file.read(11, 2), file.read(15, 5), file.size()) == (b"eL", b"", 15)
    file.datasync()
    file.allocate(40)
    assert (file.size(), file.read(15, 25)) == (40, bytes(25))
    file.allocate(20)
    assert file.size() == 40
    file.close()


def test_names(place: Place) -> None:
    """Create, rename, remove and list; the errors are the operating system's."""
    fs, directory = place
    for name in ("b", "a", "c"):
        fs.create(join(directory, name)).close()
    with pytest.raises(FileExistsError):
        fs.create(join(directory, "a"))
    fs.rename(join(directory, "a"), join(directory, "c"))
    fs.remove(join(directory, "b"))
    fs.sync_directory(directory)
    assert fs.names(directory) == ["c"]
    for missing in (lambda: fs.open(join(directory, "a")), lambda: fs.remove(join(directory, "a"))):
        with pytest.raises(FileNotFoundError):
            missing()
    with pytest.raises(FileNotFoundError):
        fs.names(directory + "/none")
    fs.make_directory(directory)  # again: nothing happens


def test_lock(place: Place) -> None:
    """One holder at a time; released, it is free."""
    lock = place.fs.lock(place.directory)
    with pytest.raises(DirectoryInUse, match=place.directory):
        place.fs.lock(place.directory)
    lock.release()
    lock.release()
    place.fs.lock(place.directory).release()


def test_another_process_is_locked_out(tmp_path: Path) -> None:
    """The lock holds between processes and ends with its holder."""
    code = (
        "import fcntl, os, sys\n"
        f"d = os.open({str(tmp_path / 'lock')!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(d, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdin is not None
    with other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUse):
            RealFileSystem().lock(str(tmp_path))
        other.kill()
        other.wait()
        RealFileSystem().lock(str(tmp_path)).release()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    """The parent can release while a child that shares the open file lives on, and a child that abandons releases
    nothing."""
    fs = RealFileSystem()
    lock = fs.lock(str(tmp_path))
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        lock.abandon()
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    with pytest.raises(DirectoryInUse):
        fs.lock(str(tmp_path))
    lock.release()
    fs.lock(str(tmp_path)).release()
    os.write(done[1], b"x")
    os.waitpid(child, 0)
    for descriptor in (*ready, *done):
        os.close(descriptor)


@pytest.fixture
def file_limit() -> Iterator[int]:
    """Files cannot grow beyond so many bytes."""
    limit = 100_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_short_write_ends_in_its_reason(tmp_path: Path, file_limit: int) -> None:
    """The system writes part of a large piece, then the rest fails: the caller gets the error, never silence."""
    file = RealFileSystem().create(str(tmp_path / "a"))
    with pytest.raises(OSError, match="large") as caught:
        file.write(file_limit - 100, bytes(1000))
    assert caught.value.errno == errno.EFBIG
    assert out_of_space(caught.value)
    assert file.size() == file_limit
    file.close()


def test_a_close_that_fails_is_a_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor is gone also then: closing again would close whoever has its number by now."""
    file = RealFileSystem().create(str(tmp_path / "file"))
    closed: list[int] = []

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        raise OSError(errno.EIO, "what was written late is lost")

    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="lost"):
        file.close()
    file.close()
    monkeypatch.undo()
    assert len(closed) == 1
    os.close(closed[0])
