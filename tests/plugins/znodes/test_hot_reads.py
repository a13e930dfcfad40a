"""The two reads that connections answer themselves, against the answers that everything else about them stands on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.plugins.znodes.protocol import Err, Fault, Malformed, Op
from quorate.plugins.znodes.reads import ANSWERS
from znodes_talk import Room
from znodes_wire import create, path_watch

HIDDEN = [{"perms": 30, "scheme": b"world", "id": b"anyone"}]


@pytest.mark.parametrize("op", [Op.GET_DATA, Op.EXISTS])
@pytest.mark.parametrize("path", [b"/", b"/a", b"/ab", b"/null", b"/hidden", b"/none"])
def test_the_short_way_leads_where_the_long_one_does(op: Op, path: bytes) -> None:
    """The frame, whole, with bytes behind, cut anywhere, and with each byte changed to any other."""
    room = Room()
    talk, front = room.talk(), room.fronts[0]
    for node, value in ((b"/a", b"x"), (b"/ab", b"xy" * 999), (b"/null", None)):
        assert talk.call(Op.CREATE, create(node, value)).err == 0
    assert talk.call(Op.CREATE, create(b"/hidden", b"", 0, HIDDEN)).err == 0
    body = path_watch(path)
    damaged = [body, body + b"tail", *(body[:size] for size in range(len(body)))]
    damaged += [body[:at] + bytes((byte,)) + body[at + 1 :] for at in range(len(body)) for byte in range(256)]
    for each in damaged:
        err, expected = Err.OK, b""
        try:
            expected = ANSWERS[op](front, talk.connection, bytes(8) + each)
        except Fault as fault:
            err = fault.err
        except Malformed:
            err = Err.MARSHALLING_ERROR
        watched = len(front.watches)
        front.watches.forget(talk.connection)
        reply = talk.call(op, each)
        assert (reply.err, reply.body, len(front.watches)) == (err, expected, watched), each
        front.watches.forget(talk.connection)
    assert talk.heard() == []
