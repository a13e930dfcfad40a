"""Quorate's cells for a side-by-side benchmark that starts servers by command lines.

``CELLS`` maps a name to ``("cmd", replicas, first port, {"argv": f})``; ``f(i, n, port, directory)`` is the command
line of replica `i`: it serves ZooKeeper clients on 127.0.0.1:port+i, its peers on port+10+i and native clients on
port+20+i, keeps its data in `directory`, and answers ``srvr`` with a Mode line. The environment variable QUORATE names
the command to measure, if not the one that is installed for the Python that imports this.
"""

from __future__ import annotations

import os
import shlex
import sys

QUORATE = shlex.split(os.environ.get("QUORATE", "")) or [sys.executable, "-m", "quorate.kernel.cli"]


def replica(i: int, n: int, port: int, directory: str) -> list[str]:
    """The command line of replica `i` of `n`."""
    where = ["--index", str(i), "--replicas", str(n), "--port", str(port), "--dir", directory]
    return [*QUORATE, "replica", "--cell", f"bench-{n}-{port}", *where]


CELLS = {
    "own3": ("cmd", 3, 21900, {"argv": replica}),
    "own5": ("cmd", 5, 21940, {"argv": replica}),
    "own1": ("cmd", 1, 21980, {"argv": replica}),
}
