"""The checklists of the documentation name tests that are there, and leave no line without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGES = TESTS.parent / "docs" / "explanation"
ZNODES = TESTS / "plugins" / "znodes"
_ITEM = re.compile(r"^- .*(?:\n  .*)*", re.MULTILINE)
_NAME = re.compile(r"`([\w/]+\.py)(?:::([\w.]+))?`")
_RULE = re.compile(r"ZK-[0-9]+(?:[ab]|\.[0-9]+)?")


def _defined(path: Path) -> set[str]:
    """The functions in a module, and the methods of its classes as Class.method."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name")}
    return found


@pytest.mark.parametrize("page", ["checklist.rst", "zookeeper-protocol.rst", "bugs.rst"])
def test_every_demand_has_its_tests(page: str) -> None:
    """Each item above the last section names at least one test, bug or fault, and all that are named exist."""
    ticked, _, _ = (PAGES / page).read_text().partition("Not ticked off")
    items = [item.group() for item in _ITEM.finditer(ticked)]
    assert len(items) > 50
    for item in items:
        names = _NAME.findall(item)
        assert names, item
        for path, name in names:
            assert (TESTS / path).is_file(), path
            assert not name or name in _defined(TESTS / path), f"{path} has no {name}"


def test_every_rule_that_is_named_is_explained() -> None:
    """Whatever number a test of the ZooKeeper port or its transcript gives a rule stands on the page of rules, once."""
    explained = re.findall(rf"^- ({_RULE.pattern})\. ", (PAGES / "zookeeper-protocol.rst").read_text(), re.MULTILINE)
    assert len(set(explained)) == len(explained)
    named = {rule for path in ZNODES.iterdir() if path.is_file() for rule in _RULE.findall(path.read_text())}
    assert named - set(explained) == set()
