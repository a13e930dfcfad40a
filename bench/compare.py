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
import subprocess
import sys
from typing import Any

from cell import file_system, hosts, running

POINTS = ((1, 1), (8, 1), (8, 32), (64, 8))


def measure(
    options: argparse.Namespace, op: str, sessions: int, outstanding: int, where: str, pids: list[int]
) -> dict[str, Any]:
    argv = [f"{options.rivals}/bin/{options.client}", "--hosts", where, "--op", op, "--size", "100"]
    argv += ["--sessions", str(sessions), "--outstanding", str(outstanding), "--pids", ",".join(map(str, pids))]
    argv += ["--seconds", str(options.seconds), "--warmup", "1.5"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}\n{done.stderr}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


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
            for where, pids in contenders.values():  # warm the JVM up, and ours for fairness
                for op in ("set", "get", "create"):
                    measure(argparse.Namespace(**{**vars(options), "seconds": 5}), op, 8, 32, where, pids)
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
                            figures = measure(options, op, sessions, outstanding, where, pids)
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
