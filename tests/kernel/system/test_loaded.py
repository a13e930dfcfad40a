"""A machine in its place, and what it misses while it is halted."""

from __future__ import annotations

from quorate.kernel.machine import Commit, RawMachine, SessionId, StateMachine
from quorate.kernel.system.asks import SessionClosed, SessionOpened, TimerFired, Upgraded, pack_hook, unpack_hook
from quorate.kernel.system.loaded import Halt, Loaded
from quorate.kernel.wire import plain

A, B = SessionId(1), SessionId(2)


class Raw(RawMachine):
    name = "raw"

    def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None: ...


class Typed(StateMachine):
    name = "typed"


def test_hooks_as_plain_data() -> None:
    """Every kind of hook comes back from a snapshot."""
    for hook in (SessionOpened(A, "native"), SessionClosed(B, True), TimerFired("k", 5), Upgraded(1, 2)):
        packed = plain.decode(plain.encode(pack_hook(hook)))
        assert unpack_hook(packed) == hook  # type: ignore[arg-type]
        assert type(unpack_hook(packed)) is type(hook)  # type: ignore[arg-type]


def test_a_session_that_came_and_went_was_not_missed() -> None:
    """What is kept is bounded by the sessions that live or lived at the halt."""
    halt = Halt(5, "why", None)
    for number in range(100):
        halt.miss(SessionOpened(SessionId(10 + number), "native"))
        halt.miss(SessionClosed(SessionId(10 + number), False))
    assert not halt.missed
    halt.miss(SessionClosed(A, True))
    halt.miss(SessionOpened(B, "native"))
    assert list(halt.missed.values()) == [SessionClosed(A, True), SessionOpened(B, "native")]


def test_image_of_a_halt() -> None:
    """The order of what was missed is kept."""
    halt = Halt(5, "why", SessionOpened(A, "native"), "traceback")
    halt.miss(SessionClosed(B, True))
    halt.miss(SessionClosed(A, False))
    restored = Halt.of_image(plain.decode(plain.encode(halt.image())))
    assert (restored.index, restored.reason, restored.pending, restored.missed) == (5, "why", halt.pending, halt.missed)
    assert list(restored.missed) == [B, A]
    assert restored.image() == halt.image()


def test_raw_machines_are_known_by_their_method() -> None:
    """The apply loop asks once, when an instance is put in place."""
    raw, typed = Loaded(16, "r", "raw", 1, Raw(), False), Loaded(17, "t", "typed", 1, Typed(), False)
    assert raw.apply_chunk is not None
    assert typed.apply_chunk is None
    before = raw.machine
    raw.become(Raw())
    assert raw.machine is not before
    assert getattr(raw.apply_chunk, "__self__", None) is raw.machine
