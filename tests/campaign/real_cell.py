"""A cell of replica processes that a test starts, kills, stops and starts again itself, each with a disk that fails on
order (:mod:`disk_shim`)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from disk_shim import Disk
from networks import Network
from quorate.kernel.cli import ask, local
from quorate.kernel.server.config import Limits, Timing

STARTS: Final = 60.0
"""Seconds within which a replica answers, on a computer that is busy with other things."""
TIMING: Final = Timing()
LIMITS: Final = Limits(snapshot_log=512 << 10, snapshot_slots=300, retained_log=64 << 10)
"""So that snapshots are taken all the time, and a replica that was away must fetch one."""
_HOST: Final = "127.0.0.1"


class Ended(Exception):
    """A replica's process ended by itself; the words are its last."""


class Replica:
    """One member, `index` counted from 0; its process, if it runs."""

    def __init__(self, cell: RealCell, index: int) -> None:
        self.index = index
        self.directory = cell.directory / f"replica-{index}"
        self.config = cell.directory / f"replica-{index}.toml"
        self.log = cell.directory / f"replica-{index}.log"
        self.disk = Disk(cell.directory / f"replica-{index}.orders", self.directory)
        self.client = f"tcp:{cell.hosts[index]}:{cell.port + 20 + index}"
        self.zookeeper = f"{cell.hosts[index]}:{cell.port + index}"
        self._prefix = [] if cell.network is None else cell.network.prefix(index)
        self.lost = False
        """It never votes again under this id."""
        self._process: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    # ---------------------------------------------------------------- its process

    @property
    def alive(self) -> bool:
        """Whether its process runs, or is stopped."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the process; :meth:`answers` waits for it."""
        assert not self.alive
        if self._process is not None:
            self.gone()
        self.disk.clear()
        self._log_from = self.log.stat().st_size if self.log.exists() else 0
        words = [*self._prefix, sys.executable, "-P", "-m", "quorate.kernel.cli", "replica", "--supervised"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*words, "--config", str(self.config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**_environment(), **self.disk.environment()},
            )

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self.gone()

    def stop(self) -> None:
        """End it as an operator does."""
        if self._process is not None:
            self._process.terminate()
            self.gone()

    def gone(self, within: float = 30.0) -> int:
        """Wait for the end of the process; its exit status."""
        assert self._process is not None
        status = self._process.wait(within)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return status

    def pause(self) -> None:
        """Stop the process as SIGSTOP does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    # ---------------------------------------------------------------- what it says

    def words(self) -> str:
        """What it has logged since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._log_from)
            return log.read().decode(errors="replace")

    def last_words(self) -> str:
        """The end of that."""
        return " / ".join(self.words().strip().splitlines()[-2:]) or "nothing"

    def status(self, timeout: float = 1.0) -> Mapping[str, Any] | None:
        """What it says of itself; None if it does not answer."""
        try:
            return ask.status(self.client, timeout)
        except ask.NoAnswer:
            return None

    def answers(self) -> Mapping[str, Any]:
        """Wait until it answers. Raises Ended."""
        found: list[Mapping[str, Any]] = []

        def answered() -> bool:
            if not self.alive:
                raise Ended(self.last_words())
            status = self.status()
            if status is not None:
                found.append(status)
            return bool(found)

        wait_until(answered, STARTS, f"replica {self.index} does not answer")
        return found[0]

    def opens_door(self) -> bool:
        """Whether it takes ZooKeeper clients."""
        host, port = self.zookeeper.split(":")
        try:
            socket.create_connection((host, int(port)), 1.0).close()
        except OSError:
            return False
        return True

    def serves(self) -> bool:
        """Whether it takes commands now."""
        status = self.status()
        return status is not None and bool(status["serving"]) and not status["ailing"]


class RealCell:
    """`replicas` members in `directory`; not running before :meth:`start`. `network`: where they live, if each has a
    place of its own."""

    def __init__(
        self,
        directory: Path,
        replicas: int = 3,
        *,
        network: Network | None = None,
        limits: Limits = LIMITS,
        name: str = "campaign",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.name = name
        self.network = network
        self.hosts = [_HOST] * replicas if network is None else network.hosts
        self.port = local.free_base(replicas)
        self.replicas = [Replica(self, index) for index in range(replicas)]
        for each in self.replicas:
            each.config.write_text(self._configuration(each, limits))

    def _configuration(self, replica: Replica, limits: Limits) -> str:
        at, host = replica.index, self.hosts[replica.index]
        lines = [
            f'cell = "{self.name}"',
            f"member = {at + 1}",
            f'directory = "{replica.directory}"',
            'machines = ["znodes", "locks", "counters"]',
            "[listen]",
            f'peer = "tcp:{self.port + 10 + at}:interface={host}"',
            f'client = "tcp:{self.port + 20 + at}:interface={host}"',
            f'zookeeper = "tcp:{self.port + at}:interface={host}"',
            "[limits]",
            f"snapshot_log = {limits.snapshot_log}",
            f"snapshot_slots = {limits.snapshot_slots}",
            f"retained_log = {limits.retained_log}",
            f"clients_max = {limits.clients_max}",
        ]
        for index, other in enumerate(self.hosts):
            lines += [
                f"[members.{index + 1}]",
                f'peer = "tcp:{other}:{self.port + 10 + index}"',
                f'client = "tcp:{other}:{self.port + 20 + index}"',
                f'zookeeper = "tcp:{other}:{self.port + index}"',
            ]
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Start every replica that does not run, and wait until all serve."""
        for each in self.replicas:
            if not each.alive:
                each.start()
        for each in self.replicas:
            each.answers()
        wait_until(self.whole, STARTS, "the cell does not serve")

    def whole(self) -> bool:
        """Whether every replica that was not lost serves at every door, with all machines and every peer linked."""
        voters = [each for each in self.replicas if not each.lost]
        found = [each.status() for each in voters]
        return all(
            status is not None
            and status["serving"]
            and not status["ailing"]
            and not status["full"]
            and len(status["plugins"]) == 3
            and len(status["connected"]) >= len(voters) - 1
            for status in found
        ) and all(each.opens_door() for each in voters)

    def leader(self) -> Replica | None:
        """Who leads, by the word of most."""
        named = [status["leader"] for each in self.replicas if (status := each.status(0.3)) is not None]
        best = max(set(named), key=named.count, default=0)
        return self.replicas[best - 1] if best else None

    def stop(self) -> None:
        """Kill what runs."""
        for each in self.replicas:
            each.kill()

    @property
    def clients(self) -> list[str]:
        """Endpoints of the native protocol."""
        return [each.client for each in self.replicas]

    @property
    def zookeepers(self) -> str:
        """The ZooKeeper doors as clients write them."""
        return ",".join(each.zookeeper for each in self.replicas)


@contextlib.contextmanager
def running(directory: Path, replicas: int = 3, **options: Any) -> Iterator[RealCell]:
    """A cell that serves for the length of the block."""
    cell = RealCell(directory, replicas, **options)
    try:
        cell.start()
        yield cell
    finally:
        cell.stop()


def wait_until(what: Callable[[], bool], seconds: float, otherwise: str) -> float:
    """Ask until `what()` is true, and fail with `otherwise` after `seconds`; how long it took. Time for which this
    process was itself stopped does not count against the others."""
    began = last = time.monotonic()
    waited = 0.0
    while not what():
        now = time.monotonic()
        waited += min(now - last, 1.0)
        last = now
        if waited > seconds:
            raise TimeoutError(f"{otherwise} after {seconds:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
