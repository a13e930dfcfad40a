"""Requests and replies for tests, built from the declarations in jute, and a machine to send them to without a
network."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, NamedTuple

from quorate.kernel.machine import Commit, Effects, Origin, SessionId
from quorate.plugins.znodes import chunks, jute
from quorate.plugins.znodes.codec import pack_ids
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.protocol import FACE, Op
from quorate.plugins.znodes.tree import content_of, family_of

WORLD = [{"perms": 31, "scheme": b"world", "id": b"anyone"}]
HERE = ((b"ip", b"127.0.0.1"),)
MULTI_END = jute.MultiHeader.build({"type": -1, "done": True, "err": -1})


class Reply(NamedTuple):
    """A reply frame, taken apart."""

    xid: int
    zxid: int
    err: int
    body: bytes


def frame(xid: int, op: int, body: bytes = b"") -> bytes:
    """A whole request."""
    payload = jute.RequestHeader.build({"xid": xid, "type": op}) + body
    return len(payload).to_bytes(4, "big") + payload


def create(path: bytes, data: bytes | None = b"", flags: int = 0, acl: Any = None) -> bytes:
    """The body of a create."""
    return jute.Create.build({"path": path, "data": data, "acl": {"value": acl or WORLD}, "flags": flags})


def create_ttl(path: bytes, ttl: int, flags: int = 5) -> bytes:
    """The body of a createTTL."""
    return jute.CreateTtl.build({"path": path, "data": b"", "acl": {"value": WORLD}, "flags": flags, "ttl": ttl})


def path_version(path: bytes, version: int = -1) -> bytes:
    """The body of a delete or check."""
    return jute.PathVersion.build({"path": path, "version": version})


def path_watch(path: bytes, watch: bool = False) -> bytes:
    """The body of a read."""
    return jute.PathWatch.build({"path": path, "watch": watch})


def put(path: bytes, data: bytes | None, version: int = -1) -> bytes:
    """The body of a setData."""
    return jute.SetData.build({"path": path, "data": data, "version": version})


def set_acl(path: bytes, acl: Any, version: int = -1) -> bytes:
    """The body of a setACL."""
    return jute.SetAcl.build({"path": path, "acl": {"value": acl}, "version": version})


def several(*steps: tuple[int, bytes]) -> bytes:
    """The body of a multi."""
    parts = [jute.MultiHeader.build({"type": op, "done": False, "err": -1}) + body for op, body in steps]
    return b"".join(parts) + MULTI_END


def reply(answer: bytes) -> Reply:
    """Take one reply frame apart."""
    assert int.from_bytes(answer[:4], "big") == len(answer) - 4
    head = jute.ReplyHeader.parse(answer[4:])
    return Reply(head.xid, head.zxid, head.err, answer[20:])


def results(body: bytes) -> list[tuple[int, int, bytes]]:
    """The results of a multi: type, error and what follows, for results of known size or shape."""
    found = []
    while True:
        head = jute.MultiHeader.parse(body)
        body = body[9:]
        if head.done:
            assert not body
            return found
        if head.type in (Op.CREATE, Op.CREATE2):
            size = 4 + int.from_bytes(body[:4], "big") + (68 if head.type == Op.CREATE2 else 0)
        else:
            size = {Op.SET_DATA: 68, Op.ERROR: 4}.get(head.type, 0)
        found.append((head.type, head.err, body[:size]))
        body = body[size:]


class Bench:
    """A machine, and the kernel's part of what it needs. Time moves only when told."""

    def __init__(self, *, answers: bool = True) -> None:
        self.machine = ZnodesMachine()
        self.origin = Origin(1, 1)
        self.sessions: dict[SessionId, Origin] = {}
        self.timers: dict[str, int] = {}
        self.index = 0
        self.time = 1_000_000
        self.wall = 1_700_000_000_000
        self.answers = answers
        self.effects = Effects()
        self.allow = chunks.Allow.EXTENDED_TYPES

    def commit(self, origin: Origin | None = None) -> Commit:
        """The next command's place."""
        self.index += 1
        self.effects = Effects()
        return Commit(
            self.index,
            self.time,
            self.wall,
            sessions=dict(self.sessions),
            origin=origin or self.origin,
            random=Random,
            effects=self.effects,
        )

    def settle(self) -> None:
        """Do what the last command asked the kernel for."""
        for key, at in self.effects.timers:
            if at is None:
                self.timers.pop(key, None)
            else:
                self.timers[key] = at
        for session in self.effects.closed:
            self.end(session, expired=False)

    def open(self, session: int, face: str = FACE) -> int:
        """A session begins, attached to the bench's origin."""
        self.machine.session_opened(self.commit(), SessionId(session), face)
        self.sessions[SessionId(session)] = self.origin
        return session

    def end(self, session: int, *, expired: bool = True) -> None:
        """A session ends by the kernel."""
        if self.sessions.pop(SessionId(session), None):
            self.machine.session_closed(self.commit(), SessionId(session), expired)

    def chunk(self, *runs: tuple[int, bytes], who: Any = HERE, origin: Origin | None = None) -> list[bytes]:
        """Apply one chunk of (session, frames) runs."""
        pieces = [piece for session, frames in runs for piece in (chunks.RUN.pack(session, 0, len(frames)), frames)]
        answers: list[bytes] = []
        packed = chunks.pack(self.allow, [pack_ids(who)], pieces)
        self.machine.apply_chunk(self.commit(origin), packed, answers if self.answers else None)
        self.settle()
        return answers

    def call(self, session: int, op: int, body: bytes = b"", *, who: Any = HERE, xid: int = 1) -> Reply:
        """Apply one request in a chunk of its own."""
        (answer,) = self.chunk((session, frame(xid, op, body)), who=who)
        return reply(answer)

    def pass_time(self, ms: int) -> None:
        """Let time go by, firing the machine's timers in order."""
        until = self.time + ms
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until):
            at, key = due[0]
            del self.timers[key]
            self.wall += max(at - self.time, 0)
            self.time = max(at, self.time)
            self.machine.timer_fired(self.commit(), key)
            self.settle()
        self.wall += until - self.time
        self.time = until

    def stat(self, path: bytes) -> Mapping[str, int]:
        """The Stat of a node, by field."""
        from quorate.plugins.znodes.tree import stat

        found = dict(jute.Stat.parse(stat(self.machine.tree.nodes[path])))
        found.pop("_io", None)
        return found


def digest_from_scratch(machine: ZnodesMachine) -> int:
    """What a machine's digest must be."""
    nodes = [node for path, node in machine.tree.nodes.items() if path]
    total = sum(content_of(node) + family_of(node) for node in nodes)
    return (total + hash((machine.zxid, len(machine.sessions)))) & 0xFFFF_FFFF_FFFF_FFFF


def path_only(path: bytes) -> bytes:
    """A body of a path alone, or the beginning of one."""
    return jute.PathOnly.build({"path": path})
