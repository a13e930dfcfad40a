"""A simulated cell with ZooKeeper clients under faults, judged by the reference.

Beside what every simulation watches: everything that every ZooKeeper client hears is what the reference says it must
hear (see ``reference/judge.py``), of the members that come and go in /zookeeper/config, too, which says who is there in
the end; no session expires while its client is heard by the leader, or at all once the faults
are over; and sessions whose clients are gone do expire.
"""

from __future__ import annotations

from quorate.kernel.testing.clock import SECOND
from quorate.kernel.testing.simulation import Settings, Simulation
from quorate.plugins.znodes.ensemble import number_of
from quorate.plugins.znodes.machine import ZnodesMachine
from quorate.plugins.znodes.paths import CONFIG
from reference.judge import Ended, Line, Violation, judge
from znodes_client import ZkClient
from znodes_log import Log, Record, logged
from znodes_place import SCHEME, ZooKeeperPlace

OPTIONS = {"tick": "500", "grace": "3000", "extended-types": "true", "reconfig": "true"}
TIMEOUT = 4.2
"""Seconds; no native session has the same."""
QUIET = 7 * SECOND
"""Microseconds without faults at the end: longer than any session's time-out, a tick and a fail-over."""
DRIFT = 0.03
"""How wrong two clocks may be about one second, and what a turn takes."""


class ZnodesRun(Simulation):
    """One run. `clients` of the settings speak ZooKeeper."""

    def __init__(self, seed: int, settings: Settings | None = None) -> None:
        settings = settings or Settings.draw(seed)
        people = max(settings.clients, 1)
        self.people_count = people
        settings = settings._replace(clients=0, busy=0, operations=150, faulty=min(settings.faulty, 6.0))
        self.log = Log(self._true_time)
        super().__init__(settings, {ZnodesMachine.name: logged(self.log)})
        self.lines: list[Line] = []
        self.people: list[ZkClient] = []
        self.newest = 0
        """The newest transaction that any client was told of as its own."""
        self.heard: dict[int, list[int]] = {}
        """By session: when the leader heard of it, or it was opened or moved."""
        self.granted: dict[int, int] = {}
        """By session: its time-out in milliseconds."""
        self.writes = self.world.random("writes").choice((0.2, 0.4, 0.6))
        self.world.beside[SCHEME] = lambda process, node: ZooKeeperPlace(
            process, node, self.world, OPTIONS, self._hears
        )

    def _true_time(self) -> int:
        return self.world.schedule.now

    # ---------------------------------------------------------------- what clients tell

    def new_line(self, client: ZkClient) -> Line:
        """A client is connected."""
        line = Line(
            client.session, len(self.lines) + 1, since=client.seen, name=f"{client.place}/{len(self.lines) + 1}"
        )
        self.lines.append(line)
        return line

    def opened(self, session: int, timeout_ms: int) -> None:
        """A client has a new session."""
        self.granted[session] = timeout_ms

    def _hears(self, session: int, member: int, leads: bool) -> None:
        if leads:
            self.heard.setdefault(session, []).append(self.world.schedule.now)

    # ---------------------------------------------------------------- the run

    def _boot(self) -> None:
        super()._boot()
        for _ in range(self.people_count):
            self._join()

    def _join(self) -> None:
        place, self._places = self._places, self._places + 1
        client = ZkClient(self, place, self.clock(f"client {place}"), TIMEOUT)
        self.people.append(client)
        self.clients.append(client)
        self._jobs.append(client.door.spawn(client.work(self.settings.pause / 6)))

    def replace_client(self, client: ZkClient) -> None:
        self.world.trace(client.place, "client dies")
        client.end()
        self.clients.remove(client)
        if client in self.people:
            self.people.remove(client)
        self._jobs = [job for job in self._jobs if not job.orphaned]
        self._join()

    def _judge(self) -> None:
        self._quiet()
        super()._judge()
        for client in self.people:
            if client.line is not None and client.waiting:
                raise Violation("answer", f"client {client.place} waits for {client.waiting} answers at the end")
        self._check_expiries()
        self._check_configuration()
        judge(self.log.entries(), self.lines, ttl=True)

    def _quiet(self) -> None:
        """Nothing but pings: whoever is there stays, whoever is gone expires."""
        for client in self.people:
            client.stopping = False
            self._jobs.append(client.door.spawn(client.idle()))
        schedule = self.world.schedule
        schedule.run_until(schedule.now + SECOND)
        before, begun = {client.session for client in self.people if client.line is not None}, schedule.now
        schedule.run_until(schedule.now + QUIET)
        for record in self.log.records:
            entry = record.entry
            if record.time > begun and isinstance(entry, Ended) and entry.expired and entry.session in before:
                raise Violation("expiry", f"session {entry.session:x} expired at {record.time} in fair weather")
        leader = self.world.leader()
        assert leader is not None
        faces = {session.id for session in leader.node.host.sessions.values() if session.face == "znodes"}
        left = faces - {client.session for client in self.people}
        if left:
            raise Violation("expiry", f"sessions of nobody live on: {sorted(left)}")
        for client in self.people:
            client.stop()
        self.liveness.until(lambda: all(job.done for job in self._jobs), 5 * SECOND, "completion", "a client goes on")

    # ---------------------------------------------------------------- verdicts of its own

    def _check_configuration(self) -> None:
        """Who is in the cell has been written down."""
        leader = self.world.leader()
        assert leader is not None
        machine = leader.node.host.machine(ZnodesMachine.name)
        assert isinstance(machine, ZnodesMachine)
        written, number = number_of(machine.tree.nodes[CONFIG].value), leader.node.host.configuration.number
        if written != number:
            raise Violation("members", f"configuration {number} is in force, and {written} is written down")

    def _check_expiries(self) -> None:
        for record in self.log.records:
            if isinstance(record.entry, Ended) and record.entry.expired:
                self._check_expiry(record)

    def _check_expiry(self, record: Record) -> None:
        """Somewhere before its end the leader must not have heard of the session for as long as its time-out."""
        session = record.entry.session
        times = [time for time in self.heard.get(session, ()) if time < record.time]
        if session not in self.granted or not times:
            return
        silences = [later - earlier for earlier, later in zip(times, [*times[1:], record.time], strict=True)]
        if max(silences) < self.granted[session] * 1000 * (1 - DRIFT):
            raise Violation(
                "expiry",
                f"session {session:x} of {self.granted[session]} ms expired at {record.time}, though the leader had "
                f"never been without word of it for longer than {max(silences)} us",
            )
