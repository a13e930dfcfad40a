"""Whether what connections heard is exactly what they had to hear.

The judge replays the log, entry by entry, on the reference, and lets each connection's transcript run beside it. After
an entry a connection must hear, in this order and before anything else: the events that the entry caused for it, then
the answer to the entry if the request was its own. Between two entries come the answers of what it only read, each with
the number of the last transaction: so the number in an answer says to which state the reading must belong, and an event
that comes late, early, twice or never shows, as does a reading out of order.

A connection that ended may have heard less, but nothing else; one that is open must have heard everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from quorate.plugins.znodes import chunks
from quorate.plugins.znodes.protocol import Op, Xid

from . import records
from .asking import Ask
from .cell import Cell
from .client import WRITES, Client
from .records import Notice, Reply
from .tree import Change


class Violation(AssertionError):
    """Something was heard that had not to be heard, or the other way round. `promise` is one of PROMISES."""

    def __init__(self, promise: str, words: str) -> None:
        super().__init__(f"{promise}: {words}")
        assert promise in PROMISES
        self.promise = promise


PROMISES: Final = {
    "answer": "each request is answered as the reference answers it",
    "order": "answers come in the order of the requests",
    "event lost": "an event that is due comes",
    "event late": "an event comes before any answer that shows its cause or something newer",
    "event false": "no event comes that is not due",
    "zxid": "the transaction number never goes back for a client",
    "once": "a request is applied once, in the order of its connection",
    "count": "transactions are counted as the reference counts them",
    "sweep": "the cell deletes by itself what it may delete",
    "members": "who is in the cell stands in /zookeeper/config",
    "sync": "behind a sync a client sees everything that anybody was told before it",
    "expiry": "a session whose client is heard does not expire, one whose client is silent does",
}


# ------------------------------------------------------------------------------------------------------------- the log


class Opened(NamedTuple):
    """A session began."""

    session: int


class Ended(NamedTuple):
    """A session ended by the cell's own word."""

    session: int
    expired: bool


class Swept(NamedTuple):
    """The cell deleted nodes by itself."""

    paths: Sequence[str]
    wall: int


class Applied(NamedTuple):
    """A chunk of requests was applied. `attached`: the sessions in it that were attached to where it came from."""

    chunk: bytes
    attached: frozenset[int]
    wall: int


Entry = Opened | Ended | Swept | Applied
ALONE: Final = -1
"""In place of a session, where a replica writes by itself."""


# ----------------------------------------------------------------------------------------------------- the transcripts


class Line:
    """One connection as its client knows it: what it asked and what it heard, whole frames both.

    `since`: the newest transaction that the client had seen when it connected. `number`: grows from one connection of a
    session to the next.
    """

    def __init__(self, session: int, number: int, address: str = "127.0.0.1", since: int = 0, name: str = "") -> None:
        self.session = session
        self.number = number
        self.address = address
        self.since = since
        self.name = name or f"{session:x}.{number}"
        self.asked: list[tuple[int, Ask]] = []
        """(xid, request) in the order sent; pings are not among them."""
        self.heard: list[bytes] = []
        self.ended = False
        """Nothing more comes: what was on its way is lost."""

    def hear(self, frame: bytes) -> None:
        """A frame came. Pings are answered out of order and show nothing of the tree."""
        if _xid(frame) != Xid.PING:
            self.heard.append(frame)


class _Reading:
    """How far a line's transcript has been followed."""

    def __init__(self, line: Line, cell: Cell) -> None:
        self.line = line
        self.client = Client(cell, line.session, line.address)
        self.cell = cell
        self.asked = 0
        self.heard = 0
        self.zxid = line.since
        self.silent = False
        """Everything that was heard has been looked at, and nothing more comes."""

    def fail(self, promise: str, words: str) -> Violation:
        line, at = self.line, self.heard
        ops = [f"{xid}:{Op(ask.op).name}" for xid, ask in line.asked[max(0, self.asked - 3) : self.asked + 3]]
        return Violation(promise, f"connection {line.name} at zxid {self.cell.zxid}, frame {at}: {words}; asked {ops}")

    def next(self) -> Notice | Reply | None:
        """What was heard next, taken apart; None if nothing more came."""
        line = self.line
        if self.heard == len(line.heard):
            return None
        frame = line.heard[self.heard]
        if _xid(frame) == Xid.NOTIFICATION:
            return records.notice(frame)
        if self.asked == len(line.asked):
            raise self.fail("answer", f"an answer that nobody asked for: {frame.hex()}")
        xid, ask = line.asked[self.asked]
        if _xid(frame) != xid:
            raise self.fail("order", f"heard {frame[4:20].hex()} in place of the answer to {xid}")
        return records.reply(ask.op, frame)

    # ---- what must be heard

    def must_hear(self, due: Notice | Reply) -> None:
        """It is due now."""
        if self.silent:
            return
        found = self.next()
        if found is None:
            if not self.line.ended:
                raise self.fail("event lost" if isinstance(due, Notice) else "answer", f"did not hear {due}")
            self.silent = True
            return
        if found != due:
            raise self._wrong(due, found)
        self.heard += 1
        if isinstance(found, Reply):
            self._seen(found)
            self.asked += 1

    def must_hear_all(self, due: list[Notice]) -> None:
        """They are due now, in any order."""
        while due and not self.silent:
            found = self.next()
            self.must_hear(due.pop(due.index(found) if found in due else 0))

    def _wrong(self, due: Notice | Reply, found: Notice | Reply) -> Violation:
        if isinstance(due, Notice):
            later = self.line.heard[self.heard :]
            comes = any(_xid(f) == Xid.NOTIFICATION and records.notice(f) == due for f in later)
            if isinstance(found, Notice):
                return self.fail("event late" if comes else "event lost", f"heard {found}, not {due}")
            return self.fail("event late" if comes else "event lost", f"heard {found} before {due}")
        if isinstance(found, Notice):
            return self.fail("event false", f"heard {found}, which is not due; due is {due}")
        if found.zxid < self.zxid and found.zxid:
            return self.fail("zxid", f"heard {found} after zxid {self.zxid}")
        return self.fail("answer", f"heard\n  {found}, not\n  {due}")

    def _seen(self, reply: Reply) -> None:
        if reply.zxid:
            if reply.zxid < self.zxid:
                raise self.fail("zxid", f"{reply.zxid} after {self.zxid}")
            self.zxid = reply.zxid

    # ---- what may be heard between two entries

    def read_on(self) -> None:
        """Follow what was answered from the state as it is now."""
        while not self.silent:
            line = self.line
            if self.heard == len(line.heard):
                if line.ended:
                    self.silent = True
                return
            if self.asked < len(line.asked) and line.asked[self.asked][1].op in WRITES:
                return
            if self.asked == len(line.asked):
                return  # what comes can only be an event of an entry to come
            xid, ask = line.asked[self.asked]
            if ask.op == Op.AUTH:
                if isinstance(self.next(), Notice):
                    return  # the answer bears no number: the event belongs to an entry to come
                self.must_hear(self.client.authenticate(xid, ask.body))
                continue
            coming = self._zxid_of_answer()
            if coming is None:
                if line.ended:
                    return
                raise self.fail("answer", f"no answer to {xid}")
            if coming > self.cell.zxid:
                return  # a later state
            if coming < self.cell.zxid and coming < self.zxid:
                raise self.fail("zxid", f"{coming} after {self.zxid}")
            notices, reply = self.client.read(xid, ask.op, ask.body)
            for notice in notices:
                self.must_hear(notice)
            self.must_hear(reply)

    def _zxid_of_answer(self) -> int | None:
        """The number in the answer to the next request, wherever among what is still to be looked at it is."""
        for frame in self.line.heard[self.heard :]:
            if _xid(frame) != Xid.NOTIFICATION:
                return int.from_bytes(frame[8:16], "big", signed=True)
        return None

    # ---- writes in the log

    def reaches(self, index: int) -> None:
        """The log says that the request at this place is applied now: everything before it has been."""
        line = self.line
        if self.silent:
            for xid, ask in line.asked[self.asked : index]:
                if ask.op == Op.AUTH:
                    self.client.authenticate(xid, ask.body)
        elif self.asked != index:
            passed = [(xid, Op(ask.op).name) for xid, ask in line.asked[self.asked : index]]
            raise self.fail("order", f"request {line.asked[index][0]} is applied before {passed} were answered")


def _xid(frame: bytes) -> int:
    return int.from_bytes(frame[4:8], "big", signed=True)


# ------------------------------------------------------------------------------------------------------------ the judge


def judge(log: Iterable[tuple[int, Entry]], lines: Sequence[Line], *, ttl: bool = False) -> Cell:
    """Replay the log, whose entries come with the transaction number behind them; the state at its end.

    Raises:
        Violation: with what was heard and what had to be.
    """
    cell = Cell(ttl=ttl)
    court = _Court(cell, lines)
    for zxid, entry in log:
        court.pass_on()
        court.enter(entry)
        if cell.zxid != zxid:
            raise Violation("count", f"{entry} is transaction {cell.zxid}, and was counted as {zxid}")
    court.pass_on()
    court.close()
    return cell


class _Court:
    def __init__(self, cell: Cell, lines: Sequence[Line]) -> None:
        self.cell = cell
        self.readings = [_Reading(line, cell) for line in lines]
        self.listening = list(self.readings)
        self.by_request: dict[tuple[int, int], tuple[_Reading, int]] = {}
        self.newest: dict[int, int] = {}
        """By session: the newest connection of which something was applied."""
        self.applied: dict[int, int] = {}
        """By reading: the place of the last request that was applied."""
        for reading in self.readings:
            for index, (xid, ask) in enumerate(reading.line.asked):
                if ask.op in WRITES:
                    assert (reading.line.session, xid) not in self.by_request, (
                        "the clients of this test repeat a number"
                    )
                    self.by_request[reading.line.session, xid] = reading, index

    def pass_on(self) -> None:
        """Everybody reads what belongs to the present state."""
        for reading in self.listening:
            reading.read_on()
        self.listening = [reading for reading in self.listening if not reading.silent]

    def enter(self, entry: Entry) -> None:
        cell = self.cell
        if isinstance(entry, Opened):
            cell.open(entry.session)
        elif isinstance(entry, Ended):
            self._tell_at_once(cell.end(entry.session))
        elif isinstance(entry, Swept):
            for path in entry.paths:
                if not cell.may_sweep(path, entry.wall):
                    raise Violation("sweep", f"{path} was deleted at {entry.wall}: {cell.tree.nodes[path]}")
                self._tell(cell.sweep(path))
        else:
            self._apply(entry)

    def _apply(self, entry: Applied) -> None:
        chunk = entry.chunk
        _, _, at = chunks.unpack_head(chunk)
        while at < len(chunk):
            session, _, length = chunks.RUN.unpack_from(chunk, at)
            at += chunks.RUN.size
            stop = at + length
            alive = session in entry.attached and session in self.cell.sessions
            if session == ALONE:
                self.pass_on()
                length = int.from_bytes(chunk[at : at + 4], "big")
                assert chunk[at + 8 : at + 12] == chunks.MEMBERS_OP.to_bytes(4, "big", signed=True)
                self._tell(self.cell.configured(0, chunk[at + 12 : at + 4 + length], entry.wall).changes)
            while alive and at < stop:
                length = int.from_bytes(chunk[at : at + 4], "big")
                frame = chunk[at + 4 : at + 4 + length]
                at += 4 + length
                xid, op = (int.from_bytes(frame[i : i + 4], "big", signed=True) for i in (0, 4))
                if op == chunks.PAUSE_OP:
                    self.pass_on()
                    continue
                self.pass_on()
                self._write(session, xid, op, frame[8:], entry.wall)
                alive = session in self.cell.sessions
            at = stop

    def _write(self, session: int, xid: int, op: int, body: bytes, wall: int) -> None:
        found = self.by_request.get((session, xid))
        if found is None:
            raise Violation("once", f"request {xid} of session {session:x} was never made")
        reading, index = found
        line = reading.line
        judged = op == chunks.MEMBERS_OP  # in place of a wish for other members, what its replica made of it
        if (not judged and line.asked[index][1] != (op, body)) or (judged and line.asked[index][1].op != Op.RECONFIG):
            raise Violation(
                "once", f"request {xid} of {line.name} was {line.asked[index][1]}, applied is {op} {body!r}"
            )
        last = self.applied.get(id(reading), -1)
        passed = [i for i in range(last + 1, index) if line.asked[i][1].op in WRITES]
        if index <= last or passed:
            again = "again" if index <= last else f"before {[line.asked[i][0] for i in passed]}"
            raise Violation("once", f"request {xid} of {line.name} is applied {again}")
        if line.number < self.newest.get(session, 0):
            raise Violation("once", f"request {xid} of {line.name} is applied after the session had moved")
        self.applied[id(reading)] = index
        self.newest[session] = line.number
        reading.reaches(index)
        if judged:
            outcome = self.cell.configured(xid, body, wall)
        else:
            outcome = self.cell.write(session, reading.client.who, xid, op, body, wall)
        if op == Op.CLOSE_SESSION:
            self._tell_at_once(outcome.changes)
        else:
            self._tell(outcome.changes)
        reading.must_hear(outcome.reply)

    def _tell(self, changes: list[Change]) -> None:
        for reading in self.listening:
            for change in changes:
                notice = reading.client.told(change)
                if notice is not None:
                    reading.must_hear(notice)

    def _tell_at_once(self, changes: list[Change]) -> None:
        """A session's nodes are gone, all in one transaction: their order means nothing."""
        for reading in self.listening:
            notices = [reading.client.told(change) for change in changes]
            reading.must_hear_all([notice for notice in notices if notice is not None])

    def close(self) -> None:
        """The log is over."""
        for reading in self.readings:
            line = reading.line
            if reading.heard < len(line.heard):
                found = reading.next()
                promise = "event false" if isinstance(found, Notice) else "answer"
                raise reading.fail(promise, f"heard {found} at the end, which is not due")
            if reading.asked < len(line.asked) and not line.ended:
                raise reading.fail("answer", f"{line.asked[reading.asked]} was never answered")
