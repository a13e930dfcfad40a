"""Four-letter words: the lines monitors look for, the whitelist, and what is said without a leader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.plugins.znodes import words
from quorate.plugins.znodes.protocol import Op
from znodes_talk import Room, Talk
from znodes_wire import create, path_watch


@pytest.fixture
def room() -> Room:
    """A cell of three with every word allowed, a client and some nodes."""
    room = Room(3, words="*")
    talk = room.talk()
    talk.call(Op.CREATE, create(b"/e", b"xy", 1))
    talk.call(Op.GET_DATA, path_watch(b"/e", True))
    talk.call(Op.CREATE, create(b"/f"))
    room.first = talk
    for front in room.fronts:
        front.port = lambda: 2181
    return room


def ask(room: Room, word: str, front: int = 0) -> str | None:
    """The answer to a word on a connection of its own, which must be closed then."""
    talk = Talk(room, room.fronts[front])
    talk.connection.received(word.encode())
    assert talk.wire.closed
    return talk.wire.sent.decode() if talk.wire.sent else None


def test_small_words(room: Room) -> None:
    """The two shortest answers, without a newline."""
    assert ask(room, "ruok") == "imok"
    assert ask(room, "isro") == "rw"


def test_srvr(room: Room) -> None:
    """The original's lines, in its order."""
    lines = ask(room, "srvr").splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "Zookeeper version", "Latency min/avg/max", "Received", "Sent", "Connections", "Outstanding", "Zxid", "Mode",
        "Node count",
    ]  # fmt: skip
    assert lines[6:] == ["Zxid: 0x3", "Mode: leader", "Node count: 7"]
    assert lines[2:4] == ["Received: 4", "Sent: 4"]
    assert "Mode: follower" in ask(room, "srvr", 1)
    assert "Mode: standalone" in ask(Room(words="*"), "srvr")


def test_mntr(room: Room) -> None:
    """The keys monitors rely on, with the values of this cell."""
    values = dict(line.split("\t") for line in ask(room, "mntr").splitlines())
    expected = {
        "zk_server_state": "leader", "zk_znode_count": "7", "zk_watch_count": "1", "zk_ephemerals_count": "1",
        "zk_num_alive_connections": "2", "zk_outstanding_requests": "0", "zk_global_sessions": "1",
    }  # fmt: skip
    assert expected.items() <= values.items()
    assert {f"zk_{each}_latency" for each in ("min", "avg", "max")} <= values.keys()
    assert int(values["zk_approximate_data_size"]) > 2
    assert "zk_followers" in values
    assert "zk_followers" not in ask(room, "mntr", 1)


def test_words_about_clients(room: Room) -> None:
    """stat, cons, dump and the three about watches name the session and its paths."""
    session = f"0x{room.first.session:x}"
    assert f"sid={session}" in ask(room, "cons")
    assert "/127.0.0.1:4711[1]" in ask(room, "stat")
    assert f"{session}:\n\t/e\n" in ask(room, "dump")
    assert ask(room, "wchc") == f"{session}\n\t/e\n\n"
    assert ask(room, "wchp") == f"/e\n\t{session}\n\n"
    assert ask(room, "wchs") == "1 connections watching 1 paths\nTotal watches:1\n"


def test_words_about_the_server(room: Room) -> None:
    """conf, envi, dirs and hash answer; the counters can be reset."""
    assert "tickTime=2000\n" in ask(room, "conf")
    assert ask(room, "envi").startswith("Environment:\nzookeeper.version=3.8.0-")
    assert ask(room, "dirs").startswith("datadir_size: ")
    assert ask(room, "hash").startswith("3: ")
    assert ask(room, "srst") == "Server stats reset.\n"
    assert ask(room, "crst") == "Connection stats reset.\n"
    assert "Received: 0\n" in ask(room, "srvr")


def test_whitelist() -> None:
    """By default only what tells nothing of clients and changes nothing; the refusal is the original's."""
    room = Room()
    assert ask(room, "ruok") == "imok"
    for word in ("dump", "wchp", "crst"):
        assert word not in words.DEFAULT
        assert ask(room, word) == f"{word} is not executed because it is not in the whitelist.\n"


def test_no_word(room: Room) -> None:
    """Anything else of that length is an impossible frame."""
    assert ask(room, "nope") is None


def test_without_a_leader(room: Room) -> None:
    """A replica that follows nobody says so, and still says that it lives."""
    room.cell.serve(False)
    assert ask(room, "ruok") == "imok"
    assert ask(room, "isro") == "null"
    assert ask(room, "srvr") == words.NOT_SERVING.decode()
