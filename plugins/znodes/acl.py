"""Access control: who may do what to a node. Lists and identities are kept as the bytes of their jute vectors,
decoded on demand.

Everything here is a pure function of its arguments (the caches only spare work), so replicas agree. A client's
identities travel with its commands: what it proved is state of its connection, not of the tree.

Source: PrepRequestProcessor.fixupACL, ZooKeeperServer.checkACL, and the providers in server/auth of ZooKeeper 3.8.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha1
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple, TypeAlias

from .codec import INT, OPEN_ACL, buffer_end, ustring
from .protocol import Err, Fault

Identity: TypeAlias = tuple[bytes, bytes]
"""(scheme, id), for example (b"ip", b"127.0.0.1")."""

Identities: TypeAlias = tuple[Identity, ...]

OPEN: Final = OPEN_ACL
"""The list of most nodes. Lists equal to it are always this very object, so that `is` answers."""

READ_ONLY: Final = b"\0\0\0\1\0\0\0\1\0\0\0\5world\0\0\0\6anyone"
LIST_MAX: Final = 8 << 10
"""Bytes of a list at most: every replica goes through all of it for each request that it is held against, unless the
outcome is remembered, which must not fill the memory."""
SUPER: Final[Identity] = (b"super", b"")
SASL_SUPER: Final[Identity] = (b"sasl", b"super")
"""Counts as every user of SASL, as in the original."""
PROVABLE: Final = (b"digest", b"sasl", b"x509")
"""What scheme "auth" stands for; an address proves nothing."""
WORLD: Final[Identity] = (b"world", b"anyone")


_PRINCIPAL: Final = re.compile(rb"[^@]*|[^/@]*(?:/[^/@]*)?@[^/@]*")
"""What a user of SASL may be called: KerberosName decides in the original."""


class Entry(NamedTuple):
    """One entry of a list."""

    perms: int
    scheme: bytes | None
    id: bytes | None


def entries(acl: bytes) -> tuple[Entry, ...]:
    """The entries of a list from its bytes, which must be a whole vector; a null vector has none."""
    found = []
    at = 4
    for _ in range(INT.unpack_from(acl)[0]):
        (perms,) = INT.unpack_from(acl, at)
        middle = buffer_end(acl, at + 4)
        end = buffer_end(acl, middle)
        scheme = acl[at + 8 : middle] if acl[at + 4] < 0x80 else None
        name = acl[middle + 4 : end] if acl[middle] < 0x80 else None
        found.append(Entry(perms, scheme, name))
        at = end
    return tuple(found)


def packed(items: Iterable[Entry]) -> bytes:
    """The bytes of a list."""
    parts = [INT.pack(perms) + ustring(scheme or b"") + ustring(name or b"") for perms, scheme, name in items]
    return INT.pack(len(parts)) + b"".join(parts)


@lru_cache(1024)
def _network(pattern: bytes) -> IPv4Network | IPv6Network:
    """The addresses that ``address`` or ``address/bits`` stands for. Raises ValueError, also for a netmask."""
    address, slash, bits = pattern.decode().partition("/")
    if not slash:
        return ip_network(address)
    if not bits.isdigit():
        raise ValueError(bits)
    return ip_network((ip_address(address), int(bits)), strict=False)


def _address_matches(address: bytes, pattern: bytes) -> bool:
    try:
        return ip_address(address.decode()) in _network(pattern)
    except ValueError:
        return False


@lru_cache(4096)
def permits(acl: bytes, right: int, who: Identities) -> bool:
    """Whether the list grants `right` (any of its bits) to a client with these identities. An empty list grants all."""
    listed = entries(acl)
    if not listed or SUPER in who:
        return True
    for perms, scheme, name in listed:
        if not perms & right:
            continue
        if scheme == b"world" and name == b"anyone":
            return True
        if scheme == b"ip":
            if any(kind == b"ip" and _address_matches(address, name or b"") for kind, address in who):
                return True
        elif (scheme == b"sasl" and SASL_SUPER in who) or (scheme, name) in who:
            return True
    return False


def _valid_id(scheme: bytes, name: bytes | None) -> bool:
    if name is None:
        return False
    if scheme == b"digest":
        return name.rstrip(b":").count(b":") == 1
    if scheme == b"ip":
        try:
            _network(name)
        except ValueError:
            return False
        return True
    if scheme == b"sasl":
        return _PRINCIPAL.fullmatch(name) is not None
    return scheme == b"x509" and bool(name)


def _text(name: bytes) -> bytes:
    """`name` as UTF-8, whatever a client sent: others are shown it."""
    return name.decode(errors="replace").encode()


def settled(acl: bytes, who: Identities) -> bytes:
    """The list to keep for what a client sent: duplicates dropped, scheme "auth" replaced by what the client proved
    to be.

    Raises:
        Fault: INVALID_ACL for an empty list or one that is too long, an unknown scheme, an impossible id, or "auth"
            without a proof.
    """
    if len(acl) > LIST_MAX:
        raise Fault(Err.INVALID_ACL)
    return _settled(acl, who)


@lru_cache(1024)
def _settled(acl: bytes, who: Identities) -> bytes:
    if acl == OPEN:
        return OPEN
    kept: dict[Entry, None] = {}
    for entry in dict.fromkeys(entries(acl)):
        perms, scheme, name = entry
        if scheme is None:
            raise Fault(Err.INVALID_ACL)
        if name is not None and not name.isascii():
            entry = Entry(perms, scheme, _text(name))
        if scheme == b"world" and name == b"anyone":
            kept[entry] = None
        elif scheme == b"auth":
            proved = [identity for identity in who if identity[0] in PROVABLE]
            if not proved:
                raise Fault(Err.INVALID_ACL)
            kept.update(dict.fromkeys(Entry(perms, *identity) for identity in proved))
            if len(kept) > LIST_MAX:  # in time: each entry may stand for as many as fit
                raise Fault(Err.INVALID_ACL)
        elif _valid_id(scheme, name):
            kept[entry] = None
        else:
            raise Fault(Err.INVALID_ACL)
    result = packed(kept)
    if not kept or len(result) > LIST_MAX:
        raise Fault(Err.INVALID_ACL)
    return OPEN if result == OPEN else result


def masked(acl: bytes) -> bytes:
    """The list as somebody without the ADMIN right sees it: without the hashes of passwords."""
    shown = []
    for perms, scheme, name in entries(acl):
        if scheme == b"digest" and name is not None:
            name = name.partition(b":")[0] + b":x"
        shown.append(Entry(perms, scheme, name))
    return packed(shown)


def digest_identity(secret: bytes) -> Identity:
    """The identity that ``user:password`` proves: ``user:base64(sha1(user:password))``."""
    secret = _text(secret)
    return b"digest", secret.partition(b":")[0] + b":" + b64encode(sha1(secret, usedforsecurity=False).digest())


def user_name(identity: Identity) -> bytes:
    """What whoAmI shows of an identity."""
    scheme, name = identity
    return name.partition(b":")[0] if scheme == b"digest" else name
