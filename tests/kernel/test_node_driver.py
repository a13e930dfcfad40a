"""What a node hands its driver in the middle of a turn, and what the driver may say then."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from host_driver import CELL, FOUNDERS, MACHINES
from quorate.kernel.applied import Applied
from quorate.kernel.catalog import Catalog
from quorate.kernel.host import MachineHost
from quorate.kernel.machine import Origin
from quorate.kernel.node import Node
from quorate.kernel.node_options import Options
from quorate.kernel.paxos import messages as m
from quorate.kernel.paxos.ballot import NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.ready import AcceptedValue, DurableState, Ready
from quorate.kernel.paxos.replica import Options as CoreOptions
from quorate.kernel.paxos.replica import Replica
from quorate.kernel.stop import StopReplica
from quorate.kernel.system import SESSIONS
from quorate.kernel.wire.batch import pack_request

NOW = 1_000_000
LEADER = m.Sender(MemberId(1), 1)
BALLOT = Ballot(5, MemberId(1))


class Driver:
    """Member 2, which follows member 1, and a driver whose disk is so quick that everything is durable at once."""

    def __init__(self, **options: int) -> None:
        own = Origin(2, 1)
        self.hangs = False
        self.served: list[bool] = []
        self.happened: list[str] = []
        self.records: list[object] = []
        self.sent: list[object] = []
        self.core = Replica(
            MemberId(2),
            1,
            DurableState(NO_BALLOT, (), Slot(0), Slot(0), FOUNDERS),
            options=CoreOptions(**options),
            random=Random(1),
            now=NOW,
        )
        host = MachineHost(CELL, Catalog(MACHINES), own, Random)
        host.configured(Slot(0), FOUNDERS)
        skipped = host.skipped

        def skipping(slot: Slot) -> None:
            self.happened.append(f"applies {slot}")
            skipped(slot)

        host.skipped = skipping  # type: ignore[method-assign]
        self.node = Node(
            self.core, host, self, origin=own, disk=b"d" * 16, new_host=lambda: host, secret=bytes(32),
            options=Options(), now=NOW,
        )  # fmt: skip

    def hear(self, *messages: m.Message) -> None:
        for message in messages:
            self.node.receive(LEADER, message, NOW)

    def turn(self) -> None:
        self.carry_out(self.node.turn(NOW, 0))

    def voted(self) -> list[int]:
        """The slots of the votes written, in the order of the journal."""
        return [record.slot for record in self.records if isinstance(record, AcceptedValue)]

    # ---------------------------------------------------------------- NodeObserver

    def carry_out(self, ready: Ready) -> None:
        self.records += ready.records
        assert not ready.records or ready.upto == len(self.records), "records were overtaken by later ones"
        self.sent += [message for _, message in (*ready.messages, *ready.after)]
        self.happened += [f"writes {each.slot}" for each in ready.records if isinstance(each, AcceptedValue)]
        if ready.upto and not self.hangs:
            self.node.persisted(ready.upto, NOW)

    def applied(self, applied: Applied) -> None: ...

    def restored(self, host: MachineHost) -> None: ...

    def serving(self, serving: bool) -> None:
        assert serving == self.node.serving
        self.served.append(serving)

    def disowned(self, disk: bytes) -> None: ...


def accept(slot: int, commit: int) -> m.Accept:
    return m.Accept(BALLOT, Slot(slot), (m.NOOP,), Slot(commit))


@pytest.fixture
def driver() -> Driver:
    """One that has heard of the leader, and has nothing on its way."""
    driver = Driver()
    driver.node._introduce = lambda: None  # type: ignore[method-assign]
    driver.hear(m.Heartbeat(BALLOT, Slot(0), NOW, 1, Slot(0)))
    driver.turn()
    return driver


def test_what_nobody_waits_for_is_written_before_it_is_applied(driver: Driver) -> None:
    """The vote on the next slot does not wait for the machines."""
    driver.hear(accept(1, 0))
    driver.turn()
    driver.hear(accept(2, 1))
    driver.turn()
    assert driver.happened == ["writes 1", "writes 2", "applies 1"]


def test_what_somebody_waits_for_is_applied_first(driver: Driver) -> None:
    """The answer comes before our own vote on what is next; nothing is lost of that."""
    driver.node.submit(SESSIONS, pack_request("close", [1]), lambda reply: None)
    driver.hear(accept(1, 0))
    driver.turn()
    driver.hear(accept(2, 1))
    driver.turn()
    assert driver.happened == ["writes 1", "applies 1", "writes 2"]


def test_what_becomes_durable_in_the_middle_of_a_turn_is_applied_in_it(driver: Driver) -> None:
    """The driver says so while it carries out what the turn has brought up to then: each slot is applied once."""
    driver.hear(accept(1, 0), m.Vouched(BALLOT, Slot(2), False))
    driver.turn()
    driver.hear(accept(2, 1), accept(3, 1))
    driver.turn()
    assert driver.happened[-2:] == ["applies 1", "applies 2"]
    assert driver.node.host.slot == 2
    driver.hear(m.Commit(BALLOT, Slot(3)))
    driver.turn()
    assert driver.node.host.slot == 3
    assert driver.voted() == [1, 2, 3]


def test_votes_are_told_when_not_everything_submitted_here_is_answered(driver: Driver) -> None:
    """What is still on its way may be chosen only when the leader has heard them."""
    driver.hear(accept(1, 0), m.Vouched(BALLOT, Slot(1), True))
    driver.turn()
    driver.turn()
    for waits in (False, True):
        slot = driver.node.host.slot + 1
        driver.sent.clear()
        if waits:
            driver.node.submit(SESSIONS, pack_request("close", [1]), lambda reply: None)
            assert list(driver.node._outbox.unsent())  # it has left already
        driver.hear(accept(slot, slot - 1), m.Vouched(BALLOT, Slot(slot), True))
        driver.turn()
        driver.turn()
        assert driver.node.host.slot == slot
        assert any(isinstance(message, m.Accepted) for message in driver.sent) == waits


def test_a_replica_that_cannot_apply_has_voted_all_the_same(driver: Driver) -> None:
    """It stops in the middle of the turn. What it was told to write before is on the disk, and true."""

    def failing(slot: Slot) -> None:
        raise StopReplica("the test")

    driver.hear(accept(1, 0))
    driver.turn()
    driver.node.host.skipped = failing  # type: ignore[method-assign]
    driver.hear(accept(2, 1))
    with pytest.raises(StopReplica):
        driver.turn()
    assert driver.voted() == [1, 2]
    assert m.Accepted(BALLOT, Slot(2), Slot(2)) in driver.sent


def test_a_replica_whose_disk_hangs_for_long_does_not_serve() -> None:
    """It takes in nothing more, so clients must ask another; when the disk is back it serves again."""
    driver = Driver(unwritten=1000)
    driver.node._introduce = lambda: None  # type: ignore[method-assign]
    driver.hear(m.Heartbeat(BALLOT, Slot(0), NOW, 1, Slot(0)))
    driver.turn()
    driver.hangs = True
    for slot in range(1, 10):
        driver.hear(accept(slot, slot - 1))
        driver.turn()
    driver.node.persisted(len(driver.records), NOW)
    driver.turn()
    assert driver.served == [True, False, True]
