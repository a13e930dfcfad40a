"""One replica without its sockets, files and clocks: consensus, machines, forwarding and sessions composed.

The server and the simulator drive the same :class:`Node`, so that what is simulated is what runs. A driver

* calls :meth:`~Node.receive`, :meth:`~Node.submit`, :meth:`~Node.touch` and the like as things arrive,
* calls :meth:`~Node.turn` once at the end of each turn of its loop and at :meth:`~Node.next_tick`, and carries out
  the returned :class:`~.paxos.ready.Ready` as that class says (``committed`` and ``reads`` in it are already dealt
  with here),
* reports back by :meth:`~Node.persisted`, :meth:`~Node.snapshotted` and :meth:`~Node.install`.

Everything that arrived in one turn leaves together: one batch, one journal write, one message a peer.

`now` is the monotonic clock in microseconds, `wall` the time of day in milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, cast

from .barriers import Barriers
from .forwarding import Gap, Outbox, Reply
from .host import MachineHost
from .leading import Leading
from .machine import Origin, Plain
from .node_messages import AnyMessage, Forward, Gaps, Heads, NodeMessage, Renew, Renewed
from .node_observer import NodeObserver
from .node_options import Options
from .paxos.ballot import Ballot, MemberId, Slot
from .paxos.configuration import reconfigured
from .paxos.messages import Kind, Message, Sender
from .paxos.options import NEVER, SLOT_COST
from .paxos.quorum import Configuration, Role
from .paxos.ready import NOTHING, Committed, Ready, Send, joined, remaining
from .paxos.replica import Replica
from .renewals import Renewals
from .reports import PATIENCE, Reports
from .system import DIGESTS, MEMBERSHIP, PLUGINS, SESSIONS
from .wire.batch import pack_request

_NODE_MESSAGES: Final = frozenset({Forward, Heads, Gaps, Renew, Renewed})
_LOOK: Final = 20_000
"""Microseconds between two looks at time-driven work, at least."""


class Node:
    """One replica. See the module's docstring for the driver's duties.

    Args:
        core: this member's consensus core, started on its durable state.
        host: the machines, restored to the core's snapshot; `new_host` makes an empty one for a snapshot from a peer.
        observer: told of everything applied.
        disk: the identity of the disk on which the core's state is.
        secret: 32 random bytes; the first leader of a cell founds the session passwords on its own.
    """

    def __init__(
        self,
        core: Replica,
        host: MachineHost,
        observer: NodeObserver,
        *,
        origin: Origin,
        disk: bytes,
        new_host: Callable[[], MachineHost],
        secret: bytes,
        options: Options,
        now: int,
    ) -> None:
        self.core = core
        self.host = host
        host.images_itself = False
        self.origin = origin
        self.disk = disk
        self.options = options
        self.snapshot_due = False
        """The log since the last snapshot is long: the driver should take one when it can."""
        self._observer = observer
        self._new_host = new_host
        self._secret = secret
        self._outbox = Outbox(origin)
        self._leading: Leading | None = None
        self._following: tuple[MemberId | None, Ballot] = (None, core.ballot)
        self._serving_told = False
        self._early: list[bytes] = []
        self._out: list[Send] = []
        self._reports = Reports(now)
        self._streams_seen = now
        self._filled: dict[int, tuple[int, int]] = {}  # machine -> from where its stream was last sent again, and when
        self._look_due = now
        self._barriers = Barriers()
        self._log_bytes = 0
        self._snapshot_slot = core.chosen
        self._snapshot_size = 0
        self._settling: set[str] = set()  # chores of this member that are under way

    # ---------------------------------------------------------------- in

    def submit(self, machine: int, body: bytes, done: Callable[[Reply], None]) -> None:
        """Have a command body applied exactly once, in this replica's order for that machine; `done` is called when
        it is applied here. Only the end of this process can lose it."""
        self._outbox.submit(machine, body, done)

    def room(self) -> int:
        """Bytes that may still be submitted before the caller should wait."""
        return self.options.backlog - self._outbox.bytes

    def receive(self, sender: Sender, message: AnyMessage, now: int) -> None:
        """A message of a member of this cell (the driver has checked the cell and that the sender's run is not an
        older one)."""
        if type(message) in _NODE_MESSAGES:
            self._hear(sender, message, now)  # type: ignore[arg-type]
        else:
            chosen = self.core.chosen
            self.core.receive(sender, message, now)  # type: ignore[arg-type]
            if self._leading is not None and self.core.chosen > chosen:
                self._leading.count_waiting()

    def touch(self, session: int) -> None:
        """A session's client was heard on this replica."""
        self._reports.hear(session)

    def confirm(self, session: int, confirmed: Callable[[bool], None]) -> None:
        """Like :meth:`touch`, and tell when the leader has counted it under its lease: from the client's sending on,
        the session lives for its time-out. False: no leader confirmed it; the client should ask again."""
        self._reports.ask(session, confirmed)

    def barrier(self, ready: Callable[[bool], None], now: int, by_round: bool = False) -> None:
        """Call `ready(True)` when everything that was committed before this call is applied here (linearizable, under
        the leader's lease; with `by_round` without reliance on any clock); ``ready(False)`` when no leader could say
        so."""
        self.core.read(self._barriers.ask(ready), now, by_round)

    def persisted(self, upto: int, now: int) -> None:
        """See Ready: records up to `upto` are durable."""
        chosen = self.core.chosen
        self.core.persisted(upto, now)
        if self._leading is not None and self.core.chosen > chosen:
            self._leading.count_waiting()

    def snapshotted(self, slot: Slot, size: int) -> None:
        """A snapshot taken of this host at `slot` is durable and verified."""
        self._snapshot_size = size
        self.core.compacted(slot, size)

    def snapshot_begins(self) -> Slot:
        """The driver takes a snapshot of the host as it is now; returns its slot."""
        self.snapshot_due = False
        self._log_bytes = 0
        self._snapshot_slot = self.host.slot
        return Slot(self.host.slot)

    def snapshot_failed(self) -> None:
        """The snapshot that began came to nothing: another is due, without more of the log."""
        self.snapshot_due = True

    def prepare(self, chunks: Iterable[bytes]) -> MachineHost:
        """A host that is what a peer's snapshot says. It touches nothing else of the node: with much state it takes
        long, and a driver may do it on another thread meanwhile.

        Raises:
            Exception: whatever the machines say of a damaged image.
        """
        host = self._new_host()
        host.restore(chunks)
        return host

    def install(self, slot: Slot, size: int, configuration: Configuration, host: MachineHost, now: int) -> None:
        """A snapshot fetched from a peer is durable here: become the `host` prepared from it, unless the log has
        passed it meanwhile."""
        if not self.core.expects(slot):
            self.core.abandon_snapshot()
            return
        self.host = host
        host.images_itself = False
        self.core.installed(slot, size, configuration, now)
        self._snapshot_slot, self._snapshot_size, self._log_bytes = slot, size, 0
        for done in self._outbox.settle(host.marks):
            done(None)
        self._observer.restored(host)
        self._barriers.reached(host.slot)

    # ---------------------------------------------------------------- the turn

    def turn(self, now: int, wall: int) -> Ready:
        """Close the turn: let time pass, apply what was chosen, send what was submitted, and what follows from that,
        until nothing more does."""
        core = self.core
        core.tick(now)
        if now >= self._look_due:
            self._look(now)
        gathered: Ready | None = None
        while True:
            if self._leading is not None:
                if self._outbox.bytes:
                    self._leading.take_own()
                self._leading.propose(now, wall)
            elif self._outbox.bytes:
                self._forward()
            if not core.stirred or (ready := core.ready()) is NOTHING:
                break
            gathered = ready if gathered is None else joined(gathered, ready)
            if ready.committed:
                gathered = self._apply_all(ready.committed, gathered, now)
            for context, index in ready.reads:
                self._barriers.granted(context, index, self.host.slot)
            self._follow(now)
        if gathered is None:
            self._follow(now)
        if self._reports.heard:
            self._report_renewals(now)
        gathered = gathered or NOTHING
        out, self._out = self._out, []
        return remaining(gathered, out) if out or gathered.reads else gathered

    def _apply_all(self, committed: Sequence[Committed], gathered: Ready, now: int) -> Ready:
        """Apply what is committed; returns what is left of all that was gathered. The others need not wait for our
        machines, too; nor need the disk, if nobody here waits for them."""
        if self._outbox.bytes:
            self._observer.carry_out(Ready(messages=gathered.messages))
            self._apply(committed, now)
            if self._outbox.bytes:
                self.core.speak()  # not all is answered: the leader may wait for our votes
            return gathered._replace(messages=(), committed=())
        self._observer.carry_out(remaining(gathered))
        self._apply(committed, now)
        return NOTHING

    def next_tick(self) -> int:
        """When :meth:`turn` must be called at the latest, even if nothing arrives."""
        look = self._reports.look_at()
        waits, leading = NEVER, self._leading
        if leading is not None:
            look = min(look, leading.timer_due, leading.renewals.look_at())
            waits = leading.waits_until
        elif self._outbox.bytes:
            look = min(look, self._streams_seen + self.options.resend + 1)
        if look < self._look_due:
            look = self._look_due
        return min(self.core.next_tick(), look, waits)

    # ---------------------------------------------------------------- to look at

    @property
    def leading(self) -> bool:
        """Whether this member leads and takes commands."""
        return self._leading is not None

    @property
    def serving(self) -> bool:
        """Whether commands submitted here have somewhere to go, and answers come: this member leads, or follows
        somebody who may, and takes in what is chosen."""
        return self.core.leader is not None and not self.core.choked

    # ---------------------------------------------------------------- leadership

    def _follow(self, now: int) -> None:
        """Notice that leadership moved: to us, from us, or between others."""
        core = self.core
        if core.serving != (self._leading is not None):
            if core.serving:
                self._begin(now)
            else:
                self._end()
        leader, ballot = core.leader, core.ballot
        before, under = self._following
        if leader != before or ballot != under:
            self._following = (leader, ballot)
            if leader is not None and leader != self.origin.member:
                self._outbox.rewind()
                self._filled.clear()
                self._streams_seen = now
            self._reports.give_up()
        serving = leader is not None and not core.choked
        if serving != self._serving_told:
            self._serving_told = serving
            self._observer.serving(serving)

    def _begin(self, now: int) -> None:
        """Our ballot's first value is chosen, so everything before it is applied: lead."""
        self._leading = leading = Leading(self.core, self.host, self._outbox, self.options, self._command, now)
        self._outbox.rewind()
        early, self._early = self._early, []
        for chunks in early:
            leading.intake.admit(chunks)
        if self.host.password_key is None:
            self._chore("found", SESSIONS, "found", [self._secret])

    def _end(self) -> None:
        assert self._leading is not None
        self._leading.end()
        self._leading = None
        self._early.clear()
        self._settling.clear()

    def _hear(self, sender: Sender, message: NodeMessage, now: int) -> None:
        if isinstance(message, Forward):
            self._hear_forward(sender, message)
        elif isinstance(message, Renew):
            if self._leading is not None:
                self._hear_renewals(self._leading.renewals, sender.member, message, now)
        elif isinstance(message, Renewed):
            self._reports.counted(message.report, message.lost)
        elif isinstance(message, Heads):
            self._hear_heads(sender, message)
        elif sender.member == self.core.leader:
            self._hear_gaps(message, now)

    def _hear_renewals(self, renewals: Renewals, member: int, message: Renew, now: int) -> None:
        """What does not count may have been opened in a slot that is not known here to be chosen yet: look again when
        it is. And whoever can say what is chosen led after the renewal came."""
        renewals.attend(now)
        lost = renewals.hear(message.sessions)
        if lost or not self.core.lease_left(now):
            self.barrier(partial(self._count_renewals, member, message), now)
        else:
            self._send(member, Renewed(message.report, lost))

    def _count_renewals(self, member: int, message: Renew, led: bool) -> None:
        if led and self._leading is not None:
            self._send(member, Renewed(message.report, self._leading.renewals.hear(message.sessions)))

    def _hear_forward(self, sender: Sender, message: Forward) -> None:
        if self._leading is not None:
            gaps = self._leading.intake.admit(message.chunks)
            if gaps:
                self._send(sender.member, Gaps(tuple(gaps)))
        elif self.core.leader == self.origin.member and sum(map(len, self._early)) < self.options.backlog:
            self._early.append(message.chunks)

    def _hear_heads(self, sender: Sender, message: Heads) -> None:
        if self._leading is None:
            return
        missing = []
        for machine, last in message.streams:
            expected = self._leading.intake.expected(sender.member, machine, message.incarnation)
            if 0 < expected <= last:
                missing.append(Gap(machine, expected))
        if missing:
            self._send(sender.member, Gaps(tuple(missing)))

    def _hear_gaps(self, message: Gaps, now: int) -> None:
        """Send again what the leader misses: once, though everything that was under way behind it has the leader ask;
        and once more if it asks for that still after a while."""
        for machine, sequence in message.gaps:
            filled, since = self._filled.get(machine, (0, 0))
            if sequence != filled or now - since > self.options.resend // 2:
                self._filled[machine] = (sequence, now)
                self._outbox.rewind(machine, sequence)

    # ---------------------------------------------------------------- commands on their way

    def _forward(self) -> None:
        leader = self.core.leader
        if leader is None or leader == self.origin.member:
            return
        pieces: list[bytes] = []
        size = 0
        for chunk in self._outbox.unsent():
            if pieces and size + len(chunk) > self.options.batch:
                self._send(leader, Forward(b"".join(pieces)))
                pieces, size = [], 0
            pieces.append(chunk)
            size += len(chunk)
        if pieces:
            self.core.speak()
            self._send(leader, Forward(b"".join(pieces)))

    def _send(self, to: int, message: NodeMessage) -> None:
        # It travels like the core's own messages; that it is none of them is the wire's business.
        self._out.append(Send(MemberId(to), cast(Message, message)))

    # ---------------------------------------------------------------- applying

    def _apply(self, committed: Sequence[Committed], now: int) -> None:
        leading = self._leading
        for slot, value in committed:
            if value.kind is Kind.COMMANDS:
                self._log_bytes += len(value.payload) + SLOT_COST
                applied = self.host.apply(slot, value.payload)
                outbox = self._outbox
                for answer in applied.answers:
                    done = outbox.applied(answer.machine, answer.sequence)
                    if done is not None:
                        done(answer.reply)
                if leading is not None:
                    leading.applied(applied, len(value.payload), now)
                self._observer.applied(applied)
            elif value.kind is Kind.CONFIGURATION:
                configuration = reconfigured(self.host.configuration, value.payload, slot)
                self.host.configured(slot, configuration)
            else:
                self.host.skipped(slot)
            if slot % self.options.digest_every == 0 and self._votes():
                self._report_digest(slot)
        if leading is not None:
            leading.note_timer()
        self._barriers.reached(self.host.slot)
        options = self.options
        # What a restart must read is at most about twice the state, and writing snapshots costs no more than the log.
        enough = max(options.snapshot_bytes, self._snapshot_size * options.snapshot_growth // 100)
        if self._log_bytes > enough or self.host.slot - self._snapshot_slot > options.snapshot_slots:
            self.snapshot_due = True

    def _votes(self) -> bool:
        member = self.core.configuration.find(MemberId(self.origin.member))
        return member is not None and member.role is Role.VOTER

    def _report_digest(self, slot: Slot) -> None:
        self._chore(f"digest {slot}", DIGESTS, "report", [self.origin.member, slot, self.host.digest()])

    # ---------------------------------------------------------------- what time brings

    def _look(self, now: int) -> None:
        self._look_due = now + _LOOK
        self._reports.give_up(now - PATIENCE)
        if self._leading is not None:
            self._leading.look(now)
        elif self._outbox.bytes and now - self._streams_seen > self.options.resend:
            self._streams_seen = now
            leader, heads = self.core.leader, self._outbox.heads()
            if heads and leader is not None and leader != self.origin.member:
                self._send(leader, Heads(self.origin.incarnation, heads))
        if self.core.leader is not None:
            self._introduce()

    def _introduce(self) -> None:
        """Tell the cell what it should know of this member: its disk, and what is installed here."""
        member, host = self.origin.member, self.host
        known = host.disk(member)
        if known is None:
            self._chore("introduce", MEMBERSHIP, "introduce", [member, self.disk])
        elif known != self.disk:
            self._observer.disowned(known)
            return
        if host.announced(member) != host.available:
            self._chore("announce", PLUGINS, "announce", [member, dict(host.available)])

    def _report_renewals(self, now: int) -> None:
        """Tell the leader (which may be this member) whom we heard: every REPORT, or at once if a client waits for
        its lease."""
        leader, reports = self.core.leader, self._reports
        if leader is None or not reports.pressing(now):
            return
        if self._leading is not None:
            if self.core.lease_left(now) > 0:
                renewals = self._leading.renewals
                renewals.attend(now)
                reports.count(renewals.hear(reports.heard), now)
        elif leader != self.origin.member:
            self._send(leader, Renew(*reports.send(now)))

    # ---------------------------------------------------------------- commands of the cell's own

    def _command(
        self, machine: int, name: str, args: list[Plain], done: Callable[[Reply], None] = lambda _: None
    ) -> None:
        self._outbox.submit(machine, pack_request(name, args), done)

    def _chore(self, key: str, machine: int, name: str, args: list[Plain]) -> None:
        """Submit a command of this member's own unless the same is under way."""
        if key not in self._settling:
            self._settling.add(key)
            self._command(machine, name, args, lambda _: self._settling.discard(key))
