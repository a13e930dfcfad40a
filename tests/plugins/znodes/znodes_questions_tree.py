"""Questions about the tree: nodes, rights, watches, several operations at once. See ``znodes_questions.py``."""

from __future__ import annotations

from typing import Any

import znodes_wire as wire
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Op
from znodes_asking import Answers, Dial, entry, int32, int64
from znodes_wire import create, path_only, path_version, path_watch, put, set_acl, several


def nodes(dial: Dial) -> Answers:
    """Section 5."""
    client = dial()
    client.mark()
    yield "ZK-5.1 create", client.ask(Op.CREATE, create(b"/n", b"abc"))
    yield "ZK-5.1 its Stat", client.stat(b"/n")
    yield "ZK-5.1 create again", client.ask(Op.CREATE, create(b"/n"))
    yield "ZK-5.1 create below nothing", client.ask(Op.CREATE, create(b"/nothing/n"))
    yield "ZK-5.2 setData", client.ask(Op.SET_DATA, put(b"/n", b"four", 0))
    yield "ZK-5.2 setACL", client.ask(Op.SET_ACL, set_acl(b"/n", wire.WORLD, 0))
    yield "ZK-5.5 setData of another version", client.ask(Op.SET_DATA, put(b"/n", b"", 0))
    yield "ZK-5.5 setData of version -2", client.ask(Op.SET_DATA, put(b"/n", b"", -2))
    yield "ZK-5.5 setACL of another version", client.ask(Op.SET_ACL, set_acl(b"/n", wire.WORLD, 0))
    yield "ZK-5.5 delete of another version", client.ask(Op.DELETE, path_version(b"/n", 5))
    for _ in range(3):
        yield "ZK-5.7 sequential", client.ask(Op.CREATE, create(b"/n/s-", b"", 2))
    yield "ZK-5.7 delete one", client.ask(Op.DELETE, path_version(b"/n/s-0000000001"))
    yield "ZK-5.3 Stat after three creates and a delete", client.stat(b"/n")
    yield "ZK-5.7 the next", client.ask(Op.CREATE, create(b"/n/s-", b"", 2))
    yield "ZK-5.7 any create counts", client.ask(Op.CREATE, create(b"/n/plain"))
    yield "ZK-5.7 the next but one", client.ask(Op.CREATE, create(b"/n/", b"", 2))
    yield "ZK-5.5 delete with children", client.ask(Op.DELETE, path_version(b"/n"))
    yield "ZK-5.5 delete with children, of another version", client.ask(Op.DELETE, path_version(b"/n", 77))
    yield "ZK-5.4 Stat then", client.stat(b"/n")
    yield "ZK-5.6 create with null", client.ask(Op.CREATE2, create(b"/null", None))
    yield "ZK-5.6 getData of it", client.ask(Op.GET_DATA, path_watch(b"/null"))
    yield "ZK-5.6 setData of null", client.ask(Op.SET_DATA, put(b"/n", None))
    yield "ZK-5.1 getChildren", client.ask(Op.GET_CHILDREN, path_watch(b"/n"))
    yield "ZK-5.1 getChildren2", client.ask(Op.GET_CHILDREN2, path_watch(b"/n/plain"))
    yield "ZK-5.1 getAllChildrenNumber", client.ask(Op.GET_ALL_CHILDREN_NUMBER, path_only(b"/n"))
    yield "ZK-5.1 getAllChildrenNumber of nothing", client.ask(Op.GET_ALL_CHILDREN_NUMBER, path_only(b"/nothing"))
    for root in (b"/", b""):
        yield f"ZK-5.1 getAllChildrenNumber of {root!r}", client.ask(Op.GET_ALL_CHILDREN_NUMBER, path_only(root))
    for flags in range(-1, 10):
        for op in (Op.CREATE, Op.CREATE2, Op.CREATE_CONTAINER):
            answer = client.ask(op, create(b"/n/%d-%d-" % (op, flags), b"", flags))
            kind = answer if isinstance(answer, str) else (answer["path"], answer["stat"]["ephemeral_owner"])
            yield f"ZK-3a {op.name.lower()} with flags {flags}", kind
    yield "ZK-6.4 createTTL where it is off", client.ask(Op.CREATE_TTL, wire.create_ttl(b"/n/t", 1000))
    yield "ZK-6.1 create below an ephemeral", client.ask(Op.CREATE, create(b"/n/1-1-/c"))
    yield "ZK-6.1 getEphemerals", client.ask(Op.GET_EPHEMERALS, path_only(b"/n/1"))
    for prefix in (b"", b"/", b"  ", b" /\0", "\u2003".encode()):
        found = client.ask(Op.GET_EPHEMERALS, path_only(prefix))
        yield f"ZK-6.1 getEphemerals of {prefix!r}", len(found) if isinstance(found, list) else found
    yield "ZK-6.1 getEphemerals of nothing", client.ask(Op.GET_EPHEMERALS, path_only(b"/nothing"))
    other = dial()
    yield "ZK-6.1 getEphemerals of somebody else", other.ask(Op.GET_EPHEMERALS, path_only(b"/"))
    yield "ZK-6.1 Stat to somebody else", other.stat(b"/n/1-1-")["ephemeral_owner"]
    yield "ZK-9.6 sync", client.ask(Op.SYNC, path_only(b"no path"))


def rights(dial: Dial) -> Answers:
    """Section 7."""
    client, digest = dial(), b"ann:pw"

    def made(path: bytes, *entries: dict[str, Any]) -> bytes:
        return jute.Create.build({"path": path, "data": b"v", "acl": {"value": list(entries)}, "flags": 0})

    tried = (
        (b"digest", b"a:b"), (b"digest", b":b"), (b"digest", b"a:"), (b"digest", b"a:b:"), (b"digest", b"a:b:c"),
        (b"digest", b"ab"), (b"digest", b""), (b"ip", b"1.2.3.4"), (b"ip", b"1.2.3.4/33"), (b"ip", b"1.2.3.4/32"),
        (b"ip", b"1.2.3.4/0"), (b"ip", b"1.2.3.4/-1"), (b"ip", b"1.2.3.4/255.0.0.0"), (b"ip", b"1.2.3"),
        (b"ip", b"1.2.3.4/"), (b"ip", b"localhost"), (b"ip", b"1.2.3.4/8/2"), (b"ip", b""), (b"ip", b"1.2.3.256"),
        (b"world", b"anyone"), (b"world", b"x"), (b"super", b""), (b"auth", b""), (b"auth", None), (None, b"x"),
        (b"nosuch", b"x"), (b"nosuch", None),
    )  # fmt: skip
    for number, (scheme, name) in enumerate(tried):
        answer = client.ask(Op.CREATE, made(b"/r%d" % number, entry(31, scheme, name)))
        yield f"ZK-7.3 create with {scheme!r} {name!r}", answer
    yield "ZK-7.3 an empty list", client.ask(Op.CREATE, made(b"/r"))
    yield "ZK-7.3 a null list", client.ask(Op.CREATE, path_only(b"/r") + int32(0) + int32(-1) + int32(0))
    twice = (entry(1, b"world", b"anyone"), entry(1, b"world", b"anyone"), entry(2, b"world", b"anyone"))
    yield "ZK-7.3 the same twice", client.ask(Op.CREATE, made(b"/twice", *twice))
    yield "ZK-7.3 is kept once", client.ask(Op.GET_ACL, path_only(b"/twice"))["acl"]
    for question, entries in (
        ("no right", [entry(0, b"world", b"anyone")]), ("its network", [entry(1, b"ip", b"127.0.0.0/8")]),
        ("seven bits", [entry(1, b"ip", b"126.0.0.0/7")]), ("no bit", [entry(1, b"ip", b"9.9.9.9/0")]),
        ("another network", [entry(31, b"ip", b"128.0.0.0/8")]),
    ):  # fmt: skip
        path = b"/" + question.replace(" ", "-").encode()
        client.call(Op.CREATE, made(path, *entries))
        yield f"ZK-7.4 getData with {question}", client.ask(Op.GET_DATA, path_watch(path)) == "NO_AUTH"

    def auth(scheme: bytes | None, secret: bytes | None) -> bytes:
        return jute.Auth.build({"type": 0, "scheme": scheme, "auth": secret})

    client.call(Op.AUTH, auth(b"digest", digest), -4)
    reply = client.call(Op.AUTH, auth(b"digest", digest), -4)
    yield "ZK-7.5 auth", reply
    yield "ZK-7.5 whoAmI", sorted(tuple(each.values()) for each in client.ask(Op.WHO_AM_I))
    for scheme, secret in ((b"nosuch", b"x"), (b"world", b"anyone"), (None, b"x"), (b"digest", None), (b"digest", b"")):
        stranger = dial()
        yield (
            f"ZK-7.5 auth with {scheme!r} {secret!r}",
            (stranger.call(Op.AUTH, auth(scheme, secret), -4), stranger.alive()),
        )
    stranger = dial()
    yield "ZK-7.5 auth with half a packet", (stranger.call(Op.AUTH, int32(0) + int32(9) + b"di", -4), stranger.alive())
    yield "ZK-7.3 create with auth", client.ask(Op.CREATE, made(b"/sec", entry(31, b"auth", b"ignored")))
    yield "ZK-7.3 is kept as", client.ask(Op.GET_ACL, path_only(b"/sec"))["acl"]
    yield "ZK-7.1 not inherited", client.ask(Op.CREATE, create(b"/sec/open"))
    read_only = [entry(1, b"world", b"anyone"), entry(31, b"digest", b"ann:WfN3XXEx+BcuwoiYKKGGCQOxSS0=")]
    client.call(Op.CREATE, made(b"/half", *read_only))
    for whose, asker in (("stranger's", dial()), ("owner's", client)):
        for op, body in (
            (Op.EXISTS, path_watch(b"/sec")), (Op.GET_DATA, path_watch(b"/sec")),
            (Op.GET_CHILDREN, path_watch(b"/sec")), (Op.GET_CHILDREN2, path_watch(b"/sec")),
            (Op.GET_ACL, path_only(b"/sec")), (Op.SET_DATA, put(b"/sec", b"")),
            (Op.SET_ACL, set_acl(b"/sec", wire.WORLD, 9)), (Op.CREATE, create(b"/sec/c")),
            (Op.DELETE, path_version(b"/sec/open")), (Op.GET_ALL_CHILDREN_NUMBER, path_only(b"/sec")),
            (Op.MULTI, several((Op.CHECK, path_version(b"/sec")))),
            (Op.MULTI_READ, several((Op.GET_DATA, path_watch(b"/sec")))),
        ):  # fmt: skip
            answer = asker.ask(op, body)
            if op in (Op.MULTI, Op.MULTI_READ):
                answer = answer[0]
            shown = answer if isinstance(answer, str) and answer.isupper() else "OK"
            yield f"ZK-7.2 {whose} {op.name.lower()}", shown
        yield f"ZK-7.2 {whose} getACL of what all may read", asker.ask(Op.GET_ACL, path_only(b"/half"))["acl"]
    yield "ZK-7.2 delete needs the right on the parent", dial().ask(Op.DELETE, path_version(b"/sec"))
    stranger = dial()
    stranger.call(Op.AUTH, auth(b"digest", b"\xff:pw"), -4)
    stranger.call(Op.CREATE, made(b"/strange", entry(31, b"auth", b""), entry(31, b"digest", b"\xfe:\xff")))
    yield "ZK-7.3 users that are no text", stranger.ask(Op.GET_ACL, path_only(b"/strange"))["acl"]


def watches(dial: Dial) -> Answers:
    """Section 8."""
    client, other = dial(), dial()

    def change(*steps: tuple[int, bytes]) -> list[tuple[str, str]]:
        for op, body in steps:
            reply = other.call(op, body)
            assert reply is not None
            assert not reply.err, (op, body, reply)
        return client.told()

    made, gone = (Op.CREATE, create(b"/w")), (Op.DELETE, path_version(b"/w"))
    written = (Op.SET_DATA, put(b"/w", b""))
    yield "ZK-8.1 getData of nothing, watching", client.ask(Op.GET_DATA, path_watch(b"/w", True))
    yield "ZK-8.1 sets no watch", change(made, gone)
    yield "ZK-8.1 exists of nothing, watching", client.ask(Op.EXISTS, path_watch(b"/w", True))
    yield "ZK-8.1 sets one, which fires once", change(made, written, gone)
    change(made)
    for op in (Op.GET_DATA, Op.GET_CHILDREN, Op.EXISTS):
        client.call(op, path_watch(b"/w", True))
    client.call(Op.GET_CHILDREN, path_watch(b"/", True))
    yield "ZK-8.2 delete of what is watched for data and children", change(gone)
    change(made)
    client.call(Op.GET_DATA, path_watch(b"/w", True))
    client.call(Op.EXISTS, path_watch(b"/w", True))
    yield "ZK-8.6 watched twice", change(written, written)
    client.call(Op.GET_CHILDREN2, path_watch(b"/w", True))
    yield "ZK-8 child watch, child created", change((Op.CREATE, create(b"/w/c")))
    yield (
        "ZK-8 data watch, setACL",
        (client.call(Op.GET_DATA, path_watch(b"/w", True)), change((Op.SET_ACL, set_acl(b"/w", wire.WORLD))))[1],
    )
    yield "ZK-8 data watch, child created", change((Op.CREATE, create(b"/w/d")))
    yield (
        "ZK-8.5 checkWatches of a data watch",
        [client.ask(Op.CHECK_WATCHES, path_only(b"/w") + int32(kind)) for kind in (1, 2, 3)],
    )
    yield "ZK-8.5 removeWatches of another kind", client.ask(Op.REMOVE_WATCHES, path_only(b"/w") + int32(1))
    yield "ZK-8.5 removeWatches of it", client.ask(Op.REMOVE_WATCHES, path_only(b"/w") + int32(2))
    yield "ZK-8.5 removeWatches again", client.ask(Op.REMOVE_WATCHES, path_only(b"/w") + int32(3))
    for kind in (0, 6, -1):
        yield f"ZK-8.5 removeWatches of kind {kind}", client.ask(Op.REMOVE_WATCHES, path_only(b"/w") + int32(kind))
    yield "ZK-8.5 nothing is left", change(written)
    for mode, name in ((0, "persistent"), (1, "recursive")):
        yield f"ZK-8.5 addWatch {name}", client.ask(Op.ADD_WATCH, path_only(b"/w") + int32(mode))
        yield f"ZK-8.5 addWatch {name} twice", client.ask(Op.ADD_WATCH, path_only(b"/w") + int32(mode))
        yield f"ZK-8 {name}, changes on the node", change(written, written)
        yield f"ZK-8 {name}, changes below", change(
            (Op.CREATE, create(b"/w/e")), (Op.SET_DATA, put(b"/w/e", b"1")), (Op.CREATE, create(b"/w/e/f")),
            (Op.DELETE, path_version(b"/w/e/f")), (Op.DELETE, path_version(b"/w/e")),
        )  # fmt: skip
        yield f"ZK-8.5 checkWatches below {name}", client.ask(Op.CHECK_WATCHES, path_only(b"/w/x") + int32(3))
        yield f"ZK-8.5 removeWatches {name}", client.ask(Op.REMOVE_WATCHES, path_only(b"/w") + int32(3))
        yield f"ZK-8.5 after removeWatches {name}", change(written)
        client.call(Op.ADD_WATCH, path_only(b"/w") + int32(mode))
        client.call(Op.GET_DATA, path_watch(b"/w", True))
        client.call(Op.GET_CHILDREN, path_watch(b"/w", True))
        below = (Op.CREATE, create(b"/w/g")), (Op.DELETE, path_version(b"/w/g"))
        yield f"ZK-8 {name} and others, fired once", change(written, *below)
        yield f"ZK-8 {name} is left when the others have fired", change(written, *below)
        client.call(Op.REMOVE_WATCHES, path_only(b"/w") + int32(3))
    yield "ZK-8.5 addWatch of mode 2", client.ask(Op.ADD_WATCH, path_only(b"/w") + int32(2))
    yield "ZK-8.5 addWatch of nothing", client.ask(Op.ADD_WATCH, path_only(b"/later") + int32(0))
    yield (
        "ZK-8 persistent where nothing was",
        change((Op.CREATE, create(b"/later")), (Op.DELETE, path_version(b"/later")), (Op.CREATE, create(b"/later"))),
    )
    client.call(Op.GET_DATA, path_watch(b"/later", True))
    moved = several(
        (Op.SET_DATA, put(b"/later", b"1")), (Op.SET_DATA, put(b"/later", b"2")), (Op.DELETE, path_version(b"/later"))
    )
    yield "ZK-8.3 a multi's events", change((Op.MULTI, moved))

    def rearm(zxid: int, *lists: list[bytes]) -> bytes:
        vectors = [int32(len(each)) + b"".join(path_only(path) for path in each) for each in lists]
        return int64(zxid) + b"".join(vectors)

    watcher = dial()
    watcher.call(Op.CREATE, create(b"/z"))
    zxid = watcher.zxid
    for op, body in ((Op.CREATE, create(b"/zz")), (Op.SET_DATA, put(b"/z", b"1")), (Op.CREATE, create(b"/z/c"))):
        watcher.call(op, body)
    lists = ([b"/z", b"/zz", b"/gone"], [b"/zz", b"/none"], [b"/z", b"/zz", b"/gone"])
    yield "ZK-8.4 setWatches", watcher.ask(Op.SET_WATCHES, rearm(zxid, *lists), -8)
    yield "ZK-8.4 tells what was missed", watcher.told()
    for op, body in ((Op.SET_DATA, put(b"/zz", b"2")), (Op.CREATE, create(b"/none")), (Op.CREATE, create(b"/zz/c"))):
        watcher.call(op, body)
    yield "ZK-8.4 arms the others", watcher.told()
    lists2 = ([b"/zz"], [b"/z/new"], [b"/zz"], [b"/z"], [b"/zz"])
    yield "ZK-8.4 setWatches2", watcher.ask(Op.SET_WATCHES2, rearm(zxid + 100, *lists2), -8)
    for op, body in (
        (Op.SET_DATA, put(b"/zz", b"3")), (Op.CREATE, create(b"/z/new")), (Op.CREATE, create(b"/zz/d")),
        (Op.SET_DATA, put(b"/zz/d", b"")), (Op.SET_DATA, put(b"/z", b"")),
    ):  # fmt: skip
        watcher.call(op, body)
    yield "ZK-8.4 arms persistent and recursive ones", watcher.told()


def multis(dial: Dial) -> Answers:
    """Section 9."""
    client = dial()
    client.call(Op.CREATE, create(b"/m", b"x"))
    client.mark()
    for question, steps in (
        ("of every kind", [
            (Op.CREATE, create(b"/m/a")), (Op.CREATE2, create(b"/m/b")),
            (Op.CREATE_CONTAINER, create(b"/m/box", b"", 4)), (Op.CHECK, path_version(b"/m", 0)),
            (Op.SET_DATA, put(b"/m", b"z", 0)), (Op.DELETE, path_version(b"/m/b", 0)),
            (Op.CREATE, create(b"/m/s-", b"", 2)), (Op.CREATE, create(b"/m/c", b"", 4)),
        ]),
        ("that sees its own steps", [
            (Op.CREATE, create(b"/m/t")), (Op.SET_DATA, put(b"/m/t", b"1")), (Op.CHECK, path_version(b"/m/t", 1)),
            (Op.CREATE, create(b"/m/t/u")), (Op.DELETE, path_version(b"/m/t/u")), (Op.DELETE, path_version(b"/m/t", 1)),
        ]),
        ("that fails in the middle", [
            (Op.CREATE, create(b"/m/v-", b"", 2)), (Op.SET_DATA, put(b"/m", b"no")),
            (Op.DELETE, path_version(b"/nope")), (Op.CREATE, create(b"/m/w")),
        ]),
        ("that fails in a check", [(Op.CHECK, path_version(b"/m", 9)), (Op.CREATE, create(b"/m/w"))]),
        ("with a bad path", [(Op.CREATE, create(b"/m/"))]),
        ("with bad flags", [(Op.CREATE, create(b"/m/w", b"", 9))]),
        ("with an empty list", [(Op.CREATE, path_only(b"/m/w") + int32(0) + int32(0) + int32(0))]),
        ("that deletes /zookeeper", [(Op.DELETE, path_version(b"/zookeeper"))]),
        ("that sets the configuration", [(Op.SET_DATA, put(b"/zookeeper/config", b""))]),
        ("with a container's flags and a time to live", [(Op.CREATE_TTL, wire.create_ttl(b"/m/d", 77, 4))]),
        ("of nothing", []),
    ):  # fmt: skip
        yield f"ZK-9.1 multi {question}", client.ask(Op.MULTI, several(*steps))
    yield "ZK-9.4 a failed multi gives its number back", client.ask(Op.CREATE, create(b"/m/s-", b"", 2))
    yield "ZK-9.3 a failed multi left nothing", client.stat(b"/m")
    for question, body in (
        ("of a read and a write", several((Op.GET_DATA, path_watch(b"/m")), (Op.CREATE, create(b"/m/w")))),
        ("of a write and a read", several((Op.CREATE, create(b"/m/w")), (Op.GET_DATA, path_watch(b"/m")))),
        ("of an unknown kind", several((99, b""))), ("of a setACL", several((Op.SET_ACL, set_acl(b"/m", wire.WORLD)))),
        ("of an exists", several((Op.EXISTS, path_watch(b"/m")))), ("in a multi", several((Op.MULTI, several()))),
        ("without an end", several((Op.DELETE, path_version(b"/m")))[:-9]), ("of nothing at all", b""),
        ("with bytes behind its end", several() + b"junk"), ("whose end has a kind", b"\0\0\0\1\1\xff\xff\xff\xff"),
        ("whose end is a 7", b"\xff\xff\xff\xff\7\xff\xff\xff\xff"),
    ):  # fmt: skip
        yield f"ZK-9.2 multi {question}", client.ask(Op.MULTI, body)
    reads = [
        (Op.GET_DATA, path_watch(b"/m")),
        (Op.GET_CHILDREN, path_watch(b"/m")),
        (Op.GET_DATA, path_watch(b"/nope")),
    ]
    found = client.ask(Op.MULTI_READ, several(*reads, (Op.GET_CHILDREN, path_watch(b"/m/a"))))
    yield "ZK-9.5 multiRead", found
    watching = several((Op.GET_DATA, path_watch(b"/m/a", True)), (Op.GET_CHILDREN, path_watch(b"/m/a", True)))
    client.call(Op.MULTI_READ, watching)
    client.call(Op.SET_DATA, put(b"/m/a", b""))
    yield "ZK-9.5 multiRead sets no watch", client.told()
    for question, body in (
        ("of nothing", several()), ("of an exists", several((Op.EXISTS, path_watch(b"/m")))),
        ("of a getChildren2", several((Op.GET_CHILDREN2, path_watch(b"/m")))),
        ("in a multiRead", several((Op.MULTI_READ, several()))),
        ("cut short", several((Op.GET_DATA, path_watch(b"/m")))[:-9]),
    ):  # fmt: skip
        yield f"ZK-9.5 multiRead {question}", client.ask(Op.MULTI_READ, body)
    strings = int32(-1) * 3
    yield "ZK-9.7 reconfig where it is off", client.ask(Op.RECONFIG, strings + int64(-1))
