"""Every record of the ZooKeeper wire, declared once with construct: the readable specification.

Cold frames (the handshake, authentication, watch re-registration) are read and written with these declarations. Hot
frames have hand-written twins in :mod:`codec`, which tests prove equal to what stands here, for every truncation and
every changed byte.

Jute: big-endian int (4), long (8) and bool (1, any non-zero byte is true); buffer and ustring are a length and bytes,
-1 is null; a vector is a count and items, -1 is null; a record is its fields in order, without tags. What follows a
record is ignored.

Source: zookeeper.jute of ZooKeeper 3.8; limits after BinaryInputArchive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import construct as c
from construct import Byte, Const, Construct, Int32sb, Int64sb, Struct

from .protocol import FRAME_MAX, Malformed

LENGTH_MAX: Final = 16 * FRAME_MAX
"""No length inside a record is larger; the frame's own bound is the front's business."""


if TYPE_CHECKING:
    _Record: TypeAlias = Construct[Any, Any]
else:
    _Record = Construct


class _Bool(_Record):
    """One byte; every value but zero is true."""

    def _parse(self, stream: Any, context: Any, path: str) -> bool:
        return bool(Byte._parse(stream, context, path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        Byte._build(1 if obj else 0, stream, context, path)
        return obj


class _Buffer(_Record):
    """A length and that many bytes; -1 is None. Also used for ustring: the text stays UTF-8 bytes."""

    def _parse(self, stream: Any, context: Any, path: str) -> bytes | None:
        length = Int32sb._parse(stream, context, path)
        if length == -1:
            return None
        if not 0 <= length <= LENGTH_MAX:
            raise c.RangeError(f"length {length}", path=path)
        found: bytes = c.stream_read(stream, length, path)
        return found

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        Int32sb._build(-1 if obj is None else len(obj), stream, context, path)
        if obj:
            c.stream_write(stream, obj, len(obj), path)
        return obj


class _Vector(_Record):
    """A count and that many items; -1 is None."""

    def __init__(self, item: _Record) -> None:
        super().__init__()
        self.item = item

    def _parse(self, stream: Any, context: Any, path: str) -> list[Any] | None:
        count = Int32sb._parse(stream, context, path)
        if count == -1:
            return None
        if not 0 <= count <= LENGTH_MAX:
            raise c.RangeError(f"count {count}", path=path)
        return [self.item._parsereport(stream, context, path) for _ in range(count)]

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        Int32sb._build(-1 if obj is None else len(obj), stream, context, path)
        for item in obj or ():
            self.item._build(item, stream, context, path)
        return obj


Bool: Final = _Bool()
Buffer: Final = _Buffer()
Ustring: Final = _Buffer()

Path: Final = c.ExprValidator(Ustring, lambda found, _context: found is not None)
"""A path must be there; null is a malformed record."""


def Vector(item: _Record) -> _Record:
    """A vector of `item`."""
    return _Vector(item)


RequestHeader: Final = Struct("xid" / Int32sb, "type" / Int32sb)
ReplyHeader: Final = Struct("xid" / Int32sb, "zxid" / Int64sb, "err" / Int32sb)

Id: Final = Struct("scheme" / Ustring, "id" / Ustring)
Acl: Final = Struct("perms" / Int32sb, "scheme" / Ustring, "id" / Ustring)
Acls: Final = Vector(Acl)
Ids: Final = Vector(Id)

Stat: Final = Struct(
    "czxid" / Int64sb,
    "mzxid" / Int64sb,
    "ctime" / Int64sb,
    "mtime" / Int64sb,
    "version" / Int32sb,
    "cversion" / Int32sb,
    "aversion" / Int32sb,
    "ephemeral_owner" / Int64sb,
    "length" / Int32sb,
    "children" / Int32sb,
    "pzxid" / Int64sb,
)

# The handshake. Clients older than 3.4 leave out the last byte of the request; then the response must not have it
# either.
ConnectRequest: Final = Struct(
    "protocol" / Int32sb,
    "last_zxid" / Int64sb,
    "timeout" / Int32sb,
    "session" / Int64sb,
    "password" / Buffer,
    "read_only" / c.Optional(Bool),
)
ConnectResponse: Final = Struct(
    "protocol" / Const(0, Int32sb),
    "timeout" / Int32sb,
    "session" / Int64sb,
    "password" / Buffer,
    "read_only" / c.If(c.this.read_only != None, Bool),  # noqa: E711 - an expression construct evaluates later
)

# Requests. Acls stay raw bytes in `tail` where the twin in codec hands them on undecoded.
PathWatch: Final = Struct("path" / Path, "watch" / Bool)
PathVersion: Final = Struct("path" / Path, "version" / Int32sb)
PathOnly: Final = Struct("path" / Path)
PathKind: Final = Struct("path" / Path, "kind" / Int32sb)
SetData: Final = Struct("path" / Path, "data" / Buffer, "version" / Int32sb)
SetAcl: Final = Struct("path" / Path, "acl" / c.RawCopy(Acls), "version" / Int32sb)
Create: Final = Struct("path" / Path, "data" / Buffer, "acl" / c.RawCopy(Acls), "flags" / Int32sb)
CreateTtl: Final = Struct("path" / Path, "data" / Buffer, "acl" / c.RawCopy(Acls), "flags" / Int32sb, "ttl" / Int64sb)
MultiHeader: Final = Struct("type" / Int32sb, "done" / Bool, "err" / Int32sb)
Auth: Final = Struct("type" / Int32sb, "scheme" / Ustring, "auth" / Buffer)
Sasl: Final = Struct("token" / Buffer)
SetWatches: Final = Struct(
    "zxid" / Int64sb, "changed" / Vector(Ustring), "exists" / Vector(Ustring), "children" / Vector(Ustring)
)
SetWatches2: Final = Struct(
    "zxid" / Int64sb,
    "changed" / Vector(Ustring),
    "exists" / Vector(Ustring),
    "children" / Vector(Ustring),
    "persistent" / Vector(Ustring),
    "recursive" / Vector(Ustring),
)

# Replies and what a watcher gets.
GetDataReply: Final = Struct("data" / Buffer, "stat" / Stat)
GetAclReply: Final = Struct("acl" / Acls, "stat" / Stat)
ChildrenReply: Final = Struct("children" / Vector(Ustring))
Children2Reply: Final = Struct("children" / Vector(Ustring), "stat" / Stat)
Create2Reply: Final = Struct("path" / Ustring, "stat" / Stat)
WatcherEvent: Final = Struct("type" / Int32sb, "state" / Int32sb, "path" / Ustring)


def read(record: _Record, frame: bytes) -> Any:
    """Parse `record` from the start of `frame`, ignoring what follows. Raises Malformed."""
    try:
        return record.parse(frame)
    except c.ConstructError as error:
        raise Malformed(str(error)) from None
