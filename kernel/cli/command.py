"""What a subcommand is, and how it says no.

Must not import Twisted or anything heavy: ``quorate --help`` reads only this and the subcommands' parsers.
"""

from __future__ import annotations

import argparse
import enum
import math
import os
from collections.abc import Callable
from typing import Final, NamedTuple


class Exit(enum.IntEnum):
    """Exit statuses on which scripts rely."""

    DONE = 0
    FAILED = 1
    """It did not work, or (``status``) the cell has no quorum."""
    REFUSED = 2
    """The machine said no (``call``), or the command line was wrong."""
    UNKNOWN = 3
    """Whether it was done is not known (``call``)."""
    LOST = 75
    """The lock was lost while the command ran (``lock``): try again."""


class Complaint(Exception):
    """What was wrong and what to do, in words for the person at the keyboard; ends the command without a traceback."""

    def __init__(self, what: str, advice: str = "", status: int = Exit.FAILED) -> None:
        super().__init__(what)
        self.what = what
        self.advice = advice
        self.status = status


class Command(NamedTuple):
    """One subcommand: its name, its line in ``--help``, its parser, and its work, which returns the exit status."""

    name: str
    summary: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def seconds(word: str) -> float:
    """The type of options that take a time, which may be 0."""
    try:
        given = float(word)
    except ValueError:
        given = -1.0
    if not 0 <= given < math.inf:
        raise argparse.ArgumentTypeError(f"{word} is no time: give seconds, such as 2.5")
    return given


def positive_seconds(word: str) -> float:
    """The type of options that take a time, which may not be 0."""
    if given := seconds(word):
        return given
    raise argparse.ArgumentTypeError("it must be more than 0 seconds")


AT: Final = "QUORATE_AT"


def add_at(parser: argparse.ArgumentParser) -> None:
    """The option every client command has: where the cell is."""
    parser.add_argument(
        "--at",
        metavar="ENDPOINT[,ENDPOINT...]",
        default=os.environ.get(AT, ""),
        help=f"client endpoints of the cell, such as tcp:127.0.0.1:7420; one that answers is enough (default: ${AT})",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive_seconds,
        default=10.0,
        help="how long to try (default: %(default)g)",
    )


def endpoints(options: argparse.Namespace) -> list[str]:
    """The endpoints of :func:`add_at`; a Complaint if there are none."""
    found = [each.strip() for each in options.at.split(",") if each.strip()]
    if not found:
        raise Complaint(
            "no cell was named",
            f"give --at tcp:HOST:PORT, or set {AT}; `quorate cell run` prints the endpoints of the cell it starts",
            Exit.REFUSED,
        )
    return found
