"""Simulated members judge each other's disks as real ones do."""

from __future__ import annotations

from quorate.kernel.paxos.ballot import NO_BALLOT, MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.testing.clock import SECOND
from quorate.kernel.testing.lifecycle import Stage
from quorate.kernel.testing.machines import Registers
from quorate.kernel.testing.witnessing import witness_of
from quorate.kernel.testing.world import World
from quorate.kernel.wire.formats import PEER_VERSION, Greeting, Refusing

CONFIGURATION = Configuration(Slot(0), (Member(MemberId(2), Role.VOTER, "sim:2"),))


def test_a_witness_in_memory_remembers() -> None:
    """What a witness wrote outlives it, and another disk of a member that it met is refused."""
    files: dict[str, bytes] = {}
    greeting = Greeting(PEER_VERSION, bytes(16), 1, 2, 1, b"one" * 5 + b"!", b"run", NO_BALLOT, Slot(0))
    assert witness_of(files).judge(greeting, CONFIGURATION) is None
    again = witness_of(files)
    assert again.judge(greeting._replace(incarnation=2, run=b"next"), CONFIGURATION) is None
    refusal = again.judge(greeting._replace(disk=b"two" * 5 + b"!"), CONFIGURATION)
    assert refusal is not None
    assert refusal.why is Refusing.DISK


def test_a_wiped_member_is_turned_away() -> None:
    """A member that starts on an empty disk under its old name ends as soon as a peer that knows it hears it."""
    world = World("wiped", {"registers": Registers}, 3)
    world.start()
    world.schedule.run_until(3 * SECOND)
    leader = world.leader()
    assert leader is not None
    victim = next(process for process in world.processes.values() if process is not leader)
    assert leader.disk.met[victim.member] == victim.disk.identity
    victim.die(True, "disk lost")
    victim.replace_disk()
    victim.start()
    world.schedule.run_until(6 * SECOND)
    assert victim.stage is Stage.UNUSABLE
    assert world.leader() is not None
