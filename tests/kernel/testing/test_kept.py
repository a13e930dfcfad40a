"""What disks were told to keep: the checks see what they must see, and nothing else."""

from __future__ import annotations

from random import Random

import pytest
from quorate.kernel.paxos.ballot import DECIDED, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import AcceptedValue, DurableState, KnownChosen, Promised
from quorate.kernel.testing.checkers import Watch
from quorate.kernel.testing.kept import Disks
from quorate.kernel.testing.process import Disk
from quorate.kernel.testing.violation import Violation

ONE, TWO = Ballot(1, MemberId(1)), Ballot(2, MemberId(2))
X, Y = Value(Kind.COMMANDS, b"x"), Value(Kind.COMMANDS, b"y")


def disk(member: int = 1) -> Disk:
    return Disk(member, bytes(16), Random(1), 200)


def state(promised: Ballot, *votes: AcceptedValue, chosen: int = 0, **rest: object) -> DurableState:
    configuration = Configuration(Slot(0), ())
    return DurableState(promised, votes, Slot(chosen), Slot(0), configuration)._replace(**rest)  # type: ignore[arg-type]


def test_a_promise_binds_a_disk() -> None:
    """A vote or a promise below a promise is seen; one as high is none, and neither is what was learned as chosen."""
    disks, one = Disks(), disk()
    disks.durable(one, [Promised(TWO), AcceptedValue(TWO, Slot(1), X), AcceptedValue(DECIDED, Slot(2), Y)])
    disks.durable(one, [AcceptedValue(TWO, Slot(3), X), KnownChosen(Slot(1))])
    for record in (Promised(ONE), AcceptedValue(ONE, Slot(4), X)):
        with pytest.raises(Violation, match=r"votes: .* had promised 2\.2"):
            disks.durable(one, [record])


def test_a_ballot_has_one_value_for_a_slot() -> None:
    """Two disks with two values for a slot in one ballot are seen; in two ballots they may have them."""
    disks, one, two = Disks(), disk(), disk()
    disks.durable(one, [AcceptedValue(ONE, Slot(1), X)])
    disks.durable(two, [AcceptedValue(TWO, Slot(1), Y)])
    assert disks.votes(1) == {(ONE, X): {one}, (TWO, Y): {two}}
    with pytest.raises(Violation, match=r"votes: slot 1 has votes for two values in ballot 1\.1"):
        disks.durable(disk(), [AcceptedValue(ONE, Slot(1), Y)])


def test_a_member_starts_with_all_that_it_was_told_to_keep() -> None:
    """A promise, a vote, or a later vote on its slot that is missing at a start is seen."""
    disks, one = Disks(), disk()
    first, second = AcceptedValue(ONE, Slot(1), X), AcceptedValue(TWO, Slot(1), Y)
    disks.durable(one, [first, second, Promised(Ballot(3, MemberId(1)))])
    disks.found(one, state(Ballot(3, MemberId(1)), second))
    with pytest.raises(Violation, match=r"memory: .* promise of 2\.2, not 3\.1"):
        disks.found(one, state(TWO, second))
    for votes, words in (((), "none"), ((first,), "one of 1.1"), ((second._replace(value=X),), "one of 2.2")):
        with pytest.raises(Violation, match=f"memory: .* {words} of its votes on slot 1"):
            disks.found(one, state(Ballot(3, MemberId(1)), *votes))


def test_a_member_may_know_what_it_lost() -> None:
    """What is missing and known to be, or chosen anyhow, is no violation; another disk has nothing to remember."""
    disks, one = Disks(), disk()
    disks.durable(one, [AcceptedValue(TWO, Slot(1), X)])
    disks.found(one, state(ONE, intact=False))
    disks.found(one, state(TWO, damaged=frozenset({Slot(1)}), chosen=0))
    disks.found(one, state(TWO, chosen=1))
    disks.found(disk(), state(Ballot(0, MemberId(0))))


def test_a_vote_counts_although_its_disk_is_lost_since() -> None:
    """What a majority had on its disks is chosen, whoever loses a disk before it is applied; a minority's is not."""
    voters = Configuration(Slot(0), tuple(Member(MemberId(n), Role.VOTER, "") for n in (1, 2, 3)))
    watch = Watch(voters, list)  # no machine has these disks any more
    watch.durable(disk(1), [AcceptedValue(ONE, Slot(1), X)])
    watch.durable(disk(2), [AcceptedValue(ONE, Slot(1), X)])
    watch.chosen(3, 1, X)
    watch.durable(disk(2), [AcceptedValue(ONE, Slot(2), Y)])
    with pytest.raises(Violation, match="no majority"):
        watch.chosen(3, 2, Y)
