"""What must hold in a world as a whole, whatever its members are about to do.

* By the votes that were ever durable, counted in the configuration that governs a slot, a slot is decided with one
  value. No vote is ever taken back, so what is decided stays decided.
* What a member ever handed out, in any run, is the beginning of what is decided: all agree, nothing that was
  acknowledged is undone, and nothing is acknowledged before it is on the disks of a quorum.
* No two members hold the lease at one instant.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..paxos.ballot import Ballot, MemberId, Slot
from ..paxos.configuration import reconfigured
from ..paxos.messages import Kind, Value
from ..paxos.quorum import Configuration, Phase, is_quorum
from .explorer_disk import Broken, Cast
from .explorer_member import State
from .explorer_trace import tell


class View(NamedTuple):
    """What of a member matters here."""

    member: MemberId
    log: tuple[Value, ...]
    cast: frozenset[Cast]


class Judge:
    """Judges worlds of a cell founded as `founding`. Worlds that look alike are judged once; `decided` gathers what
    they decided."""

    def __init__(self, founding: Configuration) -> None:
        self._founding = founding
        self._judged: set[tuple[int, ...]] = set()
        self._numbers: dict[View, int] = {}
        self._views: list[View] = []
        self.decided: set[tuple[Value, ...]] = set()

    def look(self, state: State) -> int:
        """The number of a member's view."""
        view = View(state.member, state.log, state.disk.cast)
        number = self._numbers.setdefault(view, len(self._views))
        if number == len(self._views):
            self._views.append(view)
        return number

    def judge(self, numbers: tuple[int, ...]) -> None:
        """A world in which the members look like this. Raises Broken."""
        if numbers in self._judged:
            return
        views = [self._views[number] for number in numbers]
        log = self.decide(views)
        for view in views:
            if view.log != log[: len(view.log)]:
                raise Broken(self._dispute(view, log))
        self.decided.add(log)
        self._judged.add(numbers)

    def decide(self, views: Iterable[View]) -> tuple[Value, ...]:
        """The log that the votes decide, as far as it has no holes."""
        votes: dict[Slot, dict[tuple[Ballot, Value], set[MemberId]]] = defaultdict(lambda: defaultdict(set))
        for view in views:
            for slot, ballot, value in view.cast:
                votes[slot][ballot, value].add(view.member)
        configuration = self._founding
        log: list[Value] = []
        while True:
            slot = Slot(len(log) + 1)
            voters = configuration.voters()
            won = {
                value: ballot
                for (ballot, value), members in votes[slot].items()
                if is_quorum(Phase.ACCEPT, members, voters)
            }
            if len(won) > 1:
                both = " and ".join(f"{tell(value)} in ballot {ballot}" for value, ballot in won.items())
                raise Broken(f"two values are chosen in slot {slot}: {both}")
            if not won:
                return tuple(log)
            value = next(iter(won))
            log.append(value)
            if value.kind is Kind.CONFIGURATION:
                configuration = reconfigured(configuration, value.payload, slot)

    @staticmethod
    def _dispute(view: View, log: Sequence[Value]) -> str:
        slot = next((i for i, (ours, right) in enumerate(zip(view.log, log, strict=False)) if ours != right), len(log))
        ours = tell(view.log[slot])
        if slot < len(log):
            return f"member {view.member} handed out {ours} in slot {slot + 1}, where {tell(log[slot])} is chosen"
        return f"member {view.member} handed out {ours} in slot {slot + 1}, which is not on the disks of a quorum"
