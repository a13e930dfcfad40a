"""The watches of one replica's clients: who waits for what, and who is told when it happens.

Four tables, path -> watchers: `data` (set by getData and exists, also on a path without a node), `children`, both
once only; `persistent` and `recursive`, which stay. A change is told to a watcher once, however many of its watches
it touches; the coming or going of a child is besides that told to those who watch the parent's children. Told are
only those who may read the node now. Watches are state of connections: they are lost with them and set again by the
client, with :func:`missed` for what happened meanwhile.

The machine calls :meth:`Watches.fire` only while there is any watch, so an idle table costs nothing.

Source: WatchManager, DataTree and PathParentIterator of ZooKeeper 3.9."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from struct import Struct
from typing import Final, Protocol

from . import paths
from .acl import OPEN, Identities, permits
from .codec import ustring
from .protocol import STATE_CONNECTED, Err, Event, Fault, Right, WatcherType, Xid
from .tree import Node, Tree

_HEAD: Final = Struct(">iiqiii")
_NO_ZXID: Final = -1
"""Notifications carry no transaction number, as in ZooKeeper 3.8."""


class Watcher(Protocol):
    """One client's connection."""

    identities: Identities

    @property
    def session(self) -> int: ...

    def notify(self, event: bytes) -> None:
        """Take a notification's frame, to be sent in its place among the replies."""


class Kind(IntEnum):
    """The tables."""

    DATA = 0
    CHILDREN = 1
    PERSISTENT = 2
    RECURSIVE = 3


_TABLES_OF: Final = {
    WatcherType.CHILDREN: (Kind.CHILDREN,),
    WatcherType.DATA: (Kind.DATA,),
    WatcherType.ANY: tuple(Kind),
    WatcherType.PERSISTENT: (Kind.PERSISTENT,),
    WatcherType.PERSISTENT_RECURSIVE: (Kind.RECURSIVE,),
}


def notification(event: Event, path: bytes) -> bytes:
    """The frame that tells of an event."""
    text = ustring(path)
    return _HEAD.pack(24 + len(text), Xid.NOTIFICATION, _NO_ZXID, 0, event, STATE_CONNECTED) + text


def with_ancestors(path: bytes) -> Iterator[bytes]:
    """`path` and every path above it, up to the root."""
    while path != paths.ROOT:
        yield path
        path = paths.parent(path)
    yield path


def kinds(watcher_type: int) -> tuple[Kind, ...]:
    """The tables that a client's watcher type is about. Raises Fault for a type that does not exist."""
    try:
        return _TABLES_OF[WatcherType(watcher_type)]
    except ValueError:
        raise Fault(Err.MARSHALLING_ERROR) from None


class Watches:
    """The four tables. `armed(bool)` is called when the first watch comes and when the last one goes."""

    def __init__(self, armed: Callable[[bool], None]) -> None:
        self.tables: tuple[dict[bytes, dict[Watcher, None]], ...] = ({}, {}, {}, {})
        self.held: dict[Watcher, tuple[set[bytes], ...]] = {}
        """Which paths each watcher has in each table."""
        self._armed = armed

    def __len__(self) -> int:
        return sum(len(paths_) for held in self.held.values() for paths_ in held)

    def add(self, kind: Kind, path: bytes, watcher: Watcher) -> None:
        """Set a watch. Setting it twice is setting it once."""
        held = self.held.get(watcher)
        if held is None:
            held = self.held[watcher] = (set(), set(), set(), set())
            if len(self.held) == 1:
                self._armed(True)
        held[kind].add(path)
        table = self.tables[kind]
        watchers = table.get(path)
        if watchers is None:
            table[path] = {watcher: None}
        else:
            watchers[watcher] = None

    def has(self, path: bytes, watcher: Watcher, wanted: tuple[Kind, ...]) -> bool:
        """Whether the watcher has a watch of one of these kinds on the path."""
        held = self.held.get(watcher)
        return held is not None and any(path in held[kind] for kind in wanted)

    def remove(self, path: bytes, watcher: Watcher, wanted: tuple[Kind, ...]) -> bool:
        """Drop the watcher's watches of these kinds on the path; False if there was none."""
        held = self.held.get(watcher)
        if held is None:
            return False
        found = False
        for kind in wanted:
            if path in held[kind]:
                found = True
                self._drop(kind, path, watcher)
                held[kind].remove(path)
        self._release(watcher)
        return found

    def forget(self, watcher: Watcher) -> None:
        """Drop everything of a watcher: its connection is gone."""
        held = self.held.get(watcher)
        if held is None:
            return
        for kind, watched in zip(Kind, held, strict=True):
            for path in watched:
                self._drop(kind, path, watcher)
            watched.clear()
        self._release(watcher)

    def _drop(self, kind: Kind, path: bytes, watcher: Watcher) -> None:
        table = self.tables[kind]
        watchers = table[path]
        del watchers[watcher]
        if not watchers:
            del table[path]

    def _release(self, watcher: Watcher) -> None:
        if not any(self.held[watcher]):
            del self.held[watcher]
            if not self.held:
                self._armed(False)

    def _take(self, kind: Kind, path: bytes, told: dict[Watcher, None]) -> None:
        """Move a path's one-time watchers of a kind into `told`."""
        watchers = self.tables[kind].pop(path, None)
        if watchers is None:
            return
        for watcher in watchers:
            self.held[watcher][kind].remove(path)
            self._release(watcher)
        told.update(watchers)

    def fire(self, event: Event, path: bytes, acl: bytes, parent_acl: bytes) -> None:
        """Something happened to the node at `path`; its list and, for a child that came or went, its parent's."""
        data, children, persistent, recursive = self.tables
        told: dict[Watcher, None] = {}
        if path in data:
            self._take(Kind.DATA, path, told)
        if path in persistent:
            told.update(persistent[path])
        if recursive:
            for place in with_ancestors(path):
                told.update(recursive.get(place, ()))
        if event == Event.DELETED and path in children:
            self._take(Kind.CHILDREN, path, told)
        if told:
            _tell(told, event, path, acl)
        if event == Event.DATA_CHANGED:
            return
        above = paths.parent(path)
        told = {}
        if above in children:
            self._take(Kind.CHILDREN, above, told)
        if above in persistent:
            told.update(persistent[above])
        if told:
            _tell(told, Event.CHILDREN_CHANGED, above, parent_acl)


def _tell(told: dict[Watcher, None], event: Event, path: bytes, acl: bytes) -> None:
    frame = notification(event, path)
    for watcher in told:
        if acl is OPEN or permits(acl, Right.READ, watcher.identities):
            watcher.notify(frame)


def missed(tree: Tree, kind: Kind, path: bytes, zxid: int, *, exists: bool = False) -> Event | None:
    """What a client that saw everything up to `zxid` missed on a path it watches again; None: nothing that can be
    known.

    `exists`: the watch was set on a path that had no node. What was created and deleted meanwhile stays unseen.
    """
    node: Node | None = tree.nodes.get(path)
    if exists:
        return Event.CREATED if node is not None else None
    if node is None:
        return Event.DELETED
    if kind == Kind.CHILDREN:
        return Event.CHILDREN_CHANGED if node.pzxid > zxid else None
    return Event.DATA_CHANGED if node.mzxid > zxid else None
