"""Clients that mean no good, on the real ports of a real cell: each gets an answer or a close, memory stays bounded,
and honest clients notice nothing."""

from __future__ import annotations

import contextlib
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from histories import connected
from quorate.kernel.client import blocking
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.wire import codec, native, plain
from quorate.kernel.wire.formats import PEER_VERSION, Greeting
from real_cell import RealCell, running, wait_until

pytestmark = [pytest.mark.cell, pytest.mark.timeout(120)]

MIB: Final = 1 << 20
PATIENCE: Final = 30.0
"""Seconds within which every attacker must have been answered or closed; the ports' own patience is 5 to 10."""
HELLO: Final = native.encode(native.Hello(native.PROTOCOL_VERSION, b"", "attacker"))
CONNECT: Final = struct.pack(">iqiqi16s?", 0, 0, 10_000, 0, 16, bytes(16), False)


def framed(body: bytes) -> bytes:
    """A frame as ZooKeeper clients send it."""
    return struct.pack(">i", len(body)) + body


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCell]:
    """Three replicas."""
    with running(tmp_path_factory.mktemp("attacks") / "cell") as made:
        yield made


class Bystander(threading.Thread):
    """An honest client at work on the replica that is attacked. `worst`: the longest that it waited, in seconds."""

    def __init__(self, cell: RealCell, victim: int) -> None:
        super().__init__(name="bystander")
        self.worst = 0.0
        self.done = 0
        self.wrong: list[str] = []
        self._stopping = threading.Event()
        self._session = blocking.connect([cell.clients[victim], *cell.clients], timeout=10.0)
        self._kazoo = connected(cell.replicas[victim].zookeeper)
        self._kazoo.ensure_path("/bystander")
        self._first = (self._session.id, self._kazoo.client_id)

    def run(self) -> None:
        try:
            while not self._stopping.wait(0.005):
                began = time.monotonic()
                self._session.call("counters", "add", "bystander", timeout=20.0)
                self._kazoo.set_async("/bystander", b"x").get(timeout=20.0)
                self.worst = max(self.worst, time.monotonic() - began)
                self.done += 1
        except Exception as error:
            self.wrong.append(repr(error))

    def judge(self) -> list[str]:
        """Stop; what was wrong."""
        self._stopping.set()
        self.join(60)
        if (self._session.id, self._kazoo.client_id) != self._first:
            self.wrong.append("a session was lost")
        self._session.close()
        self._kazoo.stop()
        self._kazoo.close()
        return self.wrong


@contextlib.contextmanager
def unnoticed(cell: RealCell, victim: int = 0, growth: int = 64 * MIB) -> Iterator[None]:
    """An attack on replica `victim` for the length of the block: honest clients work on, and its memory grows by no
    more than `growth`."""
    bystander = Bystander(cell, victim)
    before = memory(cell.replicas[victim].pid)
    bystander.start()
    try:
        yield
        enough = bystander.done + 5
        wait_until(lambda: bystander.done >= enough or bool(bystander.wrong), PATIENCE, "an honest client waits")
    finally:
        grown = memory(cell.replicas[victim].pid) - before
        wrong = bystander.judge()
    assert wrong == []
    assert bystander.worst < 10.0, f"an honest client waited {bystander.worst:.1f} s"
    assert grown < growth, f"{grown >> 20} MiB more"
    assert cell.replicas[victim].serves()


def memory(pid: int) -> int:
    """The most that the process had resident at any time, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise LookupError(pid)


def address(cell: RealCell, door: str, victim: int = 0) -> tuple[str, int]:
    """Where a door of a replica is."""
    offset = {"zookeeper": 0, "peer": 10, "client": 20}[door]
    return cell.hosts[victim], cell.port + offset + victim


def attacker(cell: RealCell, door: str, *pieces: bytes, victim: int = 0) -> socket.socket:
    """A connection on which these bytes were sent."""
    link = socket.create_connection(address(cell, door, victim), PATIENCE)
    with contextlib.suppress(OSError):  # it may have been closed in the middle
        for piece in pieces:
            link.sendall(piece)
    return link


def ends(link: socket.socket) -> bool:
    """Read whatever comes until the other side closes; False if it does not."""
    with link:
        try:
            while link.recv(1 << 16):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


def greeting(cell: RealCell, **changes: Any) -> bytes:
    """A peer's greeting; it is from nobody."""
    good = Greeting(PEER_VERSION, bytes(16), 1, 2, 3, b"d" * 16, b"r" * 8, Ballot(1, MemberId(1)), Slot(0))
    return b"".join(codec.encode(good._replace(**changes)))


LENGTHS: Final = [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFFFFF0, 0x10000000, 0xFFFF0000]


@pytest.mark.parametrize("door", ["client", "peer", "zookeeper"])
def test_huge_and_negative_lengths(cell: RealCell, door: str) -> None:
    """Closed at once, before room is made for what was announced: as the first bytes and behind a handshake."""
    begun = {"client": HELLO, "peer": greeting(cell), "zookeeper": framed(CONNECT)}[door]
    with unnoticed(cell):
        for before in (b"", begun):
            links = [attacker(cell, door, before + struct.pack(">I", each) + bytes(64)) for each in LENGTHS]
            assert all(ends(link) for link in links)


def test_slow_loris_and_half_handshakes(cell: RealCell) -> None:
    """Who does not finish its handshake is sent away, however busy it keeps the line; at every port, all at once."""
    whole = {"client": HELLO, "peer": greeting(cell), "zookeeper": framed(CONNECT)}
    with unnoticed(cell):
        links = [
            attacker(cell, door, content[:size])
            for door, content in whole.items()
            for size in (0, 1, 3, 4, 5, len(content) - 1)
            for _ in range(5)
        ]
        drips = {attacker(cell, door): content[:-1] for door, content in whole.items()}
        for at in range(12):
            for link, content in drips.items():
                with contextlib.suppress(OSError):
                    link.sendall(content[at : at + 1])
            time.sleep(1.0)  # a byte a second is the attack
        assert all(ends(link) for link in [*links, *drips])


def test_requests_without_reading_the_answers(cell: RealCell) -> None:
    """A client that asks much and reads nothing is not read any more, or dropped; its answers do not pile up."""
    kazoo = connected(cell.zookeepers)
    kazoo.ensure_path("/large")
    kazoo.set("/large", bytes(500_000))
    kazoo.stop()
    kazoo.close()
    get = b"".join(framed(struct.pack(">iii6s?", xid, 4, 6, b"/large", False)) for xid in range(1, 2001))
    names = native.encode(native.Query(1, native.Consistency.LOCAL, 0, "sessions", plain.encode(["no-such-query", []])))
    with unnoticed(cell, growth=128 * MIB):
        for door, content in (("zookeeper", framed(CONNECT) + get * 400), ("client", HELLO + names * 400_000)):
            link = socket.create_connection(address(cell, door), PATIENCE)
            link.settimeout(2.0)
            with link, pytest.raises(OSError, match=r"timed out|reset|Broken pipe"):
                link.sendall(content)


def test_a_flood_of_status_questions(cell: RealCell) -> None:
    """Cheap to ask and dear to answer: whoever asks without end waits, nobody else does, and the leader that is asked
    goes on to lead. (A machine that stands still may cost it the lead, but hardly three times.)"""
    led_on = False
    for _ in range(3):
        wait_until(lambda: cell.leader() is not None, PATIENCE, "nobody leads")
        leader = cell.leader()
        assert leader is not None
        epoch = leader.answers()["epoch"]
        with unnoticed(cell, leader.index, growth=128 * MIB):
            ask_without_end(address(cell, "client", leader.index))
            led_on = leader.answers()["epoch"] == epoch
        if led_on:
            break
    assert led_on


def ask_without_end(place: tuple[str, int], seconds: float = 5.0) -> None:
    """For so long, on several connections, ask for the status."""
    ask = native.encode(native.Status(1)) * 2_000
    links = [socket.create_connection(place, PATIENCE) for _ in range(4)]
    until = time.monotonic() + seconds
    for link in links:
        link.sendall(HELLO)
        link.setblocking(False)
    while time.monotonic() < until:
        for link in list(links):
            try:
                link.send(ask)
                link.recv(1 << 20)
            except BlockingIOError:
                pass
            except OSError:
                links.remove(link)
    for link in links:
        link.close()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_running_out_of_descriptors(cell: RealCell) -> None:
    """Callers may use up what they can get: the links to the peers, the journal and the snapshots have their own."""
    victim, other = cell.replicas[:2]
    began = victim.answers()
    _, hard = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)
    with unnoticed(cell):
        resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (160, hard))
        doors = ("client", "zookeeper", "peer") * 75
        links = [socket.create_connection(address(cell, door), PATIENCE) for door in doors]
        turned_away = [link for link in links if not _stays(link)]
        assert 0 < len(turned_away) < len(links)
        before = victim.words().count("snapshot at slot")
        other.kill()  # so that links are made anew
        other.start()
        wait_until(lambda: victim.words().count("snapshot at slot") >= before + 4, PATIENCE, "no snapshots")
        wait_until(cell.whole, PATIENCE, "not all peers are linked")
        for link in links:
            link.close()
    resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (hard, hard))
    after = victim.answers()
    assert (after["ailing"], after["full"], after["incarnation"]) == (None, None, began["incarnation"])


def _stays(link: socket.socket) -> bool:
    """Whether the other side keeps it; one that is turned away is closed as soon as it is accepted."""
    link.settimeout(0.05)
    try:
        return bool(link.recv(1))
    except TimeoutError:
        return True
    except OSError:
        return False
