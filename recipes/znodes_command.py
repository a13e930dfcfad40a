"""``quorate znodes import``: bring the tree of a ZooKeeper into a cell."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Final

from ..kernel.cli.command import Command, Complaint, Exit

_WIDTH: Final = 30


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    summary = "copy the tree of a running ZooKeeper into a cell and verify the copy"
    part = verbs.add_parser("import", help=summary, description=summary[0].upper() + summary[1:] + ".")
    part.add_argument(
        "source", metavar="FROM", help="ZooKeeper servers, as HOST:PORT[,HOST:PORT...]; one that answers is enough"
    )
    part.add_argument("copy", metavar="TO", help="the cell's ZooKeeper ports, likewise")
    part.add_argument("--path", default="/", metavar="PATH", help="only what is at and below PATH (default: all)")
    for flag, whom in (("--from-auth", "the source"), ("--to-auth", "the cell")):
        part.add_argument(
            flag,
            action="append",
            default=[],
            metavar="SCHEME:SECRET",
            help=f"authenticate to {whom}, such as digest:super:secret; again for more",
        )
    part.add_argument("--delete", action="store_true", help="delete from the cell what the source has not")
    part.add_argument(
        "--rounds",
        type=int,
        default=5,
        metavar="N",
        help="give up if N readings differ (default: %(default)d)",
    )


class Bar:
    """A line on a terminal that grows; one line a phase where it is none."""

    def __init__(self) -> None:
        self._phase = ""
        self._last = ""

    def show(self, phase: str, done: int, total: int) -> None:
        """So much of a phase is done."""
        terminal = sys.stderr.isatty()
        if phase != self._phase:
            self.end()
            self._phase = phase
        filled = _WIDTH * done // max(total, 1)
        self._last = f"{phase:<20} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}"
        if terminal:
            sys.stderr.write(f"\r{self._last}\x1b[K")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave the last line as it is."""
        if self._last:
            sys.stderr.write("\n" if sys.stderr.isatty() else self._last + "\n")
        self._last = ""


def _run(options: argparse.Namespace) -> int:
    from ..plugins.znodes.client import Lost
    from .znodes_import import Ends, Unfinished, import_tree

    path = options.path.encode()
    if not path.startswith(b"/") or (path != b"/" and path.endswith(b"/")):
        raise Complaint(f"--path {options.path}", "a path begins with a slash and does not end with one", Exit.REFUSED)
    if options.rounds < 2:
        raise Complaint(f"--rounds {options.rounds}", "at least 2: one that copies, one that verifies", Exit.REFUSED)
    source = Ends(_hosts(options.source), _secrets(options.from_auth))
    copy = Ends(_hosts(options.copy), _secrets(options.to_auth))
    bar = Bar()
    try:
        outcome = asyncio.run(
            import_tree(source, copy, path, rounds=options.rounds, delete=options.delete, progress=bar.show)
        )
    except Lost as lost:
        raise Complaint(f"no connection: {lost}", "see that the servers run and may be reached from here") from None
    except Unfinished as unfinished:
        raise Complaint(f"not finished: {unfinished}", "what was copied stays; run it again") from None
    finally:
        bar.end()
    left = f", {outcome.ephemeral} ephemeral left out" if outcome.ephemeral else ""
    more = f"; the cell has {outcome.more} nodes more" if outcome.more else ""
    sys.stdout.write(f"{outcome.nodes} nodes are the same in the source and in the cell{left}{more}\n")
    return Exit.DONE


def _hosts(text: str) -> list[str]:
    hosts = [each.strip() for each in text.split(",") if each.strip()]
    for each in hosts:
        host, _, port = each.rpartition(":")
        if not host or not port.isdigit():
            raise Complaint(f"{each!r} is no server", "write HOST:PORT[,HOST:PORT...]", Exit.REFUSED)
    if not hosts:
        raise Complaint("no server is named", "write HOST:PORT[,HOST:PORT...]", Exit.REFUSED)
    return hosts


def _secrets(given: list[str]) -> list[tuple[bytes, bytes]]:
    pairs = []
    for each in given:
        scheme, colon, secret = each.partition(":")
        if not scheme or not colon:
            raise Complaint(f"{scheme!r} is no authentication", "write SCHEME:SECRET, such as digest:user:password")
        pairs.append((scheme.encode(), secret.encode()))
    return pairs


ZNODES: Final = Command("znodes", "work on trees of znodes", _configure, _run)
