"""Hand-written struct code for the hot records; :mod:`jute` is the specification and a property test holds the two
together.

Every parser takes one frame without its length prefix and the position where the record begins, ignores what follows
the record and raises Malformed when it is cut short, when a length is impossible or a path is null. Frames must be
exact slices: a parser trusts the end of the bytes, so the bounds checks are struct's own."""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final

from .protocol import Malformed

INT: Final = Struct(">i")
LONG: Final = Struct(">q")
STAT: Final = Struct(">qqqqiiiqiiq")
REPLY: Final = Struct(">iiqi")
"""Length, xid, zxid, err: a reply's head."""
REPLY_INT: Final = Struct(">iiqii")
"""A reply's head and the first int of its body, mostly a length."""
REQUEST: Final = Struct(">iii")
"""Length, xid, type: a request's head."""
MULTI_HEADER: Final = Struct(">i?i")
MULTI_END: Final = MULTI_HEADER.pack(-1, True, -1)
OPEN_ACL: Final = b"\0\0\0\1\0\0\0\x1f\0\0\0\5world\0\0\0\6anyone"
"""The access control list nearly every node has: anybody may do anything."""

HEAD: Final = 8
"""Bytes of a request's header in its frame (xid and type); records begin behind it."""

_MANY: Final = 8
"""Fewer names than this are packed one by one."""
_int = INT.unpack_from
_long = LONG.unpack_from


def path_watch(frame: bytes, at: int = HEAD) -> tuple[bytes, bool]:
    """getData, exists, getChildren, getChildren2: path and whether to watch."""
    try:
        (length,) = _int(frame, at)
        at += 4
        end = at + length
        if length < 0:
            raise Malformed("path")
        return frame[at:end], frame[end] != 0
    except (StructError, IndexError):
        raise Malformed("path, watch") from None


def path_int(frame: bytes, at: int = HEAD) -> tuple[bytes, int]:
    """delete and check (path, version), addWatch and removeWatches (path, mode)."""
    try:
        (length,) = _int(frame, at)
        at += 4
        if length < 0:
            raise Malformed("path")
        end = at + length
        return frame[at:end], _int(frame, end)[0]
    except StructError:
        raise Malformed("path, int") from None


def path_only(frame: bytes, at: int = HEAD) -> bytes:
    """getACL, sync, getEphemerals, getAllChildrenNumber."""
    try:
        (length,) = _int(frame, at)
    except StructError:
        raise Malformed("path") from None
    path = frame[at + 4 : at + 4 + length] if length >= 0 else b""
    if len(path) != length:
        raise Malformed("path")
    return path


def put(frame: bytes, at: int = HEAD) -> tuple[bytes, bytes | None, int]:
    """setData: path, data, expected version."""
    try:
        (length,) = _int(frame, at)
        if length < 0:
            raise Malformed("path")
        at += 4
        end = at + length
        path = frame[at:end]
        (length,) = _int(frame, end)
        at = end + 4
        if length < 0:
            if length != -1:
                raise Malformed("data")
            return path, None, _int(frame, at)[0]
        end = at + length
        return path, frame[at:end], _int(frame, end)[0]
    except StructError:
        raise Malformed("path, data, version") from None


def create(frame: bytes, at: int = HEAD) -> tuple[bytes, bytes | None, bytes, int]:
    """create, create2, createContainer: path, data, the access control list as its raw bytes, flags."""
    try:
        (length,) = _int(frame, at)
        if length < 0:
            raise Malformed("path")
        at += 4
        end = at + length
        path = frame[at:end]
        (length,) = _int(frame, end)
        at = end + 4
        if length < 0:
            if length != -1:
                raise Malformed("data")
            value = None
        else:
            end = at + length
            value = frame[at:end]
            at = end
        if frame.startswith(OPEN_ACL, at):
            return path, value, OPEN_ACL, _int(frame, at + len(OPEN_ACL))[0]
        end = acl_end(frame, at)
        return path, value, frame[at:end], _int(frame, end)[0]
    except StructError:
        raise Malformed("path, data, acl, flags") from None


def create_ttl(frame: bytes, at: int = HEAD) -> tuple[bytes, bytes | None, bytes, int, int]:
    """createTTL: as create, then the time to live in milliseconds."""
    end = create_end(frame, at)
    try:
        return *create(frame, at), _long(frame, end)[0]
    except StructError:
        raise Malformed("ttl") from None


def set_acl(frame: bytes, at: int = HEAD) -> tuple[bytes, bytes, int]:
    """setACL: path, the list as its raw bytes, expected version of the list."""
    path = path_only(frame, at)
    at += 4 + len(path)
    try:
        end = acl_end(frame, at)
        return path, frame[at:end], _int(frame, end)[0]
    except StructError:
        raise Malformed("path, acl, version") from None


def set_watches(frame: bytes, lists: int, at: int = HEAD) -> tuple[int, list[list[bytes]]]:
    """setWatches (3 lists) and setWatches2 (5): the last transaction seen, and the paths of each list."""
    try:
        (zxid,) = _long(frame, at)
        at += 8
        found = []
        for _ in range(lists):
            (count,) = _int(frame, at)
            at += 4
            if count == -1 or count * 4 > len(frame) - at:
                raise Malformed("list")
            paths = []
            for _ in range(count):
                (length,) = _int(frame, at)
                at += 4
                end = at + length
                if length < 0 or end > len(frame):
                    raise Malformed("path")
                paths.append(frame[at:end])
                at = end
            found.append(paths)
    except StructError:
        raise Malformed("transaction, lists of paths") from None
    return zxid, found


def buffer_end(frame: bytes, at: int) -> int:
    """Where the buffer or ustring at `at` ends."""
    try:
        (length,) = _int(frame, at)
    except StructError:
        raise Malformed("length") from None
    end = at + 4 + (length if length > 0 else 0)
    if length < -1 or end > len(frame):
        raise Malformed("length")
    return end


def acl_end(frame: bytes, at: int) -> int:
    """Where the vector of access control entries at `at` ends."""
    try:
        (count,) = _int(frame, at)
    except StructError:
        raise Malformed("count") from None
    if count * 12 > len(frame):
        raise Malformed("count")
    at += 4
    for _ in range(count):
        at = buffer_end(frame, buffer_end(frame, at + 4))
    return at


def create_end(frame: bytes, at: int) -> int:
    """Where a create record ends, its flags included."""
    return acl_end(frame, buffer_end(frame, buffer_end(frame, at))) + 4


def ids(record: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """A vector of identities, (scheme, id) each. Written by our own fronts only."""
    found = []
    at = 4
    for _ in range(_int(record)[0]):
        middle = buffer_end(record, at)
        end = buffer_end(record, middle)
        found.append((record[at + 4 : middle], record[middle + 4 : end]))
        at = end
    return tuple(found)


def ustring(text: bytes) -> bytes:
    """A buffer or ustring."""
    return INT.pack(len(text)) + text


def vector(texts: list[bytes]) -> bytes:
    """A vector of ustrings. Names in large directories mostly are of one length, which saves nearly everything."""
    pack = INT.pack
    if len(texts) > _MANY and len(lengths := set(map(len, texts))) == 1:
        head = pack(lengths.pop())
        return pack(len(texts)) + head + head.join(texts)
    parts = [pack(len(texts))]
    for text in texts:
        parts.append(pack(len(text)))
        parts.append(text)
    return b"".join(parts)


def pack_ids(pairs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The inverse of :func:`ids`."""
    return INT.pack(len(pairs)) + b"".join(ustring(scheme) + ustring(name) for scheme, name in pairs)


def reply(xid: int, zxid: int, err: int = 0, body: bytes = b"") -> bytes:
    """A whole reply frame."""
    return REPLY.pack(16 + len(body), xid, zxid, err) + body
