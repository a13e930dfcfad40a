"""What a tree of znodes is, written for clarity: the reference the machine is held against. Slow, and copies whatever
it likes."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from quorate.plugins.znodes.protocol import Err


class Refused(Exception):
    """An operation ends with an error."""


@dataclass
class Znode:
    """A node and its counters, as clients see them."""

    data: bytes | None
    owner: int
    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int = 0
    created: int = 0
    """Children ever created."""
    aversion: int = 0


@dataclass
class Model:
    """A tree without access control."""

    nodes: dict[str, Znode] = field(default_factory=dict)
    zxid: int = 0

    def __post_init__(self) -> None:
        for path in ("/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"):
            self.nodes[path] = Znode(b"", 0, 0, 0, 0, 0, 0)
        self.nodes["/zookeeper/config"].aversion = -1

    @staticmethod
    def parent_of(path: str) -> str:
        """One level up."""
        return path.rsplit("/", 1)[0] or "/"

    def children(self, path: str) -> list[str]:
        """Names of a node's children, sorted."""
        return sorted(other.rsplit("/", 1)[1] for other in self.nodes if other != "/" and self.parent_of(other) == path)

    def stat(self, path: str) -> dict[str, int]:
        """What clients are shown."""
        node = self.nodes[path]
        count = len(self.children(path))
        return {
            "czxid": node.czxid,
            "mzxid": node.mzxid,
            "ctime": node.ctime,
            "mtime": node.mtime,
            "version": node.version,
            "cversion": 2 * node.created - count,
            "aversion": node.aversion,
            "ephemeral_owner": node.owner,
            "length": len(node.data or b""),
            "children": count,
            "pzxid": node.pzxid,
        }

    def _create(self, path: str, data: bytes | None, owner: int, sequential: bool, now: int) -> str:
        parent = self.nodes.get(self.parent_of(path))
        if parent is None:
            raise Refused(Err.NO_NODE)
        if sequential:
            path += f"{parent.created:010d}"
        if path in self.nodes:
            raise Refused(Err.NODE_EXISTS)
        if parent.owner:
            raise Refused(Err.NO_CHILDREN_FOR_EPHEMERALS)
        self.nodes[path] = Znode(data, owner, self.zxid, self.zxid, self.zxid, now, now)
        parent.created += 1
        parent.pzxid = self.zxid
        return path

    def _delete(self, path: str, version: int) -> None:
        node = self.nodes.get(path)
        if node is None:
            raise Refused(Err.NO_NODE)
        if version not in (-1, node.version):
            raise Refused(Err.BAD_VERSION)
        if self.children(path):
            raise Refused(Err.NOT_EMPTY)
        del self.nodes[path]
        self.nodes[self.parent_of(path)].pzxid = self.zxid

    def _put(self, path: str, data: bytes | None, version: int, now: int) -> None:
        self._check(path, version)
        node = self.nodes[path]
        node.data, node.mzxid, node.mtime = data, self.zxid, now
        node.version += 1

    def _check(self, path: str, version: int) -> None:
        node = self.nodes.get(path)
        if node is None:
            raise Refused(Err.NO_NODE)
        if version not in (-1, node.version):
            raise Refused(Err.BAD_VERSION)

    def _one(self, step: tuple[Any, ...], now: int) -> Any:
        kind, *rest = step
        if kind == "create":
            return self._create(*rest, now)
        if kind == "put":
            return self._put(*rest, now)
        return (self._delete if kind == "delete" else self._check)(*rest)

    def apply(self, step: tuple[Any, ...], now: int) -> Any:
        """Apply one step; the path it made, or the error's number. A list of steps is a multi."""
        self.zxid += 1
        if step[0] == "multi":
            before = deepcopy(self.nodes)
            try:
                return [self._one(each, now) for each in step[1]]
            except Refused as refused:
                self.nodes = before
                return refused.args[0]
        try:
            return self._one(step, now)
        except Refused as refused:
            return refused.args[0]

    def end(self, session: int) -> None:
        """A session ends: one transaction."""
        self.zxid += 1
        for path in [path for path, node in self.nodes.items() if node.owner == session]:
            self._delete(path, -1)
