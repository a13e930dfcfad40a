"""Random requests, made so that they meet: few paths, few values, and now and then something odd.

Everything is drawn from a ``random.Random``, which may be Hypothesis's own: one generator for model tests, simulations
and the differential run.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final, NamedTuple

from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Mode, Op

from .tree import digest

PATHS: Final = ("/a", "/b", "/c", "/a/x", "/a/y", "/a/x/p", "/b/x", "/a/q-", "/b/q-", "/zookeeper/z")
ODD: Final = (
    *("", "/", "a", "/a/", "//a", "/a//x", "/a/../b", "/a/.", "/b/\x01", "/b/\0", "/\ud7ff\ue000"),
    *("/zookeeper/config", "/zookeeper/quota", "/zookeeper", "/b/\xe9", "/b/\U0001f600"),
)
WORLD: Final = ({"perms": 31, "scheme": b"world", "id": b"anyone"},)
SECRETS: Final = (b"ann:1", b"bob:2", b"bob", b":x")


def entry(perms: int, scheme: str | None, name: str | None) -> dict[str, Any]:
    """One entry of a list, as it travels."""
    return {
        "perms": perms,
        "scheme": None if scheme is None else scheme.encode(),
        "id": None if name is None else name.encode(),
    }


GOOD_LISTS: Final = (
    (entry(31, *digest(b"ann:1")),),
    (entry(1, "world", "anyone"), entry(31, *digest(b"ann:1"))),
    (entry(31, "auth", ""),),
    (entry(16, "auth", "x"), entry(1, *digest(b"bob:2"))),
    (entry(31, "ip", "127.0.0.1"),),
    (entry(3, "ip", "10.0.0.0/8"), entry(16, "world", "anyone")),
    (entry(15, "world", "anyone"),),
    (entry(31, "world", "anyone"), entry(31, "world", "anyone")),
    (entry(30, "world", "anyone"),),
)
READABLE: Final = tuple(
    each for each in GOOD_LISTS if any(one["scheme"] == b"world" and one["perms"] & 1 for one in each)
)
BAD_LISTS: Final = (
    (),
    None,
    (entry(31, "nobody", "x"),),
    (entry(31, "world", "someone"),),
    (entry(31, "digest", "ann"),),
    (entry(31, "digest", "a:b:c"),),
    (entry(31, "ip", "here"),),
    (entry(31, "ip", "127.0.0.1/33"),),
    (entry(31, "super", ""),),
)


class Ask(NamedTuple):
    """A request to be sent."""

    op: int
    body: bytes


class Leave(NamedTuple):
    """What may be asked for. Where ZooKeeper 3.8.0 is known to behave otherwise, comparing with it must leave things
    out.

    `check`: check outside a multi. `brief`: nodes with a time to live that passes in no time.
    `watches`: watches of any kind. `mixed`: watches that fire once and watches that stay on the same paths.
    `unreadable`: lists that do not let everybody read. `narrow`: removing only watches that stay, and checking whether
    there is a watch.
    """

    check: bool = True
    brief: bool = True
    watches: bool = True
    mixed: bool = True
    unreadable: bool = True
    narrow: bool = True


EVERYTHING: Final = Leave()


class Asker:
    """Draws requests. `odd`: what part of them is odd. `prefix`: below which node everything happens."""

    def __init__(self, random: Random, *, odd: float = 0.05, prefix: str = "", leave: Leave = EVERYTHING) -> None:
        self.random = random
        self.odd = odd
        self.leave = leave
        own = prefix.replace("/", "-")
        self.paths = [path + own if path.startswith("/zookeeper") else prefix + path for path in PATHS]
        self.odd_paths = [prefix + path if path.startswith(("/a", "/b")) else path for path in ODD]
        self.lasting = [prefix + path for path in ("/c", "/a/y")]
        """Where watches that stay are set, unless they are mixed with others."""
        self._values = 0

    def write(self) -> Ask:
        """A request that changes something, or fails to."""
        leave = self.leave
        op = self._weighed(
            (Op.CREATE, 10), (Op.SET_DATA, 8), (Op.DELETE, 6), (Op.CREATE2, 3), (Op.MULTI, 4), (Op.SET_ACL, 2),
            (Op.CHECK, leave.check), (Op.CREATE_CONTAINER, 1), (Op.CREATE_TTL, 1),
            (Op.RECONFIG, 0.1),
        )  # fmt: skip
        if op == Op.RECONFIG:
            return Ask(op, b"\xff\xff\xff\xff" * 3 + bytes(8))
        if op == Op.MULTI:
            kinds = (Op.CREATE, Op.SET_DATA, Op.DELETE, Op.CHECK, Op.CREATE2, Op.CREATE_CONTAINER, Op.CREATE_TTL)
            count = self.random.choice((0, 1, 2, 2, 3, 4))
            return Ask(op, self._joined([(kind, self.body(kind)) for kind in self.random.choices(kinds, k=count)]))
        return Ask(op, self._cut(self.body(op)))

    def read(self) -> Ask:
        """A request that changes nothing in the cell, though perhaps what is watched."""
        leave = self.leave
        op = self._weighed(
            (Op.GET_DATA, 10), (Op.EXISTS, 8), (Op.GET_CHILDREN, 4), (Op.GET_CHILDREN2, 4), (Op.GET_ACL, 1),
            (Op.SYNC, 1), (Op.MULTI_READ, 1), (Op.GET_EPHEMERALS, 1), (Op.GET_ALL_CHILDREN_NUMBER, 1),
            (Op.ADD_WATCH, 2 * leave.watches), (Op.REMOVE_WATCHES, 1), (Op.CHECK_WATCHES, leave.narrow),
            (Op.WHO_AM_I, 0.5),
        )  # fmt: skip
        if op == Op.MULTI_READ:
            kinds = self.random.choices((Op.GET_DATA, Op.GET_CHILDREN), k=self.random.randrange(4))
            return Ask(op, self._joined([(kind, self.body(kind)) for kind in kinds]))
        return Ask(op, self._cut(self.body(op)))

    def auth(self) -> Ask:
        """Prove to be somebody."""
        return Ask(Op.AUTH, jute.Auth.build({"type": 0, "scheme": b"digest", "auth": self.random.choice(SECRETS)}))

    def _weighed(self, *choices: tuple[Op, float]) -> Op:
        return self.random.choices([op for op, _ in choices], [weight for _, weight in choices])[0]

    def _joined(self, steps: list[tuple[int, bytes]]) -> bytes:
        head = jute.MultiHeader.build
        parts = [head({"type": op, "done": False, "err": -1}) + body for op, body in steps]
        if self._is_odd():
            parts.append(head({"type": Op.GET_ACL, "done": False, "err": -1}) + self.body(Op.GET_ACL))
        return b"".join(parts) + head({"type": -1, "done": True, "err": -1})

    def _is_odd(self) -> bool:
        return self.random.random() < self.odd

    def _cut(self, body: bytes) -> bytes:
        """The body, in rare cases without its end or with something behind it."""
        if not self._is_odd() or not body:
            return body
        return body[: self.random.randrange(len(body))] if self.random.random() < 0.7 else body + b"behind"

    def path(self) -> bytes | None:
        """A path, mostly a good one."""
        if self._is_odd():
            return self.random.choice(self.odd_paths).encode("utf-8", "surrogatepass")
        return self.random.choice(self.paths).encode()

    def value(self) -> bytes | None:
        """Data that nobody else writes."""
        self._values += 1
        return self.random.choice((b"%d" % self._values, b"%d" % self._values, b"", None))

    def version(self) -> int:
        """An expected version that may be right."""
        return self.random.choice((-1, -1, -1, 0, 1, 2))

    def acl(self) -> dict[str, Any]:
        """A list, mostly the one that lets anybody do anything."""
        if self._is_odd():
            return {"value": self.random.choice(BAD_LISTS)}
        lists = GOOD_LISTS if self.leave.unreadable else READABLE
        return {"value": self.random.choice(lists) if self.random.random() < 0.2 else WORLD}

    def flags(self, op: int) -> int:
        """How to create."""
        if self._is_odd():
            return self.random.choice((-1, 4, 5, 6, 7, 9))
        if op == Op.CREATE_CONTAINER:
            return Mode.CONTAINER
        if op == Op.CREATE_TTL:
            return self.random.choice((Mode.TTL, Mode.TTL_SEQUENTIAL))
        return self.random.choice((0, 0, 0, 1, 1, 2, 3))

    def _is_apart(self, path: bytes | None) -> bool:
        """Whether only watches that stay may be set there."""
        return not self.leave.mixed and path is not None and path.decode("utf-8", "replace") in self.lasting

    def body(self, op: int) -> bytes:
        """The record of a request that has one of its own."""
        random, path = self.random, self.path()
        if op in (Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER):
            made = {"path": path, "data": self.value(), "acl": self.acl(), "flags": self.flags(op)}
            return jute.Create.build(made)
        if op == Op.CREATE_TTL:
            ttl = random.choice(
                (1 << 40, 0, -1) if self._is_odd() else (1000 if self.leave.brief else 100_000, 100_000)
            )
            made = {"path": path, "data": self.value(), "acl": self.acl(), "flags": self.flags(op), "ttl": ttl}
            return jute.CreateTtl.build(made)
        if op in (Op.DELETE, Op.CHECK):
            return jute.PathVersion.build({"path": path, "version": self.version()})
        if op == Op.SET_DATA:
            return jute.SetData.build({"path": path, "data": self.value(), "version": self.version()})
        if op == Op.SET_ACL:
            return jute.SetAcl.build({"path": path, "acl": self.acl(), "version": self.version()})
        if op in (Op.EXISTS, Op.GET_DATA, Op.GET_CHILDREN, Op.GET_CHILDREN2):
            watch = random.random() < 0.5 and self.leave.watches and not self._is_apart(path)
            return jute.PathWatch.build({"path": path, "watch": watch})
        if op == Op.ADD_WATCH:
            if not self.leave.mixed:
                path = random.choice(self.lasting).encode()
            return jute.PathKind.build({"path": path, "kind": 2 if self._is_odd() else random.randrange(2)})
        if op in (Op.REMOVE_WATCHES, Op.CHECK_WATCHES):
            kind = 9 if self._is_odd() else random.randrange(1, 6 if self.leave.narrow else 4)
            return jute.PathKind.build({"path": path, "kind": 3 if self._is_apart(path) else kind})
        if op == Op.WHO_AM_I:
            return b""
        return jute.PathOnly.build({"path": path})
