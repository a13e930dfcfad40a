"""Configurations as bytes: the same back, nothing else accepted, and the same bytes for ever."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.storage.encoding import decode_configuration, encode_configuration
from quorate.kernel.storage.errors import Malformed, NewerFormat, StorageError

TEXTS = st.text(max_size=20)
MEMBERS = st.builds(
    Member,
    st.integers(0, 2**32 - 1).map(MemberId),
    st.sampled_from(Role),
    TEXTS,
    st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
)
CONFIGURATIONS = st.builds(
    Configuration,
    st.integers(0, 2**64 - 1).map(Slot),
    st.lists(MEMBERS, max_size=5, unique_by=lambda member: member.id).map(tuple),
)


@given(CONFIGURATIONS)
def test_round_trip(configuration: Configuration) -> None:
    """Decoding gives back what was encoded."""
    assert decode_configuration(encode_configuration(configuration)) == configuration


@given(CONFIGURATIONS, st.data())
def test_every_cut_is_refused(configuration: Configuration, draw: Any) -> None:
    """No prefix, and nothing with bytes behind, is taken for a configuration."""
    content = encode_configuration(configuration)
    with pytest.raises(Malformed):
        decode_configuration(content[: draw.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(Malformed):
        decode_configuration(content + b"\0")


@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(content: bytes) -> None:
    """Garbage raises one of our errors, or is exactly what encodes to it."""
    try:
        configuration = decode_configuration(content)
    except StorageError:
        return
    assert encode_configuration(configuration) == content


def test_the_bytes_are_fixed() -> None:
    """Version 1, byte by byte: old files depend on it."""
    member = Member(MemberId(3), Role.LEARNER, "tcp:a:1", (("client", "b:2"),))
    assert encode_configuration(Configuration(Slot(258), (member,))) == (
        b"\x01\0\0\0\0\0\0\x01\x02\0\x01\0\0\0\x03\x01\0\x01\0\x07tcp:a:1\0\x06client\0\x03b:2"
    )


def test_refusals(kit: Any) -> None:
    """A newer version, an unknown role, a member twice, a number out of range."""
    content = encode_configuration(kit.founding)
    with pytest.raises(NewerFormat, match="version 2"):
        decode_configuration(b"\x02" + content[1:])
    role = content.index(b"\0\0\0\x01\0") + 4
    with pytest.raises(Malformed, match="role 7"):
        decode_configuration(content[:role] + b"\x07" + content[role + 1 :])
    member = Member(MemberId(1), Role.VOTER, "x")
    with pytest.raises(Malformed, match="twice"):
        decode_configuration(encode_configuration(Configuration(Slot(0), (member, member))))
    with pytest.raises(ValueError, match="range"):
        encode_configuration(Configuration(Slot(-1), ()))
