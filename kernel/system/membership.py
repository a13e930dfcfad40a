"""Who is in the cell, as far as the machines have applied the log.

Changes of membership are values of their own in the log (:class:`~..paxos.quorum.Change`), because quorums depend on
them; the host tells this machine when one took effect. It is here so that membership is in every snapshot and can be
asked for like anything else.
"""

from __future__ import annotations

from typing import Any, Final

from ..machine import Plain, StateMachine, query
from ..paxos.ballot import MemberId, Slot
from ..paxos.quorum import Configuration, Member, Role

NOBODY: Final = Configuration(Slot(0), ())


class Membership(StateMachine):
    """The machine "membership"."""

    name = "membership"
    version = 1

    def __init__(self) -> None:
        self.configuration = NOBODY

    @query
    def members(self) -> list[Plain]:
        """The members in order of id: id, role ("voter" or "learner"), peer endpoint and the doors by face."""
        return [
            {"id": member.id, "role": member.role.name.lower(), "peer": member.peer, "doors": dict(member.doors)}
            for member in sorted(self.configuration.members)
        ]

    def snapshot(self) -> Plain:
        number, members = self.configuration
        return [number, [[m.id, int(m.role), m.peer, [[*door] for door in m.doors], m.disk] for m in members]]

    def restore(self, state: Plain, version: int) -> None:
        fields: Any = state
        number, members = fields
        self.configuration = Configuration(
            Slot(number),
            tuple(
                Member(MemberId(identity), Role(role), peer, tuple((face, address) for face, address in doors), disk)
                for identity, role, peer, doors, disk in members
            ),
        )
