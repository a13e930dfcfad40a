"""The ``quorate`` command: finds the subcommand and turns its complaints into words and an exit status.

Subcommands of the kernel are listed here. Those that need more than the kernel (``lock`` needs a recipe) come from the
entry-point group ``quorate.commands``, so that no arrow points upward; anybody's package may add to it.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Final

from .. import __version__
from . import call, cell, journal, plugin, replica, status, tour
from .command import Command, Complaint, Exit

GROUP: Final = "quorate.commands"
_KERNEL: Final = (
    tour.COMMAND,
    cell.COMMAND,
    replica.COMMAND,
    status.COMMAND,
    call.COMMAND,
    plugin.COMMAND,
    journal.COMMAND,
)


def commands() -> list[Command]:
    """Every subcommand, the kernel's first."""
    found = [each.load() for each in sorted(entry_points(group=GROUP), key=lambda each: each.name)]
    return [*_KERNEL, *found]


def parser() -> argparse.ArgumentParser:
    """The whole command line; the reference in the documentation is made from it."""
    whole = argparse.ArgumentParser(
        prog="quorate",
        description="Replicated state machines by Multi-Paxos: run cells, look at them, call their machines.",
        epilog="`quorate tour` shows it all in under a minute.",
    )
    whole.add_argument("--version", action="version", version=f"quorate {__version__}")
    parts = whole.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for each in commands():
        part = parts.add_parser(
            each.name, help=each.summary, description=each.summary[0].upper() + each.summary[1:] + "."
        )
        each.configure(part)
        part.set_defaults(run=each.run)
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    try:
        try:
            options = parser().parse_args(arguments)
            return int(options.run(options))
        except Complaint as complaint:
            print(f"quorate: {complaint.what}", file=sys.stderr)
            if complaint.advice:
                print(f"  {complaint.advice}", file=sys.stderr)
            return complaint.status
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output went away: nothing to say to anybody, and the interpreter must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED
