"""Which member to try next, and when.

Members are tried in a shuffled order, round and round; a member named as the leader goes first, once. Between
attempts passes a random time that grows from one failure to the next (decorrelated jitter: each pause is drawn
between the least pause and three times the one before), so that a thousand clients of a dead replica do not come back
together.

This module knows endpoint strings and a random source; it opens nothing and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from random import Random

PAUSE_MIN: Final = 0.03
PAUSE_MAX: Final = 3.0
HINTS_MAX: Final = 2
"""Hints followed in a row before the members are tried in turn again: two replicas may each believe that the other
leads."""


class Route:
    """The members known to one client. Endpoints given by the user are kept; those the cell tells come on top."""

    def __init__(self, endpoints: Iterable[str], random: Random) -> None:
        self._given = list(dict.fromkeys(endpoints))
        if not self._given:
            raise ValueError("name at least one member of the cell")
        self._random = random
        self._order = list(self._given)
        random.shuffle(self._order)
        self._next = 0
        self._hint = ""
        self._hints_left = HINTS_MAX
        self._pause = 0.0

    def learn(self, endpoints: Iterable[str]) -> None:
        """The cell's members as the cell tells them, empty ones (members without a client port) left out."""
        known = [*self._given, *(each for each in endpoints if each)]
        kept = [each for each in self._order if each in known]
        fresh = [each for each in dict.fromkeys(known) if each not in self._order]
        self._random.shuffle(fresh)
        self._order = kept + fresh

    def hint(self, endpoint: str) -> bool:
        """Try this one next, if not too many hints came in a row. Whether it will be."""
        if not endpoint or not self._hints_left:
            return False
        self._hints_left -= 1
        self._hint = endpoint
        return True

    def next(self) -> str:
        """The member to try now."""
        if self._hint:
            hint, self._hint = self._hint, ""
            return hint
        self._next += 1
        return self._order[self._next % len(self._order)]

    def pause(self) -> float:
        """Seconds to let pass before the next attempt; more from call to call until :meth:`settled`."""
        self._pause = min(PAUSE_MAX, self._random.uniform(PAUSE_MIN, max(PAUSE_MIN, self._pause) * 3))
        return self._pause

    def settled(self) -> None:
        """A member took us: start over with short pauses."""
        self._pause = 0.0
        self._hints_left = HINTS_MAX
