"""``quorate lock``: what a shell script relies on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cell

LOCK = [sys.executable, "-P", "-m", "quorate.kernel.cli", "lock"]


def wait_until(what: Callable[[], bool]) -> None:
    """Poll until `what()` is true."""
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def holding(shared_cell: Any, name: str, started: Path, *options: str) -> subprocess.Popen[str]:
    """A ``quorate lock`` whose program has begun to run; it runs until it gets SIGTERM."""
    script = (
        f"trap 'echo ended > {started}; exit 3' TERM; echo $QUORATE_TOKEN > {started}; while :; do sleep 0.05; done"
    )
    process = subprocess.Popen(
        [*LOCK, name, "--at", shared_cell.at, *options, "--", "bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: started.exists() and started.read_text() != "")
    return process


def test_the_programs_status_is_passed_on(shared_cell: Any, quorate: Any) -> None:
    """Its output and its status; its arguments too, whatever they look like; the token in its environment, growing."""
    tokens = []
    for _ in range(2):
        done = quorate(
            "lock", "line", "--at", shared_cell.at, "--", "sh", "-c", "echo $QUORATE_TOKEN $1; exit 7", "x", "--y"
        )
        assert done.returncode == 7, done.stderr
        token, argument = done.stdout.split()
        assert argument == "--y"
        tokens.append(int(token))
    assert tokens[0] < tokens[1]


def test_a_held_lock_is_waited_for_or_not(shared_cell: Any, quorate: Any, tmp_path: Path) -> None:
    """--wait 0 fails at once with words; the holder is not disturbed; told to end, it ends its program first."""
    process = holding(shared_cell, "busy", tmp_path / "started")
    done = quorate("lock", "busy", "--wait", "0", "--at", shared_cell.at, "--", "echo", "hi")
    assert (done.returncode, done.stdout) == (1, "")
    assert "not free" in done.stderr
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    assert (tmp_path / "started").read_text() == "ended\n"
    done = quorate("lock", "busy", "--wait", "10", "--at", shared_cell.at, "--", "echo", "hi")
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert process.stderr is not None
    process.stderr.close()


def test_a_broken_lock_ends_the_program_with_75(shared_cell: Any, quorate: Any, tmp_path: Path) -> None:
    """On loss the program gets SIGTERM, and the status says: try again."""
    process = holding(shared_cell, "broken", tmp_path / "started")
    assert quorate("call", "locks.break_lock", "broken", "maintenance", "--at", shared_cell.at).stdout == "1\n"
    _, said = process.communicate(timeout=20)
    assert process.returncode == 75
    assert "maintenance" in said
    assert (tmp_path / "started").read_text() == "ended\n"


def test_a_frozen_holder_loses_it(shared_cell: Any, quorate: Any, tmp_path: Path) -> None:
    """Frozen for longer than its session lives, it finds the lock lost when it wakes; another had it meanwhile."""
    process = holding(shared_cell, "frozen", tmp_path / "started", "--session", "1")
    process.send_signal(signal.SIGSTOP)
    first = int((tmp_path / "started").read_text())
    done = quorate("lock", "frozen", "--at", shared_cell.at, "--", "sh", "-c", "echo $QUORATE_TOKEN")
    assert int(done.stdout) > first
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 75, said
    assert (tmp_path / "started").read_text() == "ended\n"


def test_programs_that_cannot_be_run(shared_cell: Any, quorate: Any, tmp_path: Path) -> None:
    """The shells' own statuses, 127 and 126, and words instead of a traceback."""
    (tmp_path / "plain").write_text("")
    for program, status in (("/no/such/program", 127), (str(tmp_path / "plain"), 126)):
        done = quorate("lock", "line", "--at", shared_cell.at, "--", program)
        assert done.returncode == status
        assert program in done.stderr
        assert "Traceback" not in done.stderr
