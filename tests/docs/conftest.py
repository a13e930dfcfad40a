"""What documentation pages need to be run: the ``quorate`` command, a folder, a cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands that the pages type, bound to the Python that runs the tests."""
    folder = tmp_path_factory.mktemp("bin")
    for name, words in (
        ("quorate", "-m quorate.kernel.cli"),
        ("python", ""),
        ("pytest", "-m pytest -p no:cacheprovider"),
    ):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def environment(commands: Path) -> dict[str, str]:
    """The environment of a reader's shell, but for QUORATE_AT."""
    return {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "120",
    }


@pytest.fixture(scope="session")
def running_cell(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The client endpoints of a cell that lives as long as the test session, for pages that take one for granted."""
    folder = tmp_path_factory.mktemp("cell")
    process = subprocess.Popen(
        ["quorate", "cell", "run", "--json", "--dir", str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the cell did not start: exit status {process.wait(10)}"
        yield ",".join(each["client"] for each in json.loads(line)["replicas"])
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
