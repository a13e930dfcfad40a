"""Big trees and many clients: what a node, a watch and an idle session cost, and for how long a replica stands still.

    python bench/big.py [--nodes 1000000] [--children 100000] [--watches 100000] [--sessions 10000]

A cell of three for each part, one replica of which is away meanwhile, gets what there is from the others afterwards,
and then reads it from its own disk. A client of its own process on each replica pings every few milliseconds; its
longest wait is the longest time for which the replica answered nobody, the other processes on the machine included. 0
leaves a part out. With ``--pid`` of a ZooKeeper (or any server) that listens on ``--at`` only its nodes are measured,
for comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from cell import QUORATE, file_system, rss, running, status

OPEN_ACL = b"\0\0\0\1\0\0\0\x1f\0\0\0\5world\0\0\0\6anyone"
CREATE, EXISTS, SET_DATA, GET_CHILDREN, PING, SET_WATCHES = 1, 3, 5, 8, 11, 101
VALUE = 100
WINDOW = 512


def text(path: bytes) -> bytes:
    """A string as the protocol writes it."""
    return struct.pack(">i", len(path)) + path


class Client:
    """A lean client: frames out in bulk, replies counted."""

    def __init__(self, at: str, *, timeout_ms: int = 30_000, wait: bool = True) -> None:
        host, _, port = at.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), 30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greeting = struct.pack(">iqiq", 0, 0, timeout_ms, 0) + text(bytes(16)) + b"\0"
        self.sock.sendall(struct.pack(">i", len(greeting)) + greeting)
        self.rest = b""
        if wait:
            self.take(1)

    def take(self, count: int) -> list[bytes]:
        """The next `count` frames."""
        found: list[bytes] = []
        buffer, at = self.rest, 0
        while len(found) < count:
            while len(buffer) - at < 4 or len(buffer) - at < 4 + int.from_bytes(buffer[at : at + 4], "big"):
                more = self.sock.recv(1 << 20)
                if not more:
                    raise ConnectionError("the server closed the connection")
                buffer, at = buffer[at:] + more, 0
            end = at + 4 + int.from_bytes(buffer[at : at + 4], "big")
            found.append(buffer[at + 4 : end])
            at = end
        self.rest = buffer[at:]
        return found

    def call(self, op: int, body: bytes = b"", xid: int = 1) -> bytes:
        """One request; the body of its reply."""
        self.sock.sendall(struct.pack(">iii", 8 + len(body), xid, op) + body)
        (reply,) = self.take(1)
        error = int.from_bytes(reply[12:16], "big", signed=True)
        if error:
            raise RuntimeError(f"operation {op} failed with {error}")
        return reply[16:]

    def create_all(self, paths: Iterator[bytes], value: bytes) -> int:
        """Create many nodes, `WINDOW` unanswered at most; how many."""
        tail = text(value) + OPEN_ACL + bytes(4)
        waiting = made = 0
        batch: list[bytes] = []
        for path in paths:
            body = text(path) + tail
            batch.append(struct.pack(">iii", 8 + len(body), 1, CREATE) + body)
            if len(batch) == WINDOW // 4:
                self.sock.sendall(b"".join(batch))
                waiting += len(batch)
                made += len(batch)
                batch.clear()
                while waiting > WINDOW:
                    self.take(WINDOW // 4)
                    waiting -= WINDOW // 4
        self.sock.sendall(b"".join(batch))
        replies = self.take(waiting + len(batch))
        assert not any(reply[12:16] != bytes(4) for reply in replies), "a create failed"
        return made + len(batch)


def ping_for_ever(at: str) -> None:
    """Ping a replica every 2 ms; at the end of standard input print the longest wait in milliseconds."""
    import select

    longest = 0.0
    client: Client | None = None
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        try:
            client = client or Client(at)
            began = time.monotonic()
            client.call(PING, xid=-2)
        except OSError:
            client = None  # it is not up
            continue
        longest = max(longest, time.monotonic() - began)
    print(round(longest * 1000, 1))


@contextlib.contextmanager
def pinged(what: str, ats: list[str]) -> Iterator[None]:
    """Say the longest waits for pings during the block."""
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "--ping", at], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for at in ats
    ]
    yield
    waits = [process.communicate()[0].strip() for process in processes]
    print(f"  longest waits for a ping while {what}: {', '.join(waits)} ms")


def per(pid: int, before: int, count: int) -> float:
    """Resident bytes that each of `count` things costs."""
    return (rss(pid) - before) / count


def big_paths(nodes: int) -> Iterator[bytes]:
    """A directory for each thousand nodes."""
    yield b"/big"
    for number in range(nodes):
        if number % 1000 == 0:
            yield b"/big/d%05d" % (number // 1000)
        yield b"/big/d%05d/n%09d" % (number // 1000, number)


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """How long it took, and what came of it."""
    began = time.monotonic()
    found = act()
    return time.monotonic() - began, found


def order(cell: dict[str, Any], verb: str, index: int) -> float:
    """Stop or start a replica; start returns when it serves. Seconds."""
    argv = [*QUORATE, "cell", verb, str(index), "--dir", cell["dir"], "--timeout", "300"]
    return timed(lambda: subprocess.run(argv, check=True, capture_output=True))[0]


def turns(cell: dict[str, Any]) -> str:
    """The longest turn of each replica since its start."""
    report = status(cell)
    assert report is not None
    return ", ".join(str(each.get("longest_turn_ms", "-")) for each in report["replicas"])


def leader_and_away(cell: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The replica that leads, and the number of another one, which is stopped."""
    leader = next(each for each in cell["replicas"] if each["id"] == cell["leader"])
    away = next(each["index"] for each in cell["replicas"] if each is not leader)
    order(cell, "stop", away)
    return leader, int(away)


def comes_back(cell: dict[str, Any], away: int, ready: Callable[[str], None]) -> None:
    """Start the replica that was away, and once more: how long until it has everything, from its start."""
    at = cell["replicas"][away]["zookeeper"]
    caught_up = order(cell, "start", away) + timed(lambda: ready(at))[0]
    order(cell, "stop", away)
    restarted = order(cell, "start", away) + timed(lambda: ready(at))[0]
    print(f"  a replica that was away has them {caught_up:.1f} s after its start, restarted {restarted:.1f} s")
    print(f"  longest turns: {turns(cell)} ms")


def trees(cell: dict[str, Any], nodes: int) -> None:
    """A tree made while one replica is away, given to it, and read again from the disk."""
    replicas = cell["replicas"]
    _, away = leader_and_away(cell)
    here = [each for each in replicas if each["index"] != away]
    before = [rss(each["pid"]) for each in here]
    client = Client(here[0]["zookeeper"])
    with pinged("it is made and snapshots are taken", [each["zookeeper"] for each in here]):
        seconds, made = timed(lambda: client.create_all(big_paths(nodes), b"v" * VALUE))
    costs = [round(per(each["pid"], was, made)) for each, was in zip(here, before, strict=True)]
    print(f"{made} nodes of {VALUE} bytes: {made / seconds:.0f}/s, {costs} bytes of memory a node (values included)")
    print(f"  longest turns: {turns(cell)} ms")
    with pinged("it is fetched by the replica that was away", [each["zookeeper"] for each in replicas]):
        print(f"  replica {away} serves {order(cell, 'start', away):.1f} s after its start without the tree")
        last = b"/big/d%05d/n%09d" % ((nodes - 1) // 1000, nodes - 1)
        seconds, _ = timed(lambda: wait_for(last, replicas[away]["zookeeper"]))
    print(f"  and has the tree {seconds:.1f} s later; longest turns: {turns(cell)} ms")
    other = here[1]["index"]
    order(cell, "stop", other)
    print(f"  replica {other} serves {order(cell, 'start', other):.1f} s after a restart with the tree on its disk")


def eventually(there: Callable[[], object]) -> None:
    """Ask until it is so."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, RuntimeError):
            if there():
                return
        time.sleep(0.05)
    raise SystemExit("it never came")


def wait_for(path: bytes, at: str) -> None:
    """Ask a replica until it has a node."""
    eventually(lambda: Client(at).call(EXISTS, text(path) + b"\0"))


def sessions_known(at: str) -> int:
    """How many sessions a replica knows."""
    host, _, port = at.rpartition(":")
    with socket.create_connection((host, int(port)), 30) as talk:
        talk.sendall(b"mntr")
        lines = b"".join(iter(lambda: talk.recv(1 << 16), b"")).decode().splitlines()
    return next(int(line.split("\t")[1]) for line in lines if line.startswith("zk_global_sessions\t"))


def directory(cell: dict[str, Any], children: int) -> None:
    """One node with many children."""
    leader, away = leader_and_away(cell)
    client = Client(leader["zookeeper"])
    client.create_all(iter([b"/wide"]), b"")
    names = (b"/wide/c%06d" % n for n in range(children))
    seconds, made = timed(lambda: client.create_all(names, b"v" * VALUE))
    took, listed = timed(lambda: client.call(GET_CHILDREN, text(b"/wide") + b"\0"))
    shown = f"listed in {took * 1000:.0f} ms, {len(listed)} bytes"
    print(f"{made} children of one node: {made / seconds:.0f} creates/s, {shown}")
    comes_back(cell, away, lambda at: wait_for(b"/wide/c%06d" % (children - 1), at))


def watches(cell: dict[str, Any], count: int) -> None:
    """Many watches of one client. They are state of its connection: after a restart it sets them anew, in this way."""
    replica = cell["replicas"][0]
    client = Client(replica["zookeeper"])
    before = rss(replica["pid"])
    pieces = 20
    began = time.monotonic()
    for piece in range(pieces):
        paths = b"".join(text(b"/none/%07d" % n) for n in range(piece, count, pieces))
        body = bytes(12) + struct.pack(">i", len(range(piece, count, pieces))) + paths + bytes(4)
        client.call(SET_WATCHES, body, -8)
    seconds = time.monotonic() - began
    print(f"{count} watches: {count / seconds:.0f}/s, {per(replica['pid'], before, count):.0f} bytes of memory a watch")
    print(f"  longest turns: {turns(cell)} ms")


def sessions(cell: dict[str, Any], count: int) -> None:
    """Many clients that only keep their sessions."""
    replica, away = leader_and_away(cell)
    before = rss(replica["pid"])
    began = time.monotonic()
    clients: list[Client] = []
    while len(clients) < count:
        fresh = [Client(replica["zookeeper"], wait=False) for _ in range(min(200, count - len(clients)))]
        for client in fresh:
            client.take(1)
        clients += fresh
    seconds = time.monotonic() - began
    cost = per(replica["pid"], before, count)
    with pinged("they are idle", [replica["zookeeper"]]):
        used = cpu_seconds(replica["pid"])
        for client in clients[:: max(1, count // 3000)]:  # a third of them pings in ten seconds, as clients do
            client.call(PING, xid=-2)
        time.sleep(5)
        used = cpu_seconds(replica["pid"]) - used
    busy = f"{used / 5:.1%} of a core"
    print(f"{count} idle sessions: opened {count / seconds:.0f}/s, {cost:.0f} bytes of memory each, {busy}")
    seconds = told(replica["zookeeper"], clients)
    print(f"  a change that all of them watch: told to the last {seconds * 1000:.0f} ms after it was asked for")
    comes_back(cell, away, lambda at: eventually(lambda: sessions_known(at) >= count))
    for client in clients:
        client.sock.close()


def told(at: str, clients: list[Client]) -> float:
    """Have every client watch one node and change it: seconds until the last one knows."""
    writer = Client(at)
    writer.create_all(iter([b"/watched"]), b"")
    for client in clients:
        client.call(EXISTS, text(b"/watched") + b"\1")
    began = time.monotonic()
    writer.call(SET_DATA, text(b"/watched") + text(b"new") + struct.pack(">i", -1))
    for client in clients:
        client.take(1)
    return time.monotonic() - began


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("nodes", 1_000_000), ("children", 100_000), ("watches", 100_000), ("sessions", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--at", help="host:port of another server")
    parser.add_argument("--pid", type=int, help="its process")
    parser.add_argument("--ping", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ping:
        ping_for_ever(options.ping)
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    if options.at:
        before = rss(options.pid)
        seconds, made = timed(lambda: Client(options.at).create_all(big_paths(options.nodes), b"v" * VALUE))
        print(f"{made} nodes: {made / seconds:.0f}/s, {per(options.pid, before, made):.0f} bytes of memory a node")
        return
    print(file_system("."))
    for part, count in (
        (trees, options.nodes), (directory, options.children), (watches, options.watches), (sessions, options.sessions)
    ):  # fmt: skip
        if count:
            with running(3) as cell:
                part(cell, count)


if __name__ == "__main__":
    main()
