"""The checker of histories, against verdicts known otherwise."""

from __future__ import annotations

import itertools
import random
from collections.abc import Hashable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.testing.linearizability import (
    UNKNOWN,
    Judgement,
    Model,
    Operation,
    Verdict,
    linearizable,
)
from quorate.kernel.testing.models import Bell, Count, Mutex, Register


def history(*lines: tuple[object, ...]) -> list[Operation]:
    """Operations from (client, name, args..., result, call, end)."""
    made = []
    for client, name, *args, result, call, end in lines:
        assert isinstance(name, str)
        assert isinstance(call, int)
        assert end is None or isinstance(end, int)
        made.append(Operation(client, "k", name, tuple(args), result, call, end))
    return made


def by_permutation(operations: Sequence[Operation], model: Model[Hashable]) -> bool:
    """The definition itself: some order of the answered operations and any of the others, within real time, makes
    sense."""
    answered = [o for o in operations if o.end is not None]
    open_ = [o for o in operations if o.end is None]
    for count in range(len(open_) + 1):
        for extra in itertools.combinations(open_, count):
            for order in itertools.permutations([*answered, *extra]):
                state: Hashable | None = model.initial()
                for place, operation in enumerate(order):
                    if any(later.end is not None and later.end < operation.call for later in order[place + 1 :]):
                        break
                    state = model.step(state, operation)
                    if state is None:
                        break
                else:
                    return True
    return False


GOOD = {
    "empty": history(),
    "one after the other": history(("a", "set", 1, None, 0, 1), ("b", "get", 1, 2, 3)),
    "a read during a write sees the old value": history(("a", "set", 1, None, 0, 9), ("b", "get", None, 2, 3)),
    "a read during a write sees the new value": history(("a", "set", 1, None, 0, 9), ("b", "get", 1, 2, 3)),
    "an unanswered write took effect late": history(
        ("a", "set", 1, UNKNOWN, 0, None), ("b", "get", None, 2, 3), ("b", "get", 1, 8, 9)
    ),
    "an unanswered write never took effect": history(("a", "set", 1, UNKNOWN, 0, None), ("b", "get", None, 2, 3)),
    "writes overlap, reads agree on an order": history(
        ("a", "set", 1, None, 0, 9), ("b", "set", 2, None, 0, 9), ("c", "get", 2, 2, 3), ("c", "get", 1, 4, 5)
    ),
    "two swaps, one wins": history(
        ("a", "set", 0, None, 0, 1), ("b", "cas", 0, 1, True, 2, 5), ("c", "cas", 0, 2, False, 2, 5)
    ),
    "touching moments count as overlapping": history(("a", "set", 1, None, 0, 2), ("b", "get", None, 2, 3)),
}

BAD = {
    "a stale read": history(("a", "set", 1, None, 0, 1), ("b", "get", None, 2, 3)),
    "reads go back": history(("a", "set", 1, None, 0, 9), ("b", "get", 1, 1, 2), ("c", "get", None, 3, 4)),
    "a value nobody wrote": history(("a", "set", 1, None, 0, 1), ("b", "get", 7, 2, 3)),
    "a lost write": history(
        ("a", "set", 1, None, 0, 1), ("b", "set", 2, None, 2, 3), ("c", "get", 1, 4, 5), ("c", "get", 1, 6, 7)
    ),
    "both swaps win": history(
        ("a", "set", 0, None, 0, 1), ("b", "cas", 0, 1, True, 2, 5), ("c", "cas", 0, 2, True, 2, 5)
    ),
    "readers disagree on the order of writes": history(
        ("a", "set", 1, None, 0, 9),
        ("b", "set", 2, None, 0, 9),
        ("c", "get", 1, 1, 2),
        ("c", "get", 2, 3, 4),
        ("d", "get", 2, 1, 2),
        ("d", "get", 1, 3, 4),
    ),
    "an unanswered write took effect twice": history(
        ("a", "set", 1, UNKNOWN, 0, None), ("b", "get", 1, 1, 2), ("b", "set", 2, None, 3, 4), ("b", "get", 1, 5, 6)
    ),
    "an effect before its call": history(("b", "get", 1, 0, 1), ("a", "set", 1, None, 2, 3)),
}


@pytest.mark.parametrize("name", GOOD)
def test_good_register_histories_pass(name: str) -> None:
    """Histories that an atomic register can produce are accepted."""
    assert linearizable(GOOD[name], Register())


@pytest.mark.parametrize("name", BAD)
def test_bad_register_histories_are_found(name: str) -> None:
    """Histories that no atomic register can produce are refused, with the operation that has no place."""
    judgement = linearizable(BAD[name], Register())
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE
    assert judgement.stuck in BAD[name]
    assert "no place" in str(judgement)


def test_counter_histories() -> None:
    """An addition that counted twice, or not at all, shows."""
    add = ("a", "add", 2, 2, 0, 1)
    assert linearizable(history(add, ("b", "add", 3, 5, 2, 3), ("b", "total", 5, 4, 5)), Count())
    assert not linearizable(history(add, ("b", "add", 3, 7, 2, 3)), Count())
    assert not linearizable(history(add, ("b", "add", 3, 3, 2, 3)), Count())
    assert linearizable(history(("a", "add", 2, UNKNOWN, 0, None), ("b", "add", 3, 5, 2, 3)), Count())
    assert linearizable(history(("a", "add", 2, UNKNOWN, 0, None), ("b", "add", 3, 3, 2, 3)), Count())


def test_bell_histories() -> None:
    """A bell rings once, not early, and has rung when the asking is answered."""
    ring = ("a", "ring", 3, 0, 9)
    assert linearizable(history(ring, ("b", "times", 0, 1, 2), ("b", "times", 1, 3, 4)), Bell())
    assert not linearizable(history(ring, ("b", "times", 1, 1, 2), ("b", "times", 0, 3, 4)), Bell())
    assert not linearizable(history(ring, ("b", "times", 0, 10, 11)), Bell())
    assert not linearizable(history(ring, ("b", "times", 2, 10, 11)), Bell())
    assert not linearizable(history(("a", "ring", -1, 0, 9)), Bell())
    assert linearizable(history(("a", "ring", UNKNOWN, 0, None), ("b", "times", 1, 3, 4)), Bell())


def test_lock_histories() -> None:
    """Two holders, tokens that do not grow, and a release that freed another's lock show."""
    first = ("a", "acquire", 5, 0, 1)
    assert not linearizable(history(first, ("b", "acquire", 6, 2, 3)), Mutex())
    assert linearizable(history(first, ("a", "release", 5, True, 2, 3), ("b", "acquire", 6, 4, 5)), Mutex())
    assert not linearizable(history(first, ("a", "release", 5, True, 2, 3), ("b", "acquire", 5, 4, 5)), Mutex())
    assert linearizable(history(first, ("a", "end", None, 2, 9), ("b", "acquire", 6, 4, 5)), Mutex())
    assert not linearizable(history(first, ("a", "end", None, 6, 9), ("b", "acquire", 6, 4, 5)), Mutex())
    assert not linearizable(history(first, ("b", "release", 5, True, 2, 3)), Mutex())
    assert linearizable(history(first, ("b", "release", 5, False, 2, 3), ("b", "holder", "a", 4, 5)), Mutex())


def test_keys_are_judged_apart() -> None:
    """One bad key among good ones is named."""
    operations = [o._replace(key=f"good {n}") for n, o in enumerate(GOOD["one after the other"]) if o.name == "set"]
    operations += [o._replace(key="bad") for o in BAD["a stale read"]]
    judgement = linearizable(operations, Register())
    assert (judgement.verdict, judgement.key) == (Verdict.NOT_LINEARIZABLE, "bad")


_moves = st.one_of(
    st.tuples(st.just("get"), st.just(())),
    st.tuples(st.just("set"), st.tuples(st.integers(1, 3))),
    st.tuples(st.just("cas"), st.tuples(st.integers(1, 3), st.integers(1, 3))),
)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_agrees_with_the_definition(data: st.DataObject) -> None:
    """On small random histories the search says what trying every order says."""
    operations = []
    for client in range(data.draw(st.integers(1, 5))):
        name, args = data.draw(_moves)
        call = data.draw(st.integers(0, 6))
        if data.draw(st.integers(0, 4)) == 0 and name != "get":
            operations.append(Operation(client, "k", name, args, UNKNOWN, call, None))
            continue
        result: Hashable = None
        if name == "get":
            result = data.draw(st.one_of(st.none(), st.integers(1, 3)))
        elif name == "cas":
            result = data.draw(st.booleans())
        operations.append(Operation(client, "k", name, args, result, call, call + data.draw(st.integers(0, 4))))
    assert bool(linearizable(operations, Register())) == by_permutation(operations, Register())


def run_register(count: int, clients: int, seed: int, stale: bool = False) -> list[Operation]:
    """A history of an atomic register under `clients` concurrent clients; `stale`: one read returns an old value."""
    random_ = random.Random(seed)
    value: Hashable = None
    free = [0] * clients
    operations: list[Operation] = []
    past: list[Hashable] = []
    for _ in range(count):
        client = min(range(clients), key=free.__getitem__)
        call = free[client] + random_.randrange(1, 5)
        end = call + random_.randrange(2, 40)
        free[client] = end
        operations.append(Operation(client, "k", random_.choice(["get", "set", "cas"]), (), None, call, end))
    order = sorted(operations, key=lambda o: random_.uniform(o.call, o.end or 0))
    made = []
    for n, o in enumerate(order):
        if o.name == "get":
            made.append(o._replace(result=value))
        elif o.name == "set":
            past.append(value)
            value = n
            made.append(o._replace(args=(n,)))
        else:
            old = value if random_.random() < 0.5 else -1
            fits = old == value
            made.append(o._replace(args=(old, n), result=fits))
            if fits:
                past.append(value)
                value = n
    if stale:
        at = next(i for i in range(count * 3 // 4, count) if made[i].name == "get")
        made[at] = made[at]._replace(result=past[len(past) // 2])
    return made


def test_long_history_is_judged_in_few_steps() -> None:
    """5,000 operations on one register by ten clients: a search that grows with their number, not with their orders."""
    assert linearizable(run_register(5000, 10, 1), Register(), steps=400_000)


def test_one_stale_read_among_thousands_is_found() -> None:
    """One old value read late in a long history is found."""
    judgement = linearizable(run_register(3000, 5, 2, stale=True), Register())
    assert judgement.verdict is Verdict.NOT_LINEARIZABLE


def test_a_search_that_explodes_is_given_up() -> None:
    """Many unanswered operations make the search long; it ends undecided rather than never."""
    lines: list[tuple[object, ...]] = [(f"w{n}", "set", n, UNKNOWN, 0, None) for n in range(18)]
    lines += [("r", "get", 17 - n % 18, 10 + 2 * n, 11 + 2 * n) for n in range(18)]
    lines += [("r", "get", 99, 100, 101)]
    judgement: Judgement = linearizable(history(*lines), Register(), steps=2000)
    assert judgement.verdict is Verdict.UNDECIDED
    assert not judgement
