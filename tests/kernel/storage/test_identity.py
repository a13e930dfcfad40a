"""Whose disk it is: one good copy is enough, and everybody else's directory is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import MemberId
from quorate.kernel.storage.errors import NewerFormat, StorageError, WrongDirectory
from quorate.kernel.storage.identity import (
    FOUNDING_NAMES,
    IDENTITY_NAMES,
    Identity,
    check_owner,
    read_founding,
    read_identity,
    write_founding,
    write_identity,
)
from quorate.kernel.storage.layout import IDENTITY_MAGIC, Owner, stamp
from quorate.kernel.storage.memory import Crash, MemoryFileSystem


def directory(kit: Any) -> MemoryFileSystem:
    """An empty one."""
    fs = kit.memory()
    fs.make_directory(kit.directory)
    return fs


def owner(kit: Any) -> Owner:
    """The kit's."""
    return Owner(kit.cell, kit.member, kit.disk)


def test_either_copy_is_enough(kit: Any) -> None:
    """Each copy alone gives the identity, and the other is complained about."""
    fs = directory(kit)
    assert read_identity(fs, kit.directory) is None
    identity = Identity(owner(kit), 5)
    write_identity(fs, kit.directory, identity)
    for name in IDENTITY_NAMES:
        for spoil in (lambda fs, path: fs.flip(path, 30), lambda fs, path: fs.remove(path)):
            twin = fs.copy(fs.random)
            spoil(twin, kit.path(name))
            found = read_identity(twin, kit.directory)
            assert found is not None
            assert found.identity == identity
            assert kit.path(name) in found.complaints[0]


def test_the_incarnation_never_falls_back(kit: Any) -> None:
    """A crash at any point of writing the next one leaves the old or the new, and the higher of two copies counts."""
    seen = set()
    for stop in range(6):
        for seed in range(8):
            fs = directory(kit)
            write_identity(fs, kit.directory, Identity(owner(kit), 1))
            fuse = stop

            def before(effect: str, path: str) -> None:
                nonlocal fuse
                fuse -= 1
                if fuse < 0:
                    raise Crash

            fs.before = before
            with contextlib.suppress(Crash):
                write_identity(fs, kit.directory, Identity(owner(kit), 2))
            done = fuse >= 0
            fs.before = None
            fs.crash(type(fs.random)(seed))
            found = read_identity(fs, kit.directory)
            assert found is not None
            assert not found.complaints
            assert found.identity.incarnation == 2 or not done
            seen.add(found.identity.incarnation)
    assert seen == {1, 2}


def test_nothing_to_go_by(kit: Any) -> None:
    """Both copies damaged, two owners, or a newer format: refused with what to do."""
    fs = directory(kit)
    write_identity(fs, kit.directory, Identity(owner(kit), 1))
    mixed = fs.copy(fs.random)
    stranger = kit.memory()
    stranger.make_directory(kit.directory)
    write_identity(stranger, kit.directory, Identity(owner(kit)._replace(member=MemberId(9)), 1))
    mixed.put(kit.path(IDENTITY_NAMES[0]), stranger.content(kit.path(IDENTITY_NAMES[0])))
    with pytest.raises(WrongDirectory, match="mixed"):
        read_identity(mixed, kit.directory)
    newer = fs.copy(fs.random)
    newer.put(kit.path(IDENTITY_NAMES[1]), stamp(IDENTITY_MAGIC, b"more than we know", version=2))
    with pytest.raises(NewerFormat, match="format 2"):
        read_identity(newer, kit.directory)
    for name in IDENTITY_NAMES:
        fs.flip(kit.path(name), 3)
    with pytest.raises(StorageError, match="replace this member by a new one"):
        read_identity(fs, kit.directory)


def test_other_owners_are_refused(kit: Any) -> None:
    """Another cell's or member's directory: the message names both."""
    check_owner(kit.directory, owner(kit), kit.cell, kit.member)
    with pytest.raises(WrongDirectory, match=kit.cell.hex()):
        check_owner(kit.directory, owner(kit), bytes(16), kit.member)
    with pytest.raises(WrongDirectory, match="member 1, this replica is configured as member 2"):
        check_owner(kit.directory, owner(kit), kit.cell, MemberId(2))


def test_founding_configuration(kit: Any) -> None:
    """Kept in two copies, too."""
    fs = directory(kit)
    write_founding(fs, kit.directory, kit.founding)
    fs.flip(kit.path(FOUNDING_NAMES[0]), 40)
    assert read_founding(fs, kit.directory) == kit.founding
    fs.remove(kit.path(FOUNDING_NAMES[1]))
    with pytest.raises(StorageError, match="founding configuration is unreadable"):
        read_founding(fs, kit.directory)
