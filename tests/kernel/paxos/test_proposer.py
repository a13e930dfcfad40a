"""Phase 1 over the open suffix, phase 2 in flight."""

from __future__ import annotations

from itertools import combinations
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import NO_SLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import NOOP, Kind, Promise, Value, Vote
from quorate.kernel.paxos.proposer import Preparation, Proposer, value_parts, vote_parts

THREE = frozenset(map(MemberId, (1, 2, 3)))
MINE = Ballot(9, MemberId(1))


def value(text: str) -> Value:
    return Value(Kind.COMMANDS, text.encode())


def vote(slot: int, round_: int, text: str) -> Vote:
    return Vote(Slot(slot), Ballot(round_, MemberId(2)), value(text))


def promise(*votes: Vote, chosen: int = 0, part: int = 0, parts: int = 1) -> Promise:
    return Promise(MINE, Slot(1), votes, Slot(chosen), NO_SLOT, part, parts)


def preparation() -> Preparation:
    return Preparation(MINE, Slot(1), THREE)


# ---------------------------------------------------------------- phase 1


def test_the_value_of_the_highest_ballot_is_proposed() -> None:
    """Any other choice, whoever reports first, may contradict what is chosen."""
    for order in ((1, 2), (2, 1)):
        phase = preparation()
        answers = {1: promise(vote(1, 3, "old")), 2: promise(vote(1, 5, "new"))}
        for member in order:
            phase.promised(MemberId(member), answers[member])
        assert phase.complete()
        assert phase.open_values(NO_SLOT) == [value("new")]


def test_gaps_are_filled_with_nothing() -> None:
    """A slot without votes below the highest reported one gets a no-op; there is none above."""
    phase = preparation()
    phase.promised(MemberId(1), promise(vote(4, 1, "d")))
    phase.promised(MemberId(2), promise(vote(2, 1, "b")))
    assert phase.open_values(NO_SLOT) == [NOOP, value("b"), NOOP, value("d")]
    assert phase.open_values(Slot(2)) == [NOOP, value("d")]
    assert phase.open_values(Slot(4)) == []


def test_a_quorum_of_whole_promises_is_needed() -> None:
    """A part of a promise is none: the votes that matter may be in the other part."""
    phase = preparation()
    phase.promised(MemberId(1), promise())
    phase.promised(MemberId(2), promise(vote(1, 1, "a"), part=0, parts=2))
    assert not phase.complete()
    phase.promised(MemberId(2), promise(vote(2, 1, "b"), part=1, parts=2))
    assert phase.complete()
    assert phase.open_values(NO_SLOT) == [value("a"), value("b")]


def test_who_has_not_answered_whole_is_asked_again() -> None:
    """A part of an answer may be lost like the whole."""
    phase = preparation()
    phase.promised(MemberId(1), promise())
    phase.promised(MemberId(2), promise(vote(1, 1, "a"), part=0, parts=2))
    assert phase.silent() == [2, 3]


def test_strangers_do_not_count() -> None:
    """Only voters make a quorum."""
    phase = preparation()
    phase.promised(MemberId(1), promise())
    phase.promised(MemberId(8), promise())
    assert not phase.complete()


def test_parts_of_two_answers_are_not_mixed() -> None:
    """An acceptor asked twice may have learned more in between and cut its votes differently: half of each answer is
    no answer, though the parts add up."""
    phase = preparation()
    phase.promised(MemberId(1), promise())
    phase.promised(MemberId(2), promise(vote(1, 1, "a"), vote(2, 1, "b"), part=0, parts=3))
    phase.promised(MemberId(2), promise(vote(5, 1, "e"), chosen=2, part=1, parts=2))
    assert not phase.complete()
    phase.promised(MemberId(2), promise(vote(3, 1, "c"), part=1, parts=3))  # of the first answer: too late
    assert not phase.complete()
    phase.promised(MemberId(2), promise(vote(3, 1, "c"), vote(4, 1, "d"), chosen=2, part=0, parts=2))
    assert phase.complete()
    assert phase.base() == (Slot(2), MemberId(2))
    assert phase.open_values(Slot(2)) == [value("c"), value("d"), value("e")]


def test_a_repeated_promise_changes_nothing() -> None:
    """Duplicates are harmless."""
    phase = preparation()
    for _ in range(3):
        phase.promised(MemberId(2), promise(vote(1, 1, "a")))
    assert not phase.complete()


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[dict[int, Vote]], list[tuple[Slot, Value]]]:
    """Votes of three or five acceptors after some ballots of textbook Paxos over four slots, and what was chosen."""
    size = draw(st.sampled_from((3, 5)))
    random = Random(draw(st.integers(0, 2**32)))
    votes: list[dict[int, Vote]] = [{} for _ in range(size)]
    promised = [0] * size
    counts: dict[tuple[int, int], int] = {}
    chosen: dict[int, Value] = {}
    for round_ in range(1, draw(st.integers(1, 6)) + 1):
        quorum = random.sample(range(size), size // 2 + 1)
        for member in quorum:
            promised[member] = round_
        for slot in range(1, 5):
            reported = [votes[m][slot] for m in quorum if slot in votes[m]]
            best = max(reported, key=lambda v: v.ballot, default=None)
            proposed = best.value if best is not None else value(f"{round_}/{slot}")
            for member in range(size):
                if random.random() < 0.4 and promised[member] <= round_:
                    promised[member] = round_
                    votes[member][slot] = Vote(Slot(slot), Ballot(round_, MemberId(1)), proposed)
                    counts[round_, slot] = counts.get((round_, slot), 0) + 1
            if counts.get((round_, slot), 0) > size // 2:
                assert chosen.setdefault(slot, proposed) == proposed
    return votes, [(Slot(slot), chosen[slot]) for slot in sorted(chosen)]


@given(histories())
def test_whatever_is_chosen_is_found_by_every_quorum(
    history: tuple[list[dict[int, Vote]], list[tuple[Slot, Value]]],
) -> None:
    """After any history of correct ballots, any quorum of promises leads to the chosen values."""
    votes, chosen = history
    members = [MemberId(i + 1) for i in range(len(votes))]
    for quorum in combinations(members, len(members) // 2 + 1):
        phase = Preparation(MINE, Slot(1), frozenset(members))
        for member in quorum:
            phase.promised(member, promise(*votes[member - 1].values()))
        assert phase.complete()
        values = phase.open_values(NO_SLOT)
        for slot, expected in chosen:
            assert values[slot - 1] == expected


# ---------------------------------------------------------------- phase 2


def flight(*texts: str) -> Proposer:
    proposer = Proposer(MINE, Slot(10), THREE, patience=100)
    for text in texts:
        proposer.propose(value(text), 0)
    return proposer


def test_values_are_handed_out_in_order() -> None:
    """A slot chosen early waits for those before it."""
    proposer = flight("a", "b", "c")
    for member in (1, 2):
        proposer.accepted(MemberId(member), Slot(12), Slot(13))
    assert not list(proposer.take_chosen())
    for member in (1, 3):
        proposer.accepted(MemberId(member), Slot(11), Slot(11))
    assert [p.slot for p in proposer.take_chosen()] == [11, 12, 13]
    assert not proposer.in_flight


def test_duplicates_strangers_and_absurd_ranges_choose_nothing() -> None:
    """One member counts once, and only slots in flight count."""
    proposer = flight("a")
    for _ in range(3):
        proposer.accepted(MemberId(2), Slot(1), Slot(10**18))
    proposer.accepted(MemberId(7), Slot(11), Slot(11))
    proposer.accepted(MemberId(3), Slot(12), Slot(11))
    assert not list(proposer.take_chosen())
    proposer.accepted(MemberId(3), Slot(11), Slot(11))
    assert [p.slot for p in proposer.take_chosen()] == [11]
    proposer.accepted(MemberId(1), Slot(11), Slot(11))  # long chosen
    assert not list(proposer.take_chosen())


def test_what_a_member_did_not_accept_is_sent_again_with_pauses_that_grow_and_end() -> None:
    """Each member on its own account: one that never answers does not starve the others, nor drown in repetitions."""
    proposer = flight("a", "b")
    proposer.accepted(MemberId(2), Slot(11), Slot(11))
    assert proposer.lost(MemberId(3), 99) == []
    assert [p.slot for p in proposer.lost(MemberId(3), 100)] == [11, 12]
    assert [p.slot for p in proposer.lost(MemberId(2), 100)] == [12]
    times = [now for now in range(101, 10_000) if proposer.lost(MemberId(3), now)]
    assert times[:6] == [200, 400, 800, 1200, 1600, 2000]
    proposer.accepted(MemberId(3), Slot(11), Slot(11))
    assert [p.slot for p in proposer.lost(MemberId(3), times[-1] + 1)] == [12]


@given(st.lists(st.integers(0, 400), max_size=20), st.integers(1, 600))
def test_parts_hold_everything_in_order_and_fit(sizes: list[int], limit: int) -> None:
    """No part is empty, and only a value that is too large by itself makes a part too large."""
    values = [value("x" * size) for size in sizes]
    parts = value_parts(values, limit)
    assert [each for part in parts for each in part] == values
    assert all(part for part in parts)
    assert all(len(part) == 1 or sum(len(each.payload) for each in part) <= limit for part in parts)
    votes = [Vote(Slot(i), MINE, each) for i, each in enumerate(values)]
    assert [each for part in vote_parts(votes, limit) for each in part] == votes
    assert vote_parts([], limit) == [()]
