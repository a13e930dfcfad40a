"""What can go wrong with a data directory. Every message says what, in which file, where, and what to do."""

from __future__ import annotations

import errno
from typing import Final

NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
"""The error numbers that say that one more open file is too many: nothing was tried, so nothing is uncertain."""

NO_SPACE: Final = NO_DESCRIPTOR | {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM}
"""The error numbers by which an operating system says that there is no room (left, in the quota, or in the limit), be
it for bytes or for one more open file."""

REPLACE: Final = (
    "replace this member by a new one, with an empty directory (see 'Replace a replica' in the documentation)"
)
"""What to do about a member that has lost what it promised."""


class StorageError(Exception):
    """Something about the data directory; the message is meant for an operator."""


class Malformed(StorageError):
    """Bytes that are not what they should be: a checksum, a magic or a length does not fit."""


class NewerFormat(StorageError):
    """The file was written by a newer version of this software. Nothing was changed."""


class WrongDirectory(StorageError):
    """The directory belongs to another cell or member, or is not a data directory of this software."""


class DirectoryInUse(StorageError):
    """Another process has the directory open."""


class SnapshotMissing(StorageError):
    """There is no snapshot at that slot (any more)."""


class SnapshotFailed(StorageError):
    """Writing or receiving a snapshot failed; nothing of it is left, and older snapshots are untouched."""


class JournalFull(StorageError):
    """No room for the next segment. Nothing of the batch counts as written and nothing is broken: the same call may be
    made again when there is room."""


class JournalFailed(StorageError):
    """A write or a sync failed, now or earlier. This journal object is finished, because after a failed sync nobody can
    say what is on the disk and a second sync would say "fine" (Rebello et al., "Can Applications Recover from fsync
    Failures?", 2020). Open the directory again: recovery reads, verifies and rewrites what is uncertain.

    `full` is True if the cause was lack of space.
    """

    def __init__(self, message: str, full: bool = False) -> None:
        super().__init__(message)
        self.full = full


def out_of_descriptors(error: OSError) -> bool:
    """Whether `error` says that no more files can be opened."""
    return error.errno in NO_DESCRIPTOR


def out_of_space(error: OSError) -> bool:
    """Whether `error` says that there is no room."""
    return error.errno in NO_SPACE
