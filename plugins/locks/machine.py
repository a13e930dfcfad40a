"""The lock service as a state machine.

A session *acquires* with one command, on one name or several at once, each exclusive or shared. It gets the fencing
token at once or a ticket; the wait, its deadline and its place in the queue live here, so a client that dies leaves
nothing behind. The rule of the queue is in :mod:`.table`.

* **Token**: ``commit.index`` of the command that granted. Conflicting grants on a name carry strictly growing
  tokens (readers granted together share one), so a resource that remembers the largest token it has seen can refuse a
  late writer.
* **Lock-delay** (Burrows, "The Chubby lock service", OSDI 2006, section 2.4): when the holder's session
  *expires*, its claim stays in the queue as a ghost for the delay it asked for, at most a minute, and blocks whatever
  the holder blocked. A closed session and a release free the name at once.
* **Label**: a number by which the session itself names its claim, chosen before the command is sent. A
  cancelled acquire is withdrawn by label whether or not the answer ever arrived.

What a session is told besides replies: ``{"lost": label, "reason": str}`` when an operator breaks a lock it holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ...kernel.machine import NO_SESSION, Commit, Plain, Refusal, SessionId, StateMachine, Ticket, command, query
from .table import LockTable, Wants

NAME_CHARS_MAX: Final = 1024
NAMES_PER_CLAIM_MAX: Final = 64
CLAIMS_PER_SESSION_MAX: Final = 1024
CLAIMS_MAX: Final = 200_000
DELAY_MS_MAX: Final = 60_000
WAIT_MS_MAX: Final = 366 * 24 * 3600 * 1000
LISTING_MAX: Final = 1000
BREAKS_KEPT: Final = 64

TIMEOUT: Final = "timeout"
"""How a wait ends, or a try that may not wait, when the names were not free in time."""
WITHDRAWN: Final = "withdrawn"
"""How a wait ends when its session withdrew the claim."""


class Claim(NamedTuple):
    """One acquire, from its command to its end. `session` is 0 for a ghost; `token` is 0 while it waits, `ticket` is
    not. A timer named by its number ends it: a wait at its deadline, a ghost after its delay."""

    number: int
    session: SessionId
    label: int
    wants: Wants
    delay_ms: int
    who: str
    since_wall: int
    token: int
    ticket: Ticket


class LocksMachine(StateMachine):
    """See the module's text. Results of an acquire, at once or by its ticket: the token, or :data:`TIMEOUT`,
    :data:`WITHDRAWN`."""

    name = "locks"
    version = 1

    def __init__(self) -> None:
        self.claims: dict[int, Claim] = {}
        self.labels: dict[SessionId, dict[int, int]] = {}
        self.breaks: list[list[Plain]] = []
        self.table = LockTable()

    # --- commands ---------------------------------------------------------------------------------------------------

    @command
    def acquire(
        self,
        commit: Commit,
        label: int,
        exclusive: list[str],
        shared: list[str] = [],  # noqa: B006 - never changed
        wait_ms: int | None = None,
        delay_ms: int = 0,
        who: str = "",
    ) -> int | str | Ticket:
        """Claim all these names or none. Waits at most `wait_ms` of cell time, for ever if None, not at all if 0.
        `delay_ms` is the lock-delay, cut to a minute. `who` is shown to people."""
        wants = self._wants(exclusive, shared)
        mine = self.labels.get(commit.session, {})
        if not commit.session:
            raise Refusal("no-session", "only a session can hold a lock")
        if label in mine:
            raise Refusal("label-taken", f"this session has a claim {label} already")
        if len(mine) >= CLAIMS_PER_SESSION_MAX or len(self.claims) >= CLAIMS_MAX:
            raise Refusal("too-many-claims", f"a session may have {CLAIMS_PER_SESSION_MAX}, the cell {CLAIMS_MAX}")
        if delay_ms < 0 or (wait_ms is not None and not 0 <= wait_ms <= WAIT_MS_MAX):
            raise Refusal("bad-arguments", "times are not negative and a wait is at most a year")
        number, ticket = commit.index, Ticket(0)
        if not self.table.free(wants):
            if wait_ms == 0:
                return TIMEOUT
            ticket = commit.park()
            if wait_ms is not None:
                commit.set_timer(str(number), commit.time + wait_ms)
        self.table.enter(number, wants)
        self.labels.setdefault(commit.session, {})[label] = number
        delay_ms, who, token = min(delay_ms, DELAY_MS_MAX), who[:NAME_CHARS_MAX], 0 if ticket else number
        self.claims[number] = Claim(number, commit.session, label, wants, delay_ms, who, commit.wall, token, ticket)
        return ticket or token

    @command
    def release(self, commit: Commit, label: int) -> bool:
        """Give up what the claim holds. False: it held nothing any more. A claim that still waits is not touched."""
        claim = self._mine(commit, label)
        if claim is None or not claim.token:
            return False
        self._remove(commit, [claim])
        return True

    @command
    def withdraw(self, commit: Commit, label: int) -> bool:
        """End the claim, waiting or holding; its wait ends with :data:`WITHDRAWN`. False: there is none."""
        claim = self._mine(commit, label)
        if claim is None:
            return False
        if claim.ticket:
            commit.resolve(claim.ticket, WITHDRAWN)
        self._remove(commit, [claim])
        return True

    @command
    def break_lock(self, commit: Commit, name: str, reason: str) -> int:
        """An operator ends whatever holds `name`, ghosts included, at once and on all its names; waiting claims move
        up. Returns how many were ended. Their sessions are told; the last breaks are kept and listed by ``broken``."""
        ended = [self.claims[number] for number in self.table.queue(name) if self.claims[number].token]
        for claim in ended:
            if claim.session:
                commit.publish(claim.session, {"lost": claim.label, "reason": reason[:NAME_CHARS_MAX]})
            operator: list[Plain] = [*commit.identities]
            row: list[Plain] = [commit.wall, name, claim.who, claim.token, reason[:NAME_CHARS_MAX], operator]
            self.breaks = [*self.breaks[1 - BREAKS_KEPT :], row]
        self._remove(commit, ended)
        return len(ended)

    # --- queries ----------------------------------------------------------------------------------------------------

    @query
    def check(self, name: str, token: int) -> bool:
        """Whether `name` is held under this token right now."""
        held = (self.claims[number] for number in self.table.queue(name))
        return token > 0 and any(claim.token == token and claim.session for claim in held)

    @query
    def contenders(self, name: str) -> list[dict[str, Plain]]:
        """Who stands in the queue, first in front, at most :data:`LISTING_MAX`: holders (token not 0), ghosts
        (session 0), waiting."""
        return [
            {
                "session": claim.session,
                "label": claim.label,
                "who": claim.who,
                "exclusive": claim.wants[name],
                "token": claim.token,
                "since_wall": claim.since_wall,
                "names": sorted(claim.wants),
            }
            for claim in (self.claims[number] for number in self.table.queue(name)[:LISTING_MAX])
        ]

    @query
    def names(self, after: str = "", limit: int = LISTING_MAX) -> list[str]:
        """Names that are claimed, sorted, those behind `after`."""
        return [name for name in self.table.names() if name > after][: max(0, min(limit, LISTING_MAX))]

    @query
    def broken(self) -> list[list[Plain]]:
        """The last locks broken by operators: [wall ms, name, holder, token, reason, identities of the operator]."""
        return self.breaks

    # --- what the kernel tells --------------------------------------------------------------------------------------

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        gone = []
        for number in self.labels.pop(session, {}).values():
            claim = self.claims[number]
            if expired and claim.token and claim.delay_ms:
                self.claims[number] = claim._replace(session=NO_SESSION)
                commit.set_timer(str(number), commit.time + claim.delay_ms)
            else:
                gone.append(claim)
        self._remove(commit, gone)

    def timer_fired(self, commit: Commit, key: str) -> None:
        claim = self.claims[int(key)]
        if claim.ticket:
            commit.resolve(claim.ticket, TIMEOUT)
        self._remove(commit, [claim])

    def snapshot(self) -> Plain:
        return {"claims": [list(claim) for claim in self.claims.values()], "breaks": self.breaks}

    def restore(self, state: Plain, version: int) -> None:
        if not isinstance(state, dict) or state.keys() != {"claims", "breaks"}:
            raise ValueError("not a snapshot of locks")
        try:
            for row in state["claims"]:
                claim = Claim(*row)
                self.claims[claim.number] = claim
                self.table.enter(claim.number, claim.wants)
                if claim.session:
                    self.labels.setdefault(claim.session, {})[claim.label] = claim.number
        except (TypeError, AttributeError, AssertionError) as error:
            raise ValueError(f"not a snapshot of locks: {error}") from None
        self.breaks = list(state["breaks"])

    # --- inside -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _wants(exclusive: Sequence[str], shared: Sequence[str]) -> Wants:
        wants = {**dict.fromkeys(shared, False), **dict.fromkeys(exclusive, True)}
        if not 0 < len(wants) == len(exclusive) + len(shared) <= NAMES_PER_CLAIM_MAX:
            raise Refusal("bad-arguments", f"claim from 1 to {NAMES_PER_CLAIM_MAX} different names")
        if not all(0 < len(name) <= NAME_CHARS_MAX for name in wants):
            raise Refusal("bad-arguments", f"a name has from 1 to {NAME_CHARS_MAX} characters")
        return wants

    def _mine(self, commit: Commit, label: int) -> Claim | None:
        number = self.labels.get(commit.session, {}).get(label)
        return None if number is None else self.claims[number]

    def _remove(self, commit: Commit, claims: Sequence[Claim]) -> None:
        """Take claims out of their queues and grant what became clear."""
        clear: dict[int, None] = {}
        for claim in claims:
            clear.update(dict.fromkeys(self.table.leave(claim.number)))
            del self.claims[claim.number]
            commit.cancel_timer(str(claim.number))
            mine = self.labels.get(claim.session)
            if mine is not None:
                del mine[claim.label]
                if not mine:
                    del self.labels[claim.session]
        for number in sorted(clear.keys() & self.claims.keys()):
            self._grant(commit, self.claims[number])

    def _grant(self, commit: Commit, claim: Claim) -> None:
        commit.cancel_timer(str(claim.number))
        self.claims[claim.number] = claim._replace(token=commit.index, ticket=Ticket(0))
        commit.resolve(claim.ticket, commit.index)
