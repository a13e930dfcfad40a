"""What is fuzzed: every decoder that reads bytes from outside, as a function of bytes.

A target returns if the bytes were read or refused as they should be, and raises otherwise: anything but the decoder's
own words for "no", a value that does not encode to the bytes it came from, damage that recovery did not tell. Two
drivers use them: Hypothesis in the default tests (:mod:`test_targets`), and a coverage-guided fuzzer (:mod:`fuzz`).

Behind checksums random bytes never come; there the bytes are put behind a checksum that fits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from zlib import crc32

from quorate.kernel.catalog import Catalog
from quorate.kernel.dispatch import operations
from quorate.kernel.host import MachineHost
from quorate.kernel.image import SnapshotDamaged
from quorate.kernel.machine import Origin
from quorate.kernel.paxos import configuration, messages
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Kind, Value
from quorate.kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role
from quorate.kernel.paxos.ready import AcceptedValue, KnownChosen, Promised
from quorate.kernel.stop import StopReplica
from quorate.kernel.storage import encoding, layout
from quorate.kernel.storage.errors import NewerFormat, StorageError
from quorate.kernel.storage.memory import MemoryFileSystem
from quorate.kernel.storage.recovery import Recovered, recover
from quorate.kernel.system import FIRST_LOADED, PLUGINS, SESSIONS
from quorate.kernel.system.plugins import Plugins
from quorate.kernel.wire import batch, codec, formats, native, plain
from quorate.plugins.counters.machine import CountersMachine
from quorate.plugins.locks.machine import LocksMachine
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.protocol import Op

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "znodes"))
import contextlib

import znodes_wire
from znodes_talk import Room, Talk

Target = Callable[[bytes], None]

CELL: Final = bytes(16)
DISK: Final = b"a disk's 16 byte"
DIRECTORY: Final = "/replica"
FOUNDING: Final = Configuration(Slot(0), (Member(MemberId(1), Role.VOTER, "tcp:one:1", (("client", "a"),)),))
SIZE_MAX: Final = 1 << 16
"""Bytes of one input."""


# ---------------------------------------------------------------- wires


def client(content: bytes) -> None:
    """Frames of the native protocol."""
    try:
        bodies, taken = native.split(content)
        assert 0 <= taken <= len(content)
        for body in bodies:
            frame = native.decode(body)
            assert native.encode(frame)[4:] == body
            assert native.decode_by_form(body) == frame
    except native.Malformed:
        pass


def peer(content: bytes) -> None:
    """Frames between replicas."""
    splitter = codec.Splitter()
    try:
        for body in splitter.feed(content):
            frame = codec.decode(body)
            assert codec.decode(b"".join(codec.encode(frame))[4:]) == frame
    except formats.Malformed:
        pass


def zookeeper(content: bytes) -> None:
    """A ZooKeeper client's bytes behind its connect request: the whole way through the front, the log and the tree."""
    room = Room()
    talk = room.talk()
    if not talk.wire.closed:
        talk.connection.received(content)
        room.turn()
    other = room.talk()
    assert other.get(b"/") is not None


def zookeeper_greeting(content: bytes) -> None:
    """A ZooKeeper client's first bytes."""
    room = Room()
    talk = Talk(room, room.fronts[0])
    talk.connection.received(content)
    room.turn()
    assert room.talk().get(b"/") is not None


# ---------------------------------------------------------------- the log


def plain_values(content: bytes) -> None:
    """Plain data: arguments, results, snapshots."""
    try:
        value = plain.decode(content)
    except plain.Malformed:
        return
    assert plain.decode(plain.encode(value)) == value or value != value or "nan" in repr(value)


def batches(content: bytes) -> None:
    """The value of a slot: a head, then chunks, each with a request."""
    try:
        batch.batch_head(content)
        for chunk in batch.iter_chunks(content, 0):
            batch.request_head(chunk.body)
    except (plain.Malformed, batch.UnknownVersion):
        pass


def applied(content: bytes) -> None:
    """What clients may bring into the log, applied by a replica: whatever it is, every machine goes on.

    The first byte says which command of which machine, unless the bytes are a whole request; the rest its arguments.
    """
    host = _host()
    bodies = [(number, content) for number, _ in _COMMANDS]
    try:
        args: Any = plain.decode(content[1:])
    except plain.Malformed:
        args = None
    if content and isinstance(args, list | dict):
        number, command = _COMMANDS[content[0] % len(_COMMANDS)]
        bodies.append((number, _wrapped(command, content[1:], next(iter(host.sessions)))))
        bodies.append((number, _wrapped(command, content[1:], 0)))
    sequences = dict.fromkeys((number for number, _ in bodies), 0)
    for number, body in bodies:
        sequences[number] += 1
        chunk = batch.pack_chunk(number, 2, 1, sequences[number], body)
        host.apply(Slot(host.slot + 1), batch.pack_batch(host.slot + 1, 1, 1, [chunk]))
    halted = [each.halted for each in host.status() if each.halted]
    assert not halted, halted
    for _ in host.snapshot():
        pass


def _wrapped(command: str, args: bytes, session: int) -> bytes:
    """A client's request as a replica puts it into the log."""
    return batch.wrap_payload(
        b"\x92" + plain.encode(command) + args,
        session=session,
        number=min(session, 1),
        acknowledged=0,
        events_acknowledged=0,
        identities=("ip:here",),
    )


def membership(content: bytes) -> None:
    """Configurations and changes of them."""
    for decode, encode in (
        (encoding.decode_configuration, encoding.encode_configuration),
        (configuration.decode_change, configuration.encode_change),
    ):
        try:
            found: Any = decode(content)
        except (StorageError, configuration.MalformedChange):
            continue
        assert encode(found) == content


# ---------------------------------------------------------------- the disk


def journal(content: bytes) -> None:
    """Bytes laid over those of a replica's files: it recovers, or refuses with words, and invents nothing.

    The first byte says which file, the next two where; the rest is laid over what is there.
    """
    if len(content) < 4:
        return
    fs = _directory().copy(Random(0))
    names = [name for name in fs.names(DIRECTORY) if name != "lock"]
    path = f"{DIRECTORY}/{names[content[0] % len(names)]}"
    old = fs.content(path)
    at = int.from_bytes(content[1:3], "big") % max(1, len(old))
    fs.put(path, old[:at] + content[3:] + old[at + len(content) - 3 :])
    try:
        recovered = _recover(fs)
    except StorageError:
        return
    state = recovered.state
    for vote in state.votes:
        assert vote in _VOTES, "a vote was invented"
    if state.intact:
        assert state.promised == Ballot(3, MemberId(1)), "a promise was lost or invented"
        lost = {vote.slot for vote in _VOTES} - {vote.slot for vote in state.votes} - state.damaged
        assert all(slot <= state.snapshot for slot in lost), "a vote was lost"


def records(content: bytes) -> None:
    """A table of records that nobody writes, behind checksums that fit."""
    table = content[: len(content) // layout.ENTRY.size * layout.ENTRY.size]
    payloads = content[len(table) :]
    fs = _directory().copy(Random(0))
    opened = _recover(fs)
    opened.journal.append([Promised(Ballot(9, MemberId(1)))])
    sealed = opened.journal.seal()
    assert sealed is not None
    sealed = sealed._replace(table=table, size=sealed.size - len(sealed.table) + len(table) + len(payloads))
    opened.journal.write(sealed._replace(payloads=(payloads,)))
    opened.close()
    with contextlib.suppress(StorageError):
        _recover(fs)


def snapshot(content: bytes) -> None:
    """A snapshot's chunks, as a peer's file may hold them: restored, or refused with the words for that."""
    host = _new_host()
    half = len(content) // 2
    with contextlib.suppress(SnapshotDamaged, StopReplica):
        host.restore([content[:half], content[half:]])


def stamped(content: bytes) -> None:
    """Whole-file headers: bytes that claim to be stamped, and bodies behind a checksum that fits."""
    for magic, read in (
        (layout.SEGMENT_MAGIC, layout.unpack_segment),
        (layout.MARK_MAGIC, layout.unpack_mark),
    ):
        for whole in (magic + content, layout.stamp(magic, content)):
            with contextlib.suppress(StorageError, NewerFormat):
                read(whole, "here")


# ---------------------------------------------------------------- what they share


_CODE: Final = {"znodes": ZnodesMachine, "locks": LocksMachine, "counters": CountersMachine}


def _new_host() -> MachineHost:
    """A host before it has state."""
    return MachineHost(CELL, Catalog(_CODE), Origin(MemberId(1), 1), Random)


def _host() -> MachineHost:
    """A host with every machine."""
    host = _new_host()
    host.configured(Slot(0), FOUNDING)
    requests = [batch.pack_request("announce", [1, dict.fromkeys(_CODE, 1)])]
    requests += [batch.pack_request("load", [name, name]) for name in _CODE]
    chunks = [batch.pack_chunk(PLUGINS, 1, 1, number, body) for number, body in enumerate(requests, 1)]
    opening = [("found", [bytes(32)]), ("open", [10_000, "native", 1, 1])]
    chunks += [
        batch.pack_chunk(SESSIONS, 1, 1, number, batch.pack_request(*each)) for number, each in enumerate(opening, 1)
    ]
    host.apply(Slot(1), batch.pack_batch(1, 1, 1, chunks))
    assert [each.name for each in host.status()] == [*_CODE]
    return host


_COMMANDS: Final = [
    (number, command)
    for number, machine in ((PLUGINS, Plugins), (FIRST_LOADED + 1, LocksMachine), (FIRST_LOADED + 2, CountersMachine))
    for command in operations(machine)[0]
]
_VOTES: Final = tuple(
    AcceptedValue(Ballot(3, MemberId(1)), Slot(slot), Value(Kind.COMMANDS, bytes([slot]) * 40)) for slot in range(1, 13)
)
_made: list[MemoryFileSystem] = []


def _directory() -> MemoryFileSystem:
    """A replica's disk with votes, two snapshots and a promise, closed in order."""
    if not _made:
        fs = MemoryFileSystem(Random(0))
        opened = _recover(fs)
        opened.journal.append([Promised(Ballot(3, MemberId(1)))])
        for vote in _VOTES:
            opened.journal.append([vote, KnownChosen(Slot(vote.slot - 1))])
            sealed = opened.journal.seal()
            assert sealed is not None
            opened.journal.write(sealed)
            if vote.slot in (4, 8):
                opened.snapshots.write(Slot(vote.slot - 1), FOUNDING, [b"chunk"])
        opened.close()
        _made.append(fs)
    return _made[0]


def _recover(fs: MemoryFileSystem) -> Recovered:
    return recover(fs, DIRECTORY, cell=CELL, member=MemberId(1), disk=DISK, founding=FOUNDING, segment_size=4096 + 2048)


class Fuzzed(NamedTuple):
    """A target, and inputs that it reads to their end, for drivers to begin with."""

    run: Target
    seeds: Sequence[bytes]


_BALLOT: Final = Ballot(3, MemberId(2))
_VALUE: Final = Value(Kind.COMMANDS, b"batch")
_NATIVE: Final[list[native.Frame]] = [
    native.Hello(1, b"", "who"),
    native.Open(5000),
    native.Attach(7, b"password", 3),
    native.Request(1, 0, 0, "counters", plain.encode(["add", ["x", 1]])),
    native.Query(1, native.Consistency.LEASE, 0, "counters", plain.encode(["get", ["x"]])),
    native.KeepAlive(1, 2, 3),
    native.Failed(native.About.REQUEST, 1, 50, "code", "reason"),
]
_PEER: Final[list[Any]] = [
    formats.Greeting(1, CELL, 1, 2, 3, DISK, bytes(8), _BALLOT, Slot(9)),
    messages.Prepare(_BALLOT, Slot(1), Slot(0), _BALLOT),
    messages.Promise(_BALLOT, Slot(1), (messages.Vote(Slot(1), _BALLOT, _VALUE),), Slot(0), Slot(0)),
    messages.Accept(_BALLOT, Slot(7), (_VALUE, _VALUE), Slot(6)),
    messages.Chosen(Slot(7), (_VALUE,), Slot(9)),
    messages.Heartbeat(_BALLOT, Slot(9), 1, 2, 3),
]
_ZOOKEEPER: Final = [
    znodes_wire.frame(1, Op.CREATE, znodes_wire.create(b"/a", b"x")),
    znodes_wire.frame(2, Op.SET_DATA, znodes_wire.put(b"/a", b"y")),
    znodes_wire.frame(3, Op.GET_DATA, znodes_wire.path_watch(b"/a", True)),
    znodes_wire.frame(4, Op.GET_CHILDREN2, znodes_wire.path_watch(b"/")),
    znodes_wire.frame(5, Op.DELETE, znodes_wire.path_version(b"/a")),
    znodes_wire.frame(6, Op.SYNC, b"\0\0\0\1/"),
    znodes_wire.frame(-2, Op.PING),
    znodes_wire.frame(7, Op.CLOSE_SESSION),
]
_REQUEST: Final = batch.pack_request("add", ["x", 1])
_ARGUMENTS: Final[list[Any]] = [
    ["x", 1],
    [1],
    [1, ["x"], [], 0, 0, "who"],
    {"label": 1, "exclusive": ["x"], "shared": ["y"], "wait_ms": 5, "delay_ms": 5},
    ["x", 0, 1 << 62],
    ["locks", "counters", 1],
]
_ENTRY: Final = layout.ENTRY.pack(layout.ACCEPTED, 1, 0, 13, 3, 1, crc32(b""))

TARGETS: Final[dict[str, Fuzzed]] = {
    "client": Fuzzed(client, [b"".join(map(native.encode, _NATIVE)), *map(native.encode, _NATIVE)]),
    "peer": Fuzzed(peer, [b"".join(codec.encode(each)) for each in _PEER]),
    "zookeeper": Fuzzed(zookeeper, [b"".join(_ZOOKEEPER), *_ZOOKEEPER]),
    "zookeeper-greeting": Fuzzed(zookeeper_greeting, [b"ruok", bytes([0, 0, 0, 45]) + bytes(44) + b"\0"]),
    "plain": Fuzzed(plain_values, [plain.encode(["add", {"a": [1, 2.5, None, True, b"x"]}])]),
    "batches": Fuzzed(batches, [batch.pack_batch(1, 2, 3, [batch.pack_chunk(1, 1, 1, 1, _REQUEST)])]),
    "applied": Fuzzed(
        applied,
        [_REQUEST, *(bytes([n]) + plain.encode(args) for n in range(len(_COMMANDS)) for args in _ARGUMENTS)],
    ),
    "membership": Fuzzed(
        membership,
        [
            encoding.encode_configuration(FOUNDING),
            configuration.encode_change(Change(ChangeKind.ADD_LEARNER, FOUNDING.members[0])),
        ],
    ),
    "journal": Fuzzed(journal, [bytes([number, 16, 72, 1]) for number in range(9)]),
    "records": Fuzzed(records, [_ENTRY, _ENTRY * 3 + b"payload"]),
    "snapshot": Fuzzed(snapshot, [b"".join(_host().snapshot())]),
    "stamped": Fuzzed(stamped, [bytes(40)]),
}
"""By name."""
