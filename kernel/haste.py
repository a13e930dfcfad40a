"""At which members somebody waits for what is chosen: the leader's knowledge of where the clients are.

A member counts if a session is attached to it, or if commands came from it lately (some clients have no session). What
clients do there unknown to the log, that is reading, needs no haste.
"""

from __future__ import annotations

from collections.abc import Iterable


class Haste:
    """One leadership's view."""

    __slots__ = ("_homes", "_lately", "_sessions", "members")

    def __init__(self) -> None:
        self._homes: dict[int, int] = {}  # session -> member
        self._sessions: dict[int, int] = {}  # member -> how many
        self._lately: set[int] = set()
        self.members: frozenset[int] = frozenset()
        """Where somebody waits."""

    def attached(self, session: int, member: int) -> None:
        """A session was opened or attached there, or is found there when the leadership begins."""
        self.ended(session)
        self._homes[session] = member
        self._sessions[member] = self._sessions.get(member, 0) + 1

    def ended(self, session: int) -> None:
        """The session is over, or elsewhere."""
        member = self._homes.pop(session, None)
        if member is not None:
            self._sessions[member] -= 1

    def commanded(self, members: Iterable[int]) -> None:
        """Commands came from there."""
        self._lately.update(members)

    def look(self, *, late: bool = False) -> bool:
        """Bring `members` up to date; whether they changed. `late`: commands that came before the last such look do
        not count any more."""
        members = frozenset([member for member, count in self._sessions.items() if count]) | self._lately
        if late:
            self._lately = set()
        if members == self.members:
            return False
        self.members = members
        return True
