"""Faults on a cell of real processes under load, one after the other, for a given time.

    python tests/campaign/campaign.py --minutes 10 [--replicas 3] [--seed 1] [--only kill,wiped] [--directory DIR]
        [--partitions]

One line of JSON for each fault, a summary at the end; exit status 1 if anything was violated or came late. A seed
decides which faults come, whom they strike and how long they last; what happens then is up to the computer.

For each fault: `outage_ms`, the longest time without an acknowledged write from the fault until all was well again;
`recovery_ms`, from the moment of healing (the processes answer, the packets pass, the replicas have noticed that there
is room) to the next acknowledged write;
`rejoin_ms`, from there until every replica serves again.

A cell is owed its recovery within twice the time to a campaign and a lease: a voter campaigns at most a lease and the
campaign spread after it last heard of a leader, that is 500 ms with the standard timing, which makes 1,400 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from histories import Clients, Ground, Record, connected
from menu import Fault, Scene, menu
from networks import Network, enter, missing, network
from real_cell import TIMING, RealCell, wait_until

RECOVERY_MS: Final = 2 * (TIMING.lease_ms + TIMING.campaign_spread_ms) + TIMING.lease_ms
REJOIN_SECONDS: Final = 60.0
FAULTS_PER_CELL: Final = 25
"""After so many faults a fresh cell is begun, and everything in the old one is read once more."""


class Episode:
    """One cell from its founding to the last judgement."""

    def __init__(
        self, directory: Path, replicas: int, random: Random, tell: Any, network: Network | None = None
    ) -> None:
        self.random = random
        self.tell = tell
        self.violations: list[str] = []
        self.lines: list[dict[str, Any]] = []
        self.record = Record()
        self.cell = RealCell(directory, replicas, network=network)
        self.over = False
        """The cell lost a replica for good."""

    @contextlib.contextmanager
    def loaded(self) -> Iterator[None]:
        """The cell serves and clients work on it for the length of the block; then everything is judged."""
        cell = self.cell
        try:
            cell.start()
            self.ground = Ground(self.record, connected(cell.zookeepers))
            self.ground.begin_round(1)
            clients = Clients(self.record, cell.clients, cell.zookeepers, self.random)
            try:
                yield
            finally:
                clients.stop()
            self.violations += clients.failed
            self.violations += self.ground.last_reads([each.client for each in cell.replicas if not each.lost])
            self.violations += self.record.judge()
            self.violations += self.compare()
            self.ground.end()
        finally:
            cell.stop()

    def run(self, faults: Iterator[Fault], until: float) -> None:
        """Faults until it is `until`, or the cell has had enough."""
        with self.loaded():
            for fault in itertools.islice(faults, FAULTS_PER_CELL):
                self.strike(fault)
                if self.over or time.monotonic() > until:
                    break

    def strike(self, fault: Fault) -> None:
        """One fault, from the blow to the judgement of the round before."""
        self.ground.begin_round(self.record.round + 1)
        scene = Scene(self.cell, self.random)
        name = fault.__name__
        began = time.monotonic_ns()
        before = self.record.count()
        time.sleep(0.2)
        try:
            fault(scene)
            rejoin = wait_until(self.cell.whole, REJOIN_SECONDS, "not every replica serves again")
        except (TimeoutError, OSError, RuntimeError) as error:
            scene.wrong.append(f"{type(error).__name__}: {error}")
            rejoin = REJOIN_SECONDS
            self.over = True
        wait_until(lambda: self.record.first_after(scene.healed_at) is not None, REJOIN_SECONDS, "no write succeeds")
        recovered = self.record.first_after(scene.healed_at)
        assert recovered is not None
        self.over = self.over or any(each.lost for each in self.cell.replicas)
        wrong = [*scene.wrong, *self.record.judge({self.record.round - 1})]
        line = {
            "fault": name,
            "what": "; ".join(scene.words),
            "seconds": round((time.monotonic_ns() - began) / 1e9, 1),
            "outage_ms": self.record.gap(began, max(recovered, scene.healed_at)) // 1_000_000,
            "recovery_ms": (recovered - scene.healed_at) // 1_000_000,
            "rejoin_ms": round(rejoin * 1000),
            "operations": self.record.count() - before,
            "wrong": wrong,
        }
        self.lines.append(line)
        self.tell(line)
        self.violations += [f"{name}: {each}" for each in wrong]

    def compare(self) -> list[str]:
        """Whether all replicas have come to the same state."""
        found: list[Any] = []

        def same() -> bool:
            found[:] = [each.status() for each in self.cell.replicas if not each.lost]
            return all(found) and len({(each["applied"], each["digest"]) for each in found}) == 1

        try:
            wait_until(same, 20.0, "the replicas do not agree")
        except TimeoutError as error:
            return [f"{error}: {[each and (each['applied'], each['digest']) for each in found]}"]
        return [f"replica {each['member']}: {each['diverged']}" for each in found if each["diverged"]]


def endless(faults: list[Fault], random: Random) -> Iterator[Fault]:
    """All of them in a random order, again and again."""
    while True:
        yield from random.sample(faults, len(faults))


def summary(lines: list[dict[str, Any]], violations: list[str], cells: int, minutes: float) -> dict[str, Any]:
    """What came of it all."""
    recoveries = sorted(each["recovery_ms"] for each in lines)
    outages = sorted(each["outage_ms"] for each in lines)
    late = [f"{each['fault']}: {each['recovery_ms']} ms" for each in lines if each["recovery_ms"] > RECOVERY_MS]
    return {
        "minutes": round(minutes, 1),
        "cells": cells,
        "faults": len(lines),
        "by_kind": dict(sorted(Counter(each["fault"] for each in lines).items())),
        "operations": sum(each["operations"] for each in lines),
        "recovery_ms": {"median": _middle(recoveries), "longest": max(recoveries, default=None), "owed": RECOVERY_MS},
        "late": late,
        "outage_ms": {"median": _middle(outages), "longest": max(outages, default=None)},
        "violations": violations,
        "fine": not violations and not late,
    }


def _middle(numbers: list[int]) -> int | None:
    return numbers[len(numbers) // 2] if numbers else None


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--only", help="names of faults, separated by commas")
    parser.add_argument("--directory", type=Path, help="where the cells get a folder, kept if something is wrong")
    parser.add_argument("--partitions", action="store_true", help="also cut networks; needs namespaces, so mostly root")
    options = parser.parse_args()
    if options.partitions:
        why = missing()
        if why:
            parser.exit(0, f"skipped: {why}\n")
        enter()
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)
    faults = menu(options.partitions)
    if options.only:
        faults = [each for each in faults if each.__name__ in options.only.split(",")]
        if not faults:
            parser.error("there are: " + ", ".join(sorted({each.__name__ for each in menu(True)})))
    random = Random(options.seed)
    chosen = endless(faults, random)
    place = Path(tempfile.mkdtemp(prefix="quorate-campaign-", dir=options.directory))
    print(json.dumps({"seed": options.seed, "replicas": options.replicas, "in": str(place)}), flush=True)
    began = time.monotonic()
    until = began + options.minutes * 60
    lines: list[dict[str, Any]] = []
    violations: list[str] = []
    cells = 0
    with network(options.replicas) if options.partitions else contextlib.nullcontext() as net:
        while time.monotonic() < until:
            cells += 1
            directory = place / f"cell-{cells}"
            episode = Episode(directory, options.replicas, random, _print, net)
            episode.run(chosen, until)
            lines += episode.lines
            violations += episode.violations
            if not episode.violations:
                shutil.rmtree(directory)
    found = summary(lines, violations, cells, (time.monotonic() - began) / 60)
    print(json.dumps(found, indent=2))
    return 0 if found["fine"] else 1


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main())
