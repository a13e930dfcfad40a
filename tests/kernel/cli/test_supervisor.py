"""A local cell of real processes: what scripts rely on."""

from __future__ import annotations

import errno
import json
import os
import re
import select
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from quorate.kernel.cli.command import Complaint
from quorate.kernel.cli.control import Order
from quorate.kernel.cli.local import LocalCell
from quorate.kernel.cli.supervisor import Supervised, Supervisor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

pytestmark = pytest.mark.cell


def status(quorate: Any, at: str) -> dict[str, Any]:
    """What ``quorate status --json`` says."""
    done = quorate("status", "--json", "--at", at)
    assert done.stdout.count("\n") == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def alive(pid: int) -> bool:
    """Whether the process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def four_letter_word(at: str, word: bytes) -> str:
    """What a ZooKeeper port answers."""
    host, _, port = at.rpartition(":")
    with socket.create_connection((host, int(port)), 10) as link:
        link.sendall(word)
        with link.makefile() as answer:
            return answer.read()


def wait_until(what: Any, seconds: float = 20) -> None:
    """Poll until `what()` is true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_life_of_a_cell(new_cell: Any, quorate: Any) -> None:
    """One line of JSON; orders do what they say; a killed replica returns, a stopped one does not; data survives."""
    cell = new_cell("--replicas", "3", "--option", "zookeeper.tick=700", "--option", "zookeeper.words=conf")
    facts = cell.facts
    assert set(facts) == {"cell", "dir", "leader", "replicas"}
    assert [set(each) for each in facts["replicas"]] == [{"index", "id", "pid", "client", "zookeeper", "dir"}] * 3
    assert [(each["index"], each["id"]) for each in facts["replicas"]] == [(0, 1), (1, 2), (2, 3)]
    assert all(alive(each["pid"]) for each in facts["replicas"])
    assert facts["leader"] in (1, 2, 3)
    assert quorate("call", "counters.add", "kept", "5", "--at", cell.at).stdout == "5\n"

    cell.order("stop", 0)
    assert not alive(facts["replicas"][0]["pid"])
    found = status(quorate, cell.at)
    assert found["replicas"][0]["role"] == "down"
    assert found["failures_tolerated"] == 0

    # Longer than the pause before a dead replica is started again: the stopped one must still be down after it.
    cell.order("kill", 1)
    assert not alive(facts["replicas"][1]["pid"])
    cell.order("start", 1)
    wait_until(lambda: status(quorate, cell.at)["leader"] is not None)
    found = status(quorate, cell.at)
    assert found["replicas"][0]["role"] == "down"
    assert found["replicas"][1]["pid"] != facts["replicas"][1]["pid"]
    assert quorate("call", "counters.add", "kept", "--at", cell.at).stdout == "6\n"
    cell.order("start", 0)
    wait_until(lambda: status(quorate, cell.at)["failures_tolerated"] == 1)

    assert cell.stop() == ""
    assert cell.process.returncode == 0
    assert "Error" not in cell.log.read_text()
    again = new_cell("--option", "zookeeper.max-session-timeout=9000")
    told = four_letter_word(again.zookeepers[0], b"conf")
    assert "tickTime=700\n" in told
    assert "maxSessionTimeout=9000\n" in told
    assert again.facts["cell"] == facts["cell"]
    assert again.clients == cell.clients
    assert quorate("call", "counters.get", "kept", "--at", again.at).stdout == "6\n"


@pytest.fixture
def heeded() -> Iterator[None]:
    """Processes that are started heed the hang-up signal, also where it is ignored here, as under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeded")
def test_signals_end_it_however_often_they_come(new_cell: Any) -> None:
    """Ctrl-C twice, SIGTERM, the terminal's hang-up: status 0, no process and no complaint left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        cell = new_cell("--replicas", "3")
        cell.process.send_signal(number)
        cell.process.send_signal(number)
        assert cell.process.wait(60) == 0
        assert not any(alive(each["pid"]) for each in cell.facts["replicas"])
        assert "Error" not in cell.log.read_text()


def test_a_replica_that_dies_is_started_again_after_a_second(new_cell: Any, quorate: Any) -> None:
    """kill -9 from outside: back by itself, not at once."""
    cell = new_cell("--replicas", "1")
    pid = cell.facts["replicas"][0]["pid"]
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "starts again" in cell.log.read_text())

    def back() -> bool:
        done = quorate("status", "--json", "--at", cell.at)
        return done.returncode == 0 and json.loads(done.stdout)["replicas"][0]["pid"] not in (None, pid)

    wait_until(back)
    assert time.monotonic() - killed > 0.9


class Starts:
    """A supervisor whose processes are only counted."""

    environment: dict[str, str] = {}

    def __init__(self, directory: Path) -> None:
        self.reactor = self
        self.count = 0
        self.log = lambda index: directory / str(index) / "log"
        self.command_line = lambda index: [str(index)]

    def spawnProcess(self, replica: Any, *_: Any, **__: Any) -> Any:
        self.count += 1
        replica.transport = SimpleNamespace(pid=self.count, signalProcess=lambda number: None)
        return replica.transport


def test_who_is_started_while_it_ends_starts_again(tmp_path: Path) -> None:
    """Two people at two terminals; unless the last word was to stop it."""
    starts = Starts(tmp_path)
    replica = Supervised(starts, 0)  # type: ignore[arg-type]
    replica.start()
    for last_word, count in ((replica.start, 2), (replica.forget_restart, 2)):
        replica.forget_restart()
        gone = replica.end(signal.SIGTERM)
        replica.start()
        last_word()
        assert not gone.called
        replica.processEnded(Failure(ProcessDone(0)))
        assert gone.called
        assert starts.count == count


def test_who_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """Without room for one more process: a second later, and a second after that, until there is."""

    class Full(Starts):
        """No room at first."""

        def __init__(self, directory: Path) -> None:
            super().__init__(directory)
            self.later: list[Any] = []
            self.said: list[str] = []
            self.callLater = lambda delay, call: self.later.append(call)
            self.tell = self.said.append

        def spawnProcess(self, replica: Any, *words: Any, **more: Any) -> Any:
            if len(self.said) < 2:
                raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
            return super().spawnProcess(replica, *words, **more)

    full = Full(tmp_path)
    replica = Supervised(full, 0)  # type: ignore[arg-type]
    replica.start()
    for tries in (1, 2):
        assert (full.count, len(full.said)) == (0, tries)
        replica._again = None
        full.later.pop()()
    assert (full.count, replica.pid) == (1, 1)
    assert "cannot start: Resource temporarily unavailable" in replica.why_down


def test_who_is_told_to_stop_stays_stopped(tmp_path: Path) -> None:
    """Whoever orders something else while it still ends is refused: it would count as running, and start again."""

    class Slow(Clock):
        """Whose processes take their time to end."""

        def spawnProcess(self, replica: Any, *_: Any, **__: Any) -> Any:
            replica.transport = SimpleNamespace(pid=7, signalProcess=lambda number: None)
            return replica.transport

    slow = Slow()
    supervisor = Supervisor(slow, tmp_path, LocalCell("c", 1, 20_000), print)  # type: ignore[arg-type]
    (replica,) = supervisor._replicas
    replica.start()
    stopping = Deferred.fromCoroutine(supervisor.obey(Order.STOP, 0))
    for order in (Order.PAUSE, Order.RESUME, Order.KILL):
        refused = Deferred.fromCoroutine(supervisor.obey(order, 0))
        wrong: list[Failure] = []
        refused.addErrback(wrong.append)
        assert wrong[0].check(Complaint)
        assert "is about to end" in str(wrong[0].value)
    replica.processEnded(Failure(ProcessDone(0)))
    assert stopping.called
    assert not replica.pid
    assert not slow.getDelayedCalls()


def test_a_paused_replica(new_cell: Any, quorate: Any) -> None:
    """The others go on without it, and it follows again afterwards."""
    cell = new_cell()
    paused = cell.facts["leader"] - 1
    cell.order("pause", paused)
    others = ",".join(each for index, each in enumerate(cell.clients) if index != paused)
    assert quorate("call", "counters.add", "x", "--at", others, "--timeout", "20").stdout == "1\n"
    assert status(quorate, others)["replicas"][paused]["role"] == "down"
    cell.order("resume", paused)
    wait_until(lambda: status(quorate, others)["failures_tolerated"] == 1)


def test_start_gives_up_on_a_replica_that_says_why_it_never_serves(new_cell: Any, quorate: Any) -> None:
    """A wiped folder, a damaged one, a paused process: no waiting, the replica's own words, and what to do."""
    cell = new_cell()

    def refused() -> str:
        done = quorate("cell", "start", "0", "--dir", str(cell.directory))
        assert done.returncode == 1
        assert "does not serve after" not in done.stderr
        assert done.stdout == ""
        return str(done.stderr)

    cell.order("pause", 0)
    assert f"go on with `quorate cell resume 0 --dir {cell.directory}`" in refused()
    cell.order("stop", 0)
    folder = Path(cell.facts["replicas"][0]["dir"])
    assert "Main loop terminated" in (folder / "log").read_text().splitlines()[-1], "it did not end by itself"
    folder.rename(folder.with_name("kept"))
    said = refused()
    assert "replica 0 never serves as it is: a peer refuses its disk: member 1 is known with the disk" in said
    assert str(folder / "log") in said
    cell.order("stop", 0)
    for name in ("identity", "identity.copy"):
        (folder / name).write_bytes(b"damaged")
    said = refused()
    assert re.search(r"replica 0 \(pid \d+\) ended with exit status 1: quorate: ", said)
    assert "both identity files are damaged" in said
    cell.order("stop", 0)
    shutil.rmtree(folder)
    folder.with_name("kept").rename(folder)
    assert "replica 0 serves" in cell.order("start", 0)


def test_no_quorum_is_exit_status_1(new_cell: Any, quorate: Any) -> None:
    """With two of three stopped, status still answers, says so, and exits with 1."""
    cell = new_cell()
    cell.order("stop", 0)
    cell.order("stop", 2)
    wait_until(lambda: quorate("status", "--at", cell.clients[1]).returncode == 1)
    done = quorate("status", "--at", cell.clients[1])
    assert "NO QUORUM" in done.stdout
    found = json.loads(quorate("status", "--json", "--at", cell.clients[1]).stdout)
    assert found["leader"] is None
    refused = quorate("call", "counters.add", "x", "--at", cell.clients[1], "--timeout", "1")
    assert refused.returncode in (1, 3)
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_killed_parent_leaves_no_orphan(new_cell: Any) -> None:
    """kill -9 of ``cell run``: every replica goes, a paused one too, and the cell can be run again."""
    cell = new_cell()
    cell.order("pause", 1)
    cell.process.kill()
    cell.process.wait()
    wait_until(lambda: not any(alive(each["pid"]) for each in cell.facts["replicas"]))
    assert new_cell().facts["cell"] == cell.facts["cell"]


def test_complaints_say_what_to_do(new_cell: Any, quorate: Any, tmp_path: Path) -> None:
    """Wrong uses end with words and a status, never with a traceback."""
    cell = new_cell("--replicas", "1")
    folder = str(cell.directory)
    for words, says in [
        (["cell", "run", "--dir", folder], "running already"),
        (["cell", "run", "--dir", str(tmp_path / "new"), "--replicas", "99"], "1 to 9"),
        (["cell", "stop", "7", "--dir", folder], "counted from 0"),
        (["cell", "stop", "0", "--dir", str(tmp_path / "nowhere")], "no cell"),
        (["status", "--at", "tcp:127.0.0.1:1"], "refused"),
        (["status", "--at", "nonsense"], "nonsense"),
        (["status", "--at", "tcp:" + cell.zookeepers[0], "--timeout", "2"], "127.0.0.1"),
        (["status"], "--at"),
        (["call", "counters", "--at", cell.at], "MACHINE.COMMAND"),
        (["call", "nobody.add", "--at", cell.at], "nobody"),
        (["call", "counters.nothing", "--at", cell.at], "compare_and_set"),
        (["call", "counters.add", "x", "much", "--at", cell.at], "add("),
        (["plugin", "load", "not-there", "--at", cell.at], "install"),
        (["plugin", "unload", "not-there", "--at", cell.at], "not-there"),
        (["journal", "dump", str(tmp_path / "nowhere")], "nowhere"),
        (["journal", "verify", str(cell.directory / "cell.json")], "is a file: name the directory"),
        (["journal", "verify", folder], "no identity file: name the directory"),
        (["plugin", "load", "os:system", "--at", cell.at], "neither installed nor allowed on the members [1]"),
        (["replica", "--dir", folder], "--index"),
        (["replica", "--dir", folder, "--index", "0", "--port", "99999"], "between 1 and 65500"),
        (["replica", "--config", "some.toml", "--dir", folder], "--config and --dir"),
        (["replica", "--config", str(tmp_path / "nowhere.toml")], "nowhere.toml"),
    ]:
        done = quorate(*words)
        assert done.returncode in (1, 2), words
        assert says in done.stderr, (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_a_taken_port_is_named(new_cell: Any, quorate: Any) -> None:
    """Somebody else on one of the ports: said before anything is started."""
    cell = new_cell("--replicas", "1")
    cell.stop()
    port = int(cell.zookeepers[0].rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        done = quorate("cell", "run", "--dir", str(cell.directory))
    assert done.returncode == 1
    assert str(port) in done.stderr


def test_a_cell_goes_on_without_one_that_cannot_start(new_cell: Any, quorate: Any) -> None:
    """One of three is damaged, or its port is taken: the others serve, the line says who is missing and why; two of
    three: it ends with both reasons. Once the port is free its replica comes by itself."""
    cell = new_cell()
    cell.stop()
    folders = [Path(each["dir"]) for each in cell.facts["replicas"]]

    cell = _beside(new_cell, cell.zookeepers[0])
    assert ["trouble" in each for each in cell.facts["replicas"]] == [True, False, False]
    assert "Address already in use" in cell.facts["replicas"][0]["trouble"]
    assert "MISSING: replica 0 (pid " in cell.log.read_text()
    assert cell.facts["leader"] in (2, 3)
    wait_until(lambda: status(quorate, cell.at)["failures_tolerated"] == 1)
    assert cell.stop() == ""

    for name in ("identity", "identity.copy"):
        (folders[1] / name).write_bytes(b"damaged")
    cell = new_cell(may_miss=True)
    assert "both identity files are damaged" in cell.facts["replicas"][1]["trouble"]
    assert quorate("call", "counters.add", "x", "--at", cell.at).stdout == "1\n"
    cell.stop()

    shutil.rmtree(folders[2])
    folders[2].write_text("no folder")
    done = quorate("cell", "run", "--json", "--dir", str(cell.directory))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "both identity files are damaged" in done.stderr
    assert f"{folders[2]}: " in done.stderr


def _beside(new_cell: Any, zookeeper: str) -> Any:
    """Start a cell while somebody else listens at one of its doors."""
    host, _, port = zookeeper.rpartition(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        return new_cell(may_miss=True)


def test_a_cell_that_did_not_come_about_is_founded_by_the_next_run(tmp_path: Path, new_cell: Any, quorate: Any) -> None:
    """The first run needs every replica, whose machines it loads; one that failed leaves that to the run after it."""
    folder = tmp_path / "cell"
    done = quorate("cell", "run", "--machine", "znodes", "--dir", str(folder), "--option", "zookeeper.tick=soon")
    assert done.returncode == 1
    assert "a fresh cell begins with all of its replicas" in done.stderr
    cell = new_cell("--option", "zookeeper.tick=500")
    assert four_letter_word(cell.zookeepers[2], b"ruok") == "imok"


def test_options_that_a_door_does_not_know(tmp_path: Path, quorate: Any) -> None:
    """The cell does not start, and says which door refused what."""
    for option, says in (
        ("zookeeper.tick=soon", "tick=soon is invalid"),
        ("tick=5", "FACE.OPTION=VALUE"),
        ("gopher.tick=5", "options for gopher, where no door is"),
    ):
        done = quorate("cell", "run", "--replicas", "1", "--dir", str(tmp_path / "cell"), "--option", option)
        assert done.returncode in (1, 2)
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_what_a_replica_said_outlives_a_temporary_folder(quorate: Any, tmp_path: Path) -> None:
    """A cell that cannot start leaves the log that its complaint names; one that never began leaves nothing."""
    here = {**os.environ, "TMPDIR": str(tmp_path)}
    done = quorate("cell", "run", "--replicas", "1", "--allow", "nowhere:Nothing", env=here)
    assert done.returncode == 1
    assert "nowhere:Nothing" in done.stderr
    (log,) = tmp_path.glob("quorate-cell-*/replica-0/log")
    assert f"read {log}" in done.stderr
    assert "nowhere:Nothing" in log.read_text()
    assert quorate("cell", "run", "--replicas", "0", env=here).returncode == 2
    assert len(list(tmp_path.glob("quorate-cell-*"))) == 1


def test_refusals_are_exit_status_2(shared_cell: Any, quorate: Any) -> None:
    """What the machine refuses is told apart from what went wrong."""
    done = quorate("call", "counters.add", "", "--at", shared_cell.at)
    assert done.returncode == 2
    assert "bad-arguments" in done.stderr
    assert done.stdout == ""


class Swallowing:
    """A wire to a client port that takes `command` there, and instead of the first answer to it calls `answered`; it
    brings nothing back any more."""

    def __init__(self, far: str, command: bytes, answered: Callable[[], object]) -> None:
        host, _, port = far.removeprefix("tcp:").rpartition(":")
        self._far, self._command, self._answered = (host, int(port)), command, answered
        self._server = socket.create_server(("127.0.0.1", 0))
        self.at = f"tcp:127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        near, _ = self._server.accept()
        self._server.close()
        out = False
        with near, socket.create_connection(self._far) as far:
            while True:
                if far in select.select([near, far], [], [])[0]:
                    answer = far.recv(65_536)
                    if out:
                        break
                    near.sendall(answer)
                else:
                    asked = near.recv(65_536)
                    out = out or self._command in asked
                    far.sendall(asked)
            self._answered()
            while near.recv(65_536):
                pass

    def join(self) -> None:
        """Wait until the client is gone."""
        self._thread.join(30)
        assert not self._thread.is_alive()


def test_an_unknown_outcome_is_exit_status_3(new_cell: Any, quorate: Any) -> None:
    """The command went out and no answer came: it may be done, and here it is."""
    cell = new_cell("--replicas", "1")
    wire = Swallowing(cell.clients[0], b"hidden", lambda: cell.order("pause", 0))
    done = quorate("call", "counters.add", "hidden", "--at", wire.at, "--timeout", "3")
    wire.join()
    cell.order("resume", 0)
    assert done.returncode == 3, done.stderr
    assert "nobody knows" in done.stderr
    assert done.stdout == ""
    assert quorate("call", "counters.get", "hidden", "--at", cell.at).stdout == "1\n"


def test_plugins_come_and_go(new_cell: Any, quorate: Any) -> None:
    """A machine is loaded into the running cell under a name, used, listed and unloaded."""
    cell = new_cell("--replicas", "3", "--machine", "locks")
    assert quorate("call", "tallies.add", "x", "--at", cell.at).returncode == 2
    assert quorate("plugin", "load", "counters", "--name", "tallies", "--at", cell.at).returncode == 0
    assert quorate("call", "tallies.add", "x", "4", "--at", cell.at).stdout == "4\n"
    listed = json.loads(quorate("plugin", "list", "--json", "--at", cell.at).stdout)
    assert [(each["name"], each["code"]) for each in listed] == [("locks", "locks"), ("tallies", "counters")]
    assert quorate("plugin", "unload", "tallies", "--at", cell.at).returncode == 0
    assert quorate("call", "tallies.add", "x", "--at", cell.at).returncode == 2


def test_journal_of_a_stopped_replica(new_cell: Any, quorate: Any) -> None:
    """verify finds it sound; dump shows records; a flipped byte is found."""
    cell = new_cell("--replicas", "1")
    quorate("call", "counters.add", "x", "--at", cell.at)
    cell.stop()
    folder = cell.facts["replicas"][0]["dir"]
    verified = quorate("journal", "verify", folder)
    assert verified.returncode == 0, verified.stdout
    assert len(quorate("journal", "dump", folder).stdout.splitlines()) > 3
    (journal,) = Path(folder).glob("journal-*.log")
    content = bytearray(journal.read_bytes())
    content[4400] ^= 0xFF
    journal.write_bytes(content)
    assert quorate("journal", "verify", folder).returncode == 1
