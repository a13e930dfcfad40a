"""What the roles want done, gathered until it is taken out as one :class:`~.ready.Ready`.

A role says what is to be done, and whether it may be done before the records are durable; it never learns when it is
done. Nothing is decided here.
"""

from __future__ import annotations

from .ballot import MemberId
from .messages import Message, SnapshotChunk
from .ready import NOTHING, Committed, ReadResult, Ready, Record, Send, SnapshotRequest
from .roster import Roster


class Effects:
    """`messages` may leave at once, `after` when the records are durable. `recorded` counts the records of this run."""

    __slots__ = ("_roster", "after", "all", "chunks", "messages", "recorded", "records", "requests", "results")

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self.messages: list[Send] = []
        self.records: list[Record] = []
        self.after: list[Send] = []
        self.results: list[ReadResult] = []
        self.requests: list[SnapshotRequest] = []
        self.chunks: list[SnapshotChunk] = []
        self.recorded = 0
        self.all = (self.messages, self.records, self.after, self.results, self.requests, self.chunks)
        """Every list, each of which is the same one for ever."""

    def send(self, to: MemberId, message: Message) -> None:
        """Send now."""
        self.messages.append(Send(to, message))

    def broadcast(self, message: Message) -> None:
        """Send to every other member now."""
        self.messages.extend([Send(other, message) for other in self._roster.others])

    def record(self, record: Record) -> int:
        """Write to the journal; returns the record's number, by which :meth:`Replica.persisted` speaks of it."""
        self.records.append(record)
        self.recorded += 1
        return self.recorded

    def take(self, committed: list[Committed]) -> Ready:
        """Everything gathered since the last call, and `committed`; NOTHING itself if that is nothing."""
        if not (committed or any(self.all)):
            return NOTHING
        messages, records, after, results, requests, chunks = self.all
        ready = Ready(
            tuple(messages),
            tuple(records),
            self.recorded,
            tuple(after),
            tuple(committed),
            tuple(results),
            tuple(requests),
            tuple(chunks),
        )
        for gathered in self.all:
            if gathered:
                gathered.clear()
        return ready
