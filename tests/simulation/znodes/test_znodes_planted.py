"""That the judge sees what it must see: mistakes of the kinds that real coordination services made, planted one by one.

Each must be found within a few seeds, as what it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.machine import SessionId
from quorate.kernel.renewals import Renewals
from quorate.kernel.server.handle import FrontHandle, FrontStream
from quorate.kernel.testing.simulation import Failed
from quorate.plugins.znodes import reads
from quorate.plugins.znodes.connection import Connection
from quorate.plugins.znodes.ensemble import number_of
from quorate.plugins.znodes.front import ZooKeeperFront
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.paths import CONFIG
from quorate.plugins.znodes.protocol import Event
from quorate.plugins.znodes.reconfig import Reconfiguring
from quorate.plugins.znodes.tree import Tree
from quorate.plugins.znodes.watches import Watches

sys.path.insert(0, str(Path(__file__).parents[2] / "plugins" / "znodes"))
sys.path.insert(0, str(Path(__file__).parent))

from reference.judge import Violation
from znodes_run import TIMEOUT, ZnodesRun

Plant = Callable[[pytest.MonkeyPatch], None]


def event_behind_the_reply(patch: pytest.MonkeyPatch) -> None:
    """An event goes out after the reply that shows what caused it."""

    def notify(self: Connection, event: bytes) -> None:
        self.events.append((self.front.answers_so_far() + 1, event))
        self.front.touched[self] = None

    patch.setattr(Connection, "notify", notify)


def missed_while_away(patch: pytest.MonkeyPatch) -> None:
    """A client that comes back with its watches is not told what happened meanwhile."""
    patch.setattr(reads, "missed", lambda *args, **named: None)


def one_watch_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A deletion fires the watches on the data only, not those on the children of what is gone."""
    fire = Watches.fire

    def forgetful(self: Any, event: Event, path: bytes, acl: bytes, parent_acl: bytes) -> None:
        children = self.tables[1].pop(path, None) if event == Event.DELETED else None
        fire(self, event, path, acl, parent_acl)
        if children is not None:
            self.tables[1][path] = children

    patch.setattr(Watches, "fire", forgetful)


def back_in_time(patch: pytest.MonkeyPatch) -> None:
    """A replica that is behind takes over the session of a client that has seen more, without asking the cell."""
    greet = Connection._greet

    def attach(self: FrontHandle, session: SessionId, password: bytes, attached: Callable[[Any], None]) -> None:
        found = self._replica.sessions._opened(session)
        self._replica.reactor.callLater(0, attached, found)

    patch.setattr(Connection, "_greet", lambda self, buffer: greet(self, buffer[:8] + bytes(8) + buffer[16:]))
    patch.setattr(FrontHandle, "attach_session", attach)


def doubled_behind_a_fail_over(patch: pytest.MonkeyPatch) -> None:
    """What was on its way when the leader was lost is sent once more when there is a new one."""
    submit, changed = FrontStream.submit, ZooKeeperFront.serving_changed

    def remember(self: FrontStream, chunk: bytes, applied: Callable[[list[bytes]], None]) -> None:
        waiting = self._replica.__dict__.setdefault("chunks on their way", [])
        waiting.append(chunk)

        def done(answers: list[bytes]) -> None:
            waiting.remove(chunk)
            applied(answers)

        submit(self, chunk, done)

    def again(self: ZooKeeperFront, serving: bool) -> None:
        changed(self, serving)
        stream: Any = self._stream
        for chunk in list(stream._replica.__dict__.get("chunks on their way", ())) if serving else ():
            submit(stream, chunk, lambda answers: None)

    patch.setattr(FrontStream, "submit", remember)
    patch.setattr(ZooKeeperFront, "serving_changed", again)


def expiry_too_early(patch: pytest.MonkeyPatch) -> None:
    """The leader waits for a quarter of what was promised."""
    watch = Renewals.watch
    full = int(TIMEOUT * 1_000_000)
    patch.setattr(
        Renewals,
        "watch",
        lambda self, session, timeout, attachment: watch(
            self, session, timeout // 4 if timeout == full else timeout, attachment
        ),
    )


def ephemeral_left_behind(patch: pytest.MonkeyPatch) -> None:
    """A session's end forgets the last of its ephemeral nodes."""

    def end(self: Tree, session: int, zxid: int) -> None:
        for path in list(self.ephemerals.get(session, ()))[:-1]:
            self.remove(path, zxid)

    patch.setattr(Tree, "end_session", end)


def moved_and_still_writing(patch: pytest.MonkeyPatch) -> None:
    """A replica goes on writing for a session that has moved to another one."""
    apply_chunk = ZnodesMachine.apply_chunk

    class Everywhere(dict[int, object]):
        def __init__(self, origin: object) -> None:
            self.origin = origin

        def get(self, session: object, default: object = None) -> object:
            return self.origin

    def careless(self: ZnodesMachine, commit: Any, chunk: bytes, answers: list[bytes] | None) -> None:
        there, commit.sessions = commit.sessions, Everywhere(commit.origin)
        try:
            apply_chunk(self, commit, chunk, answers)
        finally:
            commit.sessions = there

    patch.setattr(ZnodesMachine, "apply_chunk", careless)


def sync_without_a_round(patch: pytest.MonkeyPatch) -> None:
    """A sync is answered from what the replica happens to have."""
    barrier = FrontHandle.barrier

    def at_once(self: FrontHandle, ready: Callable[[bool], None]) -> None:
        if ready.__name__ == "_barrier_passed":
            self._replica.reactor.callLater(0, ready, True)
        else:
            barrier(self, ready)

    patch.setattr(FrontHandle, "barrier", at_once)


def members_not_written_down(patch: pytest.MonkeyPatch) -> None:
    """Whoever writes down who is in the cell does it once and never again."""
    write = Reconfiguring._write

    def once(self: Reconfiguring) -> None:
        if number_of(self._front.tree.nodes[CONFIG].value) < 0:
            write(self)
        self._writing = None

    patch.setattr(Reconfiguring, "_write", once)


PLANTED: list[tuple[Plant, set[str], range]] = [
    (event_behind_the_reply, {"event late"}, range(1, 6)),
    (missed_while_away, {"event lost", "event late"}, range(1, 11)),
    (one_watch_forgotten, {"event lost", "event late"}, range(1, 11)),
    # A session that was taken over unasked belongs to another replica: its writes are refused, and it is cut off.
    (back_in_time, {"zxid", "event lost", "event late", "answer", "order"}, range(1, 6)),
    # What a replica writes by itself may be written twice; but its second answer puts events out of their places.
    (doubled_behind_a_fail_over, {"once", "order", "answer", "event late"}, range(1, 16)),
    (expiry_too_early, {"expiry"}, range(1, 9)),
    (ephemeral_left_behind, {"answer", "event false", "event lost", "event late"}, range(1, 21)),
    (moved_and_still_writing, {"once", "answer", "count"}, range(1, 31)),
    (sync_without_a_round, {"sync"}, range(1, 61)),
    (members_not_written_down, {"members"}, range(1, 6)),
]
"""A mistake, the promises it breaks, and the seeds among which one must find it."""


def failure_of(seed: int) -> Failed | None:
    """How a seed fails, if it does."""
    try:
        ZnodesRun(seed).run()
    except Failed as failed:
        return failed
    return None


@pytest.mark.parametrize(("plant", "promises", "seeds"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_mistakes_are_found(plant: Plant, promises: set[str], seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the seeds breaks a promise, and it is the right one."""
    plant(monkeypatch)
    found = next((failure for seed in seeds if (failure := failure_of(seed)) is not None), None)
    assert found is not None, f"not found in {seeds}"
    assert isinstance(found.cause, Violation), found
    assert found.cause.promise in promises, found
