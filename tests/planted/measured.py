"""How many seeds it takes to find each planted bug: the table, and the command that measures it again.

    python tests/planted/measured.py                    with each bug's focus
    python tests/planted/measured.py --mode swarm       with settings as they are drawn for ordinary simulations
    python tests/planted/measured.py --mode restless    with those of that mode

Each bug is hunted through five ranges of seeds of its own, in each up to the first seed in which the right promise
tells, or up to --most seeds. The counts go to `measured.json` beside this file, from which the tests and the docs
take them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_suffix(".json")
RANGES = (1_000, 2_000, 3_000, 4_000, 5_000)
"""The first seeds."""
MOST = 100


class Measured(NamedTuple):
    """One bug's counts of seeds, range by range, with its focus and in the modes that know nothing of it; None: it was
    not found in as many as were tried, which is `most`, by name of the column."""

    focused: list[int | None] = []
    swarm: list[int | None] = []
    restless: list[int | None] = []
    most: dict[str, int] = {}

    @property
    def quick(self) -> int | None:
        """A seed that finds it with its focus."""
        found = [(count, first) for count, first in zip(self.focused, RANGES, strict=False) if count is not None]
        if not found:
            return None
        count, first = min(found)
        return first + count - 1


def median(counts: list[int | None]) -> float:
    """The median; infinite if the bug was mostly not found."""
    return statistics.median(float("inf") if count is None else count for count in counts) if counts else float("inf")


def read() -> dict[str, Measured]:
    """The table, by name of bug."""
    rows: Mapping[str, dict[str, object]] = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    return {name: Measured(**row) for name, row in rows.items()}  # type: ignore[arg-type]


def write(table: Mapping[str, Measured]) -> None:
    """Put the table back, one bug a line."""
    rows = (f"  {json.dumps(name)}: {json.dumps(row._asdict())}" for name, row in sorted(table.items()))
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")


def main(argv: list[str] | None = None) -> int:
    """The command; see the module's text."""
    from planting import all_bugs, hunt
    from quorate.kernel.testing.simulation import Mode

    parser = argparse.ArgumentParser(description="Measure how many seeds it takes to find each planted bug.")
    parser.add_argument("bugs", nargs="*", help="names; all of them if none is given")
    parser.add_argument("--mode", choices=("swarm", "restless"), help="with the settings of that mode, without a focus")
    parser.add_argument("--most", type=int, default=MOST, help="seeds to try in each range")
    arguments = parser.parse_args(argv)
    bugs = all_bugs()
    mode = None if arguments.mode is None else Mode(arguments.mode)
    column = arguments.mode or "focused"
    for name in arguments.bugs or bugs:
        counts: list[int | None] = []
        for first in RANGES:
            if counts.count(None) * 2 > len(RANGES):
                counts.append(None)  # the median is known
                continue
            hunted = list(hunt(bugs[name], range(first, first + arguments.most), mode))
            counts.append(len(hunted) if hunted[-1].caught else None)
        before = read().get(name, Measured())
        after = before._replace(**{column: counts, "most": {**before.most, column: arguments.most}})
        write({**read(), name: after})
        sys.stdout.write(f"{name}: {counts}, median {median(counts):g}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    import logging

    logging.getLogger("quorate").setLevel(logging.CRITICAL)
    sys.exit(main())
