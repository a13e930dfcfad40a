"""The leader's memory of who was heard when: conservative towards clients, final once it has judged."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from quorate.kernel.renewals import REPORT, STALL, Overdue, Renewals

SECOND = 1_000_000
LOOK = 20_000


def pass_time(renewals: Renewals, now: int, until: int) -> tuple[int, list[tuple[int, Overdue]]]:
    """Look every LOOK microseconds; the verdicts with their times."""
    verdicts = []
    while now < until:
        now += LOOK
        renewals.attend(now)
        verdicts += [(now, verdict) for verdict in renewals.overdue()]
    return now, verdicts


def test_silence_for_the_time_out_is_judged_a_reporting_interval_later() -> None:
    """A session that is never heard again is condemned at its time-out and expired at the second look, not before."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 2)
    _, verdicts = pass_time(renewals, 0, 3 * SECOND)
    assert [verdict for _, verdict in verdicts] == [Overdue(5, 2)]
    assert SECOND + 2 * REPORT <= verdicts[0][0] <= SECOND + 2 * REPORT + 2 * LOOK


def test_a_new_leader_hears_every_session_when_it_begins() -> None:
    """Leases that a predecessor granted are covered: the time-out runs from the beginning of the leadership."""
    renewals = Renewals(100 * SECOND)
    renewals.watch(5, SECOND, 1)
    now, verdicts = pass_time(renewals, 100 * SECOND, 101 * SECOND)
    assert verdicts == []
    _, verdicts = pass_time(renewals, now, 102 * SECOND)
    assert len(verdicts) == 1


def test_being_heard_puts_the_end_off() -> None:
    """A session that is heard again and again lives; its last renewal counts."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 1)
    now = 0
    for _ in range(10):
        now, verdicts = pass_time(renewals, now, now + SECOND // 2)
        assert verdicts == []
        assert renewals.hear([5]) == ()
    heard = now
    _, verdicts = pass_time(renewals, now, now + 3 * SECOND)
    assert verdicts[0][0] >= heard + SECOND + 2 * REPORT


def test_a_renewal_between_the_looks_saves_a_condemned_session() -> None:
    """What a follower heard before the time-out may be reported after it."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 1)
    now, verdicts = pass_time(renewals, 0, SECOND + REPORT)
    assert verdicts == []
    assert renewals.hear([5]) == ()
    _, verdicts = pass_time(renewals, now, now + SECOND)
    assert verdicts == []


def test_a_stall_of_this_process_is_not_the_clients_silence() -> None:
    """Of a long pause only a short time counts; nobody expires right after it."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 1)
    now, verdicts = pass_time(renewals, 0, SECOND // 2)
    renewals.attend(now + 3600 * SECOND)
    assert renewals.overdue() == []
    now, verdicts = pass_time(renewals, now + 3600 * SECOND, now + 3600 * SECOND + SECOND // 2 - STALL)
    assert verdicts == []
    _, verdicts = pass_time(renewals, now, now + SECOND)
    assert len(verdicts) == 1


def test_once_judged_no_renewal_is_confirmed() -> None:
    """From the verdict on renewals are lost, so that nobody relies on a lease that is about to end."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 1)
    renewals.watch(6, 60 * SECOND, 1)
    pass_time(renewals, 0, 2 * SECOND)
    assert renewals.hear([5, 6, 7]) == (5, 7)


def test_a_verdict_is_given_once_and_lifted_by_an_attachment() -> None:
    """A doomed session is not named again; if it is attached, it counts as heard, and may be doomed anew."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 1)
    now, verdicts = pass_time(renewals, 0, 10 * SECOND)
    assert len(verdicts) == 1
    renewals.watch(5, SECOND, 2)
    assert renewals.hear([5]) == ()
    now, verdicts = pass_time(renewals, now, now + SECOND)
    assert verdicts == []
    _, verdicts = pass_time(renewals, now, now + 2 * SECOND)
    assert [verdict for _, verdict in verdicts] == [Overdue(5, 2)]


def test_a_session_that_ended_is_forgotten() -> None:
    """No verdict over, and no renewal of, a session that closed."""
    renewals = Renewals(0)
    renewals.watch(5, SECOND, 1)
    renewals.forget(5)
    assert renewals.hear([5]) == (5,)
    assert pass_time(renewals, 0, 5 * SECOND)[1] == []


def test_sessions_that_come_and_go_leave_nothing() -> None:
    """However long their time-outs are; and those that stay are judged all the same."""
    renewals = Renewals(0)
    renewals.watch(0, SECOND, 1)
    for session in range(1, 10_000):
        renewals.watch(session, 24 * 3600 * SECOND, 1)
        renewals.forget(session)
    assert len(renewals._looks) <= 2 + 64 + 1
    assert [verdict for _, verdict in pass_time(renewals, 0, 2 * SECOND)[1]] == [Overdue(0, 1)]


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3), st.sampled_from(["look", "hear", "attach"]))))
@settings(max_examples=300, deadline=None)
def test_never_before_the_time_out_however_it_is_called(steps: list[tuple[int, int, str]]) -> None:
    """Whatever the rhythm of looks and renewals, a verdict comes at least the time-out after the session was heard
    last."""
    renewals = Renewals(0)
    heard = dict.fromkeys(range(4), 0)
    attachment = dict.fromkeys(range(4), 1)
    for session in heard:
        renewals.watch(session, (session + 1) * SECOND // 4, 1)
    doomed: set[int] = set()
    now = 0
    for ms, session, what in steps:
        now += ms * 1000
        renewals.attend(now)
        if what == "attach":
            attachment[session] += 1
            renewals.watch(session, (session + 1) * SECOND // 4, attachment[session])
            heard[session] = now
            doomed.discard(session)
        elif what == "hear":
            assert (renewals.hear([session]) == (session,)) == (session in doomed)
            if session not in doomed:
                heard[session] = now
        for verdict in renewals.overdue():
            assert verdict.attachment == attachment[verdict.session]
            assert verdict.session not in doomed
            assert now - heard[verdict.session] >= (verdict.session + 1) * SECOND // 4
            doomed.add(verdict.session)
