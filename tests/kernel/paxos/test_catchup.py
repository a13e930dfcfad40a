"""Getting chosen slots from whoever has them."""

from __future__ import annotations

import pytest
from paxos_disk import Disk
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.catchup import CatchUp
from quorate.kernel.paxos.effects import Effects
from quorate.kernel.paxos.learner import Learner
from quorate.kernel.paxos.messages import (
    Accept,
    Canvass,
    Canvassed,
    Chosen,
    Compacted,
    Fetch,
    FetchSnapshot,
    Kind,
    SnapshotChunk,
    Value,
)
from quorate.kernel.paxos.quorum import ChangeKind, Configuration, Member, Role
from quorate.kernel.paxos.ready import Send
from quorate.kernel.paxos.roster import Roster
from stage import Stage

ONE, TWO, THREE = map(MemberId, (1, 2, 3))
PATIENCE = 100


class Asking:
    """A catch-up of member 1 of 3, and what it sends."""

    def __init__(self) -> None:
        members = tuple(Member(MemberId(i), Role.VOTER, f"tcp:{i}") for i in (1, 2, 3))
        roster = Roster(ONE, Configuration(Slot(0), members))
        self.effects = Effects(roster, 10_000)
        self.learner = Learner(Slot(0), 0, 1000)
        self.catchup = CatchUp(PATIENCE, 500, roster, self.learner, self.effects)

    def said(self) -> list[Send]:
        messages, self.effects.messages = self.effects.messages, []
        return messages


def chunk(offset: int, size: int = 100, length: int = 60, slot: int = 9) -> SnapshotChunk:
    return SnapshotChunk(Slot(slot), offset, size, b"s" * min(length, size - offset))


def test_one_question_at_a_time() -> None:
    """Asked of who should know; hearing of more meanwhile changes only what is known to exist."""
    one = Asking()
    one.catchup.missing(Slot(5), TWO, 0)
    one.catchup.missing(Slot(7), THREE, 1)
    assert one.said() == [Send(TWO, Fetch(Slot(1), 500))]
    assert one.learner.target == 7


def test_nothing_is_asked_for_what_is_here() -> None:
    """The commit index that others tell may be old."""
    one = Asking()
    one.learner.learn(Slot(1), Value(Kind.NOOP, b""))
    one.catchup.missing(Slot(1), TWO, 0)
    assert not one.said()


def test_an_unanswered_question_moves_on() -> None:
    """To the others in turn, and round again."""
    one = Asking()
    one.catchup.missing(Slot(5), TWO, 0)
    one.said()
    asked = []
    for now in range(1000):
        one.catchup.tick(now)
        asked += [(now, send.to) for send in one.said()]
    assert asked[:3] == [(100, THREE), (200, TWO), (300, THREE)]


def test_who_told_of_something_is_asked_though_it_is_unknown() -> None:
    """The configuration here may be of another time, and everybody in it gone."""
    one = Asking()
    one.catchup.missing(Slot(5), TWO, 0)
    one.catchup.missing(Slot(7), MemberId(8), 1)
    asked = []
    for now in range(1000):
        one.catchup.tick(now)
        asked += [send.to for send in one.said()]
    assert asked[:6] == [2, 8, 2, 8, 3, 8]


def test_an_unanswered_question_is_dropped_when_nothing_is_missing() -> None:
    """What was asked for has come by another way."""
    one = Asking()
    one.catchup.missing(Slot(1), TWO, 0)
    one.said()
    one.learner.learn(Slot(1), Value(Kind.NOOP, b""))
    one.catchup.tick(PATIENCE)
    assert not one.said()
    assert one.catchup.due is None


def test_only_the_source_closes_the_question() -> None:
    """Late answers of those asked before do not."""
    one = Asking()
    one.catchup.missing(Slot(5), TWO, 0)
    one.catchup.answered(THREE)
    assert one.catchup.busy
    one.catchup.answered(TWO)
    assert not one.catchup.busy


def test_a_snapshot_comes_in_pieces_in_order() -> None:
    """Each piece is asked for when the one before has come; when all are there it is expected to be installed."""
    one = Asking()
    one.catchup.missing(Slot(9), TWO, 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(9), 100), 0)
    one.catchup.on_chunk(TWO, chunk(60), 0)  # out of order
    one.catchup.on_chunk(THREE, chunk(0), 0)  # of somebody else
    one.catchup.on_chunk(TWO, chunk(0, slot=8), 0)  # of another snapshot
    assert not one.effects.chunks
    one.catchup.on_chunk(TWO, chunk(0), 0)
    one.catchup.on_chunk(TWO, chunk(0), 0)  # a duplicate
    assert not one.catchup.expects(Slot(9))
    one.catchup.on_chunk(TWO, chunk(60), 0)
    assert one.effects.chunks == [chunk(0), chunk(60)]
    assert one.catchup.expects(Slot(9))
    assert one.catchup.due is None
    assert [send.message for send in one.said()] == [
        Fetch(Slot(1), 500), FetchSnapshot(Slot(9), 0), FetchSnapshot(Slot(9), 60)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "bad", [SnapshotChunk(Slot(9), 0, 0, b""), chunk(0, size=99), SnapshotChunk(Slot(9), 0, 100, b"s" * 101)]
)
def test_a_snapshot_that_its_source_let_go_is_given_up(bad: SnapshotChunk) -> None:
    """Gone, or of another size, or too long: begin anew elsewhere when the need shows again."""
    one = Asking()
    one.catchup.missing(Slot(9), TWO, 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(9), 100), 0)
    one.catchup.on_chunk(TWO, bad, 0)
    assert not one.effects.chunks
    assert not one.catchup.busy
    one.said()
    one.catchup.missing(Slot(9), THREE, 1)
    assert one.said() == [Send(THREE, Fetch(Slot(1), 500))]


def test_a_snapshot_that_the_log_has_passed_is_given_up() -> None:
    """In the middle, or whole and waiting."""
    one = Asking()
    one.catchup.missing(Slot(2), TWO, 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(2), 100), 0)
    one.catchup.on_chunk(TWO, chunk(0, slot=2), 0)
    for slot in (1, 2):
        one.learner.learn(Slot(slot), Value(Kind.NOOP, b""))
    one.catchup.on_chunk(TWO, chunk(60, slot=2), 0)
    assert not one.catchup.expects(Slot(2))
    assert not one.catchup.busy


def test_a_snapshot_nobody_asked_for_is_ignored() -> None:
    """Late answers, empty ones, and snapshots of what is here already."""
    one = Asking()
    one.catchup.on_compacted(TWO, Compacted(Slot(9), 100), 0)
    one.catchup.missing(Slot(9), TWO, 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(9), 0), 0)
    one.catchup.on_compacted(THREE, Compacted(Slot(9), 100), 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(0), 100), 0)
    assert [type(send.message) for send in one.said()] == [Fetch]


def test_a_piece_that_comes_late_is_taken_all_the_same() -> None:
    """And its repetition is not taken twice; patience begins anew with each piece."""
    one = Asking()
    one.catchup.missing(Slot(9), TWO, 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(9), 100), 0)
    one.catchup.tick(PATIENCE)
    one.catchup.on_chunk(TWO, chunk(0), 150)
    one.catchup.on_chunk(TWO, chunk(0), 160)
    one.said()
    one.catchup.tick(250)
    one.catchup.tick(450)
    assert [send.message for send in one.said()] == [FetchSnapshot(Slot(9), 60), FetchSnapshot(Slot(9), 60)]
    one.catchup.on_chunk(TWO, chunk(60), 500)
    assert one.effects.chunks == [chunk(0), chunk(60)]


def test_a_dead_source_of_a_snapshot_is_replaced() -> None:
    """By whoever answers, from the beginning, with the snapshot that one has."""
    one = Asking()
    one.catchup.missing(Slot(9), TWO, 0)
    one.catchup.on_compacted(TWO, Compacted(Slot(9), 100), 0)
    one.catchup.on_chunk(TWO, chunk(0), 10)
    one.said()
    asked = []
    for now in range(11, 711):
        one.catchup.tick(now)
        asked += [(now, send) for send in one.said()]
    piece = Send(TWO, FetchSnapshot(Slot(9), 60))
    assert asked == [(110, piece), (310, piece), (710, Send(THREE, Fetch(Slot(1), 500)))]
    one.catchup.on_compacted(THREE, Compacted(Slot(8), 50), 720)
    assert one.said() == [Send(THREE, FetchSnapshot(Slot(8), 0))]


# ---------------------------------------------------------------- on stage


def lagging(stage: Stage, member: int, count: int) -> None:
    """`member` misses so many slots."""
    stage.isolate(member)
    for number in range(count):
        stage.propose(1, str(number))
        stage.settle()


def test_a_member_that_was_away_catches_up_by_log() -> None:
    """It hears of the commit index and fetches what it lacks."""
    stage = Stage(3)
    stage.elect(1)
    lagging(stage, 3, 5)
    stage.heal()
    stage.pass_time(60)
    assert stage.applied(3) == [str(n) for n in range(5)]


def test_a_member_that_was_away_too_long_catches_up_by_snapshot() -> None:
    """When the log it lacks is compacted away, followed by the log above the snapshot."""
    stage = Stage(3, retained=0)
    stage.elect(1)
    lagging(stage, 3, 5)
    for member in (1, 2):
        stage.actors[member].compact()
    stage.propose(1, "after")
    stage.settle()
    stage.heal()
    stage.pass_time(60)
    assert "3 installs the snapshot at 6" in stage.lines
    assert stage.actors[3].disk.noted >= 6
    assert stage.applied(3) == ["after"]
    stage.restart(3)
    stage.pass_time(1000)
    stage.propose(stage.leaders()[0], "more")
    stage.settle()
    stage.pass_time(60)
    assert stage.applied(3)[-1] == "more"


def test_a_snapshot_brings_its_configuration_and_phase_1_begins_anew_under_it() -> None:
    """Member 1 wins an election among the old voters without knowing that membership moved on: what it learns by
    snapshot is learned like what it learns by log, and it prepares again under the quorums that decide now."""
    stage = Stage(3, learners=2, retained=0)
    stage.elect(3)
    stage.isolate(1)
    for member in (4, 5):
        stage.pass_time(100)
        stage.change(3, ChangeKind.PROMOTE, member)
        stage.settle()
    for member in (2, 3):
        stage.actors[member].compact()
    assert stage.core(3).configuration.voters() == {1, 2, 3, 4, 5}
    stage.heal()
    for member in (3, 4, 5):
        stage.isolate(member)
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    stage.now += 1_000_000
    stage.tick(1)
    stage.settle()
    core = stage.core(1)
    assert core.leader == 1
    assert not core.serving
    stage.release()
    stage.settle()
    stage.pass_time(300)
    assert "1 installs the snapshot at 3" in stage.lines
    assert core.configuration.voters() == {1, 2, 3, 4, 5}
    assert not core.serving, "two of five voters lead"
    assert not any(line.startswith("1 -> ") and " Accept " in line for line in stage.lines)


def test_a_candidate_that_lags_far_catches_up_before_it_leads() -> None:
    """So that the cell does not wait for its log to arrive while it holds the leadership."""
    stage = Stage(3, window=2)
    stage.elect(1)
    lagging(stage, 3, 10)
    stage.crash(1)
    stage.heal()
    stage.now += 800_000
    stage.withhold(lambda letter: isinstance(letter.message, Chosen))
    stage.tick(3)
    stage.settle()
    assert stage.core(3).leader is None
    stage.release()
    stage.settle()
    assert stage.core(3).chosen == 11
    stage.pass_time(400)
    assert stage.leaders() in ([2], [3])


def test_a_leader_that_waits_for_a_dead_source_does_not_wait_for_ever() -> None:
    """Phase 1 showed a slot to be chosen that only one member knew, which died before it could say more. Among those
    that live, a quorum holds the votes that chose it: they are asked to promise again."""
    stage = Stage(3)
    stage.elect(1)
    stage.isolate(3)
    stage.withhold(lambda letter: letter.to == 2 and not isinstance(letter.message, Accept))
    stage.propose(1, "a")
    stage.settle()
    stage.lose()
    stage.heal()
    stage.part((2, 3), (1, 2))
    stage.withhold(lambda letter: isinstance(letter.message, Fetch))
    stage.now += 1_000_000
    stage.tick(3)
    stage.settle()
    assert stage.core(3).leader == 3
    assert not stage.core(3).serving
    stage.crash(1)
    stage.lose()
    stage.heal()
    stage.pass_time(2500)
    leader = stage.leaders()[0]
    assert stage.applied(leader) == ["a"]


def test_a_leader_that_proposes_fetches_nothing() -> None:
    """Deposed without knowing, it hears of slots that others have chosen: what it has in flight and a snapshot would
    not go together. It catches up when it knows."""
    stage = Stage(3, retained=0)
    stage.elect(1)
    stage.isolate(1)
    stage.propose(1, "mine")
    stage.elect(2)
    for number in range(3):
        stage.propose(2, str(number))
        stage.settle()
    for member in (2, 3):
        stage.actors[member].compact()
    stage.heal()
    stage.lines.clear()
    stage.send(3, 1, Canvass(Ballot(9, THREE), stage.core(3).chosen, Slot(0)))
    stage.send(3, 1, Canvassed(Ballot(9, ONE), False, stage.core(3).ballot, stage.core(3).chosen))
    stage.settle()
    assert not any(line.startswith("1 ->") and "Fetch" in line for line in stage.lines)
    stage.pass_time(1500)
    assert "1 installs the snapshot at 5" in stage.lines


def test_a_learner_that_hears_no_leader_learns_from_whom_it_reaches() -> None:
    """What one member executed, a connected one executes, though neither of them leads."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.isolate(4)
    stage.propose(1, "a")
    stage.settle()
    stage.heal()
    stage.part((4, 1), (4, 3))
    stage.pass_time(1500)
    assert stage.applied(4) == ["a"]


def test_nobody_asks_when_nobody_lacks_anything() -> None:
    """A quiet cell sends heartbeats and nothing else."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    lagging(stage, 3, 3)
    stage.heal()
    stage.pass_time(500)
    stage.lines.clear()
    stage.pass_time(2000)
    assert {line.split()[3] for line in stage.lines} == {"Heartbeat", "Beaten"}


# ---------------------------------------------------------------- damage


def damaged_cell(*damage: tuple[int, int]) -> Stage:
    """Three members that know slots 1 to 6 to be chosen, all restarted; `damage` names member and unreadable slot."""
    stage = Stage(3)
    stage.elect(1)
    for number in range(5):
        stage.propose(1, str(number))
        stage.settle()
    stage.pass_time(100)
    for member, slot in damage:
        disk: Disk = stage.actors[member].disk
        for known in range(1, 7):
            assert Slot(known) in disk.votes
        disk.chosen = Slot(6)
        disk.damage(Slot(slot))
    for member in (1, 2, 3):
        stage.crash(member)
        stage.actors[member].applied.clear()
    for member in (1, 2, 3):
        stage.actors[member].start()
    return stage


def test_a_damaged_slot_is_healed_from_peers() -> None:
    """And written again, so that the next start finds it."""
    stage = damaged_cell((2, 3))
    assert stage.core(2).chosen == 2
    stage.pass_time(1500)
    assert stage.applied(2) == [str(n) for n in range(5)]
    assert Slot(3) in stage.actors[2].disk.votes


def test_until_it_is_healed_a_member_helps_no_candidate() -> None:
    """What it cannot read may be a vote that matters."""
    stage = damaged_cell((2, 3))
    stage.now += 1_000_000
    stage.withhold(lambda letter: isinstance(letter.message, (Fetch, Chosen)))
    stage.isolate(1)
    stage.tick(3)
    stage.settle()
    assert stage.core(3).leader is None
    assert stage.core(2).ballot < (2, 3)
    stage.release()
    stage.settle()
    stage.pass_time(600)
    assert stage.leaders() in ([2], [3])


def test_members_that_are_all_damaged_heal_each_other_and_elect() -> None:
    """Each lacks another slot: nobody may campaign, nobody leads, and still everybody gets what it lacks."""
    stage = damaged_cell((1, 2), (2, 3), (3, 4))
    assert [stage.core(m).chosen for m in (1, 2, 3)] == [1, 2, 3]
    stage.pass_time(3000)
    assert len(stage.leaders()) == 1
    stage.propose(stage.leaders()[0], "on")
    stage.settle()
    stage.pass_time(100)
    for member in (1, 2, 3):
        assert stage.applied(member) == ["0", "1", "2", "3", "4", "on"]
