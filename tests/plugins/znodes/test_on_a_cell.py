"""What only a cell of real replicas shows of the ZooKeeper face: expiry in time, sessions that move, silence, life
without a quorum."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.kernel.cli.local import LocalCell
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.front import GREETING_SECONDS
from quorate.plugins.znodes.protocol import Err, Event, Op, Xid
from znodes_dial import Client
from znodes_wire import create, path_watch, put

pytestmark = pytest.mark.cell

TICK = 0.5
EPHEMERAL = 1
SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="  # super:test
CONFIGURATION = """
cell = "{cell}"
member = 4
directory = "four"
[listen]
peer = "tcp:{base}3"
client = "tcp:{base}6"
zookeeper = "tcp:{base}7"
"""
FOUNDER = """
[members.{id}]
peer = "{peer}"
client = "{client}"
"""
UNDER_LOAD = 1.5
"""Seconds by which a busy machine may be late."""

Dial = Callable[[int], Client]


@pytest.fixture
def cell(new_cell: Any) -> Any:
    """Three replicas with a short tick that serve readers without a quorum, and let the super user change them."""
    told = ("tick=500", "max-session-timeout=40000", "read-only=true", "reconfig=true", f"super={SUPER}")
    return new_cell("--machine", "znodes", *(word for each in told for word in ("--option", f"zookeeper.{each}")))


@pytest.fixture
def dial(cell: Any) -> Iterator[Dial]:
    """Makes connections to a replica by its index, and ends them with the test."""
    made = []

    def dial(index: int) -> Client:
        made.append(Client(int(cell.zookeepers[index].rpartition(":")[2])))
        return made[-1]

    yield dial
    for each in made:
        each.close()


def test_with_and_without_a_quorum_and_with_others(cell: Any, dial: Dial, tmp_path: Path) -> None:
    """One cell for all: starting it takes longer than what is looked at."""
    sessions_live_and_end(dial)
    readers_are_served_without_a_quorum(cell, dial)
    members_come_and_go(cell, dial, tmp_path)


def sessions_live_and_end(dial: Dial) -> None:
    """A caller that says nothing is closed. A session moves to another replica with its password, the old connection
    ends, and what it owns stays. One that falls silent expires not before its time-out and soon after."""
    silent, began = dial(0), time.monotonic()

    owner = dial(0).connect(timeout=3000)
    assert owner.call(Op.CREATE, create(b"/mine", b"", EPHEMERAL)).err == 0
    stranger = dial(1).connect(session=owner.session, password=bytes(16))
    assert (stranger.timeout, stranger.session, stranger.ended()) == (0, 0, True)
    moved = dial(2).connect(session=owner.session, password=owner.password)
    assert (moved.session, moved.password, moved.timeout) == (owner.session, owner.password, 3000)
    assert owner.ended()
    assert moved.call(Op.SET_DATA, put(b"/mine", b"still")).err == 0

    watcher = dial(1).connect(timeout=10_000)
    assert watcher.call(Op.SYNC, b"\0\0\0\1/").err == 0
    assert watcher.call(Op.EXISTS, path_watch(b"/mine", True)).err == 0
    for _ in range(3):
        time.sleep(0.5)
        assert moved.call(Op.PING, xid=Xid.PING).err == 0
    heard = time.monotonic()
    moved.link.close()
    event = watcher.frame()
    late = time.monotonic() - heard - 3.0
    assert int.from_bytes(event[16:20], "big") == Event.DELETED
    assert -0.02 < late < TICK + UNDER_LOAD
    gone = dial(0).connect(session=owner.session, password=owner.password)
    assert (gone.timeout, gone.session) == (0, 0)

    assert silent.ended()
    assert GREETING_SECONDS - 0.1 < time.monotonic() - began < GREETING_SECONDS + UNDER_LOAD


def readers_are_served_without_a_quorum(cell: Any, dial: Dial) -> None:
    """With two of three gone, clients are sent away after the grace period; who says that reading would do is served,
    with the session it has; when the others are back the same session writes again."""
    client = dial(0).connect(timeout=8000)
    assert client.call(Op.CREATE, create(b"/kept", b"1", EPHEMERAL)).err == 0
    cell.order("stop", 1)
    cell.order("stop", 2)
    assert client.ended()
    writer = dial(0)
    with pytest.raises(ConnectionError):
        writer.connect()
    reader = dial(0).connect(session=client.session, password=client.password, read_only=True)
    assert (reader.session, reader.read_only) == (client.session, True)
    assert reader.call(Op.GET_DATA, path_watch(b"/kept")).body[4:5] == b"1"
    assert reader.call(Op.SET_DATA, put(b"/kept", b"2")).err == Err.NOT_READ_ONLY
    new = dial(0).connect(read_only=True)
    assert new.session < 0
    cell.order("start", 1)
    assert reader.ended()
    assert new.ended()
    again = dial(1).connect(session=client.session, password=client.password, read_only=True)
    assert (again.session, again.read_only) == (client.session, False)
    assert again.call(Op.SET_DATA, put(b"/kept", b"2")).err == 0
    assert dial(1).connect(session=new.session, password=new.password).timeout == 0


def members_come_and_go(cell: Any, dial: Dial, folder: Path) -> None:
    """A fourth replica is started, joins by a client's request, votes, and takes writes; the first one leaves."""
    base = int(cell.zookeepers[0].rpartition(":")[2])
    local = LocalCell("", 3, base)
    spare = (base + 30) // 10
    said = CONFIGURATION.format(cell=cell.facts["cell"], base=spare)
    said += "".join(FOUNDER.format(id=each + 1, peer=local.peer(each), client=local.client(each)) for each in range(3))
    (folder / "four.toml").write_text(said)
    words = [sys.executable, "-P", "-m", "quorate.kernel.cli", "replica", "--config", str(folder / "four.toml")]
    with (folder / "four.log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as fourth:
        try:
            cell.order("start", 2)
            ruler = dial(1).connect(timeout=30_000)
            proof = jute.Auth.build({"type": 0, "scheme": b"digest", "auth": b"super:test"})
            assert ruler.call(Op.AUTH, proof, -4).err == 0
            server = f"server.4=127.0.0.1:{spare}3:{spare}6:participant;127.0.0.1:{spare}7".encode()
            deadline = time.monotonic() + 40
            while (joined := ruler.call(Op.RECONFIG, wish(joining=server))).err == Err.NEW_CONFIG_NO_QUORUM:
                assert time.monotonic() < deadline, (folder / "four.log").read_text()
            assert server in jute.GetDataReply.parse(joined.body).data
            left = ruler.call(Op.RECONFIG, wish(leaving=b"1"))
            assert b"server.1=" not in jute.GetDataReply.parse(left.body).data
            other = opened(spare * 10 + 7).connect()
            assert other.call(Op.CREATE, create(b"/through-four")).err == 0
            assert other.call(Op.GET_DATA, path_watch(b"/zookeeper/config")).body == left.body
            other.close()
        finally:
            fourth.terminate()


def opened(port: int) -> Client:
    """A connection to a port that is about to be opened."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return Client(port)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"
            time.sleep(0.05)


def wish(*, joining: bytes | None = None, leaving: bytes | None = None) -> bytes:
    """A reconfig request."""
    return jute.Reconfig.build({"joining": joining, "leaving": leaving, "members": None, "version": -1})
