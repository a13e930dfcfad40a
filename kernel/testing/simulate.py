"""Run simulations from the command line::

    python -m quorate.kernel.testing.simulate --seed 42 --trace     one seed, and what happened in it
    python -m quorate.kernel.testing.simulate --seeds 1000          so many seeds, from --first on
    python -m quorate.kernel.testing.simulate --seconds 3600        as many as fit, on all cores, fresh ones each time
    ... --deployed                                                  five replicas, twenty clients, the default times

A seed that breaks a promise prints its number, its settings and the end of its trace, and gives exit status 1; the same
number replays it exactly. Progress and figures go to standard error, one line of totals (JSON with --json) to standard
output.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import count, islice
from typing import Final, NamedTuple

from ..machine import StateMachine
from .faults import Fault, Plan
from .machines import Registers
from .simulation import Failed, Report, Settings, Simulation

MACHINES: Final = (
    "counters=quorate.plugins.counters.machine:CountersMachine",
    "locks=quorate.plugins.locks.machine:LocksMachine",
)
"""What a simulated cell runs beside registers, as name=module:class; what is not installed is left out."""


class Outcome(NamedTuple):
    """What one seed came to: a report, or the words of its failure."""

    seed: int
    wall: float
    report: Report | None
    failure: str


class Totals:
    """Figures over many seeds."""

    def __init__(self) -> None:
        self.seeds = self.operations = self.slots = self.leaders = self.moved = self.events = 0
        self.simulated = self.wall = self.slowest_recovery = 0.0
        self.failed: list[int] = []
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.boundaries: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.seeds += 1
        self.wall += outcome.wall
        report = outcome.report
        if report is None:
            self.failed.append(outcome.seed)
            return
        self.simulated += report.simulated
        self.operations += report.operations
        self.slots += report.slots
        self.events += report.events
        self.leaders += report.leaders
        self.moved += report.changes_of_leader > 0
        self.slowest_recovery = max(self.slowest_recovery, report.recovered_in)
        self.faults.update({kind.value: number for kind, number in report.faults.items()})
        self.counts.update(report.counts)
        self.boundaries.update(report.boundaries)

    def facts(self) -> Mapping[str, object]:
        """Everything, for people and programs."""
        return {
            "seeds": self.seeds,
            "failed": sorted(self.failed),
            "simulated_seconds": round(self.simulated, 1),
            "wall_seconds": round(self.wall, 1),
            "simulated_per_wall": round(self.simulated / self.wall, 1) if self.wall else 0,
            "events": self.events,
            "operations": self.operations,
            "slots": self.slots,
            "elections": self.leaders,
            "with_change_of_leader": self.moved,
            "slowest_recovery_seconds": round(self.slowest_recovery, 3),
            "faults": dict(sorted(self.faults.items())),
            "struck_before": dict(sorted(self.boundaries.items())),
            "counts": dict(sorted(self.counts.items())),
        }


def machines(specs: Iterable[str] = MACHINES) -> dict[str, type[StateMachine]]:
    """The machines to run, by name."""
    found: dict[str, type[StateMachine]] = {"registers": Registers}
    for spec in specs:
        name, _, place = spec.partition("=")
        module, _, kind = place.partition(":")
        try:
            found[name] = getattr(importlib.import_module(module), kind)
        except ModuleNotFoundError:
            continue
    return found


def run_seed(seed: int, deployed: bool = False) -> Outcome:
    """Run one seed; `deployed`: in a cell with the times of the defaults."""
    began = time.perf_counter()
    gc.disable()  # what a run leaves is collected once, behind it
    try:
        report = Simulation(Settings.deployed(seed) if deployed else seed, machines()).run()
        outcome = Outcome(seed, time.perf_counter() - began, report, "")
    except Failed as failed:
        outcome = Outcome(seed, time.perf_counter() - began, None, str(failed))
    finally:
        gc.enable()
    gc.collect(1)
    return outcome


def run_seeds(seeds: Iterable[int], jobs: int, until: float, deployed: bool = False) -> Iterator[Outcome]:
    """Run seeds, on `jobs` processes, until they end or the time is over."""
    run = partial(run_seed, deployed=deployed)
    if jobs == 1:
        for seed in seeds:
            if time.monotonic() > until:
                return
            yield run(seed)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, _quiet) as pool:
        for outcome in pool.imap_unordered(run, seeds):
            yield outcome
            if time.monotonic() > until:
                pool.terminate()
                return


def _quiet() -> None:
    logging.getLogger("quorate").setLevel(logging.ERROR)


def _one(seed: int, deployed: bool, faults: str | None, trace: bool) -> int:
    """Run one seed and tell about it."""
    settings = Settings.deployed(seed) if deployed else Settings.draw(seed)
    if faults is not None:
        kinds = tuple(Fault(word) for word in faults.split(",") if word)
        settings = settings._replace(plan=Plan(kinds, settings.plan.every))
    simulation = Simulation(settings, machines())
    try:
        report = simulation.run()
    except Failed as failed:
        sys.stdout.write("\n".join(failed.trace) + "\n" if trace else "")
        sys.stdout.write(f"{failed}\n")
        return 1
    if trace:
        sys.stdout.write("\n".join(simulation.world.trace_tail()) + "\n")
    for name, value in report._asdict().items():
        sys.stdout.write(f"{name}: {value}\n")
    return 0


def _many(arguments: argparse.Namespace) -> int:
    first = arguments.first if arguments.first is not None else int(time.time()) << 20
    seeds: Iterator[int] = count(first)
    if arguments.seeds is not None:
        seeds = islice(seeds, arguments.seeds)
    until = time.monotonic() + arguments.seconds if arguments.seconds is not None else float("inf")
    totals = Totals()
    told = began = time.monotonic()
    for outcome in run_seeds(seeds, arguments.jobs, until, arguments.deployed):
        totals.add(outcome)
        if outcome.failure:
            sys.stdout.write(f"{outcome.failure}\n\n")
            sys.stdout.flush()
        if time.monotonic() - told > 10:
            told = time.monotonic()
            sys.stderr.write(
                f"{totals.seeds} seeds in {told - began:.0f} s, newest {outcome.seed}, {totals.simulated:.0f} "
                f"simulated s, {totals.operations} operations, {len(totals.failed)} failed\n"
            )
    facts = totals.facts()
    if arguments.json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in facts.items()))
    return 1 if totals.failed else 0


def main(argv: list[str] | None = None) -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m quorate.kernel.testing.simulate", description="Simulate whole cells."
    )
    parser.add_argument("--seed", type=int, help="run this one and tell about it")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--faults", help="with --seed: these kinds instead of the seed's own, separated by commas")
    parser.add_argument("--deployed", action="store_true", help="five replicas, twenty clients, the default time-outs")
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--seconds", type=float, help="run as many as fit into so many seconds")
    parser.add_argument("--first", type=int, help="the first seed; by default one that was never used")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes, by default all cores")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")
    arguments = parser.parse_args(argv)
    _quiet()
    if arguments.seed is not None:
        return _one(arguments.seed, arguments.deployed, arguments.faults, arguments.trace)
    if arguments.seeds is None and arguments.seconds is None:
        parser.error("say --seed, --seeds or --seconds")
    return _many(arguments)


if __name__ == "__main__":
    sys.exit(main())
