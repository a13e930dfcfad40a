"""How long a session surely lives, as its client may count: the arithmetic of keepalives.

A Kept says how long the session surely lives from the moment the client *sent* the matching KeepAlive: the answer's
way back and the cell's own delays shorten what is left, never lengthen it. A freshly opened session surely lives its
time-out from the moment the Open was sent. The cell's clocks may run faster than ours by at most the part `drift`, so
each span is cut by that part (Burrows, "The Chubby lock service", OSDI 2006, section 2.8).

KeepAlives go out every third of the time-out. One that stays unanswered for a third means that the connection is of
no use.

Times are seconds of one clock that never goes back. This module sends nothing.
"""

from __future__ import annotations

import math


class Lease:
    """`until` is when it runs out; minus infinity before there is one, infinity for a client without a session."""

    def __init__(self, timeout: float, drift: float) -> None:
        self.until = -math.inf
        self.timeout = timeout
        self.due_at = math.inf
        """When the next KeepAlive is due."""
        self._drift = drift
        self._stamp = 0
        self._unanswered: dict[int, float] = {}

    @property
    def interval(self) -> float:
        """Seconds from one KeepAlive to the next."""
        return self.timeout / 3

    def granted(self, sent_at: float, seconds: float) -> None:
        """The cell promised `seconds` in answer to what was sent at `sent_at`. A promise never shortens an earlier
        one."""
        self.until = max(self.until, sent_at + seconds * (1 - self._drift))

    def sending(self, now: float) -> int:
        """A KeepAlive goes out now; its stamp."""
        self._stamp += 1
        self._unanswered[self._stamp] = now
        self.due_at = now + self.interval
        return self._stamp

    def kept(self, stamp: int, seconds: float) -> bool:
        """The answer to a KeepAlive. False: to none that is open on this connection."""
        sent_at = self._unanswered.get(stamp)
        if sent_at is None:
            return False
        self._unanswered = {each: at for each, at in self._unanswered.items() if each > stamp}
        self.granted(sent_at, seconds)
        return True

    def silent_at(self) -> float:
        """When the connection has been silent for too long."""
        return next(iter(self._unanswered.values()), math.inf) + self.interval

    def disconnected(self) -> None:
        """What is unanswered will stay so."""
        self._unanswered.clear()
        self.due_at = math.inf

    def over(self) -> None:
        """The session ended."""
        self.disconnected()
        self.until = -math.inf
