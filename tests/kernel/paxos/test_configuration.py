"""The bytes of membership changes."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.configuration import MalformedChange, decode_change, encode_change, reconfigured
from quorate.kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role

TEXT = st.text(max_size=20)
MEMBERS = st.builds(
    Member,
    id=st.integers(1, 2**32 - 1).map(MemberId),
    role=st.sampled_from(Role),
    peer=TEXT,
    doors=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)
CHANGES = st.builds(Change, kind=st.sampled_from(ChangeKind), member=MEMBERS)


@given(CHANGES)
def test_what_is_encoded_is_decoded(change: Change) -> None:
    """Every change survives the log."""
    assert decode_change(encode_change(change)) == change


@given(CHANGES)
def test_a_change_that_is_cut_short_is_refused(change: Change) -> None:
    """At whatever byte, except where a door ends: a shorter change is still a change, but never half a name."""
    payload = encode_change(change)
    for length in range(len(payload)):
        try:
            found = decode_change(payload[:length])
        except MalformedChange:
            continue
        assert found.member.doors == change.member.doors[: len(found.member.doors)]
        assert found._replace(member=found.member._replace(doors=())) == change._replace(
            member=change.member._replace(doors=())
        )


@given(CHANGES, st.data())
def test_a_changed_byte_is_refused_or_read_as_something(change: Change, data: st.DataObject) -> None:
    """Whatever stands there, decoding gives a change or MalformedChange, and nothing else."""
    payload = bytearray(encode_change(change))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(MalformedChange):
        assert isinstance(decode_change(bytes(payload)), Change)


@given(st.binary(max_size=60))
def test_noise_is_refused_or_read_as_something(payload: bytes) -> None:
    """As above, for bytes that never were a change."""
    with suppress(MalformedChange):
        assert isinstance(decode_change(payload), Change)


def test_another_format_is_named() -> None:
    """The message says which format was found and which one can be read."""
    payload = encode_change(Change(ChangeKind.REMOVE, Member(MemberId(1), Role.VOTER, "tcp:1")))
    with pytest.raises(MalformedChange, match="of format 2; this version reads format 1"):
        decode_change(b"\x02" + payload[1:])


def test_a_change_chosen_late_has_no_effect_if_it_no_longer_fits() -> None:
    """Found open by a later leader, after the same member was removed by another change: all members ignore it."""
    cell = Configuration(Slot(3), (Member(MemberId(1), Role.VOTER, "tcp:1"),))
    gone = Change(ChangeKind.REMOVE, Member(MemberId(2), Role.VOTER, "tcp:2"))
    assert reconfigured(cell, encode_change(gone), Slot(4)) is cell
    added = Change(ChangeKind.ADD_LEARNER, Member(MemberId(2), Role.LEARNER, "tcp:2"))
    assert reconfigured(cell, encode_change(added), Slot(4)).number == 4
