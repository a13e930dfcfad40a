"""Planting a bug in the code that runs, and hunting it by simulation.

A planted bug is a small function that has a line or two of the product's source replaced, in memory, for as long as it
is planted; its docstring says what it breaks. What is replaced is quoted from the source, so that a bug whose lines
have changed meanwhile fails loudly instead of planting nothing. Three words count whether the bug was really at work:
``did()`` beside something that the bug does, ``never(condition)`` around a condition that it does not look at, and
``always(condition)`` around one that it takes for granted.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import reduce
from typing import Any, NamedTuple
from unittest import mock

from quorate.kernel.testing.faults import Fault, Plan
from quorate.kernel.testing.simulate import machines
from quorate.kernel.testing.simulation import Failed, Mode, Settings, Simulation


class Plant:
    """What a planted bug changes the product with. `worked`: how often it made a difference."""

    def __init__(self, planted: ExitStack) -> None:
        self.worked = 0
        self._planted = planted

    def put(self, owner: Any, name: str, thing: object) -> None:
        """Have `thing` stand where `owner` has `name`."""
        self._planted.enter_context(mock.patch.object(owner, name, thing, create=True))

    def edit(self, function: Callable[..., Any], changes: Mapping[str, str], **names: object) -> None:
        """Put each key's value in its place in the source of `function`, where it stands once. `names` can be used
        there beside the three words."""
        module = sys.modules[function.__module__]
        *path, name = function.__qualname__.split(".")
        source = textwrap.dedent(inspect.getsource(function))
        for old, new in changes.items():
            assert source.count(old) == 1, f"{function.__qualname__} has {source.count(old)} times: {old}"
            source = source.replace(old, new)
        for word, meaning in {"did": self.did, "never": self.never, "always": self.always, **names}.items():
            self.put(module, word, meaning)
        made: dict[str, Any] = {}
        code = compile(source, f"<planted in {name}>", "exec", __future__.annotations.compiler_flag, True)
        exec(code, vars(module), made)
        if path:
            self.put(reduce(getattr, path, module), name, made[name])
            return
        for other in list(sys.modules.values()):
            if getattr(other, name, None) is function:
                self.put(other, name, made[name])

    def did(self) -> bool:
        """The bug did something here."""
        self.worked += 1
        return True

    def never(self, condition: object) -> bool:
        """The bug does not look at this."""
        self.worked += bool(condition)
        return False

    def always(self, condition: object) -> bool:
        """The bug takes this for granted."""
        self.worked += not condition
        return True


class Bug(NamedTuple):
    """A bug to plant. `caught`: how the words of the failure begin that must tell (a pattern). `focus`: makes the
    settings of a seed such that the bug is soon found; then only these `machines` run (none: all)."""

    plant: Callable[[Plant], None]
    caught: str
    focus: Callable[[Settings], Settings]
    machines: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.plant.__name__

    @property
    def words(self) -> str:
        """What it breaks."""
        return inspect.cleandoc(self.plant.__doc__ or "")

    @property
    def promises(self) -> list[str]:
        """Who must tell: names of promises, or the words of an assertion."""
        parts = [each.partition(": ") for each in self.caught.split("|")]
        return list(dict.fromkeys(words if "*" in name else name for name, _, words in parts))


MODULES = ("planted_consensus", "planted_membership", "planted_leases", "planted_storage", "planted_machines")
"""Where the bugs are."""

BUGS: dict[str, Bug] = {}
"""All, by name; see :func:`all_bugs`."""

QUICK = {"lease": 100_000, "heartbeat": 12_500, "campaign_spread": 12_500, "faulty": 5.0}
"""Settings with many elections in little time."""


def bug(
    caught: str, *kinds: Fault, every: float = 0.6, lasting: float = 0.3, machines: tuple[str, ...] = (), **changes: Any
) -> Any:
    """Note a bug. The focus is on these `kinds` of fault, on `machines`, and on settings with `changes`, which may be
    settings, options of the simulated world, of the core or of the node."""

    def focus(drawn: Settings) -> Settings:
        options, rest = drawn.options, dict(changes)
        core = options.core._replace(**_taken(rest, options.core))
        node = options.node._replace(**_taken(rest, options.node))
        options = options._replace(core=core, node=node, **_taken(rest, options))
        return drawn._replace(**rest, plan=Plan(kinds, every, lasting), options=options)

    def note(plant: Callable[[Plant], None]) -> Callable[[Plant], None]:
        BUGS[plant.__name__] = Bug(plant, caught, focus, machines)
        return plant

    return note


def all_bugs() -> dict[str, Bug]:
    """Every bug that can be planted, by name."""
    for module in MODULES:
        importlib.import_module(module)
    return BUGS


def _taken(changes: dict[str, Any], options: Any) -> dict[str, Any]:
    """The changes that are for these options; the others stay."""
    return {name: changes.pop(name) for name in options._fields if name in changes}


@contextmanager
def planted(bug: Bug) -> Iterator[Plant]:
    """While entered, the product has the bug."""
    with ExitStack() as stack:
        plant = Plant(stack)
        bug.plant(plant)
        yield plant


class Hunted(NamedTuple):
    """What a seed came to with a bug planted: the words of its failure ("": none), whether the right promise told, and
    how often the bug was at work."""

    seed: int
    words: str
    caught: bool
    worked: int


def run(bug: Bug, seed: int, mode: Mode | None = None) -> Hunted:
    """Simulate one seed with the bug planted: with the bug's focus, or as the mode has it."""
    settings, loaded = Settings.of(mode or Mode.SWARM, seed), machines()
    if mode is None:
        settings = bug.focus(settings)
        loaded = {name: kind for name, kind in loaded.items() if name in bug.machines or not bug.machines}
    with planted(bug) as plant:
        try:
            Simulation(settings, loaded).run()
        except Failed as failed:
            words = f"{failed.cause}"
            return Hunted(seed, words, re.match(bug.caught, words) is not None, plant.worked)
    return Hunted(seed, "", False, plant.worked)


def hunt(bug: Bug, seeds: Iterable[int], mode: Mode | None = None) -> Iterator[Hunted]:
    """Simulate seeds, up to the first in which the right promise tells."""
    for seed in seeds:
        hunted = run(bug, seed, mode)
        yield hunted
        if hunted.caught:
            return
