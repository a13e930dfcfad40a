"""The same programs of requests against a real ZooKeeper and against a cell of ours: every reply, every Stat, every
event must be the same.

``QUORATE_SECONDS`` says for how long, ``QUORATE_FIRST_SEED`` from which program on. Differences that are meant are left
out of the programs (:class:`reference.asking.Leave`) and listed in docs/howto/use-zookeeper-clients.rst.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "znodes"))
sys.path.insert(0, str(Path(__file__).parent))

from comparing import Comparison, farewell, program
from membership import SUPER_DIGEST, conversation
from original import Original, classpath, shell, version
from quorate.kernel.cli.local import free_base

pytestmark = [
    pytest.mark.cell,
    pytest.mark.skipif(classpath() is None, reason="no ZooKeeper is installed to compare with"),
]
SECONDS = float(os.environ.get("QUORATE_SECONDS", "8"))
FIRST = int(os.environ.get("QUORATE_FIRST_SEED", "1"))
ROUND = 40.0
"""Seconds after which both begin anew: after a minute each deletes containers by itself, at its own time."""
STEPS = 40
TICK_MS = 500
OPTIONS = ("zookeeper.extended-types=true", f"zookeeper.tick={TICK_MS}", "zookeeper.max-session-timeout=60000")
QUORATE = [sys.executable, "-P", "-m", "quorate.kernel.cli"]


@contextmanager
def original(directory: Path, reconfig: str = "") -> Iterator[Comparison]:
    """A real ZooKeeper."""
    server = Original(directory / "zookeeper", TICK_MS, reconfig)
    try:
        yield Comparison([server.port])
    finally:
        server.stop()


@contextmanager
def ours(directory: Path, *more: str) -> Iterator[Comparison]:
    """A cell of three replicas."""
    base = free_base(3)
    words = [word for option in (*OPTIONS, *more) for word in ("--option", option)]
    command = [*QUORATE, "cell", "run", "--json", "--dir", str(directory / "cell"), "--port", str(base), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as cell:
        try:
            assert cell.stdout is not None
            assert json.loads(cell.stdout.readline())
            yield Comparison([base + index for index in range(3)])
        finally:
            cell.send_signal(signal.SIGTERM)


def equal(seed: int, expected: list[str], found: list[str]) -> None:
    """The same was heard, line by line."""
    for number, (theirs, mine) in enumerate(zip(expected, found, strict=False)):
        before = "\n  ".join(found[max(0, number - 3) : number])
        assert mine == theirs, f"program {seed}, other than ZooKeeper {version()}; before:\n  {before}"
    assert len(found) == len(expected)


@pytest.mark.timeout(0)
def test_a_cell_answers_as_the_original_does(tmp_path: Path) -> None:
    """Program after program, until the time is over."""
    until = time.monotonic() + SECONDS
    seeds = count(FIRST)
    for number in count():
        if time.monotonic() >= until:
            break
        directory = tmp_path / str(number)
        with original(directory) as theirs, ours(directory) as mine:
            end = min(until, time.monotonic() + ROUND)
            done = 0
            while not done or time.monotonic() < end:
                seed = next(seeds)
                steps = program(seed, STEPS)
                equal(seed, theirs.run(steps), mine.run(steps))
                done += 1


def test_a_session_expires_as_in_the_original(tmp_path: Path) -> None:
    """A client falls silent: the others hear of each of its nodes, in no time too early and about when the original
    tells them."""
    with original(tmp_path) as theirs, ours(tmp_path) as mine:
        expected, after = farewell(theirs, 2 * TICK_MS)
        found, later = farewell(mine, 2 * TICK_MS)
    assert found == expected
    for seconds in (after, later):
        assert 2 * TICK_MS / 1000 <= seconds < 8 * TICK_MS / 1000


def test_the_originals_shell_shows_the_same(tmp_path: Path) -> None:
    """What ZooKeeper's own command line, which is its Java client, prints of one and of the other."""
    with original(tmp_path) as theirs, ours(tmp_path) as mine:
        expected, found = (shell(",".join(f"127.0.0.1:{port}" for port in each.ports)) for each in (theirs, mine))
    assert "Node already exists: /shell" in expected
    assert found == expected


def test_membership_is_told_and_changed_as_in_the_original(tmp_path: Path) -> None:
    """What /zookeeper/config says and who may change it, every refusal of a reconfig, observers that come and go."""
    with (
        original(tmp_path, SUPER_DIGEST) as theirs,
        ours(tmp_path, "zookeeper.reconfig=true", f"zookeeper.super={SUPER_DIGEST}") as mine,
    ):
        expected, found = conversation(theirs), conversation(mine)
    equal(0, expected, found)
