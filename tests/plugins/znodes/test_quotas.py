"""Quotas (ZK-9.8): the lines they are written in, what is counted, what is refused. The answers are a real ZooKeeper
3.8.0's where the docstring does not say otherwise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.plugins.znodes import quotas
from quorate.plugins.znodes.chunks import Allow
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.protocol import Err, Fault, Mode, Op
from quorate.plugins.znodes.tree import content_of, family_of
from znodes_wire import Bench, create, path_version, put, results, several

LIMITS = b"/zookeeper/quota/q/zookeeper_limits"
STATS = b"/zookeeper/quota/q/zookeeper_stats"


class Quotas(Bench):
    """A bench whose replica enforces, with two nodes below /q and a quota on it."""

    def __init__(self, limits: bytes) -> None:
        super().__init__()
        self.allow |= Allow.ENFORCE_QUOTA
        self.me = self.open(1)
        for path, value in ((b"/q", b"abc"), (b"/q/a", b"12345"), (b"/zookeeper/quota/q", b"")):
            self.make(path, value)
        self.make(LIMITS, limits)
        self.make(STATS, b"count=0,bytes=0")

    def make(self, path: bytes, value: bytes | None = b"", flags: int = 0) -> int:
        return self.call(self.me, Op.CREATE, create(path, value, flags)).err

    def set(self, path: bytes, value: bytes | None, version: int = -1) -> int:
        return self.call(self.me, Op.SET_DATA, put(path, value, version)).err

    def delete(self, path: bytes) -> int:
        return self.call(self.me, Op.DELETE, path_version(path)).err

    def stats(self, path: bytes = STATS) -> bytes | None:
        return self.machine.tree.nodes[path].value


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        (b"count=4,bytes=5", {"count": 4, "bytes": 5}),
        (b"count=4,bytes=5=;countHardLimit=10;byteHardLimit=-1",
         {"count": 4, "bytes": 5, "countHardLimit": 10, "byteHardLimit": -1}),
        (b"", {}), (None, {}), (b"count=1,,;bytes=2", {"count": 1, "bytes": 2}),
        (b"bytes==", None), (b"rubbish", None), (b"count=x", None), (b"count=1.5", None), (b"count=" + b"9" * 30, None),
        (b"count=1," * 130, None),
        (b"\xff=1", {"\ufffd": 1}),
    ],
)  # fmt: skip
def test_lines(line: bytes | None, numbers: dict[str, int] | None) -> None:
    """A line is read as the original reads it, and what cannot be read is a ValueError."""
    if numbers is None:
        with pytest.raises(ValueError, match=r"no number|no line"):
            quotas.parse(line)
    else:
        assert quotas.parse(line) == numbers


def test_lines_are_written_as_the_original_writes_them() -> None:
    """Count and bytes first, the hard limits behind a spurious equals sign, in alphabetical order."""
    assert quotas.text({"countHardLimit": 10, "byteHardLimit": 9, "bytes": 5}) == (
        b"count=-1,bytes=5=;byteHardLimit=9;countHardLimit=10"
    )
    assert quotas.counted(3, 9) == b"count=3,bytes=9"


def test_what_is_there_is_counted_and_soft_limits_refuse_nothing() -> None:
    """Making the stats node counts what is there; then every create, set and delete moves it, without a version, a
    time or an event of its own."""
    bench = Quotas(b"count=3,bytes=10")
    seen: list[bytes] = []
    bench.machine.observer = lambda event, path, *lists: seen.append(path)
    assert bench.stats() == b"count=2,bytes=8"
    before = bench.stat(STATS)
    assert bench.make(b"/q/b", b"1") == bench.make(b"/q/c", b"1") == 0
    assert bench.stats() == b"count=4,bytes=10"
    assert bench.set(b"/q/c", b"x" * 25) == 0
    assert bench.stats() == b"count=4,bytes=34"
    assert bench.set(b"/q/c", None) == 0
    assert bench.delete(b"/q/b") == 0
    assert bench.stats() == b"count=3,bytes=8"
    assert bench.make(b"/qq") == 0
    assert bench.stats() == b"count=3,bytes=8"
    bench.make(b"/q/e", b"12", Mode.EPHEMERAL)
    assert bench.stats() == b"count=4,bytes=10"
    bench.end(bench.me)
    assert bench.stats() == b"count=3,bytes=8"
    assert {**bench.stat(STATS), "length": 0} == {**before, "length": 0}
    assert STATS not in seen


def test_hard_limits_refuse_where_they_are_enforced() -> None:
    """QUOTA_EXCEEDED before the version is looked at; a zxid is consumed and nothing changes; a smaller value and other
    places are let through; without the option nothing is refused."""
    bench = Quotas(b"count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=3")
    assert bench.make(b"/q/b", b"x") == 0
    zxid = bench.machine.zxid
    assert bench.make(b"/q/c") == Err.QUOTA_EXCEEDED
    assert bench.set(b"/q/b", b"x" * 50) == bench.set(b"/q/b", b"x" * 50, 77) == Err.QUOTA_EXCEEDED
    assert bench.machine.zxid == zxid + 3
    assert bench.set(b"/q/b", b"x" * 12) == 0
    assert bench.set(b"/q/b", b"y" * 12) == bench.set(b"/q/b", b"") == 0
    assert bench.stats() == b"count=3,bytes=8"
    assert bench.make(b"/p", b"x" * 100) == 0
    bench.allow = Allow.NOTHING
    assert bench.make(b"/q/c") == 0
    assert bench.stats() == b"count=4,bytes=8"


def test_lines_that_cannot_be_read() -> None:
    """Limits that are no line answer MARSHALLING_ERROR where they are enforced; rubbish in the stats stops the counting
    until the node is made anew."""
    bench = Quotas(b"count=3,bytes==")
    assert bench.make(b"/q/b") == Err.MARSHALLING_ERROR
    assert bench.set(LIMITS, b"count=9,bytes=-1") == bench.set(STATS, b"count=1,bytes=1") == bench.make(b"/q/b") == 0
    assert bench.stats() == b"count=2,bytes=1"
    bench.allow = Allow.NOTHING
    assert bench.set(STATS, b"rubbish") == bench.make(b"/q/c") == 0
    assert bench.stats() == b"rubbish"
    assert bench.delete(STATS) == bench.make(b"/q/d") == bench.make(STATS) == 0
    assert bench.stats() == b"count=5,bytes=8"


def test_the_nearest_quota_counts() -> None:
    """What is below an inner quota does not count to the outer one; a quota without limits any more counts nothing; one
    on the root there is not."""
    bench = Quotas(b"count=-1,bytes=-1")
    for path, value in (
        (b"/q/m", b""), (b"/zookeeper/quota/q/m", b""), (b"/zookeeper/quota/q/m/zookeeper_limits", b""),
        (b"/zookeeper/quota/q/m/zookeeper_stats", b""), (b"/q/m/1", b"xx"), (b"/q/n", b""),
        (b"/zookeeper/quota/zookeeper_limits", b"count=1"), (b"/zookeeper/quota/zookeeper_stats", b"here"),
    ):  # fmt: skip
        assert bench.make(path, value) == 0
    assert bench.stats() == b"count=4,bytes=8"
    assert bench.stats(b"/zookeeper/quota/q/m/zookeeper_stats") == b"count=2,bytes=2"
    assert bench.stats(b"/zookeeper/quota/zookeeper_stats") == b"here"
    assert bench.delete(b"/zookeeper/quota/q/m/zookeeper_limits") == bench.make(b"/q/m/2") == 0
    assert bench.stats(b"/zookeeper/quota/q/m/zookeeper_stats") == b"count=2,bytes=2"
    assert bench.stats() == b"count=5,bytes=8"
    assert bench.machine.tree.quotas == {b"/q": None}


def test_a_multi_is_counted_step_by_step() -> None:
    """Each step is held against what the steps before it left, and a failing multi gives everything back. (3.8.0 holds
    all steps against what was there before the multi, and so lets limits be passed.)"""
    bench = Quotas(b"count=-1,bytes=-1=;countHardLimit=3")
    before = bench.machine.tree.sum, bench.machine.tree.size
    found = bench.call(bench.me, Op.MULTI, several(*((Op.CREATE, create(b"/q/m%d" % each, b"x")) for each in range(3))))
    assert [err for _kind, err, _body in results(found.body)] == [0, Err.QUOTA_EXCEEDED, Err.RUNTIME_INCONSISTENCY]
    assert (bench.machine.tree.sum, bench.machine.tree.size) == before
    for steps in (
        [(Op.CREATE, create(b"/zookeeper/quota/p")), (Op.CREATE, create(b"/zookeeper/quota/p/zookeeper_limits"))],
        [(Op.DELETE, path_version(LIMITS))],
        [(Op.DELETE, path_version(STATS)), (Op.CREATE, create(STATS))],
    ):
        bench.call(bench.me, Op.MULTI, several(*steps, (Op.DELETE, path_version(b"/none"))))
        assert bench.machine.tree.quotas == {b"/q": None}
        assert bench.stats() == b"count=2,bytes=8"
        assert (bench.machine.tree.sum, bench.machine.tree.size) == before
    swap = several((Op.DELETE, path_version(b"/q/a")), (Op.CREATE, create(b"/q/b", b"1")))
    assert bench.call(bench.me, Op.MULTI, swap).err == 0
    assert bench.stats() == b"count=2,bytes=4"


def test_quotas_survive_a_snapshot() -> None:
    """A restored tree knows its quotas, and its sums are those from scratch."""
    bench = Quotas(b"count=-1,bytes=-1=;countHardLimit=3")
    bench.make(b"/q/b", b"x")
    restored = ZnodesMachine()
    restored.restore_chunks(bench.machine.snapshot_chunks(), 1)
    assert restored.tree.quotas == {b"/q": None}
    for tree in (bench.machine.tree, restored.tree):
        assert tree.sum == sum(content_of(node) + family_of(node) for path, node in tree.nodes.items() if path)
        assert tree.size == sum(len(node.value or b"") for path, node in tree.nodes.items() if path)
    bench.machine = restored
    assert bench.make(b"/q/c") == Err.QUOTA_EXCEEDED


def test_check_by_itself() -> None:
    """No limit, an unknown one and -1 refuse nothing; only what grows is looked at."""
    for limits in (None, b"", b"count=1,bytes=1", b"count=-1,bytes=-1=;countHardLimit=-1"):
        quotas.check(limits, b"count=9,bytes=9", 1, 1)
    quotas.check(b"count=-1,bytes=-1=;byteHardLimit=1", b"count=9,bytes=9", 1, 0)
    with pytest.raises(Fault):
        quotas.check(b"count=-1,bytes=-1=;byteHardLimit=1", b"count=9,bytes=9", 0, 1)
