"""The lock machine against a plain model: exclusion, fairness, tokens, waits, lock-delay."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.machine import Commit, Effects, Plain, Refusal, SessionId, Ticket
from quorate.plugins.locks.machine import DELAY_MS_MAX, TIMEOUT, WITHDRAWN, LocksMachine


class Stage:
    """Plays the kernel to one machine: numbers commands, keeps timers and tickets, moves cell time."""

    def __init__(self) -> None:
        self.machine = LocksMachine()
        self.index, self.time = 0, 0
        self.timers: dict[str, int] = {}
        self.results: dict[int, Plain] = {}
        self.parked: dict[int, SessionId] = {}
        self.published: list[tuple[SessionId, Plain]] = []

    def run(self, session: int, call: Callable[[Commit], object]) -> object:
        self.index += 1
        effects = Effects()
        commit = Commit(
            self.index,
            self.time,
            1_000_000 + self.time,
            session=SessionId(session),
            identities=("ip:127.0.0.1",),
            sessions={},
            random=Random,
            effects=effects,
        )
        result = call(commit)
        for ticket, owner in effects.parked:
            self.parked[ticket] = owner
        for ticket, outcome in effects.resolved:
            if self.parked.pop(ticket, None) is not None:
                self.results[ticket] = outcome
        for key, at in effects.timers:
            self.timers.pop(key, None)
            if at is not None:
                self.timers[key] = at
        self.published += effects.published
        return result

    def acquire(self, session: int, label: int, *exclusive: str, shared: tuple[str, ...] = (), **named: int) -> object:
        machine = self.machine
        return self.run(session, lambda c: machine.acquire(c, label, list(exclusive), list(shared), **named))

    def release(self, session: int, label: int) -> object:
        return self.run(session, lambda c: self.machine.release(c, label))

    def withdraw(self, session: int, label: int) -> object:
        return self.run(session, lambda c: self.machine.withdraw(c, label))

    def end(self, session: int, expired: bool) -> None:
        for ticket in [each for each, owner in self.parked.items() if owner == session]:
            del self.parked[ticket]
        self.run(0, lambda c: self.machine.session_closed(c, SessionId(session), expired))

    def wait(self, ms: int) -> None:
        until = self.time + ms
        while due := sorted((at, key) for key, at in self.timers.items() if at <= until):
            at, key = due[0]
            self.time = max(self.time, at)
            del self.timers[key]
            self.run(0, lambda c, key=key: self.machine.timer_fired(c, key))
        self.time = until


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_one_holder_and_first_come_first_served(stage: Stage) -> None:
    """The first gets the token at once, the others tickets, resolved in order of arrival with growing tokens."""
    assert stage.acquire(1, 1, "job") == 1
    tickets = [stage.acquire(session, 1, "job") for session in (2, 3)]
    assert stage.results == {}
    assert stage.release(1, 1) is True
    assert stage.results == {tickets[0]: 4}
    assert stage.withdraw(2, 1) is True
    assert stage.results == {tickets[0]: 4, tickets[1]: 5}


def test_release_twice_and_after_loss(stage: Stage) -> None:
    """A second release, a release of something lost and a release of a waiting claim say False and change nothing."""
    stage.acquire(1, 1, "job")
    ticket = stage.acquire(2, 1, "job")
    assert stage.release(2, 1) is False
    assert stage.release(1, 1) is True
    assert stage.release(1, 1) is False
    assert ticket in stage.results
    stage.end(2, expired=True)
    assert stage.release(2, 1) is False


def test_wait_ends_by_deadline(stage: Stage) -> None:
    """A wait ends at its deadline with "timeout", not before, and leaves no place in the queue behind."""
    stage.acquire(1, 1, "job")
    ticket = stage.acquire(2, 1, "job", wait_ms=500)
    stage.wait(499)
    assert stage.results == {}
    stage.wait(1)
    assert stage.results == {ticket: TIMEOUT}
    assert stage.release(1, 1) is True
    assert stage.machine.claims == {}
    assert stage.timers == {}


def test_try_does_not_wait(stage: Stage) -> None:
    """A wait of nothing is answered at once and leaves nothing."""
    stage.acquire(1, 1, "job")
    assert stage.acquire(2, 1, "job", wait_ms=0) == TIMEOUT
    assert len(stage.machine.claims) == 1
    assert stage.acquire(2, 1, "free", wait_ms=0) == stage.index


def test_withdraw_ends_wait_and_its_timer(stage: Stage) -> None:
    """A withdrawn claim resolves its ticket, forgets its timer and lets the next one up."""
    stage.acquire(1, 1, shared=("job",))
    writer = stage.acquire(2, 1, "job", wait_ms=500)
    reader = stage.acquire(3, 1, shared=("job",))
    assert stage.withdraw(2, 1) is True
    assert stage.results == {writer: WITHDRAWN, reader: stage.index}
    assert stage.timers == {}
    assert stage.withdraw(2, 1) is False


def test_lock_delay_after_expiry_only(stage: Stage) -> None:
    """An expired holder blocks its successor for the delay, also from a try; a closed one does not."""
    stage.acquire(1, 1, "job", delay_ms=5000)
    ticket = stage.acquire(2, 1, "job")
    stage.end(1, expired=True)
    assert stage.acquire(3, 1, "job", wait_ms=0) == TIMEOUT
    assert stage.machine.check("job", 1) is False
    stage.wait(4999)
    assert stage.results == {}
    stage.wait(1)
    assert ticket in stage.results

    stage.acquire(4, 1, "other", delay_ms=5000)
    stage.end(4, expired=False)
    assert stage.acquire(5, 1, "other", wait_ms=0) == stage.index


def test_lock_delay_is_at_most_a_minute(stage: Stage) -> None:
    """Asked for ten minutes, one gets sixty seconds."""
    stage.acquire(1, 1, "job", delay_ms=600_000)
    stage.end(1, expired=True)
    assert list(stage.timers.values()) == [stage.time + DELAY_MS_MAX]
    assert DELAY_MS_MAX == 60_000


def test_no_lock_delay_for_a_waiter(stage: Stage) -> None:
    """A session that expires while it waits leaves no ghost: it never held."""
    stage.acquire(1, 1, "job")
    stage.acquire(2, 1, "job", delay_ms=5000)
    stage.end(2, expired=True)
    assert len(stage.machine.claims) == 1
    assert stage.timers == {}


def test_a_grant_forgets_its_deadline(stage: Stage) -> None:
    """A wait that ended with a grant does not end again at its deadline."""
    stage.acquire(1, 1, "job")
    ticket = stage.acquire(2, 1, "job", wait_ms=500)
    stage.release(1, 1)
    assert stage.timers == {}
    stage.wait(1000)
    assert stage.machine.check("job", stage.results[ticket])


def test_lost_reader_does_not_delay_readers(stage: Stage) -> None:
    """The ghost of a reader blocks writers, as the reader did, and no other reader."""
    stage.acquire(1, 1, shared=("job",), delay_ms=5000)
    stage.end(1, expired=True)
    assert stage.acquire(2, 1, shared=("job",), wait_ms=0) == stage.index
    assert stage.acquire(3, 1, "job", wait_ms=0) == TIMEOUT


def test_several_names_all_or_nothing(stage: Stage) -> None:
    """A claim on two names holds neither until it can hold both, and holds its place in both queues meanwhile."""
    stage.acquire(1, 1, "a")
    both = stage.acquire(2, 1, "a", "b")
    late = stage.acquire(3, 1, "b")
    assert stage.machine.check("b", 3) is False
    stage.release(1, 1)
    assert stage.results == {both: stage.index}
    assert stage.machine.check("a", stage.index)
    assert stage.machine.check("b", stage.index)
    stage.release(2, 1)
    assert stage.results[late] == stage.index


def test_break_by_an_operator(stage: Stage) -> None:
    """Breaking ends holder and lock-delay at once, tells the holder why, is kept for the record, and leaves waiters
    in place."""
    token = stage.acquire(1, 7, "job", delay_ms=9000)
    ticket = stage.acquire(2, 1, "job")
    assert stage.run(9, lambda c: stage.machine.break_lock(c, "job", "stuck since noon")) == 1
    assert stage.published == [(1, {"lost": 7, "reason": "stuck since noon"})]
    assert stage.results == {ticket: stage.index}
    assert stage.machine.broken()[0][1:] == ["job", "", token, "stuck since noon", ["ip:127.0.0.1"]]
    assert stage.release(1, 7) is False
    stage.acquire(3, 1, "other", delay_ms=9000)
    stage.end(3, expired=True)
    assert stage.run(9, lambda c: stage.machine.break_lock(c, "other", "known dead")) == 1
    assert stage.acquire(4, 1, "other", wait_ms=0) == stage.index
    assert stage.timers == {}


def test_who_is_there(stage: Stage) -> None:
    """Holders and waiters are listed in order, names page by page."""
    stage.acquire(1, 1, "b", shared=("a",))
    stage.acquire(2, 1, "a")
    listed = stage.machine.contenders("a")
    assert [(each["session"], each["token"], each["exclusive"]) for each in listed] == [(1, 1, False), (2, 0, True)]
    assert stage.machine.contenders("nobody") == []
    assert stage.machine.names() == ["a", "b"]
    assert stage.machine.names(after="a", limit=1) == ["b"]


@pytest.mark.parametrize(
    ("exclusive", "shared", "named"),
    [
        ([], [], {}),
        (["a", "a"], [], {}),
        (["a"], ["a"], {}),
        ([""], [], {}),
        (["a" * 1025], [], {}),
        ([str(n) for n in range(65)], [], {}),
        (["a"], [], {"wait_ms": -1}),
        (["a"], [], {"delay_ms": -1}),
        (["a"], [], {"label": 5}),
    ],
)
def test_refusals_change_nothing(stage: Stage, exclusive: list[str], shared: list[str], named: dict[str, int]) -> None:
    """What cannot be is refused before anything is touched."""
    stage.acquire(1, 5, "x")
    before = stage.machine.snapshot()
    with pytest.raises(Refusal):
        stage.run(1, lambda c: stage.machine.acquire(c, **{"label": 1, **named}, exclusive=exclusive, shared=shared))
    with pytest.raises(Refusal, match="no-session"):
        stage.acquire(0, 1, "a")
    assert stage.machine.snapshot() == before


names = st.sampled_from("ab")
sessions = st.integers(1, 3)
acquires = st.tuples(
    st.just("acquire"),
    sessions,
    st.integers(1, 2),
    st.dictionaries(names, st.booleans(), min_size=1),
    st.sampled_from([None, None, 0, 20, 50]),
    st.sampled_from([0, 30]),
)
others = st.one_of(
    st.tuples(st.sampled_from(["release", "withdraw"]), sessions, st.integers(1, 2)),
    st.tuples(st.just("end"), sessions, st.booleans()),
    st.tuples(st.just("wait"), st.integers(1, 40)),
    st.tuples(st.just("break"), names),
    st.tuples(st.just("snapshot")),
)
steps = st.lists(st.one_of(acquires, acquires, others), min_size=8, max_size=40)


@settings(max_examples=200)
@given(steps)
def test_every_mix_of_commands(script: list[tuple]) -> None:  # type: ignore[type-arg]
    """Over any commands, ends of sessions, timers and restores: no two conflicting holders, tokens of conflicting
    grants grow, nobody is overtaken by a conflicting claim, every ticket of a live session ends at most once, nothing
    is left when all sessions are gone."""
    stage = Stage()
    newest: dict[str, tuple[int, int]] = {}  # name -> newest exclusive token, newest token
    known: set[int] = set()
    timed: set[int] = set()  # the claims whose waits end by themselves
    for step in script:
        kind = step[0]
        if kind == "acquire":
            _, session, label, wants, wait_ms, delay_ms = step
            exclusive = [name for name in wants if wants[name]]
            shared = tuple(name for name in wants if not wants[name])
            if label not in stage.machine.labels.get(session, {}):
                stage.acquire(session, label, *exclusive, shared=shared, wait_ms=wait_ms, delay_ms=delay_ms)
                if wait_ms is not None:
                    timed.add(stage.machine.labels.get(session, {}).get(label, 0))  # 0: nothing waits
        elif kind == "release":
            stage.release(*step[1:])
        elif kind == "withdraw":
            stage.withdraw(*step[1:])
        elif kind == "end":
            stage.end(*step[1:])
        elif kind == "wait":
            stage.wait(step[1])
        elif kind == "break":
            stage.run(9, lambda c, name=step[1]: stage.machine.break_lock(c, name, "why"))
        else:
            image = stage.machine.snapshot()
            stage.machine = LocksMachine()
            stage.machine.restore(image, 1)
            assert stage.machine.snapshot() == image
        claims = list(stage.machine.claims.values())
        assert [claim.number for claim in claims] == sorted(claim.number for claim in claims)
        for place, claim in enumerate(claims):
            ahead = [
                other
                for other in claims[:place]
                if any(claim.wants[name] or other.wants[name] for name in claim.wants.keys() & other.wants.keys())
            ]
            assert bool(claim.token) is (not ahead), "held exactly if nothing conflicting is in front"
            assert bool(claim.token) is (claim.ticket not in stage.parked)
            if claim.token and claim.number not in known:
                known.add(claim.number)
                for name, exclusively in claim.wants.items():
                    writer, reader = newest.get(name, (0, 0))
                    assert claim.token > (reader if exclusively else writer)
                    newest[name] = (max(writer, claim.token) if exclusively else writer, max(reader, claim.token))
        ending = [each for each in claims if not each.session or (not each.token and each.number in timed)]
        assert set(stage.timers) == {str(each.number) for each in ending}
    for session in range(1, 4):
        stage.end(session, expired=True)
    stage.wait(60_000)
    assert stage.machine.claims == {}
    assert stage.machine.labels == {}
    assert stage.machine.table.names() == []
    assert stage.timers == {}
    assert stage.parked == {}


def test_restore_refuses_what_it_did_not_write() -> None:
    """A foreign or damaged snapshot is a ValueError."""
    for state in (
        None,
        {},
        {"claims": [[1, 2]], "breaks": []},
        {"claims": [[1, 2, 3, 4, 5, 6, 7, 8, 9]], "breaks": []},
    ):
        with pytest.raises(ValueError, match="locks"):
            LocksMachine().restore(state, 1)


def test_tickets_are_the_kernels() -> None:
    """A waiting acquire answers with the kernel's ticket."""
    stage = Stage()
    stage.acquire(1, 1, "job")
    assert stage.acquire(2, 1, "job") == Ticket(2 << 8)
