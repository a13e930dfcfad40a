"""Every record of the ZooKeeper wire, declared once with construct: the readable specification.

Cold frames (the handshake, authentication, watch re-registration) are read and written with these declarations. Hot
frames have hand-written twins in :mod:`codec`, which tests prove equal to what stands here, for every truncation and
every changed byte.

Jute: big-endian int (4), long (8) and bool (1, any non-zero byte is true); buffer and ustring are a length and bytes,
-1 is null; a vector is a count and items, -1 is null and what is below that empty; a record is its fields in order,
without tags. What follows a record is ignored.

:data:`REQUESTS` and :data:`REPLIES` say which operation has which records.

Source: zookeeper.jute of ZooKeeper 3.8; limits after BinaryInputArchive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import construct as c
from construct import Byte, Const, Construct, Int32sb, Int64sb, Struct

from .protocol import FRAME_MAX, Malformed, Op

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
        if count > LENGTH_MAX:
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


Paths: Final = c.ExprValidator(Vector(Path), lambda found, _context: found is not None)
"""As with paths, neither the list nor one of its paths may be null."""


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
SetWatches: Final = Struct("zxid" / Int64sb, "changed" / Paths, "exists" / Paths, "children" / Paths)
SetWatches2: Final = Struct(
    "zxid" / Int64sb,
    "changed" / Paths,
    "exists" / Paths,
    "children" / Paths,
    "persistent" / Paths,
    "recursive" / Paths,
)
Reconfig: Final = Struct("joining" / Ustring, "leaving" / Ustring, "members" / Ustring, "version" / Int64sb)
Prefix: Final = Struct("path" / Ustring)
"""getEphemerals and sync, which know no wrong path."""
Nothing: Final = Struct()


def _several(records: dict[Any, _Record]) -> _Record:
    """Operations, each behind a header; one with `done` ends them. An operation of another type is malformed."""
    one = Struct(
        "head" / MultiHeader,
        "record" / c.If(lambda found: not found.head.done, c.Switch(c.this.head.type, records, default=c.Error)),
    )
    return c.RepeatUntil(lambda found, _all, _context: found.head.done, one)


Multi: Final = _several(
    {
        Op.CREATE: Create,
        Op.CREATE2: Create,
        Op.CREATE_CONTAINER: Create,
        Op.CREATE_TTL: CreateTtl,
        Op.DELETE: PathVersion,
        Op.SET_DATA: SetData,
        Op.CHECK: PathVersion,
    }
)
MultiRead: Final = _several({Op.GET_DATA: PathWatch, Op.GET_CHILDREN: PathWatch})

# Replies and what a watcher gets.
GetDataReply: Final = Struct("data" / Buffer, "stat" / Stat)
GetAclReply: Final = Struct("acl" / Acls, "stat" / Stat)
ChildrenReply: Final = Struct("children" / Vector(Ustring))
Children2Reply: Final = Struct("children" / Vector(Ustring), "stat" / Stat)
Create2Reply: Final = Struct("path" / Ustring, "stat" / Stat)
StatReply: Final = Struct("stat" / Stat)
PathReply: Final = Struct("path" / Ustring)
NumberReply: Final = Struct("number" / Int32sb)
WhoAmIReply: Final = Struct("clients" / Ids)
MultiReply: Final = _several(
    {
        Op.CREATE: PathReply,
        Op.CREATE2: Create2Reply,
        Op.DELETE: Nothing,
        Op.SET_DATA: StatReply,
        Op.CHECK: Nothing,
        Op.GET_DATA: GetDataReply,
        Op.GET_CHILDREN: ChildrenReply,
        Op.ERROR: NumberReply,
    }
)
"""Results of a multi or multiRead. One that failed has type ERROR and its code."""
WatcherEvent: Final = Struct("type" / Int32sb, "state" / Int32sb, "path" / Ustring)

REQUESTS: Final[Mapping[Op, _Record]] = {
    Op.CREATE: Create,
    Op.DELETE: PathVersion,
    Op.EXISTS: PathWatch,
    Op.GET_DATA: PathWatch,
    Op.SET_DATA: SetData,
    Op.GET_ACL: PathOnly,
    Op.SET_ACL: SetAcl,
    Op.GET_CHILDREN: PathWatch,
    Op.SYNC: Prefix,
    Op.PING: Nothing,
    Op.GET_CHILDREN2: PathWatch,
    Op.CHECK: PathVersion,
    Op.MULTI: Multi,
    Op.CREATE2: Create,
    Op.RECONFIG: Reconfig,
    Op.CHECK_WATCHES: PathKind,
    Op.REMOVE_WATCHES: PathKind,
    Op.CREATE_CONTAINER: Create,
    Op.CREATE_TTL: CreateTtl,
    Op.MULTI_READ: MultiRead,
    Op.AUTH: Auth,
    Op.SET_WATCHES: SetWatches,
    Op.SASL: Sasl,
    Op.GET_EPHEMERALS: Prefix,
    Op.GET_ALL_CHILDREN_NUMBER: PathOnly,
    Op.SET_WATCHES2: SetWatches2,
    Op.ADD_WATCH: PathKind,
    Op.WHO_AM_I: Nothing,
    Op.CLOSE_SESSION: Nothing,
}
"""What a client sends behind the header, by operation."""

REPLIES: Final[Mapping[Op, _Record]] = {
    Op.CREATE: PathReply,
    Op.DELETE: Nothing,
    Op.EXISTS: StatReply,
    Op.GET_DATA: GetDataReply,
    Op.SET_DATA: StatReply,
    Op.GET_ACL: GetAclReply,
    Op.SET_ACL: StatReply,
    Op.GET_CHILDREN: ChildrenReply,
    Op.SYNC: PathReply,
    Op.PING: Nothing,
    Op.GET_CHILDREN2: Children2Reply,
    Op.CHECK: StatReply,
    Op.MULTI: MultiReply,
    Op.CREATE2: Create2Reply,
    Op.RECONFIG: GetDataReply,
    Op.CHECK_WATCHES: Nothing,
    Op.REMOVE_WATCHES: Nothing,
    Op.CREATE_CONTAINER: Create2Reply,
    Op.CREATE_TTL: Create2Reply,
    Op.MULTI_READ: MultiReply,
    Op.AUTH: Nothing,
    Op.SET_WATCHES: Nothing,
    Op.SASL: Sasl,
    Op.GET_EPHEMERALS: Struct("paths" / Vector(Ustring)),
    Op.GET_ALL_CHILDREN_NUMBER: NumberReply,
    Op.SET_WATCHES2: Nothing,
    Op.ADD_WATCH: NumberReply,
    Op.WHO_AM_I: WhoAmIReply,
    Op.CLOSE_SESSION: Nothing,
}
"""What stands behind the header of a reply without an error, by operation."""


def read(record: _Record, frame: bytes) -> Any:
    """Parse `record` from the start of `frame`, ignoring what follows. Raises Malformed."""
    try:
        return record.parse(frame)
    except c.ConstructError as error:
        raise Malformed(str(error)) from None
