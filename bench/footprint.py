"""What a cell takes: seconds from the start to the first write, memory fresh and loaded, CPU for one operation; beside
a real ZooKeeper's, three replicas each.

    python bench/footprint.py --rivals DIR [--rounds 3] [--seconds 6]

DIR is a built folder of the rivals: its ``cells.py`` starts servers, its ``bin/zkraw`` is the load: 8 sessions with 32
requests on their way each. Loaded means: after some seconds of sets to warm up, and so many seconds of `set`, `create`
and `get` each. One cell runs at a time, and they take turns.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import shlex
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cells_local
from cell import QUORATE, file_system, rss
from kazoo.client import KazooClient
from load import load

CELLS = {"zookeeper": "zk3", "quorate": "own3"}
OPS = ("set", "create", "get")
WARM_SECONDS = 5.0
AT_ONCE = {"max_tries": -1, "delay": 0.01, "backoff": 1, "max_jitter": 0}
"""How a client tries again that must see a server as soon as it is there."""


def one(cells: Any, options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Start a cell on no data, measure it, and end it."""
    cell = CELLS[name]
    cells.stop(cell)
    begun = time.monotonic()
    found = cells.start(cell, wait=False)
    try:
        client = KazooClient(hosts=found["hosts"][0], timeout=10, connection_retry=AT_ONCE)
        client.start(60)
        client.create("/first", b"x")
        seconds = time.monotonic() - begun
        client.stop()
        client.close()
        cells.wait_ready(cell)
        time.sleep(1)
        pids = cells.info(cell)["pids"]
        figures: dict[str, Any] = {"first_write_s": seconds, "fresh": [rss(pid) >> 20 for pid in pids]}
        where = ",".join(found["hosts"])
        measure = partial(load, options.rivals, hosts=where, pids=pids, sessions=8, outstanding=32, warmup=0.5)
        measure(op="set", seconds=WARM_SECONDS)
        for op in OPS:
            told = measure(op=op, seconds=options.seconds)
            figures |= {op: told["server_cpu_us_per_op"], f"{op}s": told["ops"]}
        figures["loaded"] = [rss(pid) >> 20 for pid in pids]
        return figures
    finally:
        cells.stop(cell)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    options.rivals = str(Path(options.rivals).resolve())
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # it is refused every 10 ms until somebody listens
    os.environ.setdefault("QUORATE", shlex.join(QUORATE))
    sys.path.insert(0, options.rivals)
    cells = importlib.import_module("cells")
    cells.CELLS.update(cells_local.CELLS)
    print(file_system(cells.RUN))
    heads = ("cell", "first write, s", "fresh, MiB each", "loaded, MiB each", *(f"{op}, CPU us" for op in OPS))
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in CELLS}
    for number in range(options.rounds):
        for name in list(CELLS)[:: 1 if number % 2 else -1]:
            seen[name].append(one(cells, options, name))
            print(name, json.dumps(seen[name][-1]), file=sys.stderr, flush=True)
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for name, runs in seen.items():
        row = [name, f"{statistics.median(run['first_write_s'] for run in runs):.2f}"]
        for key in ("fresh", "loaded"):
            row.append(" to ".join(str(pick(size for run in runs for size in run[key])) for pick in (min, max)))
        row += [f"{statistics.median(run[op] for run in runs):.1f}" for op in OPS]
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
