"""Chunks on their way from their origin into the leader's log: numbered, gap-free, exactly once."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.forwarding import Gap, Intake, Outbox, Reply
from quorate.kernel.machine import Origin, SessionId
from quorate.kernel.wire.batch import iter_chunks, pack_chunk
from quorate.kernel.wire.plain import Malformed

ORIGIN = Origin(3, 7)
LOCKS, TREE = 16, 17


def ignore(reply: Reply) -> None:
    """An answer nobody looks at."""


def places(chunks: list[bytes]) -> list[tuple[int, int]]:
    """(machine, sequence) of each chunk."""
    return [(chunk.machine, chunk.sequence) for raw in chunks for chunk in iter_chunks(raw)]


def standing(outbox: Outbox) -> tuple[tuple[int, int], ...]:
    """The heads of streams in which nothing happens between two looks."""
    outbox.heads()
    return outbox.heads()


def chunk(machine: int, sequence: int, body: bytes = b"x", incarnation: int = 7) -> bytes:
    """A chunk of member 3."""
    return pack_chunk(machine, 3, incarnation, sequence, body)


class Keeper:
    """A gate that keeps what it is told to keep."""

    def __init__(self, keep: Callable[[bytes], bool]) -> None:
        self.keep = keep
        self.kept: list[tuple[bytes, Callable[[], None]]] = []
        self.asked: list[bytes] = []

    def command(self, body: bytes, go: Callable[[], None]) -> bool:
        self.asked.append(body)
        if self.keep(body):
            self.kept.append((body, go))
            return False
        return True

    def timers(self, upto: int, go: Callable[[], None]) -> bool:
        return True

    def expiry(self, session: SessionId, go: Callable[[], None]) -> bool:
        return True

    def ended(self) -> None:
        """Nothing to drop."""


# ---------------------------------------------------------------- the origin's side


def test_each_machine_has_a_stream_of_its_own() -> None:
    """Chunks of a machine are numbered from 1 without holes, whatever happens to other machines."""
    outbox = Outbox(ORIGIN)
    for machine in (LOCKS, TREE, LOCKS):
        outbox.submit(machine, b"body", ignore)
    assert places(list(outbox.unsent())) == [(LOCKS, 1), (LOCKS, 2), (TREE, 1)]
    assert standing(outbox) == ((LOCKS, 2), (TREE, 1))


def test_a_chunk_is_sent_once_until_it_is_rewound() -> None:
    """What was sent is not sent again, unless the leader changes or misses it."""
    outbox = Outbox(ORIGIN)
    for _ in range(3):
        outbox.submit(LOCKS, b"a", ignore)
    outbox.submit(TREE, b"b", ignore)
    assert len(list(outbox.unsent())) == 4
    assert list(outbox.unsent()) == []
    outbox.rewind(LOCKS, 2)
    assert places(list(outbox.unsent())) == [(LOCKS, 2), (LOCKS, 3)]
    outbox.rewind()
    assert places(list(outbox.unsent())) == [(LOCKS, 1), (LOCKS, 2), (LOCKS, 3), (TREE, 1)]


def test_only_the_next_chunk_can_be_applied_and_only_once() -> None:
    """The answer of an applied chunk goes to who submitted it; anything out of order is nobody's."""
    outbox = Outbox(ORIGIN)
    told: list[Reply] = []
    outbox.submit(LOCKS, b"a", told.append)
    outbox.submit(LOCKS, b"b", ignore)
    assert outbox.applied(LOCKS, 2) is None
    assert outbox.applied(TREE, 1) is None
    done = outbox.applied(LOCKS, 1)
    assert done is not None
    done(b"answer")
    assert told == [b"answer"]
    assert outbox.applied(LOCKS, 1) is None
    assert outbox.applied(LOCKS, 2) is ignore
    assert outbox.bytes == 0


def test_what_is_applied_before_it_was_sent_again_is_not_sent_again() -> None:
    """A chunk that a former leader got chosen drops out of what is to be sent to the new one."""
    outbox = Outbox(ORIGIN)
    for _ in range(2):
        outbox.submit(LOCKS, b"a", ignore)
    list(outbox.unsent())
    outbox.rewind()
    assert outbox.applied(LOCKS, 1) is ignore
    assert places(list(outbox.unsent())) == [(LOCKS, 2)]


def test_heads_do_not_count_what_was_not_sent() -> None:
    """A leader is asked only for what it should have."""
    outbox = Outbox(ORIGIN)
    outbox.submit(LOCKS, b"a", ignore)
    list(outbox.unsent())
    outbox.submit(LOCKS, b"b", ignore)
    assert standing(outbox) == ((LOCKS, 1),)


def test_only_streams_that_stand_still_are_asked_about() -> None:
    """What is answered between two looks is on its way, however much of it is open at each."""
    outbox = Outbox(ORIGIN)
    for machine in (LOCKS, TREE, TREE):
        outbox.submit(machine, b"a", ignore)
    list(outbox.unsent())
    assert outbox.heads() == ()
    outbox.applied(TREE, 1)
    assert outbox.heads() == ((LOCKS, 1),)
    outbox.applied(TREE, 2)
    assert outbox.heads() == ((LOCKS, 1),)


def test_a_snapshot_settles_what_it_contains() -> None:
    """Chunks at or below the snapshot's mark of this run are settled with a lost answer; others stay open."""
    outbox = Outbox(ORIGIN)
    told: list[str] = []
    for name in ("a", "b", "c"):
        outbox.submit(LOCKS, b"x", lambda reply, name=name: told.append(f"{name}={reply!r}"))  # type: ignore[misc]
    outbox.submit(TREE, b"x", ignore)
    for done in outbox.settle({(3, LOCKS): (7, 2), (3, TREE): (6, 9), (4, TREE): (7, 9)}):
        done(None)
    assert told == ["a=None", "b=None"]
    assert standing(outbox) == ((LOCKS, 2), (TREE, 0))
    assert places(list(outbox.unsent())) == [(LOCKS, 3), (TREE, 1)]


# ---------------------------------------------------------------- the leader's side


def test_what_is_no_chunk_is_void() -> None:
    """Together with all that lies behind it: a peer that is out of order must not stop the leader."""
    intake = Intake({}, {})
    assert intake.admit(chunk(LOCKS, 1) + chunk(LOCKS, 2)[:-1]) == []
    assert intake.admit(b"nonsense") == []
    assert places(intake.take(1000)) == [(LOCKS, 1)]


def test_a_gate_that_cannot_read_a_command_is_a_defect_and_no_garbage() -> None:
    """Taken for garbage, the command would be gone for good, and its stream would stand still until another leads."""

    def unreadable(body: bytes) -> bool:
        raise Malformed("what the gate makes of the command")

    with pytest.raises(Malformed):
        Intake({}, {LOCKS: Keeper(unreadable)}).admit(chunk(LOCKS, 1))


def test_a_stream_is_admitted_without_gaps() -> None:
    """The next chunk is taken, an earlier one dropped, a later one named as a gap."""
    intake = Intake({(3, LOCKS): (7, 4)}, {})
    assert intake.admit(chunk(LOCKS, 5) + chunk(LOCKS, 5) + chunk(LOCKS, 3)) == []
    assert intake.admit(chunk(LOCKS, 8)) == [Gap(LOCKS, 6)]
    assert intake.admit(chunk(LOCKS, 6) + chunk(LOCKS, 7)) == []
    assert places(intake.take(10_000)) == [(LOCKS, 5), (LOCKS, 6), (LOCKS, 7)]


def test_a_new_run_of_a_member_begins_at_one_and_ends_the_old() -> None:
    """After a restart only the new run's chunks are taken, from 1 on."""
    intake = Intake({(3, LOCKS): (7, 4)}, {})
    assert intake.admit(chunk(LOCKS, 2, incarnation=8)) == [Gap(LOCKS, 1)]
    assert intake.admit(chunk(LOCKS, 1, incarnation=8)) == []
    assert intake.expected(3, LOCKS, 7) == 0
    assert intake.admit(chunk(LOCKS, 5)) == [Gap(LOCKS, 0)]
    assert places(intake.take(10_000)) == [(LOCKS, 1)]


def test_the_marks_are_live() -> None:
    """What is applied after the leadership began counts, though it was never admitted here."""
    marks: dict[tuple[int, int], tuple[int, int]] = {}
    intake = Intake(marks, {})
    marks[3, TREE] = (7, 2)
    assert intake.expected(3, TREE, 7) == 3


def test_a_batch_is_bounded_but_never_empty() -> None:
    """A batch holds at least one chunk, and no second one that does not fit."""
    intake = Intake({}, {})
    sizes = [100, 100, 10]
    intake.admit(b"".join(chunk(LOCKS, n, b"x" * size) for n, size in enumerate(sizes, 1)))
    one = len(chunk(LOCKS, 1, b"x" * 100))
    assert [len(intake.take(limit)) for limit in (1, one + len(chunk(LOCKS, 3, b"x" * 10)))] == [1, 2]
    assert not intake


def test_a_gate_holds_its_stream_and_no_other() -> None:
    """Behind a kept command its stream waits in order; other machines and other members go on."""
    gate = Keeper(lambda body: body == b"keep")
    intake = Intake({}, {LOCKS: gate})
    bodies = [b"go", b"keep", b"later", b"keep", b"last"]
    intake.admit(b"".join(chunk(LOCKS, n, body) for n, body in enumerate(bodies, 1)))
    intake.admit(chunk(TREE, 1) + pack_chunk(LOCKS, 4, 1, 1, b"go"))
    assert places(intake.take(10_000)) == [(LOCKS, 1), (TREE, 1), (LOCKS, 1)]
    gate.kept.pop(0)[1]()
    assert places(intake.take(10_000)) == [(LOCKS, 2), (LOCKS, 3)]
    assert gate.asked == [b"go", b"keep", b"go", b"later", b"keep"]
    gate.kept.pop(0)[1]()
    assert places(intake.take(10_000)) == [(LOCKS, 4), (LOCKS, 5)]


@given(st.integers(0, 1 << 30), st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_whatever_is_lost_doubled_or_led_anew_is_applied_once_in_order(seed: int, count: int) -> None:
    """Over a network that loses, doubles and reorders, through changes of the leader, each chunk is applied once, in
    the origin's order."""
    random = Random(seed)
    outbox = Outbox(ORIGIN)
    marks: dict[tuple[int, int], tuple[int, int]] = {}
    applied: dict[int, list[int]] = {LOCKS: [], TREE: []}
    answered: list[int] = []
    network: list[bytes] = []
    intake = Intake(marks, {})
    chosen: list[bytes] = []
    submitted = 0
    for _ in range(40 * count):
        match random.randrange(6 if submitted < count else 5):
            case 0:
                network.extend(outbox.unsent())
            case 1 if network:
                raw = network.pop(random.randrange(len(network)))
                for gap in intake.admit(raw) if random.random() < 0.8 else []:
                    if random.random() < 0.8:
                        outbox.rewind(gap.machine, gap.sequence)
                if random.random() < 0.2:
                    network.append(raw)
            case 2:
                chosen += intake.take(60)
            case 3 if chosen:
                for each in iter_chunks(chosen.pop(0)):
                    incarnation, mark = marks.get((3, each.machine), (7, 0))
                    if each.sequence == mark + 1:
                        marks[3, each.machine] = (incarnation, each.sequence)
                        applied[each.machine].append(each.sequence)
                        done = outbox.applied(each.machine, each.sequence)
                        assert done is not None
                        done(b"")
            case 4 if random.random() < 0.1 and not chosen:
                intake = Intake(marks, {})  # another leader, which has applied all that was chosen
                outbox.rewind()
            case 5:
                submitted += 1
                outbox.submit(random.choice((LOCKS, TREE)), b"x", lambda _, n=submitted: answered.append(n))  # type: ignore[misc]
    while outbox.bytes:
        outbox.rewind()
        for raw in outbox.unsent():
            intake.admit(raw)
        for each in (c for raw in [*chosen, *intake.take(1 << 20)] for c in iter_chunks(raw)):
            _, mark = marks.get((3, each.machine), (7, 0))
            if each.sequence == mark + 1:
                marks[3, each.machine] = (7, each.sequence)
                applied[each.machine].append(each.sequence)
                done = outbox.applied(each.machine, each.sequence)
                assert done is not None
                done(b"")
        chosen.clear()
    assert sorted(answered) == list(range(1, submitted + 1))
    for sequences in applied.values():
        assert sequences == list(range(1, len(sequences) + 1))
