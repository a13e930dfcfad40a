"""The watch tables: the table of causes and events, one time or for good, and who is told."""

from __future__ import annotations

import pytest
from quorate.plugins.znodes import acl, jute
from quorate.plugins.znodes.acl import OPEN, Entry
from quorate.plugins.znodes.protocol import Event, Fault, WatcherType
from quorate.plugins.znodes.tree import Tree
from quorate.plugins.znodes.watches import Kind, Watches, kinds, missed, notification

CREATED, DELETED, CHANGED, CHILD = Event.CREATED, Event.DELETED, Event.DATA_CHANGED, Event.CHILDREN_CHANGED


class Ear:
    """A watcher that writes down what it hears."""

    session = 1

    def __init__(self, identities: acl.Identities = ()) -> None:
        self.identities = identities
        self.heard: list[tuple[int, bytes]] = []

    def notify(self, event: bytes) -> None:
        found = jute.WatcherEvent.parse(event[20:])
        self.heard.append((found.type, found.path))


@pytest.fixture
def armed() -> list[bool]:
    """What the tables said about being in use."""
    return []


@pytest.fixture
def watches(armed: list[bool]) -> Watches:
    """Empty tables."""
    return Watches(armed.append)


CAUSES = {
    "create": (CREATED, b"/p/n"),
    "delete": (DELETED, b"/p/n"),
    "change": (CHANGED, b"/p/n"),
    "child created": (CREATED, b"/p/n/c"),
    "child deleted": (DELETED, b"/p/n/c"),
}
TABLE = [
    (Kind.DATA, b"/p/n", {"create": [CREATED], "delete": [DELETED], "change": [CHANGED]}),
    (Kind.CHILDREN, b"/p/n", {"delete": [DELETED], "child created": [CHILD], "child deleted": [CHILD]}),
    (Kind.CHILDREN, b"/p", {"create": [CHILD], "delete": [CHILD]}),
    (
        Kind.PERSISTENT,
        b"/p/n",
        {
            "create": [CREATED],
            "delete": [DELETED],
            "change": [CHANGED],
            "child created": [CHILD],
            "child deleted": [CHILD],
        },
    ),
    (
        Kind.RECURSIVE,
        b"/p",
        {
            "create": [CREATED],
            "delete": [DELETED],
            "change": [CHANGED],
            "child created": [CREATED],
            "child deleted": [DELETED],
        },
    ),
]


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize(("kind", "on", "expected"), TABLE)
def test_table(watches: Watches, kind: Kind, on: bytes, expected: dict[str, list[Event]], cause: str) -> None:
    """Each cause tells each kind of watch what the protocol's table says; one-time watches once, the others again."""
    ear = Ear()
    watches.add(kind, on, ear)
    event, path = CAUSES[cause]
    for _ in range(2):
        watches.fire(event, path, OPEN, OPEN)
    rounds = 1 if kind in (Kind.DATA, Kind.CHILDREN) else 2
    assert [heard for heard, _ in ear.heard] == expected.get(cause, []) * rounds


def test_deleted_node_is_told_once(watches: Watches) -> None:
    """A data and a child watch of one connection on a deleted node bring one event, and the parent's watch its own
    (ZK-8.2)."""
    ear = Ear()
    watches.add(Kind.DATA, b"/n", ear)
    watches.add(Kind.CHILDREN, b"/n", ear)
    watches.add(Kind.CHILDREN, b"/", ear)
    watches.fire(DELETED, b"/n", OPEN, OPEN)
    assert ear.heard == [(DELETED, b"/n"), (CHILD, b"/")]
    assert not watches.held


def test_one_event_for_many_watches(watches: Watches) -> None:
    """One-time, persistent and recursive watches on the way tell a connection once; the same watch twice is one."""
    ear = Ear()
    watches.add(Kind.DATA, b"/a/b", ear)
    watches.add(Kind.DATA, b"/a/b", ear)
    for kind, path in ((Kind.PERSISTENT, b"/a/b"), (Kind.RECURSIVE, b"/"), (Kind.RECURSIVE, b"/a")):
        watches.add(kind, path, ear)
    watches.fire(CHANGED, b"/a/b", OPEN, OPEN)
    assert ear.heard == [(CHANGED, b"/a/b")]
    assert len(watches) == 3


def test_events_only_for_readers(watches: Watches) -> None:
    """Who may not read the node hears nothing, and its one-time watch is spent all the same (ZK-7.6,
    CVE-2024-23944)."""
    ann = acl.digest_identity(b"ann:pw")
    secret = acl.packed([Entry(1, *ann)])
    reader, stranger = Ear((ann,)), Ear()
    for ear in (reader, stranger):
        watches.add(Kind.DATA, b"/s", ear)
    watches.fire(CHANGED, b"/s", secret, OPEN)
    assert (reader.heard, stranger.heard) == ([(CHANGED, b"/s")], [])
    assert not watches.held
    watches.add(Kind.CHILDREN, b"/s", stranger)
    watches.fire(CREATED, b"/s/c", OPEN, secret)
    assert not stranger.heard


def test_in_use_or_not(watches: Watches, armed: list[bool]) -> None:
    """The tables tell when the first watch comes and the last one goes, however it goes."""
    ear, other = Ear(), Ear()
    watches.add(Kind.DATA, b"/a", ear)
    watches.add(Kind.CHILDREN, b"/a", other)
    watches.fire(CHANGED, b"/a", OPEN, OPEN)
    assert armed == [True]
    watches.forget(other)
    assert armed == [True, False]
    watches.add(Kind.RECURSIVE, b"/a", ear)
    assert watches.remove(b"/a", ear, kinds(WatcherType.ANY))
    assert armed == [True, False, True, False]
    assert not any(watches.tables)


def test_removal_by_kind(watches: Watches) -> None:
    """removeWatches takes the kind asked for and says when there was none (ZK-8.5)."""
    ear = Ear()
    for kind in Kind:
        watches.add(kind, b"/a", ear)
    for kind in (WatcherType.DATA, WatcherType.CHILDREN, WatcherType.PERSISTENT, WatcherType.PERSISTENT_RECURSIVE):
        assert watches.has(b"/a", ear, kinds(kind))
        assert watches.remove(b"/a", ear, kinds(kind))
        assert not watches.remove(b"/a", ear, kinds(kind))
    assert not watches.has(b"/a", ear, kinds(WatcherType.ANY))
    with pytest.raises(Fault):
        kinds(9)


def test_what_was_missed() -> None:
    """What a returning client is told, from its last transaction number (ZK-8.4)."""
    tree = Tree()
    tree.create(b"/n", b"", OPEN, 0, False, (), 5, 0)
    tree.put(b"/n", b"1", -1, (), 7, 0)
    tree.create(b"/n/c", b"", OPEN, 0, False, (), 9, 0)
    assert missed(tree, Kind.DATA, b"/n", 7) is None
    assert missed(tree, Kind.DATA, b"/n", 6) == CHANGED
    assert missed(tree, Kind.DATA, b"/gone", 6) == DELETED
    assert missed(tree, Kind.DATA, b"/n", 9, exists=True) == CREATED
    assert missed(tree, Kind.DATA, b"/gone", 9, exists=True) is None
    assert missed(tree, Kind.CHILDREN, b"/n", 9) is None
    assert missed(tree, Kind.CHILDREN, b"/n", 8) == CHILD
    assert missed(tree, Kind.CHILDREN, b"/gone", 8) == DELETED


def test_notification_is_as_declared() -> None:
    """Xid -1, no transaction number, connected, the path."""
    frame = notification(CHILD, b"/p")
    head = jute.ReplyHeader.parse(frame[4:])
    assert (len(frame) - 4, head.xid, head.zxid, head.err) == (int.from_bytes(frame[:4], "big"), -1, -1, 0)
    event = jute.WatcherEvent.parse(frame[20:])
    assert (event.type, event.state, event.path) == (4, 3, b"/p")
