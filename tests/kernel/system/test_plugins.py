"""The machine "plugins"."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import pytest
from quorate.kernel.catalog import CODES_MAX, Catalog
from quorate.kernel.machine import Commit, Refusal, SessionId, StateMachine, command
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import Configuration, Member, Role
from quorate.kernel.stop import MissingPlugin
from quorate.kernel.system import plugins as plugins_module
from quorate.kernel.system.asks import (
    Load,
    SessionClosed,
    Skip,
    SystemCommit,
    SystemEffects,
    TimerFired,
    Unload,
    Upgrade,
)
from quorate.kernel.system.loaded import Halt
from quorate.kernel.system.membership import Membership
from quorate.kernel.system.plugins import Plugins
from quorate.kernel.wire import plain


class One(StateMachine):
    name = "one"
    version = 3

    def __init__(self) -> None:
        self.things: list[int] = []

    @command
    def go(self, commit: Commit) -> None: ...


class Odd(StateMachine):
    """Its state cannot be kept."""

    name = "odd"

    def __init__(self) -> None:
        self.queue: deque[int] = deque()


class Paired(StateMachine):
    """Its state would come back different."""

    name = "paired"

    def __init__(self) -> None:
        self.pair = (1, 2)


class Broken(StateMachine):
    """It cannot be made."""

    name = "broken"

    def __init__(self) -> None:
        raise OSError("no disk here")


CATALOG = Catalog({"one": One, "odd": Odd, "paired": Paired, "broken": Broken})


class Bench:
    """The machine by itself, in a cell with two voters and a learner."""

    def __init__(self, catalog: Catalog = CATALOG) -> None:
        self.membership = Membership()
        roles = {1: Role.VOTER, 2: Role.VOTER, 3: Role.LEARNER}
        self.membership.configuration = Configuration(
            Slot(0), tuple(Member(MemberId(each), role, "") for each, role in roles.items())
        )
        self.machine = Plugins(catalog, self.membership)
        self.asked: list[Any] = []

    def commit(self, session: int = 0) -> SystemCommit:
        """A command's place."""
        effects = SystemEffects()
        self.asked = effects.asked
        return SystemCommit(1, 0, 0, session=SessionId(session), sessions={}, random=Random, effects=effects)

    def announce(self, versions: dict[str, int], *members: int) -> None:
        """These members have that."""
        for member in members or (1, 2):
            assert self.machine.announce(self.commit(), member, versions)

    def load(self, name: str = "one", code: str = "one", version: int | None = None) -> int:
        """Load a machine."""
        return self.machine.load(self.commit(), name, code, version)


@pytest.fixture
def bench() -> Bench:
    """Both voters have everything."""
    bench = Bench()
    bench.announce(dict(CATALOG.versions))
    return bench


def test_load_asks_the_host(bench: Bench) -> None:
    """The machine is in the table, at the version that all voters have."""
    assert bench.load() == 16
    (ask,) = bench.asked
    assert isinstance(ask, Load)
    assert (ask.loaded.number, ask.loaded.name, ask.loaded.code, ask.loaded.version) == (16, "one", "one", 3)
    assert isinstance(ask.loaded.machine, One)
    assert bench.load("another", "one", 2) == 17
    assert bench.machine.next_number == 18
    assert [each["name"] for each in bench.machine.loaded()] == ["one", "another"]  # type: ignore[index, call-overload]


def test_every_voter_must_have_announced() -> None:
    """The code, and in that version; learners are not asked."""
    bench = Bench()
    for versions, members, version in [({}, (1, 2), None), ({"one": 3}, (1,), None), ({"one": 2}, (2,), 3)]:
        bench.announce(versions, *members)
        with pytest.raises(Refusal, match="not-announced") as refusal:
            bench.load(version=version)
        assert "2]" in str(refusal.value)
    assert bench.load() == 16
    assert bench.machine.machines[16].version == 2
    assert bench.machine.announcements() == [[1, {"one": 3}], [2, {"one": 2}]]


def test_a_cell_without_members_loads_nothing() -> None:
    """There is nobody to agree."""
    bench = Bench()
    bench.membership.configuration = Configuration(Slot(0), ())
    bench.announce({"one": 3})
    with pytest.raises(Refusal, match="not-announced"):
        bench.load()


def test_announcements_are_bounded_and_from_replicas(bench: Bench) -> None:
    """A client cannot speak for a replica; a stranger is ignored; who left is forgotten."""
    with pytest.raises(Refusal, match="cell-only"):
        bench.machine.announce(bench.commit(session=5), 1, {})
    with pytest.raises(Refusal, match="too-many-codes"):
        bench.machine.announce(bench.commit(), 1, {f"c{n}": 1 for n in range(CODES_MAX + 1)})
    assert bench.machine.announce(bench.commit(), 9, {"one": 1}) is False
    assert set(bench.machine.announced) == {1, 2}
    bench.machine.retain({2, 3})
    assert set(bench.machine.announced) == {2}


@pytest.mark.parametrize("name", ["", "One", "1one", "a_b", "a" * 65, "sessions", "plugins", "a b", "one\n"])
def test_names_are_checked(bench: Bench, name: str) -> None:
    """A machine's name is part of addresses and pages, and must not hide one of the cell's own."""
    with pytest.raises(Refusal, match="bad-name"):
        bench.load(name)


def test_other_refusals_of_load(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken names, odd versions, too many machines."""
    bench.load()
    with pytest.raises(Refusal, match="already-loaded"):
        bench.load()
    with pytest.raises(Refusal, match="bad-version"):
        bench.load("two", "one", 0)
    monkeypatch.setattr(plugins_module, "MACHINES_MAX", 1)
    with pytest.raises(Refusal, match="too-many-machines"):
        bench.load("two")
    assert list(bench.machine.machines) == [16]


@pytest.mark.parametrize(("code", "words"), [("odd", "deque"), ("paired", "tuple"), ("broken", "OSError")])
def test_a_class_that_cannot_run_is_refused(bench: Bench, code: str, words: str) -> None:
    """Before it is loaded: not at the first snapshot, and not by a loop of crashes."""
    with pytest.raises(Refusal, match="unfit") as refusal:
        bench.load(code, code)
    assert words in refusal.value.reason
    assert "no disk" not in refusal.value.reason
    assert not bench.machine.machines


def test_missing_code_is_no_refusal() -> None:
    """All voters have it; a replica that has not must not go on."""
    bench = Bench(Catalog({}))
    bench.announce({"one": 3})
    with pytest.raises(MissingPlugin, match="not installed here"):
        bench.load()


def test_unload_upgrade_and_skip(bench: Bench) -> None:
    """Each asks the host, and refuses what makes no sense."""
    for missing in (bench.machine.unload, bench.machine.upgrade, bench.machine.skip):
        with pytest.raises(Refusal, match="machine-missing"):
            missing(bench.commit(), "one")
    bench.load(version=1)
    loaded = bench.machine.machines[16]
    with pytest.raises(Refusal, match="not-halted"):
        bench.machine.skip(bench.commit(), "one")
    with pytest.raises(Refusal, match="not-newer"):
        bench.machine.upgrade(bench.commit(), "one", 1)
    with pytest.raises(Refusal, match="not-announced"):
        bench.machine.upgrade(bench.commit(), "one", 4)
    assert bench.machine.upgrade(bench.commit(), "one", 2) == 2
    assert bench.asked == [Upgrade(loaded, 2)]
    assert bench.machine.upgrade(bench.commit(), "one") == 3
    loaded.halt = Halt(5, "why", None)
    bench.machine.skip(bench.commit(), "one")
    assert bench.asked == [Skip(loaded)]
    assert bench.machine.loaded() == [{"number": 16, "name": "one", "code": "one", "version": 1, "halted": "why"}]
    bench.machine.unload(bench.commit(), "one")
    assert bench.asked == [Unload(loaded)]
    assert bench.load() == 17


def test_image(bench: Bench) -> None:
    """Numbers, announcements, machines, versions and halts come back; the machines are new ones."""
    bench.load(version=2)
    bench.load("other")
    bench.machine.unload(bench.commit(), "one")
    loaded = bench.machine.names["other"]
    loaded.chain = 77
    loaded.halt = Halt(5, "why", TimerFired("k", 3), "traceback")
    loaded.halt.miss(SessionClosed(SessionId(4), True))
    image = plain.decode(plain.encode(bench.machine.snapshot()))
    restored = Bench()
    restored.machine.restore(image, 1)
    assert restored.machine.snapshot() == bench.machine.snapshot()
    assert restored.machine.next_number == 18
    found = restored.machine.names["other"]
    assert (found.number, found.code, found.version, found.chain) == (17, "one", 3, 77)
    assert found.halt is not None
    assert (found.halt.pending, found.halt.detail) == (TimerFired("k", 3), "")
    assert found.machine is not loaded.machine
