"""Clocks inside the bound break nothing; beyond it they break what rests on them, and nothing else."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.ballot import MemberId
from quorate.kernel.testing.checkers import BY_CLOCKS
from quorate.kernel.testing.clock import Clock
from quorate.kernel.testing.liveness import Liveness
from quorate.kernel.testing.machines import Registers
from quorate.kernel.testing.simulate import run_seed
from quorate.kernel.testing.simulation import BEYOND_PPM, Mode, Settings
from quorate.kernel.testing.violation import Violation
from quorate.kernel.testing.world import World

SECOND = 1_000_000


def lead_and_lose(drift_ppm: int) -> World:
    """A leader whose clock is slow is cut off from two members whose clocks are fast."""
    world = World("drift", {"registers": Registers}, 3)
    slow, *fast = world.processes.values()
    slow.clock = Clock(1 << 30, -drift_ppm // 2)
    for process in fast:
        process.clock = Clock(1 << 35, drift_ppm // 2)
    world.start()
    live = Liveness(world)
    live.leader()

    def leads() -> bool:
        leader = world.leader()
        if leader is not None and leader is not slow:
            leader.node.core.transfer(MemberId(slow.member), leader.now)
            leader.want_turn()
        return leader is slow

    live.until(leads, 5 * SECOND, "L1", "the slow one does not lead")
    world.network.separate([slow.member], [process.member for process in fast])
    live.until(lambda: world.leader() in fast, 5 * SECOND, "L1", "no other leads")
    return world


def test_inside_the_bound_nobody_is_misled() -> None:
    """With the largest drift that is configured, the old lease ends before a new one begins."""
    lead_and_lose(20_000)


def test_beyond_the_bound_two_members_can_hold_a_lease() -> None:
    """That is what the check of leases is for, and what the bound is for."""
    with pytest.raises(Violation) as caught:
        lead_and_lose(BEYOND_PPM)
    assert caught.value.promise == "one leader"
    assert caught.value.promise in BY_CLOCKS


@pytest.mark.parametrize("seed", [1, 2])
def test_beyond_the_bound_everything_else_holds(seed: int) -> None:
    """One value, one order, nothing lost, exactly once, all operations to their end: with any clocks."""
    settings = Settings.of(Mode.BEYOND, seed)
    assert settings.drift_ppm == BEYOND_PPM
    outcome = run_seed(seed, Mode.BEYOND)
    assert outcome.report is not None, outcome.failure
    assert outcome.report.operations >= 200
