"""Damage to the files of a replica that is down: any mode in any region of any file, from one random source."""

from __future__ import annotations

import enum
from pathlib import Path
from random import Random
from typing import Final

from quorate.kernel.storage.layout import IDENTITY_MAGIC, PAGE, SEGMENT_MAGIC, SNAPSHOT_MAGIC, stamp

SECTOR: Final = 512


class Mode(enum.StrEnum):
    """What is done to the bytes."""

    FLIP = "flip"
    """One bit is another."""
    ZERO = "zero"
    """A sector reads as zeros."""
    CUT = "cut"
    """The file ends here."""
    SWAP = "swap"
    """Two sectors have changed places."""
    JUNK = "junk"
    """Foreign bytes from here to the end of the sector."""


class Region(enum.StrEnum):
    """Which third of the bytes that mean something."""

    HEAD = "head"
    MIDDLE = "middle"
    TAIL = "tail"


def files(directory: Path) -> list[Path]:
    """The files that belong to the replica, apart from its lock."""
    return sorted(each for each in directory.iterdir() if each.is_file() and each.name != "lock")


def damage(path: Path, mode: Mode, region: Region, random: Random) -> str:
    """Damage `path`; says what was done. An empty file stays as it is."""
    content = bytearray(path.read_bytes())
    used = len(bytes(content).rstrip(b"\0"))
    if not used:
        return f"{path.name} is empty"
    part = list(Region).index(region)
    low, high = used * part // 3, max(used * part // 3 + 1, used * (part + 1) // 3)
    at = random.randrange(low, high)
    match mode:
        case Mode.FLIP:
            content[at] ^= 1 << random.randrange(8)
        case Mode.ZERO:
            start = at // SECTOR * SECTOR
            content[start : start + SECTOR] = bytes(len(content[start : start + SECTOR]))
        case Mode.CUT:
            del content[at:]
        case Mode.SWAP:
            one, two = at // SECTOR * SECTOR, random.randrange(0, used) // SECTOR * SECTOR
            size = min(SECTOR, len(content) - max(one, two))
            first, second = content[one : one + size], content[two : two + size]
            content[one : one + size], content[two : two + size] = second, first
        case Mode.JUNK:
            end = min(len(content), (at // SECTOR + 1) * SECTOR)
            content[at:end] = random.randbytes(end - at)
    path.write_bytes(content)
    return f"{mode} at byte {at} of {path.name} ({used} used)"


def newer_format(directory: Path, random: Random) -> str:
    """Make one of the files that carry a version one of a release to come; says which."""
    kinds = {"identity": IDENTITY_MAGIC, "journal-": SEGMENT_MAGIC, "snapshot-": SNAPSHOT_MAGIC}
    found = [
        (path, magic)
        for path in files(directory)
        for prefix, magic in kinds.items()
        if path.name.startswith(prefix) and path.name != "identity.copy"
    ]
    path, magic = random.choice(found)
    content = path.read_bytes()
    path.write_bytes(stamp(magic, b"what a release to come knows", version=2).ljust(PAGE, b"\0") + content[PAGE:])
    if path.name == "identity":
        path.with_name("identity.copy").write_bytes(path.read_bytes())
    return f"{path.name} of a newer format"
