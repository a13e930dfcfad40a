"""A machine that writes down what it applied: the log that the judge replays."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from quorate.kernel.machine import Commit, SessionId
from quorate.plugins.znodes import chunks
from quorate.plugins.znodes.machine import ZnodesMachine
from reference.judge import Applied, Ended, Entry, Opened, Swept


class Record(NamedTuple):
    """An entry, the transaction number behind it, and when it was first applied anywhere."""

    zxid: int
    entry: Entry
    time: int


class Log:
    """What was applied, in order, each once, whichever replica was first. `clock` gives the time."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self.records: list[Record] = []
        self._clock = clock

    @property
    def frontier(self) -> int:
        """The newest transaction."""
        return self.records[-1].zxid if self.records else 0

    def add(self, before: int, after: int, entry: Entry) -> None:
        """A machine at transaction `before` applied this and is at `after` now."""
        if after > self.frontier:
            assert before == self.frontier, f"from {self.frontier} to {before} somebody applied something unseen"
            self.records.append(Record(after, entry, self._clock()))

    def entries(self) -> list[tuple[int, Entry]]:
        """For the judge."""
        return [(record.zxid, record.entry) for record in self.records]


def logged(log: Log) -> type[ZnodesMachine]:
    """A class of machines that write into `log`."""

    class Logged(ZnodesMachine):
        def session_opened(self, commit: Commit, session: SessionId, face: str) -> None:
            before = self.zxid
            super().session_opened(commit, session, face)
            log.add(before, self.zxid, Opened(session))

        def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
            before = self.zxid
            super().session_closed(commit, session, expired)
            log.add(before, self.zxid, Ended(session, expired))

        def timer_fired(self, commit: Commit, key: str) -> None:
            before, there = self.zxid, list(self.tree.fleeting)
            super().timer_fired(commit, key)
            gone = [path.decode() for path in there if path not in self.tree.fleeting]
            log.add(before, self.zxid, Swept(gone, commit.wall))

        def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None:
            before = self.zxid
            super().apply_chunk(commit, chunk, answers)
            log.add(before, self.zxid, Applied(chunk, self._attached(commit, chunk), commit.wall))

        def _attached(self, commit: Commit, chunk: bytes) -> frozenset[int]:
            found = set()
            _, _, at = chunks.unpack_head(chunk)
            while at < len(chunk):
                session, _, length = chunks.RUN.unpack_from(chunk, at)
                at += chunks.RUN.size + length
                if commit.sessions.get(session) == commit.origin:
                    found.add(session)
            return frozenset(found)

    return Logged
