"""Answers to the requests that change nothing in the tree: everything but getData and exists, which connections
answer themselves.

Each takes what it needs of the replica (:class:`Place`), the client that asks and the frame, and returns the body of
the reply; a Fault or Malformed is the error the client gets. Watches are set only if the read succeeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol

from . import acl, codec, multi
from .codec import INT, MULTI_END, MULTI_HEADER
from .paths import ROOT
from .protocol import Err, Event, Fault, Malformed, Op, Right, WatchMode
from .tree import WALKED_MAX, Node, Tree, stat
from .watches import Kind, Watcher, Watches, kinds, missed, notification

_BLANK: Final = bytes(range(0x21))
"""What the original takes for blank around a prefix."""
REPLY_MAX: Final = 16 << 20
"""Bytes of a multiRead's reply; asked for one node again and again, it would be any number."""
LOOKED: Final = 8
"""What a look at a node costs, in bytes of replies, where the reply does not grow with it."""


class Client(Watcher, Protocol):
    """Who asks. `room`: so many bytes more before others get a turn; large replies are counted for it, and what costs
    more than its reply shows."""

    room: int

    def emit(self, frame: bytes) -> None:
        """Send a frame right before the reply that is being made."""


class Place(Protocol):
    """Where it is asked."""

    @property
    def tree(self) -> Tree: ...

    @property
    def watches(self) -> Watches: ...


def _get(place: Place, client: Client, frame: bytes) -> bytes:
    path, watch = codec.path_watch(frame)
    node = place.tree.readable(path, client.identities)
    if watch:
        place.watches.add(Kind.DATA, path, client)
    return _shown(node)


def _shown(node: Node) -> bytes:
    value = node.value
    if value is None:
        return INT.pack(-1) + stat(node)
    return INT.pack(len(value)) + value + stat(node)


def _exists(place: Place, client: Client, frame: bytes) -> bytes:
    path, watch = codec.path_watch(frame)
    if b"\0" in path:
        raise Fault(Err.BAD_ARGUMENTS)
    node = place.tree.nodes.get(path)
    if watch:
        place.watches.add(Kind.DATA, path, client)
    if node is None:
        raise Fault(Err.NO_NODE)
    return stat(node)


def _listed(place: Place, client: Client, frame: bytes) -> Node:
    path, watch = codec.path_watch(frame)
    node = place.tree.readable(path, client.identities)
    if watch:
        place.watches.add(Kind.CHILDREN, path, client)
    return node


def _names(node: Node) -> bytes:
    return codec.vector(list(node.children or ()))


def _get_children(place: Place, client: Client, frame: bytes) -> bytes:
    return _names(_listed(place, client, frame))


def _get_children2(place: Place, client: Client, frame: bytes) -> bytes:
    node = _listed(place, client, frame)
    return _names(node) + stat(node)


def _get_acl(place: Place, client: Client, frame: bytes) -> bytes:
    path = codec.path_only(frame)
    node = place.tree.readable(path, client.identities, Right.READ | Right.ADMIN)
    if acl.permits(node.acl, Right.ADMIN, client.identities):
        return node.acl + stat(node)
    return acl.masked(node.acl) + stat(node)


def _sync(place: Place, client: Client, frame: bytes) -> bytes:
    """The connection has waited for everything that was committed when the request came. The path means nothing."""
    return frame[codec.HEAD : codec.buffer_end(frame, codec.HEAD)]


def _check_watches(place: Place, client: Client, frame: bytes) -> bytes:
    path, kind = codec.path_int(frame)
    if not place.watches.has(path, client, kinds(kind)):
        raise Fault(Err.NO_WATCHER)
    return b""


def _remove_watches(place: Place, client: Client, frame: bytes) -> bytes:
    path, kind = codec.path_int(frame)
    if not place.watches.remove(path, client, kinds(kind)):
        raise Fault(Err.NO_WATCHER)
    return b""


def _add_watch(place: Place, client: Client, frame: bytes) -> bytes:
    path, mode = codec.path_int(frame)
    try:
        kind = Kind.PERSISTENT if WatchMode(mode) == WatchMode.PERSISTENT else Kind.RECURSIVE
    except ValueError:
        raise Malformed("mode") from None
    place.watches.add(kind, path, client)
    return INT.pack(0)


def _multi_read(place: Place, client: Client, frame: bytes) -> bytes:
    """Each item is answered on its own; together they show one moment. No watch is set, whatever the items say. What
    would be too large is not answered."""
    results = []
    room = REPLY_MAX
    for op, record in multi.split(frame, codec.HEAD, multi.READS):
        try:
            node = place.tree.readable(codec.path_watch(record, 0)[0], client.identities)
            body = _shown(node) if op == Op.GET_DATA else _names(node)
            results.append(MULTI_HEADER.pack(op, False, 0) + body)
            room -= len(body)
            if room < 0:
                raise Malformed("as many bytes as that")
        except Fault as fault:
            results.append(multi.failed(fault.err))
    return b"".join(results) + MULTI_END


def _set_watches(place: Place, client: Client, frame: bytes) -> bytes:
    return _rearm(place, client, *codec.set_watches(frame, 3))


def _set_watches2(place: Place, client: Client, frame: bytes) -> bytes:
    zxid, found = codec.set_watches(frame, 5)
    for kind, paths in ((Kind.PERSISTENT, found[3]), (Kind.RECURSIVE, found[4])):
        for path in paths:
            place.watches.add(kind, path, client)
    return _rearm(place, client, zxid, found)


def _rearm(place: Place, client: Client, zxid: int, found: list[list[bytes]]) -> bytes:
    """Set a reconnected client's watches again; tell at once of those that should have fired meanwhile."""
    changed, exists, children = found[:3]
    for kind, paths, absent in (
        (Kind.DATA, changed, False),
        (Kind.DATA, exists, True),
        (Kind.CHILDREN, children, False),
    ):
        for path in paths:
            event = missed(place.tree, kind, path, zxid, exists=absent)
            if event is None:
                place.watches.add(kind, path, client)
                continue
            node = place.tree.nodes.get(path)
            if event == Event.DELETED or node is None or acl.permits(node.acl, Right.READ, client.identities):
                client.emit(notification(event, path))
    return b""


def _get_ephemerals(place: Place, client: Client, frame: bytes) -> bytes:
    prefix = frame[codec.HEAD + 4 : codec.buffer_end(frame, codec.HEAD)]
    if prefix.strip(_BLANK) in (b"", b"/"):
        prefix = b""
    owned = place.tree.ephemerals.get(client.session, ())
    client.room -= LOOKED * len(owned)
    return codec.vector([path for path in owned if path.startswith(prefix)])


def _get_all_children_number(place: Place, client: Client, frame: bytes) -> bytes:
    path = codec.path_only(frame)
    tree = place.tree
    tree.readable(path, client.identities)
    found = tree.descendants(path)
    if path not in (ROOT, b""):
        client.room -= LOOKED * (found if found < WALKED_MAX else len(tree.nodes))
    return INT.pack(found)


def _who_am_i(place: Place, client: Client, frame: bytes) -> bytes:
    shown = tuple((identity[0], acl.user_name(identity)) for identity in client.identities)
    return codec.pack_ids(shown)


ANSWERS: Final[Mapping[int, Callable[[Place, Client, bytes], bytes]]] = {
    Op.GET_DATA: _get,
    Op.EXISTS: _exists,
    Op.GET_CHILDREN: _get_children,
    Op.GET_CHILDREN2: _get_children2,
    Op.GET_ACL: _get_acl,
    Op.SYNC: _sync,
    Op.CHECK_WATCHES: _check_watches,
    Op.REMOVE_WATCHES: _remove_watches,
    Op.ADD_WATCH: _add_watch,
    Op.MULTI_READ: _multi_read,
    Op.SET_WATCHES: _set_watches,
    Op.SET_WATCHES2: _set_watches2,
    Op.GET_EPHEMERALS: _get_ephemerals,
    Op.GET_ALL_CHILDREN_NUMBER: _get_all_children_number,
    Op.WHO_AM_I: _who_am_i,
}
"""What answers a request of each type that changes nothing."""

WRITES: Final = frozenset(
    (
        Op.CREATE.value,
        Op.DELETE.value,
        Op.SET_DATA.value,
        Op.SET_ACL.value,
        Op.CHECK.value,
        Op.MULTI.value,
        Op.CREATE2.value,
        Op.RECONFIG.value,
        Op.CREATE_CONTAINER.value,
        Op.CREATE_TTL.value,
        Op.CLOSE_SESSION.value,
    )
)
"""The types of requests that go into the log."""
