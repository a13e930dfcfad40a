"""The apply loop: batches, streams, sessions' requests, queries, snapshots."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from host_driver import CELL, FOUNDERS, OTHER, OWN, Driver, MendedScrap, Scrap, Tape
from quorate.kernel import host as host_module
from quorate.kernel.catalog import Catalog
from quorate.kernel.host import Answer, Applied, MachineHost, MachineMissing
from quorate.kernel.image import SnapshotDamaged, Unkept
from quorate.kernel.machine import Commit, Origin, Plain, SessionId, StateMachine, query
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.stop import MissingPlugin, StopReplica
from quorate.kernel.system import PLUGINS, SESSIONS
from quorate.kernel.system.session import REPLIES_MAX
from quorate.kernel.wire import plain
from quorate.kernel.wire.batch import VERSION, pack_batch, pack_chunk, pack_request

ADD = pack_request("add", ["k"])


@pytest.fixture
def driver() -> Driver:
    """A founded host with both machines loaded."""
    return Driver()


def test_a_host_that_is_replaced_leaves_nothing(driver: Driver) -> None:
    """With the last reference to it go its machines, halted ones too: no cycle waits for a collector that does not
    look."""
    gc.disable()
    try:
        driver.apply(driver.chunk("scrap", pack_request("fail", [])))
        fresh = driver.new_host()
        fresh.restore(driver.host.snapshot())
        driver.host.imaged(driver.host.slot, lambda: [])
        gone = [weakref.ref(driver.host), *(weakref.ref(driver.host.machine(name)) for name in ("sessions", "tape"))]
        driver.host = fresh
        assert [each() for each in gone] == [None] * 3
    finally:
        gc.enable()


# ---------------------------------------------------------------- batches and streams


def test_only_own_chunks_are_answered(driver: Driver) -> None:
    """Every replica applies everything; answers are for the one that submitted."""
    applied = driver.apply(driver.chunk("scrap", ADD), driver.chunk("scrap", ADD, OTHER), driver.chunk("scrap", ADD))
    assert [(a.sequence, plain.decode(a.reply)) for a in applied.answers] == [(1, [0, 1]), (2, [0, 3])]


def test_a_stream_is_applied_without_gaps_and_once(driver: Driver) -> None:
    """Repeated and early chunks are skipped, have no effect and draw no index."""
    machine = driver.host.machine_number("scrap")
    chunks = [pack_chunk(machine, *OWN, sequence, ADD) for sequence in (1, 1, 3, 2, 2, 3, 0)]
    before = driver.host.index
    applied = driver.apply(*chunks)
    replies = [None if a.reply is None else plain.decode(a.reply) for a in applied.answers]  # type: ignore[arg-type]
    assert replies == [[0, 1], None, None, [0, 2], None, [0, 3], None]
    assert driver.host.index == before + 3
    assert driver.host.marks[1, machine] == (1, 3)


def test_a_new_run_of_a_member_begins_again_at_one(driver: Driver) -> None:
    """After a restart the old run's late chunks are void, and so is anything but the new run's first."""
    machine = driver.host.machine_number("scrap")

    def sent(incarnation: int, sequence: int) -> None:
        driver.apply(pack_chunk(machine, 2, incarnation, sequence, ADD))

    sent(4, 1)
    sent(4, 2)
    sent(6, 2)
    sent(6, 1)
    sent(5, 1)
    sent(4, 3)
    sent(6, 2)
    assert driver.ask("scrap", "total", "k") == 4
    assert driver.host.marks[2, machine] == (6, 2)


def test_streams_of_different_machines_are_independent(driver: Driver) -> None:
    """A member numbers its chunks to each machine by themselves."""
    driver.apply(driver.chunk("scrap", ADD), driver.chunk("tape", b"\x01"), driver.chunk("scrap", ADD))
    assert [(a.machine, a.sequence) for a in driver.applied.answers] == [(16, 1), (17, 1), (16, 2)]


def test_a_missing_machine_is_refused_by_name(driver: Driver) -> None:
    """Chunks for a number that is not loaded are told so; queries name what is loaded."""
    for machine in (5, 15, 99):
        driver.apply(pack_chunk(machine, *OWN, 1, ADD))
        status, (code, reason) = plain.decode(driver.applied.answers[0].reply)  # type: ignore[arg-type, misc]
        assert (status, code) == (1, "machine-missing")
        assert "scrap, tape" in reason
    assert plain.decode(driver.host.query("scrip", b""))[1][0] == "machine-missing"  # type: ignore[index, call-overload]
    with pytest.raises(MachineMissing, match="scrap, tape"):
        driver.host.machine_number("scrip")
    with pytest.raises(MachineMissing):
        driver.host.machine("scrip")
    assert not [key for key in driver.host.marks if key[1] in (5, 15, 99)]


def test_a_raw_machine_gets_chunks_and_answers_where_they_were_sent(driver: Driver) -> None:
    """One chunk is one index; answers are gathered only for this replica's chunks, and are not state."""
    before = driver.host.index
    applied = driver.apply(
        driver.chunk("tape", b"\x01\x02"), driver.chunk("tape", b"\x03", OTHER), driver.chunk("tape", b"")
    )
    assert applied.answers == [Answer(17, 1, [b"1", b"2"]), Answer(17, 2, [])]
    assert driver.host.index == before + 3
    assert driver.ask("tape", "length") == 3


def test_cell_time_never_decreases(driver: Driver) -> None:
    """A leader with a slower clock goes on from the last stamped time."""
    driver.call("scrap", "add", "k", time=100)
    driver.call("scrap", "add", "k", time=50)
    assert driver.host.cell_time == 100
    assert [call[4] for call in driver.ask("scrap", "calls")] == [100, 100]


def test_a_commit_tells_the_circumstances(driver: Driver) -> None:
    """Session, identities, origin, epoch, agreed version and wall time arrive as they were proposed."""
    session = driver.open()
    assert driver.call(
        "scrap", "who", session=session, identities=["ip:::1", "digest:me"], epoch=(9 << 16) | 1, time=50
    ) == [
        0,
        [session, ["ip:::1", "digest:me"], 1, 1, (9 << 16) | 1, 1, 1_000_050],
    ]


def test_what_is_malformed_in_a_batch_is_void(driver: Driver) -> None:
    """Whole chunks before the damage count; the rest does not, on every replica alike."""
    good = driver.chunk("scrap", ADD)
    for number, tail in enumerate((b"\x00", b"\x00\x00\x00\x01" + bytes(30), pack_chunk(16, 1, 1, 9, b"x")[:-1]), 1):
        driver.apply(good + tail)
        assert driver.host.malformed == number
    assert driver.host.apply(Slot(driver.host.slot + 1), b"\x01junk") == Applied()
    assert driver.host.apply(Slot(driver.host.slot + 1), b"") == Applied()
    assert driver.ask("scrap", "total", "k") == 1
    assert driver.host.malformed == 5


def test_a_batch_of_a_later_release_stops_the_replica(driver: Driver) -> None:
    """Guessing would make it differ from replicas that can read it."""
    payload = bytes([VERSION + 1]) + pack_batch(1, 1, 1, [])[1:]
    with pytest.raises(StopReplica, match="newer release"):
        driver.host.apply(Slot(driver.host.slot + 1), payload)


NAMES = [
    "open", "attach", "close", "expire", "acknowledge", "found", "fire", "announce", "load", "unload", "upgrade",
    "skip", "report", "introduce", "add", "tell", "timer", "end", "resolve", "wait", "odd_event", "restore", "",
]  # fmt: skip
ARGS = st.recursive(
    st.sampled_from([0, 1, 16, 17, -1, 1 << 62, 1 << 63, "", "scrap", "tape", "x", b"k" * 20, None, True, 1.5]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["scrap", "x"]), inner, max_size=2),
    max_leaves=6,
)
REQUESTS = st.builds(
    lambda name, args, number: pack_request(name, args, number=number),
    st.sampled_from(NAMES),
    st.lists(ARGS, max_size=5),
    st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 16, 17]), REQUESTS | st.binary(max_size=40)), max_size=12))
def test_no_body_harms_the_host(bodies: list[tuple[int, bytes]]) -> None:
    """Whatever members put into chunks, the host goes on, and its snapshot is good."""
    driver = Driver()
    for machine, body in bodies:
        driver.apply(driver.chunk(machine, body))
    assert b"".join(driver.restored().snapshot()) == driver.image()
    assert isinstance(driver.open(), int)


# ---------------------------------------------------------------- requests of sessions


def test_a_request_is_executed_once(driver: Driver) -> None:
    """A repeated number gets the stored reply; nothing is called and no index drawn."""
    session = driver.open()
    assert driver.call("scrap", "add", "k", session=session, number=5) == [0, 1]
    index = driver.host.index
    for _ in range(2):
        assert driver.call("scrap", "add", "k", session=session, number=5) == [0, 1]
        assert driver.call("scrap", "add", "other", session=session, number=5) == [0, 1]
    assert driver.host.index == index


def test_refusals_are_stored_like_results(driver: Driver) -> None:
    """What was answered with no stays no under that number."""
    session = driver.open()
    refused = driver.call("scrap", "nonsense", session=session, number=1)
    assert refused[1][0] == "unknown-command"
    assert driver.call("scrap", "add", "k", session=session, number=1) == refused


def test_acknowledged_numbers_are_gone(driver: Driver) -> None:
    """The client says what it has seen; below that nothing is executed again, not even once."""
    session = driver.open()
    for number in (1, 2, 3):
        driver.call("scrap", "add", "k", session=session, number=number)
    driver.call("scrap", "add", "k", session=session, number=7, acknowledged=2)
    assert sorted(driver.host.sessions[session].replies) == [3, 7]
    for number in (1, 2):
        assert driver.call("scrap", "add", "k", session=session, number=number)[1][0] == "already-acknowledged"
    assert driver.call("scrap", "add", "k", session=session, number=5) == [0, 5]
    assert driver.call("scrap", "add", "k", session=session, number=9, acknowledged=1 << 62) == [
        1,
        ["already-acknowledged", "the reply to this number was acknowledged and is gone"],
    ]
    assert driver.host.sessions[session].reply_bytes == 0


def test_unacknowledged_replies_are_bounded(driver: Driver) -> None:
    """A client that never acknowledges is refused before anything is executed."""
    session = driver.open()
    for number in range(1, REPLIES_MAX + 1):
        driver.call("scrap", "add", "k", session=session, number=number)
    assert driver.call("scrap", "add", "k", session=session, number=5000)[1][0] == "too-many-unacknowledged"
    assert driver.ask("scrap", "total", "k") == REPLIES_MAX
    assert driver.call("scrap", "add", "k", session=session, number=5000, acknowledged=1) == [0, REPLIES_MAX + 1]


def test_unacknowledged_bytes_are_bounded(driver: Driver) -> None:
    """Few large replies count as much as many small ones."""
    session = driver.open()
    codes = [driver.call("scrap", "much", 1_000_000, session=session, number=number)[0] for number in range(1, 12)]
    assert codes == [0] * 9 + [1] * 2
    assert driver.ask("scrap", "total", "much") == 9


def test_requests_without_a_number_are_not_kept(driver: Driver) -> None:
    """Number 0 is for what needs no repetition."""
    session = driver.open()
    assert [driver.call("scrap", "add", "k", session=session)[1] for _ in range(3)] == [1, 2, 3]
    assert not driver.host.sessions[session].replies


def test_a_dead_session_commands_nothing(driver: Driver) -> None:
    """Neither an ended session nor one that never was."""
    session = driver.open()
    driver.call(SESSIONS, "close", session)
    for each in (session, 12345):
        assert driver.call("scrap", "add", "k", session=each, number=1)[1][0] == "session-expired"
    assert driver.ask("scrap", "total", "k") == 0


def test_a_session_commands_only_through_the_replica_it_is_attached_to(driver: Driver) -> None:
    """What was sent through the old replica is void once the session moved, even the old run of the same member."""
    session = driver.open(OTHER)
    assert driver.call("scrap", "add", "k", session=session, number=1)[1][0] == "session-moved"
    assert driver.call(SESSIONS, "attach", session, *OWN) == [0, 2]
    assert driver.call("scrap", "add", "k", session=session, number=1) == [0, 1]
    driver.call(SESSIONS, "attach", session, 1, 2)
    assert driver.call("scrap", "add", "k", session=session, number=2)[1][0] == "session-moved"


def test_moves_and_endings_are_told_to_the_driver(driver: Driver) -> None:
    """Every replica hears of every session, in order."""
    driver.call(SESSIONS, "open", 1000, "native", *OTHER)
    (session,) = driver.applied.attached
    assert driver.applied.moves == [(session, None, OTHER)]
    driver.call(SESSIONS, "attach", session, *OWN)
    assert driver.applied.attached == [session]
    assert driver.applied.moves == [(session, OTHER, OWN)]
    driver.call(SESSIONS, "close", session)
    assert driver.applied.ended == [(session, False)]
    assert not driver.applied.changed


def test_sessions_cannot_command_the_cells_own_machines(driver: Driver) -> None:
    """A client must not expire others, fire timers, forge digests or speak for a replica."""
    session = driver.open()
    for machine, name, args in [
        (SESSIONS, "close", [session]),
        ("timers", "fire", [16, 5]),
        ("digests", "report", [1, 1, 1]),
        ("membership", "introduce", [1, b"d" * 16]),
        (PLUGINS, "announce", [1, {}]),
    ]:
        reply = driver.call(machine, name, *args, session=session, number=driver.host.slot)  # type: ignore[arg-type, misc]
        assert reply[1][0] == "cell-only"
    assert driver.call(PLUGINS, "unload", "tape", session=session, number=900) == [0, None]


def test_a_malformed_request_is_refused(driver: Driver) -> None:
    """And nothing else happens."""
    index = driver.host.index
    driver.apply(driver.chunk("scrap", b"\xc1"))
    assert plain.decode(driver.applied.answers[0].reply)[1][0] == "malformed"  # type: ignore[index, arg-type, call-overload]
    assert driver.host.index == index


def test_a_result_too_large_is_done_and_says_so(driver: Driver) -> None:
    """The command cannot be undone, so the reply must not claim it was refused."""
    session = driver.open()
    status, (code, reason) = driver.call("scrap", "much", 1 << 20, session=session, number=1)
    assert (status, code) == (1, "result-too-large")
    assert "was done" in reason
    assert driver.ask("scrap", "total", "much") == 1


# ---------------------------------------------------------------- queries


def test_queries_answer_like_commands_and_change_nothing(driver: Driver) -> None:
    """Results, refusals and failures come as replies; the digest stays."""
    driver.call("scrap", "add", "k")
    before = (driver.host.digest(), driver.image())

    def asked(machine: str, *request: Plain) -> Any:
        return plain.decode(driver.host.query(machine, plain.encode(list(request))))

    assert asked("scrap", "total", ["k"]) == [0, 1]
    assert asked("scrap", "total", {"key": "k"}) == [0, 1]
    assert asked("scrap", "add", ["k"])[1][0] == "unknown-query"
    assert asked("scrap", "total", [1])[1][0] == "bad-arguments"
    assert asked("scrap", "break_down", []) == [1, ["query-failed", "ZeroDivisionError: on purpose"]]
    assert asked("scrap", "total")[1][0] == "malformed"
    assert asked("sessions", "count", []) == [0, 0]
    assert [each["name"] for each in asked("plugins", "loaded", [])[1]] == ["scrap", "tape"]
    assert [each["id"] for each in asked("membership", "members", [])[1]] == [1, 2, 3]
    assert (driver.host.digest(), driver.image()) == before


class Wide(StateMachine):
    """A machine whose answers do not fit."""

    name = "wide"

    @query
    def everything(self) -> bytes:
        return b"x" * (1 << 20)


def test_an_answer_too_large_is_refused() -> None:
    """A frame must be able to carry it."""
    driver = Driver({"wide": Wide})
    reply: Any = plain.decode(driver.host.query("wide", plain.encode(["everything", []])))
    assert reply[1][0] == "result-too-large"


# ---------------------------------------------------------------- snapshots


def test_a_snapshot_restores_everything(driver: Driver) -> None:
    """Machines, sessions with replies, events and waits, timers, marks: the next batch does the same on both."""
    session = driver.open()
    driver.call(SESSIONS, "found", b"k" * 32)
    driver.call("scrap", "add", "k", session=session, number=1)
    (_, ticket) = driver.call("scrap", "wait", session=session, number=2)
    driver.call("scrap", "tell", session, {"b": 1, "a": [1.5, None]})
    driver.call("scrap", "timer", "later", 500)
    driver.apply(driver.chunk("tape", b"\x01\x02\x03"))
    twin = driver.restored()
    assert b"".join(twin.snapshot()) == driver.image()
    assert twin.digest() == driver.host.digest()
    assert (twin.slot, twin.index, twin.cell_time, twin.marks) == (
        driver.host.slot,
        driver.host.index,
        driver.host.cell_time,
        driver.host.marks,
    )
    assert twin.password(session) == driver.host.password(session)
    assert twin.configuration == FOUNDERS
    assert twin.next_timer() == 500
    assert twin.due_timers(500) == driver.host.due_timers(500) == [(16, 500)]
    driver.call("scrap", "resolve", ticket, "r", session=session, number=3)
    assert twin.apply(*driver.log[-1]) == driver.applied
    driver.fire("scrap", 600)
    twin.apply(*driver.log[-1])
    assert b"".join(twin.snapshot()) == driver.image()


def test_a_snapshot_may_be_cut_in_any_way(driver: Driver) -> None:
    """Storage and network need not keep the chunks' borders."""
    driver.apply(driver.chunk("tape", bytes(200)))
    image = driver.image()
    for size in (1, 7, 1 << 20):
        twin = driver.restored(chunks=[image[at : at + size] for at in range(0, len(image), size)])
        assert b"".join(twin.snapshot()) == image


def test_chunks_of_a_large_image_are_small(driver: Driver) -> None:
    """No chunk of a snapshot comes near 1 MiB, however large a machine is."""
    for _ in range(3):
        driver.apply(driver.chunk("tape", bytes(1_000_000)))
    chunks = list(driver.host.snapshot())
    assert sum(map(len, chunks)) > 3_000_000
    assert max(map(len, chunks)) < 1 << 20
    assert driver.restored(chunks=chunks).query("tape", plain.encode(["length", []])) == driver.host.query(
        "tape", plain.encode(["length", []])
    )


def test_a_damaged_snapshot_is_refused() -> None:
    """Cut anywhere it is recognized as damaged; changed anywhere it is refused or restores something snapshottable."""
    driver = Driver()
    session = driver.open()
    driver.call("scrap", "add", "k", session=session, number=1)
    image = driver.image()
    for cut in range(0, len(image), 7):
        with pytest.raises(SnapshotDamaged):
            driver.restored(chunks=[image[:cut]])
    random = Random(3)
    for _ in range(300):
        at = random.randrange(len(image))
        damaged = image[:at] + bytes([image[at] ^ 1 << random.randrange(8)]) + image[at + 1 :]
        try:
            driver.restored(chunks=[damaged])
        except (SnapshotDamaged, StopReplica):
            continue


def test_a_snapshot_of_another_cell_is_refused(driver: Driver) -> None:
    """Operators mix up folders."""
    other = MachineHost(b"another cell", driver.catalog, OWN, Random)
    with pytest.raises(SnapshotDamaged, match="of the cell"):
        other.restore(driver.host.snapshot())


def test_a_snapshot_of_a_later_release_stops_the_replica(driver: Driver) -> None:
    """It is not damaged, so it must not be fetched again and again."""
    image = driver.image()
    head = plain.encode([1, 0])[:2]
    later = image.replace(head, head[:1] + b"\x02", 1)
    with pytest.raises(StopReplica, match="newer release"):
        driver.restored(chunks=[later])


def test_restore_wants_a_new_host(driver: Driver) -> None:
    """What is there already would mix with the snapshot."""
    with pytest.raises(AssertionError):
        driver.host.restore(driver.host.snapshot())


def test_a_restore_that_lacks_code_says_what_to_install() -> None:
    """Neither missing nor outdated code may be papered over."""
    driver = Driver({"scrap": MendedScrap, "tape": Tape})
    driver.call(PLUGINS, "upgrade", "scrap", 2)
    for classes, words in [({"tape": Tape}, "not installed here"), ({"scrap": Scrap, "tape": Tape}, "version 2")]:
        host = MachineHost(CELL, Catalog(classes), OWN, Random)
        with pytest.raises(MissingPlugin, match=words) as missing:
            host.restore(driver.host.snapshot())
        assert "nstall" in str(missing.value)


def test_a_replica_that_lacks_code_stops_when_it_is_loaded() -> None:
    """A learner need not have announced it."""
    driver = Driver(founded=False)
    poor = MachineHost(CELL, Catalog({"tape": Tape}), OTHER, Random)
    poor.configured(Slot(0), FOUNDERS)
    driver.found()
    *before, (slot, payload) = driver.log[:4]
    for earlier in before:
        poor.apply(*earlier)
    with pytest.raises(MissingPlugin, match="scrap"):
        poor.apply(slot, payload)


def test_a_state_that_cannot_be_kept_is_named(driver: Driver) -> None:
    """A tuple in a self-restoring machine would come back as a list, and the replicas would differ."""
    machine: Any = driver.host.machine("scrap")
    machine.totals["k"] = (1, 2)
    with pytest.raises(Unkept, match="scrap"):
        driver.image()


def test_the_host_takes_an_image_itself_if_nobody_does(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log kept for rebuilding is bounded, and rebuilding works from the image."""
    monkeypatch.setattr(host_module, "HISTORY_BYTES_MAX", 5000)
    for _ in range(200):
        driver.call("scrap", "add", "k")
    driver.call("scrap", "fail")
    driver.call(PLUGINS, "skip", "scrap")
    assert driver.ask("scrap", "total", "k") == 200
    assert driver.host._history.bytes <= 5000 + 200


def test_rebuilding_from_a_long_log_takes_no_images(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody takes snapshots there may be much log between two; the rebuilt host only refers to it."""

    def snapshot(host: MachineHost) -> Iterator[bytes]:
        raise AssertionError("nothing goes on meanwhile")

    monkeypatch.setattr(host_module, "HISTORY_BYTES_MAX", 1000)
    monkeypatch.setattr(MachineHost, "snapshot", snapshot)
    driver.host.images_itself = False
    for _ in range(50):
        driver.call("scrap", "add", "k")
    driver.call("scrap", "fail")
    driver.call(PLUGINS, "skip", "scrap")
    assert driver.ask("scrap", "total", "k") == 50


def test_an_older_image_does_not_replace_a_newer_one(driver: Driver) -> None:
    """A snapshot that was begun before another one was installed is told late."""
    driver.call("scrap", "add", "k")
    chunks = list(driver.host.snapshot())
    twin = driver.new_host()
    twin.restore(chunks, lambda: chunks)
    twin.imaged(Slot(twin.slot - 3), lambda: pytest.fail("the old image was read"))
    driver.call("scrap", "fail")
    twin.apply(*driver.log[-1])
    assert b"".join(twin.snapshot()) == driver.image()


# ---------------------------------------------------------------- digests


def test_equal_hosts_have_equal_digests(driver: Driver) -> None:
    """The digest depends on the log alone, not on whose host it is or on where it was restored."""
    other = driver.new_host(OTHER)
    other.configured(Slot(0), FOUNDERS)
    for slot, payload in driver.log:
        other.apply(slot, payload)
    session = driver.open()
    other.apply(*driver.log[-1])
    for machine, name, args in [("scrap", "tell", [session, 1]), ("scrap", "draw", []), ("scrap", "fail", [])]:
        driver.call(machine, name, *args, session=session, number=driver.host.slot)  # type: ignore[misc]
        other.apply(*driver.log[-1])
        assert other.digest() == driver.host.digest() == driver.restored().digest()


def test_a_difference_shows_in_the_digest(driver: Driver) -> None:
    """By the machine's own number at once, by the chain of results as soon as a result differs."""
    twin = driver.restored()
    tape: Any = twin.machine("tape")
    tape.cells.append(1)
    assert twin.digest() != driver.host.digest()
    tape.cells.clear()
    assert twin.digest() == driver.host.digest()
    scrap: Any = twin.machine("scrap")
    scrap.totals["k"] = 5
    driver.call("scrap", "add", "k")
    twin.apply(*driver.log[-1])
    assert twin.digest() != driver.host.digest()


def test_a_difference_in_events_shows_in_the_digest(driver: Driver) -> None:
    """Also where the command's own result is the same."""

    class Mumbling(Scrap):
        def timer_fired(self, commit: Commit, key: str) -> None:
            for session in commit.sessions:
                commit.publish(session, self.totals.get("k", 0))

    driver = Driver({"scrap": Mumbling})
    driver.open()
    driver.call("scrap", "timer", "t", 10)
    twin = driver.restored()
    scrap: Any = twin.machine("scrap")
    scrap.totals["k"] = 5
    driver.fire("scrap", 20)
    twin.apply(*driver.log[-1])
    assert twin.digest() != driver.host.digest()


def test_divergence_is_told_by_the_host(driver: Driver) -> None:
    """Reports go through the log; the minority is named."""
    for member, digest in [(1, 5), (2, 5), (3, 6)]:
        driver.call("digests", "report", member, 10, digest)
    found = driver.host.divergence()
    assert found is not None
    assert (found.slot, found.differing, found.missing) == (10, (3,), ())


# ---------------------------------------------------------------- membership and slots


def test_a_slot_without_commands_has_no_effect_but_its_number(driver: Driver) -> None:
    """What a new leader fills a gap with changes no machine, no session and no timer, now or later."""
    session = driver.open()
    driver.call("scrap", "add", "k", session=session, number=1)
    driver.call("scrap", "timer", "later", 500)
    twin = driver.restored()
    driver.host.skipped(Slot(driver.host.slot + 1))
    driver.call("scrap", "draw", session=session, number=2)
    driver.fire("scrap", 600)
    for slot, payload in driver.log[-2:]:
        twin.apply(slot, payload)
    assert b"".join(twin.snapshot()) == driver.image()


def test_configured_and_skipped_move_the_slot(driver: Driver) -> None:
    """Slots without commands count; who left is forgotten."""
    slot = driver.host.slot
    driver.host.skipped(Slot(slot + 1))
    fewer = FOUNDERS._replace(number=Slot(slot + 2), members=FOUNDERS.members[:2])
    driver.host.configured(Slot(slot + 2), fewer)
    assert (driver.host.slot, driver.host.configuration) == (slot + 2, fewer)
    assert driver.host.announced(3) is None
    assert driver.host.announced(2) == {"scrap": 1, "tape": 1} == driver.host.available
    with pytest.raises(AssertionError):
        driver.host.skipped(Slot(slot + 2))


def test_loaded_machines_and_their_status(driver: Driver) -> None:
    """What the driver of a replica looks at."""
    assert {number: machine.name for number, machine in driver.host.loaded().items()} == {16: "scrap", 17: "tape"}
    assert [(s.number, s.name, s.version, s.installed, s.halted) for s in driver.host.status()] == [
        (16, "scrap", 1, 1, None),
        (17, "tape", 1, 1, None),
    ]
    assert isinstance(driver.host.machine("tape"), Tape)
    assert SessionId(1) not in driver.host.sessions
    assert driver.host.origin == Origin(1, 1)


def test_the_streams_of_an_unloaded_machine_go_on(driver: Driver) -> None:
    """Or a new leader, who starts from the marks, would ask the origin for chunks that it settled long ago."""
    number = driver.host.machine_number("scrap")
    driver.apply(driver.chunk("scrap", pack_request("add", ["x"])))
    before = driver.host.marks[OWN.member, number]
    driver.call(PLUGINS, "unload", "scrap")
    assert driver.host.marks[OWN.member, number] == before
    driver.apply(pack_chunk(number, *OWN, before[1] + 1, pack_request("add", ["x"])))
    assert plain.decode(driver.applied.answers[0].reply)[1][0] == "machine-missing"  # type: ignore[index, arg-type, call-overload]
    assert driver.host.marks[OWN.member, number] == (before[0], before[1] + 1)
