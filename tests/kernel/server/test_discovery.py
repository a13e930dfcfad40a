"""Where machines come from."""

from __future__ import annotations

import re
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest
from quorate.kernel.machine import Commit, StateMachine, command
from quorate.kernel.server import discovery
from quorate.kernel.server.discovery import BadMachine, make_catalog
from twisted.logger import globalLogPublisher


class Shop(StateMachine):
    name = "shop"
    version = 4


class Unfit(StateMachine):
    name = "unfit"

    @command
    def go(self, commit: Commit, *rest: int) -> None: ...


def installed(monkeypatch: pytest.MonkeyPatch, *points: tuple[str, str]) -> None:
    """These entry points are all there is."""
    found = [EntryPoint(name, value, discovery.GROUP) for name, value in points]
    monkeypatch.setattr(discovery, "entry_points", lambda group: found if group == discovery.GROUP else [])
    monkeypatch.setitem(sys.modules, "shop_for_tests", sys.modules[__name__])


def test_entry_points_and_allowed_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed code goes by its entry point's name, allowed code by module:Class."""
    installed(monkeypatch, ("shop", "shop_for_tests:Shop"))
    catalog = make_catalog(["shop_for_tests:Shop"])
    assert catalog.versions == {"shop": 4, "shop_for_tests:Shop": 4}
    assert catalog.find("shop_for_tests:Shop", 4) is Shop


def test_an_unusable_installation_is_left_out_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One broken distribution does not keep a replica from starting."""
    installed(
        monkeypatch,
        ("broken", "no_such_module_at_all:X"),
        ("class", "builtins:dict"),
        ("unfit", "shop_for_tests:Unfit"),
        ("shop", "shop_for_tests:Shop"),
        ("shop", "shop_for_tests:Unfit"),
    )
    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        assert make_catalog([]).versions == {"shop": 4}
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert len(events) == 4


@pytest.mark.parametrize(
    "allowed", ["shop_for_tests", ":Shop", "shop_for_tests:", "shop_for_tests:Gone", "builtins:int"]
)
def test_what_is_allowed_must_be_usable(monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    """The operator named it, so he is told."""
    installed(monkeypatch)
    with pytest.raises(BadMachine, match=re.escape(allowed)):
        make_catalog([allowed])
