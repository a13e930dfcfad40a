"""How a simulated replica judges its peers' disks: by the code of a real one (:mod:`..server.witness`), in memory.

What members say about themselves when they connect travels here with every packet, and is looked at once for each run.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..server.witness import Witness
from ..wire.formats import Greeting
from .lifecycle import Stage

if TYPE_CHECKING:
    from .process import Process
    from .run import Run
    from .world import World


class _Place:
    """As much of a path as a witness uses."""

    def __init__(self, files: dict[str, bytes], name: str = "") -> None:
        self._files = files
        self._name = name

    def __truediv__(self, name: str) -> _Place:
        return _Place(self._files, name)

    def with_suffix(self, suffix: str) -> _Place:
        return _Place(self._files, self._name + suffix)

    def read_bytes(self) -> bytes:
        if self._name not in self._files:
            raise FileNotFoundError(self._name)
        return self._files[self._name]

    def write_bytes(self, content: bytes) -> None:
        self._files[self._name] = content

    def replace(self, other: _Place) -> None:
        self._files[other._name] = self._files.pop(self._name)


def witness_of(files: dict[str, bytes]) -> Witness:
    """A witness that keeps its file in `files`, which outlive the process."""
    return Witness(cast(Path, _Place(files)))


def greets(process: Process, run: Run, greeting: Greeting, world: World) -> bool:
    """Whether `process` is to listen to that run of a member; one that lost its memory is told so."""
    member = greeting.member
    newest = run.greeted.get(member)
    if newest is not None and newest.disk == greeting.disk and newest.incarnation > greeting.incarnation:
        return False
    refusal = run.witness.judge(greeting, run.node.host.disk(member))
    if refusal is not None:
        world.trace(process.member, "turns member %d away: %s", member, refusal.reason)
        if world.network.connected(process.member, member):
            world.schedule.after(world.network.weather.delay, partial(condemn, world, greeting))
        return False
    run.greeted[member] = greeting
    world.watch.heard(process.member, member, process.disk.met.setdefault(member, greeting.disk), greeting.disk)
    return True


def condemn(world: World, greeting: Greeting) -> None:
    """That run of a member is told that its disk may not vote: it ends, for good."""
    process = world.processes.get(greeting.member)
    if process is not None and process.run is not None and process.run.greeting is greeting:
        process.die(False, "may not vote any more")
        process.stage = Stage.UNUSABLE
