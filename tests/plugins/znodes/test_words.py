"""Four-letter words: the lines monitors look for, the whitelist, and what is said without a leader."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.kernel.paxos.quorum import Change, ChangeKind
from quorate.plugins.znodes import report, words
from quorate.plugins.znodes.front import GREETING_SECONDS
from quorate.plugins.znodes.protocol import Op
from znodes_talk import PaperWire, Room, Talk
from znodes_wire import create, path_version, path_watch


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
    assert int(values["zk_approximate_data_size"]) == 2 + sum(map(len, room.fronts[0].tree.nodes))
    assert {"zk_followers", "zk_synced_followers", "zk_learners", "zk_pending_syncs", "zk_peer_state"} <= values.keys()
    assert "zk_followers" not in ask(room, "mntr", 1)
    assert "zk_peer_state" not in ask(Room(words="*"), "mntr")


def test_mntr_counts_who_was_sent_away(room: Room) -> None:
    """Connections beyond the bound, and those that never said anything."""
    front = Room(words="*", **{"max-connections": "1"})
    assert front.fronts[0].admit(PaperWire(), ("10.0.0.1", 1)) is not None
    assert front.fronts[0].admit(PaperWire(), ("10.0.0.1", 2)) is None
    assert "zk_connection_rejected\t1\n" in ask(front, "mntr")
    front.clock.advance(GREETING_SECONDS + 1)
    assert "zk_sessionless_connections_expired\t1\n" in ask(front, "mntr")


def test_mntr_guesses_long_lists_of_paths(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a sample the paths are taken to be like those in it."""
    monkeypatch.setattr(report, "SAMPLE", 2)
    paths = room.fronts[0].tree.nodes
    first = sum(map(len, list(paths)[:2]))
    assert f"zk_approximate_data_size\t{2 + first * len(paths) // 2}\n" in ask(room, "mntr")


def test_mntr_shows_quotas(room: Room) -> None:
    """Limits and usage, summed below each name at the top; lines that cannot be read count as no limit."""
    for path, value in (
        (b"/q", b"abc"), (b"/zookeeper/quota/q", b""), (b"/zookeeper/quota/q/zookeeper_limits", b"count=5,bytes=9"),
        (b"/zookeeper/quota/q/zookeeper_stats", b""), (b"/zookeeper/quota/p", b""),
        (b"/zookeeper/quota/p/zookeeper_limits", b"rubbish"), (b"/zookeeper/quota/p/r", b""),
        (b"/zookeeper/quota/p/r/zookeeper_limits", b"count=-1,bytes=-1=;countHardLimit=7;byteHardLimit=8"),
    ):  # fmt: skip
        assert room.first.call(Op.CREATE, create(path, value)).err == 0
    values = dict(line.split("\t") for line in ask(room, "mntr").splitlines() if "quota" in line)
    assert values == {
        "zk_q_quota_count_limit_per_namespace": "5", "zk_q_quota_count_usage_per_namespace": "1",
        "zk_q_quota_bytes_limit_per_namespace": "9", "zk_q_quota_bytes_usage_per_namespace": "3",
        "zk_p_quota_count_limit_per_namespace": "6", "zk_p_quota_count_usage_per_namespace": "-2",
        "zk_p_quota_bytes_limit_per_namespace": "7", "zk_p_quota_bytes_usage_per_namespace": "-2",
    }  # fmt: skip


def test_words_about_clients(room: Room) -> None:
    """stat, cons, dump and the three about watches name the session and its paths."""
    session = f"0x{room.first.session:x}"
    assert f"sid={session}" in ask(room, "cons")
    assert "/127.0.0.1:4711[1]" in ask(room, "stat")
    assert f"{session}:\n\t/e\n" in ask(room, "dump")
    assert ask(room, "wchc") == f"{session}\n\t/e\n\n"
    assert ask(room, "wchp") == f"/e\n\t{session}\n\n"
    assert f"ip: /127.0.0.1:4711 sessionId: {session}\n" in ask(room, "dump")
    assert ask(room, "wchs") == "1 connections watching 1 paths\nTotal watches:1\n"


def test_words_about_the_server(room: Room) -> None:
    """conf, envi, dirs and hash answer."""
    assert "tickTime=2000\n" in ask(room, "conf")
    assert "secureClientPort=-1\n" in ask(room, "conf")
    members = [f"server.{each}=10.0.0.{each}:7410:7420:participant;0.0.0.0:2181" for each in (1, 2, 3)]
    assert ask(room, "conf").partition("\nmembership: \n")[2].splitlines() == [*members, "version=0"]
    assert ask(room, "envi").startswith("Environment:\nzookeeper.version=3.8.0-")
    assert ask(room, "dirs").startswith("datadir_size: ")
    assert ask(room, "hash").startswith("3: ")


def test_each_reset_is_of_its_own(room: Room) -> None:
    """The server is counted anew while its connections go on, and the other way round."""
    assert ask(room, "crst") == "Connection stats reset.\n"
    assert "recved=0,sent=0,sid=" in ask(room, "cons")
    assert "Received: 4\nSent: 4\n" in ask(room, "srvr")
    room.first.call(Op.EXISTS, path_watch(b"/"))
    assert ask(room, "srst") == "Server stats reset.\n"
    assert "Received: 0\nSent: 0\n" in ask(room, "srvr")
    room.first.send(room.first.say(Op.CREATE, create(b"/g")), room.first.say(Op.DELETE, path_version(b"/g")))
    assert "recved=3,sent=1,sid=" in ask(room, "cons")
    assert "Received: 2\nSent: 0\nConnections: 2\nOutstanding: 2\n" in ask(room, "srvr")


def test_observers(room: Room) -> None:
    """A replica without a vote says so, the leader counts it apart, and it is not in the view of the voters."""
    configuration = room.cell.configuration
    room.cell.change(configuration.number, Change(ChangeKind.DEMOTE, configuration.find(3)))
    assert "Mode: observer\n" in ask(room, "srvr", 2)
    assert "zk_peer_state\tobserving - broadcast\n" in ask(room, "mntr", 2)
    room.seat().facts = lambda: {"followers": 2, "synced_followers": 1}
    values = dict(line.split("\t") for line in ask(room, "mntr").splitlines())
    counted = {"zk_learners": "2", "zk_followers": "1", "zk_synced_followers": "1", "zk_synced_observers": "1"}
    assert counted.items() <= values.items()


def test_local_sessions_are_named_as_numbers() -> None:
    """Their ids are below zero, which nobody writes; mntr counts them."""
    room = Room(words="*", **{"local-sessions": "true"})
    talk = room.talk()
    assert f"sid=0x{talk.session % 2**64:x}," in ask(room, "cons")
    assert "zk_local_sessions\t1\n" in ask(room, "mntr")


def test_trace_mask(room: Room) -> None:
    """It is kept as scripts set it; a word without all of its number only asks."""
    assert ask(room, "gtmk") == "306"
    assert ask(room, "stmk" + "\0" * 7 + "\x10") == "16"
    assert ask(room, "stmk" + "\0" * 7) == "16"


def test_the_size_of_files(room: Room, tmp_path: Path) -> None:
    """dirs and conf tell the bytes below the replica's directory."""
    (tmp_path / "journal").mkdir()
    (tmp_path / "journal" / "1").write_bytes(bytes(1000))
    (tmp_path / "identity").write_bytes(bytes(10))
    room.seat().facts = lambda: {"directory": str(tmp_path)}
    assert ask(room, "dirs") == "datadir_size: 1010\nlogdir_size: 1010\n"
    assert f"dataDir={tmp_path}\ndataDirSize=1010\n" in ask(room, "conf")


def test_whitelist() -> None:
    """By default only what tells nothing of clients and changes nothing; the refusal is the original's."""
    room = Room()
    assert ask(room, "ruok") == "imok"
    for word in ("dump", "wchp", "crst", "stat", "envi", "conf"):
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
