"""The picture of a cell that is joined from what its replicas say."""

from __future__ import annotations

from typing import Any

from quorate.kernel.cli.status import in_words, joined

MEMBERS = [{"id": each, "role": "voter", "client": f"tcp:127.0.0.1:{7420 + each}"} for each in (1, 2, 3)]


def said(member: int, role: str = "follower", **changes: Any) -> dict[str, Any]:
    """What a replica might say of itself."""
    return {
        "cell": "main",
        "member": member,
        "leader": 1,
        "serving": True,
        "epoch": 5,
        "pid": 100 + member,
        "role": role,
        "ballot": "3.1",
        "lease_ms": 390 if role == "leader" else 0,
        "chosen": 120,
        "applied": 118,
        "sessions": member,
        "plugins": [{"name": "locks", "version": 1, "halted": None}],
        "digest": "9f",
        "longest_turn_ms": 12.5,
        "members": MEMBERS,
        "ailing": None,
        "full": None,
        "diverged": None,
        **changes,
    }


def test_a_healthy_cell() -> None:
    """Every replica has its row; three of three bear one failure."""
    answers = [said(1, "leader", applied=120), said(2), said(3)]
    cell = joined(answers[0], MEMBERS, answers)
    assert (cell["cell"], cell["leader"], cell["epoch"], cell["failures_tolerated"]) == ("main", 1, 5, 1)
    assert [(each["index"], each["id"], each["pid"], each["role"], each["lag"]) for each in cell["replicas"]] == [
        (0, 1, 101, "leader", 0),
        (1, 2, 102, "follower", 2),
        (2, 3, 103, "follower", 2),
    ]
    assert cell["replicas"][1]["longest_turn_ms"] == 12.5
    assert "replica 0 leads, 3 of 3 replicas up, tolerates 1 more failure" in in_words(cell)[0]


def test_one_replica_down() -> None:
    """A silent replica is shown as down, and nothing more may fail."""
    answers = [said(1, "leader"), said(2), None]
    cell = joined(said(2), MEMBERS, answers)
    assert cell["failures_tolerated"] == 0
    assert cell["replicas"][2]["role"] == "down"
    assert cell["replicas"][2]["pid"] is None
    assert "NO further failure" in in_words(cell)[0]


def test_a_member_that_nobody_reaches_counts_as_failed() -> None:
    """Of five one has a misspelled address in everybody's configuration: it runs and answers, hears of no leader, and
    the cell, which looks healthy, bears one failure instead of two."""
    members = [{**MEMBERS[0], "id": each} for each in range(1, 6)]
    answers = [said(1, "leader"), said(2), said(3), said(4), said(5, leader=0, serving=False)]
    cell = joined(answers[0], members, answers)
    assert cell["failures_tolerated"] == 1
    assert "4 of 5 replicas up, tolerates 1 more failure" in in_words(cell)[0]


def test_no_quorum() -> None:
    """With a majority gone nobody leads, and the words say so."""
    answers = [said(1, "candidate", leader=0, serving=False), None, None]
    cell = joined(answers[0] or {}, MEMBERS, answers)
    assert cell["leader"] is None
    assert cell["failures_tolerated"] == 0
    assert "NO QUORUM" in in_words(cell)[0]


def test_of_two_who_say_they_lead_the_later_one_does() -> None:
    """An old leader that has not yet noticed does not hide the new one."""
    answers = [said(1, "leader", epoch=5), said(2, "leader", epoch=6, leader=2), said(3, leader=2)]
    assert joined(said(3), MEMBERS, answers)["leader"] == 2


def test_a_halted_machine_is_shouted() -> None:
    """A machine that stopped at a command is named with the reason."""
    halted = [{"name": "locks", "version": 1, "halted": "KeyError: 7 at command 9"}]
    answers = [said(1, "leader", plugins=halted), said(2, plugins=halted), said(3, plugins=halted)]
    assert "HALTED: locks: KeyError: 7 at command 9" in in_words(joined(answers[0], MEMBERS, answers))


def test_a_replica_in_trouble_is_shouted() -> None:
    """One that answers and does not vote says why."""
    answers = [said(1, "leader"), said(2), said(3, ailing="the disk fails", serving=False)]
    cell = joined(answers[0], MEMBERS, answers)
    assert cell["failures_tolerated"] == 0
    assert "TROUBLE: replica 2: the disk fails" in in_words(cell)
