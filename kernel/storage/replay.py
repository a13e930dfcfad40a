"""What the records of a journal add up to, and what is missing when some cannot be read.

Fed in log order, batch by batch and gap by gap; knows no files. The rule for a gap, a place where batches are lost:

* Before it the acceptor knew every slot up to `c` to be chosen and its votes there final.
* The next header behind it (of a batch or a segment, or a mark that covers it) tells the highest slot `h` voted on.
* So the lost votes are for slots in (c, h]; those voted on again behind the gap are not lost (the later vote counts).

The same header tells the promise and the commit index. A gap with nothing behind it leaves the promise unknown.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..paxos.ballot import Ballot, MemberId, Slot
from ..paxos.messages import Value
from ..paxos.ready import AcceptedValue
from .errors import NewerFormat
from .layout import ACCEPTED, CHOSEN, INSTALLED, Standing
from .reading import KINDS, Entry


class Replay:
    """The acceptor's state as far as it was read. `snapshot`: slots up to it do not matter any more."""

    def __init__(self, snapshot: Slot) -> None:
        self.snapshot = snapshot
        self.votes: dict[Slot, AcceptedValue] = {}
        self.lost: dict[Slot, str] = {}  # slot -> where its newest vote was
        self.standing = Standing(chosen=snapshot)
        self.open_gap: str | None = None  # where a gap is that nothing behind it was read of
        self._gap_from = snapshot
        self._told = snapshot
        self._proven: Slot | None = None

    @property
    def chosen(self) -> Slot:
        """How far the votes are known to be those that were chosen: the commit index, or less if it came with a peer's
        snapshot that is not there any more."""
        return self.standing.chosen if self._proven is None else min(self._proven, self.standing.chosen)

    def gap(self, where: str) -> None:
        """Batches are missing or unreadable here."""
        if self.open_gap is None:
            self.open_gap = where
            self._gap_from = self.chosen

    def reach(self, standing: Standing) -> None:
        """A header says where the acceptor stood at, or after, this point."""
        if self.open_gap is not None:
            for number in range(self._gap_from + 1, standing.highest + 1):
                self._lose(Slot(number), self.open_gap)
            self.open_gap = None
        self.note(standing)

    def note(self, standing: Standing) -> None:
        """The acceptor stood at least there, at some time: says nothing about gaps."""
        own = self.standing
        self.standing = Standing(
            max(own.promised, standing.promised),
            max(own.chosen, standing.chosen),
            max(own.highest, standing.highest),
            own.untrusted or standing.untrusted,
        )

    def tell(self, slot: Slot) -> None:
        """Every slot up to `slot` was known to be chosen, slot by slot."""
        self._told = max(self._told, slot)

    def records(self, entries: Sequence[Entry], payloads: Sequence[bytes | None], where: str) -> None:
        """The records of one batch, whose header was given to :meth:`reach`; a payload that cannot be read is None."""
        votes, lost, snapshot = self.votes, self.lost, self.snapshot
        for (type_, kind, _, slot, round_, member, _), payload in zip(entries, payloads, strict=True):
            if slot <= snapshot:
                continue
            if type_ != ACCEPTED:
                if type_ == CHOSEN:
                    self._choose(Slot(slot), kind)
                continue
            key = Slot(slot)
            if payload is None:
                self._lose(key, where)
                continue
            if kind not in KINDS:
                raise NewerFormat(
                    f"{where}: a value of the unknown kind {kind}: start the release that wrote it, or a newer one"
                )
            votes[key] = AcceptedValue(Ballot(round_, MemberId(member)), key, Value(KINDS[kind], payload))
            if lost:
                lost.pop(key, None)

    def _choose(self, slot: Slot, kind: int) -> None:
        if kind == INSTALLED:
            if self._proven is None:
                self._proven = self._told
        else:
            self.tell(slot)

    def _lose(self, slot: Slot, where: str) -> None:
        if slot > self.snapshot:
            self.lost[slot] = where
            self.votes.pop(slot, None)


def describe(entry: Entry) -> str:
    """One record in words."""
    type_, kind, size, slot, round_, member, _ = entry
    if type_ == ACCEPTED:
        name = KINDS[kind].name.lower() if kind in KINDS else f"kind {kind}"
        return f"accepted slot {slot} ballot {round_}.{member} {name} {size} bytes"
    if type_ == CHOSEN:
        return f"chosen up to {slot}" + (", by a snapshot from a peer" if kind == INSTALLED else "")
    return f"promised ballot {round_}.{member}"
