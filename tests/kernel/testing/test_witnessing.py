"""Simulated members judge each other's disks as real ones do."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.ballot import NO_BALLOT, Slot
from quorate.kernel.testing.clock import SECOND
from quorate.kernel.testing.lifecycle import Stage
from quorate.kernel.testing.machines import Registers
from quorate.kernel.testing.witnessing import witness_of
from quorate.kernel.testing.world import World
from quorate.kernel.wire.formats import PEER_VERSION, Greeting, Refusing


def test_a_witness_in_memory_remembers() -> None:
    """What a witness wrote outlives it, and another disk of a member that it met is refused."""
    files: dict[str, bytes] = {}
    greeting = Greeting(PEER_VERSION, bytes(16), 1, 2, 1, b"one" * 5 + b"!", b"run", NO_BALLOT, Slot(0))
    assert witness_of(files).judge(greeting, None) is None
    again = witness_of(files)
    assert again.judge(greeting._replace(incarnation=2, run=b"next"), None) is None
    refusal = again.judge(greeting._replace(disk=b"two" * 5 + b"!"), None)
    assert refusal is not None
    assert refusal.why is Refusing.DISK


@pytest.mark.parametrize("remembered", [True, False])
def test_a_wiped_member_is_turned_away(remembered: bool) -> None:
    """A member that starts on an empty disk under its old name ends as soon as a peer hears it: one that met its disk,
    or one that never did and has it from the log."""
    world = World("wiped", {"registers": Registers}, 3)
    world.start()
    world.schedule.run_until(3 * SECOND)
    leader = world.leader()
    assert leader is not None
    victim = next(process for process in world.processes.values() if process is not leader)
    assert leader.disk.met[victim.member] == victim.disk.identity
    victim.die(True, "disk lost")
    if not remembered:
        for process in set(world.processes.values()) - {victim}:
            process.die(False, "to forget")
            process.disk.witness.clear()
            process.disk.met.clear()
            process.start()
        world.schedule.run_until(4 * SECOND)
    victim.replace_disk()
    victim.start()
    world.schedule.run_until(6 * SECOND)
    assert victim.stage is Stage.UNUSABLE
    assert all(victim.disk.identity not in process.disk.met.values() for process in world.processes.values())
    assert world.leader() is not None


def test_a_member_that_is_not_itself_ends() -> None:
    """The log says on which disk a member made its promises: on another one it ends though nobody turns it away."""
    world = World("disowned", {"registers": Registers}, 3)
    world.start()
    world.schedule.run_until(3 * SECOND)
    world.processes[2].node.disk = bytes(16)
    world.schedule.run_until(4 * SECOND)
    assert [process.stage for process in world.processes.values()].count(Stage.UNUSABLE) == 1
    assert world.processes[2].stage is Stage.UNUSABLE
