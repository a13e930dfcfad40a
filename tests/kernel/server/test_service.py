"""Replicas as services: a cell over real TCP and real files, in one process."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from threading import Event, current_thread
from typing import Any

import pytest
from quorate.kernel.cli import ask
from quorate.kernel.cli.status import gather
from quorate.kernel.client import twisted as client
from quorate.kernel.host import MachineHost
from quorate.kernel.machine import Refusal
from quorate.kernel.node import Node
from quorate.kernel.paxos.ballot import MemberId
from quorate.kernel.paxos.messages import Accepted
from quorate.kernel.paxos.quorum import Change, ChangeKind, Member, Role
from quorate.kernel.server import replica as live
from quorate.kernel.server import service
from quorate.kernel.server.handle import FrontHandle
from quorate.kernel.storage.errors import StorageError
from quorate.kernel.storage.files import RealFileSystem
from quorate.kernel.storage.journal import Batch
from quorate.kernel.system import PLUGINS, SESSIONS
from quorate.kernel.wire import plain
from quorate.kernel.wire.native import Consistency
from twisted.application.service import Service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

pytestmark = pytest.mark.cell


def value(reply: Any) -> Any:
    """The value of a good reply."""
    status, result = plain.decode(reply)  # type: ignore[misc]
    assert status == 0, result
    return result


class Door(Service):
    """A front that does nothing."""

    face = "door"

    def __init__(self, *_: Any) -> None:
        pass


class Noting:
    """A front's ears: how often it was told of another configuration, and of another instance of its machine."""

    def __init__(self) -> None:
        self.told = 0
        self.replaced = 0

    def restored(self) -> None:
        """It is told."""
        self.replaced += 1

    def reconfigured(self) -> None:
        """Another configuration is in force."""
        self.told += 1

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no such clock")
def test_leases_run_while_the_computer_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that wakes up must not take its lease for one that still runs: its clock counted the time."""
    monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: {time.CLOCK_BOOTTIME: 7_000}[clock])
    assert service.real_clocks().monotonic() == 7


class CellTests(TestCase):
    """Three replicas unless the test says otherwise."""

    cell: Any
    directory: Path
    timeout = 60

    async def started(self, **options: Any) -> Any:
        """A cell that serves, stopped when the test ends."""
        cell = self.cell(**options)
        self.addCleanup(lambda: _deferred(cell.stop()))
        cell.start()
        await cell.serving()
        return cell

    async def test_elects_and_applies_everywhere(self) -> None:
        """A fresh cell finds a leader, loads its founding machine, and a write through any replica shows on all."""
        cell = await self.started()
        for by, member in enumerate(cell.running, 1):
            await cell.add(member, "a", by)
        await cell.until(lambda: [cell.machine(m).sums["a"] for m in cell.running] == [6, 6, 6])
        digests = {cell.replica(m).host.digest() for m in cell.running}
        assert len(digests) == 1

    async def test_a_replica_without_sessions_gives_way(self) -> None:
        """Batch by batch, to those that have some; the leader never does."""
        cell = await self.started()
        gave: list[int] = []
        giving = lambda: gave.append(sys._getframe(1).f_locals["self"].origin.member)  # noqa: E731
        self.patch(live, "_give_way", giving)
        leader = cell.leader()
        busy, idle = (member for member in cell.running if member != leader)
        sessions = cell.replica(busy).sessions
        sessions.open(5000, "native", lambda _: None)
        await cell.until(lambda: sessions.here)
        gave.clear()
        for _ in range(10):
            await cell.add(busy, "a")
        await cell.until(lambda: cell.machine(idle).sums["a"] == 10)
        assert set(gave) == {idle}
        assert len(gave) >= 10

    async def test_survives_the_leader(self) -> None:
        """With the leader gone the others go on within a second, and what was acknowledged is there."""
        cell = await self.started()
        leader = cell.leader()
        other = next(m for m in cell.running if m != leader)
        for _ in range(20):
            await cell.add(other, "a")
        await cell.stop(leader)
        began = reactor.seconds()  # type: ignore[attr-defined]
        assert value(await cell.add(other, "a")) == 21
        assert reactor.seconds() - began < 2  # type: ignore[attr-defined]

    async def test_a_timer_that_comes_early_takes_no_turn(self) -> None:
        """What it was for may be due later by then: it waits for that, and then there is a turn."""
        cell = await self.started(size=1)
        replica = cell.replica(1)
        turns: list[int] = []
        turn = replica.node.turn

        def counting(now: int, wall: int) -> Any:
            turns.append(now)
            return turn(now, wall)

        self.patch(replica.node, "turn", counting)
        await cell.until(lambda: replica.node.next_tick() > replica.clocks.monotonic() + 5_000)
        replica._timer.cancel()
        turns.clear()
        replica._timed()
        assert not turns
        assert replica._timer.active()
        assert replica._timer_due == replica.node.next_tick()
        await cell.until(lambda: turns)

    async def test_any_replica_has_the_membership_changed(self) -> None:
        """A follower's door wishes for a learner: it is in force on every replica, and each door is told. A wish for
        what has changed meanwhile, or does not fit, has no effect."""
        cell = await self.started()
        doors = {member: Noting() for member in cell.running}
        for member, door in doors.items():
            cell.replica(member).observers.append(door)
        follower = next(member for member in cell.running if member != cell.leader())
        handle = FrontHandle(cell.replica(follower), "door")
        before = handle.configuration()
        learner = Member(MemberId(9), Role.LEARNER, "tcp:127.0.0.1:9", (("client", "tcp:127.0.0.1:10"),))
        handle.change_membership(before.number, Change(ChangeKind.REMOVE, learner))
        handle.change_membership(before.number, Change(ChangeKind.ADD_LEARNER, learner))
        await cell.until(lambda: all(door.told for door in doors.values()))
        assert {cell.replica(member).host.configuration for member in cell.running} == {handle.configuration()}
        assert handle.configuration().find(MemberId(9)) == learner
        handle.change_membership(before.number, Change(ChangeKind.REMOVE, learner))
        assert value(await cell.add(follower, "a")) == 1
        assert handle.configuration().find(MemberId(9)) == learner
        handle.change_membership(handle.configuration().number, Change(ChangeKind.REMOVE, learner))
        await cell.until(lambda: handle.configuration().members == before.members)

    async def test_restarts_on_its_data(self) -> None:
        """A stopped cell comes back with everything, in a new run of each disk."""
        cell = await self.started()
        for _ in range(10):
            await cell.add(1, "a")
        await cell.stop()
        cell.start()
        await cell.serving()
        assert value(await cell.add(2, "a")) == 11
        assert [cell.replica(m).origin.incarnation for m in cell.running] == [2, 2, 2]

    async def test_a_lagging_replica_catches_up_by_snapshot(self) -> None:
        """A replica that missed more than the others keep of the log fetches a snapshot and goes on from there; older
        than two it keeps none."""
        cell = await self.started(snapshot_log=200_000, retained_log=1)
        await cell.stop(next(m for m in cell.running if m != cell.leader()))
        missing = next(m for m in cell.configs if m not in cell.running)
        for number in range(12):
            await cell.fill(min(cell.running), f"k{number}", 50_000)
        taken = lambda: all(len(cell.replica(m).snapshotting._snapshots.kept) for m in cell.running)  # noqa: E731
        await cell.until(taken)
        for number in range(12):
            await cell.fill(min(cell.running), f"l{number}", 10_000)
        cell.start(missing)
        snapshotting, retired = cell.replica(missing).snapshotting, []
        self.patch(snapshotting, "retire", lambda: (retired.append(snapshotting.taking), 0)[1])
        await cell.until(lambda: len(cell.machine(missing).log) == 24)
        assert retired, "the snapshots before the one that was fetched stay"
        other = next(m for m in cell.running if m != missing)
        same = lambda: cell.replica(missing).host.digest() == cell.replica(other).host.digest()  # noqa: E731
        await cell.until(same)
        assert value(await cell.add(missing, "a")) == 1

    async def fetching(self) -> tuple[Any, int]:
        """A cell, and a member that was away for so long that it must fetch a snapshot, and has just come back."""
        cell = await self.started(snapshot_log=200_000, retained_log=1)
        missing = next(m for m in cell.running if m != cell.leader())
        await cell.stop(missing)
        for number in range(12):
            await cell.fill(min(cell.running), f"k{number}", 50_000)
        await cell.until(lambda: all(len(cell.replica(m).snapshotting._snapshots.kept) for m in cell.running))
        cell.start(missing)
        return cell, missing

    async def test_a_fetched_snapshot_is_restored_beside_the_reactor(self) -> None:
        """While the machines read what a peer sent, the reactor turns; here they wait until it has."""
        turned = Event()
        threads: list[object] = []
        prepare = Node.prepare

        def patient(node: Node, chunks: Iterable[bytes]) -> MachineHost:
            reactor.callFromThread(reactor.callLater, 0, turned.set)  # type: ignore[attr-defined]
            assert turned.wait(30), "the reactor stood still"
            threads.append(current_thread())
            return prepare(node, chunks)

        self.patch(Node, "prepare", patient)
        cell, missing = await self.fetching()
        await cell.until(lambda: len(cell.machine(missing).log) == 12)
        assert threads
        assert current_thread() not in threads

    async def test_a_fetched_snapshot_that_cannot_be_restored_is_deleted(self) -> None:
        """Or a restart would begin with it; and what is fetched next is installed."""
        seen: list[Path] = []
        prepare = Node.prepare

        def once(node: Node, chunks: Iterable[bytes]) -> MachineHost:
            if seen:
                return prepare(node, chunks)
            replica = next(service.replica for service in cell.running.values() if service.replica.node is node)
            seen.extend(replica.config.directory.glob("snapshot-*.snap"))
            raise ValueError("no state in it")

        self.patch(Node, "prepare", once)
        removed: list[Path] = []
        remove = RealFileSystem.remove
        self.patch(RealFileSystem, "remove", lambda fs, path: (removed.append(Path(path)), remove(fs, path))[1])
        cell, missing = await self.fetching()
        await cell.until(lambda: len(cell.machine(missing).log) == 12)
        assert len(seen) == 1
        assert seen[0] in removed

    async def test_what_has_no_room_in_memory_stops_the_replica_that_fetched_it(self) -> None:
        """It would wait for the snapshot for ever, and it is not the same on every replica."""

        def full(node: Node, chunks: Iterable[bytes]) -> MachineHost:
            raise MemoryError

        self.patch(Node, "prepare", full)
        cell, missing = await self.fetching()
        await cell.until(lambda: cell.replica(missing).ailing)
        assert "MemoryError" in cell.replica(missing).ailing

    async def test_a_broken_rule_stops_the_replica(self) -> None:
        """Whichever step it shows in. What would follow from it is not sent, written or applied, and the others go
        on."""
        cell = await self.started()
        victim = next(m for m in cell.running if m != cell.leader())
        for count, step in enumerate(("receive", "persisted", "turn"), 1):

            def broken(*_: Any) -> None:
                raise AssertionError("two values for one slot")

            self.patch(cell.replica(victim).node, step, broken)
            assert value(await cell.add(next(m for m in cell.running if m != victim), "a")) == count
            await cell.until(lambda: cell.stopped)
            assert "two values for one slot" in cell.stopped.pop(victim)
            assert not cell.replica(victim).serves
            assert not cell.replica(victim).peers.connected()
            assert self.flushLoggedErrors(AssertionError)
            await cell.stop(victim)
            cell.start(victim)
            await cell.serving()

    async def test_who_cannot_be_told_of_an_answer_stops_the_replica(self) -> None:
        """The slots behind that one were chosen and would never be applied here: it would differ without a word."""
        cell = await self.started(size=1)
        replica = cell.replica(1)
        replica.command(replica.host.machine_number("ledger"), "add", ["a"], lambda _: 1 // 0)
        await cell.until(lambda: cell.stopped)
        assert "ZeroDivisionError" in cell.stopped[1]
        assert self.flushLoggedErrors(ZeroDivisionError)

    async def test_a_door_that_fails_at_the_end_of_a_turn_leaves_the_replica_its_time(self) -> None:
        """That is no matter of the log: heartbeats go on, though nothing else may ever begin a turn here."""
        cell = await self.started(size=1)
        replica = cell.replica(1)
        self.patch(cell.running[1].client_port, "after_batch", lambda: 1 // 0)
        replica._timer.cancel()
        replica._answered = True
        with pytest.raises(ZeroDivisionError):
            replica._turn()
        assert replica._timer.active()

    async def test_snapshots_let_the_journal_go(self) -> None:
        """After enough log a snapshot is taken by a child, and a restart begins from it."""
        cell = await self.started(snapshot_log=100_000)
        for _ in range(10):
            await cell.fill(1, "k", 30_000)
        kept = lambda: all(cell.replica(m).snapshotting._snapshots.kept for m in cell.running)  # noqa: E731
        await cell.until(kept)
        await cell.stop()
        cell.start()
        await cell.serving()
        assert all(cell.replica(m)._recovered.snapshot is not None for m in cell.running)
        await cell.until(lambda: [len(cell.machine(m).log) for m in cell.running] == [10, 10, 10])

    async def test_a_snapshot_that_cannot_begin_is_put_off(self) -> None:
        """Without room for a child the replica goes on as before, keeps no descriptor, and tries again later."""
        cell = await self.started(size=1, snapshot_log=100_000)
        snapshotting = cell.replica(1).snapshotting
        forks: list[int] = []

        def no_fork() -> int:
            forks.append(len(os.listdir("/dev/fd")))
            raise BlockingIOError("no more processes")

        patched = self.patch(os, "fork", no_fork)
        for _ in range(10):
            snapshotting._not_before = 0
            await cell.fill(1, "k", 30_000)
        assert value(await cell.add(1, "a")) == 1
        assert len(forks) > 1
        assert len(set(forks)) == 1
        assert not snapshotting._snapshots.kept
        patched.restore()
        snapshotting._not_before = 0  # no more of the log is needed
        await cell.until(lambda: snapshotting._snapshots.kept)

    async def test_the_doors_of_machines_in_a_snapshot_open(self) -> None:
        """A replica that starts from a snapshot opens the door of each machine in it, though none is loaded anew."""
        self.patch(service, "_front_makers", lambda: iter([("conftest:Ledger", Door)]))
        cell = await self.started(snapshot_log=100_000)
        for _ in range(10):
            await cell.fill(1, "k", 30_000)
        await cell.until(lambda: all(cell.replica(m).snapshotting._snapshots.kept for m in cell.running))
        await cell.stop()
        for member, config in cell.configs.items():
            cell.configs[member] = replace(config, doors={Door.face: "tcp:0"})
        cell.start()
        await cell.until(lambda: all(list(each) for each in cell.running.values()))

    async def doored(self) -> tuple[Any, Any, list[tuple[Door, FrontHandle, Noting]]]:
        """A lone replica with a door for its ledger, and every front that is made for it."""
        made: list[tuple[Door, FrontHandle, Noting]] = []

        class Opened(Door):
            """One that has a way into the log and listens."""

            def __init__(self, handle: FrontHandle, *_: Any) -> None:
                made.append((self, handle, Noting()))
                handle.stream("ledger", lambda: None)
                handle.observe(made[-1][2])

        self.patch(service, "_front_makers", lambda: iter([("conftest:Ledger", Opened)]))
        cell = self.cell(size=1)
        cell.configs[1] = replace(cell.configs[1], doors={Door.face: "tcp:0"})
        self.addCleanup(lambda: _deferred(cell.stop()))
        cell.start()
        await cell.until(lambda: made)
        return cell, cell.replica(1), made

    async def test_a_machine_loaded_anew_gets_a_door_of_its_own(self) -> None:
        """Also if the one of that name before it went in the same turn, as on a replica that catches up: the old front
        would write to a machine that is not there. Nothing of that front is kept."""
        cell, replica, made = await self.doored()
        kept = len(replica.observers), len(replica.streams)
        replica.command(PLUGINS, "unload", ["ledger"], lambda _: None)
        replica.command(PLUGINS, "load", ["ledger", "conftest:Ledger"], lambda _: None)
        await cell.until(lambda: len(made) == 2)
        await cell.until(lambda: list(cell.running[1]) == [made[1][0]])
        assert [bool(front.running) for front, _, _ in made] == [False, True]
        assert (len(replica.observers), len(replica.streams)) == kept
        assert made[0][2] not in replica.observers

    async def test_a_machine_that_goes_on_at_once_is_given_to_its_front(self) -> None:
        """A machine that halts and goes on in one turn is another instance: its front must not read from the one that
        may be half changed."""
        cell, replica, made = await self.doored()
        ((_, _, noting),) = made
        before, told = cell.machine(1), []
        patched = self.patch(cell.running[1], "machines_changed", lambda: None)
        before.sums = None  # type: ignore[assignment]
        replica.command(replica.host.machine_number("ledger"), "add", ["a"], told.append)
        await cell.until(lambda: told)
        assert replica.host.status()[0].halted
        replica.command(PLUGINS, "skip", ["ledger"], told.append)
        await cell.until(lambda: len(told) == 2)
        patched.restore()
        cell.running[1].machines_changed()
        await cell.until(lambda: noting.replaced)
        assert cell.machine(1) is not before
        assert (len(made), noting.replaced) == (1, 1)

    async def test_two_of_three_do_and_one_does_not(self) -> None:
        """A majority goes on; a lone replica takes nothing and says that it does not serve."""
        cell = await self.started()
        await cell.stop(cell.leader())
        assert value(await cell.add(min(cell.running), "a")) == 1
        await cell.stop(min(cell.running))
        (alone,) = cell.running
        await cell.until(lambda: not cell.replica(alone).serves)
        cell.add(alone, "a").addBoth(lambda _: None)
        await deferLater(reactor, 0.5)  # type: ignore[arg-type]
        assert cell.machine(alone).sums.get("a", 0) < 2

    async def test_a_wiped_disk_is_not_let_back(self) -> None:
        """A member whose directory was emptied is turned away by those who know its disk, and stops voting."""
        cell = await self.started()
        await cell.add(1, "a")
        victim = next(m for m in cell.running if m != cell.leader())
        await cell.stop(victim)
        directory = cell.configs[victim].directory
        for file in directory.iterdir():
            file.unlink()
        cell.start(victim)
        await cell.until(lambda: cell.replica(victim).ailing)
        assert "what it promised is lost" in cell.replica(victim).ailing
        assert cell.replica(victim).serves is False
        healthy = next(m for m in cell.running if m != victim)
        assert value(await cell.add(healthy, "a")) == 2

    async def test_a_copy_of_an_older_disk_is_not_let_back(self) -> None:
        """A member restored from a backup shows less than its peers have seen of it and stops voting."""
        cell = await self.started()
        victim = next(m for m in cell.running if m != cell.leader())
        await cell.stop(victim)
        directory = cell.configs[victim].directory
        backup = {file.name: file.read_bytes() for file in directory.iterdir()}
        cell.start(victim)
        await cell.serving()
        for _ in range(5):
            await cell.add(victim, "a")
        await cell.stop(victim)
        for name, content in backup.items():
            (directory / name).write_bytes(content)
        cell.start(victim)
        await cell.until(lambda: cell.replica(victim).ailing)
        assert "old copy" in cell.replica(victim).ailing

    async def test_a_misspelled_member_shows_in_what_the_cell_can_bear(self) -> None:
        """Its replica runs, its address is wrong everywhere: the cell serves, and says that it bears nothing more."""
        cell = self.cell()
        self.addCleanup(lambda: _deferred(cell.stop()))
        founders = (*cell.founders[:2], cell.founders[2]._replace(peer="tcp:127.0.0.1:1"))
        cell.configs = {member: replace(config, founders=founders) for member, config in cell.configs.items()}
        cell.start()
        await cell.until(lambda: cell.replica(1).serves and cell.replica(2).serves)
        picture = await deferToThread(gather, cell.endpoints, 10.0)
        assert [each["serving"] for each in picture["replicas"]] == [True, True, False]
        assert picture["replicas"][2]["role"] != "down"
        assert picture["failures_tolerated"] == 0

    async def test_nothing_that_waited_for_a_failed_sync_is_told(self) -> None:
        """What was to become durable with it is no vote: from that replica the others hear none any more."""
        cell = await self.started()
        leader = cell.leader()
        victim = next(m for m in cell.running if m != leader)
        await cell.until(lambda: cell.replica(victim).core.chosen == cell.replica(leader).core.chosen)
        before, heard = cell.replica(leader).core.chosen, []
        for member in set(cell.running) - {victim}:
            replica, real = cell.replica(member), cell.replica(member).heard
            self.patch(
                replica, "heard", lambda who, word, real=real: (heard.append((who.member, word)), real(who, word))
            )
        journal, failed = cell.replica(victim).journal._journal, []

        def fail(batch: Batch) -> None:
            failed.append(batch)
            raise journal.sync_failed(OSError(errno.EIO, "the sync failed"))

        self.patch(journal, "write", fail)
        self.patch(journal, "begin", fail)
        for number in range(1, 4):
            assert value(await cell.add(leader, "a")) == number
        await cell.until(lambda: cell.replica(victim).ailing)
        assert len(failed) == 1
        assert "the sync failed" in cell.replica(victim).ailing
        assert value(await cell.add(leader, "a")) == 4
        votes = [(who, word.last) for who, word in heard if isinstance(word, Accepted) and word.last > before]
        assert victim not in dict(votes)
        assert votes

    async def test_a_replica_that_does_not_vote_can_be_asked_why(self) -> None:
        """A replica with a failing disk answers, and sends clients elsewhere; the others go on."""
        cell = await self.started()
        victim = cell.leader()
        cell.replica(victim).disk_failed(StorageError("no disk"))
        status = await deferToThread(ask.status, cell.endpoints[victim - 1], 10.0)
        assert (status["ailing"], status["serving"]) == ("no disk", False)
        session = await client.connect([cell.endpoints[victim - 1], *cell.endpoints], reactor=reactor, timeout=5.0)
        assert await session.call("ledger", "add", "a") == 1
        assert session.member != victim
        await session.close()

    async def test_another_cells_directory_is_refused(self) -> None:
        """A directory of another member stops the start, with words."""
        cell = await self.started(size=1)
        await cell.stop()
        other = self.cell(size=1)
        with pytest.raises(StorageError, match="belongs to the cell"):
            other.start()

    async def test_native_sessions(self) -> None:
        """Calls, queries of every consistency, waits and events through the session client."""
        cell = await self.started()
        session = await client.connect(cell.endpoints, reactor=reactor, timeout=3.0)
        self.addCleanup(lambda: _deferred(session.close()))
        assert [await session.call("ledger", "add", "a") for _ in range(3)] == [1, 2, 3]
        for consistency in Consistency:
            assert await session.query("ledger", "sum", "a", consistency=consistency) == 3
        wait = await session.begin("ledger", "wait", "b")
        events = session.events("ledger")
        await session.call("ledger", "tell", "hello")
        assert await anext(events) == "hello"
        await cell.add(1, "b", 7)
        assert await wait == 7
        with pytest.raises(Refusal, match="machine-missing"):
            await session.call("nothing", "add", "a")

    async def test_a_session_outlives_the_replica_it_was_on(self) -> None:
        """The client moves with its session; what it asked meanwhile is done once."""
        cell = await self.started()
        session = await client.connect(cell.endpoints, reactor=reactor, timeout=3.0)
        self.addCleanup(lambda: _deferred(session.close()))
        assert await session.call("ledger", "add", "a") == 1
        first = session.member
        await cell.stop(first)
        assert await session.call("ledger", "add", "a") == 2
        assert session.member != first
        assert [await session.call("ledger", "add", "a") for _ in range(5)] == [3, 4, 5, 6, 7]

    async def test_a_session_that_moves_on_in_the_same_batch_is_not_taken(self) -> None:
        """Two members that a client tried get it one after the other: the first must not believe that it has it."""
        cell = await self.started(size=1)
        replica = cell.replica(1)
        opening: Deferred[Any] = Deferred()
        replica.sessions.open(5000, "native", opening.callback)
        opened = await opening
        for moves_on in (True, False):
            attaching: Deferred[Any] = Deferred()
            unknown: list[bool] = []
            replica.sessions.attach(
                opened.session, opened.password, attaching.callback, lambda unknown=unknown: unknown.append(True)
            )
            if moves_on:
                replica.command(SESSIONS, "attach", [opened.session, 2, 1], lambda _: None)
            assert (await attaching is None) is moves_on
            assert not unknown
            await cell.until(lambda moves_on=moves_on: (opened.session in replica.sessions.here) is not moves_on)

    async def test_sessions_expire_when_nobody_renews_them(self) -> None:
        """A client that vanishes is expired after its time-out, one that closes is not counted as expired."""
        cell = await self.started()
        leaving = await client.connect(cell.endpoints, reactor=reactor, timeout=1.0)
        await leaving.close()
        await cell.until(lambda: cell.machine(1).sums.get("closed") == 1)
        replica = cell.replica(1)
        opened: list[Any] = []
        replica.sessions.open(600, "native", opened.append)
        await cell.until(lambda: opened)
        assert opened[0].timeout_ms == 600
        assert len(opened[0].password) == 16
        await cell.until(lambda: cell.machine(1).sums.get("expired") == 1, 5.0)


def _deferred(coroutine: Any) -> Any:
    from twisted.internet.defer import Deferred

    return Deferred.fromCoroutine(coroutine)
