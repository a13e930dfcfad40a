"""Who belongs to the cell."""

from __future__ import annotations

from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.roster import Roster


def cell(number: int, *voters: int, learners: tuple[int, ...] = ()) -> Configuration:
    members = [Member(MemberId(i), Role.VOTER, "") for i in voters]
    members += [Member(MemberId(i), Role.LEARNER, "") for i in learners]
    return Configuration(Slot(number), tuple(members))


def test_the_others_are_all_but_this_member() -> None:
    """In order of id, learners included."""
    roster = Roster(MemberId(2), cell(0, 3, 2, 1, learners=(9, 4)))
    assert roster.others == [1, 3, 4, 9]
    assert roster.voters == {1, 2, 3}
    assert roster.votes()


def test_a_member_may_have_no_vote_or_no_place() -> None:
    """A learner, and one that was removed."""
    roster = Roster(MemberId(4), cell(0, 1, 2, 3, learners=(4,)))
    assert not roster.votes()
    roster.adopt(cell(5, 1, 2, 3))
    assert not roster.votes()
    assert roster.others == [1, 2, 3]


def test_a_stranger_is_one_by_a_configuration_that_is_not_the_older_one() -> None:
    """Who was removed is a stranger; who was added since we last heard is not."""
    roster = Roster(MemberId(1), cell(5, 1, 2, 3))
    assert roster.stranger(MemberId(4), Slot(4))
    assert roster.stranger(MemberId(4), Slot(5))
    assert not roster.stranger(MemberId(4), Slot(6))
    assert not roster.stranger(MemberId(2), Slot(0))
