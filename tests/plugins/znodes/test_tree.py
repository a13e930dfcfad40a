"""The tree below the machine: the limits of its counters, and taking changes back."""

from __future__ import annotations

from copy import deepcopy

import pytest
from quorate.plugins.znodes import tree as tree_module
from quorate.plugins.znodes.acl import OPEN, READ_ONLY
from quorate.plugins.znodes.protocol import CONTAINER_OWNER, Err, Fault
from quorate.plugins.znodes.tree import Tree, content_of, family_of, stat


@pytest.fixture
def tree() -> Tree:
    """A tree with one node."""
    tree = Tree()
    tree.create(b"/n", b"x", OPEN, 0, False, (), 1, 1)
    return tree


def from_scratch(tree: Tree) -> int:
    """The sum the tree keeps incrementally."""
    return sum(content_of(node) + family_of(node) for path, node in tree.nodes.items() if path)


@pytest.mark.parametrize(("version", "following"), [(2**31 - 1, -(2**31)), (-2, 0), (5, 6), (-(2**31), -(2**31) + 1)])
def test_versions_wrap_and_skip_any(tree: Tree, version: int, following: int) -> None:
    """Versions are 32-bit and never become -1, which stands for any version (ZOOKEEPER-4743)."""
    tree.nodes[b"/n"].version = version
    tree.nodes[b"/n"].aversion = version
    assert tree.put(b"/n", b"", -1, (), 2, 2).version == following
    assert tree.set_acl(b"/n", READ_ONLY, -1, ()).aversion == following


def test_everything_can_be_taken_back(tree: Tree) -> None:
    """A mixture of all changes, rolled back, leaves every counter, index and sum as it was."""
    tree.create(b"/n/e", b"1", OPEN, 7, False, (), 2, 2)
    tree.create(b"/box", None, READ_ONLY, CONTAINER_OWNER, False, (), 3, 3)

    def picture() -> object:
        nodes = {path: (stat(node), node.value, node.acl, content_of(node)) for path, node in tree.nodes.items()}
        children = {path: sorted(node.children or ()) for path, node in tree.nodes.items()}
        return nodes, children, tree.sum, tree.size, deepcopy(tree.ephemerals), dict(tree.fleeting)

    before = picture()
    tree.undo = undo = []
    tree.put(b"/n", b"longer", -1, (), 9, 9)
    tree.put(b"/n", None, -1, (), 9, 9)
    tree.set_acl(b"/n/e", READ_ONLY, -1, ())
    tree.delete(b"/n/e", -1, (), 9)
    tree.create(b"/n/s", b"", OPEN, 8, True, (), 9, 9)
    tree.delete(b"/box", -1, (), 9)
    tree.create(b"/box", b"", OPEN, 0, False, (), 9, 9)
    tree.create(b"/box/c", b"2", READ_ONLY, CONTAINER_OWNER, False, (), 9, 9)
    tree.undo = None
    assert tree.sum == from_scratch(tree)
    tree.roll_back(undo)
    assert picture() == before
    assert tree.sum == from_scratch(tree)


def test_numbers_of_children_that_wrap(tree: Tree) -> None:
    """cversion is what 32-bit arithmetic makes of twice the creations less the children."""
    tree.nodes[b"/n"].creates = 2**30 + 5
    tree.nodes[b"/n"].packed = None
    assert int.from_bytes(stat(tree.nodes[b"/n"])[36:40], "big", signed=True) == -(2**31) + 10


def test_pzxid_never_goes_down(tree: Tree) -> None:
    """Deleting a child in an older transaction's name leaves the newer number."""
    tree.create(b"/n/c", b"", OPEN, 0, False, (), 9, 9)
    tree.remove(b"/n/c", 4)
    assert tree.nodes[b"/n"].pzxid == 9


def test_descendants(tree: Tree) -> None:
    """All depths are counted; the root's count leaves out the root, but under its other name, as in the original."""
    for path in (b"/n/a", b"/n/a/b", b"/n/c"):
        tree.create(path, b"", OPEN, 0, False, (), 2, 2)
    assert tree.descendants(b"/n") == 3
    assert tree.descendants(b"/") == 4 + 3
    assert tree.descendants(b"") == 4 + 3 + 1
    assert tree.descendants(b"/n/c") == 0


@pytest.mark.parametrize("walked_max", [0, 2, 1000])
def test_descendants_however_they_are_found(tree: Tree, monkeypatch: pytest.MonkeyPatch, walked_max: int) -> None:
    """Large and small parts of the tree are counted in different ways, and alike; for quotas as well."""
    monkeypatch.setattr(tree_module, "WALKED_MAX", walked_max)
    for path in (b"/a", b"/a/b", b"/a/b/c", b"/a/d", b"/ab", b"/ab/c", b"/zookeeper/quota/a"):
        tree.create(path, b"xy", OPEN, 0, False, (), 1, 1)
    counted = [tree.descendants(path) for path in (b"/a", b"/a/b", b"/a/d", b"/ab", b"/zookeeper")]
    assert counted == [3, 1, 0, 1, 3]
    for name in (b"limits", b"stats"):
        tree.create(b"/zookeeper/quota/a/zookeeper_" + name, b"", OPEN, 0, False, (), 1, 1)
    assert tree.nodes[b"/zookeeper/quota/a/zookeeper_stats"].value == b"count=4,bytes=8"


def test_ephemerals_have_no_children(tree: Tree) -> None:
    """The refusal comes after the path has been found good."""
    tree.create(b"/e", b"", OPEN, 5, False, (), 2, 2)
    with pytest.raises(Fault) as refused:
        tree.create(b"/e/c", b"", OPEN, 0, False, (), 3, 3)
    assert refused.value.err == Err.NO_CHILDREN_FOR_EPHEMERALS
