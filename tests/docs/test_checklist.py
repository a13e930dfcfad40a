"""The checklist of the documentation names tests that are there, and leaves no line without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "checklist.rst"
_ITEM = re.compile(r"^- .*(?:\n  .*)*", re.MULTILINE)
_NAME = re.compile(r"`([\w/]+\.py)(?:::([\w.]+))?`")


def _defined(path: Path) -> set[str]:
    """The functions in a module, and the methods of its classes as Class.method."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name")}
    return found


def test_every_demand_has_its_tests() -> None:
    """Each item above the last section names at least one test, bug or fault, and all that are named exist."""
    ticked, _, _ = PAGE.read_text().partition("Not ticked off")
    items = [item.group() for item in _ITEM.finditer(ticked)]
    assert len(items) > 50
    for item in items:
        names = _NAME.findall(item)
        assert names, item
        for path, name in names:
            assert (TESTS / path).is_file(), path
            assert not name or name in _defined(TESTS / path), f"{path} has no {name}"
