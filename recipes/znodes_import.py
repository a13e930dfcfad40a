"""Copying the tree of a running ZooKeeper into a cell, through the protocol that clients speak.

The copy is made by comparing: both trees are read, what differs is put right in the copy, and both are read again,
until nothing differs (which is the verification) or the source has changed too often meanwhile. So it can be
interrupted and begun again, and a second run shortly before clients change over takes only what changed since.

What is copied: values, access control lists, and that numbers of sequential children go on above the highest one that
is there. What cannot be, because the protocol does not tell it or it makes no sense elsewhere: versions, transaction
numbers and times; ephemeral nodes, which belong to sessions of the source; that a node is a container or has a time to
live (it becomes an ordinary one); everything below /zookeeper.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence, Set
from typing import Final, NamedTuple, TypeVar

from ..plugins.znodes.client import OPEN_ACL, OWN_ACL, Client, Err, Lost, Refusal, Stat

ROUNDS: Final = 5

_AT_ONCE: Final = 500
"""Nodes whose requests are on their way together."""
_COUNTS: Final = 500
"""Steps of a counter in one request."""
_NUMBERED: Final = re.compile(rb"(?:.*\D)?(\d{10})", re.DOTALL)
_MASKED: Final = re.compile(rb"\0\0\0\x06digest\0...[^:\0]*:x(?:\0|\Z)", re.DOTALL)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is as far as is known."""

_T = TypeVar("_T")


class Node(NamedTuple):
    """What is compared of a node. `made`: how many children there ever were, as far as their numbers show."""

    value: bytes | None
    acl: bytes
    made: int


class Outcome(NamedTuple):
    """How an import ended: `nodes` in the copy, `ephemeral` ones left out, `more` that only the copy has."""

    nodes: int
    ephemeral: int
    more: int
    rounds: int


class Unfinished(Exception):
    """The copy differs from the source, and the words say why."""


class Ends(NamedTuple):
    """Where from and where to: servers as host:port, and (scheme, secret) to authenticate with."""

    hosts: Sequence[str]
    auth: Sequence[tuple[bytes, bytes]] = ()


async def import_tree(
    source: Ends,
    copy: Ends,
    top: bytes = b"/",
    *,
    rounds: int = ROUNDS,
    delete: bool = False,
    progress: Progress = lambda *_: None,
) -> Outcome:
    """Make the tree below `top` in `copy` what it is in `source`, and verify it. What only the copy has stays there,
    unless it is told to `delete` it.

    Raises:
        Unfinished: something may not be read or written, or the source changed in every one of `rounds` rounds.
        Lost: no server could be reached, or connections broke in the last round.
    """
    # Nodes that not everybody may touch belong to this identity until everything below them is there.
    own = (b"digest", b"import:" + secrets.token_hex(16).encode())
    seen: set[bytes] = set()
    broken: Lost | None = None
    for number in range(1, rounds + 1):
        clients: list[Client] = []
        try:
            clients.append(await Client.connect(source.hosts, source.auth))
            clients.append(await Client.connect(copy.hosts, [*copy.auth, own]))
            reading, writing = clients
            wanted, ephemeral = await read_tree(reading, top, "reading the source", progress)
            there, _ = await read_tree(writing, top, "reading the copy", progress)
            if top not in wanted:
                raise Unfinished(f"the source has no lasting node {top.decode(errors='replace')}")
            work = _Work(wanted, there, there.keys() if delete else seen)
            seen |= wanted.keys()
            if not work:
                return Outcome(len(wanted), ephemeral, len(there.keys() - wanted.keys()), number)
            await _put_right(writing, top, work, progress)
            broken = None
        except Lost as lost:
            broken = lost
        except Refusal as refusal:
            raise Unfinished(f"{refusal}; give an authentication that may do everything") from None
        finally:
            await asyncio.gather(*(each.close() for each in clients))
    if broken is not None:
        raise broken
    raise Unfinished(f"the source has changed in each of {rounds} rounds; repeat when it is calmer, or nobody writes")


class _Work:
    """What must be done that the copy is as wanted."""

    def __init__(self, wanted: dict[bytes, Node], there: dict[bytes, Node], ours: Set[bytes]) -> None:
        self.wanted = wanted
        self.there = there
        self.missing = sorted(wanted.keys() - there.keys())
        self.gone = sorted((ours & there.keys()) - wanted.keys(), reverse=True)
        both = [path for path in wanted if path in there]
        self.values = [path for path in both if wanted[path].value != there[path].value]
        closed = [path for path in self.missing if wanted[path].acl != OPEN_ACL]
        self.acls = sorted([*closed, *(path for path in both if wanted[path].acl != there[path].acl)], reverse=True)
        self.counts = {
            path: node.made - (there[path].made if path in there else 0)
            for path, node in wanted.items()
            if node.made > (there[path].made if path in there else 0)
        }

    def __bool__(self) -> bool:
        return bool(self.missing or self.gone or self.values or self.acls or self.counts)


async def read_tree(
    client: Client, top: bytes, what: str, progress: Progress = lambda *_: None
) -> tuple[dict[bytes, Node], int]:
    """Every lasting node from `top` down by path, and how many ephemeral ones there are. Nodes that vanish while this
    goes on are left out."""
    found: dict[bytes, Node] = {}
    ephemeral = 0
    waiting = [top]
    total = 1

    async def one(path: bytes) -> tuple[bytes | None, Stat, bytes, list[bytes]] | None:
        try:
            value, acl = client.value(path), client.acl(path)
            (content, stat), listed = await asyncio.gather(value, acl)
            names = await client.children(path) if stat.children else []
        except Refusal as refusal:
            if refusal.err == Err.NO_NODE:
                return None
            raise
        return content, stat, listed, names

    while waiting:
        part, waiting = waiting[-_AT_ONCE:], waiting[:-_AT_ONCE]
        for path, node in zip(part, await _together(client, map(one, part)), strict=True):
            if node is None:
                continue
            content, stat, acl, names = node
            if stat.ephemeral_owner:
                ephemeral += 1
                continue
            if _MASKED.search(acl):
                raise Unfinished(f"{path.decode(errors='replace')}: the hashes of its access control list are hidden")
            found[path] = Node(content, acl, _counted(stat, names))
            below = [path.rstrip(b"/") + b"/" + name for name in names]
            if path == b"/":
                below = [each for each in below if each != b"/zookeeper"]
            waiting += below
            total += len(below)
        progress(what, len(found), total - ephemeral)
    return found, ephemeral


def _counted(stat: Stat, names: Iterable[bytes]) -> int:
    """How far a node's counter must be that no number of its children comes again. Only what the counter can have made
    counts: a name may end in ten digits for other reasons."""
    created = (stat.cversion + stat.children) // 2
    numbers = (int(match[1]) + 1 for match in map(_NUMBERED.fullmatch, names) if match)
    return max((number for number in numbers if number <= created), default=0)


async def _put_right(client: Client, top: bytes, work: _Work, progress: Progress) -> None:
    """Make the copy differ no more from what was wanted. The order of requests is the order of their effects."""
    wanted = work.wanted
    for at in range(1, len(top)):
        if top[at : at + 1] == b"/":
            await _unless(client.create(top[:at], b""), Err.NODE_EXISTS)

    def make(path: bytes) -> Awaitable[None]:
        node = wanted[path]
        acl = node.acl if node.acl == OPEN_ACL else OWN_ACL
        return _unless(client.create(path, node.value, acl), Err.NODE_EXISTS)

    def count(path: bytes) -> Awaitable[None]:
        return client.count_up(path, min(_COUNTS, steps[path]))

    await _each(client, "writing the copy", work.missing, make, progress)
    await _each(client, "changing values", work.values, lambda path: client.put(path, wanted[path].value), progress)
    steps = await _steps(client, work)
    while steps:
        await _each(client, "counting up", list(steps), count, progress)
        steps = {path: left - _COUNTS for path, left in steps.items() if left > _COUNTS}
    await _each(client, "closing lists", work.acls, lambda path: client.set_acl(path, wanted[path].acl), progress)
    # What has children by now is left to the next round.
    await _each(
        client, "deleting", work.gone, lambda path: _unless(client.delete(path), Err.NO_NODE, Err.NOT_EMPTY), progress
    )


async def _steps(client: Client, work: _Work) -> dict[bytes, int]:
    """How many steps each counter lacks, now that the missing children have advanced it."""

    async def lacking(path: bytes) -> tuple[bytes, int]:
        _value, stat = await client.value(path)
        return path, work.wanted[path].made - (stat.cversion + stat.children) // 2

    paths = list(work.counts)
    found = [
        each
        for at in range(0, len(paths), _AT_ONCE)
        for each in await _together(client, map(lacking, paths[at : at + _AT_ONCE]))
    ]
    return {path: steps for path, steps in found if steps > 0}


async def _each(
    client: Client, what: str, paths: Sequence[bytes], act: Callable[[bytes], Awaitable[None]], progress: Progress
) -> None:
    for at in range(0, len(paths), _AT_ONCE):
        part = paths[at : at + _AT_ONCE]
        await _together(client, map(act, part))
        progress(what, at + len(part), len(paths))


async def _together(client: Client, awaited: Iterable[Awaitable[_T]]) -> list[_T]:
    """Have all of them on their way together; the first failure is raised when all are done."""
    found = await asyncio.gather(*awaited, return_exceptions=True)
    await client.drain()
    for each in found:
        if isinstance(each, BaseException):
            raise each
    return [each for each in found if not isinstance(each, BaseException)]


async def _unless(done: Awaitable[None], *harmless: int) -> None:
    try:
        await done
    except Refusal as refusal:
        if refusal.err not in harmless:
            raise
