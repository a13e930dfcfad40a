"""Images: pieces below their bound, whatever the nodes; the order of children; speed enough for many nodes."""

from __future__ import annotations

import time

import pytest
from quorate.plugins.znodes import acl, images
from quorate.plugins.znodes.acl import OPEN, Entry
from quorate.plugins.znodes.protocol import CONTAINER_OWNER, ttl_owner
from quorate.plugins.znodes.tree import Tree


def test_pieces_are_small_and_nothing_is_lost() -> None:
    """Values of every size around the bounds, null ones and all kinds of owners come back; no piece is near a MiB."""
    tree = Tree()
    secret = acl.packed([Entry(1, b"digest", b"a:b")])
    sizes = (0, 1, images.INLINE, images.INLINE + 1, images.PIECE - 1, images.PIECE, images.PIECE + 1, 1_048_000)
    for number, size in enumerate(sizes):
        tree.create(b"/v%d" % number, bytes(size), OPEN if number % 2 else secret, 0, False, (), number + 1, 10)
    tree.create(b"/null", None, secret, 77, False, (), 20, 11)
    tree.create(b"/box", b"", OPEN, CONTAINER_OWNER, False, (), 21, 12)
    tree.create(b"/ttl", b"", OPEN, ttl_owner(1), False, (), 22, 13)
    pieces = list(images.write(tree))
    assert max(map(len, pieces)) < 1 << 20
    again = images.read(pieces)
    assert (again.sum, again.size, again.ephemerals, again.fleeting) == (
        tree.sum,
        tree.size,
        tree.ephemerals,
        tree.fleeting,
    )
    for path, node in tree.nodes.items():
        assert again.nodes[path].value == node.value
        assert again.nodes[path].acl == node.acl
    assert again.nodes[b"/v1"].acl is OPEN
    assert list(images.write(again)) == pieces


def test_children_keep_their_order() -> None:
    """A restored replica lists children as the others do, after deletions and re-creations too."""
    tree = Tree()
    for zxid, name in enumerate((b"c", b"a", b"b"), 1):
        tree.create(b"/" + name, b"", OPEN, 0, False, (), zxid, 0)
    tree.delete(b"/c", -1, (), 9)
    tree.create(b"/c", b"", OPEN, 0, False, (), 10, 0)
    again = images.read(images.write(tree))
    assert (
        list(again.nodes[b"/"].children or ())
        == list(tree.nodes[b"/"].children or ())
        == [b"zookeeper", b"a", b"b", b"c"]
    )


def test_owned_nodes_keep_their_order() -> None:
    """Who owns what is restored in order of creation, wherever in the tree it is: nodes end and are looked at in that
    order, on every replica in the same."""
    tree = Tree()
    for zxid, path in enumerate((b"/a", b"/b"), 1):
        tree.create(path, b"", OPEN, CONTAINER_OWNER if path == b"/b" else 0, False, (), zxid, 0)
    for zxid, path in enumerate((b"/b/2", b"/a/1", b"/b/1", b"/a/2"), 3):
        tree.create(path, b"", OPEN, 7 + zxid % 2, False, (), zxid, 0)
    tree.create(b"/a/box", b"", OPEN, CONTAINER_OWNER, False, (), 9, 0)
    again = images.read(images.write(tree))
    assert list(again.ephemerals) == [8, 7]
    assert [list(paths) for paths in again.ephemerals.values()] == [[b"/b/2", b"/b/1"], [b"/a/1", b"/a/2"]]
    assert list(again.fleeting) == [b"/b", b"/a/box"]


@pytest.mark.parametrize("listed", [0, 2])
def test_owners_that_do_not_fit_the_nodes(listed: int) -> None:
    """An image that lists fewer or more owned nodes than it holds is refused."""
    tree = Tree()
    tree.create(b"/e", b"", OPEN, 7, False, (), 1, 0)
    _, owned, nodes = images.write(tree)
    with pytest.raises(ValueError, match=f"1 nodes have an owner, {listed} are said to"):
        images.read([listed.to_bytes(4, "big"), *([owned * listed] if listed else []), nodes])


def test_large_data_cut_short() -> None:
    """An image that ends within a node's data, between its pieces or inside one, is refused as any damaged one."""
    tree = Tree()
    tree.create(b"/large", bytes(images.PIECE + 1), OPEN, 0, False, (), 1, 0)
    pieces = list(images.write(tree))
    for cut in (pieces[:-2], pieces[:-1], [*pieces[:-1], b""]):
        with pytest.raises(ValueError, match="damaged"):
            images.read(cut)


def test_restoring_is_quick() -> None:
    """Well above 50,000 nodes a second even on a loaded machine, so that a million are a matter of seconds."""
    tree = Tree()
    tree.create(b"/d", b"", OPEN, 0, False, (), 1, 0)
    for number in range(20_000):
        tree.create(b"/d/n%d" % number, b"x" * 100, OPEN, 0, False, (), number + 2, 0)
    pieces = list(images.write(tree))
    start = time.process_time()
    images.read(pieces)
    assert time.process_time() - start < 0.4
