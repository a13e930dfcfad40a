"""An exhaustive explorer: every state that a small cell of real consensus cores can come to, each checked.

Theory of operation.

*The world* is a number of members (:mod:`.explorer_member`), each a real core with its disk and its writes under way,
and the network. What can happen in it is bounded by a :class:`~.explorer_scope.Scope`: so many campaigns, proposals,
crashes and so on. Within these bounds everything that can happen is gone through, breadth first, so that a broken
promise is found by a shortest way to it.

*The network* is the set of all messages that were ever sent. Each may arrive at any time, any number of times, or
never: loss, duplication, reordering and delay without bound, of all messages and not only of one, need no steps of
their own. Nothing is taken out of it but what is proven to be without effect (:mod:`.explorer_network`).

*Time.* In most scopes the lease and all other times are 0 and the clocks stand still. Every timer is then due at any
moment, and no lease ever binds anybody: more can happen than under any clock, and what holds there does not depend on
time. A scope of several `instants` lets time pass, one instant at a time and any number between two steps of a member,
and gives the leases a length.

*Members are executed, not worlds.* A step concerns one member, and what it leads to depends on that member's state
only. So the states of members are numbered as they are found; where a step leads is worked out once, by the real code,
and looked up from then on. A world is one integer, made of the numbers of its members' states, of the network, and of
what is left of the scope. It is kept whole, no hash stands for it: no world is mistaken for another one.

*Reductions*, none of which may change a verdict (tests compare with and without):

1. A delivery that changes nothing and says nothing new is no step.
2. Crash and restart are one step (see :mod:`.explorer_member`). Who will crash, if anybody, is chosen at the beginning:
   worlds in which one member may crash and those in which another one may are gone through one beside the other, so
   that in each of them the next reduction applies to all but one.
3. If a member will not crash any more, and the core does not itself wait for its oldest write, that write becomes
   durable before anything else happens. Such a sync adds something to the disk and to the network, and does nothing
   else. So it commutes with every step of this member and of others, and disables none: what may happen before it may
   as well happen after it (a persistent set of one step: Godefroid, *Partial-order methods*, 1996, chapter 4). Two of
   the checks could be blind to what is skipped, those that ask whether something is durable *already*. One is made when
   a message leaves, which the sync does not hasten for any other message. For the other, that what is handed out is on
   the disks of a quorum, votes that are counted without a message are left out: those of a member that leads, and where
   leaders vouch for theirs, because somebody is in a hurry, those of everybody.
4. Messages that are too late to have any effect are taken out of the network (:mod:`.explorer_network`).
5. Members that campaign may be renamed without changing the order of their ballots, and payloads are interchangeable:
   so scopes name the candidates, and propose in one order.
6. Messages that serve only leases, reads and progress are muted where there is none of these (`QUIET`): they change
   nothing but counters that nobody looks at.

Sleep sets would save steps, not worlds, and a step is two look-ups here. Larger persistent sets hardly exist: a
delivery depends on every later message to the same member, and who may yet send one is anybody.

*Checked*, beside what the core asserts: what a disk and a member see by themselves (:mod:`.explorer_disk`,
:mod:`.explorer_member`), and what can be seen in a whole world only (:mod:`.explorer_judge`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import combinations_with_replacement, pairwise
from typing import Final, NamedTuple

from ..paxos.ballot import MemberId
from ..paxos.quorum import ChangeKind
from ..paxos.ready import AcceptedValue
from ..paxos.replica import Options
from .explorer_disk import Broken
from .explorer_judge import Judge
from .explorer_member import Done, Letter, Setting, State, Step, deaf, start, take
from .explorer_network import Network, each
from .explorer_scope import Left, Report, Scope, change
from .explorer_trace import told

_LEFT: Final = 16
"""Bits of a world that say what is left."""
_SPOT: Final = 20
"""Bits that say what a member is. What is above them is the number of the network."""
_LEFT_MASK: Final = (1 << _LEFT) - 1
_SPOT_MASK: Final = (1 << _SPOT) - 1


class Violation(Exception):
    """A promise is broken in `world`: when `step` is taken in it, or, if no step is said, by what it is."""

    def __init__(self, words: str, world: int, spot: int = 0, step: Step | None = None) -> None:
        super().__init__(words)
        self.world = world
        self.spot = spot
        self.step = step


class Outcome(NamedTuple):
    """Where a step leads a member, what it says (letters, as a set), and what is left then (a number)."""

    spot: int
    said: int
    left: int = 0


class _Spot:
    """A member's state and what is known of it: `view`, what the judge sees of it; `dead`, letters whose delivery has
    no outcome, by instant; `heard`, the outcomes of the others, by letter and instant; `own`, those of its own steps,
    by what is left; `calm`, that of an eager sync (None if there is none, not `tried` if that is not known); of the
    letters to it that were `asked` after, those that are `spent`."""

    __slots__ = ("asked", "calm", "dead", "heard", "own", "spent", "state", "tried", "view")

    def __init__(self, state: State, view: int, instants: int) -> None:
        self.state = state
        self.view = view
        self.dead = [0] * instants
        self.heard: dict[int, Outcome] = {}
        self.own: dict[int, list[Outcome]] = {}
        self.calm: Outcome | None = None
        self.tried = False
        self.asked = 0
        self.spent = 0


class Explorer:
    """One exploration."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        options = Options(lease=scope.lease, heartbeat=1, drift_ppm=scope.drift, campaign_spread=0, retained=0)
        rates = {MemberId(member): rate for member, rate in scope.rates}
        hurried = frozenset(map(MemberId, scope.hurried))
        self._setting = setting = Setting(scope.founding(), options, rates, scope.muted, scope.canvass, hurried)
        self._judge = Judge(scope.founding())
        self._members = scope.running()
        self._places = {member: place for place, member in enumerate(self._members)}
        self._shifts = [_LEFT + _SPOT * place for place in range(len(self._members))]
        self._top = _LEFT + _SPOT * len(self._members)
        last = scope.instants - 1

        def trial(state: State, letters: Iterable[Letter]) -> bool:
            return deaf(setting, state, letters, last)

        minding = bool(scope.transfers or (scope.reads and hurried))
        self._network = Network(self._members, scope.muted, trial, minding)
        self._numbers: dict[object, int] = {}
        self._spots: list[_Spot] = []
        self._lefts: list[Left] = []
        self._left_numbers: dict[Left, int] = {}
        self.executed = 0

    # ---------------------------------------------------------------- the beginning

    def _begin(self) -> list[int]:
        """The worlds to begin with: one for each choice of who will crash."""
        scope = self.scope
        here = [self._outcome(start(self._setting, member, 0)).spot for member in self._members]
        network = 0
        for words in scope.opening:
            network = self._play(here, network, words)
        crashes = combinations_with_replacement(map(MemberId, scope.crashers), scope.crashes)
        return [self._world(here, network, self._left(scope.whole()._replace(crashes=who))) for who in crashes]

    def _play(self, here: list[int], network: int, words: str) -> int:
        """One line of an opening, which changes `here`; returns the network after it."""
        first, *others = words.split()
        if first == "hush":
            return 0
        if first == "settle":
            places = [self._places[MemberId(int(other))] for other in others]
            while (after := self._settle(here, network, places)) is not None:
                network = after
            return network
        place, verb = self._places[MemberId(int(first))], others[0]
        if verb == "campaigns":
            step = Step("campaign")
        elif verb == "proposes":
            step = Step("propose", (others[1].encode(),))
        else:
            assert verb == "changes", f"{words!r} is no line of an opening"
            step = Step("change", change(ChangeKind[others[1]], int(others[2])))
        return self._move(here, network, place, step)

    def _settle(self, here: list[int], network: int, places: list[int]) -> int | None:
        """One round of deliveries and writes among some; None if nothing happened."""
        before, was = list(here), network
        for place in places:
            while self._spots[here[place]].state.writes:
                network = self._move(here, network, place, Step("sync"))
            for number in each(network & self._network.to[place]):
                letter = self._network.letters[number]
                if self._places[letter.sender] in places:
                    network = self._move(here, network, place, Step("deliver", letter))
        return None if here == before and network == was else network

    def _move(self, here: list[int], network: int, place: int, step: Step) -> int:
        outcome = self._after(here[place], step)
        here[place] = outcome.spot
        return network | outcome.said

    # ---------------------------------------------------------------- members

    def _outcome(self, done: Done) -> Outcome:
        number = self._numbers.setdefault(done.state.key, len(self._spots))
        if number == len(self._spots):
            assert number <= _SPOT_MASK, "too many states of members"
            self._spots.append(_Spot(done.state, self._judge.look(done.state), self.scope.instants))
        return Outcome(number, self._network.bits(done.letters))

    def _after(self, number: int, step: Step) -> Outcome:
        """Where `step` leads. Raises Broken or AssertionError."""
        self.executed += 1
        return self._outcome(take(self._setting, self._spots[number].state, step))

    def _try(self, world: int, number: int, step: Step) -> Outcome:
        try:
            return self._after(number, step)
        except (Broken, AssertionError) as broken:
            raise Violation(str(broken), world, number, step) from broken

    # ---------------------------------------------------------------- worlds

    def _left(self, left: Left) -> int:
        number = self._left_numbers.setdefault(left, len(self._lefts))
        if number == len(self._lefts):
            assert number <= _LEFT_MASK, "too much may happen"
            self._lefts.append(left)
        return number

    def _parts(self, world: int) -> list[int]:
        """The numbers of the members' states."""
        return [world >> shift & _SPOT_MASK for shift in self._shifts]

    def _world(self, here: Iterable[int], letters: int, left: int) -> int:
        if self.scope.reduced:
            for place, number in enumerate(here):
                letters &= ~self._spent(number, letters & self._network.to[place])
        world = left + (self._network.number(letters) << self._top)
        for number, shift in zip(here, self._shifts, strict=True):
            world += number << shift
        return world

    def _spent(self, number: int, letters: int) -> int:
        """Of these letters to the member in that state (and perhaps of others), those that are spent."""
        spot = self._spots[number]
        new = letters & ~spot.asked
        if new:
            spot.asked |= new
            spot.spent |= self._network.spent(new, spot.state)
        return spot.spent

    def _next(self, world: int, here: list[int], letters: int, place: int, outcome: Outcome, left: int) -> int:
        """The world after a step of the member at `place`, after which `left` is left."""
        there, said, _ = outcome
        world += left - (world & _LEFT_MASK) + (there - here[place] << self._shifts[place])
        after, fresh = letters | said, said & ~letters
        if self.scope.reduced:
            to = self._network.to
            mine = after & to[place]
            if mine:
                after &= ~self._spent(there, mine)
            if fresh:
                for other, number in enumerate(here):
                    if other != place and fresh & to[other]:
                        after &= ~self._spent(number, fresh & to[other])
        if after != letters:
            world += self._network.number(after) - (world >> self._top) << self._top
        return world

    # ---------------------------------------------------------------- steps

    def _own_steps(self, state: State, left: Left) -> Iterator[tuple[Step, Left]]:
        """What a member may do or suffer by itself."""
        scope, now, member = self.scope, left.now, state.member
        if state.writes:
            yield Step("sync", None, now), left
        if member in left.crashes:
            place = left.crashes.index(member)
            after = left._replace(crashes=left.crashes[:place] + left.crashes[place + 1 :])
            for survive in range(1 + sum(len(write.records) for write in state.writes)):
                yield Step("crash", survive, now), after
        if state.due <= self._setting.clock(member, now):
            if state.leads and left.beats:
                yield Step("tick", None, now), left._replace(beats=left.beats - 1)
            elif left.campaigns and not state.leads and member in scope.candidates:
                yield Step("campaign", None, now), left._replace(campaigns=left.campaigns - 1)
        if left.proposals and state.room >= len(left.proposals[0]):
            yield Step("propose", left.proposals[0], now), left._replace(proposals=left.proposals[1:])
        if state.room:
            for i, change in enumerate(left.changes):
                rest = left.changes[:i] + left.changes[i + 1 :]
                yield Step("change", change, now), left._replace(changes=rest)
        if state.room and left.transfers:
            for candidate in scope.candidates:
                if candidate != member:
                    yield Step("transfer", MemberId(candidate), now), left._replace(transfers=left.transfers - 1)
        if scope.hurried and not state.leads:
            yield Step("speak", None, now), left
        if left.snapshots and member in scope.keepers and state.applied > state.disk.snapshot:
            yield Step("compact", None, now), left._replace(snapshots=left.snapshots - 1)

    def _own(self, world: int, number: int) -> list[Outcome]:
        spot, left = self._spots[number], world & _LEFT_MASK
        known = spot.own.get(left)
        if known is None:
            found = []
            for step, after in self._own_steps(spot.state, self._lefts[left]):
                there, said, _ = self._try(world, number, step)
                if there != number or said:
                    found.append(Outcome(there, said, self._left(after)))
            known = spot.own[left] = list(dict.fromkeys(found))
        return known

    def _hear(self, world: int, number: int, bit: int, now: int) -> Outcome:
        letter, spot = bit.bit_length() - 1, self._spots[number]
        outcome = self._try(world, number, Step("deliver", self._network.letters[letter], now))
        if outcome.spot == number and not outcome.said:
            spot.dead[now] |= bit
        outcome = spot.heard[letter * self.scope.instants + now] = outcome
        return outcome

    def _calm(self, world: int, number: int) -> Outcome | None:
        """Where making the oldest write durable leads, if that is all that it does (third reduction)."""
        spot = self._spots[number]
        if not spot.tried:
            spot.tried = True
            state = spot.state
            counted = state.leads or self.scope.hurried
            if not (counted and any(isinstance(record, AcceptedValue) for record in state.writes[0].records)):
                outcome = self._try(world, number, Step("sync"))
                if self._spots[outcome.spot].state.core == state.core:
                    spot.calm = outcome
        return spot.calm

    def successors(self, world: int) -> list[int]:
        """The worlds to which one step leads."""
        scope, spots, to = self.scope, self._spots, self._network.to
        left_number = world & _LEFT_MASK
        left = self._lefts[left_number]
        letters = self._network.sets[world >> self._top]
        now, instants = left.now, scope.instants
        here = self._parts(world)
        found: list[int] = []
        for place, number in enumerate(here):
            spot = spots[number]
            state = spot.state
            writes = len(state.writes)
            if writes and scope.reduced and state.member not in left.crashes:
                calm = self._calm(world, number)
                if calm is not None:
                    return [self._next(world, here, letters, place, calm, left_number)]
            heard = spot.heard
            waiting = letters & to[place] & ~spot.dead[now] if writes < scope.writes else 0
            while waiting:
                bit = waiting & -waiting
                waiting ^= bit
                outcome = heard.get((bit.bit_length() - 1) * instants + now)
                if outcome is None:
                    outcome = self._hear(world, number, bit, now)
                if outcome.spot != number or outcome.said & ~letters:
                    found.append(self._next(world, here, letters, place, outcome, left_number))
            for outcome in self._own(world, number):
                found.append(self._next(world, here, letters, place, outcome, outcome.left))
        if left.reads:
            found += self._reads(world, here, letters, left)
        if now + 1 < instants:
            found.append(world - left_number + self._left(left._replace(now=now + 1)))
        return found

    def _reads(self, world: int, here: list[int], letters: int, left: Left) -> Iterator[int]:
        """A linearizable read begins: it must see all that was handed out anywhere by now."""
        bound = max(len(self._spots[number].state.log) for number in here)
        then = self._left(left._replace(reads=left.reads - 1))
        for member in map(MemberId, self.scope.readers):
            place = self._places[member]
            outcome = self._try(world, here[place], Step("read", bound, left.now))
            yield self._next(world, here, letters, place, outcome, then)

    # ---------------------------------------------------------------- all worlds

    def _check(self, world: int) -> None:
        here = [self._spots[number] for number in self._parts(world)]
        try:
            self._judge.judge(tuple([spot.view for spot in here]))
        except Broken as broken:
            raise Violation(str(broken), world) from broken
        if self.scope.instants > 1:
            now, clock = self._lefts[world & _LEFT_MASK].now, self._setting.clock
            holders = [s.state.member for s in here if s.state.held_until > clock(s.state.member, now)]
            if len(holders) > 1:
                raise Violation(f"members {holders} hold the lease at one instant", world)

    def run(self, *, states: float = float("inf"), seconds: float = float("inf")) -> Report:
        """Go through all worlds, or until so many were found or so many seconds of processor time used."""
        began = time.process_time()
        before: dict[int, int] = {}
        layer: list[int] = []
        depth, transitions, complete, failure = 0, 0, True, ""
        trace: tuple[str, ...] = ()
        try:
            for first in self._begin():
                before[first] = first
                layer.append(first)
                self._check(first)
            while layer and complete:
                following: list[int] = []
                for number, world in enumerate(layer):
                    worlds = self.successors(world)
                    transitions += len(worlds)
                    for there in worlds:
                        if there not in before:
                            before[there] = world
                            following.append(there)
                            self._check(there)
                    if len(before) >= states or (not number & 0xFF and time.process_time() - began > seconds):
                        complete = False
                        break
                layer = following
                depth += bool(layer)
            if self.scope.reduced:
                failure = self._network.audit(spot.state for spot in self._spots)
        except Violation as violation:
            failure, complete = str(violation), False
            trace = tuple(self._trace(before, violation))
        return Report(
            self.scope.name,
            len(before),
            transitions,
            depth,
            len(self._spots),
            self.executed,
            time.process_time() - began,
            complete,
            frozenset(self._judge.decided),
            failure,
            trace,
        )

    # ---------------------------------------------------------------- telling

    def _trace(self, before: dict[int, int], violation: Violation) -> Iterator[str]:
        """The way to a violation."""
        way = [violation.world]
        while before[way[-1]] != way[-1]:
            way.append(before[way[-1]])
        for world, there in pairwise(reversed(way)):
            yield from self._tell(world, there)
        if violation.step is not None:
            yield from told(self._spots[violation.spot].state, violation.step, None)
        yield f"broken: {violation}"

    def _tell(self, world: int, there: int) -> Iterator[str]:
        """The step between two worlds."""
        here, letters = self._parts(world), self._network.sets[world >> self._top]
        left, rest = self._lefts[world & _LEFT_MASK], self._lefts[there & _LEFT_MASK]
        bound = max(len(self._spots[number].state.log) for number in here)
        for place, number in enumerate(here):
            state = self._spots[number].state
            heard = each(letters & self._network.to[place])
            steps = [Step("deliver", self._network.letters[letter], left.now) for letter in heard]
            steps += [step for step, after in self._own_steps(state, left) if after == rest]
            if rest.reads < left.reads and state.member in self.scope.readers:
                steps.append(Step("read", bound, left.now))
            for step in steps:
                try:
                    done = take(self._setting, state, step)
                except (Broken, AssertionError):
                    continue
                if self._next(world, here, letters, place, self._outcome(done), self._left(rest)) == there:
                    yield from told(state, step, done)
                    return
        yield f"it is {rest.now} o'clock"
