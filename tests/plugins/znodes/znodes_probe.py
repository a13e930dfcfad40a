"""A raw client's hundred questions, with answers as they came: numbers, bytes, Python's way to write them.

``znodes_probe.py PORT`` asks whatever listens there and prints what is in ``zkprobe-3.8.0.txt``: the answers of
Debian's ZooKeeper 3.8.0, standalone, with ``tickTime=500``, every four-letter word allowed and no time to live of
nodes. That transcript was taken independently of ``zookeeper-3.8.0.txt``, whose questions (``znodes_questions.py``) go
further and have their answers in words."""

from __future__ import annotations

import contextlib
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Event, Op
from znodes_asking import Answers, Client, Dial, entry, int32, int64
from znodes_wire import create, create_ttl, path_only, path_version, path_watch, put, set_acl, several

WORDS = (
    "ruok", "isro", "srvr", "stat", "mntr", "cons", "dump", "conf", "wchs", "wchp", "wchc", "dirs", "crst", "srst",
    "envi", "hash", "gtmk",
)  # fmt: skip
SHOWN_MAX = 1500
"""Characters of a word's answer that are shown."""
CONNECTED = 3


def shown(reply: wire.Reply | None) -> tuple[int, int, int, bytes] | None:
    """A reply as a plain tuple; None: the connection was closed instead."""
    return reply and tuple(reply)


def answer(client: Client, op: int, body: bytes = b"", xid: int | None = None) -> object:
    """A request's whole reply."""
    try:
        return shown(client.call(op, body, xid))
    except TimeoutError:
        return "timeout"


def error(client: Client, op: int, body: bytes = b"") -> int | None:
    """A request's error code."""
    reply = client.call(op, body)
    return reply and reply.err


def read(client: Client, op: int, body: bytes = b"") -> bytes:
    """What a reply brings."""
    reply = client.call(op, body)
    assert reply is not None
    return reply.body


def stat(client: Client, op: int, body: bytes) -> dict[str, int]:
    """The Stat at the end of a reply."""
    return jute.Stat.parse(read(client, op, body)[-jute.Stat.sizeof() :])


def told(client: Client) -> list[tuple[int, int, str, int]]:
    """The notifications that have come."""
    return [(Event[kind.upper()].value, CONNECTED, path, -1) for kind, path in client.told()]


def connecting(dial: Dial, client: Client) -> Answers:
    """What connect requests are answered with."""
    response = (client.response or b"")[4:]
    facts = (len(response), "proto", int.from_bytes(response[:4], "big"), "timeout", client.timeout)
    yield "connect response", (*facts, "pwlen", len(client.password), "tail", response[36:])
    old = dial(request=struct.pack(">iqiq", 0, 0, 4000, 0) + int32(16) + bytes(16))
    yield "connect without readOnly byte -> tail", (old.response or b"")[40:]
    yield "timeout 1 ms negotiated", dial(timeout=1).timeout
    yield "timeout 10^8 negotiated", dial(timeout=10**8).timeout
    yield "ping", answer(client, Op.PING, xid=-2)


def nodes(dial: Dial, client: Client) -> Answers:
    """Nodes come, change and go."""
    yield "create /a", answer(client, Op.CREATE, create(b"/a", b"x"))
    yield "create /a again", answer(client, Op.CREATE, create(b"/a", b"x"))
    yield "create /no/b", answer(client, Op.CREATE, create(b"/no/b"))
    yield "create2 /s err", error(client, Op.CREATE2, create(b"/s"))
    for _ in range(3):
        yield "seq", read(client, Op.CREATE, create(b"/s/q-", b"", 2))[4:]
    client.call(Op.DELETE, path_version(b"/s/q-0000000001"))
    found = stat(client, Op.EXISTS, path_watch(b"/s"))
    kept = {"version": found["version"], "cversion": found["cversion"], "numChildren": found["children"]}
    yield "stat /s after 3 creates 1 delete", kept
    yield "seq after delete", read(client, Op.CREATE, create(b"/s/q-", b"", 2))[4:]
    yield "setData bad version", answer(client, Op.SET_DATA, put(b"/a", b"y", 7))
    yield "setData -1", stat(client, Op.SET_DATA, put(b"/a", b"y"))["version"]
    yield "delete non-empty", error(client, Op.DELETE, path_version(b"/s"))
    under = (error(client, Op.CREATE, create(b"/e", b"", 1)), error(client, Op.CREATE, create(b"/e/c")))
    yield "ephemeral child", under
    yield "getData missing with watch", error(client, Op.GET_DATA, path_watch(b"/zz", True))
    yield "exists missing with watch", error(client, Op.EXISTS, path_watch(b"/zz", True))
    client.call(Op.CREATE, create(b"/zz"))
    yield "events after create /zz", told(client)
    client.call(Op.GET_DATA, path_watch(b"/zz", True))
    client.call(Op.GET_CHILDREN, path_watch(b"/zz", True))
    client.call(Op.GET_CHILDREN, path_watch(b"/", True))
    client.call(Op.DELETE, path_version(b"/zz"))
    yield "delete with data+child watch and parent child watch", told(client)


def multis(dial: Dial, client: Client) -> Answers:
    """Several requests as one, and what else is rarely asked."""
    steps = (
        (Op.CREATE, create(b"/m1")), (Op.CHECK, path_version(b"/a", 1)), (Op.SET_DATA, put(b"/a", b"z")),
        (Op.DELETE, path_version(b"/m1")),
    )  # fmt: skip
    reply = client.call(Op.MULTI, several(*steps))
    yield "multi ok", reply and (reply.err, reply.body.hex()[:80])
    steps = (Op.CREATE, create(b"/m2")), (Op.DELETE, path_version(b"/nope")), (Op.CREATE, create(b"/m3"))
    reply = client.call(Op.MULTI, several(*steps))
    assert reply is not None
    yield "multi failing: header err", (reply.xid, reply.err)
    each = [(op, err, int.from_bytes(body, "big", signed=True)) for op, err, body in wire.results(reply.body)]
    yield "multi failing: results", each
    yield "/m2 absent after failed multi", error(client, Op.EXISTS, path_watch(b"/m2"))
    reads = (
        (Op.GET_DATA, path_watch(b"/a")), (Op.GET_CHILDREN, path_watch(b"/s")), (Op.GET_DATA, path_watch(b"/none"))
    )  # fmt: skip
    reply = client.call(Op.MULTI_READ, several(*reads))
    yield "multiRead", reply and (reply.err, reply.body[-22:].hex())
    reply = client.call(Op.SYNC, path_only(b"/"))
    yield "sync", reply and (reply.err, reply.body)
    mine = stat(client, Op.CREATE2, create(b"/s/w-", b"abc", 3))["ephemeral_owner"] == client.session
    yield "create2 sequential", mine
    yield "container", error(client, Op.CREATE_CONTAINER, create(b"/cont", b"", 4))
    owner = stat(client, Op.EXISTS, path_watch(b"/cont"))["ephemeral_owner"]
    yield "container ephemeralOwner seen by client", owner
    yield "ttl disabled", error(client, Op.CREATE_TTL, create_ttl(b"/ttl", 1000))


def watches(dial: Dial, client: Client) -> Answers:
    """Watches that stay."""
    yield "addWatch recursive /s", answer(client, Op.ADD_WATCH, path_only(b"/s") + int32(1))
    client.call(Op.CREATE, create(b"/s/x"))
    client.call(Op.CREATE, create(b"/s/x/y"))
    client.call(Op.SET_DATA, put(b"/s/x/y", b"1"))
    client.call(Op.DELETE, path_version(b"/s/x/y"))
    yield "recursive events", told(client)
    yield "addWatch persistent /a", error(client, Op.ADD_WATCH, path_only(b"/a") + int32(0))
    client.call(Op.SET_DATA, put(b"/a", b"1"))
    client.call(Op.CREATE, create(b"/a/k"))
    client.call(Op.DELETE, path_version(b"/a/k"))
    yield "persistent events", told(client)
    yield "removeWatches none there", error(client, Op.REMOVE_WATCHES, path_only(b"/none") + int32(3))
    yield "removeWatches Any /a", error(client, Op.REMOVE_WATCHES, path_only(b"/a") + int32(3))
    yield "checkWatches /s any", error(client, Op.CHECK_WATCHES, path_only(b"/s") + int32(3))


def rights(dial: Dial, client: Client) -> Answers:
    """Who may."""

    def proof(scheme: bytes, credentials: bytes) -> bytes:
        return jute.Auth.build({"type": 0, "scheme": scheme, "auth": credentials})

    yield "auth digest ok", answer(client, Op.AUTH, proof(b"digest", b"u:p"), -4)
    other = dial()
    yield "auth bad scheme", answer(other, Op.AUTH, proof(b"nosuch", b"u"), -4)
    yield "  then", other.frame()
    mine = [entry(31, b"auth", b"")]
    yield "create with auth ACL", error(client, Op.CREATE, create(b"/sec", acl=mine))
    yield "getACL", read(client, Op.GET_ACL, path_only(b"/sec"))[:60]
    stranger = dial()
    yield "getData without right", error(stranger, Op.GET_DATA, path_watch(b"/sec"))
    yield "getACL by stranger", error(stranger, Op.GET_ACL, path_only(b"/sec"))
    yield "exists by stranger", error(stranger, Op.EXISTS, path_watch(b"/sec"))
    gone = error(stranger, Op.DELETE, path_version(b"/sec"))
    yield "delete /sec by stranger (right is on the PARENT)", gone
    yield "bad acl", error(client, Op.CREATE, path_only(b"/badacl") + int32(0) + int32(0) + int32(0))


def paths(dial: Dial, client: Client) -> Answers:
    """Paths, and values that are null."""
    yield "null data create", error(client, Op.CREATE, create(b"/nul", None))
    yield "null data read len", struct.unpack_from(">i", read(client, Op.GET_DATA, path_watch(b"/nul")))
    for path in ("a", "/a/", "//a", "/a/../b", "/a/.", "/\x01", "/zookeeper/x", ""):
        yield f"create {path!r}", error(client, Op.CREATE, create(path.encode()))
    yield "delete /zookeeper", error(client, Op.DELETE, path_version(b"/zookeeper"))
    yield "setData /zookeeper/config", error(client, Op.SET_DATA, put(b"/zookeeper/config", b""))
    yield "getEphemerals", read(client, Op.GET_EPHEMERALS, path_only(b"/"))
    yield "getAllChildrenNumber /s", read(client, Op.GET_ALL_CHILDREN_NUMBER, path_only(b"/s"))
    yield "whoAmI", read(client, Op.WHO_AM_I)


def corners(dial: Dial, client: Client) -> Answers:
    """Requests that no library sends."""
    yield "check alone", answer(dial(), Op.CHECK, path_version(b"/a"))
    other = dial()
    yield "unknown op 99", answer(other, 99)
    yield "  connection after unknown op", answer(other, Op.PING, xid=-2)
    other = dial()
    yield "truncated body", answer(other, Op.GET_DATA, int32(16) + b"/x")
    yield "  connection after truncated body", answer(other, Op.PING, xid=-2)
    yield "trailing junk after a good body", error(dial(), Op.EXISTS, path_watch(b"/a") + b"junk")
    other = dial()
    other.sock.sendall(int32(4) + int32(1))
    yield "4-byte request (header cut)", shown(other.reply())
    other = dial()
    yield "negative string length", answer(other, Op.EXISTS, int32(-7) + b"\0")
    yield "null path", answer(other, Op.EXISTS, int32(-1) + b"\0")
    yield "bool byte 2", error(dial(), Op.EXISTS, path_only(b"/a") + b"\2")
    reply = dial().call(Op.CREATE, create(b"/\xff\xfe"))
    yield "path not utf-8", reply and reply[2:]
    for path, size in ((b"/big", 1_048_500), (b"/big2", 1_000_000)):
        yield f"create with {size} bytes", error(dial(), Op.CREATE, create(path, bytes(size)))
    other = dial()
    for xid in (77, 77, 5):
        other.send(Op.GET_DATA, path_watch(b"/a"), xid)
    yield "xids may repeat and go back", [reply and reply.xid for reply in (other.reply() for _ in range(3))]
    other = dial()
    for number in range(200):
        other.send(Op.SET_DATA, put(b"/a", b"%d" % number))
    came = [reply.xid for reply in (other.reply() for _ in range(200)) if reply]
    yield "200 pipelined answers in order", came == list(range(1, 201))
    other = dial()
    reply = other.call(Op.CREATE, create(b"/f9", b"", 9))
    yield "create flags 9", reply and reply[2:]
    mixed = several((Op.GET_DATA, path_watch(b"/a")), (Op.CREATE, create(b"/mm")))
    yield "multi mixing read and write", answer(other, Op.MULTI, mixed)
    other = dial()
    yield "empty multi", answer(other, Op.MULTI, several())
    yield "delete root", error(other, Op.DELETE, path_version(b"/"))
    yield "setACL version wrong", error(other, Op.SET_ACL, set_acl(b"/a", wire.WORLD, 5))
    yield "setACL ok", stat(other, Op.SET_ACL, set_acl(b"/a", wire.WORLD))["aversion"]


def sessions(dial: Dial, client: Client) -> Answers:
    """Sessions move, come back and end."""
    before = dial()
    before.call(Op.CREATE, create(b"/mv", b"", 1))
    after = dial(session=before.session, password=before.password)
    yield "re-attach", (after.session == before.session, after.timeout)
    yield "old connection", before.frame()
    yield "ephemeral still there", error(after, Op.EXISTS, path_watch(b"/mv"))
    yield "re-attach wrong password", (dial(session=after.session, password=b"x" * 16).session,)
    yield "unknown session", (dial(session=12345, password=b"x" * 16).session,)
    yield "client zxid ahead", dial(last_zxid=1 << 40).response
    before = dial()
    before.call(Op.GET_DATA, path_watch(b"/a", True))
    client.call(Op.SET_DATA, put(b"/a", b"2"))
    again = dial(session=before.session, password=before.password)
    kinds = (b"/a", b"/mv", b"/gone")  # one whose data, one whose coming, one whose children were watched
    listed = int64(before.zxid) + b"".join(int32(1) + path_only(path) for path in kinds)
    yield "setWatches reply", answer(again, Op.SET_WATCHES, listed, -8)
    yield "setWatches events", told(again)
    yield "closeSession", answer(again, Op.CLOSE_SESSION)
    yield "  then", again.frame()


def expiry(dial: Dial, client: Client) -> Answers:
    """A client falls silent."""
    silent = dial(timeout=1000)
    yield "session of 1000 ms got", silent.timeout
    silent.call(Op.CREATE, create(b"/exp", b"", 1))
    began = time.monotonic()
    while error(client, Op.EXISTS, path_watch(b"/exp")) == 0 and time.monotonic() < began + 60:
        time.sleep(0.05)
    yield "ephemeral of silent client gone after s", round(time.monotonic() - began, 2)
    yield "  its connection", silent.frame()
    yield "re-attach expired", dial(session=silent.session, password=silent.password).session


def lengths(dial: Dial, client: Client) -> Answers:
    """What begins with nonsense."""

    def first(said: bytes, patience: float) -> bytes | str:
        other = dial(first=said)
        other.sock.settimeout(patience)
        try:
            return other.sock.recv(10)
        except TimeoutError as late:
            return repr(late)

    for said in (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"):
        yield f"length {said.hex()}", first(said, 30)
    yield "half a connect frame, 2 s", first(int32(20) + bytes(3), 2)


def words(dial: Dial, client: Client) -> Answers:
    """The four-letter words."""
    for word in WORDS:
        yield word, "\n" + dial(first=word.encode()).rest().decode()[:SHOWN_MAX]


SECTIONS = (
    connecting, nodes, multis, watches, rights, paths, corners, sessions, expiry, lengths, words
)  # fmt: skip
AS_TEXT = ("half a connect frame, 2 s", *WORDS)
"""Questions whose answers are text, and shown as they are."""


def transcript(port: int) -> Iterator[tuple[str, str]]:
    """Every question and its answer."""
    with contextlib.ExitStack() as opened:

        def dial(timeout: int = 4000, **said: object) -> Client:
            client = Client(port, timeout=timeout, **said)
            opened.callback(client.sock.close)
            return client

        client = dial()
        for section in SECTIONS:
            for question, found in section(dial, client):
                yield question, found if question in AS_TEXT else repr(found)


if __name__ == "__main__":
    for question, found in transcript(int(sys.argv[1])):
        sys.stdout.write(f"{question}: {found}\n")
        sys.stdout.flush()
