"""Calls of machines: effects, hooks, and machines that fail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from host_driver import FOUNDERS, MACHINES, OTHER, OWN, Driver, MendedScrap, Scrap, Tape
from quorate.kernel.machine import Commit, Refusal, SessionId, StateMachine, command, query
from quorate.kernel.paxos.ballot import Slot
from quorate.kernel.stop import StopReplica
from quorate.kernel.system import PLUGINS, SESSIONS, TIMERS
from quorate.kernel.system.session import WAITS_MAX
from quorate.kernel.wire import plain


@pytest.fixture
def driver() -> Driver:
    """A founded host with both machines loaded."""
    return Driver()


def hooks(driver: Driver, machine: str = "scrap") -> list[Any]:
    """The hooks that a machine was called with, without their indexes."""
    return [[what, *more] for what, _, *more in driver.ask(machine, "calls") if what != "add"]


def halted(driver: Driver, machine: str = "scrap") -> str | None:
    """Why a machine is halted."""
    return next(each.halted for each in driver.host.status() if each.name == machine)


# ---------------------------------------------------------------- effects


def test_events_are_numbered_and_kept(driver: Driver) -> None:
    """From 1 for each session, told where it is attached, until the client has them."""
    here, there = driver.open(), driver.open(OTHER)
    driver.call("scrap", "tell", here, "a")
    assert [plain.decode(event.event) for event in driver.applied.events] == [[1, "scrap", 0, "a"]]
    driver.call("scrap", "tell", there, "b")
    assert not driver.applied.events
    driver.call("scrap", "tell", here, "c")
    assert driver.events(here) == [[1, "scrap", 0, "a"], [2, "scrap", 0, "c"]]
    assert driver.events(here, 1) == [[2, "scrap", 0, "c"]]
    assert driver.events(there) == [[1, "scrap", 0, "b"]]
    driver.call("scrap", "add", "k", session=here, number=1, events_acknowledged=1)
    assert driver.events(here) == [[2, "scrap", 0, "c"]]
    driver.call(SESSIONS, "acknowledge", [[there, 1, 0], [here, 99, 1], [77, 1, 1]])
    assert driver.events(here) == driver.events(there) == []
    driver.call("scrap", "tell", here, "d")
    assert driver.events(here) == [[3, "scrap", 0, "d"]]


def test_telling_a_dead_session_does_nothing(driver: Driver) -> None:
    """Machines need not know who lives."""
    assert driver.call("scrap", "tell", 12345, "x") == [0, None]
    assert driver.call("scrap", "end", 12345) == [0, None]
    assert not driver.applied.events
    assert not driver.applied.ended


def test_a_refused_command_has_no_effects(driver: Driver) -> None:
    """What was asked for before the refusal is dropped, and does not leak into the next command."""

    class Wary(StateMachine):
        name = "wary"

        @command
        def look(self, commit: Commit, session: int) -> None:
            commit.publish(SessionId(session), "leaked")
            commit.set_timer("leaked", 1)
            commit.park()

    driver = Driver({"wary": Wary})
    session = driver.open()
    assert driver.call("wary", "look", session)[1][0] == "no-session"
    driver.call(SESSIONS, "acknowledge", [])
    assert driver.events(session) == []
    assert driver.host.next_timer() is None


def test_a_wait_is_answered_with_a_ticket_and_ends_with_an_event(driver: Driver) -> None:
    """Also if it is asked for again; once; and only by the machine that began it."""
    session = driver.open()
    status, ticket = driver.call("scrap", "wait", session=session, number=1)
    assert status == 2
    assert driver.call("scrap", "wait", session=session, number=1) == [2, ticket]
    assert driver.call("scrap", "again", ticket, session=session, number=2) == [2, ticket]
    assert driver.call("scrap", "again", ticket + 1, session=session, number=3) == [0, ticket + 1]
    other = driver.open()
    assert driver.call("scrap", "again", ticket, session=other, number=1) == [0, ticket]
    driver.call("scrap", "resolve", ticket, {"won": True})
    driver.call("scrap", "resolve", ticket, "again")
    assert driver.events(session) == [[1, "scrap", 1, [ticket, {"won": True}]]]
    assert driver.call("scrap", "again", ticket, session=session, number=4) == [0, ticket]


def test_another_machine_cannot_end_a_wait() -> None:
    """A ticket belongs to the machine that parked."""
    driver = Driver({"scrap": Scrap, "scrap-two": Scrap})
    session = driver.open()
    _, ticket = driver.call("scrap", "wait", session=session, number=1)
    driver.call("scrap-two", "resolve", ticket, "stolen")
    assert driver.events(session) == []
    assert driver.call("scrap-two", "again", ticket, session=session, number=2) == [0, ticket]


def test_an_ended_session_waits_no_more(driver: Driver) -> None:
    """Its tickets go with it; resolving them later is nothing."""
    session = driver.open()
    _, ticket = driver.call("scrap", "wait", session=session, number=1)
    driver.call(SESSIONS, "expire", session, 1, 7)
    assert driver.call("scrap", "resolve", ticket, "late") == [0, None]
    assert driver.image() == b"".join(driver.restored().snapshot())


def test_waits_are_bounded(driver: Driver) -> None:
    """The refusal comes from park, before anything changed."""
    session = driver.open()
    for _ in range(WAITS_MAX):
        assert driver.call("scrap", "wait", session=session)[0] == 2
    assert driver.call("scrap", "wait", session=session)[1][0] == "too-many-waits"
    assert driver.call("scrap", "wait", session=driver.open())[0] == 2


def test_random_is_seeded_by_cell_machine_and_index(driver: Driver) -> None:
    """Two draws in a command differ, two commands differ, two replicas agree."""
    twin = driver.restored()
    first = driver.call("scrap", "draw")
    assert twin.apply(*driver.log[-1]) == driver.applied
    second = driver.call("scrap", "draw")
    assert len({*first[1], *second[1]}) == 4


def test_commit_sessions_is_the_live_table(driver: Driver) -> None:
    """A machine sees who lives and where, without a copy."""
    one, two = driver.open(), driver.open(OTHER)
    assert driver.call("scrap", "alive")[1] == [[one, *OWN], [two, *OTHER]]
    driver.call(SESSIONS, "attach", two, *OWN)
    driver.call(SESSIONS, "close", one)
    assert driver.call("scrap", "alive")[1] == [[two, *OWN]]
    assert b"".join(driver.restored().snapshot()) == driver.image()


# ---------------------------------------------------------------- timers


def test_timers_fire_in_order_once_and_not_early(driver: Driver) -> None:
    """By (time, key); set again is replaced, cancelled is gone; upto beyond cell time is clamped."""
    for key, at in [("b", 30), ("a", 30), ("c", 20), ("late", 99), ("moved", 25), ("gone", 25)]:
        driver.call("scrap", "timer", key, at)
    driver.call("scrap", "timer", "moved", 98)
    driver.call("scrap", "cancel", "gone")
    driver.call("scrap", "cancel", "never set")
    assert driver.host.next_timer() == 20
    assert driver.host.due_timers(19) == []
    assert driver.host.due_timers(20) == [(16, 20)]
    driver.call(TIMERS, "fire", 16, 1000, time=24)
    assert hooks(driver) == [["fired", "c"]]
    driver.fire("scrap", 40)
    driver.fire("scrap", 41)
    assert hooks(driver) == [["fired", "c"], ["fired", "a"], ["fired", "b"]]
    driver.fire("scrap", 100)
    assert hooks(driver)[3:] == [["fired", "moved"], ["fired", "late"]]
    assert driver.host.next_timer() is None
    assert driver.call(TIMERS, "fire", 99, 1000) == [0, None]


def test_each_hook_has_its_own_growing_index(driver: Driver) -> None:
    """A token handed out in a hook is as good as one from a command."""
    for key in "abc":
        driver.call("scrap", "timer", key, 10)
    before = driver.host.index
    driver.fire("scrap", 20)
    assert [index for what, index, *_ in driver.ask("scrap", "calls") if what == "fired"] == [
        before + 2,
        before + 3,
        before + 4,
    ]


def test_a_timer_outlives_the_session_that_set_it(driver: Driver) -> None:
    """Timers belong to machines."""
    session = driver.open()
    driver.call("scrap", "timer", "x", 50, session=session, number=1)
    driver.call(SESSIONS, "close", session)
    driver.fire("scrap", 60)
    assert hooks(driver)[-1] == ["fired", "x"]


def test_a_timer_that_an_earlier_one_cancels_does_not_fire() -> None:
    """What is due is looked at again when its turn comes."""

    class Chain(Scrap):
        def timer_fired(self, commit: Commit, key: str) -> None:
            super().timer_fired(commit, key)
            commit.cancel_timer("b")
            commit.set_timer("c", 500)

    driver = Driver({"scrap": Chain})
    for key in "abcd":
        driver.call("scrap", "timer", key, 10)
    driver.fire("scrap", 20)
    assert hooks(driver) == [["fired", "a"], ["fired", "d"]]
    assert driver.host.next_timer() == 500


def test_a_machine_with_too_many_timers_halts(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is the machine's to keep; beyond it is a defect of the machine."""
    monkeypatch.setattr("quorate.kernel.system.timers.TIMERS_MAX", 2)
    for key in "ab":
        assert driver.call("scrap", "timer", key, 10) == [0, None]
    assert driver.call("scrap", "timer", "c", 10)[0] == 3


# ---------------------------------------------------------------- sessions' hooks


def test_every_machine_hears_of_sessions_in_order_of_number() -> None:
    """Opened, closed and expired; each call with its own index."""
    driver = Driver({"scrap": Scrap, "scrap-two": Scrap})
    session = driver.open()
    driver.call(SESSIONS, "close", session)
    other = driver.open()
    driver.call(SESSIONS, "expire", other, 1, 7)
    expected = [
        ["opened", session, "native"],
        ["closed", session, False],
        ["opened", other, "native"],
        ["closed", other, True],
    ]
    assert hooks(driver) == hooks(driver, "scrap-two") == expected
    indexes = [index for machine in ("scrap", "scrap-two") for _, index, *_ in driver.ask(machine, "calls")]
    one, two = indexes[:4], indexes[4:]
    assert [after - before for before, after in zip(one, two, strict=True)] == [1] * 4


def test_an_expiry_is_void_if_things_changed(driver: Driver) -> None:
    """Attached again since, or judged under another leadership."""
    session = driver.open()
    assert driver.call(SESSIONS, "expire", session, 1, 8, epoch=9) == [0, False]
    driver.call(SESSIONS, "attach", session, *OWN)
    assert driver.call(SESSIONS, "expire", session, 1, 9, epoch=9) == [0, False]
    assert session in driver.host.sessions
    assert driver.call(SESSIONS, "expire", session, 2, 9, epoch=9) == [0, True]
    assert driver.applied.ended == [(session, True)]


def test_a_machine_can_end_sessions(driver: Driver) -> None:
    """Its own caller's, too; the reply is still given, hooks come behind the command."""
    one, two = driver.open(), driver.open()
    assert driver.call("scrap", "end", one, session=two, number=1) == [0, None]
    assert driver.call("scrap", "end", two, session=two, number=2) == [0, None]
    assert driver.applied.ended == [(two, False)]
    assert not driver.host.sessions
    assert hooks(driver)[2:] == [["closed", one, False], ["closed", two, False]]


def test_hooks_may_end_further_sessions() -> None:
    """What follows from a hook follows in order, until nothing more does."""

    class Family(Scrap):
        def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
            super().session_closed(commit, session, expired)
            for other in list(commit.sessions)[:1]:
                commit.close_session(other)

    driver = Driver({"scrap": Family})
    sessions = [driver.open() for _ in range(4)]
    driver.call(SESSIONS, "close", sessions[3])
    assert driver.applied.ended == [(sessions[each], False) for each in (3, 0, 1, 2)]
    assert hooks(driver)[4:] == [["closed", sessions[each], False] for each in (3, 0, 1, 2)]


# ---------------------------------------------------------------- machines that fail


def test_a_defect_halts_only_the_machine(driver: Driver) -> None:
    """The command is not done and never will be; its half-made changes and effects are gone; others go on."""
    session = driver.open()
    driver.call("scrap", "add", "k", session=session, number=1)
    reply = driver.call("scrap", "fail", session=session, number=2)
    assert reply == [3, ["scrap", f"KeyError in the command fail, index {driver.host.index}"]]
    assert driver.applied.changed
    assert [change.what for change in driver.applied.changes] == ["halted"]
    assert driver.call("scrap", "fail", session=session, number=2) == reply
    assert driver.call("scrap", "add", "k", session=session, number=3) == reply
    assert driver.call("scrap", "add", "k", session=session, number=1) == [0, 1]
    assert driver.apply(driver.chunk("tape", b"\x01")).answers[0].reply == [b"1"]
    assert driver.events(session) == []
    assert driver.host.next_timer() is None
    assert plain.decode(driver.host.query("scrap", plain.encode(["total", ["k"]]))) == reply
    assert 16 not in driver.host.loaded()
    with pytest.raises(LookupError, match="halted"):
        driver.host.machine("scrap")
    (status,) = [each for each in driver.host.status() if each.halted]
    assert "a defect" in status.detail

    assert driver.call(PLUGINS, "skip", "scrap") == [0, None]
    assert [change.what for change in driver.applied.changes] == ["resumed"]
    assert driver.ask("scrap", "total", "dirty") == 0
    assert driver.ask("scrap", "total", "k") == 1
    assert driver.call("scrap", "fail", session=session, number=2) == reply
    assert driver.call("scrap", "add", "k", session=session, number=3) == reply
    assert driver.call("scrap", "add", "k", session=session, number=4) == [0, 2]


@pytest.mark.parametrize("name", ["odd_result", "odd_event"])
def test_what_is_not_plain_is_a_defect(driver: Driver, name: str) -> None:
    """It is found before anything of the command shows."""
    session = driver.open()
    assert driver.call("scrap", name, session=session, number=1)[0] == 3
    assert driver.events(session) == []


class Odd(StateMachine):
    """Speaks in words and numbers that nobody can be told."""

    name = "odd"

    @command
    def refuse(self, commit: Commit) -> None:
        raise Refusal("odd", KeyError("no text"))  # type: ignore[arg-type]

    @command
    def mumble(self, commit: Commit) -> None:
        raise Refusal("odd", "\ud800")

    @query
    def murmur(self) -> None:
        raise ValueError("\ud800")

    @query
    def deny(self) -> None:
        raise Refusal("odd", KeyError("no text"))  # type: ignore[arg-type]

    def digest(self) -> int:
        return 1 << 64


def test_a_refusal_that_is_no_text_is_a_defect() -> None:
    """Of that machine; a query of it fails alone."""
    driver = Driver({"odd": Odd})
    assert driver.call("odd", "mumble") == [1, ["odd", "\\ud800"]]
    assert plain.decode(driver.host.query("odd", plain.encode(["deny", []])))[1][0] == "query-failed"  # type: ignore
    failed = plain.decode(driver.host.query("odd", plain.encode(["murmur", []])))
    assert failed == [1, ["query-failed", "ValueError: \\ud800"]]
    assert driver.call("odd", "refuse")[0] == 3
    assert halted(driver, "odd") == f"TypeError in the command refuse, index {driver.host.index}"


def test_a_digest_that_is_none_is_left_out() -> None:
    """The replicas compare what the machine answers instead."""
    driver = Driver({"odd": Odd})
    before = driver.host.digest()
    driver.call("odd", "mumble")
    assert driver.host.digest() != before
    assert driver.restored().digest() == driver.host.digest()


def test_a_raw_machine_halts_like_any_other(driver: Driver) -> None:
    """Its chunk's earlier operations are undone, too; the submitter gets the reply in place of answers."""
    driver.apply(driver.chunk("tape", b"\x01\x02"))
    driver.apply(driver.chunk("tape", b"\x03\xff\x04"))
    reply: Any = plain.decode(driver.applied.answers[0].reply)  # type: ignore[arg-type]
    assert reply == [3, ["tape", f"ValueError in a chunk, index {driver.host.index}"]]
    assert plain.decode(driver.apply(driver.chunk("tape", b"\x05")).answers[0].reply) == reply  # type: ignore[arg-type]
    driver.call(PLUGINS, "skip", "tape")
    assert driver.apply(driver.chunk("tape", b"\x06")).answers[0].reply == [b"3"]


def test_what_is_not_deterministic_stops_the_replica(driver: Driver) -> None:
    """Memory running out must not halt a machine on this replica only."""
    with pytest.raises(StopReplica, match="MemoryError"):
        driver.call("scrap", "no_memory")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RecursionError, SystemExit])
def test_interrupts_stop_the_replica(error: type[BaseException]) -> None:
    """Neither does a signal or an exhausted stack count as the machine's defect."""

    class Rude(StateMachine):
        name = "rude"

        @command
        def go(self, commit: Commit) -> None:
            raise error

    driver = Driver({"rude": Rude})
    with pytest.raises(StopReplica, match=error.__name__):
        driver.call("rude", "go")


def test_a_halted_machine_is_the_same_after_a_restore(driver: Driver) -> None:
    """Where, why and what it misses are in the snapshot, and so is its good state; both go on alike."""
    session = driver.open()
    driver.call("scrap", "add", "k")
    driver.call("scrap", "fail")
    later = driver.open()
    driver.call(SESSIONS, "close", session)
    twin = driver.restored()
    assert b"".join(twin.snapshot()) == driver.image()
    assert twin.digest() == driver.host.digest()
    for name in ("skip", "unload"):
        driver.call(PLUGINS, name, "scrap")
        assert twin.apply(*driver.log[-1]) == driver.applied
        assert b"".join(twin.snapshot()) == driver.image()
    assert later in twin.sessions


def test_a_machine_is_rebuilt_from_an_image_and_the_log_since(driver: Driver) -> None:
    """Whether the image was taken before the failure, after it, or restored from; and after a second failure."""
    driver.call("scrap", "add", "k")
    before = list(driver.host.snapshot())
    driver.host.imaged(driver.host.slot, lambda: before)
    driver.call("scrap", "add", "k")
    driver.call("scrap", "fail")
    after = list(driver.host.snapshot())
    twin = driver.restored(chunks=after)
    driver.host.imaged(driver.host.slot, lambda: after)
    for expected in (3, 4):
        driver.call(PLUGINS, "skip", "scrap")
        twin.apply(*driver.log[-1])
        assert driver.call("scrap", "add", "k") == [0, expected]
        twin.apply(*driver.log[-1])
        driver.call("scrap", "fail")
        twin.apply(*driver.log[-1])
        assert b"".join(twin.snapshot()) == driver.image()


def test_missed_sessions_are_told_when_the_machine_goes_on(driver: Driver) -> None:
    """Those that came and went meanwhile are not; timers that fell due wait."""
    gone, stays = driver.open(), driver.open()
    driver.call("scrap", "timer", "t", 20)
    seen = len(hooks(driver))
    driver.call("scrap", "fail")
    brief = driver.open()
    driver.call(SESSIONS, "close", brief)
    new = driver.open()
    driver.call(SESSIONS, "expire", gone, 1, 7)
    assert driver.host.due_timers(50) == []
    assert driver.host.next_timer() is None
    driver.fire("scrap", 50)
    driver.call(PLUGINS, "skip", "scrap")
    assert hooks(driver)[seen:] == [["opened", new, "native"], ["closed", gone, True]]
    assert driver.host.due_timers(50) == [(16, 50)]
    driver.fire("scrap", 51)
    assert hooks(driver)[seen + 2 :] == [["fired", "t"]]
    assert stays in driver.host.sessions


def test_waits_outlive_a_halt(driver: Driver) -> None:
    """The machine still knows them when it goes on: to end them would make it grant to somebody who left."""
    session = driver.open()
    _, ticket = driver.call("scrap", "wait", session=session, number=1)
    driver.call("scrap", "fail")
    driver.call(PLUGINS, "skip", "scrap")
    driver.call("scrap", "resolve", ticket, "r")
    assert driver.events(session) == [[1, "scrap", 1, [ticket, "r"]]]


def test_skip_drops_a_failing_hook(driver: Driver) -> None:
    """The machine goes on without it."""
    session = driver.open()
    driver.call("scrap", "arm", "closed")
    driver.call(SESSIONS, "close", session)
    behind = 1  # the other machine heard of it, too
    assert halted(driver) == f"RuntimeError in the hook SessionClosed, index {driver.host.index - behind}"
    other = driver.open()
    driver.call(PLUGINS, "skip", "scrap")
    assert hooks(driver) == [["opened", session, "native"], ["opened", other, "native"]]


def test_a_failing_timer_is_skipped_or_tried_again() -> None:
    """By skip it is gone, by an upgrade it fires; those behind it fire in any case."""
    for way in ("skip", "upgrade"):
        driver = Driver({"scrap": MendedScrap, "tape": Tape})
        driver.call("scrap", "arm", "fired")
        for key in "ab":
            driver.call("scrap", "timer", key, 10)
        driver.fire("scrap", 20)
        assert halted(driver) is not None
        assert driver.image() == b"".join(driver.restored().snapshot())
        driver.call(PLUGINS, way, "scrap")
        if way == "skip":
            assert hooks(driver) == []
            driver.fire("scrap", 21)
            assert halted(driver) is not None
            driver.call(PLUGINS, "upgrade", "scrap")
            assert hooks(driver) == [["upgraded", 1, 2], ["fired", "b"]]
        else:
            driver.fire("scrap", 21)
            assert hooks(driver) == [["upgraded", 1, 2], ["fired", "a"], ["fired", "b"]]


def test_an_upgrade_mends_a_halted_machine() -> None:
    """The hook that failed is called again under the new version, then what was missed."""
    driver = Driver({"scrap": MendedScrap, "tape": Tape})
    session, other = driver.open(), driver.open()
    driver.call("scrap", "arm", "closed")
    driver.call(SESSIONS, "close", session)
    driver.call(SESSIONS, "close", other)
    twin = driver.restored()
    assert driver.call(PLUGINS, "upgrade", "scrap") == [0, 2]
    assert [change.what for change in driver.applied.changes] == ["upgraded", "resumed"]
    assert hooks(driver)[2:] == [["upgraded", 1, 2], ["closed", session, False], ["closed", other, False]]
    assert twin.apply(*driver.log[-1]) == driver.applied
    assert b"".join(twin.snapshot()) == driver.image()


def test_an_upgrade_whose_hook_fails_halts_and_can_be_mended_again() -> None:
    """The next version's hook is told the version from which the data really is."""

    class Worse(Scrap):
        version = 3

        def upgraded(self, commit: Commit, old: int, new: int) -> None:
            self._hook(commit, "upgraded", old, new)
            if new == 2:
                raise RuntimeError("a bad release")

    driver = Driver({"scrap": Worse, "tape": Tape})
    assert driver.call(PLUGINS, "upgrade", "scrap", 2) == [0, 2]
    assert "Upgraded" in str(halted(driver))
    session = driver.open()
    assert driver.call(PLUGINS, "upgrade", "scrap", 2)[1][0] == "not-newer"
    assert driver.call(PLUGINS, "upgrade", "scrap", 3) == [0, 3]
    assert halted(driver) is None
    assert hooks(driver) == [["upgraded", 1, 3], ["opened", session, "native"]]


def test_failing_again_while_going_on_keeps_what_is_still_missed() -> None:
    """Each skip goes one hook further."""
    driver = Driver()
    driver.call("scrap", "arm", "opened")
    sessions = [driver.open() for _ in range(3)]
    for left in (2, 1, 0):
        assert halted(driver) is not None
        assert driver.image() == b"".join(driver.restored().snapshot())
        driver.call(PLUGINS, "skip", "scrap")
        assert (halted(driver) is None) is (left == 0)
    assert hooks(driver) == []
    assert len(sessions) == len(driver.host.sessions)


# ---------------------------------------------------------------- loading and unloading


def test_unloading_ends_what_belongs_to_the_machine(driver: Driver) -> None:
    """Waits end without a result, timers are gone, the number is never given again."""
    session = driver.open()
    _, ticket = driver.call("scrap", "wait", session=session, number=1)
    driver.call("scrap", "timer", "x", 500)
    assert driver.call(PLUGINS, "unload", "scrap") == [0, None]
    assert [change.what for change in driver.applied.changes] == ["unloaded"]
    assert driver.events(session) == [[1, "scrap", 2, [ticket, "machine-unloaded", "the machine scrap was unloaded"]]]
    assert driver.host.next_timer() is None
    assert driver.call(16, "add", "k")[1][0] == "machine-missing"
    assert driver.call(PLUGINS, "load", "scrap", "scrap", 1) == [0, 18]
    assert driver.call("scrap", "add", "k") == [0, 1]
    assert driver.image() == b"".join(driver.restored().snapshot())


def test_one_code_may_run_under_several_names(driver: Driver) -> None:
    """Each is a machine of its own, with randomness of its own."""
    assert driver.call(PLUGINS, "load", "scrap-two", "scrap") == [0, 18]
    driver.call("scrap", "add", "k")
    assert driver.ask("scrap-two", "total", "k") == 0


def test_replicas_with_newer_code_run_the_agreed_version() -> None:
    """During a rolling upgrade all behave as the cell agreed, and move together."""
    old, new = Driver(MACHINES), Driver({"scrap": MendedScrap, "tape": Tape}, founded=False)
    new.host.configured(Slot(0), FOUNDERS)
    old.call("scrap", "who")
    for slot, payload in old.log:
        new.host.apply(slot, payload)
    assert b"".join(new.host.snapshot()) == old.image()
    assert old.call(PLUGINS, "upgrade", "scrap", 2)[1][0] == "not-announced"


def test_an_image_that_cannot_be_read_stops_the_replica(driver: Driver) -> None:
    """It is this replica's disk that fails, so the others must not be followed by guesswork."""
    driver.host.imaged(driver.host.slot, lambda: [b"gone"])
    driver.call("scrap", "fail")
    with pytest.raises(StopReplica, match="scrap cannot be rebuilt"):
        driver.call(PLUGINS, "skip", "scrap")
