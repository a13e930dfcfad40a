"""1,000,000 sets over 10,000 nodes: does the journal stay short, memory flat, and a restart quick?

    python bench/million.py [--sets 1000000] [--nodes 10000]

The load comes through kazoo's asynchronous calls. Exit status 1 if a bound of the page docs/explanation/performance
is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Any

from cell import QUORATE, file_system, hosts, rss, running, status
from kazoo.client import KazooClient


def journal_bytes(cell: dict[str, Any]) -> list[int]:
    """Disk taken by each replica's directory, in bytes as allocated."""
    return [sum(f.stat().st_blocks * 512 for f in Path(r["dir"]).rglob("*") if f.is_file()) for r in cell["replicas"]]


def write(client: KazooClient, nodes: int, start: int, stop: int) -> None:
    """Sets number `start` to `stop`, at most 512 unanswered."""
    waiting: deque[Any] = deque()
    for number in range(start, stop):
        waiting.append(client.set_async(f"/m/{number % nodes:05d}", b"%0100d" % number))
        if len(waiting) >= 512:
            waiting.popleft().get(timeout=60)
    while waiting:
        waiting.popleft().get(timeout=60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=1_000_000)
    parser.add_argument("--nodes", type=int, default=10_000)
    options = parser.parse_args()
    failed = False
    with running(3) as cell:
        print(file_system(cell["dir"]))
        client = KazooClient(hosts(cell), timeout=30)
        client.start(timeout=20)
        client.ensure_path("/m")
        for made in [client.create_async(f"/m/{n:05d}", b"") for n in range(options.nodes)]:
            made.get(timeout=60)
        pids = [r["pid"] for r in cell["replicas"]]
        tenth = options.sets // 10
        began = time.monotonic()
        write(client, options.nodes, 0, tenth)
        early = [rss(pid) for pid in pids]
        print(f"after {tenth}: RSS {[b >> 20 for b in early]} MiB, disk {[b >> 20 for b in journal_bytes(cell)]} MiB")
        write(client, options.nodes, tenth, options.sets)
        late = [rss(pid) for pid in pids]
        took = time.monotonic() - began
        print(
            f"after {options.sets}: RSS {[b >> 20 for b in late]} MiB, "
            f"disk {[b >> 20 for b in journal_bytes(cell)]} MiB"
        )
        growth = [b / a for a, b in zip(early, late, strict=True)]
        print(f"{options.sets / took:.0f} sets/s by one kazoo client; RSS grew by {[round(g, 2) for g in growth]}")
        failed |= max(growth) > 1.2
        report = status(cell)
        assert report is not None
        print("longest turns, ms:", [r.get("longest_turn_ms") for r in report["replicas"]])
        for replica in cell["replicas"]:
            index = str(replica["index"])
            subprocess.run([*QUORATE, "cell", "kill", index, "--dir", cell["dir"]], check=True)
            subprocess.run([*QUORATE, "cell", "stop", index, "--dir", cell["dir"]], check=True)
            start = time.monotonic()
            subprocess.run([*QUORATE, "cell", "start", index, "--dir", cell["dir"]], check=True)
            seconds = time.monotonic() - start
            print(f"replica {index} serves again {seconds:.1f} s after its start")
            failed |= seconds > 5
        value, _ = client.get(f"/m/{(options.sets - 1) % options.nodes:05d}")
        failed |= int(value) != options.sets - 1
        client.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
