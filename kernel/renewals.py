"""Which sessions live: the leader's memory of when each was last heard. Never logged, only its verdict is.

Theory of operation. A session may be expired when its client was silent for its time-out *while this leader
listened*. Three rules make that conservative:

* A new leader hears every session at the moment it begins: no lease that a predecessor granted can end later than that.
* Silence is counted in *attended* time: when this process itself stalled (a pause, a long turn), the stall beyond
  :data:`STALL` does not count, and nobody expires before the sockets have been read again.
* A session found overdue is only *condemned*; it is expired at the second look, one reporting interval of the
  followers later, if it is still unheard. The expiry names the attachment it judged, and is void if the session was
  attached again meanwhile. From the moment an expiry is decided no renewal of that session is confirmed, so that no
  client relies on a lease that is about to end.

Times are microseconds of the caller's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

REPORT: Final = 100_000
"""How often a follower tells the leader which sessions it heard."""

STALL: Final = 50_000
"""The longest time between two looks that counts in full."""


class Overdue(NamedTuple):
    """A session to expire, and the attachment on which that was judged."""

    session: int
    attachment: int


class _Watched:
    __slots__ = ("attachment", "condemned", "doomed", "heard", "timeout")

    def __init__(self, heard: int, timeout: int, attachment: int) -> None:
        self.heard = heard
        self.timeout = timeout
        self.attachment = attachment
        self.condemned = False
        self.doomed = False


class Renewals:
    """One leadership's view of the sessions."""

    def __init__(self, now: int) -> None:
        self._seen = now
        self._attended = 0
        self._watched: dict[int, _Watched] = {}
        self._looks: list[tuple[int, int]] = []  # (attended time of the next look, session)

    def attend(self, now: int) -> None:
        """The process is at work at `now` and has read what its sockets held."""
        self._attended += min(now - self._seen, STALL)
        self._seen = now

    def look_at(self) -> int:
        """When to attend again, at the latest, for time to count in full."""
        return self._seen + STALL

    def watch(self, session: int, timeout_us: int, attachment: int) -> None:
        """A session that was opened or attached, or exists when the leadership begins: heard now."""
        watched = self._watched.get(session)
        if watched is None:
            self._watched[session] = _Watched(self._attended, timeout_us, attachment)
            self._look_at(self._attended + timeout_us, session)
            return
        if watched.doomed:
            self._look_at(self._attended + timeout_us, session)
        watched.heard, watched.timeout, watched.attachment = self._attended, timeout_us, attachment
        watched.condemned = watched.doomed = False

    def forget(self, session: int) -> None:
        """The session ended."""
        self._watched.pop(session, None)

    def hear(self, sessions: Iterable[int]) -> tuple[int, ...]:
        """Count renewals; returns the sessions whose renewal does not count: ended, or about to be expired."""
        lost = []
        for session in sessions:
            watched = self._watched.get(session)
            if watched is None or watched.doomed:
                lost.append(session)
            else:
                watched.heard = self._attended
                watched.condemned = False
        return tuple(lost)

    def _look_at(self, due: int, session: int) -> None:
        looks = self._looks
        heappush(looks, (due, session))
        if len(looks) > 2 * len(self._watched) + 64:  # most are of sessions that ended
            self._looks = [look for look in looks if look[1] in self._watched]
            heapify(self._looks)

    def overdue(self) -> list[Overdue]:
        """The sessions to expire now, each named once: it is doomed from here on, unless it is attached again."""
        verdicts = []
        while self._looks and self._looks[0][0] <= self._attended:
            _, session = heappop(self._looks)
            watched = self._watched.get(session)
            if watched is None:
                continue
            due = watched.heard + watched.timeout
            if due > self._attended:
                heappush(self._looks, (due, session))
            elif not watched.condemned:
                watched.condemned = True
                heappush(self._looks, (self._attended + 2 * REPORT, session))
            else:
                watched.doomed = True
                verdicts.append(Overdue(session, watched.attachment))
        return verdicts
