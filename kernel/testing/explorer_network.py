"""The network of small worlds: all letters that were ever sent, but for those that cannot matter any more.

Letters are numbered as they appear, and a network is a set of them, as the bits of an integer; networks are numbered,
too.

A letter is *spent* when its receiver is beyond the ballot of which it speaks: an answer (Promise, Accepted) to a
candidate or leader whose disk holds a higher promise, or that already has what the answer would add; a request of a
ballot below the promise on the receiver's disk, if refusals are muted. Spent letters are taken out of the network: it
differs less, and with it the worlds. But that such letters are without effect is just what may be wrong with a core. So
it is never taken for granted: a letter counts as spent only after it was delivered, for trial, and had no effect; and
since a member might listen again later, :meth:`Network.audit` delivers to every state of every member all letters that
would be spent there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..paxos.ballot import MemberId
from ..paxos.messages import Accept, Accepted, Commit, Heartbeat, Message, Prepare, Promise, Refused, Vouched
from .explorer_member import Letter, State

Trial = Callable[[State, Iterable[Letter]], bool]
"""Whether letters have no effect on a member in that state."""


class Network:
    """Letters between `members`. `muted` are those that are never delivered; `trial` tries letters. `minding`:
    leaders mind every Accepted, those that are about to hand over, or that tell all they know because a read waits."""

    def __init__(
        self, members: Sequence[MemberId], muted: frozenset[type[Message]], trial: Trial, minding: bool
    ) -> None:
        self._places = {member: place for place, member in enumerate(members)}
        self._refusals = Refused not in muted
        self._trial = trial
        self._minding = minding
        self._numbers: dict[Letter, int] = {}
        self._sets: dict[int, int] = {0: 0}
        self.letters: list[Letter] = []
        self.to = [0] * len(members)
        """The letters to each member, by its place."""
        self.sets = [0]

    def bits(self, letters: Iterable[Letter]) -> int:
        """`letters` as a set; letters to nobody in this world are left out."""
        found = 0
        for letter in letters:
            place = self._places.get(letter.to)
            if place is None:
                continue
            number = self._numbers.get(letter)
            if number is None:
                number = self._numbers[letter] = len(self.letters)
                self.letters.append(letter)
                self.to[place] |= 1 << number
            found |= 1 << number
        return found

    def number(self, letters: int) -> int:
        """The number of a set."""
        number = self._sets.get(letters)
        if number is None:
            number = self._sets[letters] = len(self.sets)
            self.sets.append(letters)
        return number

    def spent(self, letters: int, state: State) -> int:
        """Those of `letters`, all to the member that is in `state`, that are spent."""
        late = [number for number in each(letters) if self._late(self.letters[number].message, state)]
        if not late or not self._trial(state, [self.letters[number] for number in late]):
            late = [number for number in late if self._trial(state, [self.letters[number]])]
        return sum(1 << number for number in late)

    def audit(self, states: Iterable[State]) -> str:
        """Words about a letter that would be spent for one of `states` but has an effect; none if all is well."""
        for state in states:
            mine = self.to[self._places[state.member]]
            spent = self.spent(mine, state)
            for number in each(mine & ~spent):
                letter = self.letters[number]
                if self._late(letter.message, state):
                    return f"a late message has an effect: {letter.message} from member {letter.sender} to {letter.to}"
        return ""

    def _late(self, message: Message, state: State) -> bool:
        promised = state.disk.promised
        if isinstance(message, Promise | Accepted):
            ballot = message.ballot
            if promised > ballot or state.birth.promised >= ballot:
                return True
            if not state.leads or promised < ballot:
                return False
            return isinstance(message, Promise) or (state.applied >= message.last and not self._minding)
        if isinstance(message, Prepare | Accept | Heartbeat | Commit | Vouched):
            return not self._refusals and promised > message.ballot
        return False


def each(letters: int) -> Iterator[int]:
    """The numbers in a set."""
    while letters:
        bit = letters & -letters
        letters ^= bit
        yield bit.bit_length() - 1
