"""SASL DIGEST-MD5, the server's side."""

from __future__ import annotations

import random
from collections.abc import Mapping
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.plugins.znodes import sasl
from quorate.plugins.znodes.sasl import Exchange, Refused

USERS = {b"chris": b"secret", "j\u00fcrgen".encode(): "\u00fc\u20ac".encode()}
NONCE = b"OA6MG9tEQGm2hh"


def answer(
    user: bytes = b"chris", password: bytes = b"secret", uri: bytes = sasl.URI, **changed: bytes | None
) -> bytes:
    """A client's answer for the service at `uri`, with directives left out (None) or changed after it was computed."""
    said = {
        "username": user,
        "realm": sasl.REALM,
        "nonce": NONCE,
        "cnonce": b"OA6MHXh6VqTrRk",
        "nc": b"00000001",
        "qop": b"auth",
        "digest-uri": uri,
        "charset": b"utf-8",
    }
    said["response"] = expected(said, password, b"AUTHENTICATE:")
    said |= {name.replace("_", "-"): value for name, value in changed.items()}  # type: ignore[dict-item]
    return b",".join(b'%s="%s"' % (name.encode(), value) for name, value in said.items() if value is not None)


def expected(said: Mapping[str, bytes], password: bytes, purpose: bytes) -> bytes:
    """The RFC's formula, written once more and straight on."""

    def h(*parts: bytes) -> bytes:
        return md5(b":".join(parts)).digest()

    words = [each.decode() for each in (said["username"], said["realm"], password)]
    first = h(*(each.encode("latin-1" if max(each, default="a") < "\u0100" else "utf-8") for each in words))
    a1 = h(first, said["nonce"], said["cnonce"]).hex().encode()
    a2 = md5(purpose + said["digest-uri"]).hexdigest().encode()
    return h(a1, said["nonce"], said["nc"], said["cnonce"], said["qop"], a2).hex().encode()


def test_the_example_of_the_rfc() -> None:
    """RFC 2831, section 4: the client's proof and the server's."""
    said = {b"realm": b"elwood.innosoft.com", b"nonce": NONCE, b"cnonce": b"OA6MHXh6VqTrRk"}
    secret = sasl._secret(said, b"chris", b"secret")
    uri = b"imap/elwood.innosoft.com"
    assert sasl._response(said, secret, b"AUTHENTICATE:" + uri) == b"d388dad90d4bbd760a152321f2143af7"
    assert sasl._response(said, secret, b":" + uri) == b"ea40f60335c427b5527b84dbabcdfffd"


@pytest.mark.parametrize(("user", "password"), USERS.items())
def test_who_knows_the_password_is_let_in(user: bytes, password: bytes) -> None:
    """Challenge, answer, proof of the server; text beyond ASCII is hashed as the RFC says."""
    exchange = Exchange(USERS, NONCE)
    challenge = sasl.directives(exchange.step(b""))
    assert (challenge[b"nonce"], challenge[b"realm"], challenge[b"qop"]) == (NONCE, b"zk-sasl-md5", b"auth")
    assert (challenge[b"algorithm"], challenge[b"charset"]) == (b"md5-sess", b"utf-8")
    assert exchange.user is None
    token = answer(user, password)
    said = {name.decode(): value for name, value in sasl.directives(token).items()}
    assert exchange.step(token) == b"rspauth=" + expected(said, password, b":")
    assert exchange.user == user
    with pytest.raises(Refused, match="over"):
        exchange.step(token)


@pytest.mark.parametrize(
    "token",
    [
        answer(password=b"Secret"),
        answer(user=b"nobody"),
        answer(nonce=b"another"),
        answer(nonce=None),
        answer(nc=b"00000002"),
        answer(qop=b"auth-conf"),
        answer(realm=b"elsewhere"),
        answer(authzid=b"super"),
        answer(cnonce=None),
        answer(cnonce=b""),
        answer(uri=b"imap/zk-sasl-md5"),
        answer(uri=b"zookeeper/elsewhere"),
        answer(digest_uri=None),
        answer(response=None),
        answer(response=b""),
        answer(charset=b"latin-1"),
        answer(username=None),
        answer() + b',username="chris"',
        answer() + b",,",
        answer() + b',x="open',
        b"",
        b"=",
        b'"' * 5000,
    ],
)
def test_everybody_else_is_not(token: bytes) -> None:
    """A wrong, missing, doubled or replayed directive proves nothing."""
    exchange = Exchange(USERS, NONCE)
    exchange.step(b"")
    with pytest.raises(Refused):
        exchange.step(token)
    assert exchange.user is None


def test_an_answer_before_the_challenge_is_none() -> None:
    """Nobody can answer what was not asked: it is asked, as in the original."""
    exchange = Exchange(USERS, NONCE)
    assert exchange.step(answer()) == Exchange(USERS, NONCE).step(b"")
    assert exchange.user is None


def test_directives() -> None:
    """Tokens, quoted text with escapes, spaces anywhere between."""
    assert sasl.directives(rb' A = b , c="d,\"e\\" ,F=""') == {b"a": b"b", b"c": b'd,"e\\', b"f": b""}


@given(st.binary(max_size=80), st.randoms(use_true_random=False))
def test_nothing_that_is_sent_breaks_it(noise: bytes, chance: random.Random) -> None:
    """Any bytes, alone or in the middle of a right answer, are refused or understood, never an error of ours."""
    exchange = Exchange(USERS, NONCE)
    exchange.step(b"")
    right = answer()
    at = chance.randrange(len(right))
    for token in (noise, right[:at] + noise + right[at + chance.randrange(20) :]):
        try:
            exchange.step(token)
        except Refused:
            assert exchange.user is None
        else:
            break
