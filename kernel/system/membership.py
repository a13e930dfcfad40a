"""Who is in the cell, as far as the machines have applied the log.

Changes of membership are values of their own in the log (:class:`~..paxos.quorum.Change`), because quorums depend on
them; the host tells this machine when one took effect. It is here so that membership is in every snapshot and can be
asked for like anything else. It is also the way by which any replica has the leader begin a change: whoever leads when
the wish is applied proposes it, once; if it dies before, nothing happens, and the wish is to be repeated.

Each member introduces itself once with the identity of its disk, which is kept for ever: a replica that lost its disk
has lost what it promised, and must not vote under that id again, nor may anybody else (Michael et al., "Recovering
Shared Objects Without Stable Storage", DISC 2017: amnesia).
"""

from __future__ import annotations

from typing import Any, Final

from ..machine import Commit, Plain, Refusal, StateMachine, command, query
from ..paxos.ballot import MemberId, Slot
from ..paxos.configuration import MalformedChange, decode_change
from ..paxos.quorum import Configuration, InvalidChange, Member, Role, changed
from .asks import Reconfigure, SystemCommit

NOBODY: Final = Configuration(Slot(0), ())
DISK_SIZE: Final = 16
"""Bytes in the identity of a disk."""


class Membership(StateMachine):
    """The machine "membership"."""

    name = "membership"
    version = 1

    def __init__(self) -> None:
        self.configuration = NOBODY
        self.disks: dict[int, bytes] = {}
        """The disk of every member that there ever was, by id."""

    @command
    def change(self, commit: SystemCommit, number: int, change: bytes) -> None:
        """Have the leader propose a change, if configuration `number` is still in force. That it was proposed does not
        mean that it takes effect: a later configuration shows it."""
        if number != self.configuration.number:
            raise Refusal("membership-moved", f"configuration {self.configuration.number} is in force by now")
        try:
            changed(self.configuration, decode_change(change), self.configuration.number)
        except (MalformedChange, InvalidChange) as error:
            raise Refusal("bad-change", str(error)) from None
        commit.ask(Reconfigure(change))

    @command
    def introduce(self, commit: Commit, member: int, disk: bytes) -> None:
        """`member` keeps its promises on that disk: says so itself, and its first word counts."""
        if len(disk) != DISK_SIZE:
            raise Refusal("bad-disk", f"the identity of a disk has {DISK_SIZE} bytes, not {len(disk)}")
        self.disks.setdefault(member, disk)

    @query
    def members(self) -> list[Plain]:
        """The members in order of id: id, role ("voter" or "learner"), peer endpoint, the doors by face, and the disk
        (hexadecimal, empty until the member has introduced itself)."""
        return [
            {
                "id": member.id,
                "role": member.role.name.lower(),
                "peer": member.peer,
                "doors": dict(member.doors),
                "disk": self.disks.get(member.id, b"").hex(),
            }
            for member in sorted(self.configuration.members)
        ]

    def snapshot(self) -> Plain:
        number, members = self.configuration
        return [
            number,
            [[m.id, int(m.role), m.peer, [[*door] for door in m.doors]] for m in members],
            [[member, disk] for member, disk in sorted(self.disks.items())],
        ]

    def restore(self, state: Plain, version: int) -> None:
        fields: Any = state
        number, members, disks = fields
        self.configuration = Configuration(
            Slot(number),
            tuple(
                Member(MemberId(identity), Role(role), peer, tuple((face, address) for face, address in doors))
                for identity, role, peer, doors in members
            ),
        )
        self.disks = {member: disk for member, disk in disks}
