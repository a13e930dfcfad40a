"""What a Python user gets: kazoo on our cell beside kazoo on ZooKeeper, our own client doing the same work, and the
Python clients of etcd and PySyncObj.

    python bench/python_user.py --rivals DIR [--ops set,get,lock] [--modes one,threads8,async64] [--rounds 3]
                                [--seconds 4] [--only kazoo/ours,kazoo/zookeeper,...]

DIR is a built folder of the rivals: its ``cells.py`` starts their servers, its ``pyload.py`` is what their clients are
measured with, in the virtual environments ``venv`` and ``venv-etcd3`` beside it. All servers are three replicas with
their data on one disk. In each round every client is measured once, so that a ratio is never taken across a change of
the machine's mood. A client that cannot be had, or has no such operation, has no row, and is named below the table.

`one`: one call at a time. `threads8`: eight threads share a client. `async64`: 64 calls on their way.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cell import file_system, hosts, running

HERE = Path(__file__).parent
VALUES = ("--machine", "values:Values", "--allow", "values:Values")
MACHINES = ("--machine", "znodes", "--machine", "locks", *VALUES)
BASE = "kazoo/zookeeper"
"""What ratios are to."""


class Contender(NamedTuple):
    """One client. `command` gives its command line for (operation, mode); None where it has none."""

    name: str
    command: Callable[[str, str], list[str] | None]
    pids: list[int]


def contenders(rivals: Path, opened: contextlib.ExitStack) -> Iterator[Contender]:
    """Every client, its servers running."""
    cells = importlib.import_module("cells")
    python, load = str(rivals / "venv/bin/python"), str(rivals / "pyload.py")

    def rival(name: str) -> dict[str, Any]:
        opened.callback(cells.stop, name)
        found: dict[str, Any] = cells.start(name)
        return found

    def follower(doors: list[str]) -> list[str]:
        """The doors, one first that does not lead: what most clients of a cell have."""
        return sorted(doors, key=lambda door: "Mode: leader" in cells.four(door, "srvr"))

    def kazoo(doors: list[str]) -> Callable[[str, str], list[str] | None]:
        where = ",".join(follower(doors))
        return lambda op, mode: [python, load, "kazoo", "--hosts", where, "--op", op, "--mode", _mode(mode)]

    def own(doors: str, door: str, *words: str) -> Callable[[str, str], list[str] | None]:
        base = [sys.executable, str(HERE / "own_user.py"), "--rivals", str(rivals), "--hosts", doors, *words]

        def command(op: str, mode: str) -> list[str] | None:
            if (words and op != "get") or ((door == "asyncio") != (mode == "async64") and mode != "one"):
                return None
            return [*base, "--op", op, "--mode", "async1" if (door, mode) == ("asyncio", "one") else _mode(mode)]

        return command

    def etcd(kind: str, environment: str, doors: list[str], modes: tuple[str, ...]) -> Contender:
        base = [str(rivals / environment / "bin/python"), load, kind, "--hosts", ",".join(doors)]
        ops = {"set": "put", "get": "get"}

        def command(op: str, mode: str) -> list[str] | None:
            return [*base, "--op", ops[op], "--mode", _mode(mode)] if op in ops and mode in modes else None

        return Contender(f"{kind}/etcd", command, etcd_cell["pids"])

    cell = opened.enter_context(running(3, words=MACHINES))
    pids = [replica["pid"] for replica in cell["replicas"]]
    native = ",".join(replica["client"] for replica in cell["replicas"])
    yield Contender("kazoo/ours", kazoo(hosts(cell).split(",")), pids)
    yield Contender("own blocking", own(native, "blocking"), pids)
    yield Contender("own asyncio", own(native, "asyncio"), pids)
    yield Contender("own blocking, local reads", own(native, "blocking", "--local"), pids)
    yield Contender("own asyncio, local reads", own(native, "asyncio", "--local"), pids)
    zookeeper = rival("zk3")
    yield Contender(BASE, kazoo(zookeeper["hosts"]), zookeeper["pids"])
    etcd_cell = rival("etcd3")
    yield etcd("etcd3", "venv-etcd3", etcd_cell["hosts"], ("one", "threads8"))
    yield etcd("etcetra", "venv", etcd_cell["hosts"], ("one", "async64"))
    journal = opened.enter_context(tempfile.TemporaryDirectory(prefix="pysyncobj-", dir="."))

    def pysyncobj(op: str, mode: str) -> list[str] | None:
        if op == "lock" or mode == "threads8":
            return None
        way = "leader-async64" if mode == "async64" else "leader-sync"
        if op == "get" and mode == "async64":
            return None
        return [python, load, "pysyncobj", "--journal", str(Path(journal) / "j"), "--fast", "--op", op, "--mode", way]

    yield Contender("PySyncObj", pysyncobj, [])


def _mode(mode: str) -> str:
    return "sync1" if mode == "one" else mode


def measure(options: argparse.Namespace, argv: list[str], pids: list[int]) -> dict[str, Any] | str:
    """The figures of one run, or why there are none."""
    argv = [*argv, "--size", "100", "--seconds", str(options.seconds), "--warmup", str(options.warmup)]
    argv += ["--pids", ",".join(map(str, pids))]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=options.seconds + 60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no words"])[-1]
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if figures["errors"] or not figures["ops"]:
        return f"{figures['errors']} errors: {figures['err_texts']}"
    return figures


def compare(options: argparse.Namespace, who: list[Contender], op: str, mode: str) -> None:
    """One table's rows."""
    commands = {each.name: (each.command(op, mode), each.pids) for each in who}
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name, (argv, _) in commands.items() if argv}
    failed: dict[str, str] = {}
    for number in range(options.rounds):
        for name in list(seen)[:: 1 if number % 2 else -1]:
            argv, pids = commands[name]
            assert argv is not None
            found = measure(options, argv, pids)
            if isinstance(found, str):
                failed[name] = found
                del seen[name]
                continue
            seen[name].append(found)
            if options.json:
                print(json.dumps({"who": name, **found}), file=sys.stderr, flush=True)
    base = [run["ops_per_s"] for run in seen.get(BASE, ())]
    for name, runs in seen.items():
        ratios = [run["ops_per_s"] / against for run, against in zip(runs, base, strict=False)]
        middle = {key: statistics.median(run[key] for run in runs) for key in FIGURES}
        ratio = f"{statistics.median(ratios):.2f}" if ratios else "-"
        servers = f"{middle['server_cpu_us_per_op']:.0f}" if commands[name][1] else "-"
        row = (
            op,
            mode,
            name,
            f"{middle['ops_per_s']:.0f}",
            ratio,
            f"{middle['p50_ms']:.2f}",
            f"{middle['p99_ms']:.1f}",
        )
        print("| " + " | ".join((*row, f"{middle['client_cpu_us_per_op']:.0f}", servers)) + " |", flush=True)
    for name, reason in failed.items():
        print(f"{op} {mode}: {name} could not be measured: {reason}", flush=True)
    if left := [name for name, (argv, _) in commands.items() if not argv]:
        print(f"{op} {mode}: not measured, having no such thing: {', '.join(left)}", flush=True)


FIGURES = ("ops_per_s", "p50_ms", "p99_ms", "client_cpu_us_per_op", "server_cpu_us_per_op")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", required=True)
    parser.add_argument("--ops", default="set,get,lock")
    parser.add_argument("--modes", default="one,threads8,async64")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--warmup", type=float, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rivals = Path(options.rivals).resolve()
    sys.path.insert(0, str(rivals))
    only = options.only.split(",") if options.only else ()
    with contextlib.ExitStack() as opened:
        who = [each for each in contenders(rivals, opened) if not only or each.name in only]
        print(file_system("."))
        heads = ("op", "calls", "who", "a second", "to kazoo/zookeeper", "p50 ms", "p99 ms", "client us", "servers us")
        print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        for op in options.ops.split(","):
            for mode in options.modes.split(","):
                compare(options, who, op, mode)


if __name__ == "__main__":
    main()
