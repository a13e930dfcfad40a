"""The core as a whole: what it says and does in small scenes, and what its driver may rely on.

The scenes in ``transcripts`` are to be read; they are recorded anew by running ``stage.py``.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.following import Following
from quorate.kernel.paxos.messages import (
    Accept,
    Accepted,
    Chosen,
    Commit,
    Heartbeat,
    Kind,
    Prepare,
    Promise,
    Sender,
    Value,
    Yield,
)
from quorate.kernel.paxos.options import SLOT_COST
from quorate.kernel.paxos.quorum import ChangeKind, Configuration, InvalidChange, Member, Role
from quorate.kernel.paxos.ready import NOTHING, AcceptedValue, DurableState, Promised
from quorate.kernel.paxos.replica import NotLeader, Options, Replica, Status
from stage import TRANSCRIPTS, Letter, Stage, perform


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
def test_transcript(path: Path) -> None:
    """The scene plays as it is written."""
    assert perform(path.read_text()) == path.read_text()


def test_there_are_transcripts() -> None:
    """The test above has something to compare."""
    assert len(list(TRANSCRIPTS.glob("*.txt"))) >= 8


def cell(voters: int = 3) -> Configuration:
    return Configuration(Slot(0), tuple(Member(MemberId(i), Role.VOTER, f"tcp:{i}") for i in range(1, voters + 1)))


def alone(state: DurableState | None = None, incarnation: int = 1) -> Replica:
    """The core of a cell of one."""
    state = state or DurableState(NO_BALLOT, (), Slot(0), Slot(0), cell(1))
    return Replica(MemberId(1), incarnation, state, options=Options(), random=Random(1), now=0)


# ---------------------------------------------------------------- the contract of Ready


def test_nothing_to_do_is_nothing_itself() -> None:
    """A driver may test for identity."""
    core = alone()
    assert core.ready() is NOTHING
    assert core.next_tick() <= Options().campaign_spread


def test_a_single_member_chooses_nothing_before_its_disk_has_it() -> None:
    """Not even alone is a value committed in the step that hands it to the disk."""
    core = alone()
    core.tick(200_000)
    ready = core.ready()
    assert ready.records == (Promised(Ballot(1, MemberId(1))),)
    core.persisted(ready.upto, 200_000)
    ready = core.ready()
    assert [type(record) for record in ready.records] == [AcceptedValue]
    assert not ready.committed
    assert not core.serving
    core.persisted(ready.upto, 200_000)
    assert core.serving
    assert [slot for slot, _ in core.ready().committed] == [1]


def test_promises_and_votes_wait_for_the_disk_and_heartbeats_do_not() -> None:
    """Which field a message is in decides when it leaves."""
    stage = Stage(3)
    stage.elect(1)
    core, ballot = stage.core(2), stage.core(1).ballot
    core.receive(Sender(MemberId(1), 1), Heartbeat(ballot, Slot(1), 5, 9, Slot(0)), stage.now)
    core.receive(Sender(MemberId(1), 1), Accept(ballot, Slot(2), (Value(Kind.COMMANDS, b"x"),), Slot(1)), stage.now)
    core.receive(Sender(MemberId(1), 1), Prepare(Ballot(9, MemberId(1)), Slot(2), Slot(0)), stage.now)
    ready = core.ready()
    assert {type(send.message).__name__ for send in ready.messages} == {"Beaten"}
    assert [type(send.message).__name__ for send in ready.after] == ["Accepted", "Promise"]
    assert [type(record).__name__ for record in ready.records] == ["AcceptedValue", "Promised", "KnownChosen"]


def test_ready_after_every_call_or_after_many_is_the_same() -> None:
    """The driver chooses how often it asks."""
    often, seldom = Stage(3), Stage(3)
    for stage in (often, seldom):
        stage.elect(1)
        stage.stall(1)
    for text in ("a", "b", "c"):
        often.propose(1, text)
    seldom.propose(1, "a", "b", "c")
    for stage in (often, seldom):
        stage.settle()
    assert often.log == seldom.log
    assert often.applied(3) == seldom.applied(3) == ["a", "b", "c"]


def test_a_vote_that_changes_nothing_does_not_stir() -> None:
    """A driver may spare itself the turn, and must not when a vote decides."""
    stage = Stage(3)
    stage.elect(1)
    stage.stall(1)
    core = stage.core(1)
    slot = core.propose(Value(Kind.COMMANDS, b"x"), stage.now)
    core.ready()
    assert not core.stirred
    for member, decides in ((2, False), (3, True)):
        core.receive(Sender(MemberId(member), 1), Accepted(core.ballot, slot, slot), stage.now)
        assert core.stirred is decides


def test_the_commit_index_is_recorded_along_with_other_records() -> None:
    """So that a restart applies that far at once."""
    stage = Stage(3)
    stage.elect(1)
    stage.propose(1, "a")
    stage.settle()
    stage.propose(1, "b")
    stage.settle()
    assert stage.actors[2].disk.chosen == 2
    stage.restart(2)
    assert stage.core(2).chosen == 2
    assert stage.applied(2) == ["a", "b", "a"]


# ---------------------------------------------------------------- starting


def test_a_first_start_is_not_silent_and_a_later_one_is() -> None:
    """Nothing can have been granted on a disk that was never used."""
    assert alone().next_tick() <= 100_000
    assert alone(incarnation=2).next_tick() >= 408_000
    used = DurableState(Ballot(1, MemberId(1)), (), Slot(0), Slot(0), cell(1))
    assert alone(used).next_tick() >= 408_000


def test_values_learned_as_chosen_and_not_known_so_at_the_start_are_proposed_again() -> None:
    """The commit index was not written again before the crash. They are the strongest of votes; what the votes below
    them are worth, they do not say: those may have come with a snapshot that is lost. A single voter does not wait for
    a vote that its disk holds already."""
    old, value = Value(Kind.COMMANDS, b"old"), Value(Kind.COMMANDS, b"x")
    votes = (
        AcceptedValue(Ballot(1, MemberId(2)), Slot(1), old),
        AcceptedValue(DECIDED, Slot(2), value),
        AcceptedValue(DECIDED, Slot(3), value),
    )
    core = alone(DurableState(Ballot(1, MemberId(2)), votes, Slot(0), Slot(0), cell(1)), incarnation=2)
    assert core.chosen == 0
    now = 1_000_000
    core.tick(now)
    committed = []
    for _ in range(3):
        ready = core.ready()
        committed += [value.payload for _, value in ready.committed]
        core.persisted(ready.upto, now)
    assert core.serving
    assert committed[:3] == [b"old", b"x", b"x"]


def test_a_value_learned_as_chosen_is_believed_when_its_turn_comes() -> None:
    """Without asking for it again."""
    value = Value(Kind.COMMANDS, b"x")
    votes = (AcceptedValue(Ballot(1, MemberId(2)), Slot(1), value), AcceptedValue(DECIDED, Slot(2), value))
    state = DurableState(Ballot(1, MemberId(2)), votes, Slot(0), Slot(0), cell())
    core = Replica(MemberId(1), 2, state, options=Options(), random=Random(1), now=0)
    core.receive(Sender(MemberId(3), 1), Chosen(Slot(1), (value,), Slot(2)), 1)
    assert core.chosen == 2


def test_much_that_is_chosen_at_once_is_applied_a_portion_a_turn() -> None:
    """By a member that lagged: it has others to serve meanwhile. The next turn is due at once."""
    value = Value(Kind.COMMANDS, b"x" * 1000)
    state = DurableState(NO_BALLOT, (), Slot(0), Slot(0), cell())
    options = Options(apply_limit=3 * (1000 + SLOT_COST))
    core = Replica(MemberId(1), 1, state, options=options, random=Random(1), now=0)
    core.tick(1)
    core.receive(Sender(MemberId(3), 1), Chosen(Slot(1), (value,) * 7, Slot(7)), 1)
    portions = []
    while core.stirred:
        portions.append([slot for slot, _ in core.ready().committed])
        assert core.ready().committed == ()
        assert not core.stirred
        assert (core.next_tick() == 0) == (portions[-1][-1] < 7)
        core.tick(2)
    assert portions == [[1, 2, 3], [4, 5, 6], [7]]


def test_who_has_much_to_apply_does_not_stand_before_it_is_done() -> None:
    """A leader applies everything at once: its first turn would outlast its lease."""
    value = Value(Kind.COMMANDS, b"x" * 1000)
    state = DurableState(NO_BALLOT, (), Slot(0), Slot(0), cell())
    options = Options(apply_limit=3 * (1000 + SLOT_COST), window=3)
    core = Replica(MemberId(1), 1, state, options=options, random=Random(1), now=0)
    core.receive(Sender(MemberId(3), 1), Chosen(Slot(1), (value,) * 7, Slot(7)), 1)
    now = options.campaign_spread
    core.tick(now)
    assert len(core.ready().committed) == 3
    assert core.status is Status.FOLLOWER
    while core.next_tick() == 0:
        core.tick(now)
        core.ready()
    while core.status is Status.FOLLOWER:
        now = core.next_tick()
        assert now <= options.campaign_spread + options.lease + options.campaign_spread
        core.tick(now)
    assert core.status is Status.CANVASSING


def test_who_is_told_to_lead_together_with_what_is_chosen_leads() -> None:
    """A leader that goes says in one breath what it had in flight, large batches among it, and who should follow."""
    value = Value(Kind.COMMANDS, b"x" * (1 << 20))
    state = DurableState(NO_BALLOT, (), Slot(0), Slot(0), cell())
    core = Replica(MemberId(1), 1, state, options=Options(), random=Random(1), now=0)
    leader, ballot = Sender(MemberId(3), 1), Ballot(1, MemberId(3))
    core.receive(leader, Accept(ballot, Slot(1), (value,) * 2, Slot(0)), 1)
    core.persisted(core.ready().upto, 1)
    core.receive(leader, Commit(ballot, Slot(2)), 2)
    core.receive(leader, Yield(ballot, Slot(2)), 2)
    assert core.status is Status.PREPARING


def test_an_older_vote_that_survived_in_a_damaged_slot_is_not_believed() -> None:
    """The newest one is unreadable; the older may carry another value."""
    value = Value(Kind.COMMANDS, b"x")
    votes = tuple(AcceptedValue(Ballot(1, MemberId(2)), Slot(slot), value) for slot in (1, 2, 3))
    state = DurableState(Ballot(2, MemberId(3)), votes, Slot(3), Slot(0), cell(), frozenset((Slot(2),)))
    core = Replica(MemberId(1), 2, state, options=Options(), random=Random(1), now=0)
    assert core.chosen == 1
    core.receive(
        Sender(MemberId(2), 1), Heartbeat(Ballot(1, MemberId(2)), Slot(3), 5, 1, Slot(0)), 1_000_000
    )  # a late one, of a leader under whom it once voted
    assert core.chosen == 1


def test_a_late_leader_gets_no_vote_on_a_slot_that_was_known_before_the_damage() -> None:
    """What a higher ballot chose there was only told here. Such a vote would be taken for what was chosen, at once
    when somebody else leads, or by the next start."""
    chosen, late = Value(Kind.COMMANDS, b"chosen"), Value(Kind.COMMANDS, b"late")
    votes = tuple(AcceptedValue(Ballot(1, MemberId(1)), Slot(slot), chosen) for slot in (1, 3))
    state = DurableState(Ballot(1, MemberId(2)), votes, Slot(3), Slot(0), cell(), frozenset((Slot(2),)))
    core = Replica(MemberId(1), 2, state, options=Options(), random=Random(1), now=0)
    core.ready()
    for slot in (2, 3):
        core.receive(Sender(MemberId(2), 1), Accept(Ballot(1, MemberId(2)), Slot(slot), (late,), Slot(0)), 1)
    core.receive(Sender(MemberId(3), 1), Heartbeat(Ballot(2, MemberId(3)), Slot(3), 5, 1, Slot(0)), 2)
    assert core.chosen == 1
    assert not any(isinstance(record, AcceptedValue) for record in core.ready().records)
    core.receive(Sender(MemberId(3), 1), Chosen(Slot(2), (chosen,), Slot(3)), 3)
    assert [value for _, value in core.ready().committed] == [chosen, chosen]


def test_behind_the_damage_a_member_votes_for_what_it_knows_to_be_chosen() -> None:
    """A leader that does not know it may need that vote."""
    chosen = Value(Kind.COMMANDS, b"chosen")
    votes = (AcceptedValue(Ballot(1, MemberId(2)), Slot(2), chosen),)
    state = DurableState(Ballot(1, MemberId(2)), votes, Slot(2), Slot(0), cell(), frozenset((Slot(1),)))
    core = Replica(MemberId(1), 2, state, options=Options(), random=Random(1), now=0)
    ballot = Ballot(2, MemberId(3))
    core.receive(Sender(MemberId(3), 1), Accept(ballot, Slot(2), (chosen,), Slot(0)), 1)
    assert [send.message for send in core.ready().after] == [Accepted(ballot, Slot(2), Slot(2))]


def test_a_configuration_below_the_commit_index_is_in_force_at_the_start() -> None:
    """What the log says about membership counts as far as it is known to be chosen, and no farther."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.pass_time(60)
    stage.change(1, ChangeKind.PROMOTE, 4)
    stage.settle()
    stage.propose(1, "a")
    stage.settle()
    stage.propose(1, "b")
    stage.settle()
    stage.restart(2)
    assert stage.core(2).configuration.voters() == {1, 2, 3, 4}


def test_a_change_of_membership_is_written_down_when_it_is_learned() -> None:
    """Not with the next record only: a restart would ask voters that may be gone."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    stage.change(1, ChangeKind.REMOVE, 4)
    stage.settle()
    assert stage.actors[2].disk.noted == stage.core(2).chosen == 2


def test_a_disk_without_its_votes_never_votes_again() -> None:
    """It learns and says nothing that anybody could count."""
    stage = Stage(3)
    stage.elect(1)
    stage.propose(1, "a")
    stage.settle()
    stage.crash(2)
    stage.actors[2].disk.wipe()
    stage.actors[2].applied.clear()
    stage.actors[2].start()
    assert stage.core(2).status is Status.RETIRED
    stage.lines.clear()
    stage.pass_time(1000)
    stage.propose(1, "b")
    stage.settle()
    assert stage.applied(2) == ["a", "b"]
    stage.crash(1)
    stage.pass_time(2000)
    assert stage.leaders() == []
    said = {line.split()[3] for line in stage.lines if line.startswith("2 ->")}
    assert said <= {"Fetch", "Canvassed"}
    assert not any("granted=True" in line for line in stage.lines if line.startswith("2 ->"))


def _a_lost_disk_among_five() -> Stage:
    """What Michael et al. (2017, section 6) hold against members that vote again once they have seen an instance that
    was begun after they lost their disks: 3 promises a ballot of 2, loses its disk, sees "a" chosen by 1, 4 and 5, and
    is asked for its vote on "b" while its promise is still under way."""
    stage = Stage(5)
    stage.elect(1)
    stage.part((1, 2), (2, 5))
    stage.withhold(
        lambda letter: isinstance(letter.message, Promise) or (isinstance(letter.message, Prepare) and letter.to == 4)
    )
    stage.now += 2 * stage.options.lease
    stage.tick(2)
    stage.settle()
    assert [letter.sender.member for letter in stage.sent(Promise)] == [3]
    stage.crash(3)
    stage.actors[3].disk.wipe()
    stage.actors[3].applied.clear()
    stage.actors[3].slot = Slot(0)
    stage.actors[3].start()
    stage.propose(1, "a")
    stage.settle()
    assert stage.applied(1) == stage.applied(4) == ["a"]
    stage.part((1, 4))
    stage.propose(1, "b")
    stage.settle()
    return stage


def test_who_lost_its_disk_does_not_vote_again_for_having_seen_others_decide() -> None:
    """It has seen an instance to its end, and gives no vote: nothing is chosen that the next leader does not know."""
    stage = _a_lost_disk_among_five()
    assert stage.applied(1) == ["a"]
    stage.release()
    stage.heal()
    stage.settle()
    assert stage.leaders() == [2]
    stage.propose(2, "c")
    stage.settle()
    stage.pass_time(100)
    assert all(stage.applied(member) == ["a", "c"] for member in range(1, 6))


def test_if_it_did_two_values_would_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule of "Paxos Made Live", section 5.1, planted: the scene above is one in which it does harm."""
    real = Following.on_accept

    def watch(self: Following, sender: MemberId, message: Accept, now: int) -> None:
        begun = self.__dict__.setdefault("begun", message.first)
        self._acceptor.intact |= self._learner.chosen >= begun
        real(self, sender, message, now)

    monkeypatch.setattr(Following, "on_accept", watch)
    stage = _a_lost_disk_among_five()
    assert stage.applied(1) == ["a", "b"]
    stage.release()
    with pytest.raises(AssertionError, match="slot 3: a second value for a chosen slot"):
        stage.settle()


# ---------------------------------------------------------------- the door


def test_only_a_serving_leader_takes_values() -> None:
    """The others say whom to ask."""
    stage = Stage(3)
    with pytest.raises(NotLeader, match="none is known"):
        stage.propose(2, "a")
    stage.elect(1)
    with pytest.raises(NotLeader, match="member 1 may be") as refused:
        stage.propose(2, "a")
    assert refused.value.leader == 1
    assert stage.core(2).can_propose() == 0
    with pytest.raises(NotLeader):
        stage.transfer(2, 3)


def test_no_more_slots_are_in_flight_than_the_window_allows() -> None:
    """Slots come back as they are chosen."""
    stage = Stage(3, window=4)
    stage.elect(1)
    stage.stall(2)
    stage.stall(3)
    assert stage.core(1).can_propose() == 4
    stage.propose(1, "a", "b", "c", "d")
    assert stage.core(1).can_propose() == 0
    with pytest.raises(AssertionError, match="beyond the window"):
        stage.propose(1, "e")
    stage.settle()
    assert stage.core(1).can_propose() == 0
    stage.resume(2)
    stage.settle()
    assert stage.core(1).can_propose() == 4


def test_status_says_what_a_member_is() -> None:
    """For whoever looks at the cell."""
    stage = Stage(3, learners=1)
    stage.elect(1)
    assert [stage.core(m).status for m in (1, 2, 4)] == [Status.LEADER, Status.FOLLOWER, Status.LEARNER]
    stage.isolate(3)
    stage.stall(3)
    stage.pass_time(1000)
    assert stage.core(3).status is Status.CANVASSING
    assert stage.core(1).answering(stage.now) == [1, 2, 4]
    assert stage.core(2).answering(stage.now) == []
    assert stage.core(1).progress() == {2: 1, 3: 1, 4: 1}
    assert stage.core(2).progress() == {}


def test_a_message_of_another_time_is_dropped() -> None:
    """Whatever a member of an earlier life or a lower ballot says changes nothing here, and is answered at most with
    what is promised."""
    stage = Stage(3)
    stage.elect(1)
    stage.elect(2)
    before = (stage.core(3).ballot, stage.core(3).leader, stage.core(3).chosen)
    old = Ballot(1, MemberId(1))
    stage.lines.clear()
    for message in (
        Heartbeat(old, Slot(99), 0, 1, Slot(0)),
        Accept(old, Slot(50), (Value(Kind.COMMANDS, b"late"),), Slot(99)),
        Commit(old, Slot(99)),
        Prepare(old, Slot(1), Slot(0)),
        Accepted(old, Slot(1), Slot(99)),
    ):
        stage.send(1, 3, message)
    stage.settle()
    assert (stage.core(3).ballot, stage.core(3).leader, stage.core(3).chosen) == before
    assert {line.split()[3] for line in stage.lines if line.startswith("3 ->")} == {"Refused"}


def test_a_ballot_of_somebody_else_is_nobodys() -> None:
    """A leader speaks for its own ballot only."""
    stage = Stage(3)
    stage.elect(1)
    stage.send(3, 2, Heartbeat(Ballot(9, MemberId(1)), Slot(1), 0, 1, Slot(0)))
    stage.send(3, 2, Prepare(Ballot(9, MemberId(1)), Slot(1), Slot(0)))
    stage.settle()
    assert stage.core(2).leader == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_traffic_of_earlier_runs_changes_nothing(seed: int) -> None:
    """All that members said in runs that are over, once more and in any order: no disk, no leader and no log is another
    afterwards, and the cell goes on."""
    stage = Stage(3)
    deliver, said = stage.deliver, list[Letter]()
    stage.deliver = lambda letter: (said.append(letter), deliver(letter))[1]  # type: ignore[method-assign]
    for leader in (1, 2, 3, 1):
        stage.elect(leader)
        stage.propose(leader, f"under {leader}")
        stage.settle()
        stage.read(leader)
        stage.settle()
        stage.restart(leader % 3 + 1)
        stage.pass_time(100)
    earlier = list(said)
    assert {"Prepare", "Promise", "Accept", "Accepted", "Heartbeat", "Beaten", "Commit"} <= {
        type(letter.message).__name__ for letter in earlier
    }
    for member in (1, 2, 3):
        stage.restart(member)
    stage.elect(2)
    stage.propose(2, "last")
    stage.settle()
    stage.pass_time(100)

    def now() -> list[object]:
        actors = [stage.actors[member] for member in (1, 2, 3)]
        held = [(each.disk.promised, each.disk.votes, each.disk.chosen, each.applied[:]) for each in actors]
        return [*held, stage.leaders(), stage.holders(), [stage.core(member).ballot for member in (1, 2, 3)]]

    before = deepcopy(now())
    Random(seed).shuffle(earlier)
    for letter in earlier:
        stage.deliver(letter)
        assert now() == before, letter
    stage.settle()
    assert now() == before
    stage.propose(2, "on")
    stage.settle()
    stage.pass_time(100)
    assert all(stage.applied(member)[-2:] == ["last", "on"] for member in (1, 2, 3))


def test_invalid_changes_leave_the_log_alone() -> None:
    """Refused before anything is proposed."""
    stage = Stage(3)
    stage.elect(1)
    chosen = stage.core(1).chosen
    with pytest.raises(InvalidChange):
        stage.change(1, ChangeKind.REMOVE, 9)
    stage.settle()
    assert stage.core(1).chosen == chosen
