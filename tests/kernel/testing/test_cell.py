"""The cell that users test with: it must behave like a cell, and be easy to lead."""

from __future__ import annotations

import pytest
from quorate.kernel.catalog import Catalog
from quorate.kernel.client.errors import MachineHalted, SessionExpired
from quorate.kernel.client.states import State
from quorate.kernel.machine import Commit, Refusal, SessionId, StateMachine, Ticket, command, query
from quorate.kernel.testing.cell import Cell, NoAnswer
from quorate.kernel.testing.checkers import Violation
from quorate.kernel.testing.machines import Registers
from quorate.kernel.wire.native import Consistency


class Tally(StateMachine):
    """Counts, remembers who left, and lets people wait."""

    name = "tally"

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.left: list[list[bool]] = []
        self.waiting: list[int] = []

    @command
    def add(self, commit: Commit, key: str, by: int = 1) -> int:
        if by < 0:
            raise Refusal("negative", "only upwards")
        self.totals[key] = self.totals.get(key, 0) + by
        return self.totals[key]

    @command
    def wait(self, commit: Commit) -> Ticket:
        ticket = commit.park()
        self.waiting.append(ticket)
        return ticket

    @command
    def wake(self, commit: Commit, words: str) -> None:
        for ticket in self.waiting:
            commit.resolve(Ticket(ticket), words)
        self.waiting.clear()

    @command
    def tell(self, commit: Commit, session: int, words: str) -> None:
        commit.publish(SessionId(session), words)

    @command
    def stumble(self, commit: Commit) -> int:
        return 1 // 0

    @query
    def total(self, key: str) -> int:
        return self.totals.get(key, 0)

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        self.left.append([expired])


class NewTally(Tally):
    """The next version: it counts twice as fast, from the upgrade on."""

    version = 2

    @command
    def add(self, commit: Commit, key: str, by: int = 1) -> int:
        return super().add(commit, key, by * min(commit.version, 2))


class Restless(StateMachine):
    """A machine that breaks the rules: its replicas differ."""

    name = "restless"
    replicas = 0

    def __init__(self) -> None:
        type(self).replicas += 1
        self.me = self.replicas
        self.count = 0

    @command
    def who(self, commit: Commit) -> int:
        self.count += 1
        return self.me


def test_a_session_calls_and_asks() -> None:
    """Calls return results and refusals, queries read, in any consistency."""
    with Cell(Tally) as cell:
        session = cell.session()
        assert session.call("tally", "add", "x", by=2) == 2
        assert session.call("tally", "add", key="x") == 3
        with pytest.raises(Refusal, match="only upwards"):
            session.call("tally", "add", "x", by=-1)
        for consistency in Consistency:
            assert session.query("tally", "total", "x", consistency=consistency) == 3


def test_time_passes_only_when_something_is_waited_for() -> None:
    """A call takes simulated milliseconds; advance moves the clock exactly."""
    with Cell(Tally) as cell:
        session = cell.session()
        before = cell.now
        session.call("tally", "add", "x")
        assert 0 < cell.now - before < 0.1
        before = cell.now
        cell.advance(12.5)
        assert cell.now - before == pytest.approx(12.5)
        assert session.state is State.ALIVE


def test_nothing_is_lost_when_the_leader_dies() -> None:
    """Calls go on after a crash and a power cut; a restarted replica catches up."""
    with Cell(Tally) as cell:
        session = cell.session()
        for power in (False, True):
            first = cell.leader
            session.call("tally", "add", "x")
            cell.crash(first, power=power)
            session.call("tally", "add", "x")
            assert cell.leader != first
            cell.restart(first)
            cell.settle()
            machine = cell.machine("tally", first)
            assert isinstance(machine, Tally)
            assert machine.totals == {"x": 4 if power else 2}


def test_without_a_majority_nothing_is_answered() -> None:
    """A minority answers nobody; after healing what was asked is done once."""
    with Cell(Tally) as cell:
        session = cell.session()
        cell.partition([0], [1], [2])
        waiting = session.begin("tally", "add", "x")
        with pytest.raises(NoAnswer):
            waiting.result(within=3.0)
        assert not waiting.done
        cell.heal()
        assert waiting.result() == 1
        assert session.query("tally", "total", "x") == 1


def test_a_stopped_replica_is_outvoted_and_comes_back() -> None:
    """The others elect a leader while one stands still; it goes on as a follower."""
    with Cell(Tally) as cell:
        session = cell.session()
        stopped = cell.leader
        cell.pause(stopped)
        assert session.call("tally", "add", "x") == 1
        cell.resume(stopped)
        assert cell.leader != stopped
        cell.settle()
        assert cell.machine("tally", stopped).snapshot() == cell.machine("tally").snapshot()


def test_a_session_expires_and_its_client_learns_it() -> None:
    """The machine hears of the expiry, and the client's next call fails with it."""
    with Cell(Tally) as cell:
        session, other = cell.session(timeout=2.0), cell.session()
        cell.expire(session)
        assert session.state is State.EXPIRED
        assert session.lease_left() == 0
        with pytest.raises(SessionExpired):
            session.call("tally", "add", "x")
        other.close()
        cell.settle()
        machine = cell.machine("tally")
        assert isinstance(machine, Tally)
        assert machine.left[-2:] == [[True], [False]]


def test_a_short_stall_only_brings_jeopardy_and_passes() -> None:
    """A client that stands still for less than its time-out keeps its session."""
    with Cell(Tally) as cell:
        session = cell.session(timeout=10.0)
        cell.stall(session, 5.0)
        assert session.call("tally", "add", "x") == 1
        cell.cut_off(session)
        cell.advance(12.0)
        assert session.state is State.JEOPARDY
        assert session.lease_left() == 0


def test_a_wait_ends_with_its_result_also_after_a_fail_over() -> None:
    """A command that waits answers when another resolves it, though the leader changed meanwhile."""
    with Cell(Tally) as cell:
        patient, other = cell.session(), cell.session()
        waiting = patient.begin("tally", "wait")
        cell.advance(0.2)
        cell.crash(cell.leader)
        assert not waiting.done
        other.call("tally", "wake", "good morning")
        assert waiting.result() == "good morning"


def test_events_reach_the_session_in_order() -> None:
    """What a machine publishes is heard, in order, through a fail-over."""
    with Cell(Tally) as cell:
        listener, other = cell.session(), cell.session()
        heard = listener.listen("tally")
        for n in range(3):
            other.call("tally", "tell", listener.id, f"news {n}")
            if n == 1:
                cell.crash(cell.leader)
        cell.wait_until(lambda: len(heard) == 3)
        assert heard == ["news 0", "news 1", "news 2"]


def test_a_coroutine_runs_in_the_clients_process() -> None:
    """Anything that awaits the real session runs in simulated time: recipes, too."""

    async def twice(cell: Cell) -> list[object]:
        first = await session.live.call("tally", "add", "x")
        await session.door.sleep(30.0)
        return [first, await session.live.query("tally", "total", "x"), cell.now > 30]

    with Cell(Tally) as cell:
        session = cell.session()
        assert cell.run(twice(cell), session) == [1, 1, True]


def test_a_failing_machine_is_shown_with_its_traceback() -> None:
    """The error that says that the machine is halted names the line that failed."""
    with Cell(Tally) as cell:
        session = cell.session()
        with pytest.raises(MachineHalted) as caught:
            session.call("tally", "stumble")
        assert "return 1 // 0" in "".join(caught.value.__notes__)


def test_a_poisoned_command_halts_its_machine_and_nothing_else() -> None:
    """Five replicas are alive and alike behind it, and the other machines serve."""
    with Cell(Tally, Registers, replicas=5) as cell:
        session = cell.session()
        session.call("tally", "add", "k")
        with pytest.raises(MachineHalted):
            session.call("tally", "stumble")
        assert session.call("registers", "cas", "r", None, 1) is True
        cell.settle()
        hosts = [process.node.host for process in cell.world.processes.values() if process.alive]
        assert len(hosts) == 5
        assert len({host.digest() for host in hosts}) == 1


def test_a_rolling_upgrade_and_the_way_back() -> None:
    """Replica by replica to new code, back to the old and on again, under calls: one state all the time, and the new
    behavior everywhere from the upgrade on."""
    with Cell(Tally) as cell:
        session, count = cell.session(), 0
        old, new = cell.world.catalog, Catalog({"tally": NewTally})
        for catalog in (new, old, new):
            cell.world.catalog = catalog
            for index in range(3):
                cell.crash(index)
                session.call("tally", "add", "k")
                cell.restart(index)
                count += 2
                assert session.call("tally", "add", "k") == count
            cell.settle()
        cell.advance(1.0)
        assert session.call("plugins", "upgrade", "tally") == 2
        assert session.call("tally", "add", "k") == count + 2
        cell.settle()
        assert len({process.node.host.digest() for process in cell.world.processes.values()}) == 1


def test_a_machine_whose_replicas_differ_is_found() -> None:
    """Divergence is a broken promise, and says where."""
    Restless.replicas = 0
    with pytest.raises(Violation, match="same state"), Cell(Restless) as cell:  # noqa: PT012 - it may show at any call
        session = cell.session()
        for _ in range(10):
            session.call("restless", "who")
        cell.settle()


def test_the_same_seed_gives_the_same_cell() -> None:
    """Two cells of a seed take the same simulated time for the same calls; another seed another."""
    times = []
    for seed in (1, 1, 2):
        with Cell(Tally, seed=seed, replicas=5, lossy=0.2) as cell:
            session = cell.session()
            for n in range(5):
                session.call("tally", "add", str(n))
            times.append(cell.now)
    assert times[0] == times[1] != times[2]
