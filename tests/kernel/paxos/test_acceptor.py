"""Votes, promises and grants of one acceptor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.acceptor import Acceptor
from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT, NO_SLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.ready import AcceptedValue

LEASE = 400


def ballot(round_: int, member: int) -> Ballot:
    return Ballot(round_, MemberId(member))


def value(text: str) -> Value:
    return Value(Kind.COMMANDS, text.encode())


def acceptor(silent_until: int = 0) -> Acceptor:
    return Acceptor(NO_BALLOT, (), silent_until, True, NO_SLOT)


def test_a_vote_raises_the_promise() -> None:
    """Accepting under a ballot promises it, too."""
    one = acceptor()
    assert one.accept(ballot(3, 1), Slot(1), value("a"))
    assert one.promised == ballot(3, 1)
    with pytest.raises(AssertionError, match="below the promise"):
        one.accept(ballot(2, 2), Slot(2), value("b"))


def test_the_promise_never_goes_down() -> None:
    """A lower or an equal promise is a mistake of the caller."""
    one = acceptor()
    one.promise(ballot(3, 1))
    for lower in (ballot(2, 2), ballot(3, 1)):
        with pytest.raises(AssertionError, match="never goes down"):
            one.promise(lower)
    one.promise(ballot(3, 2))


def test_the_same_vote_again_is_no_news() -> None:
    """A repeated accept needs no second write; a vote of a higher ballot replaces the lower one."""
    one = acceptor()
    assert one.accept(ballot(1, 1), Slot(1), value("a"))
    assert not one.accept(ballot(1, 1), Slot(1), value("a"))
    assert one.accept(ballot(2, 2), Slot(1), value("b"))
    assert [vote.value for vote in one.open_votes(Slot(1))] == [value("b")]


def test_two_values_in_one_ballot_are_a_broken_proposer() -> None:
    """The core stops rather than take part in that."""
    one = acceptor()
    one.accept(ballot(1, 1), Slot(1), value("a"))
    with pytest.raises(AssertionError, match="two values in ballot"):
        one.accept(ballot(1, 1), Slot(1), value("b"))


def test_a_value_learned_as_chosen_is_not_replaced() -> None:
    """Another value for a slot that the disk knows to be chosen is a broken proposer."""
    one = Acceptor(NO_BALLOT, [AcceptedValue(DECIDED, Slot(1), value("a"))], 0, True, NO_SLOT)
    with pytest.raises(AssertionError, match="a second value"):
        one.accept(ballot(1, 1), Slot(1), value("b"))
    assert one.accept(ballot(1, 1), Slot(1), value("a"))


def test_a_vote_above_the_promise_is_a_damaged_start() -> None:
    """What the disk holds must fit together."""
    with pytest.raises(AssertionError, match="a vote above the promise"):
        Acceptor(ballot(1, 1), [AcceptedValue(ballot(2, 2), Slot(1), value("a"))], 0, True, NO_SLOT)


def test_open_votes_come_in_order_of_slots() -> None:
    """However they were given."""
    one = acceptor()
    for slot in (3, 1, 2):
        one.accept(ballot(1, 1), Slot(slot), value(str(slot)))
    assert [vote.slot for vote in one.open_votes(Slot(2))] == [2, 3]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=60))
def test_size_is_what_the_votes_take(steps: list[tuple[bool, int]]) -> None:
    """Whatever is accepted and forgotten, in whatever order, the account of memory is right."""
    one = acceptor()
    for round_, (accept, slot) in enumerate(steps, 1):
        if accept:
            one.accept(ballot(round_, 1), Slot(slot), value("x" * slot))
        else:
            one.forget(Slot(slot))
    held = [AcceptedValue(vote.ballot, vote.slot, vote.value) for vote in one.votes.values()]
    fresh = Acceptor(one.promised, held, 0, True, NO_SLOT)
    assert one.size == fresh.size


def test_forgetting_far_ahead_takes_no_longer_than_there_are_votes() -> None:
    """Behind a snapshot of a billion slots there is nothing to count through."""
    one = acceptor()
    one.accept(ballot(1, 1), Slot(5), value("a"))
    one.accept(ballot(1, 1), Slot(10**15), value("b"))
    one.forget(Slot(10**15 - 1))
    assert [vote.slot for vote in one.open_votes(Slot(1))] == [10**15]


# ---------------------------------------------------------------- leases


def test_a_grant_binds_against_everybody_else() -> None:
    """Until it ends no other member is helped; its holder is."""
    one = acceptor()
    one.grant(ballot(1, 1), 1000, LEASE)
    assert one.bound(ballot(9, 2), NO_BALLOT, 1000 + LEASE - 1)
    assert not one.bound(ballot(9, 1), NO_BALLOT, 1000)
    assert not one.bound(ballot(9, 2), NO_BALLOT, 1000 + LEASE)


def test_only_the_holder_can_waive_its_grant() -> None:
    """A waiver names the ballot that gave up; it opens no grant of another."""
    one = acceptor()
    one.grant(ballot(2, 1), 0, LEASE)
    assert not one.bound(ballot(3, 2), ballot(2, 1), 10)
    assert one.bound(ballot(3, 2), ballot(1, 1), 10)


def test_after_a_restart_nobody_is_helped_for_a_lease() -> None:
    """A grant that was forgotten binds all the same: not even its likely holder is helped, nor a waiver honored."""
    one = acceptor(silent_until=500)
    assert one.bound(ballot(9, 1), ballot(8, 2), 499)
    assert not one.bound(ballot(9, 1), NO_BALLOT, 500)


def test_grants_never_go_back() -> None:
    """Not to a lower ballot, and not to an earlier end."""
    one = acceptor()
    one.grant(ballot(2, 1), 1000, LEASE)
    one.grant(ballot(3, 2), 900, LEASE)
    assert one.granted_until == 1000 + LEASE
    with pytest.raises(AssertionError, match="below one granted before"):
        one.grant(ballot(2, 1), 2000, LEASE)


def test_a_grant_does_not_contradict_the_promise() -> None:
    """Who promised a higher ballot supports no lower leader."""
    one = acceptor()
    one.promise(ballot(5, 2))
    with pytest.raises(AssertionError, match="below the promise"):
        one.grant(ballot(4, 1), 0, LEASE)


def test_only_a_whole_acceptor_helps() -> None:
    """Lost votes forbid it for ever; damaged slots until the log is known again that far."""
    assert not Acceptor(NO_BALLOT, (), 0, False, NO_SLOT).whole(Slot(100))
    healing = Acceptor(NO_BALLOT, (), 0, True, Slot(7))
    assert not healing.whole(Slot(6))
    assert healing.whole(Slot(7))
