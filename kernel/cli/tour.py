"""``quorate tour``: a cell, two kinds of clients, the death of a leader, and what is left; in plain words.

It uses the command line, the ZooKeeper wire and the native client as an outsider would. What it claims it has just
seen, and the first check that fails ends it with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from . import status
from .command import Command, Complaint, Exit
from .tiny_zookeeper import TinyZooKeeper, ZooKeeperError

if TYPE_CHECKING:
    from ..client.live import Session

CUT_OFF: Final = 25.0
"""Seconds after which the tour gives up; with what must be cleared away it ends within 40."""
WRITES: Final = 50
"""Writes through each wire, before the leader dies and after."""
_ROOT: Final = "/tour"
_LOCK: Final = "tour"
_COUNTER: Final = "tour"
_PATIENCE: Final = 10.0


class ZooKeeper(Protocol):
    """What the tour wants of a ZooKeeper client."""

    def create(self, path: str, value: bytes) -> None: ...

    def get(self, path: str) -> bytes: ...

    def close(self) -> None: ...


def _run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    # Whatever hangs, the tour ends: the alarm cuts off every wait below.
    signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, CUT_OFF)
    _say("Quorate keeps a small group of replicas (a 'cell') in agreement. Let us see one at work.")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="quorate-tour-", ignore_cleanup_errors=True))
        asyncio.run(_tour(stack.enter_context(_cell(folder))))
    _say("", f"That was the tour: {time.monotonic() - began:.0f} seconds. Next: docs/tutorial/first-machine.rst")
    return Exit.DONE


def _too_long(*_: object) -> None:
    raise Complaint(
        f"the tour did not come to its end within {CUT_OFF:g} s",
        "is the machine very busy? `quorate cell run` starts the same cell at leisure",
    )


async def _tour(cell: Mapping[str, Any]) -> None:
    from ..client.aio import connect

    tour = _Tour(cell)
    with contextlib.closing(tour.client):
        async with await connect(tour.at, connect_timeout=_PATIENCE, timeout=_PATIENCE) as session:
            tour.session = session
            await tour.write()
            await tour.kill_the_leader()
            await tour.read_back()
        async with await connect(tour.at, connect_timeout=_PATIENCE) as session:
            tour.session = session
            await tour.hand_over()
        await tour.wait_for_the_lost()


class _Tour:
    """The stages in order, and what they have to remember of each other."""

    session: Session

    def __init__(self, cell: Mapping[str, Any]) -> None:
        replicas = cell["replicas"]
        self.at = [each["client"] for each in replicas]
        self.leader = next(each for each in replicas if each["id"] == cell["leader"])
        self.others = [each for each in replicas if each is not self.leader]
        self.client, self._kind = _zookeeper([each["zookeeper"] for each in (*self.others, self.leader)])
        self._writer = _Writer(self.client)
        self._token = self._counted = 0
        pids = ", ".join(str(each["pid"]) for each in replicas)
        _say(
            "",
            f"1. Three replicas run as processes {pids}, each with its own disk.",
            f"   They elected replica {self.leader['index']} to lead. Any two of the three can decide.",
        )

    async def write(self) -> None:
        """Through both wires, and take a lock."""
        session = self.session
        token = await session.call("locks", "acquire", session.label(), [_LOCK], timeout=_PATIENCE)
        self._token = _number(token)
        self.client.create(_ROOT, b"")
        self._writer.write(WRITES)
        for _ in range(WRITES):
            await self._count()
        _say(
            "",
            f"2. Through the ZooKeeper port of replica {self.others[0]['index']}, {self._kind} wrote {WRITES} nodes.",
            f"   Through the native protocol a counter was raised to {self._counted}, and a lock was granted with the",
            f"   fencing token {self._token}. Each answer came after two disks had it.",
        )

    async def kill_the_leader(self) -> None:
        """By signal 9, while both clients write."""
        os.kill(self.leader["pid"], signal.SIGKILL)
        killed = time.monotonic()
        _say("", f"3. kill -9 {self.leader['pid']}: the leader is gone in the middle of the work.")
        writing = asyncio.get_running_loop().run_in_executor(None, self._writer.write, WRITES)
        await self._count()
        gap = time.monotonic() - killed
        for _ in range(WRITES - 1):
            await self._count()
        await writing
        new = await asyncio.to_thread(_leader, [each["client"] for each in self.others])
        _check(new["id"] != self.leader["id"], "the dead replica still counts as leader")
        _say(
            f"   {gap:.2f} seconds later the next write was acknowledged; replica {new['index']} leads now.",
            f"   Both clients simply went on: {WRITES} more writes each.",
        )

    async def read_back(self) -> None:
        """Everything that was acknowledged."""
        total = 2 * WRITES
        acknowledged = self._writer.acknowledged
        missing = [path for path, value in acknowledged.items() if self.client.get(path) != value]
        _check(not missing, f"acknowledged nodes are missing: {missing}")
        _check(len(acknowledged) == total, f"{len(acknowledged)} of {total} writes were acknowledged")
        stored = _number(await self.session.query("counters", "get", _COUNTER, timeout=_PATIENCE))
        _check(stored == self._counted == total, f"the counter is {stored}, but was raised {total} times")
        held = await self.session.query("locks", "check", _LOCK, self._token, timeout=_PATIENCE)
        _check(held is True, "the lock did not survive the leader")
        _say(
            "",
            f"4. Read back: all {total} acknowledged nodes are there, and the counter stands at {stored}:",
            "   nothing was lost, nothing was done twice. The lock is still held under the same token.",
        )

    async def hand_over(self) -> None:
        """The first session has ended; take the lock in another one."""
        session = self.session
        later = _number(await session.call("locks", "acquire", session.label(), [_LOCK], timeout=_PATIENCE))
        _check(later > self._token, f"token {later} is not above {self._token}")
        _say(
            "",
            f"5. The first client left, so the lock was free. The next holder's token is {later}, above {self._token}:",
            "   a store that remembers the largest token refuses a holder who comes too late.",
        )

    async def wait_for_the_lost(self) -> None:
        """The killed replica comes back by itself."""
        back = await asyncio.to_thread(_all_back, self.at)
        pid = back["replicas"][self.leader["index"]]["pid"]
        _say(
            "",
            f"6. The killed replica was started again (process {pid}), caught up, and follows.",
            f"   The cell can lose {back['failures_tolerated']} replica again.",
        )

    async def _count(self) -> None:
        self._counted = _number(await self.session.call("counters", "add", _COUNTER, timeout=_PATIENCE))


class _Writer:
    """Creates numbered nodes one by one, and knows which were acknowledged."""

    def __init__(self, client: ZooKeeper) -> None:
        self._client = client
        self._next = 0
        self.acknowledged: dict[str, bytes] = {}

    def write(self, count: int) -> None:
        """Create `count` more. A write cut off by a broken connection is repeated: a node that is there is its own."""
        for _ in range(count):
            path, value = f"{_ROOT}/{self._next}", str(self._next).encode()
            self._next += 1
            deadline = time.monotonic() + _PATIENCE
            while True:
                try:
                    self._client.create(path, value)
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    continue
                break
            self.acknowledged[path] = value


def _zookeeper(hosts: list[str]) -> tuple[ZooKeeper, str]:
    """kazoo if it is installed, else the tiny client, and what to call it."""
    if importlib.util.find_spec("kazoo") is not None:
        return _Kazoo(hosts), "the stock client kazoo"
    return _Tiny(hosts), "a ZooKeeper client of a hundred lines (kazoo is not installed)"


class _Kazoo:
    """kazoo behind the three calls of the tour."""

    def __init__(self, hosts: list[str]) -> None:
        from kazoo.client import KazooClient
        from kazoo.exceptions import ConnectionLoss, NodeExistsError, SessionExpiredError

        self._broken: tuple[type[Exception], ...] = (ConnectionLoss, SessionExpiredError)
        self._there: type[Exception] = NodeExistsError
        self._client = KazooClient(",".join(hosts), timeout=_PATIENCE, randomize_hosts=False)
        self._client.start(_PATIENCE)

    def create(self, path: str, value: bytes) -> None:
        try:
            self._client.create(path, value)
        except self._there:
            pass
        except self._broken as error:
            raise ConnectionError(str(error)) from None

    def get(self, path: str) -> bytes:
        value: bytes = self._client.get(path)[0]
        return value

    def close(self) -> None:
        self._client.stop()
        self._client.close()


class _Tiny(TinyZooKeeper):
    """The tiny client behind the same calls."""

    _NODE_EXISTS = -110

    def __init__(self, hosts: list[str]) -> None:
        super().__init__(hosts, _PATIENCE)

    def create(self, path: str, value: bytes) -> None:
        try:
            super().create(path, value)
        except ZooKeeperError as error:
            if error.code != self._NODE_EXISTS:
                raise


@contextlib.contextmanager
def _cell(folder: str) -> Iterator[Mapping[str, Any]]:
    """``quorate cell run --json`` for the length of the block."""
    words = [sys.executable, "-P", "-m", "quorate.kernel.cli", "cell", "run", "--json", "--dir", folder]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=said, text=True) as run,
    ):
        assert run.stdout is not None
        try:
            line = run.stdout.readline()
            if not line:
                run.wait()
                said.seek(0)
                raise Complaint(
                    "the cell did not start: " + " ".join(said.read().split()), "`quorate cell run` shows more"
                )
            yield json.loads(line)
        finally:
            run.terminate()


def _leader(at: list[str]) -> Mapping[str, Any]:
    """The row of the replica that leads."""
    cell = _until(lambda: status.gather(at, 1.0), lambda cell: cell["leader"] is not None, "nobody leads")
    row: Mapping[str, Any] = next(each for each in cell["replicas"] if each["id"] == cell["leader"])
    return row


def _all_back(at: list[str]) -> Mapping[str, Any]:
    """The status once every replica is up again."""
    return _until(
        lambda: status.gather(at, 1.0),
        lambda cell: cell["failures_tolerated"] == len(at) // 2,
        "the killed replica did not come back",
    )


def _until(
    look: Callable[[], Mapping[str, Any]], good: Callable[[Mapping[str, Any]], bool], wrong: str
) -> Mapping[str, Any]:
    deadline = time.monotonic() + _PATIENCE
    while True:
        found = look()
        if good(found):
            return found
        _check(time.monotonic() < deadline, wrong)
        time.sleep(0.1)


def _number(value: object) -> int:
    _check(isinstance(value, int), f"{value!r} came where a number was due")
    assert isinstance(value, int)
    return value


def _check(fact: bool, wrong: str) -> None:
    if not fact:
        raise Complaint(f"the tour saw what must not be: {wrong}", "this is a defect; please report it")


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


COMMAND = Command("tour", "see a cell agree, lose its leader and go on, in under a minute", lambda parser: None, _run)
