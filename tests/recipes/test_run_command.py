"""A program under a lock: its environment, its status, and its end when the lock is lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.client import aio
from quorate.recipes.lock import Lock
from quorate.recipes.run_command import LOST_STATUS, lock_command

PATIENT = """
import os, signal, sys, time
print(os.getpid(), file=open(sys.argv[1] + ".new", "w"))
os.rename(sys.argv[1] + ".new", sys.argv[1])
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
time.sleep(60)
"""


def python(text: str, *words: str) -> list[str]:
    return [sys.executable, "-c", text, *words]


def run(cell: Any, scenario: Callable[[Lock], Coroutine[Any, Any, Any]]) -> Any:
    """Run a scenario with a lock; afterwards nothing may be held."""

    async def whole() -> Any:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            result = await scenario(Lock(session, "nightly"))
            assert await session.query("locks", "names") == []
            return result

    return asyncio.run(asyncio.wait_for(whole(), 30))


def gone(path: Path) -> bool:
    """Whether the program that wrote its number there has ended."""
    return not Path(f"/proc/{path.read_text().strip()}").exists()


async def appears(path: Path) -> None:
    while not path.exists():
        await asyncio.sleep(0.005)


def test_status_and_environment(cell: Any, tmp_path: Path) -> None:
    """The program finds the token and the name, and its status is the result."""
    text = """
import os, sys
open(sys.argv[1], "w").write(os.environ["QUORATE_TOKEN"] + os.environ["QUORATE_LOCK"])
sys.exit(7)
"""

    async def scenario(lock: Lock) -> int:
        return await lock_command(lock, python(text, str(tmp_path / "out")))

    assert run(cell, scenario) == 7
    token = (tmp_path / "out").read_text().removesuffix("nightly")
    assert int(token) > 0


def test_status_of_a_signal(cell: Any) -> None:
    """A program that a signal ended has status 128 + n, as in a shell."""

    async def scenario(lock: Lock) -> int:
        return await lock_command(lock, python("import os; os.kill(os.getpid(), 9)"))

    assert run(cell, scenario) == 137


@pytest.mark.parametrize("manner", ["obedient", "deaf"])
def test_lost_lock_ends_the_program(cell: Any, tmp_path: Path, manner: str, capfd: pytest.CaptureFixture[str]) -> None:
    """When the lock is broken the program gets SIGTERM, and SIGKILL if it does not mind; the status says try again."""
    pid = tmp_path / "pid"

    async def scenario(lock: Lock) -> int:
        running = asyncio.ensure_future(lock_command(lock, python(PATIENT, str(pid), manner), kill_after=0.3))
        await appears(pid)
        await asyncio.sleep(0.1)
        await lock.break_("enough")
        status = await running
        assert gone(pid)
        return status

    assert run(cell, scenario) == LOST_STATUS == 75
    assert "enough" in capfd.readouterr().err


def test_jeopardy_ends_the_program(cell: Any, tmp_path: Path) -> None:
    """A program does not run on when its lock cannot be shown to be held any more."""
    pid = tmp_path / "pid"
    cell.expiring = False

    async def scenario() -> int:
        session = await aio.connect([cell.endpoint], timeout=0.4)
        running = asyncio.ensure_future(lock_command(Lock(session, "nightly"), python(PATIENT, str(pid), "obedient")))
        await appears(pid)
        cell.silent = True
        status = await running
        assert gone(pid)
        cell.silent = False
        await session.close()
        return status

    assert asyncio.run(asyncio.wait_for(scenario(), 30)) == LOST_STATUS


def test_cancelled(cell: Any, tmp_path: Path) -> None:
    """Who cancels it ends the program, with those that it started, before the lock is free."""
    pid = tmp_path / "pid"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PATIENT!r}, sys.argv[1], 'obedient'])"

    async def scenario(lock: Lock) -> None:
        running = asyncio.ensure_future(lock_command(lock, python(outer, str(pid))))
        await appears(pid)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while not gone(pid):
            await asyncio.sleep(0.005)

    run(cell, scenario)


def test_no_such_program(cell: Any) -> None:
    """A program that is not there is an OSError, and the lock is free again."""

    async def scenario(lock: Lock) -> None:
        with pytest.raises(FileNotFoundError):
            await lock_command(lock, ["/nonexistent/program"])

    run(cell, scenario)
