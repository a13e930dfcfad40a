"""Questions about the corners of the protocol, asked by a raw client of whatever listens on a port.

``znodes_questions.py PORT`` prints one line a question: the number of the rule, the question, the answer
(docs/explanation/zookeeper-protocol.rst says which rule that is).
``zookeeper-3.8.0.txt`` was recorded from Debian's ZooKeeper 3.8.0: standalone, with ``tickTime=500``,
``4lw.commands.whitelist=*``, everything else as it comes. Here: connections, frames, paths, expiry, words; the tree
is in ``znodes_questions_tree.py``."""

from __future__ import annotations

import contextlib
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import znodes_questions_tree as tree
import znodes_wire as wire
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Err, Op
from znodes_asking import Answers, Client, Dial, int32, int64
from znodes_wire import create, path_only, path_version, path_watch, put, set_acl, several

LENGTH_MAX = 0xFFFFF


def handshake(dial: Dial) -> Answers:
    """Section 2."""
    yield "ZK-2.1 response to a request with the read-only byte", len(dial().response or b"")
    fields = struct.pack(">iqiq", 0, 0, 4000, 0)
    password = int32(16) + bytes(16)
    yield "ZK-2.1 response to one without", len(dial(request=fields + password).response or b"")
    for timeout in (1, -5, 4321, 10**8):
        yield f"ZK-2.2 time-out of {timeout} ms", dial(timeout=timeout).timeout
    yield "ZK-2.3 a client from the future", dial(last_zxid=1 << 40).response
    yield "ZK-2.3 a client from before all time", dial(last_zxid=-1).session != 0
    first = dial()
    first.call(Op.CREATE, create(b"/mine", b"", 1))
    again = dial(session=first.session, password=first.password)
    yield "ZK-2.4 attach again", (again.session == first.session, again.password == first.password, again.timeout)
    yield "ZK-2.4 the older connection then", first.frame()
    yield "ZK-2.4 its ephemeral node then", again.stat(b"/mine") != "NO_NODE"
    again = dial(session=first.session, password=first.password, timeout=5000)
    yield "ZK-2.4 attach again, asking for another time-out", again.timeout
    for question, said in (
        ("a wrong password", {"session": again.session, "password": b"x" * 16}),
        ("no such session", {"session": 12345}),
        ("session -1", {"session": -1}),
    ):
        client = dial(**said)
        yield f"ZK-2.4 attach with {question}", (client.timeout, client.session, set(client.password), client.frame())
    for question, request in (
        ("empty", b""), ("without a password field", fields), ("with a password longer than it", fields + int32(100)),
    ):  # fmt: skip
        yield f"ZK-1.4 connect request {question}", dial(request=request).response
    for question, request in (
        ("with a null password", fields + int32(-1) + b"\0"), ("with a short password", fields + int32(3) + b"abc\0"),
        ("of protocol 7", struct.pack(">iqiq", 7, 0, 4000, 0) + password), ("and more", fields + password + b"\0junk"),
    ):  # fmt: skip
        yield f"ZK-2.1 connect request {question}", dial(request=request).session != 0


def frames(dial: Dial) -> Answers:
    """Section 1."""
    for length in (-1, 0x7FFFFFFF, LENGTH_MAX + 1):
        yield f"ZK-1.1 first length {length}", dial(first=int32(length)).frame()
    for length in (-1, 0, LENGTH_MAX + 1):
        client = dial()
        client.sock.sendall(int32(length) + b"\0\0\0\1\0\0\0\4")
        yield f"ZK-1.1 request of {length} bytes", client.frame()
    client = dial()
    client.sock.sendall(int32(4) + int32(1))
    yield "ZK-1.4 request of half a header", client.frame()
    room = LENGTH_MAX - len(create(b"/big")) - 8
    client = dial()
    yield "ZK-1.1 the largest request", client.ask(Op.CREATE, create(b"/big", bytes(room)))
    yield "ZK-5.8 its size", client.stat(b"/big")["length"] == room
    yield "ZK-1.1 one byte more", client.ask(Op.CREATE, create(b"/bigger", bytes(room + 1)))
    client = dial()
    client.call(Op.CREATE, create(b"/f"))
    plain = [
        op
        for op in jute.REQUESTS
        if op not in {Op.PING, Op.CHECK, Op.AUTH, Op.SASL, Op.RECONFIG, Op.WHO_AM_I, Op.CLOSE_SESSION}
    ]
    for op in plain:
        name = op.name.lower()
        for question, body in (
            ("nothing", b""),
            ("length -7", int32(-7)),
            ("a length beyond its end", int32(100) + b"/f"),
        ):
            yield f"ZK-1.3 {name} with {question}", client.ask(op, body)
    for op in (Op.CREATE, Op.DELETE, Op.EXISTS, Op.GET_DATA, Op.GET_ACL, Op.GET_CHILDREN, Op.GET_CHILDREN2):
        yield f"ZK-1.5 {op.name.lower()} of a null path", client.ask(op, int32(-1) + bytes(16))
    yield "ZK-1.2 a bool of 2 as the watch", client.ask(Op.EXISTS, path_only(b"/f") + b"\2") != "OK"
    client.call(Op.SET_DATA, put(b"/f", b"2"))
    yield "ZK-1.2 is true", client.told()
    yield "ZK-1.4 bytes behind a record", client.ask(Op.GET_CHILDREN, path_watch(b"/f") + b"junk")
    vector = path_only(b"/v") + int32(0)
    yield "ZK-1.2 create with a vector of -2", client.ask(Op.CREATE, vector + int32(-2) + int32(0))
    yield "ZK-1.2 create with a vector of far too many", client.ask(Op.CREATE, vector + int32(1 << 27) + int32(0))
    yield "ZK-1.2 create with data of -2 bytes", client.ask(Op.CREATE, path_only(b"/v") + int32(-2) + bytes(16))
    yield "ZK-1.4 the connection after all that", client.alive()


def headers(dial: Dial) -> Answers:
    """Section 3."""
    client = dial()
    client.call(Op.CREATE, create(b"/h", b"0"))
    xids = (77, 77, 5, 0, -2, -4, -8, 2**31 - 1, -(2**31))
    for xid in xids:
        client.send(Op.GET_DATA, path_watch(b"/h"), xid)
    yield (
        "ZK-3.1 xids come back whatever they are",
        [reply.xid for _ in xids if (reply := client.reply())] == list(xids),
    )
    yield "ZK-3.1 a ping's is always", [reply.xid for xid in (-2, 5) if (reply := client.call(Op.PING, b"", xid))]
    for number in range(200):
        client.send(Op.SET_DATA, put(b"/h", b"%d" % number))
        client.send(Op.GET_DATA, path_watch(b"/h"))
    replies = [client.reply() for _ in range(400)]
    yield "ZK-3.2 400 pipelined in order", [reply.xid for reply in replies if reply] == list(range(1, 402))[-400:]
    values = [jute.GetDataReply.parse(reply.body).data for reply in replies[1::2] if reply]
    yield "ZK-3.2 each read sees the write before it", values == [b"%d" % number for number in range(200)]
    client.mark()
    for question, op, body in (
        ("a read", Op.EXISTS, path_watch(b"/h")), ("a failed create", Op.CREATE, create(b"/h")),
        ("a failed delete", Op.DELETE, path_version(b"/none")), ("a failed setData", Op.SET_DATA, put(b"/h", b"", 7)),
        ("a malformed setData", Op.SET_DATA, b""),
        ("a multi that fails", Op.MULTI, several((Op.CREATE, create(b"/h")))),
        ("a malformed multi", Op.MULTI, b""), ("an empty multi", Op.MULTI, wire.MULTI_END),
        ("a setData", Op.SET_DATA, put(b"/h", b"")), ("a setACL", Op.SET_ACL, set_acl(b"/h", wire.WORLD)),
        ("a sync", Op.SYNC, path_only(b"/h")), ("a failed read", Op.GET_DATA, path_watch(b"/none")),
    ):  # fmt: skip
        client.call(op, body)
        yield f"ZK-3.4 zxid after {question}", f"+{client.zxid - client.base}"
    client.mark()
    dial()
    client.call(Op.PING, xid=-2)
    yield "ZK-3.4 zxid after a session was opened", f"+{client.zxid - client.base}"
    for op in (0, 10, 23, 50, 99, 108, 1000, -100):
        stranger = dial()
        reply = stranger.call(op)
        yield f"ZK-3.3 operation {op}", reply and (reply.zxid, Err(reply.err).name, reply.body, stranger.frame())
    yield "ZK-3.5 closeSession", client.ask(Op.CLOSE_SESSION)
    yield "ZK-3.5 then", client.frame()


PATHS = (
    b"", b"a", b"a/b", b"/", b"//", b"/p", b"/p/", b"/p//x", b"/p/./x", b"/p/.", b"/p/../x", b"/p/..", b"/p/...",
    b"/p/.x", b"/p/\0", b"/\0/x", b"/p/\x01", b"/p/\x1f", b"/p/ ", b"/p/\x7f", "/p/\x80".encode(), "/p/\x9f".encode(),
    "/p/\xa0".encode(), "/p/\u2028".encode(), "/p/\ud7ff".encode(), "/p/\ue000".encode(), "/p/\uf8ff".encode(),
    "/p/\uf900".encode(), "/p/\uffef".encode(), "/p/\ufff0".encode(), "/p/\ufffd".encode(), "/p/\U0001f600".encode(),
    b"/p/\xff", b"/p/\xc0\x80", b"/p/\xed\xa0\x80", b"/p/\xf0\x9f\x98", b"/q/x", b"/q/../x", b"/q/\x01", b"/q/",
    b"/zookeeper", b"/zookeeper/quota", b"/zookeeper/config", b"/zookeeper/x", b"/zookeeper/config/x",
    b"/zookeeper/quota/x",
)  # fmt: skip


def paths(dial: Dial) -> Answers:
    """Section 4."""
    client = dial()
    client.call(Op.CREATE, create(b"/p"))
    client.call(Op.CREATE, create(b"/p/here"))

    def short(answer: object) -> object:
        return answer if isinstance(answer, str) and answer.isupper() else "OK"

    for path in PATHS:
        asked = (
            (Op.DELETE, path_version(path, 99)), (Op.CREATE, create(path)), (Op.EXISTS, path_watch(path)),
            (Op.GET_DATA, path_watch(path)), (Op.SET_DATA, put(path, b"")), (Op.SET_ACL, set_acl(path, wire.WORLD, 99)),
            (Op.GET_CHILDREN, path_watch(path)), (Op.DELETE, path_version(path)),
        )  # fmt: skip
        yield (
            f"ZK-4.1 {ascii(path)[2:-1]!r}",
            " ".join(f"{op.name.lower()}:{short(client.ask(op, body))}" for op, body in asked),
        )
    yield "ZK-4.3 setData of the configuration", client.ask(Op.SET_DATA, put(b"/zookeeper/config", b""))
    yield "ZK-4.3 getACL of it", client.ask(Op.GET_ACL, path_only(b"/zookeeper/config"))


def expiry(dial: Dial) -> Answers:
    """Section 10, with real time."""
    client, quiet = dial(), dial(timeout=1000)
    quiet.call(Op.CREATE, create(b"/quiet", b"", 1))
    quiet.call(Op.CREATE, create(b"/quieter", b"", 1))
    began = time.monotonic()
    client.call(Op.EXISTS, path_watch(b"/quiet", True))
    client.call(Op.EXISTS, path_watch(b"/quieter", True))
    while not client.events and time.monotonic() - began < 10:
        time.sleep(0.02)
        client.call(Op.PING, xid=-2)
    waited = time.monotonic() - began
    yield "ZK-10.1 a session of 1000 ms is not ended early", waited > 0.95
    yield "ZK-10.1 nor much later", waited < 8.0
    yield "ZK-6.1 its nodes go together", sorted(client.told())
    yield "ZK-10.2 its connection", quiet.frame()
    again = dial(session=quiet.session, password=quiet.password)
    yield "ZK-10.4 the client learns of it when it comes again", (again.session, again.timeout)


def words(dial: Dial) -> Answers:
    """Section 12."""

    def ask(word: bytes) -> str:
        return dial(first=word).rest().decode()

    client = dial()
    client.call(Op.EXISTS, path_watch(b"/watched", True))
    client.call(Op.CREATE, create(b"/temporary", b"", 1))
    for word in ("ruok", "isro", "crst", "srst", "nope", "RUOK"):
        yield f"ZK-12.2 {word}", ask(word.encode())
    yield "ZK-12.1 ruok and more", ask(b"ruokxxxx")
    yield "ZK-12.3 srvr", [line.partition(":")[0] for line in ask(b"srvr").splitlines()]
    yield "ZK-12.3 stat", [line.partition(":")[0] for line in ask(b"stat").splitlines() if not line.startswith(" /")]
    values = dict(line.split("\t") for line in ask(b"mntr").splitlines() if "\t" in line)
    yield "ZK-12.4 mntr", sorted(
        key for key in values
        if key.removeprefix("zk_") in {
            "version", "server_state", "avg_latency", "max_latency", "min_latency", "packets_received", "packets_sent",
            "num_alive_connections", "outstanding_requests", "znode_count", "watch_count", "ephemerals_count",
            "approximate_data_size", "open_file_descriptor_count", "max_file_descriptor_count", "followers", "learners",
            "synced_followers", "pending_syncs", "global_sessions", "local_sessions", "uptime", "connection_drop_count",
            "auth_failed_count", "peer_state", "connection_rejected", "sessionless_connections_expired",
        }
    )  # fmt: skip
    yield "ZK-12.4 server_state", values["zk_server_state"]
    yield "ZK-12.2 wchs", ask(b"wchs")
    yield "ZK-12.2 wchp", ask(b"wchp").replace(f"{client.session:x}", "ID")
    yield "ZK-12.2 wchc", ask(b"wchc").replace(f"{client.session:x}", "ID")
    yield "ZK-12.2 conf", [line.partition("=")[0] for line in ask(b"conf").splitlines()]
    yield "ZK-12.2 dirs", [line.partition(":")[0] for line in ask(b"dirs").splitlines()]
    yield "ZK-12.2 envi", [line.partition("=")[0] for line in ask(b"envi").splitlines() if not line.startswith("java")]
    dumped = ask(b"dump").splitlines()
    yield (
        "ZK-12.2 dump",
        [
            line.partition("(")[0].strip()
            for line in dumped
            if line.endswith(":") and "0x" not in line and "expire" not in line
        ],
    )
    yield "ZK-12.2 dump names the owner", [line for line in dumped if "/temporary" in line]
    mine = next((line for line in ask(b"cons").splitlines() if f"{client.session:x}" in line), "")
    yield "ZK-12.2 cons", [part.partition("=")[0] for part in mine.partition("(")[2].split(",")]
    yield "ZK-12.2 gtmk", ask(b"gtmk")
    yield "ZK-12.2 stmk", ask(b"stmk" + int64(306))


SECTIONS = (
    handshake, frames, headers, paths, tree.nodes, tree.rights, tree.watches, tree.multis, expiry, words
)  # fmt: skip


def leave(port: int, client: Client) -> None:
    """End a client and its session, if need be over another connection: one that expired later would take a
    transaction number from the questions after it."""
    client.sock.close()
    if client.session:
        again = Client(port, session=client.session, password=client.password)
        if again.session:
            again.call(Op.CLOSE_SESSION)
        again.sock.close()


def transcript(port: int) -> Iterator[str]:
    """Every question and its answer, a line each."""
    for section in SECTIONS:
        with contextlib.ExitStack() as opened:

            def dial(opened: contextlib.ExitStack = opened, **said: Any) -> Client:
                client = Client(port, **said)
                opened.callback(leave, port, client)
                return client

            yield from (f"{question}: {answer!r}" for question, answer in section(dial))


if __name__ == "__main__":
    for line in transcript(int(sys.argv[1])):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
