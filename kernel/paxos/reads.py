"""Linearizable reads: what the leader owes to those who ask, and what a follower asks of the leader.

Theory of operation. A read is linearizable if it sees everything that was chosen when it began. The leader's commit
index is such a bound once the leader serves (it has committed a value of its own ballot), if nobody else leads: that
is sure while its lease runs, and otherwise when a quorum has answered a round of heartbeats that began after the read
(Ongaro's thesis, section 6.4). Reads *by round* rely on no clock: they wait for a round in any case. Reads that wait
share one. Where followers may know a slot to be chosen before the leader does (:mod:`.telling`), it has such slots in
flight itself: a read waits until those that were when it began are chosen.

A follower gathers its reads into questions to the leader, one for all reads of a turn and kind, and answers them when
it has applied as far as the leader says. A question's number contains the run of the process that asks, so that an
answer to a question of an earlier run, which bounds only reads that began before it, is never taken for a newer one's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .ballot import MemberId, Slot
from .effects import Effects
from .lease import Lease
from .messages import ReadGranted, ReadIndex
from .ready import ReadResult


class _Owed(NamedTuple):
    round: int
    slot: Slot
    by_round: bool


class OwedReads:
    """The leader's side: reads, its own and others', that wait for a round of heartbeats."""

    __slots__ = ("_effects", "_member", "_waiting")

    def __init__(self, member: MemberId, effects: Effects) -> None:
        self._member = member
        self._effects = effects
        self._waiting: dict[tuple[MemberId, int], _Owed] = {}  # by asker and context

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self, asker: MemberId, context: int, round_: int, slot: Slot, by_round: bool) -> None:
        """Let a read wait until `slot` is chosen, and for `round_`, which has not begun; `by_round`: also under the
        lease. Neither is ever lower than the last read's. A repeated question waits for what the first one does."""
        self._waiting.setdefault((asker, context), _Owed(round_, slot, by_round))

    def grant(self, chosen: Slot, lease: Lease, held: bool) -> bool:
        """Answer those whose slot is chosen and whose round a quorum answered, or need not if the lease is `held`.
        Returns whether another member's was among them."""
        waiting, others = self._waiting, False
        while waiting:
            question = next(iter(waiting))
            owed = waiting[question]
            if owed.slot > chosen or not ((held and not owed.by_round) or lease.confirmed(owed.round)):
                break
            del waiting[question]
            self.answer(*question, chosen)
            others = others or question[0] != self._member
        return others

    def answer(self, asker: MemberId, context: int, chosen: Slot) -> None:
        """One read may be answered as of `chosen`."""
        if asker == self._member:
            self._effects.results.append(ReadResult(context, chosen))
        else:
            self._effects.send(asker, ReadGranted(context, chosen))

    def give_up(self) -> None:
        """Leadership is lost: our own reads fail, the others will ask elsewhere."""
        waiting, self._waiting = self._waiting, {}
        for asker, context in waiting:
            if asker == self._member:
                self._effects.results.append(ReadResult(context, None))


_RUN: Final = 1 << 32


class _Question(NamedTuple):
    contexts: list[int]
    by_round: bool
    asked: int


class AskedReads:
    """The follower's side. `incarnation`: of this run; `patience`: microseconds until an unanswered question is
    repeated."""

    __slots__ = ("_effects", "_number", "_patience", "_since", "gathered", "questions")

    def __init__(self, incarnation: int, patience: int, effects: Effects) -> None:
        self._effects = effects
        self._patience = patience
        self._number = incarnation % _RUN * _RUN
        self.gathered: list[tuple[int, bool]] = []  # reads for which nothing was asked yet, and whether by round
        self._since = 0
        self.questions: dict[int, _Question] = {}
        """Questions without an answer by number, those first that have waited longest since they were asked."""

    def due(self) -> int | None:
        """When an unanswered question is to be repeated; None if there is none."""
        if not self.questions:
            return None
        return next(iter(self.questions.values())).asked + self._patience

    def gather(self, context: int, by_round: bool, now: int) -> None:
        """A read wants to know how far it must wait; `by_round`: without reliance on a clock."""
        self.gathered.append((context, by_round))
        self._since = now

    def ask(self, leader: MemberId | None) -> None:
        """Before the effects are taken: one question of either kind for all reads gathered."""
        if leader is None:
            return
        gathered, self.gathered = self.gathered, []
        for kind in (False, True):
            contexts = [context for context, by_round in gathered if by_round is kind]
            if contexts:
                self._number += 1
                self.questions[self._number] = _Question(contexts, kind, self._since)
                self._effects.send(leader, ReadIndex(self._number, kind))

    def tick(self, leader: MemberId | None, now: int) -> None:
        """Repeat what went unanswered for too long."""
        questions = self.questions
        while questions and leader is not None:
            number, question = next(iter(questions.items()))
            if now - question.asked < self._patience:
                return
            del questions[number]
            questions[number] = question._replace(asked=now)
            self._effects.send(leader, ReadIndex(number, question.by_round))

    def granted(self, number: int, slot: Slot) -> None:
        """The leader answered."""
        question = self.questions.pop(number, None)
        if question is not None:
            self._effects.results.extend([ReadResult(context, slot) for context in question.contexts])

    def give_up(self) -> None:
        """The leader is lost: the reads fail."""
        questions, self.questions = self.questions, {}
        gathered, self.gathered = self.gathered, []
        failed = [context for question in questions.values() for context in question.contexts]
        failed += [context for context, _ in gathered]
        self._effects.results.extend([ReadResult(context, None) for context in failed])
