"""``quorate status``: how every replica of a cell does, joined from what each says of itself.

It needs no quorum: it asks one replica who the others are and then each of them. The exit status is 1 when the cell
has no quorum.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, Final, TypeAlias

from . import ask
from .command import Command, Complaint, Exit, add_at, endpoints

Facts: TypeAlias = Mapping[str, Any]
"""What a replica says of itself, or a cell's replicas joined: plain data that came over the wire."""

PATIENCE: Final = 2.0
"""Seconds one replica has to answer; one that is paused takes them all."""
_AT_ONCE: Final = 16


def _configure(parser: argparse.ArgumentParser) -> None:
    add_at(parser)
    parser.add_argument("--json", action="store_true", help="one line of JSON")


def _run(options: argparse.Namespace) -> int:
    cell = gather(endpoints(options), min(options.timeout, PATIENCE))
    print(json.dumps(cell) if options.json else "\n".join(in_words(cell)))
    return Exit.DONE if cell["leader"] is not None else Exit.FAILED


def gather(at: Sequence[str], timeout: float) -> Facts:
    """Ask the whole cell, everybody at once, so that one that hangs costs `timeout` seconds and not more.

    Raises a Complaint if nobody answers."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = {each: pool.submit(ask.status, each, timeout) for each in dict.fromkeys(at)}
        known = next((each.result() for each in as_completed(asked.values()) if each.exception() is None), None)
        if known is None:
            raise _nobody(asked)
        members: Sequence[Facts] = sorted(known["members"], key=lambda each: each["id"])  # type: ignore[arg-type]
        for each in members:
            if each["client"] not in asked:
                asked[each["client"]] = pool.submit(ask.status, each["client"], timeout)
        answers = [asked[each["client"]] for each in members]
        return joined(known, members, [each.result() if each.exception() is None else None for each in answers])


def _nobody(asked: Mapping[str, Future[Facts]]) -> Complaint:
    """Nobody answered, and why. Anything but silence is raised as it is."""
    reasons = []
    for each in asked.values():
        try:
            each.result()
        except ask.NoAnswer as no:
            reasons.append(str(no))
    return Complaint(
        f"no replica answered: {'; '.join(reasons)}", "check that the cell runs, and that it is a client port"
    )


def joined(known: Facts, members: Sequence[Facts], answers: Sequence[Facts | None]) -> Facts:
    """One picture of the cell: `answers` are what the `members` said, in the same order, None for silence."""
    leaders = [each for each in answers if each is not None and each["role"] == "leader" and each["serving"]]
    leader = max(leaders, key=lambda each: each["epoch"], default=None)
    voters = [answer for member, answer in zip(members, answers, strict=True) if member["role"] == "voter"]
    up = sum(1 for each in voters if each is not None and each["serving"])
    chosen = max((each["chosen"] for each in answers if each is not None), default=0)
    return {
        "cell": known["cell"],
        "leader": None if leader is None else leader["member"],
        "epoch": None if leader is None else leader["epoch"],
        "replicas": [
            _row(index, member, answer, chosen)
            for index, (member, answer) in enumerate(zip(members, answers, strict=True))
        ],
        "failures_tolerated": 0 if leader is None else max(0, up - (len(voters) // 2 + 1)),
    }


_COPIED: Final = (
    "pid", "serving", "role", "ballot", "lease_ms", "chosen", "applied", "sessions", "plugins", "digest",
    "longest_turn_ms",
)  # fmt: skip


def _row(index: int, member: Facts, answer: Facts | None, chosen: int) -> Facts:
    row: dict[str, Any] = {"index": index, "id": member["id"]}
    if answer is None:
        return {**row, **dict.fromkeys(_COPIED), "serving": False, "role": "down", "lag": None, "trouble": None}
    trouble = answer["ailing"] or answer["full"] or answer["diverged"]
    return {
        **row,
        **{each: answer[each] for each in _COPIED},
        "lag": max(0, chosen - answer["applied"]),
        "trouble": trouble,
    }


_COLUMNS: Final = ("index", "id", "role", "pid", "ballot", "lease_ms", "chosen", "applied", "lag", "sessions", "digest")


def in_words(cell: Facts) -> list[str]:
    """The same, to be taken in at a glance."""
    rows = cell["replicas"]
    if cell["leader"] is None:
        answer = sum(1 for each in rows if each["role"] != "down")
        headline = (
            f"NO QUORUM: {answer} of {len(rows)} replicas answer and none leads; writes wait until a majority is back"
        )
    else:
        up = sum(1 for each in rows if each["serving"])
        index = next(each["index"] for each in rows if each["id"] == cell["leader"])
        count = cell["failures_tolerated"]
        tolerated = f"{count} more failure{'' if count == 1 else 's'}" if count else "NO further failure"
        headline = f"serves; replica {index} leads, {up} of {len(rows)} replicas up, tolerates {tolerated}"
    table = [[each.replace("_", " ") for each in _COLUMNS]]
    table += [["-" if each[column] is None else str(each[column]) for column in _COLUMNS] for each in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [f"cell {cell['cell']} {headline}"]
    lines += ["  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    plugins: Sequence[Facts] = next((each["plugins"] for each in rows if each["plugins"] is not None), [])
    lines.append("plugins: " + (", ".join(f"{each['name']} {each['version']}" for each in plugins) or "none"))
    lines += [f"HALTED: {each['name']}: {each['halted']}" for each in plugins if each.get("halted")]
    lines += [f"TROUBLE: replica {each['index']}: {each['trouble']}" for each in rows if each["trouble"]]
    return lines


COMMAND = Command("status", "show how a cell and its replicas do", _configure, _run)
