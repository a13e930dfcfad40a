"""What a leader tells each of the others of its log, and when.

Theory of operation. A value is chosen when a quorum accepted it, and those who wait for it learn of it by the commit
index. Whoever is neither needed for the quorum nor has anybody who waits (see :meth:`Telling.hurry`) is told a little
later: several slots in one message, which are written and synced together, and the commit index with them. Many bytes
are kept back for nobody; but as what is late must not hold up what is waited for, they, too, leave in a turn of their
own, the next.

Nothing that is promised to anybody depends on it. A value that takes long to be chosen was needed from somebody who
does not answer as usual: then everybody is told what there is, and for a while everything at once.
What was not told to a member is not said to it to be chosen either, or it would fetch it.

Until somebody names those who are in a hurry, everybody is.

*Vouching.* With three voters the leader's vote and one other are a quorum. So that whoever waits need not wait for two
more messages, its vote to the leader and the leader's word that the slot is chosen, the leader says when its own vote
is durable (:class:`~.messages.Vouched`), and the other counts by itself. Then a value may be chosen, known to be so and
acknowledged elsewhere before the leader knows it: `vouched` is the highest such slot, for which the leader's reads
wait. A change of membership is never vouched for: the leader is the first to act on it.

What is asserted here, and why, is on docs/explanation/invariants.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from .ballot import NO_SLOT, Ballot, MemberId, Slot
from .effects import Effects
from .learner import Learner
from .messages import Accept, Commit, Kind, Value, Vouched
from .options import NEVER
from .proposer import value_parts
from .quorum import Phase, is_quorum
from .ready import Send
from .roster import Roster

LATER: Final = 25_000
"""Microseconds after which the others are told."""
SLOW: Final = 10_000
"""Microseconds in which a value should be chosen by those who were told at once."""

_BYTES: Final = 8192
_SLOTS: Final = 64
"""More than that is kept back for nobody: the next turn tells it."""

_CAUTION: Final = 20_000
_CAUTION_MAX: Final = 1_000_000
"""How long everybody is told at once after somebody answered late, at first and if that happens again and again."""


class Telling:
    """One leader's side of phase 2 towards the others, under `ballot`, from slot `first` on. `limit`: bytes in one
    message. `due`: when it is time to :meth:`tell_all`, at the latest. `vouched`: up to where slots may be known
    elsewhere to be chosen before they are here."""

    def __init__(
        self, ballot: Ballot, first: Slot, limit: int, roster: Roster, learner: Learner, effects: Effects
    ) -> None:
        self.due = NEVER
        self.vouched = NO_SLOT
        self._ballot = ballot
        self._limit = limit
        self._roster = roster
        self._learner = learner
        self._effects = effects
        self._hurried: frozenset[MemberId] | None = None
        self._quick: Sequence[MemberId] = ()  # of the others: who is told of values at once
        self._caution = _CAUTION
        self._cautious = 0  # until when everybody is told at once
        self._kept: list[Value] = []  # those that somebody has not been told of, from `_first` on
        self._bytes = 0
        self._first = first
        self._next = first
        self._told: dict[MemberId, Slot] = {}  # the next slot to tell
        self._chosen = dict.fromkeys(roster.others, learner.chosen)  # how far a member was told that slots are chosen
        self._since = 0
        self._wide = False  # a value that everybody must have at once is among those kept
        self._vouched: dict[MemberId, Slot] = {}  # for those who may count by themselves, up to where
        self._votes: dict[MemberId, Slot] = {}  # up to where a member's are durable
        self._alone = False  # nobody waits but with one of the others
        self._sure = NO_SLOT  # up to where anything may be vouched for
        self.adopted()

    def hurry(self, members: frozenset[MemberId]) -> None:
        """Only they have somebody who waits."""
        self._hurried = members
        self._choose()

    def adopted(self) -> None:
        """The roster changed: who left is told no more, who came is told from here on."""
        others = self._roster.others
        self._told = {other: self._told.get(other, self._next) for other in others}
        self._chosen = {other: self._chosen.get(other, NO_SLOT) for other in others}
        self._choose()

    def _choose(self) -> None:
        """Those in a hurry, and of the rest as many as a quorum needs."""
        roster, hurried = self._roster, self._hurried
        if hurried is None:
            self._quick = roster.others
            self._vouched = {}
            return
        own, voters = roster.member, roster.voters
        self._vouched = {
            member: self._vouched.get(member, NO_SLOT)
            for member in roster.others
            if member in hurried and member in voters and is_quorum(Phase.ACCEPT, (own, member), voters)
        }
        self._alone = len(hurried) == 1
        quick = {roster.member, *hurried}
        for other in roster.others:
            if is_quorum(Phase.ACCEPT, quick, roster.voters):
                break
            if other in roster.voters:
                quick.add(other)
        self._quick = [other for other in roster.others if other in quick]

    # ---------------------------------------------------------------- telling

    def propose(self, slot: Slot, value: Value, now: int) -> None:
        """`value` is proposed in `slot`, the next one."""
        assert slot == self._next, f"slot {slot} is told after {self._next - 1}"
        self._kept.append(value)
        self._bytes += len(value.payload)
        self._next = Slot(self._next + 1)
        self._since = now
        if value.kind is Kind.COMMANDS:
            self._sure = slot
        else:
            self._wide = True

    def chosen(self, now: int) -> None:
        """More is chosen."""
        self._since = now

    def flush(self) -> None:
        """Before the effects are taken: tell those who are to know at once."""
        quick = self._quick
        others = self._roster.others
        if self._wide or self._since < self._cautious:
            quick = others
        self._tell(quick)
        self._vouch()
        chosen, hurried = self._learner.chosen, self._hurried
        self._commit(others if hurried is None else hurried)
        if self._bytes > _BYTES or len(self._kept) > _SLOTS:
            self.due = self._since
        elif self._kept or any([known < chosen for known in self._chosen.values()]):
            if self.due == NEVER:
                self.due = self._since + LATER
        else:
            self.due = NEVER

    def _vouch(self) -> None:
        """Our votes for what was proposed are durable when this leaves."""
        slot = self._sure
        if slot <= self.vouched or slot + 1 != self._next:
            return
        message = Vouched(self._ballot, slot, self._alone)
        for member in self._vouched:
            self._effects.after.append(Send(member, message))
            self._vouched[member] = self.vouched = slot

    def accepted(self, member: MemberId, last: Slot) -> None:
        """`member`, which may be our own, has durable votes up to `last`: whoever has them, too, and for whom we
        vouched, counts by itself."""
        vouched, votes, known, own = self._vouched, self._votes, self._chosen, self._roster.member
        if last <= known.get(member, NO_SLOT) or not (vouched and (member == own or member in vouched)):
            return
        votes[member] = max(last, votes.get(member, NO_SLOT))
        for other, slot in vouched.items():
            upto = min(slot, votes.get(own, NO_SLOT), votes.get(other, NO_SLOT))
            if upto > known.get(other, NO_SLOT):
                known[other] = upto

    def tell_values(self) -> None:
        """Tell everybody what is proposed."""
        self._tell(self._roster.others)

    def tell_all(self) -> None:
        """Tell everybody everything."""
        self._tell(self._roster.others)
        self._commit(self._roster.others)
        self.due = NEVER

    def slow(self, now: int) -> None:
        """A value is not chosen yet that was told to enough voters long ago."""
        again = now < self._cautious + 2 * self._caution
        self._caution = min(2 * self._caution, _CAUTION_MAX) if again else _CAUTION
        self._cautious = now + self._caution

    def known_to(self, member: MemberId) -> Slot:
        """How far `member` may be told that slots are chosen; and it is told so now."""
        upto = min(self._learner.chosen, Slot(self._told[member] - 1))
        self._chosen[member] = max(self._chosen[member], upto)
        return upto

    def _tell(self, members: Iterable[MemberId]) -> None:
        told, chosen = self._told, self._learner.chosen
        parts: dict[Slot, list[Accept]] = {}
        for member in members:
            start = told[member]
            if start == self._next:
                continue
            accepts = parts.get(start)
            if accepts is None:
                accepts = parts[start] = self._accepts(start, chosen)
            for accept in accepts:
                self._effects.send(member, accept)
            told[member] = self._next
            self._chosen[member] = chosen
        if self._kept and (parts or not told):
            self._trim()

    def _accepts(self, start: Slot, chosen: Slot) -> list[Accept]:
        accepts = []
        for part in value_parts(self._kept[start - self._first :], self._limit):
            accepts.append(Accept(self._ballot, start, part, chosen))
            start = Slot(start + len(part))
        return accepts

    def _trim(self) -> None:
        """Let go of what everybody was told."""
        first = min(self._told.values(), default=self._next)
        if first == self._next:
            self._kept.clear()
            self._bytes = 0
            self._wide = False
        else:
            gone = self._kept[: first - self._first]
            self._bytes -= sum([len(value.payload) for value in gone])
            del self._kept[: len(gone)]
        self._first = first

    def _commit(self, members: Iterable[MemberId]) -> None:
        told, known, chosen = self._told, self._chosen, self._learner.chosen
        message: Commit | None = None
        for member in members:
            if member in known and known[member] < chosen and told[member] > chosen:
                message = message or Commit(self._ballot, chosen)
                self._effects.send(member, message)
                known[member] = chosen
