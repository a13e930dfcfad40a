"""A replica as a Twisted service: start reading here.

:func:`make_replica_service` makes it from a configuration and a reactor. Starting it opens the data directory (founding
it if it is empty), restores the machines, joins the peers and opens the doors; stopping it closes them in the opposite
order. A reason to end that shows later (the log cannot be applied, a peer address that is taken) ends the process:
see ``stopped``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..catalog import Catalog
from ..host import MachineHost
from ..machine import Origin, StateMachine
from ..paxos.ballot import MemberId, Slot
from ..stop import StopReplica
from ..storage.errors import StorageError
from ..storage.files import RealFileSystem
from ..storage.recovery import Recovered, recover
from .client_port import ClientPort
from .config import BadConfiguration, ReplicaConfig
from .discovery import make_catalog
from .front import FrontMaker
from .handle import FrontHandle
from .replica import Clocks, LiveReplica

if TYPE_CHECKING:
    from ..system.session import SessionEvent
    from .snapshotting import ThreadedReactor

FRONTS: Final = "quorate.fronts"
SWITCH_SECONDS: Final = 0.0005
"""How long the reactor may hold the interpreter while the journal's thread waits for it to tell that a write is done.
(The default of 5 ms would add up to that to every write on a busy replica.)"""


def real_clocks() -> Clocks:
    """The computer's clocks. The monotonic one goes on while it sleeps, if the system has such a clock: leases do."""
    read, clock = time.clock_gettime_ns, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return Clocks(lambda: read(clock) // 1000, lambda: time.time_ns() // 1_000_000)


NO_START: Final = (BadConfiguration, StorageError, StopReplica, OSError)
"""What :meth:`ReplicaService.startService` raises when it cannot start for a reason that :func:`why` puts in words."""


def why(config: ReplicaConfig, error: Exception) -> str:
    """Why the replica that `config` describes could not start, and what to do, for an operator."""
    if not isinstance(error, OSError):
        return str(error)
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}: see that it may be written by this user"
    listen = ", ".join((config.peer, config.client, *config.doors.values()))
    return f"it cannot listen on all of {listen}: {error.strerror}: `ss -ltnp` shows who does"


def make_replica_service(
    config: ReplicaConfig,
    reactor: ThreadedReactor,
    *,
    stopped: Callable[[str], None] | None = None,
    clocks: Clocks | None = None,
    catalog: Catalog | None = None,
) -> ReplicaService:
    """The replica that `config` describes, not yet started.

    Args:
        stopped: called with the reason when the replica cannot go on; by default the reactor is stopped.
        clocks: the computer's own unless given.
        catalog: the machines that may be loaded; by default those installed and those the configuration allows.
    """
    return ReplicaService(config, reactor, stopped, clocks or real_clocks(), catalog)


class _Front(NamedTuple):
    """An open door: the machine behind it, by its number and its instance, and the front with its handle."""

    number: int
    machine: StateMachine
    handle: FrontHandle
    service: IService


class ReplicaService(MultiService):
    """See the module's docstring. `failure`: why the replica ended by itself, None if it did not."""

    _log = Logger()

    def __init__(
        self,
        config: ReplicaConfig,
        reactor: ThreadedReactor,
        stopped: Callable[[str], None] | None,
        clocks: Clocks,
        catalog: Catalog | None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.setName("quorate")  # type: ignore[no-untyped-call]
        self.config = config
        self.failure: str | None = None
        self.replica: LiveReplica | None = None
        self.client_port: ClientPort | None = None
        self._reactor = reactor
        self._stopped = stopped
        self._clocks = clocks
        self._catalog = catalog
        self._fronts: dict[str, _Front] = {}
        self._closing: set[str] = set()
        self._makers = dict(_front_makers())

    def startService(self) -> None:
        """Raises one of NO_START: it cannot start, and :func:`why` says why."""
        if not __debug__:
            raise BadConfiguration(
                "python -O leaves out the assertions by which a replica stops before it does harm: start it without "
                "-O, -OO and PYTHONOPTIMIZE"
            )
        recovered = recover(
            RealFileSystem(),
            os.fspath(self.config.directory),
            cell=self.config.cell_id,
            member=MemberId(self.config.member),
            disk=os.urandom(16),
            founding=self.config.founding,
        )
        try:
            replica = self._make(recovered)
            replica.watchers.append(self)
            self.client_port = ClientPort(replica)
            replica.start()
            self.replica = replica
            self.client_port.start(self.config.client)
        except BaseException:
            if self.replica is not None:
                self._end()
            else:
                recovered.close()
            raise
        super().startService()  # type: ignore[no-untyped-call]
        self._adjust_fronts()  # of machines that a snapshot brought, which nobody tells of any more
        sys.setswitchinterval(SWITCH_SECONDS)
        self._log.info(
            "member {member} of the cell {cell} started, run {run}, slot {slot}",
            member=replica.origin.member,
            cell=self.config.cell,
            run=replica.origin.incarnation,
            slot=replica.host.slot,
        )
        founders = [founder.id for founder in self.config.founders]
        if replica.origin.incarnation == 1 and self.config.member not in founders:
            self._log.warn(
                "member {member} is none of the founders {founders}: it waits for the cell to take it in",
                member=self.config.member,
                founders=founders,
            )

    def stopService(self) -> Deferred[Any]:
        """Close the doors, then end the replica."""
        fronts: Deferred[Any] | None = super().stopService()  # type: ignore[no-untyped-call]
        return DeferredList([fronts] if fronts is not None else []).addBoth(lambda _: self._end())

    def _end(self) -> None:
        if self.client_port is not None:
            self.client_port.stop()
        if self.replica is not None:
            self.replica.stop()

    def _make(self, recovered: Recovered) -> LiveReplica:
        for note in recovered.notes:
            self._log.warn("{note}", note=note)
        owner = recovered.identity.owner
        origin = Origin(owner.member, recovered.identity.incarnation)
        catalog = make_catalog(self.config.allow) if self._catalog is None else self._catalog

        def new_host() -> MachineHost:
            return MachineHost(owner.cell, catalog, origin, Random)

        host = new_host()
        if recovered.snapshot is None:
            host.configured(Slot(0), recovered.state.configuration)
        else:
            slot = recovered.snapshot.slot

            def source() -> Iterator[bytes]:
                return recovered.snapshots.chunks(slot)

            host.restore(source(), source)
        return LiveReplica(
            self.config,
            self._reactor,
            recovered,
            host=host,
            new_host=new_host,
            clocks=self._clocks,
            random=SystemRandom(),
            secret=os.urandom(32),
            run=os.urandom(8),
            stopped=self._end_by_itself,
        )

    def _end_by_itself(self, reason: str) -> None:
        self.failure = reason
        if self._stopped is not None:
            self._stopped(reason)
        else:
            self._reactor.callLater(0, self._reactor.stop)

    # ---------------------------------------------------------------- fronts (watcher)

    def machines_changed(self) -> None:
        """Open the door of a machine that was loaded, close that of one that was unloaded. Both may be true of one name
        by the time we look."""
        self._reactor.callLater(0, self._adjust_fronts)

    def _adjust_fronts(self) -> None:
        replica = self.replica
        if replica is None or not self.running:
            return
        instances = replica.host.loaded()
        loaded = {each.name: each for each in replica.host.status() if each.halted is None}
        for name, front in list(self._fronts.items()):
            if name not in loaded or loaded[name].number != front.number:
                self._close_front(name, self._fronts.pop(name))
            elif (machine := instances[front.number]) is not front.machine:
                self._fronts[name] = front._replace(machine=machine)
                front.handle.restored()
        for name, (number, _, code, *_) in loaded.items():
            maker = self._makers.get(code)
            endpoint = None if maker is None else self.config.doors.get(maker.face)
            if maker is None or endpoint is None or name in self._fronts or name in self._closing:
                continue
            options = self.config.options.get(maker.face, {})
            handle = FrontHandle(replica, maker.face)
            try:
                made = maker(handle, self._reactor, endpoint, options)
                self._fronts[name] = _Front(number, instances[number], handle, made)
                made.setServiceParent(self)  # type: ignore[no-untyped-call]
            except (OSError, ValueError) as error:
                what = f"[options.{maker.face}]" if isinstance(error, ValueError) else endpoint
                replica.ail(f"the door {maker.face} cannot be opened: {what}: {error}")
                self._end_by_itself(f"{what}: {error}")
                return
            self._log.info("the door {face} is open at {endpoint}", face=maker.face, endpoint=endpoint)

    def _close_front(self, name: str, front: _Front) -> None:
        """Close a door; it may be opened anew when the old one has let go of its ports."""

        def closed(_: object) -> None:
            self._closing.discard(name)
            self.machines_changed()

        self._closing.add(name)
        front.handle.release()
        maybeDeferred(front.service.disownServiceParent).addErrback(self._closed_badly, name).addBoth(closed)

    def _closed_badly(self, failure: Failure, name: str) -> None:
        self._log.failure("the door of {name} was not closed well", failure, name=name)

    def events(self, events: Sequence[SessionEvent]) -> None:
        """Fronts learn what happens in their own machine."""

    def leader_changed(self) -> None:
        """Fronts ask when they need to know."""


def _front_makers() -> Iterator[tuple[str, FrontMaker]]:
    """Name of code -> maker of its front, from the installed entry points."""
    for point in entry_points(group=FRONTS):
        yield point.name, cast(FrontMaker, point.load())
