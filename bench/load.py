"""The load generator on the ZooKeeper wire: how it is run, and what it tells."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any


def load(
    folder: str,
    op: str,
    hosts: str,
    *,
    sessions: int,
    outstanding: int,
    seconds: float,
    warmup: float,
    pids: Sequence[int] = (),
    program: str = "zkraw",
) -> dict[str, Any]:
    """Load the ZooKeeper doors `hosts` with `op` on values of 100 bytes: the figures that the generator prints.

    Args:
        folder: the generator is ``bin/PROGRAM`` below it.
        hosts: host:port each, with commas between; the sessions are dealt out to them in turn.
        outstanding: how many requests each session has on their way.
        seconds: how long it counts, after `warmup`.
        pids: the servers' processes, whose CPU time is to be told as well.
    """
    argv = [f"{folder}/bin/{program}", "--hosts", hosts, "--op", op, "--size", "100"]
    argv += ["--sessions", str(sessions), "--outstanding", str(outstanding)]
    argv += ["--seconds", str(seconds), "--warmup", str(warmup)]
    if pids:
        argv += ["--pids", ",".join(map(str, pids))]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures
