"""A cell without consensus: every replica's machine in one process, one list as the log. What the fronts' tests stand
on.

Commands are applied at the end of the reactor turn they came in, to the machine of every seat, which must then have
equal digests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from random import Random

from quorate.kernel.machine import Commit, Effects, Origin, SessionId
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role, changed
from quorate.kernel.server.front import FrontObserver, Opened
from quorate.plugins.znodes.machine import ZnodesMachine

Step = Callable[["FakeCell"], None]


class FakeCell:
    """The log and the kernel's part of the state: sessions and timers."""

    def __init__(
        self, reactor, size: int = 1, tick_ms: int = 500, machine: type[ZnodesMachine] = ZnodesMachine
    ) -> None:
        self.reactor = reactor
        self.tick_ms = tick_ms
        self.index = 0
        self.sessions: dict[SessionId, Origin] = {}
        self.timeouts: dict[SessionId, int] = {}
        self.heard: dict[SessionId, float] = {}
        self.timers: dict[str, int] = {}
        self.serving = True
        self.seats = [Seat(self, number + 1, machine()) for number in range(size)]
        self._steps: list[Step] = []
        self._ended: list[tuple[SessionId, Origin, bool]] = []
        self._moved: list[tuple[SessionId, Origin]] = []
        self._replies: list[Callable[[], None]] = []
        self._barriers: list[Callable[[bool], None]] = []
        self._scheduled = False
        members = (
            Member(
                MemberId(seat.origin.member),
                Role.VOTER,
                f"tcp:10.0.0.{seat.origin.member}:7410",
                (("client", f"tcp:10.0.0.{seat.origin.member}:7420"), ("zookeeper", "tcp:0.0.0.0:2181")),
            )
            for seat in self.seats
        )
        self.configuration = Configuration(Slot(0), tuple(members))
        self.promotes = True
        """Whether learners catch up."""
        reactor.callLater(tick_ms / 1000, self._tick)

    def propose(self, step: Step) -> None:
        """Have a step applied at the end of this turn, or when the cell serves again."""
        self._steps.append(step)
        if self.serving and not self._scheduled:
            self._scheduled = True
            self.reactor.callLater(0, self._apply)

    def serve(self, serving: bool) -> None:
        """Lose or find a leader."""
        self.serving = serving
        for seat in self.seats:
            for watcher in seat.watchers:
                watcher.serving_changed(serving)
        if serving and self._steps and not self._scheduled:
            self._scheduled = True
            self.reactor.callLater(0, self._apply)

    def commit(self, origin: Origin, effects: Effects, now: int) -> Commit:
        """The place of the command that is being applied."""
        return Commit(
            self.index,
            now,
            now,
            sessions=dict(self.sessions),
            origin=origin,
            random=Random,
            effects=effects,
        )

    def each(self, origin: Origin, act: Callable[[ZnodesMachine, Commit, Seat], None]) -> None:
        """Apply one command to every seat's machine, then what it asked the kernel for."""
        self.index += 1
        now = int(self.reactor.seconds() * 1000)  # one clock, so that a simulated one decides about everything
        for seat in self.seats:
            effects = Effects()
            act(seat.tree_machine, self.commit(origin, effects, now), seat)
        for key, at in effects.timers:
            if at is None:
                self.timers.pop(key, None)
            else:
                self.timers[key] = at
        for session in effects.closed:
            self.end(session, False)

    def end(self, session: SessionId, expired: bool) -> None:
        """End a session in the log."""
        origin = self.sessions.pop(session, None)
        if origin is None:
            return
        self.each(origin, lambda machine, commit, seat: machine.session_closed(commit, session, expired))
        self._ended.append((session, origin, expired))

    def _apply(self) -> None:
        self._scheduled = False
        if not self.serving:
            return
        steps, self._steps = self._steps, []
        for step in steps:
            step(self)
        digests = {seat.tree_machine.digest() for seat in self.seats}
        assert len(digests) == 1, "the replicas differ"
        replies, self._replies = self._replies, []
        for reply in replies:
            reply()
        barriers, self._barriers = self._barriers, []
        for ready in barriers:
            ready(True)
        ended, self._ended = self._ended, []
        moved, self._moved = self._moved, []
        for seat in self.seats:
            for watcher in seat.watchers:
                for session, origin, expired in ended:
                    if origin == seat.origin:
                        watcher.session_ended(session, expired)
                for session, origin in moved:
                    if origin == seat.origin:
                        watcher.session_moved(session)
                watcher.after_batch()

    def later(self, reply: Callable[[], None]) -> None:
        """Call `reply` once the batch has been applied."""
        self._replies.append(reply)

    def passed(self, ready: Callable[[bool], None]) -> None:
        """Call `ready(True)` once the batch has been applied and its replies were handed out."""
        self._barriers.append(ready)

    def moved(self, session: SessionId, origin: Origin) -> None:
        """Note that a session left a seat."""
        self._moved.append((session, origin))

    def _tick(self) -> None:
        self.reactor.callLater(self.tick_ms / 1000, self._tick)
        if not self.serving:
            self.heard = dict.fromkeys(self.heard, self.reactor.seconds())
            return
        now = self.reactor.seconds()
        for session, heard in list(self.heard.items()):
            if session in self.sessions and now - heard > self.timeouts[session] / 1000:
                del self.heard[session]
                self.propose(lambda cell, session=session: cell.end(session, True))
        for key, at in sorted(self.timers.items()):
            if at <= now * 1000:
                del self.timers[key]
                self.propose(lambda cell, key=key: cell.fire(key))

    def change(self, number: int, change: Change) -> None:
        """Have a change of membership made, as the leader would."""
        if number != self.configuration.number or (change.kind is ChangeKind.PROMOTE and not self.promotes):
            return
        self.index += 1
        self.configuration = changed(self.configuration, change, Slot(self.index))
        for seat in self.seats:
            for watcher in seat.watchers:
                watcher.reconfigured()

    def fire(self, key: str) -> None:
        """Fire a timer of the machine."""
        self.each(Origin(0, 0), lambda machine, commit, seat: machine.timer_fired(commit, key))


class Seat:
    """One replica of the fake cell, as its fronts see it."""

    def __init__(self, cell: FakeCell, member: int, machine: ZnodesMachine) -> None:
        self.cell = cell
        self.origin = Origin(member, 1)
        self.tree_machine = machine
        self.watchers: list[FrontObserver] = []
        self.room_left = 1 << 20

    def stream(self, machine: str, on_room: Callable[[], None]) -> Seat:
        self.on_room = on_room
        return self

    def room(self) -> int:
        return self.room_left

    def submit(self, chunk: bytes, on_applied: Callable[[list[bytes]], None]) -> None:
        def step(cell: FakeCell) -> None:
            answers: list[bytes] = []
            cell.each(
                self.origin,
                lambda machine, commit, seat: machine.apply_chunk(commit, chunk, answers if seat is self else None),
            )
            cell.later(lambda: on_applied(answers))

        self.cell.propose(step)

    def machine(self, name: str) -> ZnodesMachine:
        assert name == "znodes"
        return self.tree_machine

    @staticmethod
    def password(session: int) -> bytes:
        return sha256(session.to_bytes(8, "big")).digest()[:16]

    def open_session(self, timeout_ms: int, face: str, opened: Callable[[Opened | None], None]) -> None:
        def step(cell: FakeCell) -> None:
            session = SessionId((cell.index + 1) * 0x9E3779B1 & 0x7FFFFFFFFFFFFFFF)
            cell.sessions[session] = self.origin
            cell.timeouts[session] = timeout_ms
            cell.heard[session] = cell.reactor.seconds()
            cell.each(self.origin, lambda machine, commit, seat: machine.session_opened(commit, session, face))
            cell.later(lambda: opened(Opened(session, self.password(session), timeout_ms)))

        self.cell.propose(step)

    def attach_session(self, session: SessionId, password: bytes, attached: Callable[[Opened | None], None]) -> None:
        def step(cell: FakeCell) -> None:
            before = cell.sessions.get(session)
            if before is None or password != self.password(session):
                cell.later(lambda: attached(None))
                return
            cell.sessions[session] = self.origin
            cell.heard[session] = cell.reactor.seconds()
            if before != self.origin:
                cell.moved(session, before)
            cell.later(lambda: attached(Opened(session, password, cell.timeouts[session])))

        self.cell.propose(step)

    def known_session(self, session: SessionId, password: bytes) -> Opened | None:
        if session not in self.cell.sessions or password != self.password(session):
            return None
        return Opened(session, password, self.cell.timeouts[session])

    def close_session(self, session: SessionId, closed: Callable[[], None]) -> None:
        self.cell.propose(lambda cell: (cell.end(session, False), cell.later(closed))[0])

    def touch(self, session: SessionId) -> None:
        heard = self.cell.heard
        if session in heard:
            heard[session] = self.cell.reactor.seconds()

    def barrier(self, ready: Callable[[bool], None]) -> None:
        if not self.cell.serving:
            self.cell.reactor.callLater(0.5, ready, False)
            return
        self.cell.propose(lambda cell: cell.passed(ready))

    def serving(self) -> bool:
        return self.cell.serving

    def leading(self) -> bool:
        return self is self.cell.seats[0]

    def members(self) -> Mapping[int, str]:
        return {seat.origin.member: "" for seat in self.cell.seats}

    def configuration(self) -> Configuration:
        return self.cell.configuration

    def change_membership(self, number: int, change: Change) -> None:
        self.cell.propose(lambda cell: cell.change(number, change))

    def facts(self) -> Mapping[str, str | int]:
        return {"member": self.origin.member}

    def observe(self, watcher: FrontObserver) -> None:
        self.watchers.append(watcher)
