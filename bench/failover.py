"""Kill the leader again and again under a kazoo write load: what is lost, and how long do writes stand still?

    python bench/failover.py [--replicas 3] [--kills 20] [--clients 8]

Each client creates nodes with growing names and remembers those acknowledged. After each kill -9 of the leader the
supervisor brings the replica back; the next kill waits for it. At the end every acknowledged node must be there, and
every client must still have the session it began with. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import statistics
import threading
import time
from typing import Any

from cell import file_system, hosts, running, status
from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import ConnectionLoss, NodeExistsError, OperationTimeoutError, SessionExpiredError
from kazoo.retry import KazooRetry


class Writer(threading.Thread):
    """One kazoo client that creates /load/<name>-<n> for n = 0, 1, 2 ... and notes when each was acknowledged."""

    def __init__(self, name: str, addresses: str) -> None:
        super().__init__(name=name, daemon=True)
        self.acknowledged: list[str] = []
        self.times: list[float] = []
        self.lost = 0
        self.stopping = threading.Event()
        self.client = KazooClient(
            addresses, timeout=10, connection_retry=KazooRetry(max_tries=-1, delay=0.02, backoff=1.3, max_delay=0.2)
        )
        self.client.add_listener(self._listen)
        self.client.start(timeout=20)
        self.session = self.client.client_id

    def _listen(self, state: str) -> None:
        if state == KazooState.LOST and not self.stopping.is_set():
            self.lost += 1

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            path = f"/load/{self.name}-{number:08d}"
            try:
                self.client.create(path, b"x" * 100)
            except NodeExistsError:  # the reply of an earlier try was lost with its connection
                pass
            except (ConnectionLoss, OperationTimeoutError):
                time.sleep(0.005)
                continue
            except SessionExpiredError:
                self.lost += 1
                continue
            self.acknowledged.append(path.rsplit("/", 1)[1])
            self.times.append(time.monotonic())
            number += 1


def gap_around(writers: list[Writer], start: float, end: float) -> float:
    """The longest time between `start` and `end` in which no writer was acknowledged anything."""
    times = sorted(t for w in writers for t in list(w.times) if start - 1 <= t <= end)
    return max((b - a for a, b in itertools.pairwise(times) if b >= start), default=end - start)


def settled(cell: dict[str, Any], replicas: int, deadline: float) -> dict[str, Any]:
    """Wait until every replica serves and one leads."""
    while time.monotonic() < deadline:
        report = status(cell)
        if report and report["leader"] and len([r for r in report["replicas"] if r.get("pid")]) == replicas:
            return report
        time.sleep(0.1)
    raise SystemExit(f"the cell did not settle: {report}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    with running(options.replicas) as cell:
        print(f"{options.replicas} replicas on {file_system(cell['dir'])}")
        writers = [Writer(f"w{i}", hosts(cell)) for i in range(options.clients)]
        writers[0].client.ensure_path("/load")
        for writer in writers:
            writer.start()
        gaps = []
        for kill in range(options.kills):
            report = settled(cell, options.replicas, time.monotonic() + 60)
            leader = next(r for r in report["replicas"] if r["id"] == report["leader"])
            time.sleep(1.0)
            killed = time.monotonic()
            os.kill(leader["pid"], signal.SIGKILL)
            time.sleep(4.0)
            gaps.append(gap_around(writers, killed, time.monotonic()))
            print(
                f"kill {kill + 1:2d}: leader {leader['id']} (pid {leader['pid']}), gap {gaps[-1] * 1000:.0f} ms",
                flush=True,
            )
        settled(cell, options.replicas, time.monotonic() + 60)
        for writer in writers:
            writer.stopping.set()
            writer.join(30)
        reader = writers[0].client
        reader.sync("/load")
        there = set(reader.get_children("/load"))
        missing = [name for writer in writers for name in writer.acknowledged if name not in there]
        moved = [w.name for w in writers if w.client.client_id is None or w.client.client_id[0] != w.session[0]]
        lost = sum(w.lost for w in writers)
        total = sum(len(w.acknowledged) for w in writers)
        for writer in writers:
            writer.client.stop()
    milliseconds = sorted(round(g * 1000) for g in gaps)
    print(f"gaps in acknowledged writes, ms: {milliseconds}")
    print(f"median {statistics.median(milliseconds):.0f} ms, longest {milliseconds[-1]} ms")
    print(f"{total} writes acknowledged, {len(missing)} missing, {lost} sessions lost, {len(moved)} sessions changed")
    return 1 if missing or lost or moved else 0


if __name__ == "__main__":
    raise SystemExit(main())
