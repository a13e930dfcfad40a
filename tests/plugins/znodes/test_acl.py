"""Access control lists: what a client's list becomes, and what a list grants."""

from __future__ import annotations

import pytest
from quorate.plugins.znodes import acl
from quorate.plugins.znodes.acl import OPEN, Entry
from quorate.plugins.znodes.protocol import Err, Fault, Right

HERE = (b"ip", b"10.1.2.3")
ANN = acl.digest_identity(b"ann:secret")


def listed(*items: tuple[int, bytes | None, bytes | None]) -> bytes:
    return acl.packed(Entry(*item) for item in items)


def test_digest_is_the_originals() -> None:
    """user:password becomes what the original makes of it (the value is from a running ZooKeeper)."""
    assert acl.digest_identity(b"u:p") == (b"digest", b"u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")


def test_bytes_that_are_no_text() -> None:
    """What is not UTF-8 is read as in the original (the digest is a running one's): other clients are shown it, who
    could not read it otherwise (ZK-1.5)."""
    proved = acl.digest_identity(b"\xff:pw")
    assert proved == (b"digest", "\ufffd:WzWS3Ogd1jZiLDTZOdDvuVYHXi8=".encode())
    assert acl.settled(listed((1, b"digest", b"\xff:\xfe")), ()) == listed((1, b"digest", "\ufffd:\ufffd".encode()))
    assert acl.settled(listed((1, b"auth", b"")), (proved,)) == listed((1, *proved))
    assert acl.digest_identity("\xe9:pw".encode()) == (b"digest", "\xe9:RipmMfCvNMnljS9k9ci+DY4X2CM=".encode())


def test_open_list_is_one_object() -> None:
    """Identity tells the open list apart, however it came in."""
    assert acl.settled(bytes(bytearray(OPEN)), ()) is OPEN
    assert acl.settled(listed((31, b"world", b"anyone"), (31, b"world", b"anyone")), ()) is OPEN


def test_auth_becomes_what_was_proved() -> None:
    """Scheme auth stands for the client's proofs; an address is none."""
    assert acl.entries(acl.settled(listed((3, b"auth", b"")), (HERE, ANN))) == (Entry(3, *ANN),)
    with pytest.raises(Fault) as refused:
        acl.settled(listed((3, b"auth", b"")), (HERE,))
    assert refused.value.err == Err.INVALID_ACL


@pytest.mark.parametrize(
    "entry",
    [
        (1, b"nosuch", b"x"), (1, b"world", b"someone"), (1, b"digest", b"nocolon"), (1, b"digest", b"a:b:c"),
        (1, b"digest", b"a:"), (1, b"digest", b"::"), (1, b"digest", b""), (1, b"super", b""), (1, b"nosuch", None),
        (1, b"ip", b"10.0.0.0/99"), (1, b"ip", b"here"), (1, None, b"x"), (1, b"ip", None), (1, b"ip", b"1.2.3"),
        (1, b"ip", b"1.2.3.4/"), (1, b"ip", b"1.2.3.4/-1"), (1, b"ip", b"1.2.3.4/255.0.0.0"), (1, b"ip", b""),
        (1, b"ip", b"1.2.3.4/8/2"), (1, b"ip", b"1.2.3.4 "), (1, b"ip", b"1.2.3.256"), (1, b"ip", b"fe80::1/129"),
    ],
)  # fmt: skip
def test_invalid_entries(entry: tuple[int, bytes | None, bytes | None]) -> None:
    """An unknown scheme or an impossible id is refused (ZK-7.3, ZK-7.4)."""
    with pytest.raises(Fault):
        acl.settled(listed(entry), (HERE,))


@pytest.mark.parametrize(
    "entry",
    [
        (31, b"digest", b"a:b"), (31, b"digest", b":b"), (31, b"digest", b"a:b:"), (0, b"ip", b"1.2.3.4/32"),
        (64, b"ip", b"1.2.3.4/0"), (1, b"ip", b"::1"), (1, b"ip", b"fe80::/10"), (31, b"world", b"anyone"),
    ],
)  # fmt: skip
def test_valid_entries(entry: tuple[int, bytes, bytes]) -> None:
    """What the original takes is kept as it is, odd digests and rights included; addresses may be IPv6 as in its later
    releases (ZK-7.4)."""
    assert acl.entries(acl.settled(listed(entry), (HERE,))) == (Entry(*entry),)


def test_empty_and_null_lists_are_refused() -> None:
    """There is no node without a list."""
    for empty in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        with pytest.raises(Fault):
            acl.settled(empty, ())


def test_lists_are_bounded() -> None:
    """A list that is longer than one may be is refused, whether it was sent so or what "auth" stands for makes it so;
    every one that is kept is remembered with its outcomes."""
    most = listed(*[(perms, b"digest", b"a:b") for perms in range((acl.LIST_MAX - 4) // 21)])
    assert acl.settled(most, ()) == most
    users = tuple(acl.digest_identity(b"user%d:pw" % each) for each in range(100))
    assert len(acl.entries(acl.settled(listed((31, b"auth", b"")), users))) == 100
    for sent in (
        listed(*[(perms, b"digest", b"a:b") for perms in range(acl.LIST_MAX // 21 + 1)]),
        listed((1, b"auth", b""), (2, b"auth", b"")),
        listed(*[(perms, b"auth", b"") for perms in range(acl.LIST_MAX // 16)]),
    ):
        with pytest.raises(Fault) as refused:
            acl.settled(sent, users)
        assert refused.value.err == Err.INVALID_ACL
    before = acl.permits.cache_info().hits
    assert not acl.permits(most, Right.READ, (HERE,))
    assert not acl.permits(most, Right.READ, (HERE,))
    assert acl.permits.cache_info().hits == before + 1


def test_rights() -> None:
    """A list grants by world, by proof, by address and by network, bit by bit; super may everything."""
    mine = listed((1, b"world", b"anyone"), (2, *ANN), (4, b"ip", b"10.1.2.3"), (8, b"ip", b"10.1.0.0/16"))
    stranger = (b"ip", b"192.168.0.1")
    assert acl.permits(mine, Right.READ, (stranger,))
    assert not acl.permits(mine, Right.WRITE, (stranger,))
    assert acl.permits(mine, Right.WRITE, (stranger, ANN))
    assert acl.permits(mine, Right.CREATE, (HERE,))
    assert not acl.permits(mine, Right.CREATE, ((b"ip", b"10.1.2.4"),))
    assert acl.permits(mine, Right.DELETE, ((b"ip", b"10.1.2.4"),))
    assert acl.permits(mine, Right.READ | Right.ADMIN, (stranger,))
    assert not acl.permits(mine, Right.ADMIN, (HERE, ANN))
    assert acl.permits(mine, Right.ADMIN, (HERE, acl.SUPER))
    assert acl.permits(listed((1, b"ip", b"fe80::/10")), Right.READ, ((b"ip", b"fe80::1"),))
    assert acl.permits(listed((1, b"ip", b"0.0.0.0/0")), Right.READ, (stranger,))
    assert acl.permits(listed((1, b"ip", b"193.0.0.1/7")), Right.READ, (stranger,))
    assert not acl.permits(listed((1, b"ip", b"::/0")), Right.READ, (stranger,))


def test_users_and_certificates() -> None:
    """Names of users and of certificates grant to whom they name; the user "super" counts as every user, as in the
    original; names that no user can have are refused."""
    mine = listed((1, b"sasl", b"ann"), (2, b"x509", b"CN=ann,O=here"))
    assert acl.settled(mine, ()) == mine
    assert acl.permits(mine, Right.READ, ((b"sasl", b"ann"),))
    assert acl.permits(mine, Right.READ, ((b"sasl", b"super"),))
    assert not acl.permits(mine, Right.READ, ((b"sasl", b"bob"), (b"x509", b"ann")))
    assert acl.permits(mine, Right.WRITE, ((b"x509", b"CN=ann,O=here"),))
    assert not acl.permits(mine, Right.WRITE, ((b"sasl", b"super"),))
    for name in (b"ann/host@REALM", b"ann@REALM", b""):
        acl.settled(listed((1, b"sasl", name)), ())
    for entry in ((1, b"sasl", b"a@b@c"), (1, b"sasl", b"a/b/c@d"), (1, b"x509", b"")):
        with pytest.raises(Fault):
            acl.settled(listed(entry), ())


def test_hashes_are_masked() -> None:
    """Without the ADMIN right one sees who, not the hash."""
    shown = acl.entries(acl.masked(listed((31, *ANN), (1, b"world", b"anyone"))))
    assert shown == (Entry(31, b"digest", b"ann:x"), Entry(1, b"world", b"anyone"))
