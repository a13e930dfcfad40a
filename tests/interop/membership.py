"""What clients hear around /zookeeper/config and reconfig, comparable between a real ZooKeeper and a cell.

Addresses differ and are left out, and so are transaction numbers: the original takes a configuration's number from
them, and ours may write down a text on its own. Not asked for is what is known to differ
(docs/decisions/0011-which-zookeeper.rst): a participant that is not there, so that only observers come and go; a change
that changes nothing; and cut requests, behind which 3.8.0 never answers that session again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from comparing import SYNC, Comparison, Talk
from quorate.plugins.znodes import jute
from quorate.plugins.znodes.protocol import Op
from reference.asking import WORLD, Ask

CONFIG = b"/zookeeper/config"
SUPER = Ask(Op.AUTH, jute.Auth.build({"type": 0, "scheme": b"digest", "auth": b"super:test"}))
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
OBSERVER = b"server.9=127.0.0.1:29001:29002:observer;127.0.0.1:29003"
MOVED = OBSERVER.replace(b"29003", b"29004")


def reconfig(
    joining: bytes | None = None, leaving: bytes | None = None, members: bytes | None = None, version: int = -1
) -> Ask:
    """A request to change who is in the cell."""
    values = {"joining": joining, "leaving": leaving, "members": members, "version": version}
    return Ask(Op.RECONFIG, jute.Reconfig.build(values))


def _get(watch: bool = False) -> Ask:
    return Ask(Op.GET_DATA, jute.PathWatch.build({"path": CONFIG, "watch": watch}))


def questions() -> Iterator[tuple[str, Ask]]:
    """Who of the clients asks, and what: the `ruler` is the super user, the `other` nobody in particular."""
    put = Ask(Op.SET_DATA, jute.SetData.build({"path": CONFIG, "data": b"x", "version": -1}))
    lists = Ask(Op.SET_ACL, jute.SetAcl.build({"path": CONFIG, "acl": {"value": WORLD}, "version": -1}))
    below = {"path": CONFIG + b"/x", "data": b"", "acl": {"value": WORLD}, "flags": 0}
    for who in ("other", "ruler"):
        yield who, _get()
        yield who, Ask(Op.GET_ACL, jute.PathOnly.build({"path": CONFIG}))
        yield who, Ask(Op.DELETE, jute.PathVersion.build({"path": CONFIG, "version": -1}))
        for wrong in (b"some thing", b"server.9=127.0.0.1", b"server.x=127.0.0.1:1:2;3", b"server.9=127.0.0.1:a:b;c"):
            yield who, reconfig(joining=wrong)
        yield who, reconfig(joining=OBSERVER, version=77)
        yield who, reconfig(leaving=b"x")
        yield who, reconfig(members=OBSERVER)
        yield who, reconfig(leaving=b"1,2,3")
    yield "other", put
    yield "other", lists
    yield "other", Ask(Op.CREATE, jute.Create.build(below))
    yield "other", reconfig(joining=OBSERVER)
    yield "other", reconfig(leaving=b"9")
    for change in (
        reconfig(joining=OBSERVER), reconfig(joining=MOVED), reconfig(leaving=b"9"),
        reconfig(joining=OBSERVER, leaving=b"9"), reconfig(leaving=b"9, 77"),
    ):  # fmt: skip
        yield "other", _get(watch=True)
        yield "ruler", change
        yield "other", SYNC
        yield "ruler", _get()


def conversation(server: Comparison) -> list[str]:
    """Everything that is heard, a line each."""
    ruler, other, _ = server.talks()
    heard: list[str] = []
    talks: dict[str, Talk] = {"ruler": ruler, "other": other}
    try:
        for name, talk in talks.items():
            talk.connect()
            heard += (f"{name}: {line}" for line in server.exchange(talk, [SYNC]))
        heard += server.exchange(ruler, [SUPER])
        for name, ask in questions():
            heard += (f"{name}: {without_addresses(line)}" for line in server.exchange(talks[name], [ask]))
    finally:
        for talk in talks.values():
            talk.leave()
    return heard


def without_addresses(line: str) -> str:
    """What is comparable of a line."""
    asked, arrow, answer = line.rpartition(" -> ")
    answer = re.sub(r"server\.[1-8]=[^\\]*(\\n|(?='))", "", answer)
    answer = re.sub(r"version=[0-9a-f]+|zxid -?\d+|base[+-]\d+|'(version|length)': -?\d+", "N", answer)
    return asked + arrow + answer
