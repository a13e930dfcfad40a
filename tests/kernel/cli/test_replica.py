"""One replica as a process: by flags, by file, under twist, and its refusals to start."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.cli.command import Complaint
from quorate.kernel.cli.local import LocalCell, free_base
from quorate.kernel.cli.replica import local_configuration
from quorate.kernel.server.config import ReplicaConfig

pytestmark = pytest.mark.cell

REPLICA = [sys.executable, "-P", "-m", "quorate.kernel.cli", "replica"]
TWIST = [sys.executable, "-P", "-m", "twisted"]

CONFIGURATION = """
cell = "one"
member = 1
directory = "state"
machines = ["counters"]
[listen]
peer = "tcp:{0}1:interface=127.0.0.1"
client = "tcp:{0}2:interface=127.0.0.1"
[members.1]
peer = "tcp:127.0.0.1:{0}1"
client = "tcp:127.0.0.1:{0}2"
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Start processes that end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            running.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.wait()


def count(quorate: Any, at: str) -> int:
    """Add 1 to a counter; waits until the cell serves and has loaded its machines."""
    deadline = time.monotonic() + 30
    while True:
        done = quorate("call", "counters.add", "x", "--at", at)
        if done.returncode == 0:
            return int(done.stdout)
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.1)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Its status after SIGTERM."""
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def flags(directory: Path, base: int) -> list[str]:
    """The only replica of a local cell."""
    return ["--index", "0", "--replicas", "1", "--port", str(base), "--dir", str(directory), "--machine", "counters"]


def test_by_flags_and_again_on_its_data(started: Any, quorate: Any, tmp_path: Path) -> None:
    """Nothing is initialized; SIGTERM ends it with status 0; it goes on where it was, also after kill -9."""
    base = free_base(1)
    at = LocalCell("", 1, base).client(0)
    process = started(*REPLICA, *flags(tmp_path / "state", base))
    assert count(quorate, at) == 1
    assert ended(process) == 0
    process = started(*REPLICA, *flags(tmp_path / "state", base))
    assert count(quorate, at) == 2
    process.kill()
    process.wait()
    started(*REPLICA, *flags(tmp_path / "state", base))
    assert count(quorate, at) == 3


@pytest.mark.parametrize("words", [[*REPLICA, "--config"], [*TWIST, "quorate", "--config"]], ids=["quorate", "twist"])
def test_by_file(started: Any, quorate: Any, tmp_path: Path, words: list[str]) -> None:
    """The same service under our command and under Twisted's."""
    base = free_base(1) // 10
    (tmp_path / "replica.toml").write_text(CONFIGURATION.format(base))
    process = started(*words, str(tmp_path / "replica.toml"))
    assert count(quorate, f"tcp:127.0.0.1:{base}2") == 1
    status = json.loads(quorate("status", "--json", "--at", f"tcp:127.0.0.1:{base}2").stdout)
    assert (status["cell"], status["leader"]) == ("one", 1)
    assert ended(process) in (0, -signal.SIGTERM)


def test_it_refuses_to_start(started: Any, quorate: Any, tmp_path: Path) -> None:
    """A directory in use, a taken port, somebody else's disk, a wrong file: status 1 and words, no traceback."""
    base, other = free_base(1), free_base(1)
    started(*REPLICA, *flags(tmp_path / "state", base))
    count(quorate, LocalCell("", 1, base).client(0))
    (tmp_path / "wrong.toml").write_text("cell = 7")
    (tmp_path / "wronger.toml").write_text("cell =")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", other + 20))
        taken.listen()
        for words, says in [
            (flags(tmp_path / "state", other), "state"),
            (flags(tmp_path / "state2", other), str(other + 20)),
            (["--config", str(tmp_path / "wrong.toml")], "wrong.toml"),
            (["--config", str(tmp_path / "wronger.toml")], "TOML"),
        ]:
            done = quorate("replica", *words)
            assert done.returncode == 1, (words, done.stderr)
            assert says in done.stderr
            assert "Traceback" not in done.stderr


@pytest.mark.parametrize("optimizing", [["-O"], ["-OO"]])
def test_it_does_not_run_without_its_assertions(tmp_path: Path, optimizing: list[str]) -> None:
    """Where the interpreter leaves assertions out, a replica refuses to start, and founds nothing."""
    words = [REPLICA[0], *optimizing, *REPLICA[1:], *flags(tmp_path / "state", free_base(1))]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "quorate: python -O leaves out the assertions" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_member_that_did_not_found_the_cell_says_what_it_waits_for(started: Any, tmp_path: Path) -> None:
    """An id that stands in no [members] is a newcomer's or a slip of the pen: its log says which it would be."""
    base = free_base(1) // 10
    text = CONFIGURATION.format(base).replace("member = 1", "member = 7")
    (tmp_path / "replica.toml").write_text(text)
    process = started(*REPLICA, "--config", str(tmp_path / "replica.toml"))
    deadline = time.monotonic() + 30
    while "member 7 is none of the founders [1]" not in (tmp_path / "log").read_text():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_refuses_to_start_under_twist_too(tmp_path: Path) -> None:
    """What twist starts ends with the same words, not with a traceback."""
    base = free_base(1) // 10
    (tmp_path / "replica.toml").write_text('allow = ["nowhere:Nothing"]\n' + CONFIGURATION.format(base))
    for words in [*TWIST, "quorate"], REPLICA:
        done = subprocess.run(
            [*words, "--config", str(tmp_path / "replica.toml")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert "quorate: the machine 'nowhere:Nothing'" in done.stderr
        assert "Traceback" not in done.stderr


def test_it_says_which_option_of_a_door_is_wrong(quorate: Any, tmp_path: Path) -> None:
    """What a front cannot follow ends the replica with status 1 and words that name the table."""
    base = free_base(1) // 10
    listened = CONFIGURATION.replace("[members.1]", 'zookeeper = "tcp:0"\n[members.1]').replace("counters", "znodes")
    (tmp_path / "replica.toml").write_text(listened.format(base) + "[options.zookeeper]\ntock = 1\n")
    done = quorate("replica", "--config", str(tmp_path / "replica.toml"))
    assert done.returncode == 1
    assert "[options.zookeeper]: unknown options: tock" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_local_cells_replicas_agree_on_everything_but_themselves(tmp_path: Path) -> None:
    """The flags of each replica name the same founders; ports and folders differ."""
    cell = LocalCell("c", 5, 20_000, ("locks",), ("tally:Tally",), options=("zookeeper.secure=tcp:2{index}",))
    configurations: list[ReplicaConfig] = [local_configuration(cell, each, tmp_path / str(each)) for each in range(5)]
    assert len({each.cell_id for each in configurations}) == 1
    assert {(each.founders, each.machines, each.allow) for each in configurations} == {
        (configurations[0].founders, ("locks",), ("tally:Tally",))
    }
    assert [each.options["zookeeper"]["secure"] for each in configurations] == [f"tcp:2{each}" for each in range(5)]
    with pytest.raises(Complaint, match="options for dns"):
        local_configuration(cell._replace(options=("dns.ttl=1",)), 0, tmp_path)
    listening = {
        port for each in configurations for port in re.findall(r"tcp:(\d+)", f"{each.peer}{each.client}{each.doors}")
    }
    assert listening == {str(port) for each in range(5) for port in cell.ports(each)}
