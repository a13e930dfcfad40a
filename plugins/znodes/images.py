"""Snapshots of the tree: a compact binary image in pieces, written and read one node at a time.

First comes who owns what, in order of creation, then the nodes: parents before children, and siblings as they were. A
piece holds whole nodes; only data larger than :data:`INLINE` stands in pieces of its own behind the one its node ends.
Lists of access control are numbered as they first appear and carried there once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from struct import Struct
from typing import Final

from .acl import OPEN
from .tree import Node, Tree, content_of, family_of

PIECE: Final = 256 * 1024
"""Bytes after which a piece is closed."""
INLINE: Final = 64 * 1024
"""Data up to this size stands beside its node."""

_NODE: Final = Struct(">iiIqqqqqiiiq")
"""Path length, data length (-1: null), number of the list, czxid, mzxid, pzxid, ctime, mtime, version, creates,
aversion, owner."""
_LENGTH: Final = Struct(">I")
_OWNED: Final = Struct(">qI")
"""Owner (a session; -1: a container or a node with a time to live), path length."""


def write(tree: Tree) -> Iterator[bytes]:
    """The pieces of an image of `tree`."""
    yield _LENGTH.pack(_owned(tree))
    yield from _pieces(
        _OWNED.pack(owner, len(path)) + path
        for owner, owned in chain(tree.ephemerals.items(), [(-1, tree.fleeting)])
        for path in owned
    )
    numbers = {OPEN: 0}
    parts: list[bytes] = []
    size = 0
    pack = _NODE.pack
    for path, node in tree.walk():
        value, acl = node.value, node.acl
        number = numbers.get(acl)
        fresh = number is None
        if number is None:
            number = numbers[acl] = len(numbers)
        parts.append(
            pack(
                len(path),
                -1 if value is None else len(value),
                number,
                node.czxid,
                node.mzxid,
                node.pzxid,
                node.ctime,
                node.mtime,
                node.version,
                node.creates,
                node.aversion,
                node.owner,
            )
        )
        if fresh:
            parts.append(_LENGTH.pack(len(acl)))
            parts.append(acl)
        parts.append(path)
        large = value is not None and len(value) > INLINE
        if value and not large:
            parts.append(value)
            size += len(value)
        size += _NODE.size + len(path)
        if size >= PIECE or large:
            yield b"".join(parts)
            parts, size = [], 0
        if large and value is not None:
            for at in range(0, len(value), PIECE):
                yield value[at : at + PIECE]
    if parts:
        yield b"".join(parts)


def _pieces(records: Iterable[bytes]) -> Iterator[bytes]:
    """`records` in pieces."""
    piece = bytearray()
    for record in records:
        piece += record
        if len(piece) >= PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def read(pieces: Iterable[bytes]) -> Tree:
    """The tree an image shows. Raises ValueError if it is damaged."""
    tree = Tree()
    tree.nodes.clear()
    tree.sum = tree.size = 0
    remaining = iter(pieces)
    listed = _read_owned(tree, remaining)
    found = _read_nodes(tree, remaining)
    if not listed == found == _owned(tree):
        raise ValueError(f"damaged image of a tree: {found} nodes have an owner, {listed} are said to")
    return tree


def _owned(tree: Tree) -> int:
    """How many nodes have an owner."""
    return sum(map(len, tree.ephemerals.values())) + len(tree.fleeting)


def _read_owned(tree: Tree, remaining: Iterator[bytes]) -> int:
    """Note who owns what in its order, before the nodes come in theirs; returns how many nodes that are."""
    (listed,) = _LENGTH.unpack(next(remaining))
    left = listed
    while left > 0:
        piece = next(remaining)
        at = 0
        while at < len(piece):
            owner, length = _OWNED.unpack_from(piece, at)
            at += _OWNED.size
            tree.index(piece[at : at + length], owner)
            at += length
            left -= 1
    return int(listed)


def _read_nodes(tree: Tree, remaining: Iterator[bytes]) -> int:
    """Put the nodes in place; returns how many have an owner."""
    owned = 0
    lists = [OPEN]
    width = _NODE.size
    unpack = _NODE.unpack_from
    for piece in remaining:
        at = 0
        while at < len(piece):
            length, extent, number, czxid, mzxid, pzxid, ctime, mtime, version, creates, aversion, owner = unpack(
                piece, at
            )
            at += width
            if number == len(lists):
                end = at + 4 + _LENGTH.unpack_from(piece, at)[0]
                lists.append(piece[at + 4 : end])
                at = end
            path = piece[at : at + length]
            at += length
            if extent > INLINE:
                value: bytes | None = b"".join(islice(remaining, -(-extent // PIECE)))
            else:
                value = piece[at : at + extent] if extent >= 0 else None
                at += max(extent, 0)
            if length < 1 or extent < -1 or at > len(piece) or (extent > INLINE and len(value or b"") < extent):
                raise ValueError("damaged image of a tree")
            node = Node(path, value, lists[number], owner, czxid, ctime)
            # Most nodes were never changed: what a fresh one has, equal numbers kept once included, need not be made.
            if mzxid != czxid or mtime != ctime or version:
                node.mzxid, node.mtime, node.version = mzxid, mtime, version
                node.content = content_of(node)
            if pzxid != czxid or creates or aversion or number:
                node.pzxid, node.creates, node.aversion = pzxid, creates, aversion
                node.family = family_of(node)
            tree.adopt(path, node)
            owned += owner != 0
    return owned
