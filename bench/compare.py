"""Quorate beside a real ZooKeeper, in one run: operations per second on the ZooKeeper wire, and their ratio.

    python bench/compare.py --rivals DIR [--rounds 3] [--seconds 6] [--ops set,create,get] [--client zkraw]

DIR is a built folder of the load generators and their ``cells.py`` (which starts the three-node ZooKeeper ``zk3``).
Both cells stand on the same disk, real fsync on; each round measures one and at once the other, so that a ratio is
never taken across a change of the machine's mood. A single session is on a replica that does not lead, as most clients
of a cell are. Prints a table of medians and one JSON line a measurement with
--json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from functools import partial
from typing import Any

from cell import file_system, hosts, running
from load import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--ops", default="set,create,get")
    parser.add_argument("--client", default="zkraw")
    parser.add_argument("--points", default="1x1,8x1,8x32,64x8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, options.rivals)
    cells = importlib.import_module("cells")
    rival = cells.start("zk3")
    try:
        with running(3) as cell:
            print(file_system(cell["dir"]), "and", file_system(cells.RUN))

            def followers_first(doors: list[str]) -> str:
                return ",".join(sorted(doors, key=lambda door: "Mode: leader" in cells.four(door, "srvr")))

            contenders = {
                "zookeeper": (followers_first(rival["hosts"]), rival["pids"]),
                "quorate": (followers_first(hosts(cell).split(",")), [r["pid"] for r in cell["replicas"]]),
            }
            measure = partial(load, options.rivals, program=options.client, warmup=1.5)
            for where, pids in contenders.values():  # warm the JVM up, and ours for fairness
                for op in ("set", "get", "create"):
                    measure(op, where, pids=pids, sessions=8, outstanding=32, seconds=5)
            heads = (
                "op",
                "load",
                "zookeeper/s",
                "quorate/s",
                "ratio",
                "p50 ms",
                "p99 ms",
                "us/op zk",
                "us/op ours",
                "client us",
            )
            print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
            for op in options.ops.split(","):
                for point in options.points.split(","):
                    sessions, outstanding = map(int, point.split("x"))
                    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
                    for _ in range(options.rounds):
                        for name, (where, pids) in contenders.items():
                            figures = measure(
                                op,
                                where,
                                pids=pids,
                                sessions=sessions,
                                outstanding=outstanding,
                                seconds=options.seconds,
                            )
                            seen[name].append(figures)
                            if options.json:
                                print(json.dumps({"cell": name, **figures}), file=sys.stderr, flush=True)
                    print_row(op, point, seen["zookeeper"], seen["quorate"])
    finally:
        cells.stop("zk3")


def print_row(op: str, point: str, theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    def median(runs: list[dict[str, Any]], key: str) -> float:
        return statistics.median(run.get(key, 0) for run in runs)

    ratio = statistics.median(b["ops_per_s"] / a["ops_per_s"] for a, b in zip(theirs, ours, strict=True))
    cells = (
        op,
        point,
        f"{median(theirs, 'ops_per_s'):.0f}",
        f"{median(ours, 'ops_per_s'):.0f}",
        f"{ratio:.2f}",
        f"{median(theirs, 'p50_ms'):.2f} / {median(ours, 'p50_ms'):.2f}",
        f"{median(theirs, 'p99_ms'):.1f} / {median(ours, 'p99_ms'):.1f}",
        f"{median(theirs, 'server_cpu_us_per_op'):.0f}",
        f"{median(ours, 'server_cpu_us_per_op'):.1f}",
        f"{median(ours, 'client_cpu_us_per_op'):.1f}",
    )
    print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
