"""The cell's members in ZooKeeper's words, and what reconfig requests mean."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import ChangeKind, Configuration, Member, Role, changed
from quorate.plugins.znodes import ensemble
from quorate.plugins.znodes.protocol import Err, Fault


class Request(NamedTuple):
    """What a client sends."""

    joining: bytes | None = None
    leaving: bytes | None = None
    members: bytes | None = None
    version: int = -1


def member(number: int, role: Role = Role.VOTER, host: str = "") -> Member:
    """A member with ordinary addresses."""
    host = host or f"h{number}"
    doors = (("client", f"tcp:{host}:7420"), ("zookeeper", f"tcp:{host}:2181"))
    return Member(MemberId(number), role, f"tcp:{host}:7410", doors)


THREE = Configuration(Slot(0x1F), tuple(member(number) for number in (3, 1, 2)))


def test_the_text() -> None:
    """One line a member in the order of ids, then the number; what is read of it is what was written."""
    odd = Member(MemberId(9), Role.LEARNER, "tcp:fe80\\:\\:1:7410", (("zookeeper", "unix:/run/z"),))
    said = ensemble.text(Configuration(Slot(0x1F), (member(1), odd)))
    assert said.decode().splitlines() == [
        "server.1=h1:7410:7420:participant;h1:2181",
        "server.9=[fe80::1]:7410:0:observer;0.0.0.0:0",
        "version=1f",
    ]
    assert ensemble.number_of(said) == 0x1F
    assert [ensemble.number_of(each) for each in (None, b"", b"version=", b"version=1f\n", b"x=1")] == [-1] * 5


def test_joining_and_leaving() -> None:
    """Who joins is there with the role and the places it names, who leaves is not; who is unknown may leave."""
    joining = b"server.5=h5:1:2:observer;3, server.2=[::1]:1:2;h2:3"
    goal = ensemble.wanted(THREE, Request(joining=joining, leaving=b"1,77"))
    assert sorted(goal) == [2, 3, 5]
    assert goal[MemberId(5)] == Member(
        MemberId(5), Role.LEARNER, "tcp:h5:1", (("client", "tcp:h5:2"), ("zookeeper", "tcp:0.0.0.0:3"))
    )
    assert (goal[MemberId(2)].role, goal[MemberId(2)].peer) == (Role.VOTER, "tcp:\\:\\:1:1")


def test_all_members_at_once() -> None:
    """A full list, as read from /zookeeper/config, is the goal; the version in it means nothing."""
    same = ensemble.wanted(THREE, Request(members=ensemble.text(THREE)))
    assert ensemble.next_step(THREE, same) is None
    one = ensemble.wanted(THREE, Request(members=b"server.2=h2:7410:7420:participant;h2:2181"))
    assert sorted(one) == [2]


NONSENSE = [
    Request(joining=b"some thing"),
    Request(joining=b"server.5=h5:1:2:observer"),
    Request(joining=b"server.5=h5:1:2:king;3"),
    Request(joining=b"server.0=h5:1:2;3"),
    Request(joining=b"server.70000=h5:1:2;3"),
    Request(joining=b"server.5=h5:1:70000;3"),
    Request(joining=b"server.5=h5:0:2;3"),
    Request(joining=b"server.5=h1:7410:2;3"),
    Request(joining=b"\xff"),
    Request(leaving=b"1,2,3"),
]
STUMBLED_OVER = [
    Request(leaving=b"one"),
    Request(joining=b"server.one=h5:1:2:observer;3"),
    Request(members=b"server.one=h5:1:2:participant;3"),
    Request(members=b""),
    Request(members=b"server.5=h5:1:2:observer;3"),
]


@pytest.mark.parametrize(
    ("request_", "err"),
    [
        *((each, Err.BAD_ARGUMENTS) for each in NONSENSE),
        *((each, Err.MARSHALLING_ERROR) for each in STUMBLED_OVER),
    ],
)
def test_nonsense_is_refused(request_: Request, err: Err) -> None:
    """What is not written as it should be, places that are taken, and a cell without a voter. A number that is none,
    and a list of everybody without a voter, have another code, as in the original."""
    with pytest.raises(Fault) as refused:
        ensemble.wanted(THREE, request_)
    assert refused.value.err == err


ROLES = st.dictionaries(st.integers(1, 6), st.sampled_from(Role), min_size=1).filter(
    lambda roles: Role.VOTER in roles.values()
)


@given(ROLES, ROLES, st.sets(st.integers(1, 6)))
def test_every_goal_is_reached_by_steps_that_the_kernel_takes(
    before: dict[int, Role], after: dict[int, Role], moved: set[int]
) -> None:
    """From any members to any others, one change at a time, each of which fits; learners first, removals last, and
    never fewer voters than at the beginning or at the end."""
    configuration = Configuration(Slot(0), tuple(member(each, role) for each, role in before.items()))
    goal = {MemberId(each): member(each, role, "new" * (each in moved) + str(each)) for each, role in after.items()}
    least = min(len([role for role in roles.values() if role is Role.VOTER]) for roles in (before, after))
    for number in range(1, 30):
        step = ensemble.next_step(configuration, goal)
        if step is None:
            break
        configuration = changed(configuration, step, Slot(number))
        assert len(configuration.voters()) >= least - (step.kind in (ChangeKind.DEMOTE, ChangeKind.REMOVE)) >= 0
        assert configuration.voters()
    assert {each.id: each for each in configuration.members} == goal
