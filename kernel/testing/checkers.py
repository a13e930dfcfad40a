"""What must never happen in a cell, watched while it runs: every promise of the kernel that shows from outside.

=================== ==================================================================================================
promise             what is watched
=================== ==================================================================================================
one value           no slot is ever applied with two values, by whatever replica, in whatever run
prefix              each run applies slots one after the other, without a hole, and never goes back
durable             when a slot is first applied anywhere, a majority of its voters hold it on their disks in one ballot
votes               no disk takes a vote below a ballot that it promised, and a slot has one value in a ballot
memory              a member starts with each promise and vote that its disk was told to keep, or knows what is lost
one disk            no member listens to another that it knows with another disk
ballots             no ballot is used in two runs of a member
reads               no linearizable read is answered as of a slot below one that was applied anywhere when it was asked
same state          after equal slots the digests are equal, and so are the sessions
one leader          at no instant two members hold a master lease, each by its own clock
sessions            no session is expired while its client, by its own clock, still holds a lease on it
renewals            no leader refuses to renew a session only because it does not know yet that it was opened
one holder          at no instant two clients hold the same lock, each by its own clock
tokens              the tokens of a lock only grow
=================== ==================================================================================================

"At an instant" means true time, which only a simulation has: stopped processes and drifting clocks count.
What needs a whole history (linearizability, exactly once) is for :mod:`.linearizability`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from ..applied import Applied
from ..host import MachineHost
from ..machine import SessionId
from ..paxos.ballot import Ballot, Slot
from ..paxos.configuration import reconfigured
from ..paxos.messages import NOOP, Kind, Value
from ..paxos.quorum import Configuration, Phase, is_quorum
from ..paxos.ready import DurableState, Record
from .kept import Disks
from .violation import Violation

if TYPE_CHECKING:
    from ..paxos.replica import Replica
    from .lifecycle import Boundary
    from .process import Disk, Process


COMPARE_EVERY: Final = 4
"""Slots between two comparisons of digests, which cost more than all else."""


BY_CLOCKS: Final = ("one leader", "reads", "sessions", "one holder", "tokens")
"""The promises that rest on the bound of the drift of clocks: who is sure of something by its own clock may be wrong
if its clock is. Everything else holds with any clocks."""


class Holder(Protocol):
    """A client that may hold sessions and locks."""

    def lease_left(self, session: int) -> float:
        """Seconds for which it is sure, by its own clock at this instant, that the session lives."""


class Watch:
    """Told of everything that happens in a cell; raises :class:`Violation` at once.

    `processes` names the members' processes, those that are down as well.
    """

    def __init__(self, founding: Configuration, processes: Callable[[], Iterable[Process]]) -> None:
        self.configuration = founding
        """The configuration after the highest slot applied anywhere."""
        self._processes = processes
        self.values: dict[int, Value] = {}
        """The value of each slot that was applied anywhere."""
        self.counts: Counter[str] = Counter()
        """What happened how often."""
        self.boundaries: Counter[Boundary] = Counter()
        """Where processes were struck."""
        self.leaders: list[tuple[int, Ballot]] = []
        """Who began to lead, in order."""
        self.disks = Disks()
        """What every disk was told to keep."""
        self.tolerated: tuple[str, ...] = ()
        """Promises that are only counted when they are broken, because the clocks are not as they must be."""
        self.frontier = 0
        """The highest slot applied anywhere."""
        self._prepared: dict[Ballot, int] = {}
        self._positions: dict[int, int] = {}
        self._states: dict[int, tuple[int, int]] = {}
        self._ballots: set[Ballot] = set()
        self._lease = (0, 0)
        self._clients: dict[int, Holder] = {}
        self._locks: dict[str, dict[int, Holder]] = {}
        self._tokens: dict[str, int] = {}
        self._attached: set[int] = set()
        self._ended: set[int] = set()

    # ---------------------------------------------------------------- the log

    def started(self, member: int, host: MachineHost) -> None:
        """A run begins with this state."""
        self.counts["starts"] += 1
        self._positions[member] = host.slot
        if host.slot:
            self._compare(member, host)

    def stopped(self, member: int) -> None:
        """A run ended."""
        self.counts["stops"] += 1
        self._positions.pop(member, None)

    def chosen(self, member: int, slot: int, value: Value) -> None:
        """The core of `member` hands out `value` at `slot`, to be applied now."""
        known = self.values.get(slot)
        if known is None:
            self._check_durable(member, slot, value)
            self.values[slot] = value
            self.frontier = max(self.frontier, slot)
            if value.kind is Kind.CONFIGURATION:
                self.configuration = reconfigured(self.configuration, value.payload, Slot(slot))
                self.counts["changes of membership"] += 1
        elif known is not value and known != value:
            words = f"member {member} applies {_brief(value)} at slot {slot}, which is {_brief(known)}"
            raise Violation("one value", words)
        position = self._positions.get(member, 0)
        if slot != position + 1:
            raise Violation("prefix", f"member {member} applies slot {slot} after slot {position}")
        self._positions[member] = slot

    def applied(self, member: int, host: MachineHost) -> None:
        """`member` has applied the slot its host is at now."""
        if host.slot % COMPARE_EVERY == 0:
            self._compare(member, host)

    def installed(self, member: int, host: MachineHost) -> None:
        """`member` became the state of a peer's snapshot."""
        self.counts["snapshots installed"] += 1
        position = self._positions.get(member, 0)
        if host.slot < position:
            raise Violation("prefix", f"member {member} goes back from slot {position} to slot {host.slot}")
        self._positions[member] = host.slot
        self._compare(member, host)

    def batch(self, member: int, applied: Applied) -> None:
        """A batch was applied by `member`."""
        self._attached.update(applied.attached)
        for session, expired in applied.ended:
            if session in self._ended:
                continue
            self._ended.add(session)
            if expired:
                self.counts["sessions expired"] += 1
                client = self._clients.get(session)
                if client is not None and (left := client.lease_left(session)) > 0:
                    self._broken(
                        "sessions",
                        f"session {session:x} expired (applied by member {member}), its lease runs {left:.3f} s more",
                    )

    def durable(self, disk: Disk, records: Sequence[Record]) -> None:
        """These records are on that disk now."""
        self.disks.durable(disk, records)

    def recovered(self, disk: Disk, state: DurableState) -> None:
        """A member starts on that disk, and finds `state` there."""
        self.disks.found(disk, state)

    def heard(self, member: int, sender: int, known: bytes, disk: bytes) -> None:
        """`member`, which knows `sender` with the disk `known`, listens to what `sender` says on `disk`."""
        if known != disk:
            words = f"member {member} listens to member {sender} on disk {disk.hex()}, and knows it with {known.hex()}"
            raise Violation("one disk", words)

    def prepares(self, member: int, incarnation: int, ballot: Ballot) -> None:
        """A member asks for promises of `ballot` in that run."""
        if self._prepared.setdefault(ballot, incarnation) != incarnation:
            raise Violation(
                "ballots",
                f"member {member} uses {ballot} in its run {incarnation}, and did in run {self._prepared[ballot]}",
            )

    def read(self, member: int, slot: int, frontier: int) -> None:
        """A linearizable read that was asked at `member` when the frontier was there may be answered as of `slot`."""
        if slot < frontier:
            words = f"member {member} answers as of slot {slot} a read that began when slot {frontier} was applied"
            self._broken("reads", words)

    def _check_durable(self, member: int, slot: int, value: Value) -> None:
        """The first time anybody applies a slot: was it chosen, by what the disks hold, or held before they were
        lost? A vote that counted is not undone by the loss of its disk."""
        votes = self.disks.votes(slot)
        for (_, voted), disks in votes.items():
            if voted == value:
                holders = {disk.member for disk in disks}
                if is_quorum(Phase.ACCEPT, holders, self.configuration.voters()):
                    return
        held = {
            str(ballot): sorted(disk.member for disk in disks) for (ballot, v), disks in votes.items() if v == value
        }
        raise Violation(
            "durable",
            f"member {member} applies slot {slot} ({_brief(value)}), which no majority of "
            f"{sorted(self.configuration.voters())} has on its disks in one ballot: held {held}",
        )

    def _compare(self, member: int, host: MachineHost) -> None:
        slot = host.slot
        state = (host.digest(), host.index)
        known = self._states.setdefault(slot, state)
        if known != state:
            raise Violation(
                "same state", f"at slot {slot} member {member} has (digest, index) {state}, another had {known}"
            )

    # ---------------------------------------------------------------- counted

    def struck(self, boundary: Boundary) -> None:
        """A process was made to die or to stop before this effect."""
        self.boundaries[boundary] += 1

    def count(self, what: str) -> None:
        """Something worth counting happened."""
        self.counts[what] += 1

    # ---------------------------------------------------------------- leases

    def leading(self, process: Process, core: Replica, now: int) -> None:
        """A process that takes itself for the leader has finished a turn at `now` of its clock."""
        if core.serving and core.ballot not in self._ballots:
            self._ballots.add(core.ballot)
            self.leaders.append((process.member, core.ballot))
        left = core.lease_left(now)
        if left > 0 and (process.member, now + left) != self._lease:
            self._lease = (process.member, now + left)  # looked at again when it is longer, or another's
            for other in self._processes():
                if other is not process and other.alive and other.node.core.lease_left(other.now) > 0:
                    both = " and ".join(
                        f"member {p.member} ({p.node.core.ballot}, {p.node.core.lease_left(p.now)} us left)"
                        for p in (process, other)
                    )
                    self._broken("one leader", f"{both} hold a lease")

    # ---------------------------------------------------------------- sessions and locks

    def session(self, session: int, client: Holder) -> None:
        """`client` has this session."""
        self._clients[session] = client

    def refused(self, member: int, sessions: Iterable[int], host: MachineHost) -> None:
        """`member`, which leads and whose state is `host`, does not count renewals of `sessions`: they ended, or are
        about to be expired."""
        for session in sessions:
            if session in self._attached and session not in self._ended and SessionId(session) not in host.sessions:
                words = f"member {member} refuses to renew session {session:x}, which lives and which it does not know"
                raise Violation("renewals", words)

    def acquired(self, lock: str, token: int, session: int) -> None:
        """The client of `session` learned that it holds `lock` under `token`. If it is sure of its session, then nobody
        can have learned of a larger token."""
        self.counts["locks acquired"] += 1
        client = self._clients[session]
        last = self._tokens.get(lock, 0)
        if client.lease_left(session) > 0 and token <= last:
            self._broken("tokens", f"lock {lock!r} is held under {token}, and was granted under {last} before")
        self._tokens[lock] = max(last, token)
        self._locks.setdefault(lock, {})[session] = client
        self.check_holders()

    def released(self, lock: str, session: int) -> None:
        """The client of `session` does not count on `lock` any more (it sent the release, or gave its session up)."""
        self._locks.get(lock, {}).pop(session, None)

    def check_holders(self) -> None:
        """Look at every lock: call it whenever a client's hold can have begun or come back."""
        for lock, holders in self._locks.items():
            if len(holders) > 1:
                sure = [session for session, client in holders.items() if client.lease_left(session) > 0]
                if len(sure) > 1:
                    self._broken("one holder", f"lock {lock!r} is held by the sessions {[f'{s:x}' for s in sure]}")

    def _broken(self, promise: str, words: str) -> None:
        """A promise of :data:`BY_CLOCKS` is broken."""
        if promise not in self.tolerated:
            raise Violation(promise, words)
        self.counts[f"broken: {promise}"] += 1

    # ---------------------------------------------------------------- at the end

    @property
    def changes_of_leader(self) -> int:
        """How often leadership moved from one member to another."""
        return sum(1 for one, two in zip(self.leaders, self.leaders[1:], strict=False) if one[0] != two[0])


def _brief(value: Value) -> str:
    if value == NOOP:
        return "no-op"
    return f"{Kind(value.kind).name.lower()} {value.payload[:24].hex()}.. ({len(value.payload)} bytes)"
