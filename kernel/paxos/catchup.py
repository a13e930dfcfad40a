"""Catch-up: a member that lacks chosen slots gets them from whoever has them, as log or as snapshot.

One request is out at a time. An answer that does not come, or that does not help, moves the question on: to whoever
last said that something is missing here, whether or not we know it for a member (we may have been away while all that
we know were replaced), then to the others in turn. A snapshot is fetched in order from byte 0; if its source dies or
lets it go, fetching begins anew elsewhere, with whatever snapshot that member holds. Nothing here is trusted: what
arrives is checked by the driver before it replaces anything.

Whose disk is far behind asks for no more of the log until that has caught up: it would only fill the memory.
"""

from __future__ import annotations

from typing import Final

from .ballot import MemberId, Slot
from .effects import Effects
from .learner import Learner
from .messages import Chosen, Compacted, Fetch, FetchSnapshot, Message, SnapshotChunk
from .ready import SnapshotRequest
from .roster import Roster

_TRIES: Final = 2


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
        self._turn: MemberId | None = None  # the last of the others whose turn it was
        self._paused = False
        self._due: int | None = None
        self._slot: Slot | None = None  # of the snapshot being fetched
        self._size = 0
        self._offset = 0
        self._tries = 0  # to get the present piece once more

    # ---------------------------------------------------------------- asking

    @property
    def due(self) -> int | None:
        """When the open question counts as unanswered; None if none is open."""
        return self._due

    @property
    def busy(self) -> bool:
        """Whether a question is open, or a snapshot waits to be installed."""
        return self._due is not None or self._installing

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
        if upto > learner.target:
            learner.target = upto
        if learner.chosen >= upto or self._paused or self._effects.choked:
            return
        self._teller = source
        if not self.busy:
            self._ask(source, Fetch(Slot(learner.chosen + 1), self._limit), now)

    def ask_around(self, now: int) -> None:
        """No leader is heard of: ask the next of the others whether it knows more, unless a question is open."""
        if not self.busy:
            self._ask_next(now)

    def answered(self, source: MemberId) -> None:
        """A fetch was answered, be it that the source knows no more."""
        if source == self._source and self._slot is None:
            self._due = None

    def tick(self, now: int) -> None:
        """If the open question went unanswered: ask somebody else for the log, as far as something is known to be
        missing. In the middle of a snapshot the source is asked again first: pieces come from a disk, and to begin
        anew is dear."""
        if self._due is None or now < self._due:
            return
        if self._slot is not None and self._tries < _TRIES:
            assert self._source is not None
            self._tries += 1
            self._ask(self._source, FetchSnapshot(self._slot, self._offset), now)
            self._due = now + (self._patience << self._tries)
            return
        chosen = self._learner.chosen
        missing = self._learner.target if self._slot is None else self._slot
        self.abandon()
        if missing > chosen:
            self._ask_next(now)

    def installed(self, now: int) -> None:
        """The snapshot is installed: go on above it, with the same source."""
        self.abandon()
        if self._source is not None:
            self.missing(self._learner.target, self._source, now)

    def pause(self) -> None:
        """This member proposes: what it does not know to be chosen it proposes itself, until it is told to go on."""
        self.abandon()
        self._paused = True

    def go_on(self) -> None:
        """This member does not propose any more."""
        self._paused = False

    def abandon(self) -> None:
        """Forget the question and the snapshot being fetched."""
        self._slot = None
        self._size = self._offset = self._tries = 0
        self._due = None

    def on_compacted(self, sender: MemberId, message: Compacted, now: int) -> None:
        """The source has only a snapshot."""
        if sender != self._source or self._due is None or self._slot is not None or message.size <= 0:
            return
        if message.slot > self._learner.chosen:
            self._slot, self._size, self._offset = message.slot, message.size, 0
            self._ask(sender, FetchSnapshot(message.slot, 0), now)

    def on_chunk(self, sender: MemberId, message: SnapshotChunk, now: int) -> None:
        """A piece of a snapshot."""
        if sender != self._source or message.slot != self._slot or message.offset != self._offset or self._installing:
            return
        end = self._offset + len(message.chunk)
        if not message.chunk or message.size != self._size or end > self._size or message.slot <= self._learner.chosen:
            self.abandon()
            return
        self._effects.chunks.append(message)
        self._offset = end
        self._tries = 0
        if self._installing:
            self._due = None
        else:
            self._ask(sender, FetchSnapshot(message.slot, self._offset), now)

    def _ask_next(self, now: int) -> None:
        """Ask the teller; or, if it was the teller that did not answer, the next of the others in order of id."""
        if self._effects.choked:
            return
        source = self._teller
        if source is None or source == self._source:
            others = [other for other in self._roster.others if other != source] or self._roster.others
            if not others:
                return
            last = self._turn
            self._turn = source = next((other for other in others if last is None or other > last), others[0])
        self._ask(source, Fetch(Slot(self._learner.chosen + 1), self._limit), now)

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
