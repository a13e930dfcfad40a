"""Bugs in who may lead, read, and believe in a session for how long."""

from __future__ import annotations

from heapq import heappush

from planting import QUICK, Plant, bug
from quorate.kernel.leading import Leading
from quorate.kernel.node import Node
from quorate.kernel.paxos.leadership import Leadership
from quorate.kernel.paxos.replica import Replica
from quorate.kernel.testing.faults import Fault


@bug("one leader: |reads: ", Fault.STALL, every=0.2, machines=("registers",), **QUICK)
def lease_counted_from_receipt(plant: Plant) -> None:
    """A leader counts its lease from when an answer arrives, not from when it asked."""
    plant.edit(
        Leadership.on_beaten,
        {
            "self.lease.answer(sender, message.sent, message.round)": (
                "did(); self.lease.answer(sender, now, message.round)"
            )
        },
    )


@bug("one leader: |reads: ", Fault.BOUNCE, Fault.ISOLATE, every=0.4)
def no_silence_after_a_restart(plant: Plant) -> None:
    """A member that starts again helps candidates at once, although it may have granted a lease just before."""
    plant.edit(Replica.__init__, {"if used else now": "if never(used) else now"})


@bug("reads: |linearizable: ", Fault.CASCADE, every=0.3, lasting=0.1, busy=6, sync=20_000, **QUICK)
def read_without_a_commit_of_the_ballot(plant: Plant) -> None:
    """A new leader answers reads before it has committed a value of its own ballot."""
    plant.edit(
        Leadership.read,
        {
            "held = self.lease_left(now) > 0": (
                "held = self.lease_left(now) > 0 or (not self.serving and self.lease.left(now) > 0 and did())"
            )
        },
    )
    plant.edit(Leadership._grant_reads, {"if self.serving and reads and": "if reads and always(self.serving) and"})


@bug("reads: |linearizable: ", Fault.PAUSE, busy=3)
def stale_read_after_a_pause(plant: Plant) -> None:
    """A leader answers reads at once for as long as it takes itself for the leader, without a look at its lease."""
    plant.edit(
        Leadership.read,
        {"held = self.lease_left(now) > 0": "held = self.serving and always(self.lease_left(now) > 0)"},
    )


@bug("reads: |linearizable: ", Fault.TRANSFER, replicas=3, busy=3)
def read_without_what_was_vouched_for(plant: Plant) -> None:
    """A leader answers reads without a look at whether it knows all to be chosen that a follower may know to be so."""
    plant.edit(
        Leadership.read,
        {
            "NO_SLOT if self._telling is None else self._telling.vouched": (
                "NO_SLOT if self._telling is None or always(self._telling.vouched <= self._learner.chosen) else 0"
            )
        },
    )


@bug(
    "renewals: ",
    Fault.LOSS,
    Fault.LATE,
    Fault.CLIENT_KILL,
    every=0.1,
    machines=("registers",),
    replicas=3,
    clients=2,
    beat=0,
    pause=0.05,
    reads=0.2,
    session_timeout=0.5,
    delay=150,
    sync=150,
)
def renewal_counted_before_the_session_is_known(plant: Plant) -> None:
    """A leader says at once of a session that it does not know that it is lost, although a follower may know that it is
    open."""
    plant.edit(Node._hear_renewals, {"if lost or": "if never(lost) or"})


@bug("sessions: ", Fault.KILL, Fault.TRANSFER)
def session_expired_too_early_after_a_fail_over(plant: Plant) -> None:
    """A new leader takes the sessions that it has not heard itself for silent since ever."""
    plant.edit(
        Leading.__init__,
        {
            "self.renewals.watch(session.id, session.timeout_ms * 1000, session.attachment)": (
                "did(); self.renewals.watch(session.id, session.timeout_ms * 1000, session.attachment); "
                "self.renewals._watched[session.id].heard -= session.timeout_ms * 1000; "
                "heappush(self.renewals._looks, (0, session.id))"
            )
        },
        heappush=heappush,
    )
