"""How a client is served without a quorum: reads are answered from the tree as this replica has it; what would change
something, or must be fresh, is refused.

Source: ReadOnlyRequestProcessor of ZooKeeper 3.8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .codec import REQUEST, reply
from .protocol import Err, Op

if TYPE_CHECKING:
    from .connection import Connection

_CLOSE: Final = Op.CLOSE_SESSION.value


def take(connection: Connection, buffer: bytes) -> None:
    """Answer every whole frame; keep the rest."""
    front = connection.front
    at = 0
    ending = False
    while not connection.stalled:
        at = connection.answer(buffer, at, fresh=True)
        if connection.ending or connection.stalled or at + 4 > len(buffer):
            break
        length = int.from_bytes(buffer[at : at + 4], "big", signed=True)
        if not 8 <= length <= front.settings.frame_max:
            connection.drop()
            return
        if at + 4 + length > len(buffer):
            break
        _length, xid, op = REQUEST.unpack_from(buffer, at)
        at += 4 + length
        ending = op == _CLOSE
        connection.out.append(reply(xid, front.machine.zxid, Err.OK if ending else Err.NOT_READ_ONLY))
        if ending:
            front.arrivals.local.close(connection.session)
            break
    connection.rest = buffer[at:]
    if ending or connection.ending:
        connection.end()
    elif connection.out:
        connection.flush()
    if connection.stalled:
        connection.wire.pause()
