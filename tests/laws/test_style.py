"""The style that a test can hold: sizes, names, docstrings, characters, paths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LINES_MAX = 600
FUNCTION_LINES_MAX = 80
BANNED = {"manager", "handler", "engine", "util", "utils", "helper", "helpers", "data", "info"}
OTHERS_NAMES = {"dataReceived", "data_received"}
"""Names that other people's interfaces prescribe."""
TEXT = {".py", ".md", ".rst", ".toml", ".cfg", ".ini", ".txt", ".json", ".svg", ".css", ".yml", ""}


def test_a_module_holds_one_idea(modules: dict[str, Any]) -> None:
    """No module grows beyond what one reads in a sitting."""
    assert not {name: size for name, each in modules.items() if (size := len(each.text.splitlines())) > LINES_MAX}


def test_a_function_fits_a_screen(modules: dict[str, Any]) -> None:
    """No function is longer than a tall screen, its docstring aside."""
    long = {}
    for name, module in modules.items():
        for node in _functions(module.tree):
            size = (node.end_lineno or node.lineno) - node.lineno - (ast.get_docstring(node) or "").count("\n")
            if size > FUNCTION_LINES_MAX:
                long[f"{name}.{node.name}"] = size
    assert not long


def test_names_say_something(modules: dict[str, Any]) -> None:
    """No module, class, function or parameter is called by a word that could stand for anything."""
    guilty = set()
    for name, module in modules.items():
        guilty.update(f"{name} (module)" for part in name.split(".") if BANNED & _words(part))
        for node in ast.walk(module.tree):
            names = [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) else []
            names += [node.arg] if isinstance(node, ast.arg) else []
            guilty.update(f"{name}: {each}" for each in names if each not in OTHERS_NAMES and BANNED & _words(each))
    assert not guilty


def test_every_module_and_public_name_says_what_it_is_for(modules: dict[str, Any]) -> None:
    """Modules, public classes and public top-level functions have docstrings."""
    silent = set()
    for name, module in modules.items():
        nodes = [
            node for node in module.tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        silent.update(name for _ in range(1) if not ast.get_docstring(module.tree))
        silent.update(f"{name}.{node.name}" for node in nodes if node.name[0] != "_" and not ast.get_docstring(node))
    assert not silent


def test_every_test_says_its_purpose(root: Path) -> None:
    """Each test function has a docstring."""
    silent = []
    for path in (root / "tests").rglob("test_*.py"):
        for node in _functions(ast.parse(path.read_text())):
            if node.name.startswith("test_") and not ast.get_docstring(node):
                silent.append(f"{path.relative_to(root)}: {node.name}")
    assert not silent


def test_annotations_are_lazy_everywhere(modules: dict[str, Any]) -> None:
    """Every module with code begins with the future import that the style asks for."""
    line = "from __future__ import annotations"
    assert not {name for name, module in modules.items() if len(module.tree.body) > 1 and line not in module.text}


def test_code_is_ascii(modules: dict[str, Any]) -> None:
    """Typographic characters do not slip into code."""
    assert not {name for name, module in modules.items() if not module.text.isascii()}


def test_no_path_of_somebodys_machine(files: list[Path], root: Path) -> None:
    """Nothing in the repository depends on where it was written."""
    pattern = re.compile(r"(?<![\w.~])/(?:work|home|root|Users)/\w|[A-Z]:\\\\Users")
    texts = [path for path in files if path.suffix in TEXT]
    assert len(texts) > 50
    found = {str(path.relative_to(root)) for path in texts if pattern.search(path.read_text(errors="replace"))}
    assert not found - {"tests/laws/test_style.py"}


def test_nothing_is_left_to_do(modules: dict[str, Any]) -> None:
    """No reminders in the source: what is left goes into an issue."""
    assert not {name for name, module in modules.items() if re.search(r"\b(TODO|FIXME|XXX)\b", module.text)}


def test_tests_mirror_the_source(root: Path, modules: dict[str, Any]) -> None:
    """A test file named like a module stands where that module's tests belong."""
    stray = []
    for floor in ("kernel", "plugins", "recipes"):
        for path in (root / "tests" / floor).rglob("test_*.py"):
            module = ".".join((*path.relative_to(root / "tests").parent.parts, path.stem.removeprefix("test_")))
            if module not in modules and path.parent.name != "recipes":
                stray.append(str(path.relative_to(root)))
    assert len(stray) <= len(modules) // 4, stray


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _words(name: str) -> set[str]:
    return {each.lower() for each in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)}
