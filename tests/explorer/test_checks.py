"""Each check of the explorer can fail: what a disk, a judge and a member find broken."""

from __future__ import annotations

import re

import pytest
from quorate.kernel.paxos.ballot import DECIDED, Ballot, MemberId, Slot
from quorate.kernel.paxos.configuration import encode_change
from quorate.kernel.paxos.messages import NOOP, Accept, Accepted, Kind, Prepare, Promise, Value, Vote, Vouched
from quorate.kernel.paxos.quorum import ChangeKind
from quorate.kernel.paxos.ready import AcceptedValue, Committed, KnownChosen, Promised, Ready, Send
from quorate.kernel.paxos.replica import Options, Replica
from quorate.kernel.testing.explorer_disk import Broken, Cast, Disk
from quorate.kernel.testing.explorer_judge import Judge, View
from quorate.kernel.testing.explorer_member import Setting, Step, start, take
from quorate.kernel.testing.explorer_scope import Scope, change
from quorate.kernel.testing.explorer_trace import tell

ONE, TWO = MemberId(1), MemberId(2)
LOW, HIGH = Ballot(1, ONE), Ballot(2, TWO)
A, B = Value(Kind.COMMANDS, b"a"), Value(Kind.COMMANDS, b"b")
FIRST = Slot(1)
SCOPE = Scope("checks")


@pytest.fixture
def disk() -> Disk:
    """A disk with a vote in the lower ballot."""
    return Disk(SCOPE.founding()).written(AcceptedValue(LOW, FIRST, A))


def test_what_a_disk_holds(disk: Disk) -> None:
    """A vote raises the promise; a later vote replaces it, but was cast all the same; a learned value is no vote."""
    after = disk.written(AcceptedValue(HIGH, FIRST, B)).written(AcceptedValue(DECIDED, Slot(2), A))
    assert after.promised == HIGH
    assert after.votes == (AcceptedValue(HIGH, FIRST, B), AcceptedValue(DECIDED, Slot(2), A))
    assert after.cast == {Cast(FIRST, LOW, A), Cast(FIRST, HIGH, B)}
    assert after.holds([Promised(HIGH), KnownChosen(Slot(0))])
    assert not after.holds([KnownChosen(FIRST)])


@pytest.mark.parametrize("record", [Promised(LOW), AcceptedValue(LOW, FIRST, A)])
def test_nothing_below_the_promise_is_written(disk: Disk, record: Promised | AcceptedValue) -> None:
    """Neither a promise nor a vote."""
    with pytest.raises(Broken, match="the promise"):
        disk.written(Promised(HIGH)).written(record)


def test_what_is_known_to_be_chosen_has_a_value(disk: Disk) -> None:
    """A restart must find it, or the snapshot that stands for it."""
    known = disk.written(KnownChosen(Slot(2)))
    with pytest.raises(Broken, match="slot 2 is chosen, but not with what value"):
        known.state()
    assert known.compacted(Slot(2), disk.configuration).state().votes == ()


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Promise(HIGH, FIRST, (), Slot(0), Slot(0)), "Promise 2.2 is sent while the disk holds 1.1"),
        (Promise(LOW, FIRST, (Vote(Slot(2), LOW, A),), Slot(0), Slot(0)), "a vote on slot 2 in ballot 1.1 is reported"),
        (Prepare(HIGH, FIRST, Slot(0)), "Prepare 2.2 is sent while the disk holds 1.1"),
        (Accept(HIGH, FIRST, (A,), Slot(0)), "member 1 uses the ballot 2.2 of another"),
        (Accepted(LOW, FIRST, Slot(2)), "slot 2 is said to be accepted in ballot 1.1, but not on disk"),
        (Accepted(HIGH, FIRST, FIRST), "Accepted 2.2 is sent while the disk holds 1.1"),
        (Vouched(LOW, Slot(2), alone=False), "slot 2 is vouched for in ballot 1.1, but not on disk"),
    ],
)
def test_nothing_is_said_that_the_disk_does_not_hold(
    disk: Disk, message: Promise | Prepare | Accept | Accepted | Vouched, words: str
) -> None:
    """Each kind of message that stands on the disk."""
    with pytest.raises(Broken, match=re.escape(words)):
        disk.check(ONE, message)


def test_behind_a_snapshot_a_vote_needs_the_promise(disk: Disk) -> None:
    """The snapshot stands for the value, but for no ballot."""
    later = disk.compacted(FIRST, disk.configuration)
    with pytest.raises(Broken, match=re.escape("Accepted 2.2 is sent while the disk holds 1.1")):
        later.check(ONE, Accepted(HIGH, FIRST, FIRST))
    later.written(Promised(HIGH)).check(ONE, Accepted(HIGH, FIRST, FIRST))


# ---------------------------------------------------------------- a whole world


def view(member: int, *cast: Cast, log: tuple[Value, ...] = ()) -> View:
    """What of a member a judge looks at."""
    return View(MemberId(member), log, frozenset(cast))


def test_a_majority_in_one_ballot_decides() -> None:
    """Two votes of three in one ballot, and not in two; and no slot before the one below it."""
    judge = Judge(SCOPE.founding())
    assert judge.decide([view(1, Cast(FIRST, LOW, A)), view(2, Cast(FIRST, LOW, A)), view(3)]) == (A,)
    assert judge.decide([view(1, Cast(FIRST, LOW, A)), view(2, Cast(FIRST, HIGH, A)), view(3)]) == ()
    above = Cast(Slot(2), LOW, B)
    assert judge.decide([view(1, above), view(2, above), view(3)]) == ()


def test_the_configuration_of_a_slot_decides_it() -> None:
    """From the slot behind a change on, its voters count."""
    founding = Scope("four", learners=(4,)).founding()
    judge, setting = Judge(founding), Setting(founding, Options(), {}, frozenset(), False)
    promote = change(ChangeKind.PROMOTE, 4)
    value = Value(Kind.CONFIGURATION, encode_change(promote))
    both = (Cast(FIRST, LOW, value), Cast(Slot(2), LOW, A))
    assert judge.decide([view(1, *both), view(2, *both), view(3), view(4)]) == (value,)
    assert judge.decide([view(1, *both), view(2, *both), view(3), view(4, *both)]) == (value, A)
    assert setting.governing([value]).voters() == {1, 2, 3, 4}
    assert tell(value) == "PROMOTE 4"


def test_two_decisions_on_a_slot_are_a_disagreement() -> None:
    """Whatever anybody handed out."""
    judge = Judge(SCOPE.founding())
    low, high = Cast(FIRST, LOW, A), Cast(FIRST, HIGH, B)
    with pytest.raises(Broken, match="two values are chosen in slot 1"):
        judge.decide([view(1, low), view(2, low, high), view(3, high)])


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ((B,), "member 3 handed out 'b' in slot 1, where 'a' is chosen"),
        ((A, NOOP), "member 3 handed out a no-op in slot 2, which is not on the disks of a quorum"),
    ],
)
def test_what_is_handed_out_is_what_is_decided(log: tuple[Value, ...], words: str) -> None:
    """No other value, and nothing that is not decided."""
    judge = Judge(SCOPE.founding())
    vote = Cast(FIRST, LOW, A)
    world = [
        start(Setting(SCOPE.founding(), Options(), {}, frozenset(), False), MemberId(m), 0).state for m in (1, 2, 3)
    ]
    disks = [state.disk._replace(cast=frozenset({vote})) for state in world]
    numbers = [judge.look(state._replace(disk=disk)) for state, disk in zip(world, disks, strict=True)]
    judge.judge(tuple(numbers))
    numbers[2] = judge.look(world[2]._replace(disk=disks[2], log=log))
    with pytest.raises(Broken, match=re.escape(words)):
        judge.judge(tuple(numbers))


# ---------------------------------------------------------------- a member


class Scripted(Replica):
    """A core that wants, when its timer fires, what the test says."""

    wants = Ready()

    def tick(self, now: int) -> None:
        """Want it."""
        self._wanted = [self.wants]

    def ready(self) -> Ready:
        """What was wanted, once."""
        wanted = self.__dict__.get("_wanted", [])
        return wanted.pop() if wanted else super().ready()


@pytest.mark.parametrize(
    ("wants", "words"),
    [
        (Ready(committed=(Committed(Slot(2), A),)), "slot 2 is handed out after slot 0"),
        (Ready(committed=(Committed(FIRST, B),)), "slot 1 is handed out with another value than in an earlier run"),
        (
            Ready(
                messages=(Send(TWO, Accept(LOW, FIRST, (A,), Slot(0))), Send(TWO, Accept(LOW, FIRST, (B,), Slot(0))))
            ),
            "two values are proposed in slot 1 in ballot 1.1",
        ),
        (Ready(messages=(Send(TWO, Prepare(LOW, FIRST, Slot(0))),)), "ballot 1.1 may have been used in an earlier run"),
    ],
)
def test_what_a_member_does_is_watched(wants: Ready, words: str, monkeypatch: pytest.MonkeyPatch, disk: Disk) -> None:
    """What it hands out and says, in this run and in those before."""
    monkeypatch.setattr("quorate.kernel.testing.explorer_member.Replica", Scripted)
    monkeypatch.setattr(Scripted, "wants", wants)
    setting = Setting(SCOPE.founding(), Options(lease=0, campaign_spread=0), {}, frozenset(), False)
    state = start(setting, ONE, 0).state
    state = take(setting, state._replace(log=(A,), disk=disk), Step("crash", 0)).state
    with pytest.raises(Broken, match=re.escape(words)):
        take(setting, state, Step("tick"))


def test_a_snapshot_stands_for_its_log() -> None:
    """Its bytes tell one log from another."""
    setting = Setting(SCOPE.founding(), Options(), {}, frozenset(), False)
    packed = [setting.pack(log) for log in ((A,), (B,), (A, B))]
    assert [setting.unpack(each) for each in packed] == [(A,), (B,), (A, B)]
