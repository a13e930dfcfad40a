"""Catch-up: a member that lacks chosen slots gets them from whoever has them, as log or as snapshot.

One request is out at a time. An answer that does not come, or that does not help, moves the question on: to whoever
last said that something is missing here, whether or not we know it for a member (we may have been away while all that
we know were replaced), then to the others in turn. A snapshot is fetched in order from byte 0; if its source dies or
lets it go, fetching begins anew elsewhere, with whatever snapshot that member holds. Nothing here is trusted: what
arrives is checked by the driver before it replaces anything.
"""

from __future__ import annotations

from .ballot import MemberId, Slot
from .effects import Effects
from .learner import Learner
from .messages import Chosen, Compacted, Fetch, FetchSnapshot, Message, SnapshotChunk
from .ready import SnapshotRequest
from .roster import Roster


class CatchUp:
    """Both sides of it. `patience`: microseconds before a question counts as unanswered; `limit`: bytes of log in one
    answer."""

    def __init__(self, patience: int, limit: int, roster: Roster, learner: Learner, effects: Effects) -> None:
        self._patience = patience
        self._limit = limit
        self._roster = roster
        self._learner = learner
        self._effects = effects
        self._source: MemberId | None = None
        self._teller: MemberId | None = None  # who last said that something is missing here
        self._others_asked: MemberId | None = None  # the last of the others whose turn it was
        self._due: int | None = None
        self._slot: Slot | None = None  # of the snapshot being fetched
        self._size = 0
        self._offset = 0

    # ---------------------------------------------------------------- asking

    @property
    def due(self) -> int | None:
        """When the open question counts as unanswered; None if none is open."""
        return self._due

    def expects(self, slot: Slot) -> bool:
        """Whether the snapshot at `slot` has arrived whole and is still wanted."""
        return self._installing and self._slot == slot > self._learner.chosen

    @property
    def _installing(self) -> bool:
        return self._slot is not None and self._offset == self._size

    def missing(self, upto: Slot, source: MemberId, now: int) -> None:
        """Slots up to `upto` are chosen; `source` should have them. Asks if they are not here, unless a question is
        open."""
        learner = self._learner
        self._teller = source
        if upto > learner.target:
            learner.target = upto
        if learner.chosen < upto and self._due is None and not self._installing:
            self._ask(source, Fetch(Slot(learner.chosen + 1), self._limit), now)

    def answered(self, source: MemberId) -> None:
        """A useful answer to a fetch came."""
        if source == self._source and self._slot is None:
            self._due = None

    def tick(self, now: int) -> None:
        """If the open question went unanswered, ask somebody else for the log: the teller, or the next of the others
        (ids in order) if it was the teller that did not answer."""
        if self._due is None or now < self._due:
            return
        self.abandon()
        source = self._next_source()
        if source is not None:
            self._ask(source, Fetch(Slot(self._learner.chosen + 1), self._limit), now)

    def _next_source(self) -> MemberId | None:
        silent = self._source
        if self._teller is not None and self._teller != silent:
            return self._teller
        others = self._roster.others
        later = [m for m in others if self._others_asked is not None and m > self._others_asked]
        if others:
            self._others_asked = (later or others)[0]
        return self._others_asked

    def abandon(self) -> None:
        """Forget the question and the snapshot being fetched."""
        self._slot = None
        self._size = self._offset = 0
        self._due = None

    def on_compacted(self, sender: MemberId, message: Compacted, now: int) -> None:
        """The source has only a snapshot."""
        if sender != self._source or self._slot is not None or message.size <= 0:
            return
        if message.slot > self._learner.chosen:
            self._slot, self._size, self._offset = message.slot, message.size, 0
            self._ask(sender, FetchSnapshot(message.slot, 0), now)

    def on_chunk(self, sender: MemberId, message: SnapshotChunk, now: int) -> None:
        """A piece of a snapshot."""
        if sender != self._source or message.slot != self._slot or message.offset != self._offset or self._installing:
            return
        if not message.chunk or message.size != self._size or self._offset + len(message.chunk) > self._size:
            self.abandon()
            return
        self._effects.chunks.append(message)
        self._offset += len(message.chunk)
        if self._installing:
            self._due = None
        else:
            self._ask(sender, FetchSnapshot(message.slot, self._offset), now)

    def _ask(self, source: MemberId, message: Message, now: int) -> None:
        self._source = source
        self._due = now + self._patience
        self._effects.send(source, message)

    # ---------------------------------------------------------------- answering

    def on_fetch(self, sender: MemberId, message: Fetch, now: int) -> None:
        """Somebody lacks slots."""
        learner = self._learner
        values = learner.known(message.first, min(message.limit, self._limit))
        if values is None:
            self._effects.send(sender, Compacted(learner.snapshot, learner.snapshot_size))
        else:
            self._effects.send(sender, Chosen(message.first, values, learner.chosen))

    def on_fetch_snapshot(self, sender: MemberId, message: FetchSnapshot, now: int) -> None:
        """Somebody wants a piece of our snapshot: the driver has it."""
        self._effects.requests.append(SnapshotRequest(sender, message))
