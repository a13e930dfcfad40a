"""The administrator's page: the original's commands and the names of their values (ZK-12.5)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.kernel.paxos.quorum import Change, ChangeKind
from quorate.plugins.znodes import admin
from quorate.plugins.znodes.protocol import Op
from quorate.plugins.znodes.tls import SecureWire
from twisted.internet.testing import StringTransport
from znodes_talk import Room
from znodes_wire import create, path_watch


@pytest.fixture
def room() -> Room:
    """A cell of three with a client, a watch and an ephemeral node."""
    room = Room(3)
    room.first = room.talk()
    room.first.call(Op.CREATE, create(b"/e", b"xy", 1))
    room.first.call(Op.GET_DATA, path_watch(b"/e", True))
    for front in room.fronts:
        front.port = lambda: 2181
    return room


def ask(room: Room, path: str, front: int = 0) -> tuple[int, str, str]:
    """Status, content type and body of what is got from a path."""
    channel = admin.site(room.fronts[front]).buildProtocol(None)
    transport = StringTransport()
    channel.makeConnection(transport)
    channel.dataReceived(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    head, _, body = transport.value().decode().partition("\r\n\r\n")
    channel.connectionLost(None)
    kind = next(line for line in head.splitlines() if line.lower().startswith("content-type"))
    return int(head.split()[1]), kind.partition(": ")[2], body


def command(room: Room, name: str, front: int = 0) -> dict[str, Any]:
    """What a command answers."""
    status, kind, body = ask(room, f"/commands/{name}", front)
    assert (status, kind) == (200, "application/json; charset=utf-8")
    answer = json.loads(body)
    assert answer.pop("error") is None
    answer.pop("command")
    return answer


def test_the_list_names_every_command(room: Room) -> None:
    """Each by its long name, as a link that answers under its short ones, too; a slash at the end changes nothing."""
    status, kind, body = ask(room, "/commands")
    assert ask(room, "/commands/") == (status, kind, body)
    assert (status, kind) == (200, "text/html; charset=utf-8")
    names = [line.partition(">")[2].partition("<")[0] for line in body.splitlines()]
    assert {"configuration", "connections", "dump", "monitor", "ruok", "server_stats", "watch_summary"} <= set(names)
    for name in names:
        if name != "set_trace_mask":
            command(room, name)
    assert json.loads(ask(room, "/commands/mntr")[2])["command"] == "monitor"


def test_the_values_have_the_originals_names(room: Room) -> None:
    """What programs look for, with the values of this cell."""
    session = room.first.session
    assert command(room, "conf")["client_port"] == 2181
    assert command(room, "cons")["connections"] == [
        {
            "remote_socket_address": "127.0.0.1:4711", "outstanding_requests": 0, "packets_received": 3,
            "packets_sent": 3, "session_id": session, "session_timeout": 10_000,
        }
    ]  # fmt: skip
    assert command(room, "dirs").keys() == {"datadir_size", "logdir_size"}
    assert command(room, "dump")["session_id_to_ephemeral_paths"] == {str(session): ["/e"]}
    assert command(room, "envi")["zookeeper.version"].startswith("3.8.0-")
    assert command(room, "isro") == {"read_only": False}
    room.seat().facts = lambda: {"leader": 1}
    assert command(room, "leader") == {"is_leader": True, "leader_id": 1, "leader_ip": "10.0.0.1"}
    assert command(room, "leader", 1)["is_leader"] is False
    assert {"version", "server_state", "znode_count", "synced_followers"} <= command(room, "monitor").keys()
    assert command(room, "srvr")["server_stats"]["server_state"] == "leader"
    assert command(room, "stat")["node_count"] == 6
    assert command(room, "wchc") == {"session_id_to_watched_paths": {str(session): ["/e"]}}
    assert command(room, "wchp") == {"path_to_session_ids": {"/e": [session]}}
    assert command(room, "wchs") == {"num_connections": 1, "num_paths": 1, "num_total_watches": 1}
    assert command(room, "hash")["digests"][0]["zxid"] == 2
    configuration = room.cell.configuration
    room.cell.change(configuration.number, Change(ChangeKind.DEMOTE, configuration.find(3)))
    assert command(room, "voting_view")["current_config"] == {
        str(each): {
            "server_addresses": [f"10.0.0.{each}:7410"], "election_addresses": [f"10.0.0.{each}:7420"],
            "client_address": "0.0.0.0:2181", "learner_type": "participant",
        }
        for each in (1, 2)
    }  # fmt: skip
    assert command(room, "zabstate") == {
        "myid": 1, "is_leader": True, "voting": True, "last_zxid": "0x2", "zabstate": "broadcast",
    }  # fmt: skip
    assert command(room, "zabstate", 2)["voting"] is False


def test_secure_connections_are_told_apart(room: Room) -> None:
    """Each port's connections under their own name."""
    room.first.connection.wire = SecureWire(room.fronts[0])
    assert command(room, "cons")["connections"] == []
    (secure,) = command(room, "stat")["secure_connections"]
    assert secure["session_id"] == room.first.session


def test_a_cell_of_one() -> None:
    """There is no leader to tell of, and nobody votes: what the original says when it stands alone."""
    room = Room()
    assert command(room, "voting_view") == {"current_config": {}}
    assert command(room, "zabstate") == {"voting": False, "zabstate": ""}
    assert json.loads(ask(room, "/commands/leader")[2])["error"] == "server is not initialized"


def test_counters_and_the_trace_mask_can_be_set(room: Room) -> None:
    """Resets answer nothing; the mask must be a number."""
    assert command(room, "srst") == command(room, "crst") == {}
    assert command(room, "cons")["connections"][0]["packets_sent"] == 0
    assert command(room, "stmk?traceMask=16") == command(room, "gtmk") == {"tracemask": 16}
    for said in ("", "?traceMask=x"):
        assert "wants a number" in json.loads(ask(room, f"/commands/set_trace_mask{said}")[2])["error"]


def test_what_there_is_not(room: Room) -> None:
    """An unknown command says so by its status, too; so does any other place."""
    status, _, body = ask(room, "/commands/no<such")
    assert status == 404
    assert json.loads(body) == {"command": "no<such", "error": "Unknown command: no<such"}
    assert ask(room, "/")[0] == ask(room, "/other")[0] == 404


def test_without_a_leader(room: Room) -> None:
    """What is only this replica's is told all the same, the rest is not."""
    room.cell.serve(False)
    assert json.loads(ask(room, "/commands/stat")[2])["error"].endswith("not currently serving requests")
    assert command(room, "ruok") == {}
    assert command(room, "zabstate")["zabstate"] == "election"
    assert command(room, "monitor")["znode_count"] == 6
