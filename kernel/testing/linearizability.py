"""Is a history of concurrent operations linearizable? A search for the one order that would explain it.

Theory of operation. A history is linearizable (Herlihy and Wing 1990) if every operation can be given one moment
between its call and its return so that, taken in the order of these moments, the results are those of a sequential
object. The search is that of Wing and Gong (1993): among the operations that no other operation precedes, try each
one that the model allows, and go back when an operation had to return before it found its place. Two things make it
fast:

* Lowe (2017): a pair (set of operations already placed, state reached) that was tried once is never tried again, and
  the calls and returns lie in one doubly linked list, so that placing an operation and taking it back are a few
  assignments (the list's shape is that of Horn and Kroening 2015).
* Operations that read and never write, by the model's word, are placed as soon as they fit and never taken back for
  their own sake: if they fit later, they fit now.

Linearizability is local: a history over several keys is linearizable if and only if each key's part is, so keys are
searched one by one. An operation without an answer (`end` is None) may take effect at any time after its call, or
never; give each write a value of its own and keep these few, since they are what makes the search long. Reads without
an answer say nothing and should be left out of the history.

This module knows no cells and no clocks: the times are any numbers of one clock.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

State = TypeVar("State", bound=Hashable)


class Unknown(enum.Enum):
    """The result of an operation that was never answered."""

    UNKNOWN = 0


UNKNOWN: Final = Unknown.UNKNOWN


class Operation(NamedTuple):
    """One operation as its client saw it.

    `call` and `end` are times on one clock for all clients; `end` is None, and `result` UNKNOWN, if no answer came.
    `name` and `args` say what was asked, in the words of the model.
    """

    client: Hashable
    key: str
    name: str
    args: tuple[Hashable, ...]
    result: Hashable
    call: int
    end: int | None

    def __str__(self) -> str:
        args = ", ".join(map(repr, self.args))
        end = "..." if self.end is None else str(self.end)
        result = "?" if self.result is UNKNOWN else repr(self.result)
        return f"[{self.call} .. {end}] {self.client}: {self.name}({args}) -> {result}"


class Model(Protocol[State]):
    """A sequential object: what each operation does and answers when nothing else happens at the same time."""

    def initial(self) -> State: ...

    def step(self, state: State, operation: Operation) -> State | None:
        """The state after `operation`, or None if it could not have answered what it did in `state`. A result of
        UNKNOWN fits always. States are compared and hashed; None is not a state."""

    def reads_only(self, operation: Operation) -> bool:
        """Whether `operation`, with this result, changes nothing in any state that allows it."""


class Verdict(enum.Enum):
    """What a history was found to be."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided: the search took too long"


class Judgement(NamedTuple):
    """What was found, and for a bad history the evidence: the key, the longest order that still made sense, the state
    it led to, and the operation for which there was no place any more."""

    verdict: Verdict
    key: str = ""
    placed: tuple[Operation, ...] = ()
    state: object = None
    stuck: Operation | None = None

    def __bool__(self) -> bool:
        return self.verdict is Verdict.LINEARIZABLE

    def __str__(self) -> str:
        if self.stuck is None:
            return self.verdict.value
        tail = "\n".join(f"    {operation}" for operation in self.placed[-8:])
        return (
            f"{self.verdict.value}: key {self.key!r}\n"
            f"  longest sensible order of {len(self.placed)} operations ends with\n{tail}\n"
            f"  which leads to {self.state!r}, where no place is left for\n    {self.stuck}"
        )


def linearizable(history: Iterable[Operation], model: Model[State], *, steps: int = 2_000_000) -> Judgement:
    """Judge a history, key by key; `steps` bounds the search for each key. The first bad key decides."""
    by_key: dict[str, list[Operation]] = {}
    for operation in history:
        by_key.setdefault(operation.key, []).append(operation)
    found = Judgement(Verdict.LINEARIZABLE)
    for key in sorted(by_key):
        judgement = _Search(by_key[key], model, steps).run()
        if judgement.verdict is Verdict.NOT_LINEARIZABLE:
            return judgement._replace(key=key)
        if judgement.verdict is Verdict.UNDECIDED:
            found = judgement._replace(key=key)
    return found


class _Search(Generic[State]):
    """One key's search. Entries of the list are numbers: 0 is its head; calls and returns follow in order of time, a
    call before a return of the same moment (they overlap)."""

    def __init__(self, operations: Sequence[Operation], model: Model[State], steps: int) -> None:
        self._model = model
        self._steps = steps
        moments = [(o.call, 0, n) for n, o in enumerate(operations)]
        moments += [(o.end, 1, n) for n, o in enumerate(operations) if o.end is not None]
        moments.sort()
        size = len(moments) + 1
        self._operation: list[Operation | None] = [None] * size  # of a call; None for a return
        self._return: list[int] = [0] * size  # a call's return; 0 if it has none
        self._bit: list[int] = [0] * size
        self._reads: list[bool] = [False] * size
        self._caller: list[int] = [0] * size  # a return's call
        self._after: list[int] = [*range(1, size), 0]
        self._before: list[int] = [size - 1, *range(size - 1)]
        self._answered = 0  # answered operations not yet placed
        calls = [0] * len(operations)
        for entry, (_, is_return, n) in enumerate(moments, 1):
            if is_return:
                self._return[calls[n]] = entry
                self._caller[entry] = calls[n]
                self._answered += 1
            else:
                calls[n] = entry
                self._operation[entry] = operations[n]
                self._bit[entry] = 1 << n
                self._reads[entry] = model.reads_only(operations[n])

    def run(self) -> Judgement:
        step, operations, returns = self._model.step, self._operation, self._return
        before, after, bits, reads = self._before, self._after, self._bit, self._reads
        state = self._model.initial()
        placed = 0
        trail: list[tuple[int, State]] = []  # (call placed, state before it)
        best: tuple[int, tuple[int, ...], State, int] = (-1, (), state, 0)
        seen: set[tuple[int, State]] = set()
        entry = after[0]
        answered, steps = self._answered, self._steps
        while answered:
            operation = operations[entry]
            if operation is not None:
                result = step(state, operation)
                steps -= 1
                if result is not None:
                    bit = bits[entry]
                    configuration = (placed | bit, result)
                    if configuration not in seen:
                        seen.add(configuration)
                        trail.append((entry, state))
                        placed, state = placed | bit, result
                        answered -= self._lift(entry)
                        entry = after[0]
                        continue
                entry = after[entry]
                if entry:
                    continue
            if len(trail) > best[0]:
                stuck = self._caller[entry] if entry else self._first_answered()
                best = (len(trail), tuple(call for call, _ in trail), state, stuck)
            # No place for an operation that must have had its effect by now: take the last decision back. A reader is
            # no decision: whatever it allowed would have been allowed without it.
            while True:
                if not trail:
                    return self._bad(best)
                if steps < 0:
                    return Judgement(Verdict.UNDECIDED)
                entry, state = trail.pop()
                placed ^= bits[entry]
                if returns[entry]:
                    answered += 1
                    back = returns[entry]
                    after[before[back]] = back
                    if after[back]:
                        before[after[back]] = back
                after[before[entry]] = entry
                if after[entry]:
                    before[after[entry]] = entry
                if not reads[entry]:
                    break
            entry = after[entry]
        return Judgement(Verdict.LINEARIZABLE)

    def _lift(self, entry: int) -> int:
        """Take a call and its return out of the list; 1 if it was answered."""
        before, after = self._before, self._after
        b, a = before[entry], after[entry]
        after[b] = a
        if a:
            before[a] = b
        back = self._return[entry]
        if not back:
            return 0
        b, a = before[back], after[back]
        after[b] = a
        if a:
            before[a] = b
        return 1

    def _first_answered(self) -> int:
        entry = self._after[0]
        while self._operation[entry] is not None and not self._return[entry]:
            entry = self._after[entry]
        return entry

    def _bad(self, best: tuple[int, tuple[int, ...], State, int]) -> Judgement:
        _, calls, state, stuck = best
        placed = tuple(o for o in (self._operation[call] for call in calls) if o is not None)
        return Judgement(Verdict.NOT_LINEARIZABLE, "", placed, state, self._operation[stuck])
