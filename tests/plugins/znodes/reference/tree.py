"""Nodes, and what each operation does to them. An operation either happens as a whole and returns its result, or raises
Refused and leaves everything as it was.

Sources: PrepRequestProcessor, DataTree and DataNode of ZooKeeper 3.8.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import unicodedata
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from quorate.plugins.znodes.protocol import Err, Event, Mode, Right

ANYONE: Final = ("world", "anyone")
SPECIAL: Final = ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")


class Refused(Exception):
    """An operation ends with an error."""

    def __init__(self, err: Err) -> None:
        super().__init__(err.name)
        self.err = err


class Entry(NamedTuple):
    """One entry of an access control list."""

    perms: int
    scheme: str
    id: str


OPEN: Final = (Entry(31, *ANYONE),)

Identity = tuple[str, str]


class Change(NamedTuple):
    """Something that watches may wait for. `acl` is the list of the node at `path`: who may not read it is not told."""

    event: Event
    path: str
    acl: tuple[Entry, ...]


@dataclass
class Znode:
    """A node and its counters."""

    data: bytes | None
    acl: tuple[Entry, ...]
    czxid: int
    ctime: int
    session: int = 0
    """Whose ephemeral it is; 0 for nobody's."""
    container: bool = False
    ttl: int | None = None
    """Milliseconds that it lasts without a change and without a child."""
    version: int = 0
    aversion: int = 0
    created: int = 0
    """Children ever created."""
    children: set[str] = field(default_factory=set)
    mzxid: int = 0
    pzxid: int = 0
    mtime: int = 0

    def __post_init__(self) -> None:
        self.mzxid = self.pzxid = self.czxid
        self.mtime = self.ctime

    def stat(self) -> dict[str, int]:
        """What clients are shown."""
        return {
            "czxid": self.czxid,
            "mzxid": self.mzxid,
            "ctime": self.ctime,
            "mtime": self.mtime,
            "version": self.version,
            "cversion": 2 * self.created - len(self.children),
            "aversion": self.aversion,
            "ephemeral_owner": self.session,
            "length": len(self.data or b""),
            "children": len(self.children),
            "pzxid": self.pzxid,
        }


# ---------------------------------------------------------------------------------------------------------- paths


def _component_is_valid(name: str) -> bool:
    if name in ("", ".", ".."):
        return False
    for character in name:
        code = ord(character)
        if unicodedata.category(character) == "Cc" or 0xD800 <= code <= 0xF8FF or code >= 0xFFF0:
            return False
    return True


def is_valid(path: str) -> bool:
    """Whether it is a path at all. Characters beyond U+FFFF are pairs of surrogates to the original."""
    return path == "/" or (path.startswith("/") and all(_component_is_valid(name) for name in path[1:].split("/")))


def parent_of(path: str) -> str:
    """One level up."""
    return path.rpartition("/")[0] or "/"


# ---------------------------------------------------------------------------------------------------- access control


def digest(secret: bytes) -> Identity:
    """What ``user:password`` proves."""
    user = secret.split(b":")[0]
    return "digest", (user + b":" + base64.b64encode(hashlib.sha1(secret).digest())).decode()


def permits(acl: tuple[Entry, ...], right: int, who: list[Identity]) -> bool:
    """Whether the list grants one of these rights to a client with these identities."""
    if any(scheme == "super" for scheme, _ in who):
        return True
    for entry in acl:
        if entry.perms & right:
            if (entry.scheme, entry.id) == ANYONE:
                return True
            for scheme, name in who:
                if scheme != entry.scheme:
                    continue
                if scheme == "ip" and ipaddress.ip_address(name) in ipaddress.ip_network(entry.id, strict=False):
                    return True
                if scheme != "ip" and name == entry.id:
                    return True
    return False


def settled(acl: list[dict[str, Any]] | None, who: list[Identity]) -> tuple[Entry, ...]:
    """The list that is kept for the one a client sent."""
    kept: list[Entry] = []
    for entry in dict.fromkeys(Entry(each["perms"], each["scheme"], each["id"]) for each in acl or ()):
        if entry.scheme is None or entry.id is None:
            raise Refused(Err.INVALID_ACL)
        if (entry.scheme, entry.id) == ANYONE:
            kept.append(entry)
        elif entry.scheme == "auth":
            proved = [identity for identity in who if identity[0] in ("digest", "sasl", "x509")]
            if not proved:
                raise Refused(Err.INVALID_ACL)
            kept.extend(Entry(entry.perms, *identity) for identity in proved)
        elif _is_id(entry.scheme, entry.id):
            kept.append(entry)
        else:
            raise Refused(Err.INVALID_ACL)
    if not kept:
        raise Refused(Err.INVALID_ACL)
    return tuple(kept)


def _is_id(scheme: str, name: str) -> bool:
    if scheme == "digest":
        parts = name.split(":")
        while parts and not parts[-1]:  # as Java splits
            parts.pop()
        return len(parts) == 2
    if scheme == "ip":
        try:
            ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
        return True
    return False


# ------------------------------------------------------------------------------------------------------------ the tree


class Tree:
    """All nodes by path. `changes` gathers what watches may wait for, in order."""

    def __init__(self) -> None:
        self.nodes: dict[str, Znode] = {}
        self.changes: list[Change] = []
        for path in SPECIAL:
            self.nodes[path] = Znode(b"", OPEN, 0, 0)
            if path != "/":
                self.nodes[parent_of(path)].children.add(path.rpartition("/")[2])
        for node in self.nodes.values():
            node.created = 0
        self.nodes["/zookeeper/config"].acl = (Entry(1, *ANYONE),)
        self.nodes["/zookeeper/config"].aversion = -1

    # ---- what clients ask for

    def create(
        self,
        path: str,
        data: bytes | None,
        acl: list[dict[str, Any]] | None,
        mode: Mode,
        who: list[Identity],
        *,
        session: int,
        ttl: int | None,
        zxid: int,
        now: int,
    ) -> str:
        """Create a node; its path, which has a number appended if the mode says so."""
        if "/" not in path or "\0" in path:
            raise Refused(Err.BAD_ARGUMENTS)
        kept = settled(acl, who)
        above = path.rpartition("/")[0] or "/"
        parent = self._node(above)
        self._need(parent, Right.CREATE, who)
        if mode in (Mode.PERSISTENT_SEQUENTIAL, Mode.EPHEMERAL_SEQUENTIAL, Mode.TTL_SEQUENTIAL):
            path += f"{parent.created:010d}"
        if not is_valid(path):
            raise Refused(Err.BAD_ARGUMENTS)
        if path in self.nodes:
            raise Refused(Err.NODE_EXISTS)
        if parent.session:
            raise Refused(Err.NO_CHILDREN_FOR_EPHEMERALS)
        node = Znode(data, kept, zxid, now)
        if mode in (Mode.EPHEMERAL, Mode.EPHEMERAL_SEQUENTIAL):
            node.session = session
        node.container = mode == Mode.CONTAINER
        node.ttl = ttl
        self.nodes[path] = node
        parent.children.add(path.rpartition("/")[2])
        parent.created += 1
        parent.pzxid = zxid
        self._changed(Event.CREATED, path)
        self._changed(Event.CHILDREN_CHANGED, above)
        return path

    def delete(self, path: str, version: int, who: list[Identity], zxid: int) -> None:
        """Delete a node that has no children. The right to it is the parent's to give."""
        if "/" not in path or "\0" in path or path in SPECIAL:
            raise Refused(Err.BAD_ARGUMENTS)
        self._need(self._node(path.rpartition("/")[0] or "/"), Right.DELETE, who)
        node = self._node(path)
        _expect(version, node.version)
        if node.children:
            raise Refused(Err.NOT_EMPTY)
        self.remove(path, zxid)

    def set_data(
        self, path: str, data: bytes | None, version: int, who: list[Identity], zxid: int, now: int
    ) -> dict[str, int]:
        """Replace a node's data; its Stat."""
        node = self._written(path, Right.WRITE, who)
        _expect(version, node.version)
        node.data, node.mzxid, node.mtime = data, zxid, now
        node.version += 1
        self._changed(Event.DATA_CHANGED, path)
        return node.stat()

    def set_acl(self, path: str, acl: list[dict[str, Any]] | None, version: int, who: list[Identity]) -> dict[str, int]:
        """Replace a node's list; its Stat. Nobody is told."""
        if not is_valid(path):
            raise Refused(Err.BAD_ARGUMENTS)
        kept = settled(acl, who)
        node = self._node(path)
        self._need(node, Right.ADMIN, who)
        _expect(version, node.aversion)
        node.acl = kept
        node.aversion += 1
        return node.stat()

    def check(self, path: str, version: int, who: list[Identity]) -> dict[str, int]:
        """Hold a node's version against an expected one; its Stat."""
        node = self._written(path, Right.READ, who)
        _expect(version, node.version)
        return node.stat()

    def read(self, path: str, who: list[Identity], right: int = Right.READ) -> Znode:
        """A node for somebody who may read it."""
        node = self._node(path)
        self._need(node, right, who)
        return node

    # ---- what the cell does by itself

    def remove(self, path: str, zxid: int) -> None:
        """Delete a node that is there."""
        node, above = self.nodes.pop(path), parent_of(path)
        parent = self.nodes[above]
        parent.children.remove(path.rpartition("/")[2])
        parent.pzxid = max(parent.pzxid, zxid)
        self.changes.append(Change(Event.DELETED, path, node.acl))
        self._changed(Event.CHILDREN_CHANGED, above)

    def end_session(self, session: int, zxid: int) -> None:
        """Delete a session's ephemerals, in the order in which they were created."""
        for path in [path for path, node in self.nodes.items() if node.session == session]:
            self.remove(path, zxid)

    def below(self, path: str) -> int:
        """How many nodes there are below this one, at any depth."""
        prefix = path if path == "/" else path + "/"
        return sum(other.startswith(prefix) and other != path for other in self.nodes)

    def saved(self) -> object:
        """Everything, for :meth:`back_to`."""
        return deepcopy((self.nodes, self.changes))

    def back_to(self, saved: Any) -> None:
        """As it was."""
        self.nodes, self.changes = saved

    # ---- inside

    def _node(self, path: str) -> Znode:
        node = self.nodes.get(path or "/")  # the root has two names
        if node is None:
            raise Refused(Err.NO_NODE)
        return node

    def _written(self, path: str, right: int, who: list[Identity]) -> Znode:
        if not is_valid(path):
            raise Refused(Err.BAD_ARGUMENTS)
        return self.read(path, who, right)

    def _need(self, node: Znode, right: int, who: list[Identity]) -> None:
        if not permits(node.acl, right, who):
            raise Refused(Err.NO_AUTH)

    def _changed(self, event: Event, path: str) -> None:
        self.changes.append(Change(event, path, self.nodes[path].acl))


def _expect(version: int, present: int) -> None:
    if version not in (-1, present):
        raise Refused(Err.BAD_VERSION)
