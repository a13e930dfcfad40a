"""One seed, one run."""

from __future__ import annotations

import subprocess
import sys

import pytest
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.testing.simulate import machines
from quorate.kernel.testing.simulation import Failed, Mode, Settings, Simulation


@pytest.mark.parametrize("seed", [3, 8])
def test_a_seed_gives_the_same_run_twice(seed: int) -> None:
    """Two runs of a seed in one process agree in every event."""
    first = Simulation(seed, machines()).run()
    second = Simulation(seed, machines()).run()
    assert first == second


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    """A run does not depend on the process: neither on hash seeds nor on addresses."""
    script = (
        "from quorate.kernel.testing.simulate import machines\n"
        "from quorate.kernel.testing.simulation import Simulation\n"
        "print(Simulation(5, machines()).run().fingerprint)"
    )
    prints = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        prints.add(done.stdout)
    prints.add(Simulation(5, machines()).run().fingerprint + "\n")
    assert len(prints) == 1


@pytest.mark.parametrize(("mode", "option"), [(Mode.SWARM, ""), (Mode.RESTLESS, " --mode restless")])
def test_a_failure_says_how_to_see_it_again(mode: Mode, option: str) -> None:
    """What a broken promise raises has the seed, the settings, the command to replay and the end of the trace."""
    simulation = Simulation(Settings.of(mode, 7), machines())
    simulation.world.watch.values[3] = Value(Kind.COMMANDS, b"another")
    with pytest.raises(Failed) as caught:
        simulation.run()
    words = str(caught.value)
    assert "one value" in words
    assert f"--seed 7{option} --trace" in words
    assert "starts run 1" in words
