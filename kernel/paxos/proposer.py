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

from .ballot import Ballot, MemberId, Slot
from .messages import NOOP, Promise, Value, Vote
from .quorum import Phase, is_quorum


class Preparation:
    """Phase 1 of one ballot: the promises so far."""

    def __init__(self, ballot: Ballot, first: Slot, voters: frozenset[MemberId]) -> None:
        self.ballot = ballot
        self.first = first
        self._voters = voters
        self._parts: dict[tuple[MemberId, Slot, int], dict[int, tuple[Vote, ...]]] = {}
        self._whole: dict[MemberId, Slot] = {}
        self._best: dict[Slot, Vote] = {}

    def promised(self, member: MemberId, promise: Promise) -> None:
        # A voter that is asked twice may answer differently cut: parts belong together only if they are of one answer.
        parts = self._parts.setdefault((member, promise.chosen, promise.parts), {})
        parts[promise.part] = promise.votes
        if member not in self._whole and len(parts) == promise.parts:
            self._whole[member] = promise.chosen
            for votes in parts.values():
                for vote in votes:
                    best = self._best.get(vote.slot)
                    if best is None or vote.ballot > best.ballot:
                        self._best[vote.slot] = vote

    def complete(self) -> bool:
        return is_quorum(Phase.PREPARE, self._whole, self._voters)

    def missing(self) -> list[MemberId]:
        """Voters whose promise is not (wholly) here."""
        return sorted(self._voters - self._whole.keys())

    def base(self) -> tuple[Slot, MemberId]:
        """The farthest slot that a promiser knows to be chosen, and a member that knows it."""
        return max((chosen, member) for member, chosen in self._whole.items())

    def open_values(self, base: Slot) -> list[Value]:
        """The values that must be proposed in the slots after `base`, without holes."""
        highest = max((slot for slot in self._best), default=base)
        return [
            self._best[slot].value if slot in self._best else NOOP for slot in map(Slot, range(base + 1, highest + 1))
        ]


class Proposal:
    """A slot in flight. `sent` is when it last went out."""

    __slots__ = ("chosen", "sent", "slot", "value", "votes")

    def __init__(self, slot: Slot, value: Value, sent: int) -> None:
        self.slot = slot
        self.value = value
        self.sent = sent
        self.votes: set[MemberId] = set()
        self.chosen = False


class Proposer:
    """Phase 2 of one ballot. `next` is the slot that the next value gets."""

    def __init__(self, ballot: Ballot, base: Slot, voters: frozenset[MemberId]) -> None:
        self.ballot = ballot
        self.next = Slot(base + 1)
        self.voters = voters
        self.in_flight: dict[Slot, Proposal] = {}

    def propose(self, value: Value, now: int) -> Slot:
        slot = self.next
        self.next = Slot(slot + 1)
        self.in_flight[slot] = Proposal(slot, value, now)
        return slot

    def accepted(self, member: MemberId, first: Slot, last: Slot) -> None:
        """`member`'s votes for these slots, in this ballot, are durable."""
        in_flight = self.in_flight
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

    def unanswered(self, member: MemberId, before: int) -> list[Proposal]:
        """The proposals last sent before `before` that `member` has not accepted."""
        return [p for p in self.in_flight.values() if member not in p.votes and p.sent < before]


def vote_parts(votes: list[Vote], limit: int) -> list[tuple[Vote, ...]]:
    """`votes` in parts of about `limit` bytes, at least one part (which may be empty)."""
    parts: list[tuple[Vote, ...]] = []
    part: list[Vote] = []
    room = limit
    for vote in votes:
        if part and len(vote.value.payload) > room:
            parts.append(tuple(part))
            part, room = [], limit
        part.append(vote)
        room -= len(vote.value.payload) + 64
    parts.append(tuple(part))
    return parts
