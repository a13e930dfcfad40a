"""The machine, one thing after the other; as a whole it is held against the reference in test_reference.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.kernel.machine import Origin, SessionId
from quorate.plugins.znodes import chunks, jute
from quorate.plugins.znodes import machine as machine_module
from quorate.plugins.znodes.acl import digest_identity
from quorate.plugins.znodes.machine import SWEEP_MS, UNUSED_MS, ZnodesMachine
from quorate.plugins.znodes.protocol import Err, Event, Mode, Op
from znodes_wire import Bench, create, digest_from_scratch, frame, path_version, put, reply, results, several


def test_sequence_numbers_count_creates_only() -> None:
    """A deletion does not give a number back, a failed multi does (ZOOKEEPER-1624), and the counter wraps as 32 bits
    do (ZK-5.7, ZK-9.4)."""
    bench = Bench()
    s = bench.open(1)
    bench.call(s, Op.CREATE, create(b"/q"))
    names = [bench.call(s, Op.CREATE, create(b"/q/n-", b"", 2)).body[4:] for _ in range(2)]
    assert names == [b"/q/n-0000000000", b"/q/n-0000000001"]
    bench.call(s, Op.DELETE, path_version(names[1]))
    failed = bench.call(
        s, Op.MULTI, several((Op.CREATE, create(b"/q/n-", b"", 2)), (Op.DELETE, path_version(b"/none")))
    )
    assert failed.err == 0
    assert bench.call(s, Op.CREATE, create(b"/q/n-", b"", 2)).body[4:] == b"/q/n-0000000002"
    bench.machine.tree.nodes[b"/q"].creates = 2**31 - 1
    assert bench.call(s, Op.CREATE, create(b"/q/n-", b"", 2)).body[4:] == b"/q/n-2147483647"
    assert bench.call(s, Op.CREATE, create(b"/q/n-", b"", 2)).body[4:] == b"/q/n--2147483648"


def test_failing_multi_is_answered_as_the_original_does() -> None:
    """Zeros before the culprit, its code, RUNTIME_INCONSISTENCY behind; no error in the head (ZK-9.3)."""
    bench = Bench()
    s = bench.open(1)
    bench.call(s, Op.CREATE, create(b"/keep", b"x"))
    body = several(
        (Op.CREATE, create(b"/m")),
        (Op.SET_DATA, put(b"/keep", b"y")),
        (Op.DELETE, path_version(b"/nope")),
        (Op.CREATE, create(b"/n")),
    )
    before = bench.machine.digest()
    found = bench.call(s, Op.MULTI, body)
    assert found.err == 0
    assert [(kind, err) for kind, err, _ in results(found.body)] == [(-1, 0), (-1, 0), (-1, -101), (-1, -2)]
    bench.machine.zxid -= 1
    assert bench.machine.digest() == before


def test_multi_sees_its_own_steps_and_shares_one_zxid() -> None:
    """Later steps see earlier ones; all carry the same transaction number; results have the original's shapes (a
    create2 counts as a create there) (ZK-9.2)."""
    bench = Bench()
    s = bench.open(1)
    body = several(
        (Op.CREATE2, create(b"/m", b"1")),
        (Op.CREATE, create(b"/m/c", b"", 3)),
        (Op.CHECK, path_version(b"/m", 0)),
        (Op.SET_DATA, put(b"/m", b"2", 0)),
        (Op.CREATE_CONTAINER, create(b"/box", b"", 4)),
        (Op.DELETE, path_version(b"/m/c0000000000")),
    )
    found = bench.call(s, Op.MULTI, body)
    assert [kind for kind, _, _ in results(found.body)] == [1, 1, 13, 5, 15, 2]
    stat = bench.stat(b"/m")
    assert {stat["czxid"], stat["mzxid"], stat["pzxid"]} == {found.zxid}
    assert not bench.machine.tree.ephemerals


@pytest.mark.parametrize(
    "body",
    [
        several((Op.GET_DATA, wire.path_watch(b"/")), (Op.CREATE, create(b"/x"))),
        several((Op.CREATE, create(b"/x")))[:-12],
        several((Op.CREATE, create(b"/x")), (Op.DELETE, b"\xff\xff\xff\xff\0\0\0\0")),
        b"",
    ],
)
def test_malformed_multi_changes_nothing(body: bytes) -> None:
    """Reads among writes, a cut list and a null path: MARSHALLING_ERROR before anything is done."""
    bench = Bench()
    s = bench.open(1)
    assert bench.call(s, Op.MULTI, body).err == Err.MARSHALLING_ERROR
    assert b"/x" not in bench.machine.tree.nodes
    assert bench.machine.zxid == 2


def test_sessions_are_checked() -> None:
    """A session attached elsewhere is told so, one that is gone as well; neither changes anything (ZK-2.5)."""
    bench = Bench()
    s = bench.open(1)
    moved = bench.chunk((s, frame(5, Op.CREATE, create(b"/x"))), origin=Origin(2, 1))
    assert reply(moved[0])[:3] == (5, 1, Err.SESSION_MOVED)
    bench.sessions[SessionId(s)] = Origin(1, 2)
    assert reply(bench.chunk((s, frame(5, Op.CREATE, create(b"/x"))))[0]).err == Err.SESSION_MOVED
    assert bench.call(99, Op.CREATE, create(b"/x")).err == Err.SESSION_EXPIRED
    assert b"/x" not in bench.machine.tree.nodes


def test_close_within_a_chunk() -> None:
    """closeSession removes the ephemerals in one transaction at once, refuses what follows, and the kernel's later
    word changes nothing (ZK-6.1, ZK-6.2)."""
    bench = Bench()
    s, other = bench.open(1), bench.open(2)
    for path in (b"/e1", b"/e2"):
        bench.call(s, Op.CREATE, create(path, b"", Mode.EPHEMERAL))
    answers = bench.chunk(
        (s, frame(1, Op.CLOSE_SESSION) + frame(2, Op.CREATE, create(b"/late"))),
        (other, frame(1, Op.CREATE, create(b"/e1", b"", Mode.EPHEMERAL))),
        (s, frame(3, Op.CREATE, create(b"/later"))),
    )
    assert [reply(each).err for each in answers] == [0, -112, 0, -112]
    assert [reply(each).zxid for each in answers] == [5, 5, 6, 6]
    assert bench.machine.zxid == 6
    assert s not in bench.sessions
    assert bench.stat(b"/e1")["ephemeral_owner"] == other
    assert b"/e2" not in bench.machine.tree.nodes


def test_sessions_of_other_faces_do_not_count() -> None:
    """Only sessions of this face consume transaction numbers and may write here."""
    bench = Bench()
    bench.open(5, face="native")
    assert bench.machine.zxid == 0
    assert bench.call(5, Op.CREATE, create(b"/x")).err == Err.SESSION_EXPIRED
    bench.end(5)
    assert bench.machine.zxid == 0


def test_containers_go_when_emptied() -> None:
    """A container lives until it has had children and has none; one never used goes after a while; what is occupied
    stays (ZK-6.3)."""
    bench = Bench()
    s = bench.open(1)
    for path in (b"/used", b"/unused", b"/full"):
        assert bench.call(s, Op.CREATE_CONTAINER, create(path, b"", Mode.CONTAINER)).err == 0
    for path in (b"/used/c", b"/full/c"):
        bench.call(s, Op.CREATE, create(path))
    bench.pass_time(SWEEP_MS)
    assert b"/used" in bench.machine.tree.nodes
    bench.call(s, Op.DELETE, path_version(b"/used/c"))
    zxid = bench.machine.zxid
    bench.pass_time(SWEEP_MS)
    nodes = bench.machine.tree.nodes
    assert b"/used" not in nodes
    assert {b"/unused", b"/full"} <= nodes.keys()
    assert bench.machine.zxid == zxid + 1
    assert bench.stat(b"/full")["ephemeral_owner"] == 0
    bench.pass_time(UNUSED_MS)
    assert b"/unused" not in nodes
    assert b"/full" in nodes


def test_sweeps_are_alike_everywhere() -> None:
    """What is swept is decided where the timer is applied, from what is replicated: a replica that came by a snapshot
    in between deletes the same, in the same order, with the same transaction numbers (ZK-6.5)."""
    bench = Bench()
    s = bench.open(1)
    for number in (3, 1, 2):
        bench.call(s, Op.CREATE_CONTAINER, create(b"/k%d" % number, b"", Mode.CONTAINER))
        bench.call(s, Op.CREATE, create(b"/k%d/c" % number))
        bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/t%d" % number, 1000 * number))
    for number in (1, 2):
        bench.call(s, Op.DELETE, path_version(b"/k%d/c" % number))
    twin = Bench()
    twin.machine.restore_chunks(bench.machine.snapshot_chunks(), 1)
    twin.timers, twin.time, twin.wall, twin.sessions = dict(bench.timers), bench.time, bench.wall, dict(bench.sessions)
    seen: tuple[list[bytes], list[bytes]] = ([], [])
    for each, paths in ((bench, seen[0]), (twin, seen[1])):
        each.machine.observer = lambda event, path, *lists, paths=paths: paths.append(path)
        each.pass_time(2 * SWEEP_MS)
    assert seen[0] == seen[1]
    assert set(seen[0]) == {b"/k1", b"/k2", b"/t1", b"/t2", b"/t3"}
    assert twin.machine.zxid == bench.machine.zxid
    assert twin.machine.digest() == bench.machine.digest()


def test_long_lists_are_swept_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep looks at so many nodes and the next, a second later, goes on behind them, on a restored replica as well;
    after the last the time until the next is the shortest that any of them found."""
    monkeypatch.setattr(machine_module, "SWEEP_SCAN", 4)
    bench = Bench()
    s = bench.open(1)
    for number in range(10):
        ttl = 5000 if number in (1, 6, 9) else 7000 if number == 5 else 10**6
        bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/t%d" % number, ttl))

    def there() -> str:
        return "".join(str(number) for number in range(10) if b"/t%d" % number in bench.machine.tree.nodes)

    bench.pass_time(5100)
    assert there() == "023456789"
    assert bench.machine.sweep_from == 3
    restored = ZnodesMachine()
    restored.restore_chunks(bench.machine.snapshot_chunks(), 1)
    bench.machine = restored
    bench.pass_time(1000)
    assert there() == "02345789"
    bench.pass_time(1000)
    assert there() == "0234578"
    bench.pass_time(1000)
    assert there() == "0234578"
    bench.pass_time(1000)
    assert there() == "023478"
    assert bench.machine.sweep_from == 0


def test_a_container_is_what_the_operation_says() -> None:
    """createContainer makes one whatever its flags, which only number it; inside a multi the flags decide (ZK-6.3)."""
    bench = Bench()
    s = bench.open(1)
    made = []
    for flags in (0, 1, 2, 3, 4):
        found = bench.call(s, Op.CREATE_CONTAINER, create(b"/k%d-" % flags, b"", flags))
        made.append(jute.Create2Reply.parse(found.body).path)
    assert made == [b"/k0-", b"/k1-", b"/k2-0000000002", b"/k3-0000000003", b"/k4-"]
    bench.call(s, Op.MULTI, several((Op.CREATE_CONTAINER, create(b"/p", b"", 0)), (Op.CREATE, create(b"/m", b"", 4))))
    assert list(bench.machine.tree.fleeting) == [*made, b"/m"]
    assert not bench.machine.tree.ephemerals
    assert bench.call(s, Op.CREATE_CONTAINER, create(b"/k", b"", 9)).err == Err.BAD_ARGUMENTS


def test_time_to_live() -> None:
    """A node goes when it did not change for its time and has no child; a change renews it; without the option there
    are none (ZK-6.4)."""
    bench = Bench()
    s = bench.open(1)
    assert bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/t", 5000)).err == 0
    assert (
        bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/n-", 5000, Mode.TTL_SEQUENTIAL)).body[4:18]
        == b"/n-0000000001\0"
    )
    bench.pass_time(4000)
    bench.call(s, Op.SET_DATA, put(b"/t", b"again"))
    bench.pass_time(2500)
    assert b"/t" in bench.machine.tree.nodes
    assert b"/n-0000000001" not in bench.machine.tree.nodes
    bench.pass_time(5000)
    assert b"/t" not in bench.machine.tree.nodes
    assert not bench.timers
    bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/above", 5000))
    bench.call(s, Op.CREATE, create(b"/above/child"))
    bench.pass_time(SWEEP_MS)
    assert b"/above" in bench.machine.tree.nodes
    bench.call(s, Op.DELETE, path_version(b"/above/child"))
    bench.pass_time(SWEEP_MS)
    assert b"/above" not in bench.machine.tree.nodes
    for bad in (0, -1, 2**40):
        assert bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/t", bad)).err == Err.BAD_ARGUMENTS
    bench.allow = chunks.Allow.NOTHING
    assert bench.call(s, Op.CREATE_TTL, wire.create_ttl(b"/t", 5000)).err == Err.UNIMPLEMENTED
    for flags, err in ((Mode.TTL, Err.UNIMPLEMENTED), (7, Err.BAD_ARGUMENTS), (-1, Err.BAD_ARGUMENTS)):
        assert bench.call(s, Op.CREATE, create(b"/t", b"", flags)).err == err


def test_rights_travel_with_the_command() -> None:
    """A list is enforced by the identities in the chunk; deleting needs the right on the parent (ZK-7.2)."""
    bench = Bench()
    s = bench.open(1)
    ann = (*wire.HERE, digest_identity(b"ann:pw"))
    mine = [{"perms": 31, "scheme": b"auth", "id": b""}]
    assert bench.call(s, Op.CREATE, create(b"/m", b"", 0, mine)).err == Err.INVALID_ACL
    assert bench.call(s, Op.CREATE, create(b"/m", b"", 0, mine), who=ann).err == 0
    assert bench.call(s, Op.SET_DATA, put(b"/m", b"1")).err == Err.NO_AUTH
    assert bench.call(s, Op.CREATE, create(b"/m/c")).err == Err.NO_AUTH
    assert bench.call(s, Op.SET_ACL, wire.set_acl(b"/m", wire.WORLD)).err == Err.NO_AUTH
    assert bench.call(s, Op.CHECK, path_version(b"/m")).err == Err.NO_AUTH
    assert bench.call(s, Op.CREATE, create(b"/m/c"), who=ann).err == 0
    assert bench.call(s, Op.DELETE, path_version(b"/m/c")).err == Err.NO_AUTH
    assert bench.call(s, Op.SET_ACL, wire.set_acl(b"/m", wire.WORLD, 0), who=ann).err == 0
    assert bench.call(s, Op.SET_ACL, wire.set_acl(b"/m", wire.WORLD, 0), who=ann).err == Err.BAD_VERSION
    assert bench.stat(b"/m")["aversion"] == 1
    assert bench.machine.digest() == digest_from_scratch(bench.machine)


@pytest.mark.parametrize(
    ("op", "body", "err"),
    [
        (Op.CREATE, create(b""), -8), (Op.CREATE, create(b"a"), -8), (Op.CREATE, create(b"/a/"), -101),
        (Op.CREATE, create(b"/p/"), -8), (Op.CREATE, create(b"//a"), -8), (Op.CREATE, create(b"/a/../b"), -101),
        (Op.CREATE, create(b"/p/."), -8), (Op.CREATE, create(b"/\1"), -8), (Op.CREATE, create(b"/\xff\xfe"), -8),
        (Op.CREATE, create(b"/f", b"", 9), -8), (Op.CREATE, create(b"/"), -110), (Op.CREATE, create(b"/p"), -110),
        (Op.CREATE, create(b"/\0/x"), -8), (Op.DELETE, path_version(b"/"), -8),
        (Op.DELETE, path_version(b"/zookeeper"), -8), (Op.DELETE, path_version(b"x"), -8),
        (Op.DELETE, path_version(b"/none"), -101), (Op.DELETE, path_version(b"/p", 3), -103),
        (Op.SET_DATA, put(b"/p/", b""), -8), (Op.SET_DATA, put(b"/none", b""), -101),
        (Op.SET_DATA, put(b"/p", b"", 9), -103), (Op.SET_DATA, put(b"", b""), -8),
        (Op.SET_ACL, wire.set_acl(b"", wire.WORLD), -8), (Op.CHECK, path_version(b""), -8),
        (Op.SET_DATA, put(b"/zookeeper/config", b""), -102), (Op.SET_ACL, wire.set_acl(b"x", wire.WORLD), -8),
        (Op.SET_ACL, wire.set_acl(b"/p", []), -114), (Op.CREATE, b"\0\0\0\5/x", -5),
        (Op.SET_DATA, b"\xff\xff\xff\xff", -5), (Op.SET_DATA, b"\xff\xff\xff\xf9/", -5),
    ],
)  # fmt: skip
def test_refusals(op: int, body: bytes, err: int) -> None:
    """Each refusal has the original's code, consumes a transaction number and changes nothing (ZK-4.2)."""
    bench = Bench()
    s = bench.open(1)
    bench.call(s, Op.CREATE, create(b"/p"))
    before = bench.machine.tree.sum
    found = bench.call(s, op, body)
    assert (found.err, found.zxid, found.body) == (err, 3, b"")
    assert bench.machine.tree.sum == before


def test_events_in_order_and_none_from_a_failed_multi() -> None:
    """The observer hears of each change once, in order; of a multi only when it is known to have succeeded."""
    bench = Bench()
    s = bench.open(1)
    seen: list[tuple[Event, bytes]] = []
    bench.machine.observer = lambda event, path, acl, parent: seen.append((event, path))
    bench.call(s, Op.CREATE, create(b"/e", b"", Mode.EPHEMERAL))
    bench.call(s, Op.SET_DATA, put(b"/e", b"1"))
    bench.call(s, Op.MULTI, several((Op.CREATE, create(b"/x")), (Op.DELETE, path_version(b"/none"))))
    bench.call(s, Op.MULTI, several((Op.CREATE, create(b"/x")), (Op.DELETE, path_version(b"/x"))))
    bench.end(s)
    assert seen == [
        (Event.CREATED, b"/e"),
        (Event.DATA_CHANGED, b"/e"),
        (Event.CREATED, b"/x"),
        (Event.DELETED, b"/x"),
        (Event.DELETED, b"/e"),
    ]


def test_pauses_call_the_reader_in_place() -> None:
    """At a pause the reader is asked, on the replica that wants answers only, with the tree as it is at that place."""
    bench = Bench()
    s = bench.open(1)
    seen = []

    def read(number: int) -> bytes:
        seen.append(
            (number, b"/a" in bench.machine.tree.nodes, b"/b" in bench.machine.tree.nodes, len(bench.machine.answers))
        )
        return b"read"

    bench.machine.reader = read
    frames = frame(1, Op.CREATE, create(b"/a")) + chunks.pause(42) + frame(2, Op.CREATE, create(b"/b"))
    answers = bench.chunk((s, frames))
    assert seen == [(42, True, False, 1)]
    assert answers[1] == b"read"
    assert bench.machine.answered == 3
    bench.answers = False
    bench.chunk((s, chunks.pause(43)))
    assert len(seen) == 1
    bench.answers = True
    assert bench.chunk((77, chunks.pause(44))) == [b""]


def test_null_and_empty_values_differ() -> None:
    """A null value is kept as such and has length 0; the digest tells it from an empty one."""
    bench, other = Bench(), Bench()
    for each, value in ((bench, None), (other, b"")):
        each.call(each.open(1), Op.CREATE, create(b"/n", value))
    assert bench.machine.tree.nodes[b"/n"].value is None
    assert bench.stat(b"/n") == other.stat(b"/n")
    assert bench.machine.digest() != other.machine.digest()


def test_damaged_images_are_refused() -> None:
    """What was not written by snapshot_chunks is a ValueError, never a half-restored machine in use."""
    bench = Bench()
    bench.call(bench.open(1), Op.CREATE, create(b"/n", b"x" * 100))
    pieces = list(bench.machine.snapshot_chunks())
    for bad in ([], pieces[:1], [b"x", *pieces[1:]], [*pieces[:-1], pieces[-1][:-1]], [*pieces[:-1], pieces[-1][3:]]):
        with pytest.raises(ValueError, match="damaged"):
            ZnodesMachine().restore_chunks(bad, 1)


def test_plain_snapshot_is_the_same_image() -> None:
    """The two ways to take a snapshot agree."""
    bench = Bench()
    bench.call(bench.open(1), Op.CREATE, create(b"/n"))
    again = ZnodesMachine()
    again.restore(bench.machine.snapshot(), 1)
    assert again.digest() == bench.machine.digest()


def test_stats_are_as_declared() -> None:
    """A setData's answer is a Stat, a create2's a path and a Stat."""
    bench = Bench()
    s = bench.open(1)
    made = bench.call(s, Op.CREATE2, create(b"/n", b"abc"))
    assert made.body[:6] == b"\0\0\0\2/n"
    assert jute.Stat.parse(made.body[6:]).length == 3
    assert jute.Stat.parse(bench.call(s, Op.SET_DATA, put(b"/n", b"")).body).version == 1


def test_null_characters_come_before_rights() -> None:
    """A path with U+0000 is refused as such, even below a node where the client may do nothing."""
    bench = Bench()
    s = bench.open(1)
    bench.call(s, Op.CREATE, create(b"/shut", b"", 0, [{"perms": 1, "scheme": b"world", "id": b"anyone"}]))
    assert bench.call(s, Op.CREATE, create(b"/shut/\0")).err == Err.BAD_ARGUMENTS
    assert bench.call(s, Op.DELETE, path_version(b"/shut/\0")).err == Err.BAD_ARGUMENTS
    assert bench.call(s, Op.CREATE, create(b"/shut/x")).err == Err.NO_AUTH


def test_a_time_to_live_that_is_not_there_spoils_a_multi() -> None:
    """A plain creation with the flags of one with a time to live is malformed when its turn comes: nothing happens, not
    even what stood before it. Behind a step that fails its turn does not come."""
    bench = Bench()
    s = bench.open(1)
    without = (Op.CREATE, create(b"/t", b"", Mode.TTL))
    spoiled = bench.call(s, Op.MULTI, several((Op.CREATE, create(b"/a")), without))
    assert (spoiled.err, spoiled.body) == (Err.MARSHALLING_ERROR, b"")
    assert b"/a" not in bench.machine.tree.nodes
    failed = bench.call(s, Op.MULTI, several((Op.DELETE, path_version(b"/none")), without))
    assert failed.err == 0
    assert bench.machine.digest() == digest_from_scratch(bench.machine)
