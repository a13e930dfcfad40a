"""A taste of the campaign: the faults whose outcome is known beforehand, on a cell under load."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import histories
import menu
from campaign import Episode, summary
from damage import Mode, Region, damage
from disk_shim import Rule, library
from histories import Record
from quorate.kernel.testing.linearizability import Operation

pytestmark = [pytest.mark.cell, pytest.mark.timeout(120)]

NEEDS_COMPILER = pytest.mark.skipif(
    library() is None, reason="no C compiler: the disks of replicas cannot fail on order"
)


def _name(rule: Rule) -> str:
    return rule.name.lower()


@pytest.fixture(scope="module")
def episode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Episode]:
    """A cell under load; when the last test is done, everything that its clients saw is judged."""
    made = Episode(tmp_path_factory.mktemp("campaign") / "cell", 3, Random(7), lambda line: None)
    with made.loaded():
        yield made
    assert made.violations == []


@NEEDS_COMPILER
def test_a_full_disk_is_waited_for(episode: Episode) -> None:
    """Without room for the next segment a replica says so and waits; with room it goes on, and nobody restarts it."""
    full: list[bool] = []

    def all_full(scene: menu.Scene) -> None:
        scene.some = lambda: list(scene.cell.replicas)  # type: ignore[method-assign]
        full.append(menu.fill(scene))

    episode.strike(all_full)
    assert episode.violations == []
    assert full == [True]


@NEEDS_COMPILER
@pytest.mark.parametrize("rule", [Rule.DIE_BEFORE_SYNC, Rule.DIE_AFTER_SYNC, Rule.TORN_WRITE], ids=_name)
def test_a_crash_at_the_nth_sync(episode: Episode, rule: Rule) -> None:
    """It dies right before, right after or in the middle of writing; it comes back with all it said."""
    episode.strike(lambda scene: menu.crash(scene, rule, 5))
    assert episode.violations == []


@NEEDS_COMPILER
@pytest.mark.parametrize("rule", [Rule.FAIL_SYNC, Rule.FAIL_SYNC_LATE, Rule.FAIL_WRITE], ids=_name)
def test_an_io_error_ends_the_voting(episode: Episode, rule: Rule) -> None:
    """EIO from a sync, from its end or from a write: no retry, no vote, words in the status, and well after a start."""
    episode.strike(lambda scene: menu.fail(scene, rule, 3))
    assert episode.violations == []


@NEEDS_COMPILER
def test_no_room_at_a_sync_ends_the_voting(episode: Episode) -> None:
    """ENOSPC from a sync is no full disk to be waited for: what was handed over may be gone, as after EIO."""
    episode.strike(lambda scene: menu.fail(scene, Rule.FAIL_SYNC_LATE, 3, errno.ENOSPC))
    assert episode.violations == []


@pytest.mark.parametrize("fault", [menu.kill, menu.pause, menu.cascade])
def test_processes_that_die_or_stand_still(episode: Episode, fault: menu.Fault) -> None:
    """kill -9, SIGSTOP for longer than the lease, one leader after the other: they come back, and nobody notices more
    than a pause."""
    episode.strike(fault)
    assert episode.violations == []


@pytest.mark.parametrize("fault", [menu.wiped, menu.rolled_back, menu.swapped, menu.other_cell, menu.newer])
def test_a_directory_that_is_not_what_it_was(episode: Episode, fault: menu.Fault) -> None:
    """Nobody votes with it, nothing in it is changed, and the right one is as good as before."""
    episode.strike(fault)
    assert episode.violations == []


def test_a_flipped_bit_in_each_kind_of_file(episode: Episode) -> None:
    """The replica refuses with words, heals, or says that it never votes again: it never guesses."""
    for kind in ("identity", "founding", "witness", "snapshot-", "marks", "journal-"):
        assert not episode.over, "a replica is lost, and there is no minority left to be struck"
        episode.strike(lambda scene: menu.flip(scene, kind))  # noqa: B023
        assert f" of {kind}" in episode.lines[-1]["what"]
    assert episode.violations == []


def test_the_judge_sees_what_is_wrong() -> None:
    """An addition that counted twice, a lock held by two, a write that was forgotten: each is told."""
    record = Record()
    record.add("count", Operation("a", "c1.0", "add", (5,), 10, 1, 2))
    record.add("mutex", Operation("a", "l1.0", "acquire", (), 7, 1, 2))
    record.add("mutex", Operation("b", "l1.0", "acquire", (), 8, 3, 4))
    record.add("register", Operation("a", "z1.0", "set", (5,), None, 1, 2))
    record.add("register", Operation("b", "z1.0", "get", (), None, 3, 4))
    assert [each.partition(":")[0] for each in record.judge()] == ["count", "mutex", "register"]
    assert record.judge({2}) == []


def test_a_node_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the last reads of a cell, if its creation was acknowledged."""

    async def nothing(*_: object) -> None:
        pass

    class Client:
        """Answers at once."""

        def sync_async(self, path: str) -> Client:
            return self

        get_children_async = sync_async

        def get(self, timeout: float) -> list[str]:
            return ["n-1", "n-3"]

    monkeypatch.setattr(histories, "_read_counters", nothing)
    record = Record()
    record.note_created("n-1")
    ground = histories.Ground(record, Client())  # type: ignore[arg-type]
    assert ground.last_reads([]) == []
    record.note_created("n-2")
    assert ground.last_reads([]) == ["1 acknowledged nodes are gone, such as n-2"]


def test_what_is_under_way_may_have_happened() -> None:
    """An operation whose answer is still to come explains what others see of it."""
    record = Record()
    begun = record.begin("count", "a", "c1.0", "add", 3)
    seen = record.begin("count", "b", "c1.0", "total")
    record.add("count", seen._replace(result=3, end=seen.call + 1))
    assert record.judge() == []
    record.add("count", begun._replace(result=4, end=seen.call + 2))
    assert len(record.judge()) == 1


def test_the_longest_silence_and_the_next_word() -> None:
    """Gaps are between acknowledged writes, and from and to the ends."""
    record = Record()
    for moment in (100, 150, 400, 420):
        record.add("count", Operation("a", "c1.0", "add", (1,), 1, 1, moment))
    assert (record.gap(120, 410), record.gap(0, 1000), record.first_after(150)) == (250, 580, 400)
    assert record.first_after(420) is None


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("region", list(Region))
def test_damage_changes_the_file_where_it_says(tmp_path: Path, mode: Mode, region: Region) -> None:
    """Something differs afterwards, and nothing in front of the region but for a swapped or zeroed sector."""
    path = tmp_path / "file"
    content = Random(1).randbytes(6000)
    path.write_bytes(content + bytes(2000))
    damage(path, mode, region, Random(2))
    found = path.read_bytes()
    assert found != content + bytes(2000)
    first = next((at for at, (old, new) in enumerate(zip(content, found, strict=False)) if old != new), len(found))
    assert mode is Mode.SWAP or first // 512 >= list(Region).index(region) * 2000 // 512


def test_a_summary_counts() -> None:
    """By kind, with the longest recovery, and what came later than is owed, which is as bad as what was violated."""
    lines = [{"fault": "kill", "recovery_ms": ms, "outage_ms": ms, "operations": 10} for ms in (5, 2000, 7)]
    found = summary(lines, [], 1, 2.0)
    assert [summary(lines[:1], wrong, 1, 2.0)["fine"] for wrong in ([], ["forgotten"])] == [True, False]
    assert not found["fine"]
    assert (found["faults"], found["by_kind"], found["operations"]) == (3, {"kill": 3}, 30)
    assert found["recovery_ms"] == {"median": 7, "longest": 2000, "owed": 1400}
    assert found["late"] == ["kill: 2000 ms"]


def test_the_menu_names_each_fault_once() -> None:
    """A fault's name says which it is."""
    names = [each.__name__ for each in dict.fromkeys(menu.menu())]
    assert len(names) == len(set(names)) > 10
    assert all(each.__doc__ for each in menu.menu())
