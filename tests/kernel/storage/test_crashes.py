"""The program stopped at every effect it has on the disk, by a kill or a power cut, with whatever that leaves.

Whatever `write` returned for is found again; nothing is found that was not appended; and no crash alone makes a member
give up its vote."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.ready import Record
from quorate.kernel.storage.errors import JournalFailed, JournalFull, SnapshotFailed
from quorate.kernel.storage.memory import Crash, MemoryFileSystem
from quorate.kernel.storage.recovery import Recovered


class World:
    """A replica's storage doing what a driver would do with it, and a list of what was promised to stay."""

    def __init__(self, kit: Any, random: Random, fs: MemoryFileSystem) -> None:
        self.kit = kit
        self.random = random
        self.fs = fs
        self.records: list[Record] = []  # everything appended, in order
        self.acknowledged = 0  # so many of them must stay
        self.slot = 0
        self.chosen = 0
        self.round = 1
        self.snapshot = 0  # the newest acknowledged
        self.attempted = 0  # the newest begun
        self.recovered: Recovered | None = None

    def open(self) -> None:
        """Recover, and hold the result against the promise."""
        self.recovered = recovered = self.kit.recover(self.fs)
        state, found = recovered.state, recovered.journal.base
        assert state.intact, recovered.notes
        assert not state.damaged
        assert self.acknowledged <= found <= len(self.records)
        assert state.snapshot in (self.snapshot, self.attempted)
        if recovered.snapshot is not None:
            reader = recovered.snapshots.open(state.snapshot)
            assert list(reader.chunks()) == chunks(state.snapshot)
            assert reader.configuration == state.configuration == self.kit.founding
        expected = self.kit.known(self.records[:found], state.snapshot)
        assert self.kit.found(state) == expected
        del self.records[found:]
        self.acknowledged = found
        self.snapshot = self.attempted = state.snapshot
        self.chosen = expected.chosen
        self.round = max(1, expected.promised.round)
        self.slot = max((vote.slot for vote in state.votes), default=state.snapshot)

    def step(self) -> None:
        """Do one thing."""
        assert self.recovered is not None
        journal, snapshots = self.recovered.journal, self.recovered.snapshots
        match self.random.choices(range(7), (10, 2, 2, 2, 1, 1, 1))[0]:
            case 0:
                self.append()
                if (batch := journal.seal()) is not None:
                    journal.write(batch)
                    self.acknowledged = batch.upto
            case 1:
                self.append()
            case 2:
                journal.prepare()
            case 3:
                journal.settle()
            case 4 if self.chosen > self.snapshot and self.durable_votes() >= self.chosen:
                self.attempted = self.chosen
                snapshots.write(Slot(self.chosen), self.kit.founding, chunks(self.chosen))
                self.snapshot = self.attempted
                snapshots.delete(snapshots.retire())
            case 5:
                journal.forget(snapshots.floor)
            case 6:
                self.recovered.close()
                self.open()

    def durable_votes(self) -> int:
        """The highest slot whose vote was acknowledged."""
        return max(self.kit.known(self.records[: self.acknowledged]).votes, default=0)

    def append(self) -> None:
        """Some records, as a core would make them."""
        assert self.recovered is not None
        records: list[Record] = []
        for _ in range(self.random.randint(1, 3)):
            match self.random.randrange(5):
                case 0:
                    self.round += 1
                    records.append(self.kit.promise(self.round))
                case 1 if self.chosen < self.slot:
                    self.chosen = self.random.randint(self.chosen + 1, self.slot)
                    records.append(self.kit.chosen(self.chosen))
                case 2 if self.chosen < self.slot:
                    records.append(self.kit.vote(self.slot, self.payload(), (self.round, 1)))
                case _:
                    self.slot += 1
                    records.append(self.kit.vote(self.slot, self.payload(), (self.round, 1)))
        self.records += records
        assert self.recovered.journal.append(records) == len(self.records)

    def payload(self) -> bytes:
        """Bytes that may look like zeros, or like anything."""
        size = self.random.choice((0, 3, 200, 700, 1500))
        return bytes(size) if self.random.random() < 0.3 else self.random.randbytes(size)


def chunks(slot: int) -> list[bytes]:
    """A snapshot's content."""
    return [bytes([slot % 251]) * 300, b"", str(slot).encode()]


def run(kit: Any, seed: int, steps: int, stop: int | None, end: Callable[[MemoryFileSystem, Random], None]) -> int:
    """One life: founding, `steps` steps, a crash before effect number `stop`, recovery (which may crash as well), and
    some more steps. Returns the number of effects."""
    random = Random(seed)
    fs = kit.memory(seed)
    world = World(kit, random, fs)
    fuse = stop

    def before(effect: str, path: str) -> None:
        nonlocal fuse
        if fuse is not None:
            fuse -= 1
            if fuse < 0:
                raise Crash(path)

    fs.before = before
    try:
        world.open()
        for _ in range(steps):
            world.step()
        effects = fs.effects
        fuse = 0  # the life ends here at the latest
        world.step()
    except Crash:
        effects = fs.effects
    crashes = Random(seed * 1000 + (stop or 0))
    while True:
        end(fs, crashes)
        fuse = crashes.choice((None, crashes.randrange(12)))
        try:
            world.open()
            break
        except Crash:
            continue
    fuse = None
    for _ in range(3):
        world.step()
    fs.before = None
    world.recovered.close() if world.recovered else None
    world.open()
    return effects


def power_cut(fs: MemoryFileSystem, random: Random) -> None:
    """What was not synced is lost in part."""
    fs.crash(random)


def kill(fs: MemoryFileSystem, random: Random) -> None:
    """The page cache stays."""
    fs.kill()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("end", [power_cut, kill])
def test_crash_at_every_effect(kit: Any, seed: int, end: Callable[[MemoryFileSystem, Random], None]) -> None:
    """One schedule, ended before each of its effects in turn."""
    steps = 14
    effects = run(kit, seed, steps, None, end)
    assert effects > 40
    for stop in range(effects):
        run(kit, seed, steps, stop, end)


@pytest.mark.parametrize("seed", range(100, 160))
def test_many_lives(kit: Any, seed: int) -> None:
    """Longer schedules, many crashes of both kinds, torn writes, syncs that fail, and a disk that fills up."""
    random = Random(seed)
    fs = kit.memory(seed)
    world = World(kit, random, fs)
    world.open()
    for _ in range(12):
        faults = fs.faults
        match random.randrange(6):
            case 0:
                faults.torn_write = random.randrange(1500)
            case 1:
                faults.failing_syncs = 1
            case 2:
                faults.short_write = random.randrange(1500)
            case 3:
                faults.capacity = fs.used() + random.randrange(4000)
        try:
            for _ in range(random.randrange(12)):
                try:
                    world.step()
                except (JournalFull, SnapshotFailed):
                    break
        except (Crash, JournalFailed):
            pass
        faults.torn_write = faults.failing_syncs = faults.short_write = faults.capacity = None
        if random.random() < 0.5 and world.recovered is not None:
            fs.kill()
        else:
            fs.crash(random)
        world.open()


def test_power_cut_right_after_the_failed_sync_and_reopening(kit: Any) -> None:
    """After a failed sync the page cache shows what the disk may not have: reopening makes it so before it counts."""
    for seed in range(40):
        fs = kit.memory(seed)
        recovered = kit.recover(fs)
        kit.write(recovered.journal, kit.vote(1))
        fs.faults.failing_syncs = 1
        recovered.journal.append([kit.vote(2, b"x" * 1200)])
        with pytest.raises(JournalFailed):
            recovered.journal.write(recovered.journal.seal())
        recovered.close()
        again = kit.recover(fs)
        seen = len(again.state.votes)
        assert seen == 2
        fs.crash(Random(seed))
        assert len(kit.recover(fs).state.votes) == seen
