"""One replica composed: forwarding, sessions, timers, reads and snapshots over real consensus, in fair weather."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from quorate.kernel import host as host_module
from quorate.kernel.applied import Applied
from quorate.kernel.forwarding import Reply
from quorate.kernel.gate import Gate
from quorate.kernel.host import MachineHost
from quorate.kernel.machine import Commit, Plain, SessionId, StateMachine, command, query
from quorate.kernel.node import Node
from quorate.kernel.node_messages import Forward, NodeMessage
from quorate.kernel.node_options import Options as NodeOptions
from quorate.kernel.paxos import messages as m
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.options import SLOT_COST
from quorate.kernel.paxos.ready import Ready
from quorate.kernel.paxos.replica import Options as CoreOptions
from quorate.kernel.paxos.telling import LATER
from quorate.kernel.system import PLUGINS, SESSIONS
from quorate.kernel.testing.checkers import Watch
from quorate.kernel.testing.network import Weather
from quorate.kernel.testing.process import Process
from quorate.kernel.testing.world import Options, World
from quorate.kernel.wire import plain
from quorate.kernel.wire.batch import pack_request

SECOND = 1_000_000


class Diary(StateMachine):
    """Writes down what happens, in order."""

    name = "diary"

    def __init__(self) -> None:
        self.lines: list[str] = []

    @command
    def write(self, commit: Commit, line: str) -> int:
        self.lines.append(line)
        return len(self.lines)

    @command
    def tear(self, commit: Commit) -> None:
        raise ArithmeticError("a defect")

    @command
    def remind(self, commit: Commit, line: str, after: int) -> None:
        commit.set_timer(line, commit.time + after)

    def timer_fired(self, commit: Commit, key: str) -> None:
        self.lines.append(f"{key} at {commit.time}")

    @query
    def read(self) -> list[str]:
        return self.lines


class Guard:
    """A gate that keeps lines which begin with "keep"."""

    def __init__(self) -> None:
        self.kept: list[Callable[[], None]] = []
        self.over = False

    def command(self, body: bytes, go: Callable[[], None]) -> bool:
        if b"keep" in body:
            self.kept.append(go)
            return False
        return True

    def timers(self, upto: int, go: Callable[[], None]) -> bool:
        return True

    def expiry(self, session: SessionId, go: Callable[[], None]) -> bool:
        if not Guarded.holds_expiries:
            return True
        self.kept.append(go)
        return False

    def ended(self) -> None:
        self.over = True


class Guarded(Diary):
    """A diary with a gate."""

    name = "guarded"
    gates: list[Guard] = []  # of all replicas, newest last
    holds_expiries = False

    def gate(self, epoch: int) -> Gate:
        guard = Guard()
        self.gates.append(guard)
        return guard


class Cell:
    """Some nodes that run the diaries."""

    def __init__(self, voters: int = 3, **options: Any) -> None:
        core = CoreOptions(**options.pop("core", {}))
        node = NodeOptions(**options)
        machines = {kind.name: kind for kind in (Diary, Guarded)}
        self.world = World("node", machines, voters, Options(core, node))
        self.world.start()
        self.until(lambda: all(self.leader.node.host.announced(member) for member in self.world.processes))
        for name in machines:
            assert self.value(self.leader, PLUGINS, "load", [name, name])
        self.settle()

    def until(self, condition: Callable[[], object], within: int = 5 * SECOND) -> None:
        """Let time pass until something holds."""
        schedule = self.world.schedule
        end = schedule.now + within
        while not condition():
            assert schedule.now < end, "it does not come to hold"
            schedule.step()

    def run(self, microseconds: int) -> None:
        self.world.schedule.run_until(self.world.schedule.now + microseconds)

    def settle(self) -> None:
        """Let everybody apply everything."""
        self.until(lambda: len({p.node.host.slot for p in self.running}) == 1)

    @property
    def running(self) -> list[Process]:
        return [process for process in self.world.processes.values() if process.alive]

    @property
    def leader(self) -> Process:
        self.until(lambda: self.world.leader() is not None)
        leader = self.world.leader()
        assert leader is not None
        return leader

    @property
    def follower(self) -> Process:
        leader = self.leader
        return next(process for process in self.running if process is not leader)

    def submit(self, process: Process, machine: int, name: str, args: list[Plain]) -> list[Reply]:
        """Submit a command; its reply appears in the list."""
        replies: list[Reply] = []
        process.node.submit(machine, pack_request(name, args), replies.append)
        process.want_turn()
        return replies

    def value(self, process: Process, machine: int, name: str, args: list[Plain]) -> Any:
        """Submit a command and wait for its value."""
        replies = self.submit(process, machine, name, args)
        self.until(lambda: replies)
        assert isinstance(replies[0], bytes)
        decoded: Any = plain.decode(replies[0])
        assert decoded[0] == 0, decoded
        return decoded[1]

    def number(self, name: str) -> int:
        return self.leader.node.host.machine_number(name)

    def lines(self, process: Process, name: str = "diary") -> list[str]:
        machine = process.node.host.machine(name)
        assert isinstance(machine, Diary)
        return machine.lines


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A cell with the diaries loaded."""
    monkeypatch.setattr(Guarded, "gates", [])
    return Cell()


def test_a_command_at_any_replica_is_applied_everywhere_in_one_order(cell: Cell) -> None:
    """Commands submitted at all replicas at once are applied once each, in the same order on all, each replica's own
    in the order of submission."""
    diary = cell.number("diary")
    replies = [
        cell.submit(process, diary, "write", [f"{process.member}.{n}"]) for n in range(5) for process in cell.running
    ]
    cell.until(lambda: all(replies))
    cell.settle()
    logs = [cell.lines(process) for process in cell.running]
    assert logs[0] == logs[1] == logs[2]
    assert len(logs[0]) == 15
    for member in ("1", "2", "3"):
        assert [line for line in logs[0] if line[0] == member] == [f"{member}.{n}" for n in range(5)]


def test_a_command_survives_the_leader_and_counts_once(cell: Cell) -> None:
    """What a follower forwarded to a leader that dies is sent to the next one, and applied once."""
    diary, follower, leader = cell.number("diary"), cell.follower, cell.leader
    replies = [cell.submit(follower, diary, "write", [f"line {n}"]) for n in range(20)]
    cell.run(400)
    leader.die(False, "the test")
    cell.until(lambda: all(replies))
    assert cell.lines(follower) == [f"line {n}" for n in range(20)]


def test_a_follower_cut_off_for_a_while_loses_nothing(cell: Cell) -> None:
    """Chunks whose way to the leader was cut are asked for again, and applied in order."""
    diary, follower, leader = cell.number("diary"), cell.follower, cell.leader
    cell.world.network.cut(follower.member, leader.member)
    replies = [cell.submit(follower, diary, "write", [str(n)]) for n in range(3)]
    cell.run(30_000)
    assert not any(replies)
    cell.world.network.mend()
    cell.until(lambda: all(replies), 3 * SECOND)
    assert cell.lines(follower) == ["0", "1", "2"]


def test_a_lost_command_is_asked_for_while_others_are_answered(cell: Cell) -> None:
    """The last of its stream, so that no later one shows the gap."""
    diary, guarded, follower, leader = cell.number("diary"), cell.number("guarded"), cell.follower, cell.leader
    cell.world.network.cut(follower.member, leader.member)
    lost = cell.submit(follower, diary, "write", ["lost on its way"])
    cell.run(1_000)
    cell.world.network.mend()
    for n in range(20):
        cell.value(follower, guarded, "write", [str(n)])
        cell.run(SECOND // 10)
    assert lost


def test_a_gap_that_many_messages_show_is_filled_once(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that was under way behind what was lost has the leader ask for it."""
    diary, follower, leader = cell.number("diary"), cell.follower, cell.leader
    cell.world.network.cut(follower.member, leader.member)
    replies = [cell.submit(follower, diary, "write", ["x" * 1000]) for _ in range(50)]
    cell.run(1_000)
    assert not list(follower.node._outbox.unsent())
    cell.world.network.mend()
    cell.world.network.weather = Weather(delay=10_000, jitter=0)  # some way apart
    sent = 0
    send = follower.node._send

    def counting(to: int, message: NodeMessage) -> None:
        nonlocal sent
        sent += len(message.chunks) if isinstance(message, Forward) else 0
        send(to, message)

    monkeypatch.setattr(follower.node, "_send", counting)
    for _ in range(20):
        replies.append(cell.submit(follower, diary, "write", ["y"]))
        cell.run(500)
    cell.until(lambda: all(replies))
    assert 50_000 < sent < 100_000


def test_a_barrier_waits_for_what_was_committed_before(cell: Cell) -> None:
    """At a replica that lags, a read after a barrier sees everything that was answered before it was asked."""
    diary, follower, leader = cell.number("diary"), cell.follower, cell.leader
    for other in cell.running:
        if other is not follower:
            cell.world.network.cut(other.member, follower.member)
    cell.value(leader, diary, "write", ["committed"])
    assert cell.lines(follower) == []
    cell.world.network.mend()
    seen: list[list[str]] = []
    follower.node.barrier(lambda ready: seen.append(list(cell.lines(follower)) if ready else ["no"]), follower.now)
    follower.want_turn()
    cell.until(lambda: seen)
    assert seen == [["committed"]]


def test_a_barrier_without_a_leader_says_so(cell: Cell) -> None:
    """Where no leader can be asked, the barrier fails rather than waits for ever."""
    follower = cell.follower
    for other in cell.running:
        if other is not follower:
            other.die(False, "the test")
    answers: list[bool] = []
    cell.until(lambda: follower.node.core.leader is None)
    follower.node.barrier(answers.append, follower.now)
    follower.want_turn()
    cell.until(lambda: answers)
    assert answers == [False]


def open_session(cell: Cell, process: Process, timeout_ms: int) -> int:
    """A session attached to that replica."""
    origin = process.node.origin
    session = cell.value(process, SESSIONS, "open", [timeout_ms, "test", origin.member, origin.incarnation])
    assert isinstance(session, int)
    return session


def test_a_renewal_is_confirmed_by_the_leader_and_keeps_the_session(cell: Cell) -> None:
    """A session that is confirmed now and then lives; one that is not heard expires, after its time-out."""
    follower = cell.follower
    kept, silent = (open_session(cell, follower, 1000) for _ in range(2))
    opened = cell.world.schedule.now
    answers: list[bool] = []
    for _ in range(8):
        follower.node.confirm(kept, answers.append)
        follower.want_turn()
        cell.run(SECOND // 4)
    assert answers == [True] * 8
    sessions = cell.leader.node.host.sessions
    assert kept in sessions
    assert silent not in sessions
    assert cell.world.schedule.now - opened == 2 * SECOND


def test_an_ended_session_is_not_confirmed(cell: Cell) -> None:
    """Once a session is over its client is not told that it lives."""
    follower = cell.follower
    session = open_session(cell, follower, 200)
    cell.run(2 * SECOND)
    answers: list[bool] = []
    follower.node.confirm(session, answers.append)
    follower.want_turn()
    cell.until(lambda: answers)
    assert answers == [False]


def test_a_session_that_the_leader_does_not_know_yet_is_not_lost(cell: Cell) -> None:
    """A follower may know a session before the leader knows that the slot is chosen in which it was opened."""
    follower, leader = cell.follower, cell.leader
    for _ in range(2):
        open_session(cell, follower, 10_000)
        cell.run(100_000)  # from now on nobody waits but here, and votes may come later than what follows from them
    answers: list[bool] = []
    known: list[bool] = []

    def opened(reply: Reply) -> None:
        assert isinstance(reply, bytes)
        decoded: Any = plain.decode(reply)
        known.append(decoded[1] in leader.node.host.sessions)
        follower.node.confirm(decoded[1], answers.append)

    origin = follower.node.origin
    body = pack_request("open", [1000, "test", origin.member, origin.incarnation])
    follower.node.submit(SESSIONS, body, opened)
    follower.want_turn()
    cell.until(lambda: answers)
    assert known == [False]
    assert answers == [True]


def test_renewals_count_while_the_log_stands_still(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a client is heard does not depend on disks."""
    follower = cell.follower
    session = open_session(cell, follower, 1000)
    cell.settle()
    replies = cell.submit(follower, cell.number("diary"), "write", ["a line"])
    monkeypatch.setattr(cell.world, "disk_time", lambda disk: 3 * SECOND)
    answers: list[bool] = []
    for _ in range(10):
        follower.node.confirm(session, answers.append)
        follower.want_turn()
        cell.run(SECOND // 4)
    assert not replies
    monkeypatch.undo()
    assert answers == [True] * 10
    cell.until(lambda: replies)
    cell.settle()
    assert session in cell.leader.node.host.sessions


def test_a_lost_report_is_answered_with_no(cell: Cell) -> None:
    """If the leader's word does not come, the client is told to ask again, and nothing waits for ever."""
    follower, leader = cell.follower, cell.leader
    session = open_session(cell, follower, 10_000)
    answers: list[bool] = []
    cell.world.network.cut(follower.member, leader.member)
    follower.node.confirm(session, answers.append)
    follower.want_turn()
    cell.run(10_000)
    cell.world.network.mend()
    cell.until(lambda: answers, 3 * SECOND)
    assert answers == [False]


def test_a_new_leader_gives_every_session_its_whole_time_out(cell: Cell) -> None:
    """After a fail-over no session expires before its time-out has passed under the new leader."""
    follower, leader = cell.follower, cell.leader
    session = open_session(cell, follower, 1500)
    cell.run(SECOND)
    leader.die(False, "the test")
    cell.until(lambda: cell.world.leader() is not None)
    began = cell.world.schedule.now
    cell.until(lambda: session not in cell.leader.node.host.sessions, 5 * SECOND)
    assert cell.world.schedule.now - began >= 1_500_000


def test_a_timer_fires_once_at_its_time_also_after_a_fail_over(cell: Cell) -> None:
    """A timer fires by cell time, once, though the leader that would have fired it is gone."""
    diary, leader = cell.number("diary"), cell.leader
    cell.value(leader, diary, "remind", ["soon", 100])
    cell.value(leader, diary, "remind", ["later", 800])
    cell.run(SECOND // 4)
    due = cell.leader.node.host.next_timer()
    leader.die(False, "the test")
    cell.until(lambda: len(cell.lines(cell.leader)) == 2)
    cell.run(SECOND)
    fired = [(line.split()[0], int(line.split()[-1])) for line in cell.lines(cell.leader)]
    assert [key for key, _ in fired] == ["soon", "later"]
    assert due is not None
    assert fired[1][1] >= due


def test_the_time_of_day_decides_nothing(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It jumps by an hour back and forth at every turn of every replica: the leader stays, a session that is heard
    lives, one that is not expires at its time, and a timer fires at its own."""
    turn, jumps = Node.turn, itertools.cycle((0, 3_600_000, -3_600_000))
    monkeypatch.setattr(Node, "turn", lambda self, now, wall: turn(self, now, wall + next(jumps)))
    diary, leader, follower = cell.number("diary"), cell.leader, cell.follower
    kept, silent = (open_session(cell, follower, 1000) for _ in range(2))
    opened = cell.world.schedule.now
    cell.value(leader, diary, "remind", ["later", 800])
    for _ in range(8):
        follower.node.confirm(kept, lambda known: None)
        follower.want_turn()
        cell.run(SECOND // 8)
        assert cell.world.leader() is leader
    assert silent in leader.node.host.sessions
    cell.until(lambda: silent not in leader.node.host.sessions, SECOND)
    assert cell.world.schedule.now - opened >= SECOND
    assert kept in leader.node.host.sessions
    assert len(cell.lines(leader)) == 1


def test_a_timer_fires_when_it_is_due(cell: Cell) -> None:
    """Nobody looks for timers all the time: the leader wakes up when the next one is due, between its heartbeats, or
    20 ms after it has last looked."""
    diary, leader = cell.number("diary"), cell.leader
    for after in (131, 227, 313, 149, 241, 337):
        cell.value(leader, diary, "remind", [f"after {after}", after])
        set_at = cell.world.schedule.now
        lines = len(cell.lines(leader))
        cell.until(lambda before=lines: len(cell.lines(leader)) > before)  # type: ignore[misc]
        late = cell.world.schedule.now - set_at - after * 1000
        assert -2_000 <= late <= 22_000, f"{late} us late"


def test_an_idle_leader_sleeps_from_one_heartbeat_to_the_next(cell: Cell) -> None:
    """With nothing to do a turn is taken for each heartbeat and for none besides."""
    leader = cell.leader
    cell.run(SECOND)
    turns = 0
    turn = leader.node.turn

    def counted(now: int, wall: int) -> Any:
        nonlocal turns
        turns += 1
        return turn(now, wall)

    leader.node.turn = counted  # type: ignore[method-assign]
    cell.run(SECOND)
    heartbeats = SECOND // cell.world.options.core.heartbeat
    assert heartbeats - 1 <= turns <= heartbeats + 1


def test_a_gate_holds_a_command_until_it_lets_it_go(cell: Cell) -> None:
    """On the leader a kept command waits, with what follows in its stream; other machines do not wait."""
    guarded, diary, follower = cell.number("guarded"), cell.number("diary"), cell.follower
    first = cell.submit(follower, guarded, "write", ["keep this"])
    second = cell.submit(follower, guarded, "write", ["then that"])
    assert cell.value(follower, diary, "write", ["meanwhile"]) == 1
    cell.run(SECOND // 10)
    assert not first
    assert not second
    guard = Guarded.gates[-1]
    guard.kept.pop(0)()
    cell.leader.want_turn()
    cell.until(lambda: first and second)
    assert cell.lines(follower, "guarded") == ["keep this", "then that"]


def test_a_gate_ends_with_its_leadership_and_its_stream_goes_on_elsewhere(cell: Cell) -> None:
    """What a gate kept is decided anew under the next leader; the old gate is told that it is over."""
    guarded, follower, leader = cell.number("guarded"), cell.follower, cell.leader
    old = Guarded.gates[-1]
    replies = cell.submit(follower, guarded, "write", ["keep this"])
    cell.until(lambda: old.kept)
    leader.node.core.transfer(follower.member, leader.now)
    leader.want_turn()
    cell.until(lambda: Guarded.gates[-1] is not old and Guarded.gates[-1].kept)
    assert old.over
    old.kept.pop()()
    cell.run(SECOND // 10)
    assert not replies
    Guarded.gates[-1].kept.pop()()
    cell.leader.want_turn()
    cell.until(lambda: replies)
    assert cell.lines(follower, "guarded") == ["keep this"]


def test_an_expiry_waits_for_every_gate(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session is expired only when the gates have let it pass."""
    monkeypatch.setattr(Guarded, "holds_expiries", True)
    session = open_session(cell, cell.follower, 200)
    guard = Guarded.gates[-1]
    cell.until(lambda: guard.kept)
    cell.run(SECOND)
    assert session in cell.leader.node.host.sessions
    guard.kept.pop()()
    cell.leader.want_turn()
    cell.until(lambda: session not in cell.leader.node.host.sessions)


def test_what_an_unloaded_machines_gate_kept_goes_on_without_it(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is answered that the machine is missing, with what waits behind it; a session ends."""
    monkeypatch.setattr(Guarded, "holds_expiries", True)
    guarded, follower = cell.number("guarded"), cell.follower
    session = open_session(cell, follower, 200)
    replies = [cell.submit(follower, guarded, "write", [line]) for line in ("keep this", "then that")]
    guard = Guarded.gates[-1]
    cell.until(lambda: len(guard.kept) == 2)
    cell.submit(cell.leader, PLUGINS, "unload", ["guarded"])
    cell.until(lambda: all(replies), SECOND)
    assert all(b"machine-missing" in reply for (reply,) in replies if isinstance(reply, bytes))
    cell.until(lambda: session not in cell.leader.node.host.sessions, SECOND)


def test_what_a_halted_machines_gate_kept_is_answered_and_its_stream_goes_on(cell: Cell) -> None:
    """Also when the machine goes on, with a new gate, for which the old one does not speak."""
    guarded, follower, leader = cell.number("guarded"), cell.follower, cell.leader
    kept = cell.submit(follower, guarded, "write", ["keep this"])
    old = Guarded.gates[-1]
    cell.until(lambda: old.kept)
    cell.submit(leader, guarded, "tear", [])
    cell.until(lambda: kept, SECOND)
    assert cell.lines(leader) == []
    cell.value(leader, PLUGINS, "skip", ["guarded"])
    then = cell.submit(follower, guarded, "write", ["keep that"])
    new = Guarded.gates[-1]
    cell.until(lambda: new.kept)
    assert old.over
    old.kept.pop()()
    cell.leader.want_turn()
    cell.run(SECOND // 10)
    assert not then
    new.kept.pop()()
    cell.leader.want_turn()
    cell.until(lambda: then, SECOND)
    assert cell.lines(follower, "guarded") == ["keep that"]


def test_a_machine_that_halts_and_goes_on_at_once_has_a_gate_of_its_own(cell: Cell) -> None:
    """The old gate looks at the state before, which no command changes any more."""
    guarded, leader, old = cell.number("guarded"), cell.leader, Guarded.gates[-1]
    cell.submit(leader, guarded, "tear", [])
    leader.node._leading.take_own()  # so that both are in one batch, in this order
    skipped = cell.submit(leader, PLUGINS, "skip", ["guarded"])
    cell.until(lambda: skipped)
    assert old.over
    cell.submit(leader, guarded, "write", ["keep this"])
    cell.until(lambda: Guarded.gates[-1].kept)
    assert not old.kept


def test_a_snapshot_settles_commands_and_releases_reads() -> None:
    """A replica that catches up by a snapshot learns that its commands were applied, without their answers, and its
    waiting reads go on."""
    cell = Cell(core={"retained": 0}, snapshot_slots=10, digest_every=1000)
    diary, follower, leader = cell.number("diary"), cell.follower, cell.leader
    for other in cell.running:
        if other is not follower:
            cell.world.network.cut(other.member, follower.member)
    replies = cell.submit(follower, diary, "write", ["mine"])
    cell.until(lambda: "mine" in cell.lines(leader))
    for n in range(40):
        cell.value(leader, diary, "write", [str(n)])
    cell.run(SECOND // 10)
    cell.world.network.mend()
    seen: list[bool] = []
    cell.until(lambda: follower.node.core.leader is not None, 10 * SECOND)
    follower.node.barrier(seen.append, follower.now)
    follower.want_turn()
    cell.until(lambda: replies and seen, 10 * SECOND)
    assert cell.world.watch.counts["snapshots installed"] >= 1
    assert replies == [None]
    assert seen == [True]
    assert cell.lines(follower)[0] == "mine"


def test_digests_are_compared_through_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every member reports its digest at the agreed slots. Nobody differs, until somebody's state is not what the log
    makes of it: then everybody knows who."""
    cell = Cell(digest_every=8)
    diary, victim = cell.number("diary"), cell.follower
    for n in range(30):
        cell.value(victim, diary, "write", [str(n)])
    cell.run(SECOND)
    assert [process.node.host.divergence() for process in cell.running] == [None, None, None]
    monkeypatch.setattr(Watch, "applied", lambda *_: None)  # it would see it, too, and at once
    cell.lines(victim).append("forged")
    for n in range(30):
        cell.value(cell.leader, diary, "write", [str(n)])
    cell.run(SECOND)
    told = [process.node.host.divergence() for process in cell.running]
    assert [each and (each.differing, each.missing) for each in told] == [((victim.member,), ())] * 3


def test_the_room_shrinks_with_what_is_under_way(cell: Cell) -> None:
    """Whoever feeds a replica can see when to wait, and when there is room again."""
    node: Node = cell.follower.node
    room = node.room()
    replies = cell.submit(cell.follower, cell.number("diary"), "write", ["x" * 1000])
    assert node.room() <= room - 1000
    cell.until(lambda: replies)
    assert node.room() == room


def test_a_snapshot_is_due_when_the_log_takes_more_memory_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty slots take memory as well; a large snapshot is not written again before the log has outgrown it."""
    cell = Cell(snapshot_bytes=20 * SLOT_COST, snapshot_growth=150, digest_every=10_000)
    diary, node = cell.number("diary"), cell.leader.node
    for process in cell.running:
        monkeypatch.setattr(process._snapshots, "take", lambda run: None)

    def slots_until_due() -> int:
        begun = node.snapshot_begins()
        while not node.snapshot_due:
            cell.value(cell.leader, diary, "write", [""])
        return node.host.slot - begun

    few = slots_until_due()
    assert 0 < few <= 20
    node.snapshotted(Slot(node.host.slot), 40 * SLOT_COST)
    assert 40 < slots_until_due() <= 60


def test_a_replica_stands_still_for_no_image_but_the_snapshots_that_are_due(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a large state these come after more log than a host keeps where nobody takes snapshots."""

    def snapshot(host: MachineHost) -> Iterator[bytes]:
        raise AssertionError("nothing goes on meanwhile")

    monkeypatch.setattr(host_module, "HISTORY_BYTES_MAX", 1000)
    monkeypatch.setattr(MachineHost, "snapshot", snapshot)
    diary = cell.number("diary")
    for n in range(20):
        cell.value(cell.leader, diary, "write", [str(n) * 100])
    cell.settle()


def test_small_commands_wait_together_for_the_batch_before() -> None:
    """While a batch is under way small ones gather, and leave as one when it is chosen."""

    def slots(linger: int) -> int:
        cell = Cell(linger=linger)
        leader, diary = cell.leader, cell.number("diary")
        cell.settle()
        before, replies = leader.node.host.slot, []
        for n in range(20):
            replies.append(cell.submit(leader, diary, "write", [str(n)]))
            cell.run(30)
        cell.until(lambda: all(replies))
        return leader.node.host.slot - before

    assert slots(SECOND) < slots(0) / 2


def test_clients_that_ask_again_at_once_share_slots() -> None:
    """Clients at all replicas, each with one command under way, become one crowd instead of two that take turns."""

    def slots(patience: int) -> int:
        cell = Cell(patience=patience)
        leader, diary = cell.leader, cell.number("diary")
        answered = 0

        def ask(process: Process) -> None:
            process.node.submit(diary, pack_request("write", ["a line as long as any"]), partial(again, process))
            process.want_turn()

        def again(process: Process, _: Reply) -> None:
            nonlocal answered
            answered += 1
            ask(process)

        cell.settle()
        before = leader.node.host.slot
        for process in cell.running * 3:
            ask(process)
        cell.until(lambda: answered >= 300)
        return leader.node.host.slot - before

    assert slots(1_000) < 0.7 * slots(0)


def test_replicas_where_nobody_waits_are_told_later(cell: Cell) -> None:
    """Where a session is, or commands come from, everything is applied at once; elsewhere some milliseconds later, and
    nothing is fetched."""
    leader, diary = cell.leader, cell.number("diary")
    others = [process for process in cell.running if process is not leader]
    for here, there in (others, others[::-1]):
        session = open_session(cell, here, 60_000)
        cell.run(SECOND)
        cell.settle()
        replies = cell.submit(leader, diary, "write", ["a"])
        cell.until(lambda: len(cell.lines(here)) > len(cell.lines(there)), 1_500)  # noqa: B023
        cell.until(lambda: replies, 1_500)  # noqa: B023
        assert len(cell.lines(here)) > len(cell.lines(there))
        cell.until(lambda: len(cell.lines(here)) == len(cell.lines(there)), 2 * LATER)  # noqa: B023
        cell.value(here, SESSIONS, "close", [session])
        cell.run(SECOND)
        cell.settle()
        replies = cell.submit(there, diary, "write", ["a"])
        cell.until(lambda: replies, 1_500)  # noqa: B023


def test_who_is_far_away_is_not_waited_for_long() -> None:
    """When a batch takes longer than the linger to be chosen, the next leaves all the same."""
    cell = Cell(linger=1_000)
    leader = cell.leader
    cell.settle()
    for other in cell.running:
        if other is not leader:
            cell.world.network.cut(other.member, leader.member)
    for n in range(3):
        cell.submit(leader, cell.number("diary"), "write", [str(n)])
        cell.run(2_000)
    assert leader.node.core.can_propose() == leader.node.core.options.window - 3


def test_the_others_hear_before_the_leader_applies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for a command at a follower does not wait for the leader's own machines, too."""
    cell = Cell(5)
    order: list[str] = []
    leader, follower = cell.leader, cell.follower
    assert leader.run is not None
    carry_out, apply = leader.run.port.carry_out, leader.node.host.apply

    def carrying_out(ready: Ready) -> None:
        order.extend("told" for to, message in ready.messages if to == follower.member and type(message) is m.Commit)
        carry_out(ready)

    def applying(slot: Slot, payload: bytes) -> Applied:
        order.append("applied")
        return apply(slot, payload)

    monkeypatch.setattr(leader.run.port, "carry_out", carrying_out)
    monkeypatch.setattr(leader.node.host, "apply", applying)
    cell.value(follower, leader.node.host.request_number("diary"), "write", ["a line"])
    assert order[:2] == ["told", "applied"]
