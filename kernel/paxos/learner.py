"""The learner: what is chosen, handed out in order, and kept a while for members that lag.

Slots are learned strictly in order: the next slot's value comes from this member's own vote when the leader of that
very ballot says it is chosen, or from a member that knows. A value is handed out once.

What is asserted here, and why, is on docs/explanation/invariants.rst.
"""

from __future__ import annotations

from typing import Final

from .ballot import Slot
from .messages import Value
from .options import SLOT_COST
from .ready import Committed

_MANY: Final = 1000
_FEW: Final = 4
"""Values that are forgotten at once when a snapshot is durable, and then with each that is learned."""


class Learner:
    """`chosen` is the commit index: everything up to it was handed out, or will be in the next Ready. `target` is the
    highest commit index heard of. `snapshot` is the slot of the newest durable snapshot here (0: none), and
    `snapshot_size` the bytes of its file. Above `hearsay` every slot was chosen in a ballot that this member followed,
    or led: so no higher ballot than the present one can have chosen there."""

    __slots__ = (
        "_above",
        "_oldest",
        "_retained",
        "_size",
        "backlog",
        "chosen",
        "committed",
        "hearsay",
        "snapshot",
        "snapshot_size",
        "target",
        "values",
    )

    def __init__(self, snapshot: Slot, size: int, retained: int) -> None:
        self.chosen = self.hearsay = snapshot
        self.target = snapshot
        self.values: dict[Slot, Value] = {}
        self.committed: list[Committed] = []
        self.backlog = 0  # bytes of memory that `committed` takes
        self.snapshot = snapshot
        self.snapshot_size = size
        self._oldest = Slot(snapshot + 1)
        self._retained = retained
        self._size = 0
        self._above = 0  # of that, above the snapshot

    def learn(self, slot: Slot, value: Value, hearsay: bool = False) -> None:
        """`value` is chosen in `slot`, the next one."""
        assert slot == self.chosen + 1, f"slot {slot} learned after {self.chosen}: a hole in the log"
        self.values[slot] = value
        cost = len(value.payload) + SLOT_COST
        self._size += cost
        self._above += cost
        self.backlog += cost
        self.chosen = slot
        if self._oldest <= self.snapshot:
            self._let_go(_FEW)
        if hearsay:
            self.hearsay = slot
        self.committed.append(Committed(slot, value))

    def portion(self, limit: int) -> list[Committed]:
        """The first of what is committed: one value, and others as long as they are `limit` bytes together."""
        count = size = 0
        for _, value in self.committed:
            cost = len(value.payload) + SLOT_COST
            if count and size + cost > limit:
                break
            count += 1
            size += cost
        found, self.committed = self.committed[:count], self.committed[count:]
        self.backlog -= size
        return found

    def agrees(self, slot: Slot, value: Value) -> bool:
        """Whether nothing else than `value` is known to be chosen in `slot`."""
        return self.values.get(slot, value) == value

    def known(self, first: Slot, limit: int) -> tuple[Value, ...] | None:
        """Chosen values from `first` on, at least one and up to `limit` bytes; None if `first` is compacted away."""
        if first < self._oldest:
            return None
        values = []
        slot = first
        while slot <= self.chosen and limit > 0:
            value = self.values[slot]
            values.append(value)
            limit -= len(value.payload) + 16
            slot = Slot(slot + 1)
        return tuple(values)

    def compact(self, slot: Slot, size: int) -> None:
        """A durable snapshot at `slot` exists: keep at most `retained` bytes of memory for values behind it. Of many
        the rest goes little by little, as others are learned: all at once would hold up everybody else."""
        assert slot <= self.chosen, "a snapshot of what is not chosen"
        if slot <= self.snapshot:
            return
        self.snapshot, self.snapshot_size = slot, size
        values = self.values
        self._above = sum(len(values[s].payload) + SLOT_COST for s in map(Slot, range(slot + 1, self.chosen + 1)))
        self._let_go(_MANY)

    def _let_go(self, count: int) -> None:
        """Forget up to `count` of the oldest values behind the snapshot, as long as they are too many."""
        values, slot, size, most = self.values, self._oldest, self._size, self._above + self._retained
        while count and size > most and slot <= self.snapshot:
            size -= len(values.pop(slot).payload) + SLOT_COST
            slot = Slot(slot + 1)
            count -= 1
        self._oldest, self._size = slot, size

    def jump(self, slot: Slot, size: int) -> None:
        """Continue above a snapshot that came from elsewhere."""
        assert slot > self.chosen, "a snapshot older than the log"
        self.committed.clear()
        self.backlog = 0
        self.chosen = self.hearsay = slot
        self.target = max(self.target, slot)
        self.values.clear()
        self._size = self._above = 0
        self._oldest = Slot(slot + 1)
        self.snapshot, self.snapshot_size = slot, size
