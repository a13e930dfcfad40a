"""The tree of znodes: what each operation does to it, with every rule about versions, counters, rights and special
paths.

One flat table holds path -> node, so that an operation costs one look-up whatever the depth; a node knows the names of
its children only. The root is there twice, as "/" and as "" (the text before the first slash), which spares the
parent look-up a special case.

An operation raises Fault before its first change. To take a whole multi back, `undo` collects what reverses each
change.

The digest is a sum over nodes, kept incrementally and therefore independent of order, of the hash of two tuples of
ints a node: `content` (what a setData changes) and `family` (what a change among the children or of the list changes;
0 while untouched). Hashes of tuples of ints are the same in every process, unlike those of text.

Sources: DataTree, DataNode and PrepRequestProcessor of ZooKeeper 3.8, as observed: docs/explanation/zookeeper-protocol
counts the rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final, Protocol
from zlib import crc32

from . import paths, quotas
from .acl import OPEN, READ_ONLY, Identities, permits, settled
from .codec import STAT
from .protocol import ANY_VERSION, INT_MAX, Err, Event, Fault, Right
from .table import SHIFT, Table

_pack_stat = STAT.pack
_READ: Final = Right.READ.value
_WRITE: Final = Right.WRITE.value
_CREATE: Final = Right.CREATE.value
_DELETE: Final = Right.DELETE.value
_ADMIN: Final = Right.ADMIN.value
_Z: Final = ord("z")
"""Paths whose second byte is another are not below /zookeeper: the cheapest way to pass by the quotas' nodes."""
WALKED_MAX: Final = 10_000
"""Nodes below one that are found from child to child; where there are more, a look at every path there is finds them
several times as fast."""


class Observer(Protocol):
    """Told of each change that may fire watches, right after it happened, in order.

    `acl` is the node's list (for a child's coming or going also `parent_acl`, its parent's): events are shown only to
    those who may read."""

    def __call__(self, event: Event, path: bytes, acl: bytes, parent_acl: bytes) -> None: ...


class Node:
    """One znode. `creates` counts the children ever created under it: it numbers sequential ones and is half of
    cversion."""

    __slots__ = (
        "acl",
        "aversion",
        "birth",
        "children",
        "content",
        "creates",
        "ctime",
        "czxid",
        "family",
        "mtime",
        "mzxid",
        "owner",
        "packed",
        "pzxid",
        "value",
        "version",
    )

    def __init__(self, path: bytes, value: bytes | None, acl: bytes, owner: int, zxid: int, now: int) -> None:
        self.value = value
        self.acl = acl
        self.owner = owner
        self.czxid = self.mzxid = self.pzxid = zxid
        self.ctime = self.mtime = now
        self.version = self.aversion = self.creates = self.family = 0
        self.children: dict[bytes, None] | None = None
        self.packed: bytes | None = None
        self.birth = birth = hash((crc32(path), zxid, now, owner))
        self.content = hash((birth, crc32(value) if value is not None else -9, zxid, now, 0))


def content_of(node: Node) -> int:
    """The digest's first part of a node, from scratch."""
    value = node.value
    return hash((node.birth, crc32(value) if value is not None else -9, node.mzxid, node.mtime, node.version))


def family_of(node: Node) -> int:
    """The digest's second part of a node, from scratch."""
    if node.acl is OPEN and not node.aversion and not node.creates and node.pzxid == node.czxid:
        return 0
    return hash((node.birth, node.pzxid, node.creates, node.aversion, 0 if node.acl is OPEN else crc32(node.acl)))


def stat(node: Node) -> bytes:
    """The 68 bytes of a node's Stat. Kept until the node changes."""
    found = node.packed
    if found is None:
        value, children = node.value, node.children
        count = len(children) if children else 0
        cversion = 2 * node.creates - count
        found = node.packed = _pack_stat(
            node.czxid,
            node.mzxid,
            node.ctime,
            node.mtime,
            node.version,
            cversion if -INT_MAX <= cversion <= INT_MAX else _int32(cversion),
            node.aversion,
            node.owner if node.owner > 0 else 0,
            len(value) if value else 0,
            count,
            node.pzxid,
        )
    return found


def _int32(number: int) -> int:
    """`number` as 32-bit arithmetic would have it."""
    return ((number + 0x80000000) & 0xFFFFFFFF) - 0x80000000


def _next_version(version: int) -> int:
    """The version after this one: wraps in 32 bits and never becomes -1, which stands for any version."""
    version = _int32(version + 1)
    return version if version != ANY_VERSION else 0


def _absent(path: bytes) -> Fault:
    """What a write to a path without a node ends with. A node that is there has a valid path, so only this case
    looks."""
    return Fault(Err.NO_NODE if paths.valid(path) else Err.BAD_ARGUMENTS)


class Tree:
    """The nodes, who owns which ephemerals, and the running sums."""

    def __init__(self) -> None:
        self.nodes: Table[Node] = Table()
        self.ephemerals: dict[int, dict[bytes, None]] = {}
        self.fleeting: dict[bytes, None] = {}
        """Containers and nodes with a time to live, in order of creation."""
        self.sum = 0
        """Sum of every node's content and family hashes."""
        self.size = 0
        """Bytes of all data, for monitoring."""
        self.quotas: dict[bytes, None] = {}
        """Paths that have a quota."""
        self.enforcing = False
        """Whether hard limits of quotas are held against the changes that come next."""
        self.observer: Observer | None = None
        self.undo: list[tuple[Callable[..., None], tuple[object, ...]]] | None = None
        self._plant()

    def _plant(self) -> None:
        """The nodes every tree has. As in the original they count as created by nobody: their parents' counters stay
        0."""
        for path, acl in ((paths.ROOT, OPEN), (paths.ZOOKEEPER, OPEN), (paths.CONFIG, READ_ONLY), (paths.QUOTA, OPEN)):
            node = Node(path, b"", acl, 0, 0, 0)
            if path == paths.CONFIG:
                node.aversion = -1
                node.family = family_of(node)
            self.adopt(path, node)

    def adopt(self, path: bytes, node: Node) -> None:
        """Put a node with all its attributes and hashes in place, below a parent that is there: for the first nodes
        and for snapshots."""
        parts = self.nodes.parts
        parts[hash(path) >> SHIFT][path] = node
        if path == paths.ROOT:
            self.nodes[b""] = node
        else:
            head, _, name = path.rpartition(b"/")
            above = parts[hash(head) >> SHIFT][head]
            if above.children is None:
                above.children = {}
            above.children[name] = None
        self.sum += node.content + node.family
        if node.value:
            self.size += len(node.value)
        if node.owner:
            self.index(path, node.owner)
        if path.startswith(quotas.BELOW):
            self._limit(path, True)

    def index(self, path: bytes, owner: int) -> None:
        """Note who owns the node at `path`, or that it may go by itself."""
        if owner > 0:
            owned = self.ephemerals.get(owner)
            if owned is None:
                owned = self.ephemerals[owner] = {}
            owned[path] = None
        elif owner:
            self.fleeting[path] = None

    def create(
        self,
        path: bytes,
        value: bytes | None,
        acl: bytes,
        owner: int,
        sequential: bool,
        who: Identities,
        zxid: int,
        now: int,
    ) -> bytes:
        """Create a node; returns its path, which has the parent's counter appended if `sequential`."""
        head, slash, name = path.rpartition(b"/")
        if not slash:
            raise Fault(Err.BAD_ARGUMENTS)
        if acl is not OPEN:
            if b"\0" in path:
                raise Fault(Err.BAD_ARGUMENTS)
            acl = settled(acl, who)
        parts = self.nodes.parts
        above = parts[hash(head) >> SHIFT].get(head)
        if above is None:
            raise Fault(Err.BAD_ARGUMENTS if b"\0" in path else Err.NO_NODE)
        if above.acl is not OPEN and not permits(above.acl, _CREATE, who):
            raise Fault(Err.BAD_ARGUMENTS if b"\0" in path else Err.NO_AUTH)
        number = above.creates
        if sequential:
            suffix = b"%010d" % number
            path += suffix
            name += suffix
        part = parts[hash(path) >> SHIFT]
        if path in part:
            raise Fault(Err.NODE_EXISTS)
        if not paths.valid_name(name) or head == paths.ROOT:
            raise Fault(Err.BAD_ARGUMENTS)
        if above.owner > 0:
            raise Fault(Err.NO_CHILDREN_FOR_EPHEMERALS)
        if self.enforcing and self.quotas:
            self._check_quota(path, 1, len(value) if value else 0)
        if self.undo is not None:
            self.undo.append((self._uncreate, (path, above, above.pzxid, number)))
        part[path] = node = Node(path, value, acl, owner, zxid, now)
        if above.children is None:
            above.children = {}
        above.children[name] = None
        above.packed = None
        above.pzxid = zxid
        above.creates = number = number + 1 if number != INT_MAX else -INT_MAX - 1
        family = hash((above.birth, zxid, number, above.aversion, 0 if above.acl is OPEN else crc32(above.acl)))
        total = node.content + family - above.family
        above.family = family
        if acl is not OPEN:
            node.family = family_of(node)
            total += node.family
        self.sum += total
        if value:
            self.size += len(value)
        if owner:
            self.index(path, owner)
        if self.quotas or (path[1] == _Z and path.startswith(quotas.BELOW)):
            self._count(path, 1, len(value) if value else 0)
        if self.observer is not None:
            self.observer(Event.CREATED, path, acl, above.acl)
        return path

    def delete(self, path: bytes, version: int, who: Identities, zxid: int) -> None:
        """Delete a node without children."""
        head, slash, name = path.rpartition(b"/")
        if not slash or path in paths.UNDELETABLE:
            raise Fault(Err.BAD_ARGUMENTS)
        parts = self.nodes.parts
        above = parts[hash(head) >> SHIFT].get(head)
        if above is None:
            raise Fault(Err.BAD_ARGUMENTS if b"\0" in path else Err.NO_NODE)
        if above.acl is not OPEN and not permits(above.acl, _DELETE, who):
            raise Fault(Err.BAD_ARGUMENTS if b"\0" in path else Err.NO_AUTH)
        node = parts[hash(path) >> SHIFT].get(path)
        if node is None:
            raise Fault(Err.BAD_ARGUMENTS if b"\0" in path else Err.NO_NODE)
        if version not in (ANY_VERSION, node.version):
            raise Fault(Err.BAD_VERSION)
        if node.children:
            raise Fault(Err.NOT_EMPTY)
        self._remove(path, node, above, name, zxid)

    def remove(self, path: bytes, zxid: int) -> None:
        """Delete a node that is there and has no children, by the cell's own decision."""
        head, _, name = path.rpartition(b"/")
        self._remove(path, self.nodes[path], self.nodes[head], name, zxid)

    def _remove(self, path: bytes, node: Node, above: Node, name: bytes, zxid: int) -> None:
        if self.undo is not None:
            self.undo.append((self._undelete, (path, node, above, name, above.pzxid)))
        del self.nodes.parts[hash(path) >> SHIFT][path]
        del above.children[name]  # type: ignore[union-attr]
        above.packed = None
        above.pzxid = max(above.pzxid, zxid)
        family = family_of(above)
        self.sum += family - above.family - node.content - node.family
        above.family = family
        if node.value:
            self.size -= len(node.value)
        owner = node.owner
        if owner > 0:
            owned = self.ephemerals[owner]
            del owned[path]
            if not owned:
                del self.ephemerals[owner]
        elif owner:
            del self.fleeting[path]
        if self.quotas:
            self._count(path, -1, -len(node.value) if node.value else 0)
        if self.observer is not None:
            self.observer(Event.DELETED, path, node.acl, above.acl)

    def put(self, path: bytes, value: bytes | None, version: int, who: Identities, zxid: int, now: int) -> Node:
        """Replace a node's data."""
        node = self.nodes.parts[hash(path) >> SHIFT].get(path)
        if node is None or not path:
            raise _absent(path)
        if node.acl is not OPEN and not permits(node.acl, _WRITE, who):
            raise Fault(Err.NO_AUTH)
        if self.enforcing and self.quotas:
            self._check_quota(path, 0, (len(value) if value else 0) - (len(node.value) if node.value else 0))
        current = node.version
        if version != ANY_VERSION and version != current:
            raise Fault(Err.BAD_VERSION)
        if self.undo is not None:
            self.undo.append((self._unset, (node, node.value, node.mzxid, node.mtime, current)))
        before = node.value
        node.value = value
        node.mzxid = zxid
        node.mtime = now
        node.version = current = current + 1 if 0 <= current < INT_MAX else _next_version(current)
        node.packed = None
        content = hash((node.birth, crc32(value) if value is not None else -9, zxid, now, current))
        self.sum += content - node.content
        node.content = content
        more = (len(value) if value else 0) - (len(before) if before else 0)
        self.size += more
        if more and self.quotas:
            self._count(path, 0, more)
        if self.observer is not None:
            self.observer(Event.DATA_CHANGED, path, node.acl, OPEN)
        return node

    def set_acl(self, path: bytes, acl: bytes, version: int, who: Identities) -> Node:
        """Replace a node's access control list."""
        if not path or (path not in self.nodes and not paths.valid(path)):
            raise Fault(Err.BAD_ARGUMENTS)
        acl = settled(acl, who)
        node = self.nodes.parts[hash(path) >> SHIFT].get(path)
        if node is None:
            raise Fault(Err.NO_NODE)
        if node.acl is not OPEN and not permits(node.acl, _ADMIN, who):
            raise Fault(Err.NO_AUTH)
        if version not in (ANY_VERSION, node.aversion):
            raise Fault(Err.BAD_VERSION)
        if self.undo is not None:
            self.undo.append((self._unset_acl, (node, node.acl, node.aversion)))
        self._put_acl(node, acl, _next_version(node.aversion))
        return node

    def check(self, path: bytes, version: int, who: Identities) -> Node:
        """Hold a node's version against an expected one."""
        node = self.nodes.parts[hash(path) >> SHIFT].get(path)
        if node is None or not path:
            raise _absent(path)
        if node.acl is not OPEN and not permits(node.acl, _READ, who):
            raise Fault(Err.NO_AUTH)
        if version not in (ANY_VERSION, node.version):
            raise Fault(Err.BAD_VERSION)
        return node

    def readable(self, path: bytes, who: Identities, right: int = _READ) -> Node:
        """The node at `path` for somebody who may read it."""
        node = self.nodes.parts[hash(path) >> SHIFT].get(path)
        if node is None:
            raise Fault(Err.NO_NODE)
        if node.acl is not OPEN and not permits(node.acl, right, who):
            raise Fault(Err.NO_AUTH)
        return node

    def end_session(self, session: int, zxid: int) -> None:
        """Remove a session's ephemerals, in order of creation."""
        for path in list(self.ephemerals.get(session, ())):
            self.remove(path, zxid)

    def descendants(self, path: bytes) -> int:
        """How many nodes are below the one at `path`, at any depth. Below the root's other name is the root, too, as in
        the original."""
        if path in (paths.ROOT, b""):
            return len(self.nodes) - (2 if path else 1)
        return len(self._subtree(path)) - 1

    def _subtree(self, path: bytes) -> list[Node]:
        """The node at `path`, which is not the root, and every one below it."""
        nodes = self.nodes
        found = []
        places = [path]
        for place in places:
            if len(places) > WALKED_MAX:
                below = path + b"/"
                inside = (part.items() for part in nodes.parts)
                return [nodes[path], *(node for each, node in chain.from_iterable(inside) if each.startswith(below))]
            node = nodes[place]
            found.append(node)
            if node.children:
                places.extend(place + b"/" + name for name in node.children)
        return found

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """Every path and its node, parents before their children and siblings in their order."""
        nodes = self.nodes
        root = nodes[paths.ROOT]
        yield paths.ROOT, root
        inside = [(b"/", iter(root.children or ()))]
        while inside:
            above, names = inside[-1]
            for name in names:
                path = above + name
                node = nodes[path]
                yield path, node
                if node.children:
                    inside.append((path + b"/", iter(node.children)))
                    break
            else:
                inside.pop()

    # Quotas

    def quota_over(self, path: bytes) -> bytes | None:
        """The path at or above `path`, nearest to it, that has a quota."""
        while path:
            if path in self.quotas:
                return path
            path = path[: path.rfind(b"/")]
        return None

    def _check_quota(self, path: bytes, nodes: int, size: int) -> None:
        """Refuse so many more nodes and bytes at `path` if a hard limit says so. Half a quota limits nothing."""
        place = self.quota_over(path)
        if place is None:
            return
        limits = self.nodes.get(quotas.limits_path(place))
        stats = self.nodes.get(quotas.stats_path(place))
        if limits is not None and stats is not None:
            quotas.check(limits.value, stats.value, nodes, size)

    def _count(self, path: bytes, nodes: int, size: int) -> None:
        """Keep what quotas count true: a node came (1), went (-1) or has other data (0) at `path`."""
        if nodes and path.startswith(quotas.BELOW):
            self._limit(path, nodes > 0)
            place = quotas.subject(path, quotas.STATS)
            if place is not None and nodes > 0:
                there = self._subtree(place) if place in self.nodes else []
                self._rewrite(path, quotas.counted(len(there), sum(len(node.value or b"") for node in there)))
        place = self.quota_over(path)
        if place is not None:
            place = quotas.stats_path(place)
            stats = self.nodes.get(place)
            try:
                if stats is not None:
                    self._rewrite(place, quotas.moved(stats.value, nodes, size))
            except ValueError:
                pass  # A client wrote there what is no line; until it is mended nothing is counted.

    def _limit(self, path: bytes, there: bool) -> None:
        """A node below /zookeeper/quota came or went: note the quota if it is its limits."""
        place = quotas.subject(path, quotas.LIMITS)
        if place is not None and there:
            self.quotas[place] = None
        elif place is not None:
            self.quotas.pop(place, None)

    def _rewrite(self, path: bytes, value: bytes) -> None:
        """Replace data by the tree's own decision: nobody is told, and no version or time changes."""
        node = self.nodes[path]
        if self.undo is not None:
            self.undo.append((self._unset, (node, node.value, node.mzxid, node.mtime, node.version)))
        self._unset(node, value, node.mzxid, node.mtime, node.version)

    # Taking back

    def roll_back(self, steps: list[tuple[Callable[..., None], tuple[object, ...]]]) -> None:
        """Take changes back, newest first."""
        for step, arguments in reversed(steps):
            step(*arguments)

    def _uncreate(self, path: bytes, above: Node, pzxid: int, creates: int) -> None:
        node = self.nodes.pop(path)
        del above.children[path.rpartition(b"/")[2]]  # type: ignore[union-attr]
        self.sum -= node.content + node.family
        self.size -= len(node.value or b"")
        if node.owner > 0:
            owned = self.ephemerals[node.owner]
            del owned[path]
            if not owned:
                del self.ephemerals[node.owner]
        elif node.owner:
            del self.fleeting[path]
        if path.startswith(quotas.BELOW):
            self._limit(path, False)
        above.creates = creates
        self._put_pzxid(above, pzxid)

    def _undelete(self, path: bytes, node: Node, above: Node, name: bytes, pzxid: int) -> None:
        self.nodes[path] = node
        above.children[name] = None  # type: ignore[index]
        self.sum += node.content + node.family
        self.size += len(node.value or b"")
        self.index(path, node.owner)
        if path.startswith(quotas.BELOW):
            self._limit(path, True)
        self._put_pzxid(above, pzxid)

    def _put_pzxid(self, node: Node, pzxid: int) -> None:
        node.pzxid = pzxid
        self._refresh_family(node)

    def _put_acl(self, node: Node, acl: bytes, aversion: int) -> None:
        node.acl = acl
        node.aversion = aversion
        self._refresh_family(node)

    def _refresh_family(self, node: Node) -> None:
        node.packed = None
        family = family_of(node)
        self.sum += family - node.family
        node.family = family

    def _unset_acl(self, node: Node, acl: bytes, aversion: int) -> None:
        self._put_acl(node, acl, aversion)

    def _unset(self, node: Node, value: bytes | None, mzxid: int, mtime: int, version: int) -> None:
        self.size += len(value or b"") - len(node.value or b"")
        node.value, node.mzxid, node.mtime, node.version = value, mzxid, mtime, version
        node.packed = None
        content = content_of(node)
        self.sum += content - node.content
        node.content = content
