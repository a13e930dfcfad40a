"""The parent of a local cell: starts the replicas' processes, starts again those that die, and carries out orders.

Whoever dies by itself or by somebody else's signal runs again a second later; whoever was told to stop stays stopped.
Nothing outlives this process: each replica watches a pipe from here and ends when it closes (on Linux the kernel also
kills it at the death of its parent, so that even a paused one goes).

Knows nothing of the replicas' inside: it asks them how they do, as any client may.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProcessTransport, IReactorTime
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from . import ask
from .command import Complaint
from .control import Order
from .local import LocalCell, remove_control, replica_directory
from .status import Facts

RESTART_AFTER: Final = 1.0
STOP_PATIENCE: Final = 10.0
"""Seconds a replica has to end by itself before it is killed."""
SERVE_PATIENCE: Final = 60.0
POLL: Final = 0.05
_ZOOKEEPER: Final = "znodes"
"""The machine whose door a local cell opens on its first ports."""
LOG_BYTES_MAX: Final = 8 << 20


class SupervisorReactor(Protocol):
    """What of Twisted's reactor is needed here, out of IReactorProcess, IReactorTime and IReactorUNIX."""

    def spawnProcess(
        self,
        processProtocol: ProcessProtocol,
        executable: str,
        args: Sequence[str],
        env: Mapping[str, str] | None,
        path: str | None,
        *,
        childFDs: Mapping[int, int | str],
    ) -> IProcessTransport: ...

    def seconds(self) -> float: ...

    def callLater(self, delay: float, callable: Callable[..., object], *args: object) -> IDelayedCall: ...

    def listenUNIX(self, address: str, factory: Factory[Any], *, mode: int) -> IListeningPort: ...


class _State(enum.Enum):
    RUNNING = enum.auto()
    PAUSED = enum.auto()
    FALLEN = enum.auto()
    """Died unasked; a timer will start it again."""
    STOPPED = enum.auto()


class Supervised(ProcessProtocol):
    """One replica: the process that runs it now, if any."""

    def __init__(self, supervisor: Supervisor, index: int) -> None:
        self._supervisor = supervisor
        self.index = index
        self.state = _State.STOPPED
        self.pid = 0
        self.why_down = ""
        """Why its process ended by itself, the last time since somebody told it to start."""
        self._ended: list[Deferred[None]] = []
        self._again: IDelayedCall | None = None
        self._when_gone = False  # start it when the present process is gone

    def start(self) -> None:
        """Run it unless it runs; if it is about to end because somebody stopped it, once it is gone."""
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self.pid:
            self._when_gone = self.state is _State.STOPPED
            return
        try:
            log = _open_log(self._supervisor.log(self.index))
        except OSError as error:
            self._fall(f"cannot start: {error.filename}: {error.strerror}")
            return
        try:
            transport = self._supervisor.reactor.spawnProcess(
                self,
                sys.executable,
                self._supervisor.command_line(self.index),
                self._supervisor.environment,
                None,
                childFDs={0: "w", 1: log, 2: log},
            )
        except OSError as error:
            self._fall(f"cannot start: {error.strerror}")
            return
        finally:
            os.close(log)
        self.state = _State.RUNNING
        self.pid = transport.pid or 0

    def send(self, number: signal.Signals) -> None:
        """Signal the process, which must run."""
        assert self.transport is not None
        self.transport.signalProcess(number)

    def end(self, number: signal.Signals) -> Deferred[None]:
        """End the process with a signal; fires once it is gone."""
        done: Deferred[None] = Deferred()
        if not self.pid:
            done.callback(None)
            return done
        self._ended.append(done)
        with contextlib.suppress(ProcessExitedAlready):  # then its end is about to be told
            self.send(number)
            self.send(signal.SIGCONT)  # whatever it is told, a paused process takes it up only then
        return done

    def processEnded(self, reason: Failure) -> None:
        """Twisted's word that the process is gone."""
        pid, self.pid = self.pid, 0
        how = cast("ProcessDone | ProcessTerminated", reason.value)
        if self.state is not _State.STOPPED:
            if how.signal:
                self._fall(f"(pid {pid}) ended with signal {how.signal}", by_itself=False)
            else:
                last = _last_words(self._supervisor.log(self.index)) or "it said nothing"
                self._fall(f"(pid {pid}) ended with exit status {how.exitCode}: {last}")
        waiting, self._ended = self._ended, []
        for each in waiting:
            each.callback(None)
        if self._when_gone:
            self._when_gone = False
            self.start()

    def _fall(self, how: str, *, by_itself: bool = True) -> None:
        """It does not run although it should: try again later."""
        self.state = _State.FALLEN
        self._again = self._supervisor.reactor.callLater(RESTART_AFTER, self.start)
        words = f"replica {self.index} {how}"
        self._supervisor.tell(f"{words}; it starts again in {RESTART_AFTER:g} s")
        if by_itself:
            self.why_down = words

    def forget_restart(self) -> None:
        """It stays down when it ends."""
        self.state = _State.STOPPED
        self._when_gone = False
        if self._again is not None and self._again.active():
            self._again.cancel()


class _NotYet(Complaint):
    """A replica does not serve, and may do so soon: the complaint for the case that it takes too long."""


class Supervisor:
    """The replicas of one local cell, together.

    Arguments: `tell` takes a line for the person who watches. Attributes: `cell`, which is known to have served once
    :meth:`serving` has returned.
    """

    def __init__(
        self,
        reactor: SupervisorReactor,
        directory: Path,
        cell: LocalCell,
        tell: Callable[[str], None],
    ) -> None:
        self.reactor = reactor
        self.directory = directory
        self.cell = cell
        self.tell = tell
        # In a cell that was there before somebody may have unloaded one.
        self._awaited = () if cell.served else cell.machines
        self.environment = dict(os.environ)
        if cell.path:
            inherited = self.environment.get("PYTHONPATH")
            self.environment["PYTHONPATH"] = os.pathsep.join([*cell.path, *([inherited] if inherited else [])])
        self._replicas = [Supervised(self, index) for index in range(cell.replicas)]
        self._control = ""
        self._listening: IListeningPort | None = None

    # ------------------------------------------------------------ life

    def start(self) -> str:
        """Start every replica and listen for orders; returns the control socket's path."""
        self._control = _control_path()
        self._listening = self.reactor.listenUNIX(self._control, _OrdersFactory(self), mode=0o600)
        for each in self._replicas:
            each.start()
        return self._control

    async def serving(self) -> list[Facts | Complaint]:
        """Wait until every replica serves, or has said why it does not while enough others do. Returns what each says
        of itself, or why it is missing. A Complaint if more are missing than may be."""
        deadline = self.reactor.seconds() + SERVE_PATIENCE
        while True:
            found = [await self._look(index) for index in range(self.cell.replicas)]
            late = self.reactor.seconds() >= deadline
            lost = [each for each in found if isinstance(each, Complaint) and (late or not isinstance(each, _NotYet))]
            if len(lost) > self.cell.may_miss:
                raise self._too_few(lost)
            serving = [each for each in found if not isinstance(each, Complaint)]
            leaders = {each["leader"] for each in serving}
            if len(serving) + len(lost) == len(found) and len(leaders) == 1:  # no change between the answers
                self.cell = self.cell._replace(served=True)
                for each in lost:
                    self.tell(f"MISSING: {each.what}\n  {each.advice}")
                return found
            await self._pause()

    async def stop(self) -> None:
        """End every process, gently if it lets itself."""
        for each in self._replicas:
            each.forget_restart()
        for ended in [self._stop(each) for each in self._replicas]:
            await ended
        if self._listening is not None:
            await maybeDeferred(self._listening.stopListening)
        remove_control(self._control)

    def pids(self) -> list[int]:
        """The replicas' processes now, 0 where none runs."""
        return [each.pid for each in self._replicas]

    def command_line(self, index: int) -> list[str]:
        """How replica `index` is started."""
        cell = self.cell
        words = [sys.executable, "-P", "-m", "quorate.kernel.cli", "replica", "--supervised", "--cell", cell.cell]
        words += ["--index", str(index), "--replicas", str(cell.replicas), "--port", str(cell.port)]
        words += ["--dir", str(replica_directory(self.directory, index))]
        words += [word for each in cell.machines for word in ("--machine", each)]
        words += [word for each in cell.allow for word in ("--allow", each)]
        words += [word for each in cell.options for word in ("--option", each)]
        return words

    def log(self, index: int) -> Path:
        """What replica `index` says goes there."""
        return replica_directory(self.directory, index) / "log"

    # ------------------------------------------------------------ orders

    async def obey(self, order: Order, index: int) -> str:
        """Carry out an order; returns what was done. Raises Complaint."""
        replica = self._replicas[index]
        match order:
            case Order.START:
                if replica.state is _State.PAUSED:
                    raise Complaint(
                        f"replica {index} (pid {replica.pid}) is paused",
                        f"let it go on with `quorate cell resume {index} --dir {self.directory}`",
                    )
                replica.why_down = ""
                replica.start()
                await self._serving(index)
                return f"replica {index} serves (pid {replica.pid})"
            case Order.STOP:
                replica.forget_restart()
                await self._stop(replica)
                return f"replica {index} is stopped"
        if not replica.pid or replica.state is _State.STOPPED:
            how = "is about to end" if replica.pid else "does not run"
            raise Complaint(
                f"replica {index} {how}", f"start it with `quorate cell start {index} --dir {self.directory}`"
            )
        pid = replica.pid
        try:
            match order:
                case Order.KILL:
                    await replica.end(signal.SIGKILL)
                    return f"replica {index} (pid {pid}) is killed; it starts again in {RESTART_AFTER:g} s"
                case Order.PAUSE:
                    replica.send(signal.SIGSTOP)
                    replica.state = _State.PAUSED
                    return f"replica {index} (pid {pid}) is paused"
                case Order.RESUME:
                    replica.send(signal.SIGCONT)
                    replica.state = _State.RUNNING
                    return f"replica {index} (pid {pid}) goes on"
        except ProcessExitedAlready:
            raise Complaint(f"replica {index} (pid {pid}) has just ended", "try again") from None

    # ------------------------------------------------------------ leaves

    async def _serving(self, index: int) -> None:
        """Wait until replica `index` serves. A Complaint if it says that it never will, or SERVE_PATIENCE is over."""
        deadline = self.reactor.seconds() + SERVE_PATIENCE
        while isinstance(found := await self._look(index), _NotYet) and self.reactor.seconds() < deadline:
            await self._pause()
        if isinstance(found, Complaint):
            raise found

    async def _look(self, index: int) -> Facts | Complaint:
        """What replica `index` says of itself if it serves; else why not."""
        replica, read = self._replicas[index], f"read {self.log(index)}"
        try:
            answer: Facts = await deferToThread(ask.status, self.cell.client(index), 1.0)
        except ask.NoAnswer as no:
            if replica.why_down:
                return Complaint(replica.why_down, f"mend that; {read}")
            lacks = str(no)
        else:
            if replica.state is _State.STOPPED:
                lacks = "it is stopped"
            elif answer["pid"] != replica.pid:
                lacks = f"another process answers at {self.cell.client(index)}"
            elif not (lacks := self._lacks(index, answer)):
                return answer
            elif never := _never(answer):
                remedy = f"{read}; a remedy takes effect when its process starts again"
                return Complaint(f"replica {index} never serves as it is: {never}", remedy)
        return _NotYet(
            f"replica {index} does not serve after {SERVE_PATIENCE:g} s: {lacks}",
            f"{read}; a cell needs a majority of its replicas running",
        )

    def _pause(self) -> Deferred[None]:
        return deferLater(cast(IReactorTime, self.reactor), POLL)

    def _lacks(self, index: int, answer: Facts) -> str:
        """What this replica lacks to serve; nothing, if it does."""
        if not answer["serving"]:
            return answer["full"] or "it follows no leader"
        loaded = {each["code"] for each in answer["plugins"]}
        missing = [each for each in self._awaited if each not in loaded]
        if missing:
            return f"{', '.join(missing)} not loaded"
        host, _, port = self.cell.zookeeper(index).rpartition(":")
        if _ZOOKEEPER in loaded and not _accepts(host, int(port)):
            return f"nobody listens on {host}:{port}"
        return ""

    def _too_few(self, lost: Sequence[Complaint]) -> Complaint:
        """Why a run ends that has hardly begun."""
        law = (
            "the cell cannot serve without a majority of its replicas"
            if self.cell.served
            else "a fresh cell begins with all of its replicas"
        )
        return Complaint("; ".join(each.what for each in lost), "\n  ".join([*(each.advice for each in lost), law]))

    def _stop(self, replica: Supervised) -> Deferred[None]:
        """End one process, by force if it does not go within STOP_PATIENCE."""
        gone = replica.end(signal.SIGTERM)
        force = self.reactor.callLater(STOP_PATIENCE, replica.end, signal.SIGKILL)

        def enough(_: None) -> None:
            if force.active():
                force.cancel()

        return gone.addCallback(enough)


class _Orders(LineOnlyReceiver):
    """The control socket's far end."""

    delimiter = b"\n"

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def lineReceived(self, line: bytes) -> None:
        """One order; the answer is one line."""
        asked = json.loads(line)
        done = Deferred.fromCoroutine(self._supervisor.obey(Order(asked["order"]), int(asked["index"])))
        done.addCallbacks(lambda words: {"done": words}, _refused).addCallback(self._answer)

    def _answer(self, answer: dict[str, str]) -> None:
        assert self.transport is not None
        self.transport.write(json.dumps(answer).encode() + b"\n")
        self.transport.loseConnection()


class _OrdersFactory(Factory[_Orders]):
    """Answers on the control socket."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def buildProtocol(self, addr: object) -> _Orders:
        """One connection gives one order."""
        return _Orders(self._supervisor)


def _refused(failure: Failure) -> dict[str, str]:
    complaint = failure.value if isinstance(failure.value, Complaint) else Complaint(str(failure.value))
    return {"wrong": complaint.what, "advice": complaint.advice}


def _control_path() -> str:
    """A fresh place for a unix socket, whose path must be short whatever the cell's folder is called."""
    path = Path(tempfile.mkdtemp(prefix="quorate-")) / "control"
    if len(os.fsencode(path)) > 100:
        path.parent.rmdir()
        path = Path(tempfile.mkdtemp(prefix="quorate-", dir="/tmp")) / "control"
    return str(path)


def _open_log(path: Path) -> int:
    """The file that takes what a replica says, for appending; a long one is set aside first."""
    path.parent.mkdir(exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES_MAX:
        path.replace(path.with_name("log.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _never(answer: Facts) -> str:
    """Why a replica that does not serve never will in this run of its process, in its own words; nothing if it may."""
    if answer["ailing"]:
        return str(answer["ailing"])
    if answer["member"] not in [each["id"] for each in answer["members"]]:
        return f"member {answer['member']} was removed from the cell"
    return ""


def _accepts(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((host, port), 1.0).close()
    except OSError:
        return False
    return True


def _last_words(path: Path) -> str:
    """The last thing a log says; of a complaint, which has its advice below it, both lines."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    with_advice = len(lines) > 1 and lines[-2].startswith("quorate: ") and lines[-1].startswith("  ")
    return "; ".join(each.strip() for each in lines[-2 if with_advice else -1 :])
