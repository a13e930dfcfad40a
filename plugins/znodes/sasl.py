"""The server's side of SASL DIGEST-MD5: a client proves that it knows a password without sending it.

Two steps. The server's challenge names a realm and a nonce that was never used before; the client answers with its
user name and a digest over password, nonces and purpose; the server checks it and shows by a digest of its own that it
knows the password as well. The wire around it (type 102, a token there and a token back) is the connection's business.

MD5 is what the protocol prescribes; it is no protection against somebody who can read the wire and guess passwords. Use
it with TLS, or certificates instead.

Source: RFC 2831. Of it: quality "auth" only, no subsequent authentication (a nonce serves once), one realm. The service
and the realm are the original's (SaslServerCallbackHandler, SecurityUtils of ZooKeeper 3.8), which its clients expect.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from hashlib import md5
from typing import Final

REALM: Final = b"zk-sasl-md5"
URI: Final = b"zookeeper/" + REALM
"""What a proof is for: service and host, which is always this."""
TOKEN_MAX: Final = 4096
"""Bytes of a client's answer at most, as the RFC says."""

_FIRST_USE: Final = b"00000001"
_DIRECTIVE: Final = re.compile(
    rb"""\s* ([!#$%&'*+.^_`|~0-9A-Za-z-]+) \s*=\s*     # a token, as HTTP has it
    (?: "((?:[^"\\]|\\.)*)" | ([^\s",]+) ) \s* (?:,|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)


class Refused(Exception):
    """The client did not prove what it says. The words are for the operator, not for the client."""


class Exchange:
    """One client's attempt to prove who it is, to users with passwords.

    `nonce` must be fresh and unguessable. `user` is who the client proved to be, None until then.
    """

    def __init__(self, users: Mapping[bytes, bytes], nonce: bytes) -> None:
        self.user: bytes | None = None
        self._users = users
        self._nonce = nonce
        self._challenged = False

    def step(self, token: bytes) -> bytes:
        """The server's token for the client's. Raises Refused, after which this exchange is over."""
        if self.user is not None:
            raise Refused("the exchange is over")
        if not self._challenged:  # whatever the token says: nothing was asked yet
            self._challenged = True
            return b'realm="%s",nonce="%s",qop="auth",charset=utf-8,algorithm=md5-sess' % (REALM, self._nonce)
        user, proof = self._check(directives(token))
        self.user = user
        return b"rspauth=" + proof

    def _check(self, said: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
        """Who it is, and our own proof."""
        user = said.get(b"username", b"")
        for name, wanted in (
            (b"nonce", self._nonce),
            (b"nc", _FIRST_USE),
            (b"qop", b"auth"),
            (b"realm", REALM),
            (b"authzid", user),
            (b"charset", b"utf-8"),
        ):
            if said.get(name, wanted if name != b"nonce" else b"") != wanted:
                raise Refused(f"{name.decode()}={said.get(name)!r} where {wanted!r} is wanted")
        uri = said.get(b"digest-uri", b"")
        if uri.lower() != URI or not said.get(b"cnonce"):
            raise Refused(f"digest-uri={uri!r}, cnonce={said.get(b'cnonce')!r}")
        password = self._users.get(user)
        # An unknown user costs as much time as a known one.
        secret = _secret(said, user, password if password is not None else self._nonce)
        right = hmac.compare_digest(_response(said, secret, b"AUTHENTICATE:" + uri), said.get(b"response", b""))
        if not right or password is None:
            raise Refused(f"user {user!r} is unknown or the password is wrong")
        return user, _response(said, secret, b":" + uri)


def directives(token: bytes) -> dict[bytes, bytes]:
    """The names and values of a token: ``name=value, name="quoted value"``. Raises Refused if it is not written so, or
    says something twice."""
    found: dict[bytes, bytes] = {}
    at = 0
    if len(token) > TOKEN_MAX:
        raise Refused(f"a token of {len(token)} bytes")
    while at < len(token):
        match = _DIRECTIVE.match(token, at)
        if match is None:
            raise Refused(f"no directive at byte {at}")
        name, quoted, plain = match.groups()
        if name.lower() in found:
            raise Refused(f"{name!r} twice")
        found[name.lower()] = plain if quoted is None else _ESCAPED.sub(rb"\1", quoted)
        at = match.end()
    return found


def _secret(said: Mapping[bytes, bytes], user: bytes, password: bytes) -> bytes:
    """H(A1) in hexadecimal: what only those know who know the password, for these nonces."""
    realm = said.get(b"realm", b"")
    words = b":".join((_narrow(user), _narrow(realm), _narrow(password)))
    parts = [_md5(words), said[b"nonce"], said[b"cnonce"]]
    if said.get(b"authzid"):
        parts.append(said[b"authzid"])
    return _md5(b":".join(parts)).hex().encode()


def _response(said: Mapping[bytes, bytes], secret: bytes, purpose: bytes) -> bytes:
    end = _md5(purpose).hex().encode()
    words = (secret, said[b"nonce"], _FIRST_USE, said[b"cnonce"], b"auth", end)
    return _md5(b":".join(words)).hex().encode()


def _narrow(text: bytes) -> bytes:
    """UTF-8 as ISO 8859-1 if it can be written so, as the RFC wants it before hashing."""
    try:
        return text.decode().encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError):
        return text


def _md5(content: bytes) -> bytes:
    return md5(content, usedforsecurity=False).digest()
