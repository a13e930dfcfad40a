"""The command as a whole: its parts, its help, its manners."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest
from quorate.kernel.cli.command import AT, Complaint, Exit, endpoints
from quorate.kernel.cli.main import commands, main, parser


def parsers(part: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """`part` and every parser below it."""
    found = [part]
    for action in part._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [each for choice in action.choices.values() for each in parsers(choice)]
    return found


def test_every_command_is_there() -> None:
    """The kernel's own, and those that entry points add."""
    names = [each.name for each in commands()]
    assert names == ["tour", "cell", "replica", "status", "call", "plugin", "journal", "lock", "znodes"]


def test_every_option_is_explained() -> None:
    """Nothing in the help is silent, and no two commands explain themselves alike."""
    every = parsers(parser())
    for part in every:
        assert part.description, part.prog
        for action in part._actions:
            if action.dest not in ("verb", "command"):
                assert action.help, (part.prog, action.dest)
        assert part.format_help()
    assert len({part.description for part in every}) == len(every)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the distribution's."""
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"quorate {version('quorate')}\n"


def test_help_imports_no_reactor() -> None:
    """What only prints must not pay for a server."""
    code = "import sys, quorate.kernel.cli.main as m; m.parser().format_help(); print('twisted' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_endpoints_come_from_the_option_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """--at wins; without either it is a complaint that says what to do."""
    monkeypatch.setenv(AT, "tcp:a:1, tcp:b:2")
    assert endpoints(parser().parse_args(["status"])) == ["tcp:a:1", "tcp:b:2"]
    assert endpoints(parser().parse_args(["status", "--at", "tcp:c:3"])) == ["tcp:c:3"]
    monkeypatch.delenv(AT)
    with pytest.raises(Complaint) as caught:
        endpoints(parser().parse_args(["status"]))
    assert caught.value.status is Exit.REFUSED
    assert "cell run" in caught.value.advice


@pytest.mark.parametrize("words", [["--help"], ["cell", "run", "--help"]])
def test_a_reader_that_goes_away_is_no_drama(words: list[str]) -> None:
    """``quorate ... | head`` ends without a traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-P", "-m", "quorate.kernel.cli", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert done.stderr == ""


def test_a_machine_that_is_not_installed_is_named(quorate: Any, tmp_path: Any) -> None:
    """Before anything is started, with what there is."""
    done = quorate("cell", "run", "--dir", str(tmp_path / "cell"), "--machine", "nonsense")
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert "counters" in done.stderr


@pytest.mark.parametrize("words", [["status", "--timeout"], ["lock", "--session"], ["cell", "stop", "0", "--timeout"]])
@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(words: list[str], given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As a wrong command line, before anything is tried."""
    with pytest.raises(SystemExit) as exit:
        main([*words, given])
    assert exit.value.code == 2
    assert f"argument {words[-1]}: " in capsys.readouterr().err


def test_some_times_may_be_zero(capsys: pytest.CaptureFixture[str]) -> None:
    """Not to wait at all, to kill at once."""
    taken = parser().parse_args(["lock", "--wait", "0", "--kill-after", "0", "--delay", "0", "a", "--", "true"])
    assert (taken.wait, taken.kill_after, taken.delay) == (0, 0, 0)
    with pytest.raises(SystemExit):
        main(["lock", "--wait", "-1", "a", "--", "true"])
    assert "-1 is no time" in capsys.readouterr().err
