"""Following a leader: votes, commits, grants."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.following import OWED
from quorate.kernel.paxos.messages import (
    Accept,
    Accepted,
    Chosen,
    Commit,
    Fetch,
    Heartbeat,
    Kind,
    ReadIndex,
    Value,
    Vouched,
)
from quorate.kernel.paxos.ready import AcceptedValue, Promised
from stage import Stage


def value(text: str) -> Value:
    return Value(Kind.COMMANDS, text.encode())


def led(stage: Stage) -> Ballot:
    stage.elect(1)
    return stage.core(1).ballot


def test_a_commit_is_believed_of_votes_of_that_very_ballot() -> None:
    """An older vote in that slot may be for another value: it is fetched instead."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    stage.settle()
    newer = Ballot(5, MemberId(3))
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    stage.send(3, 2, Commit(newer, Slot(2)))
    stage.settle()
    assert stage.core(2).chosen == 1
    (question,) = stage.sent(Fetch)
    assert question.message == Fetch(Slot(2), stage.options.fetch_limit)


def test_what_an_older_leader_told_does_not_vouch_for_a_newer_ones_votes() -> None:
    """A leader that still catches up tells of slots that were chosen under ballots higher than its own, and even
    higher than that of the leader which follows it: whose vote may then be for something that was never chosen."""
    stage = Stage(3)
    led(stage)
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    stage.send(1, 2, Heartbeat(Ballot(5, MemberId(1)), Slot(2), stage.now, 1, Slot(0)))
    stage.send(3, 2, Accept(Ballot(6, MemberId(3)), Slot(2), (value("not chosen"),), Slot(1)))
    stage.settle()
    assert stage.applied(2) == []


def test_only_the_leader_of_the_ballot_can_vouch_for_a_vote() -> None:
    """That a slot is chosen may be heard from anybody; with which value, not."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    stage.send(3, 2, Chosen(Slot(1), (), Slot(2)))
    stage.settle()
    assert stage.core(2).chosen == 1
    stage.send(1, 2, Commit(ballot, Slot(2)))
    assert stage.core(2).chosen == 2


def test_votes_come_in_any_order_and_are_handed_out_in_order() -> None:
    """A commit beyond a hole waits for the hole."""
    stage = Stage(3)
    ballot = led(stage)
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    stage.send(1, 2, Accept(ballot, Slot(3), (value("b"),), Slot(1)))
    stage.send(1, 2, Commit(ballot, Slot(3)))
    stage.settle()
    assert stage.applied(2) == []
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    assert stage.applied(2) == ["a", "b"]


def test_a_repeated_accept_is_written_once_and_answered_again() -> None:
    """The first answer may have been lost."""
    stage = Stage(3)
    ballot = led(stage)
    for _ in range(3):
        stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    records = [record for ready in stage.actors[2].unwritten for record in ready.records]
    assert sum(isinstance(record, AcceptedValue) for record in records) == 1
    stage.actors[2].write()
    assert len(list(stage.sent(Accepted))) == 3


def test_votes_that_become_durable_together_are_reported_together() -> None:
    """Accepts of one turn are answered by one message."""
    stage = Stage(3)
    ballot = led(stage)
    core = stage.core(2)
    for slot in (2, 3, 4, 6):
        letter = Accept(ballot, Slot(slot), (value(str(slot)),), Slot(1))
        core.receive(stage.sender(1), letter, stage.now)
    ready = core.ready()
    answers = [send.message for send in ready.after]
    assert answers == [Accepted(ballot, Slot(2), Slot(4)), Accepted(ballot, Slot(6), Slot(6))]


def test_a_vote_for_a_slot_known_to_be_chosen_is_written_like_any_other() -> None:
    """A new leader proposes again what a member of its quorum has long applied. It counts that member's answer, and
    peers remember that this disk has shown the vote and the ballot: both must survive a restart."""
    stage = Stage(3)
    led(stage)
    stage.propose(1, "a")
    stage.settle()
    assert stage.core(2).chosen == 2
    newer = Ballot(5, MemberId(3))
    stage.send(3, 2, Accept(newer, Slot(2), (value("a"),), Slot(1)))
    stage.settle()
    assert stage.core(2).ballot == newer
    assert stage.actors[2].disk.promised == newer
    assert stage.actors[2].disk.votes[Slot(2)].ballot == newer
    stage.restart(2)
    assert stage.core(2).ballot == newer
    assert stage.core(2).chosen >= 1


def test_a_second_value_for_a_chosen_slot_stops_the_member() -> None:
    """It cannot happen; if it does, this member does not take part."""
    stage = Stage(3)
    led(stage)
    stage.propose(1, "a")
    stage.settle()
    with pytest.raises(AssertionError, match="a second value for a chosen slot"):
        stage.send(3, 2, Accept(Ballot(5, MemberId(3)), Slot(2), (value("b"),), Slot(1)))


def test_a_late_proposal_for_a_slot_that_is_known_to_be_chosen_is_dropped() -> None:
    """A member was told what a higher ballot chose, of which it has heard nothing else, when a proposal of the old
    leader arrives that few others got: it says nothing, and its disk keeps what was chosen. So the next start shows."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(3, 2, Chosen(Slot(2), (value("b"),), Slot(2)))
    stage.send(1, 2, Accept(ballot, Slot(2), (value("late"),), Slot(1)))
    assert not list(stage.sent(Accepted))
    stage.settle()
    assert stage.actors[2].disk.votes[Slot(2)].value == value("b")
    stage.restart(2)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("late"),), Slot(1)))
    stage.settle()
    assert stage.applied(2) == ["b", "b"], "once in each run"


def test_a_leader_that_knows_of_a_second_value_is_no_late_one() -> None:
    """It says itself that the slot is chosen."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(3, 2, Chosen(Slot(2), (value("b"),), Slot(2)))
    with pytest.raises(AssertionError, match="a second value for a chosen slot"):
        stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(2)))


def test_a_vote_on_a_slot_behind_a_snapshot_is_not_written_as_its_value() -> None:
    """What was chosen there is not in memory any more, so it cannot be compared: the promise is written, and the vote
    counts, but if the snapshot is lost the journal must still tell what was chosen."""
    stage = Stage(3, retained=0)
    ballot = led(stage)
    stage.send(3, 2, Chosen(Slot(2), (value("b"),), Slot(2)))
    stage.settle()
    stage.actors[2].compact()
    actor = stage.actors[2]
    stage.send(1, 2, Accept(ballot, Slot(2), (value("late"),), Slot(1)))
    records = [record for ready in actor.unwritten for record in ready.records]
    assert not any(isinstance(record, AcceptedValue) for record in records)
    assert any(isinstance(record, Promised) for record in records)
    stage.settle()


def test_a_second_value_told_for_a_chosen_slot_stops_the_member() -> None:
    """By a member that is asked for other slots."""
    stage = Stage(3)
    led(stage)
    stage.propose(1, "a")
    stage.settle()
    with pytest.raises(AssertionError, match="a second value for a chosen slot"):
        stage.send(3, 2, Chosen(Slot(2), (value("b"),), Slot(2)))


def test_a_lagging_member_does_not_fill_its_memory_with_votes() -> None:
    """Its log stands still while the cell goes on: votes far ahead are declined when they take too much; those next
    to what it knows are always given, so that it can be counted on as soon as it has caught up."""
    stage = Stage(3, ahead=10_000, window=4)
    ballot = led(stage)
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    for slot in range(10, 1000):
        stage.send(1, 2, Accept(ballot, Slot(slot), (value("x" * 500),), Slot(slot - 1)))
    stage.settle()
    assert sum(len(vote.value.payload) for vote in stage.actors[2].disk.votes.values()) < 11_000
    stage.withheld.clear()
    stage.wire.clear()
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"), value("b"), value("c"), value("d"), value("e")), Slot(1)))
    stage.actors[2].write()
    assert [letter.message for letter in stage.sent(Accepted)][-1] == Accepted(ballot, Slot(2), Slot(5))


def test_a_declined_vote_is_not_claimed() -> None:
    """Nothing is said when nothing was accepted."""
    stage = Stage(3, ahead=0, window=4)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    stage.actors[2].write()
    stage.wire.clear()
    stage.send(1, 2, Accept(ballot, Slot(6), (value("x"),), Slot(1)))
    stage.actors[2].write()
    assert not list(stage.sent(Accepted))


def test_a_heartbeat_is_granted_from_its_arrival() -> None:
    """By the follower's clock, whatever the leader's shows."""
    stage = Stage(3)
    ballot = led(stage)
    stage.now += 300_000
    stage.send(1, 2, Heartbeat(ballot, Slot(1), 12345, 9, Slot(0)))
    stage.settle()
    assert stage.core(2).next_tick() >= stage.now + stage.options.lease


def test_a_new_leader_is_followed_and_the_old_one_told() -> None:
    """Whoever comes with a lower ballot learns of the higher one."""
    stage = Stage(3)
    old = led(stage)
    stage.elect(3)
    stage.lines.clear()
    stage.send(1, 2, Heartbeat(old, Slot(1), 0, 1, Slot(0)))
    stage.settle()
    assert stage.core(2).leader == 3
    assert stage.lines[-1] == f"2 -> 1 Refused ballot={old} promised={stage.core(3).ballot}"


# ---------------------------------------------------------------- counting by itself


@pytest.mark.parametrize("order", ["vote first", "word first"])
def test_a_vote_decides_with_the_leaders_when_both_are_durable(order: str) -> None:
    """In whatever order one hears of it."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    if order == "vote first":
        stage.actors[2].write()
    stage.send(1, 2, Vouched(ballot, Slot(2), False))
    if order == "word first":
        assert stage.applied(2) == []
        stage.actors[2].write()
    assert stage.applied(2) == ["a"]


def test_a_vote_that_is_not_durable_decides_nothing() -> None:
    """Nor does the durable one behind it: a slot that came late is written later."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(3), (value("b"),), Slot(1)))
    stage.actors[2].write()
    stage.send(1, 2, Vouched(ballot, Slot(3), False))
    assert stage.applied(2) == []
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    assert stage.applied(2) == []
    stage.actors[2].write()
    assert stage.applied(2) == ["a", "b"]


def test_only_the_slots_vouched_for_are_decided() -> None:
    """The leader's own disk may be the slower one."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"), value("b")), Slot(1)))
    stage.actors[2].write()
    stage.send(1, 2, Vouched(ballot, Slot(2), False))
    assert stage.applied(2) == ["a"]


def test_what_one_leader_vouched_for_says_nothing_of_anothers_values() -> None:
    """Neither of the next leader's, nor of our own when we lead."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Vouched(ballot, Slot(9), False))
    stage.send(3, 2, Accept(Ballot(6, MemberId(3)), Slot(2), (value("a"),), Slot(1)))
    stage.actors[2].write()
    assert stage.applied(2) == []
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Vouched(ballot, Slot(9), False))
    stage.elect(2)
    stage.withhold(lambda letter: isinstance(letter.message, Accepted))
    stage.propose(2, "a")
    stage.settle()
    assert stage.applied(2) == []


def test_a_member_whose_votes_do_not_count_does_not_count_them() -> None:
    """Its disk has lost some."""
    stage = Stage(3)
    ballot = led(stage)
    stage.actors[2].disk.wipe()
    stage.restart(2)
    stage.send(1, 2, Accept(ballot, Slot(1), (value("a"),), Slot(0)))
    stage.send(1, 2, Vouched(ballot, Slot(1), False))
    stage.actors[2].write()
    assert stage.applied(2) == []


def test_what_waits_for_a_disk_that_hangs_does_not_fill_the_memory() -> None:
    """Neither votes nor what is fetched in their place, however long it lasts and however much the others choose."""
    stage = Stage(3, unwritten=3000)
    led(stage)
    stage.stall(2)
    for number in range(50):
        stage.propose(1, str(number) * 500)
        stage.settle()
        stage.pass_time(20)
    core, disk = stage.core(2), stage.actors[2]
    assert core.choked
    assert sum(len(ready.records) for ready in disk.unwritten) < 20
    stage.lines.clear()
    stage.pass_time(1000)
    assert not [line for line in stage.lines if "Fetch" in line]
    stage.resume(2)
    stage.pass_time(500)
    assert not core.choked
    assert stage.applied(2) == stage.applied(1) == [str(number) * 500 for number in range(50)]


def test_an_earlier_vote_on_a_higher_slot_does_not_hide_a_later_one_on_a_lower() -> None:
    """It is the lower one that holds back what may be counted, until it is durable."""
    stage = Stage(3)
    ballot = led(stage)
    for slot in (3, 4, 2):
        stage.send(1, 2, Accept(ballot, Slot(slot), (value(str(slot)),), Slot(1)))
        stage.actors[2].turn()
    stage.send(1, 2, Vouched(ballot, Slot(4), False))
    first, second, third = stage.actors[2].unwritten
    stage.core(2).persisted(first.upto, stage.now)
    stage.core(2).persisted(second.upto, stage.now)
    assert stage.core(2).chosen == 1
    stage.core(2).persisted(third.upto, stage.now)
    assert stage.core(2).chosen == 4


def test_counting_costs_the_same_however_many_votes_wait_for_the_disk() -> None:
    """A disk may hang for long while the others go on."""

    class Unwalked(deque[tuple[int, Slot]]):
        def __iter__(self) -> Iterator[tuple[int, Slot]]:
            raise AssertionError("each vote is looked at")

    stage = Stage(3)
    ballot = led(stage)
    core = stage.core(2)
    core._following._own = Unwalked()
    for slot in range(2, 102):
        core.receive(stage.sender(1), Accept(ballot, Slot(slot), (value(str(slot)),), Slot(slot - 1)), stage.now)
        core.receive(stage.sender(1), Vouched(ballot, Slot(slot), False), stage.now)
    assert core.chosen == 100
    core.persisted(core.ready().upto, stage.now)
    assert core.chosen == 101


# ---------------------------------------------------------------- votes that the leader need not hear of at once


def alone(still: bool = True) -> tuple[Stage, Ballot]:
    """Member 2 has the only clients, and has voted on slot 3. Then, too, it has the only ones: `still`."""
    stage = Stage(3)
    ballot = led(stage)
    stage.send(1, 2, Accept(ballot, Slot(2), (value("a"),), Slot(1)))
    stage.send(1, 2, Vouched(ballot, Slot(2), True))
    stage.settle()
    stage.send(1, 2, Accept(ballot, Slot(3), (value("b"),), Slot(2)))
    stage.actors[2].write()
    stage.send(1, 2, Vouched(ballot, Slot(3), still))
    assert not list(stage.sent(Accepted))
    return stage, ballot


def answers(stage: Stage) -> list[Accepted]:
    stage.actors[2].turn()
    return [letter.message for letter in stage.sent(Accepted)]  # type: ignore[misc]


def test_a_vote_that_nobody_waits_for_goes_with_the_next_words() -> None:
    """The driver says that there are some."""
    stage, ballot = alone()
    stage.core(2).speak()
    assert answers(stage) == [Accepted(ballot, Slot(3), Slot(3))]


def test_who_asks_says_first_what_the_leader_must_know_to_answer() -> None:
    """The leader's answer to a question waits for the votes on all that it vouched for."""
    stage, ballot = alone()
    stage.read(2)
    said = [letter.message for letter in stage.wire if letter.sender.member == 2 and letter.to == 1]
    assert said[0] == Accepted(ballot, Slot(3), Slot(3))
    assert type(said[1]) is ReadIndex


def test_a_vote_that_nobody_waits_for_does_not_wait_for_long() -> None:
    """If there is nothing else to say. Votes on slots in a row are one answer."""
    stage, ballot = alone()
    stage.send(1, 2, Accept(ballot, Slot(4), (value("c"),), Slot(2)))
    stage.actors[2].write()
    assert stage.core(2).next_tick() == stage.now + OWED
    stage.now += OWED
    stage.tick(2)
    assert answers(stage) == [Accepted(ballot, Slot(3), Slot(4))]


def test_a_vote_is_never_told_before_it_is_durable() -> None:
    """Be it that the driver speaks."""
    stage, ballot = alone()
    stage.send(1, 2, Accept(ballot, Slot(4), (value("c"),), Slot(2)))
    stage.core(2).speak()
    assert answers(stage) == []
    stage.actors[2].write()
    assert answers(stage) == [Accepted(ballot, Slot(3), Slot(4))]


def test_a_repeated_accept_is_answered_at_once() -> None:
    """The leader misses the vote."""
    stage, ballot = alone()
    stage.send(1, 2, Accept(ballot, Slot(3), (value("b"),), Slot(2)))
    stage.actors[2].write()
    assert Accepted(ballot, Slot(3), Slot(3)) in answers(stage)


def test_with_company_votes_are_told_at_once() -> None:
    """Those that waited with them."""
    stage, ballot = alone(still=False)
    stage.send(1, 2, Accept(ballot, Slot(4), (value("c"),), Slot(2)))
    stage.actors[2].write()
    assert answers(stage) == [Accepted(ballot, Slot(3), Slot(4))]


def test_votes_are_held_back_only_as_long_as_the_leader_goes_on_to_say_that_nobody_else_waits() -> None:
    """When its clients are gone it is not vouched for any more, and it is not told of others either."""
    stage = Stage(3)
    led(stage)
    stage.core(1).hurry(frozenset({MemberId(2)}))
    for text in "ab":
        stage.propose(1, text)
        stage.settle()
    stage.core(1).hurry(frozenset({MemberId(1)}))  # the next vote may still be held back
    for text in "cd":
        stage.propose(1, text)
        stage.settle()
    assert stage.applied(1) == list("abcd")
