"""Every byte cut, every byte changed, sectors zeroed and swapped, older files put back: what was durable is found, or
is named as damaged, or the member refuses to vote; never is it silently gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

import pytest
from quorate.kernel.paxos.ready import Record
from quorate.kernel.storage.errors import StorageError
from quorate.kernel.storage.memory import MemoryFileSystem


class LeastKept(Random):
    """Chooses, of what a power cut may leave, the oldest of everything."""

    def random(self) -> float:
        return 1.0

    def randint(self, a: int, b: int) -> int:
        return a

    def choice(self, seq: Any) -> Any:
        return seq[0]


class Written(NamedTuple):
    """A small journal over two segments, and every record in it."""

    fs: MemoryFileSystem
    records: list[Record]
    versions: dict[str, list[bytes]]  # contents of each file after each write


def write_small(kit: Any, *, settled: bool, known: int) -> Written:
    """A journal whose slots up to `known` are known chosen, as a power cut leaves it."""
    fs = kit.memory()
    journal = kit.recover(fs).journal
    records: list[Record] = []
    versions: dict[str, list[bytes]] = {}
    batches: list[tuple[Record, ...]] = [(kit.promise(1),)]
    batches += [(kit.vote(slot, bytes([slot]) * (40 * slot)), kit.chosen(min(known, slot - 1))) for slot in range(1, 6)]
    batches += [(kit.vote(6, b"six"), kit.vote(7, b"seven" * 150), kit.vote(8, b"")), (kit.promise(3, 2),)]
    batches += [(kit.vote(8, b"eight again", (3, 2)), kit.vote(9, b"nine" * 40, (3, 2)), kit.chosen(known))]
    for batch in batches:
        kit.write(journal, *batch)
        records += batch
        for name in fs.names(kit.directory):
            versions.setdefault(name, []).append(fs.content(kit.path(name)))
    if settled:
        journal.settle()
    fs.crash(LeastKept())
    assert fs.names(kit.directory).count("journal-0000000002.log")
    return Written(fs.copy(Random(0)), records, versions)


@pytest.fixture(scope="module", params=["settled", "just synced"])
def written(request: pytest.FixtureRequest, kit: Any) -> Written:
    """With and without the newest mark on the disk."""
    return write_small(kit, settled=request.param == "settled", known=9)


def outcomes(kit: Any, written: Written, damages: Iterator[Callable[[MemoryFileSystem], object]]) -> Counter[str]:
    """Apply each damage to a fresh copy, recover, judge; then recover again: the judgment must not get milder."""
    count: Counter[str] = Counter()
    for damage in damages:
        fs = written.fs.copy(Random(1))
        damage(fs)
        try:
            recovered = kit.recover(fs)
        except StorageError:
            count["unusable"] += 1
            continue
        verdict = kit.judge(recovered.state, written.records)
        if verdict != "exact":
            assert recovered.notes
        recovered.close()
        again = kit.recover(fs).state
        assert kit.judge(again, written.records) == verdict
        assert again == recovered.state
        count[verdict] += 1
    return count


def names(written: Written) -> list[str]:
    """The files that matter."""
    return [name for name in written.versions if name != "lock"]


def used(content: bytes) -> Iterator[int]:
    """The positions worth touching: what is not zero, and a few of the zeros around."""
    for position in range(len(content)):
        if content[max(0, position - 2) : position + 3].strip(b"\0") or position % 487 == 0:
            yield position


@pytest.mark.parametrize("mask", ["all bits", "one bit"])
def test_every_byte_changed(kit: Any, written: Written, mask: str) -> None:
    """One changed byte anywhere is survived: found again, healed from others, or refused."""

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for name in names(written):
            path = kit.path(name)
            for position in used(written.fs.content(path)):
                bits = 0xFF if mask == "all bits" else 1 << position % 8
                yield lambda fs, path=path, position=position, bits=bits: fs.flip(path, position, bits)

    count = outcomes(kit, written, damages())
    assert count["unusable"] == 0
    assert count["exact"] > 500
    assert count["healable"] > 500


def test_every_cut(kit: Any, written: Written) -> None:
    """Each file cut off at each byte."""

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for name in names(written):
            content, path = written.fs.content(kit.path(name)), kit.path(name)
            for size in used(content):
                yield lambda fs, path=path, kept=content[:size]: fs.put(path, kept)

    count = outcomes(kit, written, damages())
    assert count["unusable"] == 0
    assert count["healable"] > 500


def test_each_file_missing(kit: Any, written: Written) -> None:
    """Any one file deleted: nothing is silently forgotten, and no file is indispensable but to its votes."""

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for name in names(written):
            path = kit.path(name)
            yield lambda fs, path=path: fs.remove(path)

    count = outcomes(kit, written, damages())
    assert count["unusable"] == 0
    assert count["exact"] >= 5


@pytest.mark.parametrize("size", [512, 4096])
def test_zeroed(kit: Any, size: int) -> None:
    """Each sector or page of each file zeroed, once the marks are on the disk: told from a torn write."""
    written = write_small(kit, settled=True, known=9)

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for name in names(written):
            content, path = written.fs.content(kit.path(name)), kit.path(name)
            for start in range(0, len(content), size):
                changed = content[:start] + bytes(len(content[start : start + size])) + content[start + size :]
                yield lambda fs, path=path, changed=changed: fs.put(path, changed)

    count = outcomes(kit, written, damages())
    assert count["unusable"] == 0
    assert count["healable"] >= 1
    assert count["refused"] >= 1  # the end of the journal: the hole may hide more than the mark tells of


def test_sectors_swapped(kit: Any) -> None:
    """Two sectors of a file exchanged, every pair."""
    written = write_small(kit, settled=True, known=9)

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for name in names(written):
            content, path = written.fs.content(kit.path(name)), kit.path(name)
            for a in range(0, len(content) - 511, 512):
                for b in range(a + 512, len(content) - 511, 512):
                    one, two = content[a : a + 512], content[b : b + 512]
                    if one != two:
                        changed = content[:a] + two + content[a + 512 : b] + one + content[b + 512 :]
                        yield lambda fs, path=path, changed=changed: fs.put(path, changed)

    count = outcomes(kit, written, damages())
    assert count["unusable"] == 0
    assert count["healable"] >= 10


def test_junk_behind(kit: Any, written: Written) -> None:
    """Bytes appended to a file change nothing."""

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        random = Random(5)
        for name in names(written):
            content, path = written.fs.content(kit.path(name)), kit.path(name)
            for size in (1, 511, 5000):
                changed = content + random.randbytes(size)
                yield lambda fs, path=path, changed=changed: fs.put(path, changed)

    assert set(outcomes(kit, written, damages())) == {"exact"}


def test_an_older_file_put_back(kit: Any) -> None:
    """Any one file as it was after any earlier write: what is newer elsewhere tells."""
    written = write_small(kit, settled=True, known=9)

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for name in names(written):
            path = kit.path(name)
            for content in written.versions[name]:
                yield lambda fs, path=path, content=content: fs.put(path, content)

    count = outcomes(kit, written, damages())
    assert count["unusable"] == 0
    assert count["healable"] >= 4


def test_lost_votes_on_open_slots_are_never_healed(kit: Any) -> None:
    """The same damage when nothing is known to be chosen: no vote may be given up as healable."""
    written = write_small(kit, settled=True, known=0)
    path = kit.segment(1)

    def damages() -> Iterator[Callable[[MemoryFileSystem], object]]:
        for position in used(written.fs.content(path)):
            yield lambda fs, position=position: fs.flip(path, position)

    count = outcomes(kit, written, damages())
    assert set(count) == {"exact", "refused"}
    assert count["refused"] > 500
