"""Which sets decide, and how membership moves by single steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations

import pytest
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import (
    Change,
    ChangeKind,
    Configuration,
    InvalidChange,
    Member,
    Phase,
    Role,
    changed,
    is_quorum,
)

SIZES = range(1, 8)


def voters(size: int) -> frozenset[MemberId]:
    return frozenset(MemberId(i) for i in range(1, size + 1))


def quorums(phase: Phase, members: frozenset[MemberId]) -> list[frozenset[MemberId]]:
    ordered = sorted(members)
    sets = chain.from_iterable(combinations(ordered, n) for n in range(len(ordered) + 1))
    return [frozenset(each) for each in sets if is_quorum(phase, each, members)]


@pytest.mark.parametrize("size", SIZES)
def test_every_phase_1_quorum_meets_every_phase_2_quorum(size: int) -> None:
    """All of them, for all sizes up to seven: this is what safety rests on."""
    accepting = quorums(Phase.ACCEPT, voters(size))
    assert all(one & two for one in quorums(Phase.PREPARE, voters(size)) for two in accepting)


@pytest.mark.parametrize("size", SIZES)
def test_phase_1_quorums_meet_each_other(size: int) -> None:
    """So that a grant, which is given to one leader at a time, excludes a second one."""
    preparing = quorums(Phase.PREPARE, voters(size))
    assert all(one & two for one, two in combinations(preparing, 2))


@pytest.mark.parametrize("size", SIZES)
def test_a_minority_may_fail(size: int) -> None:
    """Any majority is a quorum, and no half is."""
    for phase in Phase:
        counts = {len(each) for each in quorums(phase, voters(size))}
        assert counts == set(range(size // 2 + 1, size + 1))


def test_who_has_no_vote_does_not_count() -> None:
    """Learners and strangers make no quorum, however many; nobody is twice as many."""
    assert not is_quorum(Phase.ACCEPT, map(MemberId, (1, 7, 8, 9)), voters(3))
    assert not is_quorum(Phase.ACCEPT, map(MemberId, (1, 1, 1)), voters(3))
    assert not is_quorum(Phase.ACCEPT, (), voters(3))


def test_nobody_decides_where_there_are_no_voters() -> None:
    """An empty cell chooses nothing."""
    assert not is_quorum(Phase.ACCEPT, (), frozenset())


# ---------------------------------------------------------------- changes


def member(identity: int, role: Role = Role.VOTER) -> Member:
    return Member(MemberId(identity), role, f"tcp:{identity}")


def configurations() -> Iterator[Configuration]:
    """All cells of up to five members, with up to two learners among them."""
    for size in range(1, 6):
        for learners in range(min(3, size)):
            members = [member(i, Role.LEARNER if i > size - learners else Role.VOTER) for i in range(1, size + 1)]
            yield Configuration(Slot(1), tuple(members))


def steps(configuration: Configuration) -> Iterator[Configuration]:
    for kind in ChangeKind:
        for identity in range(1, 7):
            try:
                yield changed(configuration, Change(kind, member(identity)), Slot(2))
            except InvalidChange:
                continue


def test_neighboring_configurations_share_a_member_of_any_two_quorums() -> None:
    """One step moves at most one vote, so that what was chosen before a step is seen by the quorums after it."""
    count = 0
    for before in configurations():
        for after in steps(before):
            assert len(before.voters() ^ after.voters()) <= 1
            old, new = quorums(Phase.ACCEPT, before.voters()), quorums(Phase.PREPARE, after.voters())
            assert all(one & two for one in old for two in new)
            count += 1
    assert count > 100


def test_a_change_is_numbered_by_its_slot_and_leaves_the_others_alone() -> None:
    """The new configuration says where it was chosen."""
    before = Configuration(Slot(1), (member(1), member(2)))
    after = changed(before, Change(ChangeKind.ADD_LEARNER, member(3)), Slot(7))
    assert after.number == 7
    assert after.members[:2] == before.members
    assert after.find(MemberId(3)) == member(3, Role.LEARNER)
    assert after.ids() == {1, 2, 3}
    assert after.voters() == {1, 2}


def test_the_life_of_a_member() -> None:
    """It comes as a learner, votes, ceases to, moves, and goes."""
    cell = Configuration(Slot(0), (member(1),))
    for slot, (kind, roles) in enumerate(
        [
            (ChangeKind.ADD_LEARNER, {1: Role.VOTER, 2: Role.LEARNER}),
            (ChangeKind.PROMOTE, {1: Role.VOTER, 2: Role.VOTER}),
            (ChangeKind.AMEND, {1: Role.VOTER, 2: Role.VOTER}),
            (ChangeKind.DEMOTE, {1: Role.VOTER, 2: Role.LEARNER}),
            (ChangeKind.REMOVE, {1: Role.VOTER}),
        ],
        1,
    ):
        cell = changed(cell, Change(kind, member(2)._replace(peer=f"tcp:{slot}")), Slot(slot))
        assert {m.id: m.role for m in cell.members} == roles
        if kind is ChangeKind.AMEND:
            moved = cell.find(MemberId(2))
            assert moved is not None
            assert moved.peer == "tcp:3"


@pytest.mark.parametrize(
    ("kind", "whom", "why"),
    [
        (ChangeKind.ADD_LEARNER, 1, "already in the cell"),
        (ChangeKind.PROMOTE, 9, "not in the cell"),
        (ChangeKind.PROMOTE, 1, "already votes"),
        (ChangeKind.DEMOTE, 2, "does not vote"),
        (ChangeKind.DEMOTE, 1, "without a voter"),
        (ChangeKind.REMOVE, 1, "without a voter"),
        (ChangeKind.REMOVE, 9, "not in the cell"),
        (ChangeKind.AMEND, 9, "not in the cell"),
    ],
)
def test_what_does_not_fit_is_refused(kind: ChangeKind, whom: int, why: str) -> None:
    """With the reason, and before anything changes."""
    cell = Configuration(Slot(0), (member(1), member(2, Role.LEARNER)))
    with pytest.raises(InvalidChange, match=why):
        changed(cell, Change(kind, member(whom)), Slot(1))
