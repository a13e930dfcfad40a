"""The numbers of the ZooKeeper protocol: operations, errors, events, modes, rights. Nothing here acts.

Sources: ZooDefs, KeeperException.Code, CreateMode, Watcher.Event and EphemeralType of ZooKeeper 3.8.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

FACE: Final = "znodes"
"""The face under which the front opens its sessions."""

FRAME_MAX: Final = 0xFFFFF
"""Default bound of a client's frame in bytes (jute.maxbuffer)."""

PASSWORD_SIZE: Final = 16
INT_MAX: Final = 0x7FFFFFFF
INT_MIN: Final = -0x80000000
ANY_VERSION: Final = -1


class Op(IntEnum):
    """What a request asks for."""

    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CREATE_SESSION = -10
    CLOSE_SESSION = -11
    ERROR = -1


class Xid(IntEnum):
    """Request numbers with a meaning of their own."""

    NOTIFICATION = -1
    PING = -2
    AUTH = -4
    SET_WATCHES = -8


class Err(IntEnum):
    """How a request ended. Some are a client's own words for what no server says."""

    OK = 0
    SYSTEM_ERROR = -1
    RUNTIME_INCONSISTENCY = -2
    DATA_INCONSISTENCY = -3
    CONNECTION_LOSS = -4
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    OPERATION_TIMEOUT = -7
    BAD_ARGUMENTS = -8
    UNKNOWN_SESSION = -12
    NEW_CONFIG_NO_QUORUM = -13
    RECONFIG_IN_PROGRESS = -14
    API_ERROR = -100
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_CALLBACK = -113
    INVALID_ACL = -114
    AUTH_FAILED = -115
    SESSION_MOVED = -118
    NOT_READ_ONLY = -119
    EPHEMERAL_ON_LOCAL_SESSION = -120
    NO_WATCHER = -121
    REQUEST_TIMEOUT = -122
    RECONFIG_DISABLED = -123
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124
    QUOTA_EXCEEDED = -125
    THROTTLED_OP = -127


class Fault(Exception):
    """An operation's expected end other than success; raised before the first change of state."""

    def __init__(self, err: Err) -> None:
        super().__init__(err.name)
        self.err = err


class Malformed(ValueError):
    """A record is cut short, or a length in it is impossible."""


class Mode(IntEnum):
    """The flags of a create request."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    TTL = 5
    TTL_SEQUENTIAL = 6


class Right(IntFlag):
    """What an access control entry can grant. Rights are not inherited."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


class Event(IntEnum):
    """Why a watch fires."""

    CREATED = 1
    DELETED = 2
    DATA_CHANGED = 3
    CHILDREN_CHANGED = 4


STATE_CONNECTED: Final = 3
"""The state field of every notification a server sends."""


class WatchMode(IntEnum):
    """The modes of addWatch."""

    PERSISTENT = 0
    PERSISTENT_RECURSIVE = 1


class WatcherType(IntEnum):
    """What removeWatches and checkWatches are about."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5


CONTAINER_OWNER: Final = -(1 << 63)
"""Owner field of a container node: no session has this id."""

TTL_MARK: Final = -(1 << 56)
"""Added to a node's time to live (1 to 2**40 - 1 milliseconds) it gives its owner field: the high byte is 0xff."""

TTL_MAX: Final = (1 << 40) - 1


def ttl_owner(ttl_ms: int) -> int:
    """The owner field of a node that lives `ttl_ms` after its last change."""
    return TTL_MARK + ttl_ms


def owner_ttl(owner: int) -> int | None:
    """The time to live in milliseconds an owner field stands for; None if it means a session, a container or nobody."""
    return owner - TTL_MARK if TTL_MARK < owner <= TTL_MARK + TTL_MAX else None
