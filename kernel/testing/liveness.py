"""What must come about once the faults are over, each within a stated time.

=================== ==================================================================================================
promise             what must come about
=================== ==================================================================================================
L1                  an update that is begun at a member of a majority that runs and is connected is executed there
L2                  what one member of a set that runs and is connected has executed, every member of it executes
completion          every operation of every client comes to its end, and clients get done what they came for
replacement         a member that lost its memory is replaced by a new one
=================== ==================================================================================================

L1 and L2 are the progress and the eventual replication of Kirsch and Amir ("Paxos for System Builders", 2008); where
they say "eventually", there is a bound here, because a run must end. They hold for whoever keeps running: a check
begins when the faults are over, with all members that are up and none that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..paxos.ballot import MemberId
from .clock import MILLISECOND, SECOND
from .lifecycle import Stage
from .violation import Violation

if TYPE_CHECKING:
    from .process import Process
    from .world import World

L1_WITHIN: Final = 3 * SECOND
BACKLOG_SLOTS: Final = 300
"""What may have piled up before healing and is executed first."""
L2_WITHIN: Final = 6 * SECOND
LOOK: Final = 20 * MILLISECOND


class Liveness:
    """Lets time pass in a world until something comes about, and says which promise is broken if it does not."""

    def __init__(self, world: World) -> None:
        self._world = world

    def until(self, reached: Callable[[], bool], within: int, promise: str, words: str) -> int:
        """Let time pass until `reached()`; how much it was, in microseconds.

        Raises:
            Violation: it was not reached `within` so many microseconds. `words` say what is missing.
        """
        schedule = self._world.schedule
        begun = schedule.now
        while not reached():
            if schedule.now - begun >= within:
                raise Violation(promise, f"{words} within {within / SECOND:g} s")
            schedule.run_until(schedule.now + LOOK)
        return schedule.now - begun

    def leader(self) -> int:
        """L1, its first half: somebody serves as leader; after how many microseconds."""
        return self.until(lambda: self._world.leader() is not None, L1_WITHIN, "L1", "no leader serves")

    def progress(self) -> None:
        """L1: an update begun now at each running member is executed there."""
        world = self._world
        waiting: set[MemberId] = set()
        for process in self._running():
            waiting.add(process.member)
            process.probe(partial(waiting.discard, process.member))
        options = world.options
        backlog = BACKLOG_SLOTS * (2 * options.sync + 1_000) // options.core.window
        words = f"updates begun at {world.schedule.now} are not executed"
        self.until(lambda: not waiting & world.configuration().ids(), L1_WITHIN + backlog, "L1", words)

    def replication(self) -> None:
        """L2: every running member executes what any member has executed until now."""
        frontier = self._world.watch.frontier
        words = f"slot {frontier} was executed, and not by every connected member"
        self.until(
            lambda: all(p.node.host.slot >= frontier for p in self._running() if p.intact), L2_WITHIN, "L2", words
        )

    def quiet(self) -> None:
        """L2, when nobody asks for anything any more: all come to one state."""
        words = "the members do not come to the same slot"
        self.until(lambda: len({p.node.host.slot for p in self._running()}) == 1, L2_WITHIN, "L2", words)

    def _running(self) -> list[Process]:
        members = self._world.configuration().ids()
        return [p for p in self._world.processes.values() if p.stage is Stage.RUNNING and p.member in members]
