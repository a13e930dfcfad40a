"""What the benchmarks share: a cell of real processes, started by the command line that users type."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

QUORATE = [sys.executable, "-m", "quorate.kernel.cli"]


@contextlib.contextmanager
def running(replicas: int, directory: str | None = None, words: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A local cell for the length of the block: the line that ``quorate cell run --json`` prints. Its data is thrown
    away afterwards unless `directory` is given. `words` go behind the command; machines may come from this folder."""
    with contextlib.ExitStack() as stack:
        place = directory or stack.enter_context(tempfile.TemporaryDirectory(prefix="quorate-bench-", dir="."))
        argv = [*QUORATE, "cell", "run", "--json", "--replicas", str(replicas), "--dir", str(Path(place).resolve())]
        process = subprocess.Popen([*argv, *words], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"the cell did not start (exit status {process.wait()})")
            cell: dict[str, Any] = json.loads(line)
            missing = [replica["trouble"] for replica in cell["replicas"] if "trouble" in replica]
            if missing:
                raise SystemExit(f"the cell runs without some of its replicas: {'; '.join(missing)}")
            yield cell
        finally:
            process.terminate()
            process.wait()


def status(cell: dict[str, Any]) -> dict[str, Any] | None:
    """The cell's status by the first replica that answers; None if none has a quorum."""
    for replica in cell["replicas"]:
        answer = subprocess.run(
            [*QUORATE, "status", "--json", "--at", replica["client"]], capture_output=True, text=True, check=False
        )
        if answer.returncode == 0:
            report: dict[str, Any] = json.loads(answer.stdout)
            return report
    return None


def hosts(cell: dict[str, Any]) -> str:
    """The ZooKeeper doors as a kazoo host string."""
    return ",".join(replica["zookeeper"] for replica in cell["replicas"])


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"process {pid} has no resident memory: it ended")


def file_system(path: str) -> str:
    """Type and device of the file system that holds `path`, as df prints them."""
    return subprocess.run(["df", "-T", path], capture_output=True, text=True, check=True).stdout.splitlines()[-1]
