"""What a node does while it leads: it takes commands in, proposes them in batches, and sees to what time brings.

Made anew for each leadership, when everything chosen before it is applied; nothing that it remembers outlives it. What
followers do as well, and every message, is :mod:`.node`'s.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from functools import partial

from .applied import Applied
from .company import Company
from .forwarding import Intake, Outbox
from .gate import Gate, Gated
from .haste import Haste
from .host import MachineHost
from .machine import Plain, SessionId
from .node_options import Options
from .paxos.ballot import Ballot, MemberId
from .paxos.configuration import decode_change
from .paxos.messages import Kind, Value
from .paxos.options import NEVER
from .paxos.quorum import InvalidChange
from .paxos.replica import NotLeader, Replica
from .renewals import Overdue, Renewals
from .system import SESSIONS, TIMERS
from .wire.batch import CHUNK_HEAD, pack_batch


def epoch_of(ballot: Ballot) -> int:
    """The number of a leadership, for ``Commit.epoch``: grows with the ballot."""
    return ballot.round << 16 | ballot.member


class Leading:
    """One leadership of `core`, whose machines are `host`. Times are microseconds of the caller's clock.

    Attributes:
        intake: commands on their way into the log.
        renewals: which sessions live.
        waits_until: when the next batch has waited for company long enough; NEVER if none waits.
        timer_due: when the next timer of the machines is due.

    Args:
        outbox: this member's own commands.
        command: submits a command of the cell's own.
    """

    def __init__(
        self,
        core: Replica,
        host: MachineHost,
        outbox: Outbox,
        options: Options,
        command: Callable[[int, str, list[Plain]], None],
        now: int,
    ) -> None:
        self._core = core
        self._host = host
        self._outbox = outbox
        self._batch = options.batch
        self._command = command
        self._epoch = epoch_of(core.ballot)
        self._gates: dict[int, Gate] = {}
        self._gated: dict[int, object] = {}  # the machines whose gates they are
        self._expiring: dict[Overdue, set[int]] = {}  # expiries, and the gates that keep each
        self.intake = Intake(host.marks, self._gates)
        self._set_gates()
        self._since = now  # when cell time was what the host has
        self._began_at = host.cell_time
        self._asked: dict[int, int] = {}  # machine -> time up to which its timers were asked to fire
        self._company = Company(options.company, options.linger, options.patience)
        self._ready_bytes = 0  # what could be proposed when the newest slot was chosen
        self.waits_until = NEVER
        self.renewals = Renewals(now)
        self._haste = Haste()
        for session in host.sessions.values():
            self.renewals.watch(session.id, session.timeout_ms * 1000, session.attachment)
            self._haste.attached(session.id, session.owner.member)
        self._hurry()
        self.timer_due = NEVER
        self.note_timer()

    def end(self) -> None:
        """Somebody else may lead now."""
        for gate in self._gates.values():
            gate.ended()

    # ---------------------------------------------------------------- commands on their way

    def take_own(self) -> None:
        """This member's own chunks enter the log the way everybody's do."""
        for chunk in self._outbox.unsent():
            gaps = self.intake.admit(chunk)
            assert not gaps, f"own stream with a gap: {gaps}"

    def count_waiting(self) -> None:
        """A slot is chosen. Who asks from now on may have been answered by it elsewhere already."""
        if self._outbox.bytes:
            self.take_own()
        self._ready_bytes = self.intake.bytes

    def propose(self, now: int, wall: int) -> None:
        """Propose what waits, as far as there is room, and nobody is worth waiting for. `wall`: milliseconds."""
        intake, company, core = self.intake, self._company, self._core
        self.waits_until = NEVER
        while intake:
            room = core.can_propose()
            if not room:
                return
            until = company.wait(intake.bytes, room < core.options.window, now)
            if until:
                self.waits_until = until
                return
            company.proposed(now)
            chunks = intake.take(self._batch)
            self._haste.commanded([CHUNK_HEAD.unpack_from(chunk)[2] for chunk in chunks])
            self._hurry()
            core.propose(Value(Kind.COMMANDS, pack_batch(self._cell_time(now), wall, self._epoch, chunks)), now)

    def _hurry(self, *, late: bool = False) -> None:
        """Have the core know where somebody waits."""
        if self._haste.look(late=late):
            self._core.hurry(frozenset(map(MemberId, self._haste.members)))

    def _cell_time(self, now: int) -> int:
        """In milliseconds: goes on from the last stamped batch, having stood still while nobody led."""
        return max(self._host.cell_time, self._began_at + (now - self._since) // 1000)

    # ---------------------------------------------------------------- what was applied

    def applied(self, applied: Applied, size: int, now: int) -> None:
        """A batch of `size` bytes was applied and answered here."""
        self._company.chosen(size, min(self._ready_bytes, self.intake.bytes), now)
        if applied.attached or applied.ended:
            self._watch_sessions(applied)
        if applied.changed:
            self._set_gates()
        for wish in applied.wishes:
            with contextlib.suppress(NotLeader, InvalidChange):  # who wished it will see that it is not so
                self._core.reconfigure(decode_change(wish), now)

    def _watch_sessions(self, applied: Applied) -> None:
        for identity in applied.attached:
            session = self._host.sessions.get(identity)
            if session is not None:
                self.renewals.watch(identity, session.timeout_ms * 1000, session.attachment)
                self._haste.attached(identity, session.owner.member)
        for identity, _ in applied.ended:
            self.renewals.forget(identity)
            self._haste.ended(identity)
        self._hurry()

    def _set_gates(self) -> None:
        """Give every machine that wants one its gate; those of unloaded and halted machines, and of those that went on
        as another instance, end, and what they kept goes on."""
        loaded = self._host.loaded()
        for number in [n for n in self._gates if loaded.get(n) is not self._gated[n]]:
            del self._gated[number]
            self._gates.pop(number).ended()
            self.intake.ungated(number)
            for overdue in list(self._expiring):
                self._passed(overdue, (number,))
        for number, machine in loaded.items():
            if number not in self._gates and isinstance(machine, Gated):
                self._gates[number] = machine.gate(self._epoch)
                self._gated[number] = machine

    # ---------------------------------------------------------------- what time brings

    def look(self, now: int) -> None:
        """Expire who was silent for too long, fire the timers that are due."""
        self.renewals.attend(now)
        for overdue in self.renewals.overdue():
            self._expire(overdue)
        self._fire_timers(now)
        self._hurry(late=True)

    def _expire(self, overdue: Overdue) -> None:
        """Propose an expiry once every gate lets it pass."""
        self._expiring[overdue] = set(self._gates)
        session = SessionId(overdue.session)
        gates = self._gates.items()
        self._passed(overdue, [n for n, gate in gates if gate.expiry(session, partial(self._passed, overdue, (n,)))])

    def _passed(self, overdue: Overdue, gates: Iterable[int]) -> None:
        """These gates let an expiry pass, or have ended."""
        waiting = self._expiring.get(overdue)
        if waiting is None:
            return
        waiting.difference_update(gates)
        if not waiting:
            del self._expiring[overdue]
            self._command(SESSIONS, "expire", [overdue.session, overdue.attachment, self._epoch])

    def note_timer(self) -> None:
        """When, by this leader's clock, the next timer is due."""
        first = self._host.next_timer()
        self.timer_due = NEVER if first is None else self._since + (first - self._began_at) * 1000

    def _fire_timers(self, now: int) -> None:
        for machine, upto in self._host.due_timers(self._cell_time(now)):
            if self._asked.get(machine, -1) >= upto:
                continue
            self._asked[machine] = upto
            fire = partial(self._command, TIMERS, "fire", [machine, upto])
            gate = self._gates.get(machine)
            if gate is None or gate.timers(upto, fire):
                fire()
