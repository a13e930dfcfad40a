"""The page about invariants lists what the core asserts, word for word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from quorate.kernel import paxos

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "invariants.rst"


def asserted() -> dict[str, set[str]]:
    """The words of every assertion that has some, with dots for what is filled in, by module."""
    words: dict[str, set[str]] = {}
    for path in Path(paxos.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            message = node.msg if isinstance(node, ast.Assert) else None
            if isinstance(message, ast.Constant):
                words.setdefault(path.name, set()).add(str(message.value))
            elif isinstance(message, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in message.values]
                words.setdefault(path.name, set()).add("".join(parts))
    return words


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_the_page_lists_the_assertions() -> None:
    """Neither more nor less, under the names of the modules in which they stand."""
    listed: dict[str, set[str]] = {}
    modules: list[str] = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("``"):
            for name in modules:
                listed.setdefault(name, set()).update(re.findall(r"``(.+?)``", line))
        elif line.startswith("`"):
            modules = re.findall(r"`(\w+\.py)`", line)
    found = asserted()
    assert set().union(*listed.values()) == set().union(*found.values())
    assert {name for name, words in found.items() if words - listed.get(name, set())} == set()
    assert listed.keys() == found.keys()


def test_who_asserts_names_the_page() -> None:
    """A reader of the code finds out why."""
    for name in asserted():
        assert f"docs/explanation/{PAGE.name}" in (Path(paxos.__path__[0]) / name).read_text(), name
