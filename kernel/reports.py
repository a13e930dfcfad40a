"""Whom this replica heard, on its way to the leader: the other side of :mod:`.renewals`.

Heard sessions are gathered and told every :data:`~.renewals.REPORT`, or at once when a client waits for its lease.
Such a client is answered only when the leader, under its own lease, has counted the report; a report whose leader is
gone, or whose answer does not come within :data:`PATIENCE`, is answered with no, and the client asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, TypeAlias

from .paxos.options import NEVER
from .renewals import REPORT

PATIENCE: Final = 1_000_000
"""Microseconds after which a report, or its answer, counts as lost."""

Confirmed: TypeAlias = Callable[[bool], None]


class Reports:
    """What was heard and not told yet, and what was told and not confirmed."""

    def __init__(self, now: int) -> None:
        self.due = now
        """When the next report is due if nobody waits."""
        self._heard: dict[int, None] = {}
        self._asking: list[tuple[int, Confirmed]] = []
        self._open: dict[int, tuple[int, list[tuple[int, Confirmed]]]] = {}  # by number, in order: since when, and who
        self._number = 0

    @property
    def heard(self) -> Collection[int]:
        """Sessions heard since the last report."""
        return self._heard

    def look_at(self) -> int:
        """When to look whether there is something to report, or to give up."""
        if self._asking:
            return 0
        due = self.due if self._heard else NEVER
        if self._open:
            since, _ = next(iter(self._open.values()))
            return min(due, since + PATIENCE + 1)
        return due

    def hear(self, session: int) -> None:
        self._heard[session] = None

    def ask(self, session: int, confirmed: Confirmed) -> None:
        """A client wants to know that it was counted."""
        self._heard[session] = None
        self._asking.append((session, confirmed))

    def pressing(self, now: int) -> bool:
        """Whether to report now."""
        return bool(self._heard) and (bool(self._asking) or now >= self.due)

    def send(self, now: int) -> tuple[int, tuple[int, ...]]:
        """A report leaves for the leader: its number and the sessions in it."""
        self._number += 1
        sessions = tuple(self._heard)
        if self._asking:
            self._open[self._number] = (now, self._asking)
        self._clear(now)
        return self._number, sessions

    def count(self, lost: Iterable[int], now: int) -> None:
        """This member leads and has counted what was heard, but for `lost`."""
        asking = self._asking
        self._clear(now)
        _answer(asking, lost)

    def counted(self, number: int, lost: Iterable[int]) -> None:
        """The leader has counted report `number`, but for the sessions in `lost`."""
        _, asking = self._open.pop(number, (0, ()))
        _answer(asking, lost)

    def give_up(self, before: int | None = None) -> None:
        """The leader that was told is gone; or, if `before` is given, only what was told before then is lost."""
        if not self._open:
            return
        lost = [number for number, (since, _) in self._open.items() if before is None or since < before]
        for number in lost:
            for _, confirmed in self._open.pop(number)[1]:
                confirmed(False)

    def _clear(self, now: int) -> None:
        self._heard, self._asking = {}, []
        self.due = now + REPORT


def _answer(asking: Iterable[tuple[int, Confirmed]], lost: Iterable[int]) -> None:
    gone = set(lost)
    for session, confirmed in asking:
        confirmed(session not in gone)
