"""The driver: one node on a reactor, its journal, its peers and whoever watches it.

Theory of operation. Everything that arrives while the reactor serves its descriptors only gathers in the node; at the
end of the turn (:mod:`.turn`) the node is asked once what is to be done, and that is carried out in the order that
:mod:`..paxos.ready` demands:

    records to the journal -> messages to the peers -> the journal's write begins -> answers to the clients
    ... the write is durable -> the messages that waited for it -> another turn

So a turn makes one batch, one journal write and one send a connection, whatever arrived in it. Heartbeats and their
answers do not wait for the end of a turn in which clients are served: they are carried out at once.

The driver stops voting when its disk fails or its peers condemn its disk: it falls silent, says so in the log and
in its status, and goes on only as a process that can be asked. It stops altogether when the log cannot be applied
(:class:`..stop.StopReplica`), or an assertion or anything else fails on the way: a slot that was applied by half would
make this replica differ from the others.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from twisted.logger import Logger

from .. import __version__
from ..applied import Applied
from ..forwarding import Reply
from ..host import MachineHost
from ..machine import Origin, Plain, SessionId
from ..node import Node
from ..node_messages import AnyMessage
from ..paxos.ballot import Ballot, MemberId, Slot
from ..paxos.messages import Accepted, Beaten, Heartbeat, Sender, Vouched
from ..paxos.quorum import Configuration
from ..paxos.ready import NOTHING, Ready, Send
from ..paxos.replica import NEVER, Replica, Status
from ..stop import StopReplica
from ..storage.errors import REPLACE, StorageError
from ..storage.recovery import Recovered
from ..storage.snapshots import SnapshotFile
from ..system import FIRST_LOADED, PLUGINS
from ..system.plugins import Plugins
from ..system.session import SessionEvent
from ..wire.batch import pack_request
from ..wire.formats import PEER_VERSION, Greeting, TurnedAway
from .config import ReplicaConfig
from .front import FrontObserver
from .handle import FrontStream
from .journal_thread import JournalThread
from .peers import Peers
from .sessions import Sessions
from .snapshotting import Snapshotting
from .turn import Turns
from .witness import Witness

if TYPE_CHECKING:
    from random import Random

    from twisted.internet.interfaces import IDelayedCall

    from .snapshotting import ThreadedReactor

_FOUND_PAUSE: Final = 0.1
_NOW: Final = (Heartbeat, Beaten)
_QUIET: Final = (Accepted, Vouched)
"""Messages that often stir nothing, and then need no turn."""
_RUN_BYTES: Final = 8
_give_way: Final[Callable[[], object]] = getattr(os, "sched_yield", int)
"""Lets whoever waits for this core have it; nothing where the system has no such call."""


class Clocks(NamedTuple):
    """`monotonic` in microseconds, `wall` in milliseconds since 1970."""

    monotonic: Callable[[], int]
    wall: Callable[[], int]


class Watcher(Protocol):
    """What parts of the server besides fronts are told."""

    def events(self, events: Sequence[SessionEvent]) -> None:
        """Events for sessions attached here, in order, before the replies of the same batch leave."""

    def machines_changed(self) -> None:
        """Machines were loaded, unloaded or halted."""

    def leader_changed(self) -> None:
        """Somebody else leads, or nobody is known to."""


class _Waiting(NamedTuple):
    """What the journal's record `number` releases."""

    number: int
    upto: int
    sends: Sequence[Send]


class LiveReplica:
    """One member of the cell, running. Made by :mod:`.service`; doors reach it through :mod:`.handle` and
    :mod:`.client_port`.

    Attributes:
        origin: this run of this member.
        observers: told of everything applied, in this order.
        watchers: told of events and changes.
        streams: the fronts' streams, told when there is room.
        ailing: why this replica does not vote, None if it does.
    """

    _log = Logger()

    def __init__(
        self,
        config: ReplicaConfig,
        reactor: ThreadedReactor,
        recovered: Recovered,
        *,
        host: MachineHost,
        new_host: Callable[[], MachineHost],
        clocks: Clocks,
        random: Random,
        secret: bytes,
        run: bytes,
        stopped: Callable[[str], None],
    ) -> None:
        owner = recovered.identity.owner
        self.config = config
        self.reactor = reactor
        self.clocks = clocks
        self.origin = Origin(owner.member, recovered.identity.incarnation)
        self.cell = owner.cell
        self.observers: list[FrontObserver] = []
        self.streams: list[FrontStream] = []
        self.watchers: list[Watcher] = []
        self.ailing: str | None = None
        self.full: str | None = None
        """Why nothing can be written at the moment; it is tried again."""
        now = clocks.monotonic()
        self.core = Replica(
            owner.member,
            self.origin.incarnation,
            recovered.state,
            options=config.paxos_options(),
            random=random,
            now=now,
        )
        self.node = Node(
            self.core,
            host,
            self,
            origin=self.origin,
            disk=owner.disk,
            new_host=new_host,
            secret=secret,
            options=config.node_options(),
            now=now,
        )
        self.turns = Turns(reactor, self._turn)
        self.sessions = Sessions(self)
        self.journal = JournalThread(reactor, recovered.journal, self)
        self.snapshotting = Snapshotting(reactor, recovered.snapshots, self, clocks.monotonic)
        self.peers = Peers(
            reactor,
            greeting_of(recovered, run),
            self.core.configuration,
            Witness(config.directory),
            self,
            random=random,
            queue_limit=config.limits.peer_queue,
        )
        self._recovered = recovered
        self._stopped = stopped
        self._running = False
        self._configuration = self.core.configuration
        self._waiting: deque[_Waiting] = deque()
        self._durable = self.journal.last
        self._timer: IDelayedCall | None = None
        self._timer_due = NEVER
        self._answered = False
        self._was: tuple[MemberId | None, Ballot, bool] = (None, self.core.ballot, False)
        self._founding_again: IDelayedCall | None = None
        self._founding = False
        self._serving_told = False

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Take part. Raises OSError if the peer address is taken."""
        self.peers.start(self.config.peer)
        self.journal.start()
        self._running = True
        if self.origin.member not in self.core.configuration.ids():
            self._log.warn("this replica is not in the cell, as far as it knows: it listens until it is added")
        if not self._recovered.state.intact:
            self._log.critical("what this member promised may be lost: it learns and serves, and never votes again")
        self._turn()

    def stop(self) -> None:
        """End: what is being written is finished, nothing else is."""
        if not self._running:
            return
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._founding_again is not None and self._founding_again.active():
            self._founding_again.cancel()
        self.peers.stop()
        self.peers.witness.write()
        self.snapshotting.stop()
        self.journal.stop()
        self._recovered.close()

    def ail(self, reason: str) -> None:
        """Never vote again in this process; go on only to be asked why."""
        if self.ailing is None:
            self.ailing = reason
            self._log.critical("this replica does not vote any more: {reason}", reason=reason)
            self.peers.silence()
            self._tell_serving()

    # ---------------------------------------------------------------- what doors use

    @property
    def host(self) -> MachineHost:
        return self.node.host

    @property
    def serves(self) -> bool:
        """Whether commands go somewhere: this replica votes, and leads or follows a leader."""
        return self.ailing is None and self._running and self.node.serving

    def submit(self, machine: int, body: bytes, done: Callable[[Reply], None]) -> None:
        """Have a body applied; see :meth:`..node.Node.submit`."""
        self.node.submit(machine, body, done)
        self.turns.request()

    def command(self, machine: int, name: str, args: list[Plain], done: Callable[[object], None]) -> None:
        """Have a command applied that is no client's own."""
        self.submit(machine, pack_request(name, args), done)

    def confirm(self, session: SessionId, confirmed: Callable[[bool], None]) -> None:
        """See :meth:`..node.Node.confirm`."""
        self.node.confirm(session, confirmed)
        self.turns.request()

    def answer(self) -> None:
        """Somebody has something to tell its clients: have ``after_batch`` called at the end of this turn."""
        self._answered = True
        self.turns.request()

    def barrier(self, ready: Callable[[bool], None], by_round: bool = False) -> None:
        """See :meth:`..node.Node.barrier`."""
        if self.ailing is not None:
            self.reactor.callLater(0, ready, False)
            return
        self.node.barrier(ready, self.clocks.monotonic(), by_round)
        self.turns.request()

    def doors(self, face: str) -> dict[int, str]:
        """Member id -> the endpoint of that face."""
        found = ((member.id, dict(member.doors).get(face)) for member in self.core.configuration.members)
        return {member: endpoint for member, endpoint in found if endpoint is not None}

    def facts(self, face: str) -> dict[str, str | int]:
        """What a front's monitoring words report."""
        core = self.core
        voters = core.configuration.voters()
        connected = self.peers.connected()
        return {
            "cell": self.config.cell,
            "directory": str(self.config.directory),
            "version": __version__,
            "member": self.origin.member,
            "incarnation": self.origin.incarnation,
            "role": role_of(core.status),
            "leader": core.leader or 0,
            "ballot": str(core.ballot),
            "chosen": core.chosen,
            "applied": self.host.slot,
            "sessions": sum(1 for each in self.sessions.here if self._face_of(each) == face),
            "members": len(core.configuration.members),
            "voters": len(voters),
            "followers": len(connected) if self.node.leading else 0,
            "synced_followers": len(voters.intersection(connected)) if self.node.leading else 0,
        }

    def _face_of(self, session: SessionId) -> str:
        found = self.host.sessions.get(session)
        return "" if found is None else found.face

    # ---------------------------------------------------------------- what the peers say

    def heard(self, sender: Sender, message: AnyMessage) -> None:
        if not isinstance(message, _NOW):
            self._make_way()
        try:
            self.node.receive(sender, message, self.clocks.monotonic())
        except Exception as error:
            self._broken(error)
            return
        if isinstance(message, _NOW):
            self._turn()
        elif type(message) not in _QUIET or self.core.stirred:
            self.turns.request()

    def _make_way(self) -> None:
        """Nobody waits here: others, maybe on the same cores, go first."""
        if not (self.sessions.here or self.node.leading):
            _give_way()

    def disk(self, member: int) -> bytes | None:
        return self.host.disk(member)

    def condemned(self, refusal: TurnedAway) -> None:
        self.ail(f"a peer refuses its disk: {refusal.reason}")

    def links_changed(self) -> None:
        self.turns.request()

    # ---------------------------------------------------------------- what the disk says

    def durable(self, upto: int) -> None:
        self._durable = upto
        self._release()
        if self.core.stirred:
            self.turns.request()

    def disk_full(self, reason: str | None) -> None:
        self.full = reason
        if reason is None:
            self._log.info("there is room on the disk again")
        else:
            self._log.critical("nothing can be written until there is room: {reason}", reason=reason)

    def disk_failed(self, error: StorageError) -> None:
        self.ail(str(error))

    def _release(self) -> None:
        """What is durable may be told and counted."""
        if self.ailing is not None:
            return
        waiting = self._waiting
        upto = 0
        while waiting and waiting[0].number <= self._durable:
            released = waiting.popleft()
            upto = released.upto
            self.peers.send_all(released.sends)
        if upto:
            try:
                self.node.persisted(upto, self.clocks.monotonic())
            except Exception as error:
                self._broken(error)

    # ---------------------------------------------------------------- the turn

    def _turn(self) -> None:
        if not self._running:
            return
        if self.ailing is not None:
            self._answer()  # whoever asks how it does
            return
        now = self.clocks.monotonic()
        try:
            ready = self.node.turn(now, self.clocks.wall())
        except Exception as error:
            self._broken(error)
            return
        if not self._running:  # somebody who was told of an answer stopped us
            return
        if ready is not NOTHING:
            self.carry_out(ready)
        if self._running:  # now already: a door that fails must not cost it
            self._arm(now)
        if self.core.configuration is not self._configuration:
            self._reconfigured(self.core.configuration)
        self._notice()
        self._answer()
        if self._running and self.node.snapshot_due and self.snapshotting.may_take():
            self._take_snapshot()

    def _answer(self) -> None:
        """Let the doors tell their clients what this turn brought."""
        if not self._answered:
            return
        self._answered = False
        for observer in self.observers:
            observer.after_batch()
        if self.streams and self.node.room() > self.node.options.backlog // 2:
            for stream in self.streams:
                stream.has_room()

    def _reconfigured(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.peers.configure(configuration)
        for observer in self.observers:
            observer.reconfigured()
        if self.core.status is Status.RETIRED:
            self._log.warn("this member may not vote: it was removed from the cell")

    def carry_out(self, ready: Ready) -> None:
        """See :class:`..paxos.ready.Ready` for the order of duties."""
        if ready.records or ready.after:
            number = self.journal.append(ready.records) if ready.records else self.journal.last
            self._waiting.append(_Waiting(number, ready.upto, ready.after))
        if ready.messages:
            self.peers.send_all(ready.messages)
        self.journal.flush()
        if self._waiting and self._waiting[0].number <= self._durable:
            self._release()
            self.turns.request()
        for request in ready.snapshot_requests:
            self.peers.send_all((Send(request.to, self.snapshotting.piece(request.fetch)),))
        for piece in ready.snapshot_chunks:
            self.snapshotting.arrived(piece)

    def _arm(self, now: int) -> None:
        """Have the next turn come in time. A timer that comes too early is left."""
        due = self.node.next_tick()
        timer = self._timer
        if timer is not None and timer.active():
            if self._timer_due <= due:
                return
            timer.cancel()
        self._timer_due = due
        self._timer = self.reactor.callLater(max(0, due - now) / 1_000_000, self._timed) if due < NEVER else None

    def _timed(self) -> None:
        now = self.clocks.monotonic()
        if now < self.node.next_tick():
            self._arm(now)
        else:
            self._turn()

    def _broken(self, error: Exception) -> None:
        """The core found a rule broken, or what is chosen cannot be applied or told: nothing may follow from that."""
        if not isinstance(error, (StopReplica, MemoryError)):
            self._log.failure("what must not happen, and should be reported")
        self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        """The log cannot be applied here: this process must end."""
        self._log.critical("this replica stops: {reason}", reason=reason)
        self.ail(reason)
        self._stopped(reason)

    # ---------------------------------------------------------------- what the node says (NodeObserver)

    def applied(self, applied: Applied) -> None:
        self._make_way()
        self._answered = True
        if applied.events:
            for watcher in self.watchers:
                watcher.events(applied.events)
        if applied.attached or applied.ended or self.sessions.waiting:
            moved, ended = self.sessions.applied(applied)
            for session in moved:
                for observer in self.observers:
                    observer.session_moved(session)
            for session, expired in ended:
                for observer in self.observers:
                    observer.session_ended(session, expired)
            expiries = sum(expired for _, expired in applied.ended)
            if expiries and self.node.leading:
                self._log.info("{count} sessions expired", count=expiries)
        if applied.changed:
            for watcher in self.watchers:
                watcher.machines_changed()

    def restored(self, host: MachineHost) -> None:
        self._answered = True
        for session in self.sessions.restored():
            for observer in self.observers:
                observer.session_moved(session)
        for observer in self.observers:
            observer.restored()
        for watcher in self.watchers:
            watcher.machines_changed()

    def serving(self, serving: bool) -> None:
        self._tell_serving()

    def disowned(self, disk: bytes) -> None:
        self.ail(
            f"the cell knows this member with the disk {disk.hex()}, not with {self.node.disk.hex()}: what it promised "
            f"is lost; put the right disk back, or {REPLACE}"
        )

    def _tell_serving(self) -> None:
        serving = self.serves
        if serving != self._serving_told:
            self._serving_told = serving
            for observer in self.observers:
                observer.serving_changed(serving)

    def _notice(self) -> None:
        """Tell of changes in leadership."""
        core, leading = self.core, self.node.leading
        leader, ballot = core.leader, core.ballot
        if leader == self._was[0] and ballot == self._was[1] and leading == self._was[2]:
            return
        before, self._was = self._was, (leader, ballot, leading)
        if leader != before[0] or ballot != before[1]:
            if leader is not None and leader == ballot.member:
                self._log.info("member {leader} leads, ballot {ballot}", leader=leader, ballot=str(ballot))
            for watcher in self.watchers:
                watcher.leader_changed()
        if leading and not self._founding:
            self._found_machines()

    # ---------------------------------------------------------------- snapshots

    def _take_snapshot(self) -> None:
        slot = self.node.snapshot_begins()
        self.snapshotting.take(slot, self.host.configuration, self.host)

    def snapshot_taken(self, taken: SnapshotFile, floor: Slot) -> None:
        self._log.debug("snapshot at slot {slot}: {size} bytes", slot=taken.slot, size=taken.size)
        self.host.imaged(taken.slot, lambda: self._recovered.snapshots.chunks(taken.slot))
        self.node.snapshotted(taken.slot, taken.size)
        self.journal.forget(floor)

    def snapshot_failed(self) -> None:
        self.node.snapshot_failed()

    def snapshot_fetched(self, fetched: SnapshotFile) -> None:
        """A peer's snapshot is on the disk: prepare a host from it beside the reactor, which goes on meanwhile."""
        self.snapshotting.restore(fetched, self.node.prepare, self._prepared)

    def _prepared(self, fetched: SnapshotFile, found: MachineHost | Exception) -> None:
        if not self._running:
            return
        self.turns.request()
        if isinstance(found, MachineHost):
            try:
                self.node.install(fetched.slot, fetched.size, fetched.configuration, found, self.clocks.monotonic())
            except Exception as error:
                self._broken(error)
                return
            if self.host.slot == fetched.slot:  # else the log had passed it, and it was not installed
                self.host.imaged(fetched.slot, lambda: self._recovered.snapshots.chunks(fetched.slot))
                self.journal.forget(self.snapshotting.retire())
        elif isinstance(found, (StopReplica, MemoryError)):
            self._give_up(f"{type(found).__name__}: {found}")
        else:
            self._log.error("the snapshot at slot {slot} is of no use: {error}", slot=fetched.slot, error=found)
            self._recovered.snapshots.reject(fetched.slot)
            self.core.abandon_snapshot()

    def snapshot_useless(self) -> None:
        self.core.abandon_snapshot()
        self.turns.request()

    # ---------------------------------------------------------------- founding

    def _found_machines(self) -> None:
        """While the cell is new, the leader loads the configured machines, in their order. The machine at place i gets
        the number ``FIRST_LOADED + i`` for ever, by which a later leader knows what is still to be done. It takes
        until every voter has announced what it has installed."""
        plugins = self.host.machine("plugins")
        assert isinstance(plugins, Plugins)
        machines = self.config.machines
        done = plugins.next_number - FIRST_LOADED
        if done >= len(machines) or not self.node.leading or not self._running:
            self._founding = False
            return
        self._founding = True
        code = machines[done]
        voters = self.host.configuration.voters()
        if not all(code in (self.host.announced(voter) or ()) for voter in voters):
            self._found_more()
            return
        name = self.host.catalog.find(code, 1).name
        self.command(PLUGINS, "load", [name, code], lambda _: self._found_more())

    def _found_more(self) -> None:
        if self._running:
            self._founding_again = self.reactor.callLater(_FOUND_PAUSE, self._found_machines)


def greeting_of(recovered: Recovered, run: bytes) -> Greeting:
    """What this run says of its disk, as it was found."""
    state = recovered.state
    cell, member, disk = recovered.identity.owner
    slot = Slot(max(state.chosen, state.snapshot, *(vote.slot for vote in state.votes), 0))
    return Greeting(PEER_VERSION, cell, 0, member, recovered.identity.incarnation, disk, run, state.promised, slot)


def role_of(status: Status) -> str:
    """A member's role in a word."""
    if status is Status.LEADER:
        return "leader"
    if status in (Status.CANVASSING, Status.PREPARING):
        return "candidate"
    return status.name.lower()
