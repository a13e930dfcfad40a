"""Who is in the cell, and which sets of members decide.

A :class:`Configuration` is itself chosen in a slot; `number` is that slot (0 for the founding one), so that
configurations are ordered and every message can say which one its sender follows.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from .ballot import MemberId, Slot


class Role(enum.IntEnum):
    """What a member may do. A learner (ZooKeeper: observer) receives the log and never votes."""

    VOTER = 0
    LEARNER = 1


class Phase(enum.IntEnum):
    """The phase a quorum is asked for; both are majorities today, and every phase-1 set meets every phase-2 set."""

    PREPARE = 1
    ACCEPT = 2


class Member(NamedTuple):
    """One replica's place in the configuration.

    `peer` is the endpoint the other replicas connect to; `doors` maps the name of each face ("client", "zookeeper",
    ...) to the address its clients use.
    """

    id: MemberId
    role: Role
    peer: str
    doors: tuple[tuple[str, str], ...] = ()


class Configuration(NamedTuple):
    """The members of the cell from one slot on."""

    number: Slot
    members: tuple[Member, ...]

    def voters(self) -> frozenset[MemberId]:
        return frozenset(m.id for m in self.members if m.role is Role.VOTER)

    def ids(self) -> frozenset[MemberId]:
        return frozenset(m.id for m in self.members)

    def find(self, member: MemberId) -> Member | None:
        return next((m for m in self.members if m.id == member), None)


def is_quorum(phase: Phase, votes: Iterable[MemberId], voters: frozenset[MemberId]) -> bool:
    """Whether `votes` decide `phase` among `voters`: the one place that says so.

    Today both phases want a majority; flexible quorums (Howard, Malkhi, Spiegelman 2016) would change this function
    only.
    """
    return 2 * len(voters.intersection(votes)) > len(voters)


class ChangeKind(enum.IntEnum):
    """The single steps by which membership moves; replace = add a learner, promote it, remove the old one."""

    ADD_LEARNER = 0
    PROMOTE = 1
    DEMOTE = 2
    REMOVE = 3
    AMEND = 4  # new addresses for an existing member; no change of quorums


class Change(NamedTuple):
    """One membership change; `member.id` says whom."""

    kind: ChangeKind
    member: Member


class InvalidChange(Exception):
    """The change does not fit the configuration it would be applied to."""


def changed(configuration: Configuration, change: Change, number: Slot) -> Configuration:
    """The configuration after `change`, numbered by the slot that chose it.

    Raises:
        InvalidChange: the member is unknown (or already there, for ADD_LEARNER), has the wrong role,
            or the change would leave no voter.
    """
    found = configuration.find(change.member.id)
    others = tuple(m for m in configuration.members if m.id != change.member.id)
    if change.kind is ChangeKind.ADD_LEARNER:
        if found is not None:
            raise InvalidChange(f"member {change.member.id} is already in the cell")
        return Configuration(number, (*others, change.member._replace(role=Role.LEARNER)))
    if found is None:
        raise InvalidChange(f"member {change.member.id} is not in the cell")
    if change.kind is ChangeKind.AMEND:
        return Configuration(number, (*others, change.member._replace(role=found.role)))
    if change.kind is ChangeKind.PROMOTE:
        if found.role is Role.VOTER:
            raise InvalidChange(f"member {found.id} already votes")
        return Configuration(number, (*others, found._replace(role=Role.VOTER)))
    if change.kind is ChangeKind.DEMOTE and found.role is Role.LEARNER:
        raise InvalidChange(f"member {found.id} does not vote")
    rest = others if change.kind is ChangeKind.REMOVE else (*others, found._replace(role=Role.LEARNER))
    if not any(m.role is Role.VOTER for m in rest):
        raise InvalidChange("the cell would be left without a voter")
    return Configuration(number, rest)
