"""One program of requests, run against any server that speaks ZooKeeper's protocol, with everything that its clients
hear made comparable.

A program is drawn from a seed before anything runs, so that every server gets the same. One client speaks at a time;
then every other one asks for a sync, so that what it had to hear has come. What cannot be equal is masked: transaction
numbers count from the program's beginning, times are only there or not, sessions are named by their clients.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Op, Xid
from reference import records
from reference.asking import Ask, Asker, Leave
from reference.records import Notice, Reply

PATIENCE: Final = 10.0
CLIENTS: Final = 3
SYNC: Final = Ask(Op.SYNC, jute.PathOnly.build({"path": b"/"}))
CLOSE: Final = Ask(Op.CLOSE_SESSION, b"")
TIMEOUT_MS: Final = 30_000
ZXIDS: Final = ("czxid", "mzxid", "pzxid")
TIMES: Final = ("ctime", "mtime")
BEYOND: Final = re.compile("[\U00010000-\U0010ffff]")
"""What the original writes as two halves of three bytes each, none of them UTF-8."""


class Step(NamedTuple):
    """One client says this in one breath; before that it leaves its connection, if `moves`."""

    client: int
    asks: Sequence[Ask]
    moves: bool = False


def program(seed: int, steps: int) -> list[Step]:
    """What a seed stands for. Half of the programs have watches, the others lists that hide nodes: 3.8.0 tells of
    changes that one may not read, later versions and we do not."""
    random = Random(f"program {seed}")
    watches = seed % 2 == 0
    leave = Leave(check=False, brief=False, watches=watches, mixed=False, unreadable=not watches, narrow=False)
    asker = Asker(random, prefix=f"/p{seed}", leave=leave)
    base = {"path": f"/p{seed}".encode(), "data": b"", "acl": asker.acl(), "flags": 0}
    found = [Step(0, [SYNC, Ask(Op.CREATE, jute.Create.build(base))])]
    for _ in range(steps):
        client, moves = random.randrange(CLIENTS), random.random() < 0.08
        asks = [_ask(random, asker) for _ in range(random.choice((1, 1, 2, 4)))]
        if moves and watches and random.random() < 0.7:
            asks.insert(0, Ask(Op.SET_WATCHES, _watched(random, asker)))
        found += breaths(client, asks, moves)
        if random.random() < 0.03:
            found.append(Step(client, [CLOSE]))
    return [*found, *(Step(client, [CLOSE]) for client in range(CLIENTS))]


def breaths(client: int, asks: Sequence[Ask], moves: bool) -> Iterator[Step]:
    """What a client says, ending behind each new list: the original judges what is pipelined behind a setACL by the
    list before or by the new one, as it happens."""
    begin = 0
    for end, ask in enumerate(asks, 1):
        if ask.op == Op.SET_ACL or end == len(asks):
            yield Step(client, asks[begin:end], moves and not begin)
            begin = end


def _ask(random: Random, asker: Asker) -> Ask:
    chance = random.random()
    if chance < 0.04:
        return asker.auth()
    return asker.write() if chance < 0.55 else asker.read()


def _watched(random: Random, asker: Asker) -> bytes:
    """Watches to be set again by somebody who has seen everything there was long ago, or nothing new since."""
    paths = [path.encode() for path in asker.paths if path not in asker.lasting]
    kinds = {kind: random.sample(paths, random.randrange(3)) for kind in ("changed", "exists", "children")}
    return jute.SetWatches.build({"zxid": random.choice((0, 1 << 62)), **kinds})


class Talk:
    """One client and its connection."""

    def __init__(self, number: int, ports: Sequence[int]) -> None:
        self.number = number
        self.ports = ports
        self.moves = 0
        self.session, self.password = 0, bytes(16)
        self.socket: socket.socket | None = None
        self.buffer = b""
        self.xid = 0

    def connect(self, timeout_ms: int = TIMEOUT_MS) -> None:
        """Open a session, or come back with it, to the next server."""
        self.moves += 1
        port = self.ports[(self.number + self.moves) % len(self.ports)]
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.buffer = b""
        values = {"protocol": 0, "last_zxid": 0, "timeout": timeout_ms, "session": self.session}
        request = jute.ConnectRequest.build({**values, "password": self.password, "read_only": False})
        self.socket.sendall(len(request).to_bytes(4, "big") + request)
        response = self.frame()
        assert response is not None
        self.session = int.from_bytes(response[12:20], "big")
        self.password = response[24:40]

    def leave(self) -> None:
        """Close the connection without a word."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def say(self, asks: Sequence[Ask]) -> list[tuple[int, Ask]]:
        """Send requests; their numbers."""
        assert self.socket is not None
        numbered, stream = [], b""
        for ask in asks:
            if ask.op == Op.AUTH:
                xid = int(Xid.AUTH)
            elif ask.op == Op.SET_WATCHES:
                xid = int(Xid.SET_WATCHES)
            else:
                self.xid += 1
                xid = self.xid
            content = jute.RequestHeader.build({"xid": xid, "type": ask.op}) + ask.body
            stream += len(content).to_bytes(4, "big") + content
            numbered.append((xid, ask))
        self.socket.sendall(stream)
        return numbered

    def frame(self) -> bytes | None:
        """The next frame; None if the server closed the connection."""
        assert self.socket is not None
        while len(self.buffer) < 4 or len(self.buffer) < 4 + int.from_bytes(self.buffer[:4], "big"):
            try:
                piece = self.socket.recv(1 << 16)
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            self.buffer += piece
        size = 4 + int.from_bytes(self.buffer[:4], "big")
        frame, self.buffer = self.buffer[:size], self.buffer[size:]
        return frame


class Comparison:
    """Runs programs against one server or cell, given by its ports."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = ports
        self._base = 0
        self._names: dict[int, str] = {}

    def talks(self) -> list[Talk]:
        """Its clients, not yet connected; what is heard from now on is masked anew."""
        self._base, self._names = 0, {}
        return [Talk(number, self.ports) for number in range(CLIENTS)]

    def run(self, steps: Sequence[Step]) -> list[str]:
        """Everything that was heard, a line each, comparable between servers."""
        talks = self.talks()
        heard: list[str] = []
        try:
            for number, step in enumerate(steps):
                self._step(number, step, talks, heard)
        finally:
            for talk in talks:
                talk.leave()
        return heard

    def _step(self, number: int, step: Step, talks: Sequence[Talk], heard: list[str]) -> None:
        talk = talks[step.client]
        if step.moves:
            talk.leave()
        if talk.socket is None:
            talk.connect()
            self._names[talk.session] = f"session of {talk.number}"
        words = f"step {number}, client {talk.number}"
        ends = any(ask.op == Op.CLOSE_SESSION for ask in step.asks)
        lines = self.exchange(talk, step.asks)
        if ends:  # the original's order of a session's nodes is that of a hash table; the reply comes last
            lines[:-1] = sorted(lines[:-1])
        heard.extend(f"{words}: {line}" for line in lines)
        for other in talks:
            if other.socket is not None:
                lines = self.exchange(other, [SYNC])
                if ends:
                    lines[:-1] = sorted(lines[:-1])
                heard.extend(f"{words}, then {other.number}: {line}" for line in lines)

    def exchange(self, talk: Talk, asks: Sequence[Ask]) -> list[str]:
        """Say something and listen until all of it is answered."""
        lines: list[str] = []
        proofs: list[str] = []  # the original answers these ahead of what was asked before
        waiting = talk.say(asks)
        while waiting:
            frame = talk.frame()
            if frame is None:
                lines.append("closed")
                break
            if int.from_bytes(frame[4:8], "big", signed=True) == Xid.NOTIFICATION:
                lines.append(str(self.masked(records.notice(frame))))
                continue
            _, ask = next(each for each in waiting if each[0] == int.from_bytes(frame[4:8], "big", signed=True))
            waiting.remove((_, ask))
            reply = records.reply(ask.op, frame)
            if not self._base:
                self._base = reply.zxid
            line = f"{Op(ask.op).name} {ask.body!r} -> {self.masked(reply)}"
            (proofs if ask.op == Op.AUTH else lines).append(line)
        if asks[-1].op == Op.CLOSE_SESSION:
            talk.leave()
            talk.session, talk.password = 0, bytes(16)
        elif waiting:
            talk.leave()
        return lines + proofs

    def masked(self, heard: Any) -> Any:
        """What can be compared of it."""
        if isinstance(heard, Notice):
            return f"event {int(heard.event)} {heard.path}"
        if isinstance(heard, Reply):
            zxid = heard.zxid - self._base if heard.zxid > 0 else heard.zxid
            return f"xid {heard.xid} zxid {zxid} err {int(heard.err)} {self._body(heard.body)}"
        raise TypeError(heard)

    def _body(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self._body(each, key) for key, each in value.items()}
        if isinstance(value, list | tuple):
            found = [self._body(each) for each in value]
            return sorted(found, key=str) if name == "acl" else found
        if name in ZXIDS and value:
            return f"base{value - self._base:+}"
        if name in TIMES and value:
            return "a time"
        if name == "ephemeral_owner" and value:
            return self._names.get(value, "unknown session")
        if isinstance(value, str):
            return BEYOND.sub("\ufffd" * 6, value)
        return int(value) if isinstance(value, int) else value


def farewell(server: Comparison, timeout_ms: int) -> tuple[list[str], float]:
    """A client with ephemeral nodes falls silent. What another one hears who watches them and reads on, and how many
    seconds after the last word."""
    watcher, silent, _ = server.talks()
    watcher.connect()
    heard = server.exchange(watcher, [SYNC, _create(b"/gone", 0)])
    silent.connect(timeout_ms)
    for name in (b"/gone/a", b"/gone/b"):
        heard += server.exchange(silent, [_create(name, 1)])
    said = time.monotonic()
    for path in (b"/gone/a", b"/gone/b"):
        heard += server.exchange(watcher, [Ask(Op.EXISTS, jute.PathWatch.build({"path": path, "watch": True}))])
    listed = Ask(Op.GET_CHILDREN2, jute.PathWatch.build({"path": b"/gone", "watch": True}))
    heard += server.exchange(watcher, [listed])
    told = []
    for _ in range(3):
        frame = watcher.frame()
        assert frame is not None
        told.append(str(server.masked(records.notice(frame))))
    seconds = time.monotonic() - said
    heard += sorted(told)  # of one transaction; the original's order is that of a hash table
    heard += server.exchange(watcher, [listed, CLOSE])
    assert silent.frame() is None
    silent.leave()
    return heard, seconds


def _create(path: bytes, flags: int) -> Ask:
    everybody = {"perms": 31, "scheme": b"world", "id": b"anyone"}
    values = {"path": path, "data": b"", "acl": {"value": [everybody]}, "flags": flags}
    return Ask(Op.CREATE, jute.Create.build(values))
