"""Places beside the native port: their connections, their turns, their alarms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from quorate.kernel.node import Node
from quorate.kernel.testing.clock import SECOND, Clock
from quorate.kernel.testing.door import SimulatedDoor
from quorate.kernel.testing.fronts import Cause, Seated
from quorate.kernel.testing.lifecycle import Boundary
from quorate.kernel.testing.process import Process
from quorate.kernel.testing.world import World


class Echo(Seated):
    """A place that says what it hears, and what its replica tells."""

    def __init__(self, process: Process, node: Node, world: World) -> None:
        super().__init__(process, node, world)
        self.sends: list[Callable[[bytes], None]] = []
        self.heard: list[tuple[Callable[[bytes], None], bytes]] = []
        self.closes: list[Callable[[], None]] = []

    def connected(self, place: int, send: Callable[[bytes], None], close: Callable[[], None]) -> object:
        self.closes.append(close)
        return send

    def received(self, door: Callable[[bytes], None], content: bytes) -> None:
        self.heard.append((door, content))

    def lost(self, door: object) -> None: ...

    def gone(self) -> None:
        for close in self.closes:
            close()

    def flush(self, cause: Cause) -> None:
        self.seat.end_turn()
        for send, content in self.heard:
            cause(Boundary.REPLY, partial(send, content))
        self.heard.clear()


class Ears:
    """A client's end."""

    def __init__(self) -> None:
        self.said: list[object] = []

    def connected(self) -> None:
        self.said.append("connected")

    def received(self, content: bytes) -> None:
        self.said.append(content)

    def disconnected(self, reason: str) -> None:
        self.said.append("disconnected")


@pytest.fixture
def world() -> World:
    """A cell of three with an echo beside every port."""
    world = World("fronts", {}, 3)
    world.beside["echo"] = lambda process, node: Echo(process, node, world)
    world.start()
    return world


def echo(world: World, member: int) -> Echo:
    """The echo of one member."""
    run = world.processes[member].run
    assert run is not None
    place = run.port.beside["echo"]
    assert isinstance(place, Echo)
    return place


def pass_time(world: World, seconds: float) -> None:
    """Let so much time pass."""
    world.schedule.run_until(world.schedule.now + int(seconds * SECOND))


def test_clients_reach_the_place_of_their_scheme(world: World) -> None:
    """What is dialed under its scheme comes to the place; what it says leaves at the end of the turn; the end of the
    process ends the connection."""
    ears, door = Ears(), SimulatedDoor(world, 1001, Clock(), lambda error: None)
    line = door.dial("echo:2", ears)
    pass_time(world, 0.1)
    line.write(b"hello")
    pass_time(world, 0.1)
    assert ears.said == ["connected", b"hello"]
    world.processes[2].die(False, "killed by the test")
    pass_time(world, 0.1)
    assert ears.said[-1] == "disconnected"


def test_alarms_ring_by_the_clock_of_a_process_that_runs(world: World) -> None:
    """In time; late if the process was stopped; not if they were canceled or the process has ended."""
    rung: list[str] = []
    reactor = echo(world, 1).seat.reactor
    reactor.callLater(1.0, rung.append, "first")
    canceled = reactor.callLater(1.0, rung.append, "canceled")
    reactor.callLater(2.0, rung.append, "second")
    reactor.callLater(5.0, rung.append, "never")
    canceled.cancel()
    assert not canceled.active()
    pass_time(world, 1.1)
    assert rung == ["first"]
    world.processes[1].pause()
    pass_time(world, 1.5)
    assert rung == ["first"]
    world.processes[1].resume()
    pass_time(world, 0.1)
    assert rung == ["first", "second"]
    world.processes[1].die(False, "killed by the test")
    world.processes[1].start()
    pass_time(world, 5.0)
    assert rung == ["first", "second"]


def test_the_seat_opens_sessions_and_tells_of_leaders(world: World) -> None:
    """The real session desk works through the seat, and observers hear when there is a leader."""

    class Observer:
        def __init__(self) -> None:
            self.said: list[object] = []

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *args: self.said.append((name, *args))

    observer = Observer()
    seat = echo(world, 3).seat
    handle = seat.handle("echo")
    handle.observe(observer)
    opened: list[object] = []
    pass_time(world, 5.0)
    assert ("serving_changed", True) in observer.said
    handle.open_session(3000, "echo", opened.append)
    pass_time(world, 1.0)
    (session,) = opened
    assert session is not None
    assert ("after_batch",) in observer.said
    pass_time(world, 10.0)
    assert ("session_ended", session.session, True) in observer.said
