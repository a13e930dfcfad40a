"""Who belongs to the cell, in the shapes that the roles ask for."""

from __future__ import annotations

from .ballot import MemberId, Slot
from .quorum import Configuration


class Roster:
    """The configuration in force at `member`: `voters`, and the `others` (without this member) in order of id."""

    __slots__ = ("configuration", "member", "others", "voters")

    def __init__(self, member: MemberId, configuration: Configuration) -> None:
        self.member = member
        self.adopt(configuration)

    def adopt(self, configuration: Configuration) -> None:
        """`configuration` governs from here on."""
        self.configuration = configuration
        self.voters = configuration.voters()
        self.others = sorted(configuration.ids() - {self.member})

    def votes(self) -> bool:
        """Whether this member is a voter."""
        return self.member in self.voters

    def stranger(self, candidate: MemberId, configuration: Slot) -> bool:
        """Whether `candidate`, who follows the configuration of that number, is none by ours, and ours is not the
        older one."""
        return candidate not in self.voters and configuration <= self.configuration.number
