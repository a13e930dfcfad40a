"""Random histories of commands: what must hold after every step of any of them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from host_driver import OTHER, OWN, Driver, MendedScrap, Scrap, Tape
from quorate.kernel.machine import Commit, Origin, RawMachine, SessionId, StateMachine, command
from quorate.kernel.system import PLUGINS, SESSIONS
from quorate.kernel.wire import plain
from quorate.kernel.wire.batch import pack_batch, pack_request

MACHINES: dict[str, type[StateMachine]] = {"scrap": MendedScrap, "tape": Tape}
KEYS = ("a", "b", "c")


class History:
    """Grows a history out of numbers; what they mean depends on the state so far, so that most steps do something."""

    def __init__(self, machines: dict[str, type[StateMachine]] = MACHINES, harmless: bool = False) -> None:
        self.driver = Driver(machines)
        self.numbers: dict[int, int] = {}
        self.tickets: list[int] = []
        self.harmless = harmless

    def step(self, kind: int, a: int, b: int) -> None:
        """One batch."""
        driver, sessions = self.driver, list(self.driver.host.sessions.values())
        owned = [each for each in sessions if each.owner == OWN]
        session = owned[a % len(owned)].id if owned else SessionId(0)
        key = KEYS[b % 3]
        steps = [
            lambda: self.command(session, "add", key, a - b),
            lambda: self.command(session, "tell", session or b, [a, b], b % 3),
            lambda: self.command(session, "wait"),
            lambda: self.command(session, "resolve", self.tickets[a % len(self.tickets)] if self.tickets else b, b),
            lambda: self.command(session, "timer", key, driver.time + b % 40),
            lambda: self.command(session, "cancel", key),
            lambda: self.command(session, "draw"),
            lambda: self.command(session, "end", sessions[b % len(sessions)].id if sessions else b),
            lambda: driver.call(SESSIONS, "open", 1000 + a, "native", *(OWN if b % 3 else OTHER)),
            lambda: driver.call(
                SESSIONS, "attach", sessions[a % len(sessions)].id if sessions else 5, *(OWN, OTHER)[b % 2]
            ),
            lambda: driver.call(SESSIONS, "close", session),
            lambda: driver.call(SESSIONS, "expire", session, 1 + b % 2, 7),
            lambda: driver.call(SESSIONS, "acknowledge", [[session, a % 5, b % 5]]),
            lambda: driver.call("timers", "fire", 16 + a % 3, driver.time + b, time=driver.time + b % 20),
            lambda: driver.apply(*[driver.chunk(17, bytes([a % 200, b % 200]), (OWN, OTHER)[b % 2])] * (1 + a % 2)),
            lambda: driver.call("digests", "report", 1 + a % 3, b, a % 2),
            lambda: self.repeat(session, a),
            lambda: driver.call(PLUGINS, "unload", ("scrap", "tape", "extra")[a % 3]) if b % 8 == 0 else None,
            lambda: driver.call(PLUGINS, "load", ("scrap", "tape", "extra")[a % 3], ("scrap", "tape")[b % 2], 1),
            lambda: None if self.harmless else self.command(session, "fail"),
            lambda: None if self.harmless else self.command(session, "arm", ("opened", "closed", "fired")[b % 3]),
            lambda: None if self.harmless else driver.apply(driver.chunk(17, bytes([a % 200, 255]))),
            lambda: driver.call(PLUGINS, "skip", ("scrap", "tape")[b % 2]),
            lambda: driver.call(PLUGINS, "upgrade", ("scrap", "extra")[b % 2]) if a % 4 == 0 else None,
        ]
        steps[kind % len(steps)]()

    def command(self, session: int, name: str, *args: Any) -> None:
        """A numbered command of a session, or an unnumbered one of the cell's."""
        number = self.numbers[session] = self.numbers.get(session, 0) + 1
        head = {"session": session, "number": number, "acknowledged": max(0, number - 4)} if session else {}
        reply = self.driver.call(16, name, *args, **head)
        if reply is not None and reply[0] == 2:
            self.tickets.append(reply[1])

    def repeat(self, session: int, back: int) -> None:
        """An old number again."""
        number = max(1, self.numbers.get(session, 1) - back % 6)
        self.driver.call(16, "add", "a", session=session, number=number)


STEPS = st.lists(st.tuples(st.integers(0, 23), st.integers(0, 60), st.integers(0, 60)), max_size=30)


@settings(max_examples=50, deadline=None)
@given(STEPS)
def test_a_snapshot_is_good_after_every_step(steps: list[tuple[int, int, int]]) -> None:
    """Restored anywhere, halted machines included, a host has the same snapshot, digest and future."""
    history = History()
    driver = history.driver
    follower = driver.restored(OTHER)
    for step in steps:
        done = len(driver.log)
        history.step(*step)
        for slot, payload in driver.log[done:]:
            follower.apply(slot, payload)
        image = driver.image()
        assert b"".join(follower.snapshot()) == image
        assert follower.digest() == driver.host.digest()
        follower = driver.new_host(OTHER)
        follower.restore([image])
        assert b"".join(follower.snapshot()) == image
        assert follower.digest() == driver.host.digest()


@settings(max_examples=30, deadline=None)
@given(STEPS, st.data())
def test_rebuilding_does_not_depend_on_where_images_were_taken(
    steps: list[tuple[int, int, int]], drawn: st.DataObject
) -> None:
    """Replicas take snapshots when they like; a machine that halts is rebuilt the same on all of them."""
    history = History()
    driver = history.driver
    other = driver.restored(OTHER)
    for step in steps:
        done = len(driver.log)
        history.step(*step)
        for slot, payload in driver.log[done:]:
            other.apply(slot, payload)
        if drawn.draw(st.booleans()):
            chunks = list(other.snapshot())
            other.imaged(other.slot, lambda chunks=chunks: chunks)  # type: ignore[misc]
    assert b"".join(other.snapshot()) == driver.image()


class Witness:
    """Makes machines that tell it the index of their calls, in order."""

    def __init__(self) -> None:
        self.indexes: list[int] = []

    def scrap(self) -> type[StateMachine]:
        indexes = self.indexes

        class Seen(Scrap):
            def _hook(self, commit: Commit, what: str, *more: Any) -> None:
                indexes.append(commit.index)
                super()._hook(commit, what, *more)

            @command
            def add(self, commit: Commit, key: str, by: int = 1) -> int:
                indexes.append(commit.index)
                return super().add(commit, key, by)

        return Seen

    def tape(self) -> type[RawMachine]:
        indexes = self.indexes

        class Seen(Tape):
            def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None:
                indexes.append(commit.index)
                super().apply_chunk(commit, chunk, answers)

        return Seen


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_indexes_strictly_grow(steps: list[tuple[int, int, int]]) -> None:
    """Over commands, chunks and hooks of all machines: the property that fencing tokens stand on."""
    witness = Witness()
    history = History({"scrap": witness.scrap(), "tape": witness.tape()}, harmless=True)
    for step in steps:
        history.step(*step)
    assert all(earlier < later for earlier, later in zip(witness.indexes, witness.indexes[1:], strict=False))


# ---------------------------------------------------------------- exactly once, against a model


class Model:
    """What a session's numbers must mean, as simply as it can be said."""

    def __init__(self) -> None:
        self.total = 0
        self.replies: dict[int, list[Any]] = {}
        self.acknowledged = 0

    def send(self, number: int, by: int, acknowledged: int, attached: bool) -> list[Any]:
        if not attached:
            return [1, "session-moved"]
        self.acknowledged = max(self.acknowledged, acknowledged)
        self.replies = {n: reply for n, reply in self.replies.items() if n > self.acknowledged}
        if number in self.replies:
            return self.replies[number]
        if number <= self.acknowledged:
            return [1, "already-acknowledged"]
        self.total += by
        self.replies[number] = [0, self.total]
        return self.replies[number]


SENDS = st.lists(
    st.tuples(
        st.integers(1, 8),  # number
        st.integers(1, 100),  # by
        st.integers(0, 6),  # acknowledged
        st.sampled_from([OWN, OTHER, Origin(1, 2)]),  # through whom
        st.integers(0, 3),  # 0: moves first; 1: restored from a snapshot first; 2: the chunk comes twice
    ),
    max_size=25,
)


@settings(max_examples=120, deadline=None)
@given(SENDS)
def test_exactly_once_like_the_model(sends: list[tuple[int, int, int, Origin, int]]) -> None:
    """Repeated numbers, acknowledgements, moves between replicas, repeated chunks and restarts from snapshots."""
    driver = Driver({"scrap": Scrap})
    session, attached = driver.open(), OWN
    model = Model()
    for number, by, acknowledged, origin, extra in sends:
        if extra == 0:
            driver.call(SESSIONS, "attach", session, *origin)
            attached = origin
        elif extra == 1:
            driver.host = driver.restored(driver.host.origin)
        body = pack_request("add", ["k", by], session=session, number=number, acknowledged=acknowledged)
        chunk = driver.chunk("scrap", body, origin)
        answers = driver.apply(*[chunk] * (2 if extra == 2 else 1)).answers
        stale = (
            origin == OWN and driver.host.marks[OWN.member, driver.host.machine_number("scrap")][0] > OWN.incarnation
        )
        expected = None if stale else model.send(number, by, acknowledged, attached == origin)
        if origin == OWN:
            assert _short(answers[0].reply) == expected
            assert [answer.reply for answer in answers[1:]] == [None] * (len(answers) - 1)
        assert driver.ask("scrap", "total", "k") == model.total
    kept = {number: plain.decode(reply) for number, reply in driver.host.sessions[session].replies.items()}
    assert kept == model.replies


def _short(reply: Any) -> list[Any] | None:
    """A reply without the words for people."""
    if reply is None:
        return None
    status, value = plain.decode(reply)  # type: ignore[misc]
    return [status, value[0]] if status == 1 else [status, value]  # type: ignore[index, call-overload, list-item]


# ---------------------------------------------------------------- the same in every process


FIXED = "7e72d67eaed652b3b570d153d9d38cb0498892aa8f06a0434768c940e8d551f6"


def fixed_history() -> str:
    """A long history from one seed; the digest of everything that replicas must agree on."""
    random = Random(20240607)
    history = History()
    seen = hashlib.sha256()
    for step in range(400):
        history.step(random.randrange(24), random.randrange(61), random.randrange(61))
        seen.update(repr(history.driver.applied).encode())
        seen.update(b"%d" % history.driver.host.digest())
        if step % 40 == 0:
            seen.update(history.driver.image())
    seen.update(history.driver.image())
    return seen.hexdigest()


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONHASHSEED": "1", "TZ": "UTC", "LC_ALL": "C"},
        {"PYTHONHASHSEED": "4294967295", "TZ": "Asia/Kathmandu", "LC_ALL": "C.UTF-8", "PYTHONOPTIMIZE": "1"},
    ],
)
def test_every_process_comes_to_the_same_bytes(environment: dict[str, str]) -> None:
    """Hash seed, time zone, locale and optimization do not reach replies, events, digests or snapshots."""
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_host_histories as t; print(t.fixed_history())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == fixed_history()


def test_every_version_of_python_comes_to_the_same_bytes() -> None:
    """So that replicas may be moved to another version one by one. Nothing but a change of the formats changes this."""
    assert fixed_history() == FIXED


def test_fixed_history_does_enough() -> None:
    """The history that is compared halts, resumes, loads and unloads machines."""
    random = Random(20240607)
    history = History()
    changes: set[str] = set()
    for _ in range(400):
        history.step(random.randrange(24), random.randrange(61), random.randrange(61))
        changes.update(change.what for change in history.driver.applied.changes)
    assert changes == {"halted", "resumed", "loaded", "unloaded", "upgraded"}


def test_an_empty_batch_is_a_batch() -> None:
    """It moves time, and nothing else."""
    driver = Driver()
    before = driver.host.index
    driver.apply(time=77)
    assert (driver.host.cell_time, driver.host.index) == (77, before)
    with pytest.raises(AssertionError):
        driver.host.apply(driver.host.slot, pack_batch(1, 1, 1, []))
