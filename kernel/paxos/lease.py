"""The master lease: how long a leader may rely on nobody else leading.

Theory of operation. The leader sends a heartbeat at its time s. An acceptor that answers has promised, from the
moment the heartbeat *arrived*, to help no other member for D by its own clock. Arrival is after s, so by the leader's
clock the promise runs at least until s + D / (1 + e), if clocks drift apart by at most a fraction e. The leader
counts less: until s + D * (1 - e), less one microsecond, by which a clock that shows whole ones may be behind.

Each acceptor's newest answered s is kept; sorted from newest to oldest, the one at the quorum's place is a moment
after which a whole quorum promised. The leader's own acceptor is one of them: it grants when the heartbeat is sent.

A lease read is linearizable because another leader needs promises of a quorum, which meets the quorum of grants in an
acceptor that keeps silent until the lease is over. Lease arithmetic never waits for a disk.

When membership changes, the lease is counted anew by the quorums that decide from then on: what a quorum of an older
configuration granted excludes nobody under the next but one.

The same answers carry *rounds*: an answered round that began after a question proves leadership at the time of the
question (read-index), without any assumption about clocks.
"""

from __future__ import annotations

from .ballot import MemberId
from .quorum import Phase, is_quorum


class Lease:
    """One leadership's lease. Times in microseconds on the leader's clock."""

    def __init__(self, member: MemberId, voters: frozenset[MemberId], length: int, drift_ppm: int, now: int) -> None:
        self._member = member
        self._voters = voters
        self._length = length
        self._counted = length + -length * drift_ppm // 1_000_000 - 1
        self._sent: dict[MemberId, int] = {}
        self._rounds: dict[MemberId, int] = {}
        self._until = 0
        self._heard = now
        self.round = 0

    def reconfigure(self, voters: frozenset[MemberId]) -> None:
        """Other voters decide now."""
        self._voters = voters
        self._until = 0
        self._recount()

    def send(self, now: int) -> int:
        """A heartbeat round leaves now; returns its number. The leader's own acceptor grants it."""
        self.round += 1
        self.answer(self._member, now, self.round)
        return self.round

    def answer(self, member: MemberId, sent: int, round_: int) -> None:
        """`member` granted the heartbeat of `round_`, sent at `sent`."""
        if round_ > self._rounds.get(member, 0):
            self._rounds[member] = round_
        if sent > self._sent.get(member, -1):
            self._sent[member] = sent
            if sent + self._counted > self._until:  # else a quorum has answered this one, or a newer one
                self._recount()

    def _recount(self) -> None:
        known = self._until - self._counted  # a quorum has answered what was sent then
        newer = [(sent, member) for member, sent in self._sent.items() if sent > known]
        if not is_quorum(Phase.ACCEPT, [member for _, member in newer], self._voters):
            return
        votes: list[MemberId] = []
        for stamp, member in sorted(newer, reverse=True):
            votes.append(member)
            if is_quorum(Phase.ACCEPT, votes, self._voters):
                self._until = stamp + self._counted
                self._heard = max(self._heard, stamp)
                return

    def left(self, now: int) -> int:
        """Microseconds for which the lease surely holds."""
        return max(0, self._until - now)

    def forlorn_at(self) -> int:
        """When to step down unless a quorum answers: a whole lease after the last round that one answered."""
        return self._heard + self._length

    def confirmed(self, round_: int) -> bool:
        """Whether a quorum has answered `round_` or a later one."""
        return is_quorum(Phase.ACCEPT, [m for m, r in self._rounds.items() if r >= round_], self._voters)

    def answered_recently(self, member: MemberId, now: int) -> bool:
        """Whether `member` answered within a lease: failures tolerated are counted from what is seen, not
        configured."""
        return member == self._member or now - self._sent.get(member, -self._length - now) < self._length
