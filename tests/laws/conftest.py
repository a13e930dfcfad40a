"""The source tree, parsed once, for the law tests."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("kernel", "plugins", "recipes")


class Module(NamedTuple):
    """One source file. `name` is its import name without ``quorate.``: ``kernel.paxos.ballot``."""

    name: str
    path: Path
    package: bool
    text: str
    tree: ast.Module

    def imports(self) -> set[str]:
        """Absolute names of the modules it imports when it runs, ours beginning with ``quorate.``."""
        found = set()
        for node in runtime_nodes(self.tree):
            if isinstance(node, ast.Import):
                found.update(each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                found.update({base, *(f"{base}.{each.name}" for each in node.names)} if base else ())
        return found

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = f"quorate.{self.name}".split(".")
        parts = parts[: len(parts) - node.level + self.package]
        return ".".join([*parts, *([node.module] if node.module else [])])


def runtime_nodes(tree: ast.AST) -> list[ast.AST]:
    """Every node below `tree` but those under ``if TYPE_CHECKING``."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            found += [each for other in node.orelse for each in (other, *runtime_nodes(other))]
            continue
        found += [node, *runtime_nodes(node)]
    return found


def _module(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    package = parts[-1] == "__init__"
    text = path.read_text()
    return Module(".".join(parts[:-1] if package else parts), path, package, text, ast.parse(text))


@pytest.fixture(scope="session")
def modules() -> dict[str, Module]:
    """Every module of the three floors by name."""
    found = (_module(path) for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py")))
    return {each.name: each for each in found}


@pytest.fixture(scope="session")
def root() -> Path:
    """The top folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def files(root: Path) -> list[Path]:
    """Every text file of the project: what git knows, or what is there when this is no clone."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=root, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        skipped = {".git", ".venv", ".tox", "build", "dist", "__pycache__"}
        return [each for each in root.rglob("*") if each.is_file() and not skipped & set(each.relative_to(root).parts)]
    return [path for each in listed.stdout.split("\0") if each and (path := root / each).is_file()]
