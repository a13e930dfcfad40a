"""``quorate plugin``: load, list and unload machines in a running cell."""

from __future__ import annotations

import argparse
import json
import re
from typing import TYPE_CHECKING, Any, cast

from .command import Command, Exit, add_at
from .sessions import in_session

if TYPE_CHECKING:
    from ..client.live import Session

_PLUGINS = "plugins"


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    load = verbs.add_parser(
        "load",
        help="load a machine",
        description="Load a machine that every voting replica has installed, or is allowed to load.",
    )
    load.add_argument(
        "code", metavar="CODE", help="an installed machine's name, or MODULE:CLASS that the replicas allow"
    )
    load.add_argument("--name", help="what the cell calls it (default: CODE, or its CLASS in lower case)")
    unload = verbs.add_parser(
        "unload", help="unload a machine, state and all", description="Unload a machine. Its state is gone."
    )
    unload.add_argument("name", metavar="NAME", help="what the cell calls it")
    listing = verbs.add_parser("list", help="list the loaded machines", description="List the loaded machines.")
    listing.add_argument("--json", action="store_true", help="one line of JSON")
    for each in (load, unload, listing):
        add_at(each)


def default_name(code: str) -> str:
    """What a machine is called unless somebody says otherwise: ``shop.machine:PriceList`` becomes ``price-list``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", code.rpartition(":")[2]).lower()


def in_words(machines: list[dict[str, Any]]) -> list[str]:
    """The list of machines, a line each."""
    width = max((len(each["name"]) for each in machines), default=0)
    return [
        f"{each['name']:{width}}  version {each['version']}  of {each['code']}"
        + (f"  HALTED: {each['halted']}" if each["halted"] else "")
        for each in machines
    ]


def _run(options: argparse.Namespace) -> int:
    async def work(session: Session) -> int:
        if options.verb == "load":
            name = options.name or default_name(options.code)
            await session.call(_PLUGINS, "load", name, options.code, timeout=options.timeout)
            print(f"{name} is loaded")
        elif options.verb == "unload":
            await session.call(_PLUGINS, "unload", options.name, timeout=options.timeout)
            print(f"{options.name} is unloaded")
        else:
            machines = cast("list[dict[str, Any]]", await session.query(_PLUGINS, "loaded", timeout=options.timeout))
            print(json.dumps(machines) if options.json else "\n".join(in_words(machines)) or "no machine is loaded")
        return Exit.DONE

    return in_session(options, work)


COMMAND = Command("plugin", "load, list and unload machines in a running cell", _configure, _run)
