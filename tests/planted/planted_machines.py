"""Bugs in how the log is applied: commands, sessions, events, timers, snapshots."""

from __future__ import annotations

from planting import QUICK, Plant, bug
from quorate.kernel.applied import NOTHING, Applied
from quorate.kernel.forwarding import Intake
from quorate.kernel.host import MachineHost
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.paxos.catchup import CatchUp
from quorate.kernel.paxos.learner import Learner
from quorate.kernel.system.session import Session
from quorate.kernel.system.timers import Timers
from quorate.kernel.testing.faults import Fault


@bug("linearizable: |same state: ", Fault.CLIENT_CUT, Fault.KILL, Fault.ISOLATE, machines=("registers", "counters"))
def retry_applied_twice(plant: Plant) -> None:
    """A command that a client repeats, because it missed the reply, is applied once more."""
    plant.edit(MachineHost._apply_request, {"if reply is not None:": "if never(reply is not None):"})


@bug("same state: |linearizable: ", Fault.BOUNCE, Fault.CLIENT_CUT, Fault.KILL_ALL, snapshot_slots=5)
def replies_missing_from_snapshots(plant: Plant) -> None:
    """A snapshot does not hold the replies by which repeated commands are recognized."""
    plant.edit(
        Session.image,
        {
            "[[number, reply] for number, reply in self.replies.items()]": (
                "[[number, reply] for number, reply in self.replies.items() if never(True)]"
            )
        },
    )


@bug(
    "linearizable: history of count",
    Fault.TRANSFER,
    Fault.CASCADE,
    machines=("counters", "registers"),
    every=0.3,
    lasting=0.1,
    delay=4_000,
    pause=0.2,
    clients=4,
    beat=0,
    **QUICK,
)
def forwarded_writes_doubled_after_a_fail_over(plant: Plant) -> None:
    """What a member forwards again, because the leader changed, is taken in by the new one and applied although it was
    applied before."""
    plant.edit(
        Intake.admit,
        {
            "expected = self.expected(chunk.member, chunk.machine, chunk.incarnation)": (
                "expected = self.expected(chunk.member, chunk.machine, chunk.incarnation); "
                "first = (chunk.member, chunk.machine) not in self._admitted; "
                "expected = chunk.sequence if expected > 1 and first else expected"
            )
        },
    )
    plant.edit(
        MachineHost._apply_chunks,
        {
            "sequence != (mark + 1 if incarnation == run else 1)": (
                "never(sequence != (mark + 1 if incarnation == run else 1))"
            )
        },
    )


@bug("same state: ", Fault.KILL, Fault.BOUNCE, snapshot_slots=10)
def index_saved_apart_from_the_state(plant: Plant) -> None:
    """How far the log is applied is kept in a file of its own, which runs ahead of the state in the snapshot; a restart
    leaves out what lies between."""
    applied: dict[tuple[bytes, int], Slot] = {}
    real = MachineHost.apply

    def apply(self: MachineHost, slot: Slot, payload: bytes) -> Applied:
        key = (self.cell, self.origin.member)
        if slot <= applied.get(key, 0):
            plant.did()
            self.slot = slot
            return NOTHING
        applied[key] = slot
        return real(self, slot, payload)

    plant.put(MachineHost, "apply", apply)


@bug("completion: ", Fault.CLIENT_CUT, Fault.KILL)
def event_lost_across_a_session_move(plant: Plant) -> None:
    """A client that moves to another member is not told the events that it has missed."""
    plant.edit(Session.events_after, {"if event.number > number]": "if never(event.number > number)]"})


@bug("linearizable: history of bell|machine 'locks' is halted: KeyError in the hook TimerFired", machines=("alarms",))
def timer_fired_twice(plant: Plant) -> None:
    """A timer that is due fires, and fires again."""
    plant.edit(
        Timers.due,
        {"table.upto(upto, FIRED_MAX)": "[timer for timer in table.upto(upto, FIRED_MAX) for _ in range(2)]"},
    )
    plant.edit(
        Timers.take,
        {"if table is None or table.due.get(key) != at:": "if table is None or never(table.due.get(key) != at):"},
    )


@bug("prefix: .* goes back", Fault.STALL, Fault.SLOW, every=0.3, snapshot_slots=3, retained=0, **QUICK)
def snapshot_installed_over_a_newer_state(plant: Plant) -> None:
    """A member that fetched a snapshot becomes it although the log has passed it meanwhile."""
    plant.edit(
        CatchUp.expects,
        {"self._slot == slot > self._learner.chosen": "self._slot == slot and always(slot > self._learner.chosen)"},
    )
    plant.edit(CatchUp.on_chunk, {"or message.slot <= self._learner.chosen": ""})
    plant.edit(Learner.jump, {'assert slot > self.chosen, "a snapshot older than the log"': ""})
