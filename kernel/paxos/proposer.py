"""The proposer: phase 1 over the whole open suffix, then phase 2, pipelined.

Theory of operation. Phase 1 is run once per leadership. Each acceptor reports how far it knows the log to be chosen
and its votes above that. Let *base* be the farthest of these reports: every slot up to base is chosen, and the
candidate fetches what it lacks like any lagging member. For a slot above base every acceptor of the quorum has
reported its vote, if it has one; a value chosen there was accepted by a quorum that meets this one, so it is among
the reported votes, and the vote of the *highest* ballot carries it (Paxos Made Simple, section 2.2: any other choice
is wrong). A slot without votes below the highest reported one gets a no-op.

Phase 2 keeps up to a window of slots in flight. Values become chosen in any order and are handed to the learner in
slot order. The classic window (a slot is proposed only when the configuration that governs it is known) is moot here:
above a configuration slot nothing is proposed until that slot is applied, so the governing configuration is always
the current one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeVar

from .ballot import NO_BALLOT, Ballot, MemberId, Slot
from .messages import NOOP, Promise, Value, Vote
from .options import NEVER
from .quorum import Phase, is_quorum

_Item = TypeVar("_Item")
_OVERHEAD: Final = 64
"""What a vote takes on the wire besides its payload, generously."""
_PAUSE_MAX: Final = 4
"""In patiences: the longest pause between two repetitions."""


class _Answer:
    """One acceptor's promise, of which some parts may be missing."""

    __slots__ = ("chosen", "parts")

    def __init__(self, chosen: Slot) -> None:
        self.chosen = chosen
        self.parts: dict[int, tuple[Vote, ...]] = {}


class Preparation:
    """Phase 1 of one ballot, from a time until a time: the promises so far. `waiver`: the ballot whose lease does not
    bind."""

    def __init__(
        self,
        ballot: Ballot,
        first: Slot,
        voters: frozenset[MemberId],
        waiver: Ballot = NO_BALLOT,
        since: int = 0,
        until: int = NEVER,
    ) -> None:
        self.ballot = ballot
        self.first = first
        self.waiver = waiver
        self.since = since
        self.until = until
        self._voters = voters
        self._answers: dict[MemberId, _Answer] = {}
        self._whole: dict[MemberId, Slot] = {}
        self._best: dict[Slot, Vote] = {}

    def promised(self, member: MemberId, promise: Promise) -> None:
        """A promise, or a part of one, arrived.

        An acceptor that was asked twice may know more to be chosen the second time, and then cuts its votes into
        other parts. Parts are of one answer if they name the same commit index; an older answer is dropped.
        """
        if member in self._whole:
            return
        answer = self._answers.get(member)
        if answer is None or answer.chosen < promise.chosen:
            answer = self._answers[member] = _Answer(promise.chosen)
        elif answer.chosen > promise.chosen:
            return
        answer.parts[promise.part] = promise.votes
        if len(answer.parts) == promise.parts:
            self._whole[member] = promise.chosen
            for votes in answer.parts.values():
                for vote in votes:
                    best = self._best.get(vote.slot)
                    if best is None or vote.ballot > best.ballot:
                        self._best[vote.slot] = vote

    def silent(self) -> list[MemberId]:
        """The voters whose answer has not come, or not all of it, in order."""
        return sorted(self._voters - self._whole.keys())

    def complete(self) -> bool:
        """Whether a quorum promised."""
        return is_quorum(Phase.PREPARE, self._whole, self._voters)

    def base(self) -> tuple[Slot, MemberId]:
        """The farthest slot that a promiser knows to be chosen, and a member that knows it."""
        return max((chosen, member) for member, chosen in self._whole.items())

    def open_values(self, base: Slot) -> list[Value]:
        """The values that must be proposed in the slots after `base`, without holes."""
        best = self._best
        highest = max(best, default=base)
        slots = map(Slot, range(base + 1, highest + 1))
        return [best[slot].value if slot in best else NOOP for slot in slots]


class Proposal:
    """A slot in flight since `sent`."""

    __slots__ = ("chosen", "sent", "slot", "value", "votes")

    def __init__(self, slot: Slot, value: Value, sent: int) -> None:
        self.slot = slot
        self.value = value
        self.sent = sent
        self.votes: set[MemberId] = set()
        self.chosen = False


class Proposer:
    """Phase 2 of one ballot. `next` is the slot that the next value gets; `patience`: microseconds after which a
    proposal that a member has not accepted counts as lost on the way to it."""

    def __init__(self, ballot: Ballot, base: Slot, voters: frozenset[MemberId], patience: int) -> None:
        self.ballot = ballot
        self.next = Slot(base + 1)
        self.voters = voters
        self.in_flight: dict[Slot, Proposal] = {}
        self._patience = patience
        self._retries: dict[MemberId, tuple[int, int]] = {}  # when to send again next, and the pause after that

    def propose(self, value: Value, now: int) -> Slot:
        """`value` is in flight in the next slot."""
        slot = self.next
        self.next = Slot(slot + 1)
        self.in_flight[slot] = Proposal(slot, value, now)
        return slot

    def accepted(self, member: MemberId, first: Slot, last: Slot) -> None:
        """`member`'s votes for these slots, in this ballot, are durable."""
        in_flight = self.in_flight
        if self._retries:
            self._retries.pop(member, None)
        for slot in range(max(first, next(iter(in_flight), self.next)), min(last, self.next - 1) + 1):
            proposal = in_flight.get(Slot(slot))
            if proposal is not None and not proposal.chosen:
                proposal.votes.add(member)
                proposal.chosen = is_quorum(Phase.ACCEPT, proposal.votes, self.voters)

    def take_chosen(self) -> Iterator[Proposal]:
        """The chosen slots that are next in order; they are no longer in flight."""
        in_flight = self.in_flight
        while in_flight:
            first = in_flight[next(iter(in_flight))]
            if not first.chosen:
                return
            del in_flight[first.slot]
            yield first

    def lost(self, member: MemberId, now: int) -> list[Proposal]:
        """What must be sent to `member` once more. The pauses between double, up to a limit, as long as it accepts
        nothing: it may be slow rather than unreachable, and must not drown in repetitions; but when a bad time is over
        the cell must not wait long for it."""
        due, pause = self._retries.get(member, (0, self._patience))
        if now < due:
            return []
        before = now - self._patience
        lost = [p for p in self.in_flight.values() if p.sent <= before and member not in p.votes]
        if lost:
            self._retries[member] = (now + pause, min(2 * pause, _PAUSE_MAX * self._patience))
        return lost


def vote_parts(votes: list[Vote], limit: int) -> list[tuple[Vote, ...]]:
    """`votes` in parts of about `limit` bytes, at least one part (which may be empty)."""
    return _parts(votes, [vote.value for vote in votes], limit) or [()]


def value_parts(values: list[Value], limit: int) -> list[tuple[Value, ...]]:
    """`values` in parts of about `limit` bytes."""
    return _parts(values, values, limit)


def _parts(items: list[_Item], values: list[Value], limit: int) -> list[tuple[_Item, ...]]:
    """`items`, which carry `values`, in runs that are as long as `limit` allows, but not empty."""
    parts: list[tuple[_Item, ...]] = []
    start, room = 0, limit
    for i, value in enumerate(values):
        size = len(value.payload) + _OVERHEAD
        if size > room and i > start:
            parts.append(tuple(items[start:i]))
            start, room = i, limit
        room -= size
    if start < len(items):
        parts.append(tuple(items[start:]))
    return parts
