"""Which paths are valid, and how they split. Paths are UTF-8 bytes, as they come from the wire.

A valid path begins with a slash and does not end with one (but for the root), has no empty, "." or ".." component,
and none of U+0000-001F, U+007F-009F, U+D800-F8FF, U+FFF0-FFFF. The original tests UTF-16 units, where every character
above U+FFFF is two surrogates: so those are refused as well. Bytes that are not UTF-8 read as U+FFFD there, and are
refused.

Source: PathUtils.validatePath; isSpecialPath of PrepRequestProcessor.
"""

from __future__ import annotations

import re
from typing import Final

ROOT: Final = b"/"
ZOOKEEPER: Final = b"/zookeeper"
QUOTA: Final = b"/zookeeper/quota"
CONFIG: Final = b"/zookeeper/config"
UNDELETABLE: Final = frozenset((ROOT, ZOOKEEPER, QUOTA, CONFIG))

_PRINTABLE: Final = bytes(range(0x20, 0x7F))
_REFUSED: Final = re.compile("[\0-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff]")


def valid_name(name: bytes) -> bool:
    """Whether `name`, which holds no slash, may be the last component of a path."""
    if name.translate(None, _PRINTABLE):
        try:
            if _REFUSED.search(name.decode()):
                return False
        except UnicodeDecodeError:
            return False
    return bool(name) and name != b"." and name != b".."


def valid(path: bytes) -> bool:
    """Whether `path` is a valid path as a whole."""
    if path == ROOT:
        return True
    return path.startswith(b"/") and all(valid_name(name) for name in path[1:].split(b"/"))


def parent(path: bytes) -> bytes:
    """The path one level up, spelled as clients know it (the parent of "/a" is "/")."""
    return path[: path.rfind(b"/")] or ROOT
