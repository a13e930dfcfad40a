"""Catch-up: a member that lacks chosen slots gets them from whoever has them, as log or as snapshot.

One request is out at a time. An answer that does not come, or that does not help, moves the question to the next
source. A snapshot is fetched in order from byte 0; if its source dies or lets it go, fetching begins anew elsewhere,
with whatever snapshot that member holds. Nothing here is trusted: what arrives is checked by the caller before it
replaces anything.
"""

from __future__ import annotations

from .ballot import MemberId, Slot
from .messages import Fetch, FetchSnapshot, Message, SnapshotChunk
from .ready import Send


class CatchUp:
    """`patience`: microseconds before a question counts as unanswered."""

    def __init__(self, patience: int, limit: int) -> None:
        self._patience = patience
        self._limit = limit
        self._source: MemberId | None = None
        self._due: int | None = None
        self.slot: Slot | None = None
        """The snapshot being fetched."""
        self._size = 0
        self._offset = 0

    @property
    def due(self) -> int | None:
        """When the open question counts as unanswered; None if none is open."""
        return self._due

    @property
    def installing(self) -> bool:
        """The whole snapshot has arrived and waits to be installed or abandoned."""
        return self.slot is not None and self._offset == self._size

    def want(self, first: Slot, source: MemberId, now: int) -> Send | None:
        """Chosen slots from `first` on exist; `source` should have them. Asks unless a question is open."""
        if self._due is not None or self.installing:
            return None
        return self._ask(source, Fetch(first, self._limit), now)

    def answered(self, source: MemberId) -> None:
        """A useful answer to a fetch came."""
        if source == self._source and self.slot is None:
            self._due = None

    def compacted(self, source: MemberId, slot: Slot, size: int, now: int) -> Send | None:
        """`source` has only the snapshot at `slot`."""
        if source != self._source or self.slot is not None or size <= 0:
            return None
        self.slot, self._size, self._offset = slot, size, 0
        return self._ask(source, FetchSnapshot(slot, 0), now)

    def chunk(self, source: MemberId, chunk: SnapshotChunk, now: int) -> tuple[bool, Send | None]:
        """Whether the piece is the expected one, and the next question."""
        if source != self._source or chunk.slot != self.slot or chunk.offset != self._offset or self.installing:
            return False, None
        if not chunk.chunk or chunk.size != self._size or self._offset + len(chunk.chunk) > self._size:
            self.abandon()
            return False, None
        self._offset += len(chunk.chunk)
        if self.installing:
            self._due = None
            return True, None
        return True, self._ask(source, FetchSnapshot(chunk.slot, self._offset), now)

    def abandon(self) -> None:
        """Forget the snapshot being fetched."""
        self.slot = None
        self._size = self._offset = 0
        self._due = None

    def overdue(self, first: Slot, others: list[MemberId], now: int) -> Send | None:
        """The open question went unanswered: ask the next of `others` (ids in order) for the log."""
        self.abandon()
        if not others:
            return None
        later = [m for m in others if self._source is not None and m > self._source]
        return self._ask((later or others)[0], Fetch(first, self._limit), now)

    def _ask(self, source: MemberId, message: Message, now: int) -> Send:
        self._source = source
        self._due = now + self._patience
        return Send(source, message)
