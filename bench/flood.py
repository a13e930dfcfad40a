"""Saturate a cell with writes and watch whether leadership flaps.

    python bench/flood.py --load DIR [--seconds 60]

DIR holds ``bin/zkraw`` (the lean ZooKeeper-protocol load generator). Exit status 1 if the leader changed.
"""

from __future__ import annotations

import argparse

from cell import file_system, hosts, running, status
from load import load


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--load", required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--outstanding", type=int, default=64)
    options = parser.parse_args()
    with running(3) as cell:
        print(file_system(cell["dir"]))
        before = status(cell)
        figures = load(
            options.load,
            "set",
            hosts(cell),
            sessions=options.sessions,
            outstanding=options.outstanding,
            seconds=options.seconds,
            warmup=1,
        )
        after = status(cell)
    assert before is not None
    assert after is not None
    print({k: figures[k] for k in ("ops_per_s", "p50_ms", "p99_ms", "max_gap_ms", "errors") if k in figures})
    print(f"epoch before {before['epoch']}, after {after['epoch']}")
    return 0 if before["epoch"] == after["epoch"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
