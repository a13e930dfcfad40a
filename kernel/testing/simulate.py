"""Run simulations from the command line::

    python -m quorate.kernel.testing.simulate --seed 42 --trace     one seed, and what happened in it
    python -m quorate.kernel.testing.simulate --seeds 1000          so many seeds, from --first on
    python -m quorate.kernel.testing.simulate --seconds 3600        as many as fit, on all cores, fresh ones each time
    ... --log FILE                                                  add a line for each seed; go on above its highest
    ... --mode deployed                                             another :class:`~.simulation.Mode`
    python -m quorate.kernel.testing.simulate --summary FILE        what a log comes to

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
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import count, islice
from pathlib import Path
from typing import Final

from ..machine import StateMachine
from .faults import Fault, Plan
from .ledger import FINE, Ledger, Outcome, Totals
from .machines import Alarms, Registers
from .simulation import Failed, Mode, Settings, Simulation

MACHINES: Final = (
    "counters=quorate.plugins.counters.machine:CountersMachine",
    "locks=quorate.plugins.locks.machine:LocksMachine",
)
"""What a simulated cell runs beside registers, as name=module:class; what is not installed is left out."""


def machines(specs: Iterable[str] = MACHINES) -> dict[str, type[StateMachine]]:
    """The machines to run, by name."""
    found: dict[str, type[StateMachine]] = {"registers": Registers, "alarms": Alarms}
    for spec in specs:
        name, _, place = spec.partition("=")
        module, _, kind = place.partition(":")
        try:
            found[name] = getattr(importlib.import_module(module), kind)
        except ModuleNotFoundError:
            continue
    return found


def run_seed(seed: int, mode: Mode = Mode.SWARM) -> Outcome:
    """Run one seed."""
    wall, cpu = time.perf_counter(), time.process_time()
    report, failure, verdict = None, "", FINE
    gc.disable()  # what a run leaves is collected once, behind it
    try:
        report = Simulation(Settings.of(mode, seed), machines()).run()
    except Failed as failed:
        failure, verdict = str(failed), failed.promise
    finally:
        gc.enable()
    gc.collect()
    return Outcome(seed, mode.value, time.perf_counter() - wall, time.process_time() - cpu, report, failure, verdict)


def run_seeds(seeds: Iterable[int], jobs: int, until: float, mode: Mode = Mode.SWARM) -> Iterator[Outcome]:
    """Run seeds, on `jobs` processes, until they end or the time is over; what is under way then is still finished."""
    if jobs == 1:
        for seed in seeds:
            if time.monotonic() > until:
                return
            yield run_seed(seed, mode)
        return
    seeds = iter(seeds)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _settle) as pool:
        running = {pool.submit(run_seed, seed, mode) for seed in islice(seeds, 2 * jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            if time.monotonic() < until:
                running |= {pool.submit(run_seed, seed, mode) for seed in islice(seeds, len(done))}
            for future in done:
                yield future.result()


def _settle() -> None:
    """Before the first run of a process: say little, and have what lasts never looked at for garbage again."""
    logging.getLogger("quorate").setLevel(logging.ERROR)
    machines()
    gc.freeze()


def _one(seed: int, mode: Mode, faults: str | None, trace: bool) -> int:
    """Run one seed and tell about it."""
    settings = Settings.of(mode, seed)
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
    ledger = Ledger(arguments.log) if arguments.log is not None else None
    first = arguments.first
    if ledger is not None:
        first = max(first or 1, ledger.next_seed())
        ledger.open()
    elif first is None:
        first = int(time.time()) << 20
    seeds: Iterator[int] = count(first)
    if arguments.seeds is not None:
        seeds = islice(seeds, arguments.seeds)
    until = time.monotonic() + arguments.seconds if arguments.seconds is not None else float("inf")
    totals = Totals()
    told = began = time.monotonic()
    for outcome in run_seeds(seeds, arguments.jobs, until, arguments.mode):
        totals.add(outcome)
        if ledger is not None:
            ledger.add(outcome)
        if outcome.failure:
            sys.stdout.write(f"{outcome.failure}\n\n")
            sys.stdout.flush()
        if time.monotonic() - told > 10:
            told = time.monotonic()
            sys.stderr.write(
                f"{totals.seeds} seeds in {told - began:.0f} s, newest {outcome.seed}, {totals.sums['simulated']:.0f} "
                f"simulated s, {totals.sums['operations']} operations, {len(totals.failed)} failed\n"
            )
    _tell(totals, arguments.json)
    return 1 if totals.failed else 0


def _tell(totals: Totals, as_json: bool) -> None:
    facts = totals.facts()
    if as_json:
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in facts.items()))


def main(argv: list[str] | None = None) -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m quorate.kernel.testing.simulate", description="Simulate whole cells."
    )
    parser.add_argument("--seed", type=int, help="run this one and tell about it")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happened")
    parser.add_argument("--faults", help="with --seed: these kinds instead of the seed's own, separated by commas")
    parser.add_argument("--mode", type=Mode, default=Mode.SWARM, help=", ".join(mode.value for mode in Mode))
    parser.add_argument("--seeds", type=int, help="run so many")
    parser.add_argument("--seconds", type=float, help="run as many as fit into so many seconds")
    parser.add_argument("--first", type=int, help="the first seed; by default one that was never used")
    parser.add_argument("--log", type=Path, metavar="FILE", help="add a line for each seed to this file")
    parser.add_argument("--summary", type=Path, metavar="FILE", help="run nothing, add up the lines of a log")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes, by default all cores")
    parser.add_argument("--json", action="store_true", help="print the totals as JSON")
    arguments = parser.parse_args(argv)
    _settle()
    try:
        if arguments.summary is not None:
            totals = Ledger(arguments.summary).totals()
            _tell(totals, arguments.json)
            return 1 if totals.failed else 0
        if arguments.seed is not None:
            return _one(arguments.seed, arguments.mode, arguments.faults, arguments.trace)
        if arguments.seeds is None and arguments.seconds is None:
            parser.error("say --seed, --seeds, --seconds or --summary")
        return _many(arguments)
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
