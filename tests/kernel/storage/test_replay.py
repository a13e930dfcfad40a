"""What is missing when a part of the log cannot be read."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.storage.errors import NewerFormat
from quorate.kernel.storage.layout import ACCEPTED, CHOSEN, INSTALLED, PROMISED, Standing
from quorate.kernel.storage.reading import Entry
from quorate.kernel.storage.replay import Replay, describe


def vote(slot: int, round_: int = 1) -> Entry:
    """A table entry."""
    return (ACCEPTED, 1, 1, slot, round_, 1, 0)


def at(round_: int, chosen: int, highest: int) -> Standing:
    """A standing."""
    return Standing(Ballot(round_, MemberId(1)), Slot(chosen), Slot(highest))


def voted(replay: Replay, *slots: int, chosen: int = 0, round_: int = 1) -> None:
    """A batch of votes."""
    replay.reach(at(round_, chosen, max(slots)))
    replay.records([vote(slot, round_) for slot in slots], [b"v"] * len(slots), "here")


def test_the_later_vote_counts() -> None:
    """Of two votes on a slot the one written later is the newest, whatever its ballot."""
    replay = Replay(Slot(0))
    voted(replay, 1, 2, round_=2)
    voted(replay, 2, round_=1)
    assert replay.votes[Slot(2)].ballot.round == 1
    assert replay.standing.promised.round == 2


def test_a_gap_takes_what_may_have_been_voted_in_it() -> None:
    """From the commit index before it to the highest vote behind it, but for slots voted on again."""
    replay = Replay(Slot(0))
    voted(replay, *range(1, 11), chosen=7)
    replay.gap("there")
    replay.gap("there again")
    assert replay.open_gap == "there"
    voted(replay, 9, 14, chosen=12, round_=3)
    assert sorted(replay.lost) == [8, 10, 11, 12, 13]
    assert replay.lost[Slot(8)] == "there"
    assert sorted(replay.votes) == [*range(1, 8), 9, 14]
    assert replay.open_gap is None
    voted(replay, 10, chosen=12)
    assert Slot(10) not in replay.lost


def test_below_a_lost_snapshot_from_a_peer_nothing_is_known_to_be_chosen() -> None:
    """A vote recorded before a snapshot was installed may be for a value that was not chosen."""
    told, installed = (CHOSEN, 0, 0, 3, 0, 0, 0), (CHOSEN, INSTALLED, 0, 40, 0, 0, 0)
    for snapshot, chosen in ((0, 3), (40, 45)):
        replay = Replay(Slot(snapshot))
        voted(replay, 1, 2, 3, 4, chosen=3)
        replay.records([told], [None], "here")
        replay.reach(at(1, 40, 40))
        replay.records([installed], [None], "here")
        voted(replay, *range(41, 46), chosen=45)
        replay.records([(CHOSEN, 0, 0, 45, 0, 0, 0)], [None], "here")
        assert replay.chosen == chosen


def test_what_is_in_the_snapshot_is_not_missed() -> None:
    """A gap below the snapshot costs nothing."""
    replay = Replay(Slot(20))
    replay.gap("there")
    replay.reach(at(5, 18, 20))
    assert not replay.lost
    voted(replay, 20, 21)
    assert sorted(replay.votes) == [21]


def test_a_note_closes_no_gap() -> None:
    """What is known from before the gap says nothing about it."""
    replay = Replay(Slot(0))
    replay.gap("there")
    replay.note(at(5, 3, 9))
    assert replay.open_gap == "there"
    assert replay.standing.promised.round == 5


def test_once_untrusted_never_trusted() -> None:
    """The sign that something was lost stays."""
    replay = Replay(Slot(0))
    replay.reach(at(1, 0, 0)._replace(untrusted=True))
    replay.reach(at(2, 0, 0))
    assert replay.standing.untrusted


def test_an_unreadable_value_loses_its_slot() -> None:
    """Also an older vote on that slot is then worth nothing."""
    replay = Replay(Slot(0))
    voted(replay, 1, 2)
    replay.records([vote(2, 4)], [None], "byte 77")
    assert replay.lost == {Slot(2): "byte 77"}
    assert sorted(replay.votes) == [1]


def test_an_unknown_kind_is_a_newer_format() -> None:
    """A value that this release cannot understand is not guessed at."""
    with pytest.raises(NewerFormat, match="kind 9"):
        Replay(Slot(0)).records([(ACCEPTED, 9, 0, 1, 1, 1, 0)], [b""], "here")


def test_describe() -> None:
    """Records in words, for dumps and complaints."""
    assert describe((ACCEPTED, 1, 30, 7, 2, 3, 0)) == "accepted slot 7 ballot 2.3 commands 30 bytes"
    assert describe((ACCEPTED, 99, 30, 7, 2, 3, 0)) == "accepted slot 7 ballot 2.3 kind 99 30 bytes"
    assert describe((PROMISED, 0, 0, 0, 2, 3, 0)) == "promised ballot 2.3"
    assert describe((CHOSEN, 0, 0, 7, 0, 0, 0)) == "chosen up to 7"
