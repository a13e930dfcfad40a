"""Arrows go downward only, and the core does nothing but compute: held on the syntax tree."""

from __future__ import annotations

import re
from typing import Any

import pytest

PURE = re.compile(
    r"kernel\.(paxos|system)\b|kernel\.(machine|host|node|gate|forwarding|renewals)$|plugins\.\w+\.machine$"
)
IMPURE = {"asyncio", "ctypes", "datetime", "fcntl", "multiprocessing", "os", "pathlib", "random", "secrets", "select"}
IMPURE |= {"selectors", "signal", "socket", "subprocess", "tempfile", "threading", "time", "twisted", "uuid", "zope"}

K = r"quorate\.kernel\."
# From which modules (a pattern) which of ours must not be imported, and why.
FORBIDDEN = [
    (r"kernel\b", r"quorate\.(plugins|recipes)\b", "the kernel knows no plugin"),
    (r"plugins\b", r"quorate\.recipes\b", "a plugin knows no recipe"),
    (r"plugins\.\w+\.(?!front$|client$)\w+$", K + r"(server|client|cli)\b", "only front and client touch these"),
    (r"plugins\.\w+\.client$", r"quorate\.plugins\.\w+\.machine$|" + K + r"server\b", "a client runs elsewhere"),
    (r"recipes\b", r"quorate\.plugins\.\w+\.(?!client\b)\w+$", "a recipe uses a plugin's client"),
    (r"recipes\b", K + r"(server|paxos|storage|host|node)\b", "a recipe runs in an application"),
    (r"kernel\.paxos\b", K + r"(?!paxos\b)", "consensus knows nothing above it"),
    (r"kernel\.machine$", r"quorate\.", "a machine needs nothing but this module"),
    (r"kernel\.(host|node)$", K + r"(server|client|cli|testing|storage)\b", "these are driven, they drive nothing"),
    (r"kernel\.system\b", K + r"(server|client|cli|testing|storage|host|node)\b", "the kernel's machines are machines"),
    (r"kernel\.storage\b", K + r"(server|client|cli|testing|host|node)\b", "storage keeps bytes"),
    (r"kernel\.wire\b", K + r"(server|client|cli|testing|storage|host)\b", "wire formats know no users"),
    (r"kernel\.client\b", K + r"(server|cli|testing|storage|host|node|paxos)\b", "a client knows the protocol only"),
    (r"kernel\.(?!cli\b)", K + r"cli\b", "nothing stands on the command line"),
    (r"kernel\.(?!testing\b|cli\b)", K + r"testing\b", "what ships in a replica does not need the test kit"),
]


def test_pure_modules_exist(modules: dict[str, Any]) -> None:
    """The rule below speaks of modules that are there."""
    assert sum(bool(PURE.match(name)) for name in modules) >= 15


def test_the_core_does_nothing_but_compute(modules: dict[str, Any]) -> None:
    """Consensus, host, node and machines import no clock, no disk, no network, no randomness."""
    guilty = {
        name: sorted(bad)
        for name, module in modules.items()
        if PURE.match(name) and (bad := {each for each in module.imports() if each.split(".")[0] in IMPURE})
    }
    assert not guilty


@pytest.mark.parametrize(("importer", "imported", "why"), FORBIDDEN, ids=[why for _, _, why in FORBIDDEN])
def test_arrows_go_downward(modules: dict[str, Any], importer: str, imported: str, why: str) -> None:
    """Each floor imports only what stands below it."""
    guilty = {
        name: sorted(bad)
        for name, module in modules.items()
        if re.match(importer, name)
        and (bad := {each for each in module.imports() if re.match(imported, each) and _is_module(modules, each)})
    }
    assert not guilty, why


def _is_module(modules: dict[str, Any], name: str) -> bool:
    return name.removeprefix("quorate.") in modules


def test_no_module_imports_the_reactor_when_it_is_imported(modules: dict[str, Any]) -> None:
    """Importing the library installs no reactor: only functions of the command line may fetch it."""
    guilty = []
    for name, module in modules.items():
        top = "\n".join(line for line in module.text.splitlines() if line and not line[0].isspace())
        if re.search(
            r"^from twisted\.internet import .*\breactor\b|^import twisted\.internet\.reactor", top, re.MULTILINE
        ):
            guilty.append(name)
    assert not guilty


def test_no_pickle(modules: dict[str, Any]) -> None:
    """Nothing that is read from a disk or a wire can run code."""
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    assert not {name for name, module in modules.items() if module.imports() & forbidden}
