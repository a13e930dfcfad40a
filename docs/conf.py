"""Sphinx: `tox -e docs`, or `sphinx-build -nW -b html docs docs/_build`."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "planted"))

project = "Quorate"
author = "The Quorate maintainers"
project_copyright = "The Quorate maintainers"
version = release = installed("quorate")

extensions = ["sphinx.ext.autodoc", "quorate_reference"]
html_theme = "furo"
html_title = f"Quorate {release}"
exclude_patterns = ["_build"]
default_role = "literal"
pygments_style = "default"
toc_object_entries = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_type_aliases = {"Plain": "Plain"}
python_use_unqualified_type_names = True
nitpicky = True
nitpick_ignore_regex = [
    # The standard library and Twisted: their inventories would need the network at build time.
    (r"py:.*", r"(collections|twisted|zope|asyncio|enum|pathlib|random|typing|argparse|threading|construct)\b.*"),
    (r"py:.*", r"(Random|Callable|Iterable|Iterator|Mapping|Sequence|Path|struct)"),
    # Modules and constants that a docstring points at and that have no page of their own.
    (r"py:(mod|data|attr)", r".*"),
    (r"py:class", r"(.*\._[A-Z]\w*|.*\bT(_co)?|Effects|TypeAliasForwardRef|.*\.(SimulatedDoor|Task))"),
    # Names in docstrings of a package that says "see there" of a neighbor without a page.
    (r"py:(class|exc|meth|func)", r"(Refusal|Gap|take|start|checkers\.Violation|\.?[a-z_]+\..*)"),
    (r"py:.*", r"(int|str|bytes|bool|float|list|dict|tuple|None|object|type|Exception|ValueError|TypeError|OSError)"),
]
