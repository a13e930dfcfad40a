"""The machine "membership"."""

from __future__ import annotations

import pytest
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.system.membership import NOBODY, Membership
from quorate.kernel.wire import plain

THREE = Configuration(
    Slot(9),
    (
        Member(MemberId(2), Role.LEARNER, "tcp:b:1"),
        Member(MemberId(1), Role.VOTER, "tcp:a:1", (("client", "tcp:a:2"), ("zookeeper", "tcp:a:3")), b"d" * 16),
    ),
)


def test_members_for_people() -> None:
    """In order of id, roles as words, doors by face."""
    machine = Membership()
    assert machine.members() == []
    machine.configuration = THREE
    assert machine.members() == [
        {"id": 1, "role": "voter", "peer": "tcp:a:1", "doors": {"client": "tcp:a:2", "zookeeper": "tcp:a:3"}},
        {"id": 2, "role": "learner", "peer": "tcp:b:1", "doors": {}},
    ]


@pytest.mark.parametrize("configuration", [NOBODY, THREE])
def test_image(configuration: Configuration) -> None:
    """A restored configuration is equal, types included, because quorums are counted with it."""
    machine, restored = Membership(), Membership()
    machine.configuration = configuration
    restored.restore(plain.decode(plain.encode(machine.snapshot())), 1)
    assert restored.configuration == configuration
    assert repr(restored.configuration) == repr(configuration)
