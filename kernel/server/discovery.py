"""Where this replica's machines come from: installed distributions, and classes that its configuration allows.

An installed distribution offers machines as entry points of the group ``quorate.plugins``; the entry point's name is
the name of the code in the cell. A class ``module:Class`` that the configuration allows goes by just that. Nothing
else is ever imported: what a client asks to load is only looked up here.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from twisted.logger import Logger

from ..catalog import Catalog
from ..machine import StateMachine
from .config import BadConfiguration

GROUP: Final = "quorate.plugins"


class BadMachine(BadConfiguration):
    """What the configuration allows cannot be a machine."""


def make_catalog(allow: Iterable[str]) -> Catalog:
    """The catalog of everything that could be loaded here.

    An installed machine that cannot be used (it does not import, or is no machine) is logged and left out, because
    the cell may not need it; if it does, the replica stops and says that it is missing.

    Raises:
        BadMachine: an allowed class cannot be used.
    """
    log = Logger()
    classes: dict[str, type[StateMachine]] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value)):
        if point.name in classes:
            log.error("entry point {name} is offered twice; {value} is left out", name=point.name, value=point.value)
            continue
        try:
            classes[point.name] = _machine(point)
        except BadMachine as bad:
            log.error("{bad}; it is left out", bad=str(bad))
    for allowed in allow:
        module, colon, name = allowed.partition(":")
        if not (module and colon and name):
            raise BadMachine(f"{allowed!r} is allowed, but a class is named as module:Class: correct it")
        classes[allowed] = _machine(EntryPoint(allowed, allowed, GROUP))
    return Catalog(classes)


def _machine(point: EntryPoint) -> type[StateMachine]:
    """The class behind an entry point, if a cell could run it."""
    try:
        kind = point.load()
    except Exception as error:
        raise BadMachine(f"the machine {point.name!r} ({point.value}) cannot be imported: {error!r}") from error
    if not (isinstance(kind, type) and issubclass(kind, StateMachine)):
        raise BadMachine(f"the machine {point.name!r} ({point.value}) is not a StateMachine class")
    try:
        Catalog({point.name: kind})
    except (TypeError, ValueError) as error:
        raise BadMachine(f"the machine {point.name!r} ({point.value}) cannot be run: {error}") from error
    return kind
