"""What setup.cfg promises is what the tree holds."""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

OWN = "quorate"
DISTRIBUTION = {"zope": "zope.interface"}
"""Distributions that are not called like what is imported from them."""


@pytest.fixture(scope="module")
def setup(root: Path) -> configparser.ConfigParser:
    """setup.cfg, read."""
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg")
    return parser


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_every_package_is_listed(setup: configparser.ConfigParser, modules: dict[str, Any]) -> None:
    """Each folder with an __init__.py is in `packages`, and each listed one is there."""
    folders = {f"{OWN}.{name}" for name, module in modules.items() if module.package}
    assert folders == set(_lines(setup["options"]["packages"]))


def test_every_package_is_typed(root: Path, modules: dict[str, Any]) -> None:
    """Each package has the py.typed that a type checker looks for in a namespace's parts."""
    assert not [
        name for name, module in modules.items() if module.package and not (module.path.parent / "py.typed").exists()
    ]


def test_every_import_is_declared(setup: configparser.ConfigParser, modules: dict[str, Any]) -> None:
    """What is imported from outside the standard library is in install_requires, and nothing else is."""
    tops = {each.split(".")[0] for module in modules.values() for each in module.imports()}
    optional = {"kazoo", "OpenSSL"}  # used by the tour if it happens to be installed; the extra "tls"
    used = {DISTRIBUTION.get(each, each) for each in tops - set(sys.stdlib_module_names) - {OWN} - optional}
    declared = {re.split(r"[<>=!~ ]", line)[0] for line in _lines(setup["options"]["install_requires"])}
    assert used == declared


def test_every_requirement_has_a_range(setup: configparser.ConfigParser) -> None:
    """What is needed at run time says from which version and below which."""
    for line in _lines(setup["options"]["install_requires"]):
        assert re.search(r">=", line), line
        assert re.search(r"<\d", line) or line.startswith("zope.interface"), line


def test_every_entry_point_loads(setup: configparser.ConfigParser) -> None:
    """Each name that setup.cfg gives to the outside can be imported."""
    for group, text in setup["options.entry_points"].items():
        for line in _lines(text):
            name, _, target = line.partition(" = ")
            module, _, attribute = target.partition(":")
            assert hasattr(importlib.import_module(module), attribute), f"{group}: {name}"


def test_what_is_tested_is_this_tree(root: Path, modules: dict[str, Any]) -> None:
    """The installed package is the one made from this tree: after a change, install again."""
    stale = []
    for name, module in modules.items():
        found = importlib.util.find_spec(f"{OWN}.{name}")
        assert found is not None, f"{name} is not installed"
        assert found.origin is not None
        if Path(found.origin).read_bytes() != module.path.read_bytes():
            stale.append(name)
    assert not stale, "run pip install again"


def test_the_wheel_holds_everything(root: Path, modules: dict[str, Any], tmp_path: Path) -> None:
    """A wheel built from the tree has every module, every py.typed, the Twisted plugin and nothing of the tests."""
    source = tmp_path / "source"
    listed = {module.path.relative_to(root) for module in modules.values()}
    listed |= {each.parent / "py.typed" for each in listed}
    listed |= {Path(each) for each in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")}
    listed |= {Path("twisted/plugins/quorate_plugin.py")}
    for each in listed:
        if (root / each).exists():
            (source / each).parent.mkdir(parents=True, exist_ok=True)
            (source / each).write_bytes((root / each).read_bytes())
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path / "dist"),
            str(source),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    held = {each for each in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in each}
    wanted = {f"{OWN}/{module.path.relative_to(root).as_posix()}" for module in modules.values()}
    wanted |= {f"{each.rsplit('/', 1)[0]}/py.typed" for each in wanted}
    assert held == wanted | {"twisted/plugins/quorate_plugin.py"}
