"""Go through small worlds exhaustively, from the command line::

    python -m quorate.kernel.testing.explore --list                 the scopes, and what may happen in them
    python -m quorate.kernel.testing.explore "one leader"           this one
    python -m quorate.kernel.testing.explore --full                 all of them, the large ones too, on all cores

A broken promise is told with a shortest way to it, and gives exit status 1; a scope that is not complete when its time
is over gives 2. One line of figures for each scope goes to standard output (JSON with --json).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Iterable, Iterator

from .explorer import Explorer
from .explorer_scope import Report, Scope
from .explorer_scopes import FULL, SMALL


def explore(job: tuple[Scope, float]) -> Report:
    """Explore a scope for so many seconds at most."""
    scope, seconds = job
    return Explorer(scope).run(seconds=seconds)


def explore_all(scopes: Iterable[Scope], jobs: int, seconds: float) -> Iterator[Report]:
    """Explore scopes, on `jobs` processes."""
    work = [(scope, seconds) for scope in scopes]
    if jobs == 1 or len(work) == 1:
        yield from map(explore, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(explore, work)


def line(report: Report) -> str:
    """A report's figures, on one line."""
    end = "broken" if report.failure else "complete" if report.complete else "not complete"
    return (
        f"{report.scope}: {end}, {report.states} states, {report.transitions} transitions, depth {report.depth}, "
        f"{report.members} states of members, {report.executed} steps by the real code, {report.seconds:.1f} s, "
        f"{report.rate:.0f} states/s, {len(report.decided)} logs decided"
    )


def figures(report: Report) -> str:
    """The same as JSON."""
    facts = {key: value for key, value in report._asdict().items() if key != "decided"}
    return json.dumps({**facts, "decided": len(report.decided), "rate": round(report.rate)})


def main(argv: list[str] | None = None) -> int:
    """The command; see the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m quorate.kernel.testing.explore", description="Go through small worlds exhaustively."
    )
    parser.add_argument("names", nargs="*", metavar="SCOPE", help="scopes to explore; by default all small ones")
    parser.add_argument("--list", action="store_true", help="print the scopes")
    parser.add_argument("--full", action="store_true", help="explore all scopes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of processor time for each scope, at most")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes, by default all cores")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(argv)
    known = {scope.name: scope for scope in (*SMALL, *FULL)}
    if arguments.list:
        sys.stdout.write("".join(f"{scope}\n" for scope in known.values()))
        return 0
    unknown = [name for name in arguments.names if name not in known]
    if unknown:
        parser.error(f"no scope is called {unknown[0]!r}; --list prints them")
    chosen = [known[name] for name in arguments.names] or [*SMALL, *(FULL if arguments.full else ())]
    broken = unfinished = False
    for report in explore_all(chosen, arguments.jobs, arguments.seconds):
        sys.stdout.write((figures(report) if arguments.json else line(report)) + "\n")
        if report.failure and not arguments.json:
            sys.stdout.write("".join(f"  {words}\n" for words in (*report.trace, report.failure)))
        sys.stdout.flush()
        broken |= bool(report.failure)
        unfinished |= not report.complete
    return 1 if broken else 2 if unfinished else 0


if __name__ == "__main__":
    sys.exit(main())
