"""What clients prove to be, beyond the address they come from: by an auth packet, or step by step by SASL.

What a client proved is state of its connection; it is sent again after each reconnect, and travels with its commands.

Source: ZooKeeperServer.processPacket and processSasl, and the providers in server/auth of ZooKeeper 3.8.
"""

from __future__ import annotations

import hmac
from typing import Final

from . import acl, jute
from .acl import Identities
from .codec import INT, pack_ids, reply, ustring
from .protocol import Err, Malformed
from .sasl import Exchange, Refused

PROVED_MAX: Final = 8 << 10
"""Bytes of what a client may prove by auth packets, as it travels with each of its chunks. With all else that it can
prove this stays within what a chunk can hold of one client."""
_NO_TOKEN: Final = INT.pack(-1)


def by_packet(super_digest: bytes, known: Identities, frame: bytes) -> Identities | None:
    """What an auth packet proves of a client that is `known` as this so far; None: nothing, or more than there is room
    for, and the client must go. Proving the same twice is proving it once."""
    try:
        record = jute.read(jute.Auth, frame[8:])
    except Malformed:
        return None
    if record.scheme in (b"ip", b"x509"):  # these the connection shows, or not
        return () if any(scheme == record.scheme for scheme, _ in known) else None
    if record.scheme != b"digest" or record.auth is None:
        return None
    identity = acl.digest_identity(record.auth)
    digests = (one for one in known if one[0] == record.scheme and one != identity)
    if len(pack_ids((*digests, identity))) > PROVED_MAX:
        return None
    return (identity, acl.SUPER) if hmac.compare_digest(identity[1], super_digest) else (identity,)


def refusal(xid: int, frame: bytes) -> bytes:
    """The reply to an auth packet that proved nothing; empty if it cannot be read: the original closes without a
    word then."""
    try:
        jute.read(jute.Auth, frame[8:])
    except Malformed:
        return b""
    return reply(xid, 0, Err.AUTH_FAILED)


def by_sasl(exchange: Exchange | None, xid: int, frame: bytes) -> tuple[bytes, Identities | None]:
    """One step of SASL: the reply, and what has been proved with it; None: the client must go after the reply. Without
    users (`exchange` is None) there is nothing to prove and the token is null, as in the original."""
    if exchange is None:
        return reply(xid, 0, Err.OK, _NO_TOKEN), ()
    try:
        token = exchange.step(jute.read(jute.Sasl, frame[8:]).token or b"")
    except (Malformed, Refused):
        return reply(xid, 0, Err.AUTH_FAILED, _NO_TOKEN), None
    proved = () if exchange.user is None else ((b"sasl", exchange.user),)
    return reply(xid, 0, Err.OK, ustring(token)), proved
