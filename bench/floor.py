"""The floor: what this machine lets three processes do that send the messages of a cell and know nothing of one.

    python bench/floor.py [--seconds 2] [--dir DIR]

A client, a follower and a leader, each bare Python around blocking sockets. A write goes as in a cell: request to the
follower and on to the leader; accept back to the follower; both write it to a file that has its blocks and sync; the
leader's word and the follower's own sync give the answer. Nothing is parsed, ordered, applied or kept in memory. Many
at a time are one message: no cell of so many clients can do as well, as theirs come in pieces. What a cell takes longer
is what its work costs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cell import file_system

WRITE, WRITTEN = 144, 88
"""Bytes of a `set` of 100 bytes and of its answer, as ZooKeeper's clients and servers say them."""
WORD = 32
"""Bytes of a message that says only how far something is."""
FILE = 64 << 20
BATCHES = (1, 8, 256, 512)


def exactly(sock: socket.socket, size: int) -> bytes:
    """The next `size` bytes; ends the process when there are no more."""
    piece = sock.recv(size)
    while len(piece) < size:
        more = sock.recv(size - len(piece))
        if not more:
            raise SystemExit(0)
        piece += more
    return piece


class File:
    """A file with all its blocks, written round and round."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(FILE))
        self._file = os.open(path, os.O_RDWR)
        os.fsync(self._file)
        self._at = 0

    def append(self, record: bytes) -> None:
        """Write a record and sync it."""
        if self._at + len(record) > FILE:
            self._at = 0
        os.pwrite(self._file, record, self._at)
        os.fdatasync(self._file)
        self._at += len(record)


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for end in (near, far):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return near, far


def leader(follower: socket.socket, file: File) -> None:
    """Propose whatever comes."""
    while True:
        size = int.from_bytes(exactly(follower, 4), "big")
        record = exactly(follower, size)
        follower.sendall(record)
        file.append(record)
        follower.sendall(bytes(WORD))


def follower(client: socket.socket, leader: socket.socket, file: File) -> None:
    """Have whatever comes proposed, and answer it when two have it."""
    while True:
        count = int.from_bytes(exactly(client, 4), "big")
        size = count * WRITE
        leader.sendall(size.to_bytes(4, "big") + exactly(client, size))
        file.append(exactly(leader, size))
        exactly(leader, WORD)
        client.sendall(bytes(count * WRITTEN))


@contextlib.contextmanager
def process(work: Callable[[], None]) -> Iterator[None]:
    """Another process for the length of the block."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def measured(sock: socket.socket, count: int, seconds: float) -> str:
    """Ask for `count` operations at a time: how many a second that are, and how long they took."""
    message = count.to_bytes(4, "big") + bytes(count * WRITE)
    took: list[float] = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        sock.sendall(message)
        exactly(sock, count * WRITTEN)
        took.append(time.perf_counter() - began)
    took.sort()
    middle, late = took[len(took) // 2], took[len(took) * 99 // 100]
    return f"{count * len(took) / seconds:>12,.0f}/s   median {middle * 1e6:6.0f} us   p99 {late * 1e6:6.0f} us"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure (default: 2)")
    parser.add_argument("--dir", default=".", help="whose disk is to be written to (default: the present one)")
    options = parser.parse_args()
    print(file_system(options.dir))
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quorate-floor-", dir=options.dir)))
        files = File(place / "leader"), File(place / "follower")
        (asks, asked), (tells, told) = pair(), pair()
        stack.enter_context(process(lambda: leader(told, files[0])))
        stack.enter_context(process(lambda: follower(asked, tells, files[1])))
        for count in BATCHES:
            print(f"{count:3} at a time {measured(asks, count, options.seconds)}")


if __name__ == "__main__":
    main()
