"""Whose disk this is. A member's votes are worth something only together with the disk that remembers them.

The identity (cell, member, disk, and how often a process has started on it) is kept in two files with the same content,
written one after the other, each synced before the next is touched: after any crash one of them is whole. The
incarnation grows by one at every start and is durable before it is used. The founding configuration is kept likewise.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from ..paxos.ballot import MemberId
from ..paxos.quorum import Configuration
from .encoding import decode_configuration, encode_configuration
from .errors import REPLACE, Malformed, StorageError, WrongDirectory
from .files import FileSystem, join
from .layout import FOUNDING_MAGIC, IDENTITY_MAGIC, PAGE, Owner, stamp, unstamp

IDENTITY_NAMES: Final = ("identity", "identity.copy")
FOUNDING_NAMES: Final = ("founding", "founding.copy")
_IDENTITY: Final = struct.Struct(">16sI16sQ")
ID_SIZE: Final = 16
NEW: Final = ".new"
"""Ends the name of a copy that is being made."""


class Identity(NamedTuple):
    """`incarnation`: how many times a process has started here."""

    owner: Owner
    incarnation: int


class Found(NamedTuple):
    """`complaints`: copies that are missing or damaged."""

    identity: Identity
    complaints: tuple[str, ...]


def _read_copies(fs: FileSystem, directory: str, names: tuple[str, str], magic: bytes) -> tuple[list[bytes], list[str]]:
    bodies, complaints = [], []
    for name in names:
        path = join(directory, name)
        try:
            file = fs.open(path, writable=False)
            try:
                bodies.append(unstamp(magic, file.read(0, file.size()), path))
            finally:
                file.close()
        except FileNotFoundError:
            complaints.append(f"{path} is missing")
        except OSError as error:
            complaints.append(f"{path}: {error.strerror or error}")
        except Malformed as error:
            complaints.append(str(error))
    return bodies, complaints


def _write_copies(fs: FileSystem, directory: str, names: tuple[str, str], content: bytes) -> None:
    """In place where the file exists, so that a full disk does not prevent a start; the identity fits into one sector.
    A new file gets its name when its content is durable."""
    padded = content.ljust(PAGE, b"\0")
    present = fs.names(directory)
    for name in names:
        path = join(directory, name)
        unnamed = path + NEW
        if name not in present and name + NEW in present:
            fs.remove(unnamed)
        file = fs.open(path) if name in present else fs.create(unnamed)
        try:
            file.write(0, padded)
            file.datasync()
        finally:
            file.close()
        if name not in present:
            fs.rename(unnamed, path)
            fs.sync_directory(directory)


def read_identity(fs: FileSystem, directory: str) -> Found | None:
    """The identity of `directory`; None if there are no identity files.

    Raises:
        StorageError: neither copy is readable, or they name different owners.
        NewerFormat.
    """
    present = [name for name in IDENTITY_NAMES if name in fs.names(directory)]
    if not present:
        return None
    bodies, complaints = _read_copies(fs, directory, IDENTITY_NAMES, IDENTITY_MAGIC)
    found = []
    for body in bodies:
        cell, member, disk, incarnation = _IDENTITY.unpack(body)
        found.append(Identity(Owner(cell, MemberId(member), disk), incarnation))
    if not found:
        raise StorageError(
            f"{directory}: both identity files are damaged ({'; '.join(complaints)}): this replica cannot prove "
            f"which votes are its own. Restore one of the two files, or {REPLACE}"
        )
    if len({identity.owner for identity in found}) > 1:
        raise WrongDirectory(
            f"{directory}: its two identity files name different replicas: files of two directories were mixed. "
            f"Restore the right ones, or {REPLACE}"
        )
    return Found(max(found, key=lambda identity: identity.incarnation), tuple(complaints))


def write_identity(fs: FileSystem, directory: str, identity: Identity) -> None:
    """Make `identity` durable in both copies."""
    cell, member, disk = identity.owner
    assert (len(cell), len(disk)) == (ID_SIZE, ID_SIZE), "cell and disk ids have 16 bytes"
    body = _IDENTITY.pack(cell, member, disk, identity.incarnation)
    _write_copies(fs, directory, IDENTITY_NAMES, stamp(IDENTITY_MAGIC, body))


def check_owner(directory: str, found: Owner, cell: bytes, member: MemberId) -> None:
    """Refuse another replica's directory. Raises WrongDirectory."""
    if found.cell != cell:
        raise WrongDirectory(
            f"{directory} belongs to the cell {found.cell.hex()}, this replica is configured for {cell.hex()}: "
            "correct the configured cell (its name and its founders make the id) or directory; nothing was changed"
        )
    if found.member != member:
        raise WrongDirectory(
            f"{directory} belongs to member {found.member}, this replica is configured as member {member}: correct "
            "the configured member or directory; nothing was changed"
        )


def write_founding(fs: FileSystem, directory: str, configuration: Configuration) -> None:
    """Keep the configuration that the member starts from before it has any snapshot, durably."""
    _write_copies(fs, directory, FOUNDING_NAMES, stamp(FOUNDING_MAGIC, encode_configuration(configuration)))


def read_founding(fs: FileSystem, directory: str) -> Configuration:
    """Raises StorageError if neither copy is readable, NewerFormat."""
    bodies, complaints = _read_copies(fs, directory, FOUNDING_NAMES, FOUNDING_MAGIC)
    if not bodies:
        raise StorageError(
            f"{directory}: the founding configuration is unreadable ({'; '.join(complaints)}) and there is no "
            f"snapshot: restore one of the two files, or {REPLACE}"
        )
    return decode_configuration(bodies[0])
