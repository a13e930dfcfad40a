"""The ledger of a long campaign: one line of JSON for each seed that was run, and what they come to.

A line says what it takes to run the seed again (seed, mode, which code) and what happened. Lines are only ever added,
so a campaign can be stopped and taken up again, by several commands one after the other and on several states of the
code: it goes on with seeds above the highest that the ledger has.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

from .simulation import Report

FINE: Final = "fine"
"""The verdict of a run that kept every promise."""


class Outcome(NamedTuple):
    """What one seed came to: a report, or the words of its failure. Times in seconds; `cpu` is what this process spent.

    `verdict`: :data:`FINE`, or the name of the broken promise.
    """

    seed: int
    mode: str
    wall: float
    cpu: float
    report: Report | None
    failure: str = ""
    verdict: str = FINE


class Totals:
    """Figures over many seeds."""

    def __init__(self) -> None:
        self.seeds = self.moved = 0
        self.slowest_recovery = 0.0
        self.failed: list[int] = []
        self.sums: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.boundaries: Counter[str] = Counter()
        self.states: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.add_line(line(outcome))

    def add_line(self, entry: Mapping[str, Any]) -> None:
        """Count one more, as it stands in a ledger."""
        self.seeds += 1
        self.verdicts[entry["verdict"]] += 1
        self.states[f"{entry['version']} {entry['code']}"] += 1
        self.sums.update({name: entry[name] for name in ("wall", "cpu")})
        if "simulated" not in entry:
            self.failed.append(entry["seed"])
            return
        self.sums.update({name: entry[name] for name in ("simulated", "events", "operations", "slots", "elections")})
        self.moved += entry["moved"] > 0
        self.slowest_recovery = max(self.slowest_recovery, entry["recovered"])
        self.faults.update(entry["faults"])
        self.counts.update(entry["counts"])
        self.boundaries.update(entry["boundaries"])

    def facts(self) -> Mapping[str, object]:
        """Everything, for people and programs."""
        sums, cpu = self.sums, self.sums["cpu"] or 1
        return {
            "seeds": self.seeds,
            "failed": sorted(self.failed),
            "verdicts": dict(sorted(self.verdicts.items())),
            "simulated_seconds": round(sums["simulated"], 1),
            "cpu_seconds": round(sums["cpu"], 1),
            "wall_seconds": round(sums["wall"], 1),
            "simulated_per_cpu_second": round(sums["simulated"] / cpu, 1),
            "events_per_cpu_second": round(sums["events"] / cpu),
            "operations_per_cpu_second": round(sums["operations"] / cpu),
            "events": sums["events"],
            "operations": sums["operations"],
            "slots": sums["slots"],
            "elections": sums["elections"],
            "with_change_of_leader": self.moved,
            "slowest_recovery_seconds": round(self.slowest_recovery, 3),
            "strokes": sum(self.faults.values()),
            "faults": dict(sorted(self.faults.items())),
            "struck_before": dict(sorted(self.boundaries.items())),
            "counts": dict(sorted(self.counts.items())),
            "states": dict(self.states.most_common()),
        }


def line(outcome: Outcome) -> dict[str, Any]:
    """An outcome as the ledger has it."""
    entry: dict[str, Any] = {
        "seed": outcome.seed,
        "mode": outcome.mode,
        "version": metadata.version("quorate"),
        "code": code(),
        "verdict": outcome.verdict,
        "wall": round(outcome.wall, 3),
        "cpu": round(outcome.cpu, 3),
    }
    report = outcome.report
    if report is None:
        return {**entry, "failure": outcome.failure.partition("\n")[0]}
    settings = report.settings
    return {
        **entry,
        "replicas": settings.replicas,
        "clients": settings.clients,
        "simulated": round(report.simulated, 3),
        "events": report.events,
        "operations": report.operations,
        "unknown": report.outcomes.get("unknown", 0),
        "slots": report.slots,
        "elections": report.leaders,
        "moved": report.changes_of_leader,
        "recovered": round(report.recovered_in, 3),
        "faults": {kind.value: number for kind, number in report.faults.items()},
        "boundaries": dict(report.boundaries),
        "counts": dict(report.counts),
        "fingerprint": report.fingerprint,
    }


@cache
def code() -> str:
    """Which code this is: a digest of the kernel's and the simulated machines' modules as they are installed."""
    digest = hashlib.sha256()
    kernel = Path(__file__).parents[1]
    for root in (kernel, kernel.parent / "plugins"):
        for path in sorted(root.rglob("*.py")):
            digest.update(path.relative_to(root.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Ledger:
    """The file. A last line that was cut off when the machine went down does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> Iterator[dict[str, Any]]:
        """Every whole line, in the order in which they were written.

        Raises:
            ValueError: something else stands in the file.
        """
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8") as file:
            for number, text in enumerate(file, 1):
                if not text.endswith("\n"):
                    return
                try:
                    entry = json.loads(text)
                    yield {**entry, "seed": int(entry["seed"]), "verdict": str(entry["verdict"])}
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(f"{self.path}, line {number}, is no line of a ledger: {error}") from None

    def next_seed(self) -> int:
        """One above the highest seed in it; 1 if it is empty."""
        return max((entry["seed"] for entry in self.lines()), default=0) + 1

    def open(self) -> None:
        """Make ready to be written to: a line that was cut off is cut away."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            content = self.path.read_bytes()
            if content and not content.endswith(b"\n"):
                self.path.write_bytes(content[: content.rfind(b"\n") + 1])

    def add(self, outcome: Outcome) -> None:
        """Write one more line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line(outcome), separators=(",", ":")) + "\n")

    def totals(self) -> Totals:
        """What all of it comes to."""
        totals = Totals()
        for entry in self.lines():
            totals.add_line(entry)
        return totals
