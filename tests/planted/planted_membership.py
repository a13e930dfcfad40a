"""Bugs in who decides."""

from __future__ import annotations

from typing import Any

from planting import Plant, bug
from quorate.kernel.paxos.configuration import reconfigured
from quorate.kernel.paxos.following import Following
from quorate.kernel.paxos.leadership import Leadership
from quorate.kernel.testing.faults import Fault


@bug("durable: |one value: ", Fault.MEMBERSHIP, Fault.LOSS)
def configuration_active_when_only_accepted(plant: Plant) -> None:
    """Members follow a configuration from when they have voted for it, not from when it is chosen; so its own quorums
    choose it."""

    def early(role: Any, slot: Any, value: Any, now: int) -> None:
        replica = role._learned.__self__
        replica._adopt(reconfigured(replica.configuration, value.payload, slot), now)
        plant.did()

    plant.edit(
        Following.on_accept,
        {
            "if acceptor.accept(ballot, slot, value):": (
                "if value.kind is Kind.CONFIGURATION and slot > acceptor._forgotten: early(self, slot, value, now)\n"
                "            if acceptor.accept(ballot, slot, value):"
            )
        },
        early=early,
    )
    plant.edit(
        Leadership._propose,
        {"return slot": ("if value.kind is Kind.CONFIGURATION: early(self, slot, value, now)\n    return slot")},
        early=early,
    )


@bug("durable: ", Fault.MEMBERSHIP)
def quorum_of_the_old_configuration(plant: Plant) -> None:
    """A leader goes on to count votes by the voters of the configuration under which it was elected."""
    plant.edit(
        Leadership.adopted, {"self._proposer.voters = roster.voters": "never(self._proposer.voters != roster.voters)"}
    )
