"""``quorate plugin``: load, list and unload machines in a running cell."""

from __future__ import annotations

import argparse

from .command import Command, add_at


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    load = verbs.add_parser(
        "load", help="load a machine", description="Load a machine that every replica has installed."
    )
    load.add_argument("code", metavar="CODE", help="an installed machine's name, or MODULE:CLASS that the cell allows")
    load.add_argument("--name", help="what the cell calls it (default: the name in its class)")
    unload = verbs.add_parser("unload", help="unload a machine", description="Unload a machine. ITS STATE IS GONE.")
    unload.add_argument("name", metavar="NAME")
    listing = verbs.add_parser("list", help="list the loaded machines", description="List the loaded machines.")
    for each in (load, unload, listing):
        add_at(each)


def _run(options: argparse.Namespace) -> int:
    raise NotImplementedError


COMMAND = Command("plugin", "load, list and unload machines in a running cell", _configure, _run)
