"""The page about invariants lists what the core asserts, word for word."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from quorate.kernel import paxos

PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "invariants.rst"


def asserted() -> set[str]:
    """The words of every assertion that has some, with dots for what is filled in."""
    words = set()
    for path in Path(paxos.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            message = node.msg if isinstance(node, ast.Assert) else None
            if isinstance(message, ast.Constant):
                words.add(str(message.value))
            elif isinstance(message, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "..." for part in message.values]
                words.add("".join(parts))
    return words


@pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not here")
def test_the_page_lists_the_assertions() -> None:
    """Neither more nor less."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("``")]
    listed = {words for line in lines for words in re.findall(r"``(.+?)``", line)}
    assert listed == asserted()
