"""What is remembered of a local cell, and its ports."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from quorate.kernel.cli import local
from quorate.kernel.cli.command import Complaint
from quorate.kernel.cli.local import LocalCell, Running


def test_ports_of_a_cell_are_all_different() -> None:
    """ZooKeeper, peer and native ports of the largest local cell do not overlap."""
    cell = LocalCell("c", local.REPLICAS_MAX, 20_000)
    ports = [port for index in range(local.REPLICAS_MAX) for port in cell.ports(index)]
    assert len(set(ports)) == len(ports) == 3 * local.REPLICAS_MAX


def test_a_cell_is_remembered(tmp_path: Path) -> None:
    """What is saved is loaded again, with and without a supervisor."""
    cell = LocalCell("c", 3, 20_000, ("locks",), ("tally:Tally",), ("here",), ("zookeeper.tick=500",))
    assert local.load(tmp_path) is None
    for running in (Running(7, "socket"), None):
        local.save(tmp_path, cell, running)
        assert local.load(tmp_path) == (cell, running)


def test_a_cell_of_before_there_were_doors_is_remembered(tmp_path: Path) -> None:
    """A file without the newer fields reads as if there were no options, and as that of a cell that has served."""
    local.save(tmp_path, LocalCell("c", 3, 20_000), None)
    path = tmp_path / "cell.json"
    newer = ("options", "served")
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key not in newer}))
    assert local.load(tmp_path) == (LocalCell("c", 3, 20_000, served=True), None)


@pytest.mark.parametrize(("replicas", "spare"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)])
def test_how_many_replicas_a_run_may_begin_without(replicas: int, spare: int) -> None:
    """As many as leave a majority; none before the cell has served."""
    cell = LocalCell("c", replicas, 20_000)
    assert (cell.may_miss, cell._replace(served=True).may_miss) == (0, spare)


def test_options_of_doors() -> None:
    """Values may hold anything, a dot in an option is its own, a replica's number is put in, the last one holds."""
    given = ("zookeeper.tick=500", "zookeeper.sasl.ann=a=b.c", "zookeeper.secure=tcp:2228{index}", "dns.ttl=1")
    assert local.front_options((*given, "zookeeper.tick=7"), 2) == {
        "zookeeper": {"tick": "7", "sasl.ann": "a=b.c", "secure": "tcp:22282"},
        "dns": {"ttl": "1"},
    }
    assert local.merged_options(given[:2], ("zookeeper.tick=7", "a.b=c")) == (
        "zookeeper.tick=7",
        "zookeeper.sasl.ann=a=b.c",
        "a.b=c",
    )


@pytest.mark.parametrize("bad", ["zookeeper.tick", "tick=500", ".tick=500", "zookeeper.=5", "=5"])
def test_an_option_of_no_door_is_a_complaint(bad: str) -> None:
    """Face, option and value are all needed."""
    with pytest.raises(Complaint, match=bad):
        local.front_options((bad,), 0)


def test_a_damaged_file_is_a_complaint(tmp_path: Path) -> None:
    """An unreadable cell.json is named, not guessed at."""
    (tmp_path / "cell.json").write_text('{"cell": "c"')
    with pytest.raises(Complaint, match=r"cell\.json"):
        local.load(tmp_path)


def test_a_folder_is_run_once(tmp_path: Path) -> None:
    """Two supervisors cannot run the same cell; the next may when the first has gone."""
    with local.held(tmp_path), pytest.raises(Complaint, match="running already"), local.held(tmp_path):
        pass
    with local.held(tmp_path):
        pass


def test_a_free_base_is_free_and_a_taken_port_is_seen() -> None:
    """The ports offered can be bound; one that is bound is reported."""
    base = local.free_base(3)
    cell = LocalCell("c", 3, base)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a cell before may have had the port
        taken.bind(("127.0.0.1", base + 11))
        taken.listen()
        assert local.busy_ports(cell) == {1: [base + 11]}
    assert local.busy_ports(cell) == {}


@pytest.mark.parametrize("count", [0, -1, 10])
def test_an_impossible_number_of_replicas_is_a_complaint(count: int) -> None:
    """A local cell has one to nine replicas."""
    with pytest.raises(Complaint, match=str(count)):
        local.check_replicas(count)


def test_a_folder_that_cannot_be_used_is_a_complaint(tmp_path: Path) -> None:
    """Whoever names a file, or a folder that nobody may write to, is told which path it was about and what to do."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(Complaint, match="cannot be read: Not a directory"):
        local.load(file)
    with pytest.raises(Complaint, match="cannot be made: Not a directory"), local.held(file):
        pass
    with pytest.raises(Complaint, match="cannot be written: Not a directory"):
        local.save(file, LocalCell("c", 3, 20_000), None)
