"""A disk in memory that can crash: the second file system under the same storage code, for simulation and tests.

It keeps two truths apart. The *page cache* is what programs read back; the *platter* is what survives a power cut. A
write puts new versions of whole 512-byte sectors into the cache; `datasync` moves a file's newest versions to the
platter. In a crash every sector of a file comes out, independently, as any version it had since the last sync, its size
as any size since then, and of the creates, renames and removes in a directory a prefix survives (journaling file
systems keep their order). That is the most hostile disk that is still honest: a sector is written whole or not at all,
and what was synced stays.

Faults can be set: failing syncs (after which, as on Linux, the lost pages count as clean), a full disk, writes cut
short, unreadable ranges, flipped bits. Every effect is announced to a hook first, which may raise :class:`Crash`, so a
test can stop the program at each one in turn. The module uses no clock and no randomness but what it is handed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import DirectoryInUse

if TYPE_CHECKING:
    from random import Random

SECTOR: Final = 512


class Crash(BaseException):
    """The program ends here. Not an Exception: no cleanup that a dead program could not do may catch it."""


class _Node:
    """What a name stands for: the bytes, in the cache and on the platter."""

    def __init__(self) -> None:
        self.cache = bytearray()
        self.platter = bytearray()
        self.sectors: dict[int, list[bytes]] = {}  # versions written since the last sync, oldest first
        self.sizes: list[int] = []  # sizes since the last sync
        self.unreadable: list[tuple[int, int]] = []

    def touch(self, start: int, end: int) -> None:
        """Remember the sectors of [start, end) as they are in the cache now."""
        cache, sectors = self.cache, self.sectors
        for number in range(start // SECTOR, -(-end // SECTOR)):
            at = number * SECTOR
            version = bytes(cache[at : at + SECTOR])
            if number in sectors:
                sectors[number].append(version)
            else:
                sectors[number] = [version]

    def grow(self, size: int) -> None:
        self.cache.extend(bytes(size - len(self.cache)))
        self.sizes.append(size)

    def sync(self) -> None:
        if self.sizes:
            self.platter.extend(bytes(len(self.cache) - len(self.platter)))
        for number in self.sectors:
            at = number * SECTOR
            self.platter[at : at + SECTOR] = self.cache[at : at + SECTOR]
        self.sectors.clear()
        self.sizes.clear()

    def lose(self, random: Random) -> None:
        """What was not synced lands on the platter in some part; the cache is not touched."""
        if self.sizes:
            self.platter.extend(bytes(random.choice([len(self.platter), *self.sizes]) - len(self.platter)))
        everything, nothing = random.random() < 0.15, random.random() < 0.15
        for number, versions in self.sectors.items():
            pick = -1 if nothing else len(versions) - 1 if everything else random.randint(-1, len(versions) - 1)
            at = number * SECTOR
            if pick >= 0 and at < len(self.platter):
                room = min(SECTOR, len(self.platter) - at)
                self.platter[at : at + room] = versions[pick][:room].ljust(room, b"\0")
        self.sectors.clear()
        self.sizes.clear()


class _Change(NamedTuple):
    """A directory's change: `name` now stands for `node` (None: for nothing); `gone` is the name it had before."""

    name: str
    node: _Node | None
    gone: str | None = None


class _Directory:
    def __init__(self) -> None:
        self.cache: dict[str, _Node] = {}
        self.platter: dict[str, _Node] = {}
        self.changes: list[_Change] = []

    def change(self, change: _Change) -> None:
        _apply(self.cache, change)
        self.changes.append(change)

    def sync(self) -> None:
        self.platter = dict(self.cache)
        self.changes.clear()

    def lose(self, random: Random) -> None:
        for change in self.changes[: random.randint(0, len(self.changes))]:
            _apply(self.platter, change)
        self.changes.clear()


def _apply(names: dict[str, _Node], change: _Change) -> None:
    if change.node is None:
        names.pop(change.name, None)
        return
    if change.gone is not None:
        names.pop(change.gone, None)
    names[change.name] = change.node


class Faults:
    """What shall go wrong. Counters count down to 0; None is off."""

    def __init__(self) -> None:
        self.capacity: int | None = None  # bytes on the whole disk; raise it to make room again
        self.failing_syncs: int | None = None  # so many datasyncs fail with EIO (-1: every one)
        self.short_write: int | None = None  # the next write lands so many bytes, then fails with EIO
        self.torn_write: int | None = None  # the next write lands so many bytes, then the program dies


class MemoryFile:
    """An open file of a :class:`MemoryFileSystem`."""

    def __init__(self, system: MemoryFileSystem, path: str, node: _Node) -> None:
        self.path = path
        self._system = system
        self._node = node
        self._epoch = system.epoch

    def _check(self) -> None:
        if self._epoch != self._system.epoch:
            raise OSError(errno.EBADF, "the program that opened this file has ended", self.path)

    def read(self, position: int, size: int) -> bytes:
        self._check()
        for start, end in self._node.unreadable:
            if position < end and start < position + size:
                raise OSError(errno.EIO, "simulated read error", self.path)
        return bytes(self._node.cache[position : position + size])

    def write(self, position: int, content: bytes | memoryview) -> None:
        self._check()
        system, node, faults = self._system, self._node, self._system.faults
        system.effect("write", self.path)
        room = len(content)
        failure: BaseException | None = None
        if faults.torn_write is not None:
            room, failure, faults.torn_write = min(room, faults.torn_write), Crash(self.path), None
        elif faults.short_write is not None:
            room, failure, faults.short_write = min(room, faults.short_write), _error(errno.EIO, self.path), None
        growth = max(0, position + room - len(node.cache))
        if (free := system.free()) is not None and growth > free:
            room, failure = max(0, len(node.cache) + free - position), _error(errno.ENOSPC, self.path)
        if room:
            end = position + room
            if end > len(node.cache):
                node.grow(end)
            node.cache[position:end] = content[:room]
            node.touch(position, end)
        if failure is not None:
            raise failure

    def datasync(self) -> None:
        self._check()
        self._system.effect("datasync", self.path)
        faults = self._system.faults
        if faults.failing_syncs:
            if faults.failing_syncs > 0:
                faults.failing_syncs -= 1
            self._node.lose(self._system.random)  # the pages are clean now, whatever is on the platter
            raise _error(errno.EIO, self.path)
        self._node.sync()

    def allocate(self, size: int) -> None:
        self._check()
        self._system.effect("allocate", self.path)
        growth = size - len(self._node.cache)
        if growth > 0:
            if (free := self._system.free()) is not None and growth > free:
                raise _error(errno.ENOSPC, self.path)
            self._node.grow(size)

    def size(self) -> int:
        self._check()
        return len(self._node.cache)

    def close(self) -> None:
        pass


def _error(number: int, path: str) -> OSError:
    return OSError(number, "simulated: no space left" if number == errno.ENOSPC else "simulated: I/O error", path)


class MemoryLock:
    """A lock that ends with the program that took it."""

    def __init__(self, system: MemoryFileSystem, directory: str) -> None:
        self._system = system
        self._directory = directory
        self._epoch = system.epoch

    def release(self) -> None:
        if self._epoch == self._system.epoch:
            self._system.locked.discard(self._directory)

    def abandon(self) -> None:
        pass


class MemoryFileSystem:
    """The simulated disk. One thread.

    Args:
        random: decides what a failed sync leaves on the platter (only then); :meth:`crash` gets its own.
        before: called with the name of each effect ("write", "datasync", "create", "rename", "remove", "allocate",
            "sync_directory", "make_directory") and its path before it happens; may raise :class:`Crash`.
    """

    def __init__(self, random: Random, before: Callable[[str, str], None] | None = None) -> None:
        self.random = random
        self.before = before
        self.faults = Faults()
        self.effects = 0  # how many so far
        self.epoch = 0  # grows with each end of the program: older open files and locks are void
        self.locked: set[str] = set()
        self._directories: dict[str, _Directory] = {}

    # effects

    def effect(self, name: str, path: str) -> None:
        """Announce an effect."""
        if self.before is not None:
            self.before(name, path)
        self.effects += 1

    def create(self, path: str) -> MemoryFile:
        directory, name = self._split(path)
        if name in directory.cache:
            raise FileExistsError(errno.EEXIST, "exists", path)
        self.effect("create", path)
        if (free := self.free()) is not None and free <= 0:
            raise _error(errno.ENOSPC, path)
        node = _Node()
        directory.change(_Change(name, node))
        return MemoryFile(self, path, node)

    def open(self, path: str, writable: bool = True) -> MemoryFile:
        return MemoryFile(self, path, self._node(path))

    def rename(self, old: str, new: str) -> None:
        directory, name = self._split(old)
        other, target = self._split(new)
        assert directory is other, "storage renames inside a directory only"
        node = self._node(old)
        self.effect("rename", old)
        directory.change(_Change(target, node, gone=name))

    def remove(self, path: str) -> None:
        directory, name = self._split(path)
        self._node(path)
        self.effect("remove", path)
        directory.change(_Change(name, None))

    def names(self, directory: str) -> list[str]:
        return sorted(self._directory(directory).cache)

    def make_directory(self, path: str) -> None:
        if path not in self._directories:
            self.effect("make_directory", path)
            self._directories[path] = _Directory()

    def sync_directory(self, directory: str) -> None:
        self.effect("sync_directory", directory)
        self._directory(directory).sync()

    def lock(self, directory: str) -> MemoryLock:
        self._directory(directory)
        if directory in self.locked:
            raise DirectoryInUse(f"{directory} is in use by another process: stop that one first")
        self.locked.add(directory)
        return MemoryLock(self, directory)

    # the end of the program

    def kill(self) -> None:
        """The program dies (kill -9), the machine goes on: whatever was written stays, synced or not."""
        self.epoch += 1
        self.locked.clear()

    def crash(self, random: Random) -> None:
        """The power fails: of what was not synced, `random` decides what is there afterwards."""
        self.kill()
        for path in sorted(self._directories):
            directory = self._directories[path]
            nodes = {id(node): node for node in (*directory.cache.values(), *directory.platter.values())}
            for node in nodes.values():
                node.lose(random)
            directory.lose(random)
            directory.cache = dict(directory.platter)
            for node in directory.cache.values():
                node.cache = bytearray(node.platter)

    # looking and meddling, for tests

    def content(self, path: str) -> bytes:
        """What a program reads in the file at `path`."""
        return bytes(self._node(path).cache)

    def put(self, path: str, content: bytes) -> None:
        """Make `content` the file at `path`, durably, as if it had always been so: damage, or another disk's file."""
        directory, name = self._split(path)
        node = directory.cache.get(name) or _Node()
        node.cache, node.platter = bytearray(content), bytearray(content)
        node.sectors.clear()
        node.sizes.clear()
        directory.cache[name] = directory.platter[name] = node

    def flip(self, path: str, position: int, mask: int = 0xFF) -> None:
        """Change bits of one byte, in the cache and on the platter."""
        node = self._node(path)
        for content in (node.cache, node.platter):
            if position < len(content):
                content[position] ^= mask

    def unreadable(self, path: str, start: int, end: int) -> None:
        """Reads that touch [start, end) fail with EIO from now on."""
        self._node(path).unreadable.append((start, end))

    def copy(self, random: Random) -> MemoryFileSystem:
        """An independent disk with the same contents, all durable, nobody using it."""
        twin = MemoryFileSystem(random)
        for path, directory in self._directories.items():
            twin.make_directory(path)
            for name, node in directory.cache.items():
                twin.put(f"{path}/{name}", bytes(node.cache))
        return twin

    def used(self) -> int:
        """Bytes in files."""
        return sum(len(n.cache) for d in self._directories.values() for n in d.cache.values())

    def free(self) -> int | None:
        """Bytes of room left; None: no limit."""
        return None if self.faults.capacity is None else self.faults.capacity - self.used()

    def _directory(self, path: str) -> _Directory:
        try:
            return self._directories[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path) from None

    def _split(self, path: str) -> tuple[_Directory, str]:
        directory, _, name = path.rpartition("/")
        return self._directory(directory), name

    def _node(self, path: str) -> _Node:
        directory, name = self._split(path)
        try:
            return directory.cache[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "no such file", path) from None
