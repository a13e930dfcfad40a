"""What the roles want done, gathered until it is taken out as one :class:`~.ready.Ready`.

A role says what is to be done, and whether it may be done before the records are durable; it never learns when it is
done. Nothing is decided here.
"""

from __future__ import annotations

from collections import deque

from .ballot import MemberId
from .messages import Message, SnapshotChunk
from .options import SLOT_COST
from .ready import NOTHING, AcceptedValue, Committed, ReadResult, Ready, Record, Send, SnapshotRequest
from .roster import Roster


class Effects:
    """`messages` may leave at once, `after` when the records are durable. `recorded` counts the records of this run;
    `unwritten` is the memory that those take which are not known to be durable, in bytes."""

    __slots__ = (
        "_roster", "_untaken", "_unwritten", "_unwritten_max", "after", "all", "chunks", "messages", "recorded",
        "records", "requests", "results", "unwritten",
    )  # fmt: skip

    def __init__(self, roster: Roster, unwritten_max: int) -> None:
        self._roster = roster
        self._unwritten_max = unwritten_max
        self._untaken = 0  # what the records take that were not taken out
        self._unwritten: deque[tuple[int, int]] = deque()  # with those taken out: the last one's number, what they take
        self.unwritten = 0
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
        self._untaken += len(record.value.payload) + SLOT_COST if type(record) is AcceptedValue else SLOT_COST
        return self.recorded

    @property
    def choked(self) -> bool:
        """Whether the disk is so far behind that no more of the log should be taken in."""
        return self.unwritten > self._unwritten_max

    def persisted(self, upto: int) -> None:
        """Records up to number `upto` are durable."""
        unwritten = self._unwritten
        while unwritten and unwritten[0][0] <= upto:
            self.unwritten -= unwritten.popleft()[1]

    def take(self, committed: list[Committed]) -> Ready:
        """Everything gathered since the last call, and `committed`; NOTHING itself if that is nothing."""
        if not (committed or any(self.all)):
            return NOTHING
        if self._untaken:
            self._unwritten.append((self.recorded, self._untaken))
            self.unwritten += self._untaken
            self._untaken = 0
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
