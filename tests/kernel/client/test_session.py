"""The session core against a scripted replica and a clock that the test moves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

import pytest
from quorate.kernel.client.errors import (
    EventsLost,
    MachineHalted,
    OutcomeUnknown,
    Overloaded,
    SessionClosed,
    SessionExpired,
    TicketEnded,
    WrongCell,
)
from quorate.kernel.client.outputs import (
    Answered,
    Call,
    Changed,
    Connect,
    Disconnect,
    Finished,
    Gap,
    Output,
    Parked,
    Published,
    Resolved,
    Send,
)
from quorate.kernel.client.session import SessionCore
from quorate.kernel.client.states import State
from quorate.kernel.machine import Plain, Refusal
from quorate.kernel.wire import native, plain
from quorate.kernel.wire.native import About, Consistency, EndReason, Frame

CELL = b"c" * 16
MEMBERS = (native.Member(1, "tcp:one:1"), native.Member(2, "tcp:two:2"), native.Member(3, "tcp:three:3"))
PASSWORD = b"p" * 16


class Play:
    """A core, the time, and what the core said."""

    def __init__(self, **options: object) -> None:
        self.now = 100.0
        options = {"timeout": 9.0, "grace": 20.0, "drift": 0.1, **options}
        self.core = SessionCore(["tcp:one:1"], Random(7), **options)  # type: ignore[arg-type]
        self.told: list[Output] = []
        self.sent: list[Frame] = []
        self.dialed: list[str] = []
        self.core.start(self.now)
        self.pump()

    def pump(self) -> None:
        for each in self.core.take():
            if isinstance(each, Send):
                self.sent += [native.decode(body) for body in native.split(each.content)[0]]
            elif isinstance(each, Connect):
                self.dialed.append(each.endpoint)
            else:
                self.told.append(each)

    def get(self, *frames: Frame) -> None:
        """The replica sends these, in one piece."""
        self.core.received(b"".join(native.encode(frame) for frame in frames), self.now)
        self.pump()

    def greet(self, leader: int = 1, member: int = 1, cell: bytes = CELL, **limits: int) -> None:
        self.core.connected(self.now)
        limits = {
            "payload_bytes_max": 1000,
            "in_flight_max": 64,
            "timeout_ms_min": 1,
            "timeout_ms_max": 90_000,
            **limits,
        }
        self.get(native.Welcome(1, cell, member, leader, MEMBERS, **limits))

    def open(self, **limits: int) -> None:
        self.greet(**limits)
        self.get(native.Opened(77, PASSWORD, 9000))

    def again(self) -> None:
        """The connection breaks, the next one attaches at once."""
        self.core.disconnected("broken", self.now)
        self.wait(5)
        self.greet()
        self.get(native.Opened(77, PASSWORD, 9000))

    def wait(self, seconds: float, step: float = 0.25) -> None:
        """Time passes; the core is ticked when it asked to be, and only then."""
        until = self.now + seconds
        while (due := self.core.deadline()) <= until:
            self.now = max(self.now, due)
            before = len(self.sent), len(self.dialed), len(self.told)
            self.core.tick(self.now)
            self.pump()
            if (len(self.sent), len(self.dialed), len(self.told)) == before and self.core.deadline() <= self.now:
                raise AssertionError("the core wants to be ticked for nothing")
            if len(self.dialed) > before[1]:
                break  # the test decides what comes of the new attempt
        else:
            self.now = until

    def keep(self) -> None:
        """The replica answers the newest KeepAlive."""
        stamp = self.last(native.KeepAlive).stamp
        self.get(native.Kept(stamp, 9000))

    def last(self, kind: type) -> Frame:
        return next(frame for frame in reversed(self.sent) if type(frame) is kind)

    def all(self, kind: type) -> list[Frame]:
        return [frame for frame in self.sent if type(frame) is kind]

    def call(self, *args: Plain) -> Call:
        call = self.core.call("m", "do", list(args))
        self.pump()
        return call

    def reply(self, number: int, value: Plain, status: int = 0, last_event: int = 0) -> native.Reply:
        return native.Reply(number, last_event, plain.encode([status, value]))

    def answers(self) -> list[tuple[Plain, Exception | None]]:
        return [(each.value, each.error) for each in self.told if isinstance(each, Answered)]

    def states(self) -> list[State]:
        return [each.state for each in self.told if isinstance(each, Changed)]


@pytest.fixture
def play() -> Play:
    play = Play()
    play.open()
    return play


# --- opening ----------------------------------------------------------------------------------------------------------


def test_opens_a_session() -> None:
    """Hello, Open, and a KeepAlive at once; the lease counts from the moment the Open was sent."""
    play = Play()
    play.greet()
    play.now += 1
    play.get(native.Opened(77, PASSWORD, 9000))
    assert [type(frame) for frame in play.sent] == [native.Hello, native.Open, native.KeepAlive]
    assert play.sent[1] == native.Open(9000)
    assert play.core.lease_left(play.now) == pytest.approx(9 * 0.9 - 1)
    assert play.states() == [State.ALIVE]
    assert play.core.session == 77


def test_follows_the_leader_hint_before_it_opens() -> None:
    """A follower's Welcome sends the client to the leader, without a pause and without a session opened on the way."""
    play = Play()
    play.greet(leader=2)
    assert play.dialed == ["tcp:one:1", "tcp:two:2"]
    assert play.all(native.Open) == []
    play.greet(leader=2, member=2)
    assert play.all(native.Open) == [native.Open(9000)]


def test_two_replicas_that_name_each_other() -> None:
    """Hints are followed twice in a row at most; then the client stays with whom it has."""
    play = Play()
    play.greet(leader=2, member=1)
    play.greet(leader=1, member=2)
    play.greet(leader=2, member=1)
    assert len(play.dialed) == 3
    assert play.all(native.Open) == [native.Open(9000)]


def test_tries_every_member_with_growing_pauses() -> None:
    """Failed attempts go round the members, later and later, and never stop by themselves before a session exists."""
    play = Play()
    play.core._route.learn(member.endpoint for member in MEMBERS)
    pauses = []
    for _ in range(40):
        play.core.disconnected("refused", play.now)
        before = play.now
        play.wait(60)
        pauses.append(play.now - before)
    assert set(play.dialed) == {member.endpoint for member in MEMBERS}
    assert all(0 < pause <= 3 for pause in pauses)
    assert max(pauses[-10:]) > max(pauses[:2])
    assert play.core.state is State.CONNECTING


def test_an_attempt_that_hangs_is_given_up() -> None:
    """A member that takes the connection and says nothing is given up after a third of the time-out."""
    play = Play()
    play.core.connected(play.now)
    play.wait(3.1)
    assert [each.reason for each in play.told if isinstance(each, Disconnect)] == ["the member did not answer in time"]
    assert len(play.dialed) == 2


def test_refused_for_good() -> None:
    """A client that the cell forbids does not try again."""
    play = Play()
    play.greet()
    play.get(native.Failed(About.SESSION, 0, 0, "forbidden", "not you"))
    assert play.states() == [State.CLOSED]
    assert play.core.deadline() == math.inf
    with pytest.raises(SessionClosed, match="not you"):
        play.call()


def test_busy_cell_names_the_pause() -> None:
    """A cell that is busy is left alone for as long as it says."""
    play = Play()
    play.greet()
    play.get(native.Failed(About.SESSION, 0, 4000, "busy", "too many"))
    play.wait(3.9)
    assert len(play.dialed) == 1
    play.wait(3)
    assert len(play.dialed) == 2


# --- commands ---------------------------------------------------------------------------------------------------------


def test_numbers_and_outcomes(play: Play) -> None:
    """Commands are numbered from 1 in order; each kind of reply becomes its kind of outcome."""
    calls = [play.call(n) for n in range(4)]
    assert [call.number for call in calls] == [1, 2, 3, 4]
    play.get(
        play.reply(1, "v"),
        play.reply(2, ["no", "because"], status=1),
        play.reply(3, ["m", "bug"], status=3),
        native.Reply(4, 0, b"\xc1"),
    )
    (_, none), (_, refusal), (_, halted), (_, unreadable) = play.answers()
    assert play.answers()[0] == ("v", None)
    assert none is None
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.reason) == ("no", "because")
    assert isinstance(halted, MachineHalted)
    assert isinstance(unreadable, OutcomeUnknown)


def test_unanswered_commands_are_repeated_in_order(play: Play) -> None:
    """After a reconnect what is unanswered goes out again with its old numbers, in order, before anything new."""
    for n in range(3):
        play.call(n)
    play.get(play.reply(2, None))
    play.core.disconnected("broken", play.now)
    play.call("new")
    play.sent.clear()
    play.wait(5)
    play.greet()
    assert play.last(native.Attach) == native.Attach(77, PASSWORD, 0)
    play.get(native.Opened(77, PASSWORD, 9000))
    requests = play.all(native.Request)
    assert [request.number for request in requests] == [1, 3, 4]
    assert play.states() == [State.ALIVE, State.CONNECTING, State.ALIVE]


def test_a_repeated_reply_is_taken_once(play: Play) -> None:
    """The same reply twice is one outcome."""
    play.call()
    play.get(play.reply(1, "v"), play.reply(1, "v"))
    assert play.answers() == [("v", None)]


def test_acknowledges_only_without_holes(play: Play) -> None:
    """A later reply does not acknowledge an earlier number that is still unanswered."""
    for _ in range(3):
        play.call()
    play.get(play.reply(2, None), play.reply(3, None))
    play.call()
    assert play.last(native.Request).acknowledged == 0
    play.get(play.reply(1, None))
    play.call()
    assert play.last(native.Request).acknowledged == 3


def test_window(play: Play) -> None:
    """No command is sent that is further above the acknowledged number than the window of the smaller side."""
    play = Play(in_flight_max=4)
    play.open(in_flight_max=3)
    for _ in range(6):
        play.call()
    assert len(play.all(native.Request)) == 3
    play.get(play.reply(2, None), play.reply(3, None))
    assert len(play.all(native.Request)) == 3
    play.get(play.reply(1, None))
    assert len(play.all(native.Request)) == 6


def test_bounded_queue() -> None:
    """More calls than the bound are refused, except those that undo something."""
    play = Play(queued_max=2)
    play.call()
    play.call()
    with pytest.raises(Overloaded):
        play.call()
    play.core.call("m", "undo", [], spare=True)


def test_too_large_is_refused_here(play: Play) -> None:
    """What the cell would not take is refused before it is sent, and the connection lives."""
    with pytest.raises(Refusal, match="too-large"):
        play.call("x" * 2000)
    assert play.all(native.Request) == []


def test_not_serving_moves_everything_elsewhere(play: Play) -> None:
    """A replica that does not serve loses the connection; nothing is answered, everything is repeated."""
    play.call("a")
    play.call("b")
    play.get(native.Failed(About.REQUEST, 1, 0, "not-serving", "no leader"))
    assert play.answers() == []
    play.wait(5)
    play.sent.clear()
    play.greet()
    play.get(native.Opened(77, PASSWORD, 9000))
    assert [request.number for request in play.all(native.Request)] == [1, 2]


def test_refused_by_the_replica(play: Play) -> None:
    """Another failure is a refusal of this one command; repeated after a broken connection it proves nothing."""
    play.call("a")
    play.get(native.Failed(About.REQUEST, 1, 0, "forbidden", "not for you"))
    play.call("b")
    play.again()
    play.get(native.Failed(About.REQUEST, 2, 0, "forbidden", "not for you"))
    first, second = (error for _, error in play.answers())
    assert isinstance(first, Refusal)
    assert isinstance(second, OutcomeUnknown)
    assert isinstance(second.__cause__, Refusal)


def test_abandoned(play: Play) -> None:
    """An abandoned command that was never sent is never sent; one that was sent is still repeated, and answered to
    nobody."""
    sent = play.call("sent")
    assert play.core.abandon(sent) is False
    play.core.disconnected("broken", play.now)
    unsent = play.core.call("m", "do", ["unsent"])
    assert play.core.abandon(unsent) is True
    play.sent.clear()
    play.wait(5)
    play.greet()
    play.get(native.Opened(77, PASSWORD, 9000))
    assert [request.number for request in play.all(native.Request)] == [1]
    play.get(play.reply(1, "v"))
    assert play.answers() == []


# --- queries ----------------------------------------------------------------------------------------------------------


def test_queries(play: Play) -> None:
    """Queries carry their consistency and the newest index seen, are repeated after a reconnect, and answered by id."""
    play.core.query("m", "q", [], Consistency.LOCAL)
    play.pump()
    first = play.last(native.Query)
    assert (first.consistency, first.min_index) == (Consistency.LOCAL, 0)
    play.get(native.QueryReply(first.id, 41, plain.encode([0, "v"])))
    play.core.query("m", "q", [], Consistency.READ_INDEX)
    play.pump()
    assert play.last(native.Query).min_index == 41
    play.again()
    assert len(play.all(native.Query)) == 3
    play.get(native.QueryReply(play.last(native.Query).id, 40, plain.encode([1, ["no", "why"]])))
    assert play.answers()[0] == ("v", None)
    assert isinstance(play.answers()[1][1], Refusal)


def test_status_and_admin(play: Play) -> None:
    """Status is repeated after a reconnect; an operator's command is not: its outcome is unknown then."""
    play.core.status()
    play.core.admin("compact", [])
    play.pump()
    play.again()
    assert len(play.all(native.Status)) == 2
    assert len(play.all(native.Admin)) == 1
    play.get(native.StatusReply(play.last(native.Status).id, plain.encode({"member": 1})))
    (_, error), status = play.answers()
    assert isinstance(error, OutcomeUnknown)
    assert status == ({"member": 1}, None)


def test_without_a_session() -> None:
    """A client that only asks opens no session, sends no KeepAlive, and cannot command."""
    play = Play(attach=False)
    play.core.query("m", "q", [], Consistency.LEASE)
    play.greet(leader=2)
    assert [type(frame) for frame in play.sent] == [native.Hello, native.Query]
    assert play.core.state is State.ALIVE
    assert play.core.deadline() == math.inf
    with pytest.raises(SessionClosed):
        play.call()
    play.core.close(play.now)
    play.pump()
    assert isinstance(play.told[-1], Finished)


# --- events and waits -------------------------------------------------------------------------------------------------


def event(number: int, kind: int, value: Plain, machine: str = "m") -> native.Event:
    return native.Event(plain.encode([number, machine, kind, value]))


def test_events_come_before_the_reply_that_mentions_them(play: Play) -> None:
    """A reply that arrives early waits for its events; an event is taken in once."""
    play.call()
    play.get(play.reply(1, "v", last_event=2), event(1, 0, "one"), event(1, 0, "one"))
    assert play.answers() == []
    play.get(event(2, 0, "two"))
    assert [type(each) for each in play.told[-3:]] == [Published, Published, Answered]


def test_ticket_and_its_end(play: Play) -> None:
    """A ticket is told, and its end later, whichever connection brings it."""
    call = play.call()
    play.get(play.reply(1, 500, status=2))
    play.again()
    assert play.last(native.Attach).last_event == 0
    play.get(event(1, 1, [500, "granted"]))
    assert play.told[-1] == Resolved(500, "granted", None)
    assert Parked(call, 500) in play.told


def test_ticket_resolved_before_its_reply(play: Play) -> None:
    """A wait that ended while its reply was lost ends when the reply is repeated."""
    call = play.call()
    play.call()
    play.get(event(1, 1, [500, "granted"]), play.reply(2, None, last_event=1))
    play.again()
    play.get(play.reply(1, 500, status=2, last_event=1))
    assert play.told[-2:] == [Parked(call, 500), Resolved(500, "granted", None)]


def test_wait_ended_without_result(play: Play) -> None:
    """A machine that goes away ends its waits with the reason."""
    play.call()
    play.get(play.reply(1, 500, status=2), event(1, 2, [500, "unloaded", "by an operator"]))
    error = play.told[-1].error
    assert isinstance(error, TicketEnded)
    assert error.code == "unloaded"


def test_gap(play: Play) -> None:
    """Dropped events are told as a gap, and every wait that one of them may have ended fails."""
    play.call()
    play.get(play.reply(1, 500, status=2), event(9, 3, [1, 9], ""))
    assert Gap(1, 9) in play.told
    assert isinstance(play.told[-1].error, EventsLost)
    play.get(event(10, 0, "next"))
    assert play.told[-1] == Published("m", "next")


def test_skipped_event_is_a_broken_replica(play: Play) -> None:
    """An event that skips numbers without a gap drops the connection, and is asked for again."""
    play.get(event(1, 0, "one"), event(3, 0, "three"))
    assert play.core.state is State.CONNECTING
    play.wait(5)
    play.greet()
    assert play.last(native.Attach).last_event == 1


def test_many_events_are_acknowledged_early(play: Play) -> None:
    """A flood of events is acknowledged before the cell would have to drop some."""
    play.sent.clear()
    play.get(*(event(number, 0, None) for number in range(1, 600)))
    assert play.last(native.KeepAlive).events_acknowledged == 599


# --- the lease --------------------------------------------------------------------------------------------------------


def test_lease_counts_from_the_send(play: Play) -> None:
    """A Kept extends the lease from the moment its KeepAlive was sent, cut by the drift; an old stamp never shortens
    it."""
    play.keep()
    play.wait(3.1)
    sent_at = play.now - 0.1
    stamp = play.last(native.KeepAlive).stamp
    play.now += 1
    play.get(native.Kept(stamp, 9000))
    assert play.core.lease.until == pytest.approx(sent_at + 8.1)
    play.get(native.Kept(stamp, 99_000), native.Kept(12345, 99_000))
    assert play.core.lease.until == pytest.approx(sent_at + 8.1)


def test_keepalive_every_third(play: Play) -> None:
    """While the cell confirms, KeepAlives go out every third of the time-out and the session stays alive."""
    for _ in range(10):
        play.keep()
        play.wait(3.0)
    assert len(play.all(native.KeepAlive)) == 11
    assert play.states() == [State.ALIVE]


def test_silent_replica_is_left(play: Play) -> None:
    """A KeepAlive without an answer for a third of the time-out sends the client to the next member, inside its
    lease."""
    play.wait(4)
    play.wait(1)
    assert len(play.dialed) == 2
    assert play.core.state is State.CONNECTING
    assert play.core.lease_left(play.now) > 0


def fail_attempts(play: Play, seconds: float) -> None:
    """Nobody can be reached for so long."""
    until = play.now + seconds
    while play.now < until and not play.core.state.final:
        play.core.disconnected("refused", play.now)
        play.pump()
        play.wait(until - play.now)


def test_jeopardy_and_back(play: Play) -> None:
    """When the lease runs out the session is in jeopardy; an attach alone does not end it, a Kept does."""
    play.core.disconnected("broken", play.now)
    fail_attempts(play, 8.2)
    assert play.states() == [State.ALIVE, State.CONNECTING, State.JEOPARDY]
    assert play.core.lease_left(play.now) == 0
    play.core.disconnected("refused", play.now)
    play.wait(5)
    play.greet()
    play.get(native.Opened(77, PASSWORD, 9000))
    assert play.core.state is State.JEOPARDY
    play.keep()
    assert play.core.state is State.ALIVE
    assert play.core.lease_left(play.now) == pytest.approx(8.1)


def test_a_kept_that_comes_too_late_saves_nothing(play: Play) -> None:
    """A Kept whose lease is over when it arrives leaves the session in jeopardy."""
    stamp = play.last(native.KeepAlive).stamp
    play.now += 8.5
    play.core.tick(play.now)
    play.pump()
    play.get(native.Kept(stamp, 9000))
    assert play.core.state is not State.ALIVE
    assert play.core.lease_left(play.now) == 0


def test_presumed_expired(play: Play) -> None:
    """After lease and grace the end is presumed: sent commands are unknown, unsent ones not done, waits end."""
    play.call("waits")
    play.get(play.reply(1, 500, status=2))
    play.call("sent")
    play.core.disconnected("broken", play.now)
    play.core.call("m", "do", ["unsent"])
    fail_attempts(play, 8.1 + 20 + 0.1)
    assert play.states()[-2:] == [State.JEOPARDY, State.EXPIRED]
    ending = play.core.ending
    assert isinstance(ending, SessionExpired)
    assert ending.presumed
    (_, sent), (_, unsent) = play.answers()
    assert isinstance(sent, OutcomeUnknown)
    assert sent.__cause__ is ending
    assert unsent is ending
    assert Resolved(500, None, ending) in play.told
    assert isinstance(play.told[-1], Finished)
    assert play.core.deadline() == math.inf


def test_told_expired(play: Play) -> None:
    """A session that the cell ended is expired at once, and not presumed so."""
    play.call()
    play.get(native.Ended(EndReason.EXPIRED))
    assert play.states()[-1] is State.EXPIRED
    assert not play.core.ending.presumed
    with pytest.raises(SessionExpired):
        play.call()


def test_unknown_at_attach_is_expired(play: Play) -> None:
    """A cell that does not know the session any more has expired it."""
    play.core.disconnected("broken", play.now)
    play.wait(5)
    play.greet()
    play.get(native.Ended(EndReason.UNKNOWN))
    assert play.states()[-1] is State.EXPIRED


def test_replies_that_speak_of_the_session(play: Play) -> None:
    """ "session-moved" costs the connection and repeats the command; "session-expired" is the end."""
    play.call()
    play.get(play.reply(1, ["session-moved", "elsewhere"], status=1))
    assert play.answers() == []
    play.wait(5)
    play.greet()
    play.get(native.Opened(77, PASSWORD, 9000))
    play.get(play.reply(1, ["session-expired", "gone"], status=1))
    assert play.states()[-1] is State.EXPIRED
    assert isinstance(play.answers()[0][1], OutcomeUnknown)


def test_liveness() -> None:
    """A client whose application is stuck sends no KeepAlive and lets the session lapse."""
    play = Play(liveness=lambda: False)
    play.open()
    play.wait(8.2)
    assert play.all(native.KeepAlive) == []
    assert play.states()[-1] is State.JEOPARDY


def test_another_cell(play: Play) -> None:
    """A member of another cell ends the session at once."""
    play.core.disconnected("broken", play.now)
    play.wait(5)
    play.greet(cell=b"d" * 16)
    assert play.states()[-1] is State.EXPIRED
    assert isinstance(play.core.ending, WrongCell)
    assert play.core.deadline() == math.inf


# --- closing ----------------------------------------------------------------------------------------------------------


def test_close(play: Play) -> None:
    """Closing tells the cell and ends everything: what was sent is unknown, a second close changes nothing."""
    play.call()
    play.core.close(play.now)
    play.core.close(play.now)
    play.pump()
    assert len(play.all(native.Close)) == 1
    assert play.states()[-1] is State.CLOSED
    assert isinstance(play.answers()[0][1], OutcomeUnknown)
    assert not any(isinstance(each, Finished) for each in play.told)
    play.get(native.Ended(EndReason.CLOSED))
    assert isinstance(play.told[-1], Finished)
    with pytest.raises(SessionClosed):
        play.call()


def test_close_without_a_connection(play: Play) -> None:
    """A session that is closed while disconnected is attached once more to be closed, or left when that takes too
    long."""
    play.core.disconnected("broken", play.now)
    play.core.close(play.now)
    play.pump()
    play.wait(1)
    play.greet()
    play.get(native.Opened(77, PASSWORD, 9000))
    assert play.all(native.Close) == [native.Close()]
    play.wait(3)
    assert isinstance(play.told[-1], Finished)
    assert play.states() == [State.ALIVE, State.CONNECTING, State.CLOSED]


def test_close_and_then_another_cell(play: Play) -> None:
    """The member that is asked to close the session turns out to be of another cell: it is left, and that is all."""
    play.core.disconnected("broken", play.now)
    play.core.close(play.now)
    play.wait(1)
    play.greet(cell=b"d" * 16)
    assert play.states()[-1] is State.CLOSED
    assert isinstance(play.told[-1], Finished)


def test_close_before_a_session(play: Play) -> None:
    """Without a session there is nothing to tell."""
    play = Play()
    play.core.close(play.now)
    play.pump()
    assert isinstance(play.told[-1], Finished)


def test_close_while_the_session_opens() -> None:
    """A session that opens after all is closed as soon as it is there."""
    play = Play()
    play.greet()
    play.core.close(play.now)
    play.get(native.Opened(77, PASSWORD, 9000))
    assert isinstance(play.sent[-1], native.Close)
    assert play.core.lease_left(play.now) == 0
    play.get(native.Ended(EndReason.CLOSED))
    assert isinstance(play.told[-1], Finished)


# --- anything at all --------------------------------------------------------------------------------------------------


def noise(random: Random) -> Iterator[bytes]:
    frames: list[Frame] = [
        native.Welcome(1, CELL, 1, 1, MEMBERS, 1000, 8, 1, 90_000),
        native.Opened(77, PASSWORD, 9000),
        native.Kept(1, 9000),
        native.Moved(2, MEMBERS),
        native.Reply(1, 0, plain.encode([0, None])),
        native.Reply(2, 3, plain.encode([2, 500])),
        event(1, 0, "x"),
        event(2, 1, [500, "x"]),
        event(7, 3, [3, 7], ""),
        native.Failed(About.QUERY, 1, 0, "busy", ""),
        native.Ended(EndReason.UNKNOWN),
        native.Hello(1, b"", ""),
    ]
    while True:
        chosen = native.encode(random.choice(frames))
        if random.random() < 0.1:
            chosen = chosen[: random.randrange(len(chosen))] + random.randbytes(3)
        yield chosen


@pytest.mark.parametrize("seed", range(200))
def test_any_order_of_anything(seed: int) -> None:
    """Whatever a replica sends and whenever it breaks: nothing is raised, every call has one outcome at most, and one
    when it is over."""
    random = Random(seed)
    play = Play()
    stream = noise(random)
    calls: list[Call] = []
    for _ in range(60):
        step = random.random()
        if step < 0.15:
            play.core.connected(play.now)
        elif step < 0.2:
            play.core.disconnected("broken", play.now)
        elif step < 0.35 and not play.core.state.final:
            calls.append(play.core.call("m", "do", []))
            calls.append(play.core.query("m", "do", [], Consistency.LEASE))
        elif step < 0.8:
            play.core.received(next(stream), play.now)
        else:
            play.now += random.choice([0.01, 1, 5])
            play.core.tick(play.now)
        play.pump()
    play.core.close(play.now)
    play.now += 10
    play.core.tick(play.now)
    play.pump()
    assert play.core.deadline() == math.inf
    outcomes = [each.call for each in play.told if isinstance(each, Answered | Parked)]
    assert sorted(map(id, outcomes)) == sorted(map(id, calls))
    parked = sorted(each.ticket for each in play.told if isinstance(each, Parked))
    assert parked == sorted(each.ticket for each in play.told if isinstance(each, Resolved))
