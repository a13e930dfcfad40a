"""The operator of a simulated cell harms nobody whom the cell cannot spare."""

from __future__ import annotations

from quorate.kernel.paxos.quorum import ChangeKind
from quorate.kernel.testing.faults import Plan
from quorate.kernel.testing.liveness import Liveness
from quorate.kernel.testing.machines import Registers
from quorate.kernel.testing.simulation import Settings, Simulation
from quorate.kernel.testing.upkeep import Upkeep


def test_a_change_that_only_the_dead_know_counts() -> None:
    """Of three voters one was taken out, and the leader that knows it died: the two that are left need each other's
    disks, whatever configuration those who live believe to be in force. (Swarm seed 15011527 wiped one.)"""
    simulation = Simulation(Settings(1, Plan(()), clients=0), {"registers": Registers})
    world, upkeep = simulation.world, Upkeep(simulation)
    world.start()
    Liveness(world).leader()
    Liveness(world).progress()
    leader = world.leader()
    assert leader is not None
    removed, spared = (process for process in world.processes.values() if process is not leader)
    assert upkeep.may_harm(spared.member)
    member = next(each for each in leader.node.core.configuration.members if each.id == removed.member)
    before = world.watch.configuration
    assert upkeep.change(ChangeKind.REMOVE, member)
    while world.watch.configuration is before:
        world.schedule.step()
    leader.die(False, "the test")
    assert world.configuration() == before
    assert not upkeep.may_harm(spared.member)
