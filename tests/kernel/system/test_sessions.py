"""The machine "sessions"."""

from __future__ import annotations

import hashlib
import hmac
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.machine import NO_SESSION, Origin, Refusal, SessionId, Ticket
from quorate.kernel.system import sessions as sessions_module
from quorate.kernel.system.asks import Attached, Ended, SystemCommit, SystemEffects
from quorate.kernel.system.sessions import Sessions
from quorate.kernel.wire import plain

OWN = Origin(1, 1)
OTHER = Origin(2, 1)


class Bench:
    """The machine by itself; `asked` is what the last command asked of the host."""

    def __init__(self) -> None:
        self.machine = Sessions(b"cell")
        self.index = 0
        self.asked: list[Any] = []

    def commit(self, origin: Origin = OWN, epoch: int = 7) -> SystemCommit:
        """The next command's place."""
        self.index += 1
        effects = SystemEffects()
        self.asked = effects.asked
        return SystemCommit(
            self.index,
            0,
            0,
            session=NO_SESSION,
            origin=origin,
            epoch=epoch,
            sessions={},
            random=Random,
            effects=effects,
        )

    def open(self, origin: Origin = OWN) -> SessionId:
        """A new session."""
        return SessionId(self.machine.open(self.commit(), 1000, "native", *origin))


@pytest.fixture
def bench() -> Bench:
    """A machine without sessions."""
    return Bench()


def test_open_attach_and_end_ask_the_host(bench: Bench) -> None:
    """State changes here; whom to tell is the host's work."""
    session = bench.open()
    assert bench.asked == [Attached(session, "native", None)]
    assert bench.machine.origins == {session: OWN}
    assert bench.machine.attach(bench.commit(), session, *OTHER) == 2
    assert bench.asked == [Attached(session, "native", OWN)]
    assert bench.machine.origins == {session: OTHER}
    with pytest.raises(Refusal, match="session-moved"):
        bench.machine.close(bench.commit(OWN), session)
    assert bench.machine.close(bench.commit(OTHER), session) is True
    assert bench.asked == [Ended(session, False)]
    assert bench.machine.close(bench.commit(OTHER), session) is False
    assert bench.asked == []
    assert not bench.machine.table
    assert not bench.machine.origins
    with pytest.raises(Refusal, match="session-unknown"):
        bench.machine.attach(bench.commit(), session, *OWN)


def test_expire_names_attachment_and_leadership(bench: Bench) -> None:
    """Either that has changed makes it void."""
    session = bench.open()
    for attachment, epoch in [(0, 7), (2, 7), (1, 6), (1, 8)]:
        assert bench.machine.expire(bench.commit(epoch=7), session, attachment, epoch) is False
        assert bench.asked == []
    assert bench.machine.expire(bench.commit(epoch=7), session, 1, 7) is True
    assert bench.asked == [Ended(session, True)]
    assert bench.machine.expire(bench.commit(epoch=7), session, 1, 7) is False


@pytest.mark.parametrize(
    ("timeout_ms", "face", "code"),
    [
        (0, "native", "bad-timeout"),
        (86_400_001, "native", "bad-timeout"),
        (1, "", "bad-face"),
        (1, "x" * 65, "bad-face"),
    ],
)
def test_open_is_bounded(bench: Bench, timeout_ms: int, face: str, code: str) -> None:
    """What a replica must not ask for is refused before anything changes."""
    with pytest.raises(Refusal, match=code):
        bench.machine.open(bench.commit(), timeout_ms, face, *OWN)
    assert not bench.machine.table


def test_sessions_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """And room comes back when one ends."""
    monkeypatch.setattr(sessions_module, "SESSIONS_MAX", 2)
    first = bench.open()
    bench.open()
    with pytest.raises(Refusal, match="too-many-sessions"):
        bench.open()
    bench.machine.close(bench.commit(), first)
    bench.open()


@given(st.integers(1, (1 << 55) - 1), st.integers(1, (1 << 55) - 1))
def test_identities_are_unique_and_positive(one: int, two: int) -> None:
    """Different indexes give different 63-bit identities, and none is 0."""
    machine = Sessions(b"cell")
    first, second = machine._identity(one), machine._identity(two)
    assert 0 < first < 1 << 63
    assert (first == second) == (one == two)


def test_identities_differ_between_cells_and_do_not_count_up() -> None:
    """A session of one cell is unlikely to be taken for one of another."""
    here = [Sessions(b"here")._identity(index) for index in range(1, 200)]
    there = [Sessions(b"there")._identity(index) for index in range(1, 200)]
    assert not set(here) & set(there)
    assert sum(after > before for before, after in pairwise(here)) < 150


def test_the_key_is_founded_once(bench: Bench) -> None:
    """The first leader's key stays; passwords are made with it, and with the session."""
    with pytest.raises(LookupError):
        bench.machine.password(SessionId(5))
    with pytest.raises(Refusal, match="bad-key"):
        bench.machine.found(bench.commit(), b"short")
    assert bench.machine.found(bench.commit(), b"k" * 32) is True
    assert bench.machine.found(bench.commit(), b"l" * 32) is False
    expected = hmac.new(b"k" * 32, (5).to_bytes(8, "big"), hashlib.sha256).digest()[:16]
    assert bench.machine.password(SessionId(5)) == expected
    assert bench.machine.password(SessionId(6)) != expected


def test_listing_is_paged(bench: Bench) -> None:
    """For people; in order of identity."""
    identities = sorted(bench.open() for _ in range(5))
    assert bench.machine.count() == 5
    first: Any = bench.machine.sessions(0, 2)
    rest: Any = bench.machine.sessions(first[-1]["session"])
    assert [each["session"] for each in (*first, *rest)] == identities
    assert bench.machine.sessions(0, -5) == []
    assert first[0] == {
        "session": identities[0],
        "face": "native",
        "timeout_ms": 1000,
        "member": 1,
        "replies": 0,
        "events": 0,
        "waits": 0,
    }


def test_waits_belong_to_a_session_and_a_machine(bench: Bench) -> None:
    """Ended by their machine, by their session, or all at once when the machine goes; oldest first."""
    one, two = bench.open(), bench.open()
    tag = plain.encode("m")
    for ticket, session, machine in [(1, one, 16), (2, two, 16), (3, one, 17), (4, two, 16), (5, SessionId(99), 16)]:
        bench.machine.park(Ticket(ticket), session, machine)
    assert bench.machine.resolve(Ticket(1), 17, tag, b"\xc0") is None
    event = bench.machine.resolve(Ticket(1), 16, tag, b"\xc0")
    assert event is not None
    assert plain.decode(event.event) == [1, "m", 1, [1, None]]
    assert bench.machine.resolve(Ticket(1), 16, tag, b"\xc0") is None
    events = bench.machine.abandon(16, tag, "gone", "because")
    assert [plain.decode(each.event) for each in events] == [
        [1, "m", 2, [2, "gone", "because"]],
        [2, "m", 2, [4, "gone", "because"]],
    ]
    assert list(bench.machine.tickets) == [3]
    bench.machine.end(one)
    assert not bench.machine.tickets


def test_image_comes_in_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sessions are many pieces, and come back in the same order with the same waits."""
    monkeypatch.setattr(sessions_module, "_PIECE_BYTES", 200)
    bench.machine.found(bench.commit(), b"k" * 32)
    sessions = [bench.open() for _ in range(30)]
    for ticket, session in [(9, sessions[2]), (10, sessions[0]), (11, sessions[1])]:
        bench.machine.park(Ticket(ticket), session, 16)
    pieces = list(bench.machine.snapshot_chunks())
    assert len(pieces) > 5
    restored = Sessions(b"cell")
    restored.restore_chunks(pieces, 1)
    assert list(restored.table) == list(restored.origins) == sessions
    assert list(restored.tickets) == [9, 10, 11]
    assert restored.tickets[Ticket(10)] is restored.table[sessions[0]]
    assert restored.key == b"k" * 32
    assert list(restored.snapshot_chunks()) == pieces
    with pytest.raises(ValueError, match="missing"):
        Sessions(b"cell").restore_chunks(pieces[:1], 1)


def test_acknowledging_for_sessions_that_are_gone(bench: Bench) -> None:
    """Reports travel slowly; they may name the dead."""
    session = bench.open()
    bench.machine.publish(session, plain.encode("m"), plain.encode(1))
    bench.machine.acknowledge(bench.commit(), [(SessionId(77), 1, 1), (session, 1, 0)])
    assert not bench.machine.table[session].events
    assert bench.machine.publish(SessionId(77), plain.encode("m"), plain.encode(1)) is None
