"""The catalog of code."""

from __future__ import annotations

import pytest
from quorate.kernel.catalog import CODES_MAX, MACHINE_NAME, Catalog
from quorate.kernel.dispatch import Unfit
from quorate.kernel.machine import Commit, StateMachine, command
from quorate.kernel.stop import MissingPlugin


class Two(StateMachine):
    name = "two"
    version = 2


class Bad(StateMachine):
    name = "bad"

    @command
    def go(self, commit: Commit, *rest: int) -> None: ...


class Zero(StateMachine):
    name = "zero"
    version = 0


def test_versions_are_what_a_replica_announces() -> None:
    """By name of code, in order."""
    assert list(Catalog({"z": Two, "a": Two}).versions.items()) == [("a", 2), ("z", 2)]


def test_find_says_what_to_install() -> None:
    """Missing and outdated code are told apart, and what is there is named."""
    catalog = Catalog({"two": Two})
    assert catalog.find("two", 1) is catalog.find("two", 2) is Two
    with pytest.raises(MissingPlugin, match=r"'other' \(version 1\).*Installed: two.*entry point 'other'"):
        catalog.find("other", 1)
    with pytest.raises(MissingPlugin, match="at version 3, but version 2 is installed"):
        catalog.find("two", 3)


def test_what_cannot_be_run_does_not_get_in() -> None:
    """Classes, names and versions are looked at when the process starts."""
    with pytest.raises(Unfit, match=r"Bad\.go"):
        Catalog({"bad": Bad})
    with pytest.raises(ValueError, match="version"):
        Catalog({"zero": Zero})
    with pytest.raises(ValueError, match="characters"):
        Catalog({"": Two})
    with pytest.raises(ValueError, match="allowed"):
        Catalog({f"c{number}": Two for number in range(CODES_MAX + 1)})


@pytest.mark.parametrize(("name", "fits"), [("a", True), ("a-1", True), ("-a", False), ("A", False), ("a" * 65, False)])
def test_machine_names(name: str, fits: bool) -> None:
    """Lower case, digits and dashes."""
    assert (MACHINE_NAME.fullmatch(name) is not None) is fits
