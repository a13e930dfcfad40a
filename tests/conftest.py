"""What several parts of the tests share: cells of real processes, started by the command that users type."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

QUORATE = [sys.executable, "-P", "-m", "quorate.kernel.cli"]


class CellProcess:
    """``quorate cell run --json``: `facts` is the line it printed. Every replica serves then, unless one `may_miss`."""

    def __init__(self, directory: Path, *words: str, cwd: Path | None = None, may_miss: bool = False) -> None:
        self.directory = directory
        self.log = directory.with_name(directory.name + ".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*QUORATE, "cell", "run", "--json", "--dir", str(directory), *words],
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                cwd=cwd,
                # A shell's background jobs ignore Ctrl-C, and so would what they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"status {self.process.wait(30)}: {self.log.read_text()}")
        self.facts: Mapping[str, Any] = json.loads(line)
        trouble = [each["trouble"] for each in self.facts["replicas"] if "trouble" in each]
        if trouble and not may_miss:
            self.stop()
            raise AssertionError(trouble)

    @property
    def clients(self) -> list[str]:
        """The endpoints of the native protocol, by index."""
        return [each["client"] for each in self.facts["replicas"]]

    @property
    def zookeepers(self) -> list[str]:
        """The host:port of the ZooKeeper doors, by index."""
        return [each["zookeeper"] for each in self.facts["replicas"]]

    @property
    def at(self) -> str:
        """What --at takes."""
        return ",".join(self.clients)

    def order(self, verb: str, index: int) -> str:
        """``quorate cell VERB``; returns what it printed."""
        done = run("cell", verb, str(index), "--dir", str(self.directory))
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stop(self) -> str:
        """End the cell as Ctrl-C would; returns what it printed after its line."""
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=30)
        return rest


def run(*words: str, timeout: float = 60, **options: Any) -> subprocess.CompletedProcess[str]:
    """``quorate WORDS``, to its end."""
    return subprocess.run(
        [*QUORATE, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


@pytest.fixture(scope="session")
def quorate() -> Any:
    """The function that runs ``quorate`` with the words given and returns what came of it."""
    return run


@pytest.fixture(scope="session")
def shared_cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CellProcess]:
    """A cell of three that lives as long as the test session. Leave it serving, and use names of your own in it."""
    cell = CellProcess(tmp_path_factory.mktemp("shared") / "cell")
    yield cell
    cell.stop()


@pytest.fixture
def new_cell(tmp_path: Path) -> Iterator[Any]:
    """Start cells of one's own, that end with the test: ``new_cell(*words)``; again for one on the same folder."""
    started: list[CellProcess] = []

    def start(*words: str, name: str = "cell", **options: Any) -> CellProcess:
        started.append(CellProcess(tmp_path / name, *words, **options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()
        assert each.process.stdout is not None
        each.process.stdout.close()
