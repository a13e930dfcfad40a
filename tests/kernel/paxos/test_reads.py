"""Linearizable reads: by lease, by a round of heartbeats, through the leader; and who must wait."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import NO_SLOT, MemberId, Slot
from quorate.kernel.paxos.effects import Effects
from quorate.kernel.paxos.lease import Lease
from quorate.kernel.paxos.messages import Accept, Accepted, Beaten, Heartbeat, ReadGranted, ReadIndex
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.reads import AskedReads, OwedReads
from quorate.kernel.paxos.ready import ReadResult, Send
from quorate.kernel.paxos.roster import Roster
from stage import Letter, Stage

ONE, TWO, THREE = map(MemberId, (1, 2, 3))


def effects() -> Effects:
    members = tuple(Member(MemberId(i), Role.VOTER, f"tcp:{i}") for i in (1, 2, 3))
    return Effects(Roster(ONE, Configuration(Slot(0), members)), 10_000)


def reads(stage: Stage, member: int) -> dict[int, Slot | None]:
    return stage.actors[member].reads


# ---------------------------------------------------------------- the leader's side


def test_reads_wait_for_the_round_that_began_after_them() -> None:
    """Rounds confirmed in order release the reads in order; the lease releases all."""
    out = effects()
    owed = OwedReads(ONE, out)
    lease = Lease(ONE, frozenset((ONE, TWO, THREE)), 400, 0, 0)
    lease.send(0)
    owed.wait(ONE, 7, 2, NO_SLOT, False)
    owed.wait(TWO, 8, 2, NO_SLOT, False)
    owed.wait(ONE, 9, 3, NO_SLOT, False)
    lease.answer(TWO, 0, 1)
    owed.grant(Slot(5), lease, held=False)
    assert not out.results
    lease.send(1)
    lease.answer(TWO, 1, 2)
    owed.grant(Slot(6), lease, held=False)
    assert out.results == [ReadResult(7, Slot(6))]
    assert out.messages == [Send(TWO, ReadGranted(8, Slot(6)))]
    owed.grant(Slot(7), lease, held=True)
    assert out.results[1:] == [ReadResult(9, Slot(7))]
    assert not owed


def test_reads_by_round_wait_for_one_under_the_lease_too() -> None:
    """They rely on no clock. Others that wait behind them wait with them."""
    out = effects()
    owed = OwedReads(ONE, out)
    lease = Lease(ONE, frozenset((ONE, TWO, THREE)), 400, 0, 0)
    owed.wait(ONE, 7, 1, NO_SLOT, True)
    owed.wait(ONE, 8, 1, NO_SLOT, False)
    lease.send(0)
    owed.grant(Slot(5), lease, held=True)
    assert not out.results
    lease.answer(TWO, 0, 1)
    owed.grant(Slot(5), lease, held=True)
    assert out.results == [ReadResult(7, Slot(5)), ReadResult(8, Slot(5))]


def test_a_repeated_question_waits_once() -> None:
    """However often an impatient follower asks, the leader remembers one question, and the first one's round."""
    out = effects()
    owed = OwedReads(ONE, out)
    lease = Lease(ONE, frozenset((ONE, TWO, THREE)), 400, 0, 0)
    for round_ in range(1, 1000):
        owed.wait(TWO, 8, round_, NO_SLOT, False)
    lease.send(0)
    lease.answer(TWO, 0, 1)
    owed.grant(Slot(6), lease, held=False)
    assert out.messages == [Send(TWO, ReadGranted(8, Slot(6)))]
    assert not owed


def test_a_lost_leadership_fails_its_own_reads() -> None:
    """Others notice by themselves."""
    out = effects()
    owed = OwedReads(ONE, out)
    owed.wait(ONE, 7, 1, NO_SLOT, False)
    owed.wait(TWO, 8, 1, NO_SLOT, False)
    owed.give_up()
    assert out.results == [ReadResult(7, None)]
    assert not out.messages


# ---------------------------------------------------------------- the follower's side


def test_reads_of_a_turn_share_a_question() -> None:
    """One message for all that gathered; the next turn's reads need a question of their own."""
    out = effects()
    asked = AskedReads(1, 100, out)
    asked.gather(7, False, 0)
    asked.gather(8, False, 0)
    asked.ask(TWO)
    asked.gather(9, False, 1)
    asked.ask(TWO)
    asked.ask(TWO)
    first, second = (send.message.context for send in out.messages if isinstance(send.message, ReadIndex))
    asked.granted(second, Slot(5))
    asked.granted(second, Slot(6))  # a duplicate
    assert out.results == [ReadResult(9, Slot(5))]
    asked.granted(first, Slot(4))
    assert out.results[1:] == [ReadResult(7, Slot(4)), ReadResult(8, Slot(4))]
    assert asked.due() is None


def test_each_kind_of_read_has_its_question() -> None:
    """What relies on no clock is asked so, also again."""
    out = effects()
    asked = AskedReads(1, 100, out)
    for context, by_round in ((7, True), (8, False), (9, True)):
        asked.gather(context, by_round, 0)
    asked.ask(TWO)
    by_lease, by_round = (send.message for send in out.messages if isinstance(send.message, ReadIndex))
    assert (by_lease.by_round, by_round.by_round) == (False, True)
    asked.granted(by_lease.context, Slot(4))
    asked.tick(TWO, 100)
    assert out.messages[2:] == [Send(TWO, by_round)]
    asked.granted(by_round.context, Slot(5))
    assert out.results == [ReadResult(8, Slot(4)), ReadResult(7, Slot(5)), ReadResult(9, Slot(5))]


def test_open_questions_cost_nothing_until_one_is_to_be_repeated() -> None:
    """Many are open where the leader is far away, and each turn looks when the next is due."""

    class Glimpsed(dict[int, Any]):
        def values(self) -> Any:
            return glimpse(super().values())

        def items(self) -> Any:
            return glimpse(super().items())

    def glimpse(all_: Iterable[Any]) -> Iterator[Any]:
        yield next(iter(all_))
        raise AssertionError("each question is looked at")

    out = effects()
    asked = AskedReads(1, 100, out)
    asked.questions = Glimpsed()
    for now in range(50):
        asked.gather(now, False, now)
        asked.ask(TWO)
    out.messages.clear()
    assert asked.due() == 100
    asked.tick(TWO, 101)
    assert len(out.messages) == 2
    assert asked.due() == 102


def test_an_unanswered_question_is_repeated_not_multiplied() -> None:
    """The same one again, when it is due."""
    out = effects()
    asked = AskedReads(1, 100, out)
    asked.gather(7, False, 5)
    asked.ask(TWO)
    asked.tick(TWO, 104)
    assert len(out.messages) == 1
    assert asked.due() == 105
    asked.tick(TWO, 105)
    assert out.messages[0] == out.messages[1]
    assert asked.due() == 205


def test_reads_of_another_run_are_other_reads() -> None:
    """A question's number is never used again by a later run of the process, whose reads begin later."""
    numbers = []
    for incarnation in (1, 2):
        out = effects()
        asked = AskedReads(incarnation, 100, out)
        asked.gather(7, False, 0)
        asked.ask(TWO)
        numbers += [send.message.context for send in out.messages if isinstance(send.message, ReadIndex)]
    assert len(set(numbers)) == 2


def test_a_lost_leader_fails_the_reads() -> None:
    """Gathered ones, too."""
    out = effects()
    asked = AskedReads(1, 100, out)
    asked.gather(7, False, 0)
    asked.ask(TWO)
    asked.gather(8, False, 0)
    asked.give_up()
    assert out.results == [ReadResult(7, None), ReadResult(8, None)]
    assert asked.due() is None


# ---------------------------------------------------------------- on stage


def test_under_the_lease_the_leader_answers_at_once() -> None:
    """No message is sent."""
    stage = Stage(3)
    stage.elect(1)
    stage.propose(1, "a")
    stage.settle()
    stage.lines.clear()
    stage.read(1)
    assert reads(stage, 1) == {1: 2}
    stage.settle()
    assert not stage.lines


@pytest.mark.parametrize("reader", [1, 3])
def test_a_read_by_round_takes_one_under_the_lease(reader: int) -> None:
    """At the leader and elsewhere; it begins at once."""
    stage = Stage(3)
    stage.elect(1)
    stage.propose(1, "a")
    stage.settle()
    assert stage.core(1).lease_left(stage.now) > 0
    stage.withhold(lambda letter: isinstance(letter.message, Beaten))
    stage.read(reader, by_round=True)
    stage.settle()
    stage.tick(1)
    stage.settle()
    assert reads(stage, reader) == {}
    stage.release()
    stage.settle()
    assert reads(stage, reader) == {1: 2}


def test_where_clocks_are_not_trusted_every_read_takes_a_round() -> None:
    """One that began after the read: the answer to an earlier one, however late it comes, proves nothing."""
    stage = Stage(3, drift_ppm=1_000_000)
    stage.elect(1)
    assert stage.core(1).lease_left(stage.now) == 0
    stage.withhold(lambda letter: isinstance(letter.message, Beaten))
    stage.pass_time(60)
    stage.read(1)
    late = list(stage.sent(Beaten))
    assert late
    stage.lose()
    stage.withhold(lambda letter: isinstance(letter.message, Heartbeat))
    for letter in late:
        stage.deliver(letter)
    stage.tick(1)
    stage.settle()
    assert reads(stage, 1) == {}
    stage.release()
    stage.settle()
    assert reads(stage, 1) == {1: 1}


def test_a_deposed_leader_answers_no_read() -> None:
    """Its round is refused, or not answered by a quorum."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(1)
    stage.pass_time(30)
    stage.elect(2)
    stage.propose(2, "new")
    stage.settle()
    stage.read(1)
    stage.settle()
    assert reads(stage, 1) == {}
    stage.heal()
    stage.pass_time(100)
    assert reads(stage, 1) == {1: None}


def test_reads_at_a_leader_that_does_not_serve_yet_wait() -> None:
    """Its commit index may be behind what its predecessor answered for; when it serves they are answered at once."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(3)
    stage.withhold(lambda letter: letter.to == 2 and not isinstance(letter.message, Accept))
    stage.propose(1, "a")
    stage.settle()  # chosen; only 1 knows, and only 2 has the other vote
    assert stage.applied(2) == []
    stage.crash(1)
    stage.lose()
    stage.heal()
    stage.now += 1_000_000
    stage.withhold(lambda letter: isinstance(letter.message, Accepted))
    stage.tick(2)
    stage.settle()
    assert stage.core(2).leader == 2
    assert not stage.core(2).serving
    stage.read(2, 1)
    stage.read(3, 1)
    stage.pass_time(200)
    assert reads(stage, 2) == reads(stage, 3) == {}
    stage.release()
    stage.settle()
    assert reads(stage, 2) == reads(stage, 3) == {1: 3}
    assert stage.applied(2) == ["a"]


def test_a_follower_asks_the_leader() -> None:
    """And may answer when it has applied so far."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: letter.to == 3 and isinstance(letter.message, Accept))
    stage.propose(1, "a")
    stage.settle()
    stage.read(3)
    stage.settle()
    assert reads(stage, 3) == {1: 2}


def test_a_lost_question_is_asked_again() -> None:
    """After two heartbeats."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, ReadIndex))
    stage.read(3)
    stage.settle()
    stage.lose()
    stage.pass_time(110)
    assert reads(stage, 3) == {1: 1}


def test_a_read_without_a_leader_fails_at_once() -> None:
    """And one whose leader is lost fails when that is noticed."""
    stage = Stage(3)
    stage.read(3)
    assert reads(stage, 3) == {1: None}
    stage.elect(1)
    stage.isolate(1)
    stage.read(3, 2)
    stage.pass_time(1500)
    assert reads(stage, 3)[2] is None


def test_an_answer_meant_for_an_earlier_run_is_not_taken() -> None:
    """The asker restarts and asks anew; what the leader said to its earlier run covers only what was chosen then."""
    stage = Stage(3)
    stage.elect(1)
    stage.withhold(lambda letter: isinstance(letter.message, ReadGranted))
    stage.read(3, 1)
    stage.settle()
    stage.restart(3)
    stage.pass_time(60)
    stage.propose(1, "a")
    stage.settle()
    old = [letter for letter in stage.withheld if isinstance(letter.message, ReadGranted)]
    assert old
    stage.lose()
    stage.withhold(lambda letter: isinstance(letter.message, ReadIndex))
    stage.read(3, 1)
    stage.settle()
    for letter in old:
        stage.deliver(Letter(letter.sender, letter.to, letter.message))
    assert reads(stage, 3) == {}
    stage.release()
    stage.settle()
    assert reads(stage, 3) == {1: 2}
