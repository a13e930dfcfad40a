"""Commands without sessions at every simulated replica, which only the replicas' own streams make exactly-once.

A port that speaks a foreign protocol submits what it hears in its replica's name; what that protocol calls a session is
not one of the cell's, and repetitions are not recognized by it. So nothing but the marks of the streams
(:mod:`..forwarding`) keeps a command from being applied twice when a leader dies, or not at all; here that is watched,
by additions to the counters which the clients use as well.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ..forwarding import Reply
from ..host import MachineMissing
from ..wire import plain
from ..wire.batch import pack_request
from .clients import History
from .clock import SECOND
from .lifecycle import Stage
from .linearizability import UNKNOWN, Operation
from .process import Process
from .world import World

MACHINE: Final = "counters"


class Sessionless:
    """All of them: from :meth:`begin` on, one command after the other at some replica, about `pause` seconds between
    two."""

    def __init__(self, world: World, history: History, keys: int, pause: float) -> None:
        self._world = world
        self._history = history
        self._keys = keys
        self._pause = pause
        self._random = world.random("sessionless")
        self._pending: dict[int, Operation] = {}
        self._asked = 0
        self._over = False

    def begin(self) -> None:
        """Begin."""
        self._world.schedule.after(int(self._random.expovariate(1 / self._pause) * SECOND), self._ask)

    def stop(self) -> None:
        """Ask no more."""
        self._over = True

    def finish(self) -> None:
        """The run is over: what nobody answered may have been done."""
        for operation in self._pending.values():
            self._history.unknown("count", operation)
        self._pending.clear()

    def _ask(self) -> None:
        if self._over:
            return
        self.begin()
        running = [p for p in self._world.processes.values() if p.stage is Stage.RUNNING]
        if not running:
            return
        process = self._random.choice(running)
        try:
            machine = process.node.host.machine_number(MACHINE)
        except MachineMissing:
            return
        key, by = f"c{self._random.randrange(self._keys)}", self._random.randrange(1, 10)
        self._asked += 1
        asker = f"sessionless {self._asked}"
        self._pending[self._asked] = Operation(asker, key, "add", (by,), UNKNOWN, self._world.schedule.now, None)
        process.node.submit(machine, pack_request("add", [key, by]), partial(self._answered, process, self._asked))
        process.want_turn()

    def _answered(self, process: Process, number: int, reply: Reply) -> None:
        operation = self._pending.get(number)
        decoded = plain.decode(reply) if isinstance(reply, bytes) else None
        if operation is None or not isinstance(decoded, list):
            return  # applied, but the answer came to nobody
        refused, result = decoded[0], decoded[1]
        assert not refused, f"an addition is not refused: {decoded}"
        assert isinstance(result, int)
        del self._pending[number]
        operation = operation._replace(result=result, end=self._world.schedule.now)
        self._history.done("count", operation)
        self._world.trace(process.member, "%s", operation)
