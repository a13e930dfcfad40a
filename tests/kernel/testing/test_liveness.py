"""The checks of liveness fail when a cell is not live: each is shown a cell with a planted fault."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from quorate.kernel.paxos.catchup import CatchUp
from quorate.kernel.paxos.election import Election
from quorate.kernel.paxos.leadership import Leadership
from quorate.kernel.testing.faults import Fault, Plan
from quorate.kernel.testing.lifecycle import Stage
from quorate.kernel.testing.liveness import Liveness
from quorate.kernel.testing.machines import Registers
from quorate.kernel.testing.port import Door, Port
from quorate.kernel.testing.simulation import Failed, Settings, Simulation
from quorate.kernel.testing.upkeep import Upkeep
from quorate.kernel.testing.violation import Violation
from quorate.kernel.testing.world import World

SECOND = 1_000_000


@pytest.fixture
def world() -> World:
    """Five members with a leader."""
    world = World("liveness", {"registers": Registers}, 5)
    world.start()
    Liveness(world).leader()
    return world


def refused(check: Any, *args: object) -> str:
    """The promise that `check` finds broken."""
    with pytest.raises(Violation) as caught:
        check(*args)
    return caught.value.promise


def cut(world: World, here: Iterable[int]) -> None:
    """Nothing passes any more between `here` and the others."""
    here = list(here)
    world.network.separate(here, [member for member in world.processes if member not in here])


def test_a_sound_cell_is_live(world: World) -> None:
    """All of it holds, with two of five members down as well."""
    live = Liveness(world)
    live.progress()
    live.replication()
    live.quiet()
    for process in list(world.processes.values())[:2]:
        process.die(False, "the test")
    assert live.leader() <= 3 * SECOND
    live.progress()
    live.replication()


def test_l1_fails_without_a_leader(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody takes over from a leader that died."""
    monkeypatch.setattr(Election, "may_campaign", lambda self: False)
    leader = world.leader()
    assert leader is not None
    leader.die(False, "the test")
    assert refused(Liveness(world).leader) == "L1"


def test_l1_fails_when_a_leader_proposes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell has a leader with a lease, and updates are not executed."""
    monkeypatch.setattr(Leadership, "room", lambda self: 0)
    Liveness(world).leader()
    assert refused(Liveness(world).progress) == "L1"


def test_l1_asks_every_member_that_runs(world: World) -> None:
    """One member that cannot reach the others is enough to fail the check, because it was said to be connected."""
    cut(world, [3])
    assert refused(Liveness(world).progress) == "L1"


def test_l2_fails_when_a_member_does_not_catch_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member missed what was executed meanwhile, and never asks for it."""
    monkeypatch.setattr(CatchUp, "missing", lambda *_: None)
    leader = world.leader()
    assert leader is not None
    laggard = next(process for process in world.processes.values() if process is not leader)
    laggard.die(False, "the test")
    Liveness(world).progress()
    laggard.start()
    assert laggard.stage is Stage.RUNNING
    live = Liveness(world)
    assert refused(live.replication) == "L2"
    assert refused(live.quiet) == "L2"


def test_completion_fails_when_answers_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that forgets every tenth answer leaves clients waiting for ever."""
    tell = Port._tell

    def forgetful(self: Port, door: Door) -> None:
        door.replies = [(number, payload) for number, payload in door.replies if number % 10]
        tell(self, door)

    monkeypatch.setattr(Port, "_tell", forgetful)
    settings = Settings(3, Plan(()), clients=2, operations=100, faulty=1.0)
    with pytest.raises(Failed) as caught:
        Simulation(settings, {"registers": Registers}).run()
    assert caught.value.promise == "completion"


def test_replacement_fails_without_an_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that lost its disk stays in the cell if nobody takes it out."""
    monkeypatch.setattr(Upkeep, "_restore", lambda self, configuration: None)
    settings = Settings(5, Plan((Fault.WIPE,), every=1.0), clients=2, operations=20, faulty=4.0)
    with pytest.raises(Failed) as caught:
        Simulation(settings, {"registers": Registers}).run()
    assert caught.value.promise == "replacement"
