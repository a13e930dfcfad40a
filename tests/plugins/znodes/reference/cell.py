"""What is replicated: the tree, the sessions, and the count of transactions. One log entry after the other goes in;
out comes what the client must be answered and what watches may wait for.

A transaction number (zxid) is consumed by every write, a failed one too, and by every session that opens or ends.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from quorate.plugins.znodes.protocol import Err, Malformed, Mode, Op

from . import records
from .records import Reply
from .tree import Change, Identity, Refused, Tree

TTL_MAX: Final = (1 << 40) - 1
CONFIG: Final = "/zookeeper/config"
UNUSED_MS: Final = 300_000
"""How long a container waits for its first child."""


class Outcome(NamedTuple):
    """What a write came to."""

    reply: Reply
    changes: list[Change]


class Cell:
    """The state that all replicas share. `ttl`: whether nodes may have a time to live."""

    def __init__(self, *, ttl: bool = False) -> None:
        self.tree = Tree()
        self.zxid = 0
        self.sessions: set[int] = set()
        self.ttl = ttl
        self.configuration = -1
        """The number of the newest configuration that was written down."""

    def open(self, session: int) -> None:
        """A session begins."""
        self.zxid += 1
        self.sessions.add(session)

    def end(self, session: int) -> list[Change]:
        """A session ends by expiry, or because its replica says so: one transaction."""
        if session not in self.sessions:
            return []
        self.zxid += 1
        return self._end(session)

    def _end(self, session: int) -> list[Change]:
        self.sessions.remove(session)
        self.tree.end_session(session, self.zxid)
        return self._taken()

    def sweep(self, path: str) -> list[Change]:
        """The cell deletes a container or a node whose time to live has passed: one transaction each."""
        self.zxid += 1
        self.tree.remove(path, self.zxid)
        return self._taken()

    def may_sweep(self, path: str, now: int) -> bool:
        """Whether the cell has a reason to delete that node by itself."""
        node = self.tree.nodes[path]
        if node.children:
            return False
        if node.container:
            return node.created > 0 or now - node.ctime >= UNUSED_MS
        return node.ttl is not None and now - node.mtime > node.ttl

    def write(self, session: int, who: list[Identity], xid: int, op: int, body: bytes, now: int) -> Outcome:
        """One client's request that changes something, or tries to; the session must be alive."""
        assert session in self.sessions
        self.zxid += 1
        try:
            values = records.request(op, body)
            answer = (
                self._several(session, who, values, now) if op == Op.MULTI else self._one(session, who, op, values, now)
            )
        except Refused as refused:
            return Outcome(Reply(xid, self.zxid, refused.err), self._taken())
        except Malformed:
            return Outcome(Reply(xid, self.zxid, Err.MARSHALLING_ERROR), self._taken())
        return Outcome(Reply(xid, self.zxid, 0, answer), self._taken())

    def configured(self, xid: int, body: bytes, now: int) -> Outcome:
        """A replica writes down who is in the cell, unless a newer text is there, or (a number below zero) why it will
        not be changed."""
        self.zxid += 1
        number = int.from_bytes(body[:8], "big", signed=True)
        if number < 0:
            return Outcome(Reply(xid, self.zxid, number), [])
        if number > self.configuration:
            self.configuration = number
            self.tree.set_data(CONFIG, body[12:], -1, [("super", "")], self.zxid, now)
        node = self.tree.nodes[CONFIG]
        return Outcome(Reply(xid, self.zxid, 0, {"data": node.data, "stat": node.stat()}), self._taken())

    def _taken(self) -> list[Change]:
        changes, self.tree.changes = self.tree.changes, []
        return changes

    def _one(self, session: int, who: list[Identity], op: int, values: dict[str, Any], now: int) -> Any:
        """Do one thing; the body of its reply."""
        tree, zxid = self.tree, self.zxid
        if op == Op.CLOSE_SESSION:
            changes = self._end(session)
            tree.changes = changes
            return None
        if op == Op.RECONFIG:
            raise Refused(Err.RECONFIG_DISABLED)
        path = values["path"]
        if op == Op.DELETE:
            return tree.delete(path, values["version"], who, zxid)
        if op == Op.SET_DATA:
            return {"stat": tree.set_data(path, values["data"], values["version"], who, zxid, now)}
        if op == Op.SET_ACL:
            return {"stat": tree.set_acl(path, values["acl"], values["version"], who)}
        if op == Op.CHECK:
            return {"stat": tree.check(path, values["version"], who)}
        mode, ttl = self._mode(op, values)
        made = tree.create(path, values["data"], values["acl"], mode, who, session=session, ttl=ttl, zxid=zxid, now=now)
        return {"path": made} if op == Op.CREATE else {"path": made, "stat": tree.nodes[made].stat()}

    def _mode(self, op: int, values: dict[str, Any]) -> tuple[Mode, int | None]:
        """What kind of node a request asks for, and how long it shall last."""
        try:
            mode = Mode(values["flags"])
        except ValueError:
            raise Refused(Err.BAD_ARGUMENTS) from None
        ttl = values.get("ttl")
        if mode in (Mode.TTL, Mode.TTL_SEQUENTIAL):
            if not self.ttl:
                raise Refused(Err.UNIMPLEMENTED)
            if ttl is None or not 0 < ttl <= TTL_MAX:
                raise Refused(Err.BAD_ARGUMENTS)
        elif op == Op.CREATE_TTL:
            raise Refused(Err.BAD_ARGUMENTS)
        return mode, ttl

    def _several(self, session: int, who: list[Identity], steps: list[tuple[int, Any]], now: int) -> list[Any]:
        """All or nothing; the results of each."""
        before = self.tree.saved()
        results: list[Any] = []
        for number, (op, values) in enumerate(steps):
            try:
                lasts = values.get("flags") in (Mode.TTL, Mode.TTL_SEQUENTIAL)
                if op in records.CREATES and lasts:
                    raise Malformed("no time to live")
                if op == Op.CREATE_TTL and not lasts:  # the flags decide here
                    op, values = Op.CREATE, {**values, "ttl": None}
                answer = self._one(session, who, op, values, now)
            except Malformed:
                self.tree.back_to(before)
                raise
            except Refused as refused:
                self.tree.back_to(before)
                errors = [0] * number + [refused.err] + [Err.RUNTIME_INCONSISTENCY] * (len(steps) - number - 1)
                return [(Op.ERROR, err, {"err": err}) for err in errors]
            results.append(self._result(op, values, answer))
        return results

    def _result(self, op: int, values: dict[str, Any], answer: Any) -> tuple[int, int, Any]:
        if op == Op.CREATE2 or op == Op.CREATE_CONTAINER or op == Op.CREATE:
            # Among several the flags say what is created, and so how it is answered.
            if values["flags"] == Mode.CONTAINER:
                return Op.CREATE2, 0, {"path": answer["path"], "stat": self.tree.nodes[answer["path"]].stat()}
            return Op.CREATE, 0, {"path": answer["path"]}
        if op == Op.CREATE_TTL:
            return Op.CREATE2, 0, answer
        if op == Op.SET_DATA:
            return Op.SET_DATA, 0, answer
        return op, 0, {}
