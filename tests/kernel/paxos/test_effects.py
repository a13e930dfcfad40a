"""Effects are gathered and taken out once."""

from __future__ import annotations

from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.effects import Effects
from quorate.kernel.paxos.messages import NOOP, Commit, Kind, Value
from quorate.kernel.paxos.options import SLOT_COST
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.paxos.ready import NOTHING, AcceptedValue, Committed, KnownChosen, Promised, ReadResult, Send
from quorate.kernel.paxos.roster import Roster

BALLOT = Ballot(1, MemberId(2))


def effects() -> Effects:
    members = tuple(Member(MemberId(i), Role.VOTER, f"tcp:{i}") for i in (1, 2, 3))
    return Effects(Roster(MemberId(2), Configuration(Slot(0), members)), 10_000)


def test_everything_is_taken_once() -> None:
    """What was handed out is not handed out again."""
    out = effects()
    out.send(MemberId(1), Commit(BALLOT, Slot(1)))
    out.after.append(Send(MemberId(3), Commit(BALLOT, Slot(2))))
    out.results.append(ReadResult(7, None))
    ready = out.take([Committed(Slot(1), NOOP)])
    assert [send.to for send in ready.messages + ready.after] == [1, 3]
    assert ready.reads == (ReadResult(7, None),)
    assert ready.committed == (Committed(Slot(1), NOOP),)
    assert out.take([]) is NOTHING


def test_a_broadcast_goes_to_everybody_else_in_order() -> None:
    """The same message object to each, so that it need be encoded only once."""
    out = effects()
    out.broadcast(Commit(BALLOT, Slot(1)))
    messages = out.take([]).messages
    assert [send.to for send in messages] == [1, 3]
    assert messages[0].message is messages[1].message


def test_records_are_numbered_through_the_run() -> None:
    """`upto` names all records so far, those taken earlier included."""
    out = effects()
    assert out.record(Promised(BALLOT)) == 1
    assert out.take([]).upto == 1
    assert out.record(KnownChosen(Slot(1))) == 2
    assert out.record(KnownChosen(Slot(2))) == 3
    ready = out.take([])
    assert ready.upto == 3
    assert len(ready.records) == 2
    out.after.append(Send(MemberId(1), Commit(BALLOT, Slot(1))))
    assert out.take([]).upto == 3


def test_what_the_disk_has_not_taken_is_counted() -> None:
    """From when it is handed out until it is durable; a value counts with its bytes."""
    out = effects()
    out.record(AcceptedValue(BALLOT, Slot(1), Value(Kind.COMMANDS, b"x" * 9000)))
    first = out.take([]).upto
    assert out.unwritten == 9000 + SLOT_COST
    assert not out.choked
    for slot in range(4):
        out.record(KnownChosen(Slot(slot)))
    second = out.take([]).upto
    assert out.choked
    out.persisted(first)
    assert not out.choked
    assert out.unwritten == 4 * SLOT_COST
    out.persisted(second)
    assert out.unwritten == 0
