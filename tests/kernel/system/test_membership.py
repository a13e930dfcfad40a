"""The machine "membership"."""

from __future__ import annotations

from random import Random

import pytest
from quorate.kernel.machine import Refusal
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.configuration import encode_change
from quorate.kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role
from quorate.kernel.system.asks import Reconfigure, SystemCommit, SystemEffects
from quorate.kernel.system.membership import NOBODY, Membership
from quorate.kernel.wire import plain

THREE = Configuration(
    Slot(9),
    (
        Member(MemberId(2), Role.LEARNER, "tcp:b:1"),
        Member(MemberId(1), Role.VOTER, "tcp:a:1", (("client", "tcp:a:2"), ("zookeeper", "tcp:a:3"))),
    ),
)


def test_members_for_people() -> None:
    """In order of id, roles as words, doors by face, disks in hexadecimal."""
    machine = Membership()
    assert machine.members() == []
    machine.configuration = THREE
    machine.disks[1] = b"d" * 16
    assert machine.members() == [
        {
            "id": 1,
            "role": "voter",
            "peer": "tcp:a:1",
            "doors": {"client": "tcp:a:2", "zookeeper": "tcp:a:3"},
            "disk": "64" * 16,
        },
        {"id": 2, "role": "learner", "peer": "tcp:b:1", "doors": {}, "disk": ""},
    ]


def test_a_wish_is_passed_on_if_it_fits() -> None:
    """A change that fits the configuration it was made for is for the leader to propose; any other is refused."""
    machine = Membership()
    machine.configuration = THREE
    effects = SystemEffects()
    commit = SystemCommit(5, 0, 0, sessions={}, random=Random, effects=effects)
    wish = encode_change(Change(ChangeKind.PROMOTE, THREE.members[0]))
    machine.change(commit, 9, wish)
    assert effects.asked == [Reconfigure(wish)]
    unfit = encode_change(Change(ChangeKind.PROMOTE, THREE.members[1]))
    for number, change, code in ((8, wish, "membership-moved"), (9, unfit, "bad-change"), (9, b"", "bad-change")):
        with pytest.raises(Refusal) as refused:
            machine.change(commit, number, change)
        assert refused.value.code == code
    assert len(effects.asked) == 1


def test_a_disk_is_known_for_ever() -> None:
    """A member's first word on its disk counts; what can be no disk is refused."""
    machine = Membership()
    effects = SystemEffects()
    commit = SystemCommit(5, 0, 0, sessions={}, random=Random, effects=effects)
    machine.introduce(commit, 2, b"d" * 16)
    machine.introduce(commit, 2, b"e" * 16)
    with pytest.raises(Refusal, match="bad-disk"):
        machine.introduce(commit, 3, b"short")
    assert machine.disks == {2: b"d" * 16}


@pytest.mark.parametrize("configuration", [NOBODY, THREE])
def test_image(configuration: Configuration) -> None:
    """A restored configuration is equal, types included, because quorums are counted with it; so are the disks."""
    machine, restored = Membership(), Membership()
    machine.configuration = configuration
    machine.disks = {2: b"d" * 16, 1: b"e" * 16}
    restored.restore(plain.decode(plain.encode(machine.snapshot())), 1)
    assert restored.configuration == configuration
    assert repr(restored.configuration) == repr(configuration)
    assert restored.disks == machine.disks
