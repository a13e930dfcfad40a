"""One connection, as its replica must treat it: what it may read, what it watches, and what it must be told.

Sources: FinalRequestProcessor, DataTree.setWatches and WatchManager of ZooKeeper; the modes of watches do not disturb
one another, as of 3.9.
"""

from __future__ import annotations

from typing import Any, Final

from quorate.plugins.znodes.protocol import Err, Event, Malformed, Op, Right

from . import records
from .cell import Cell
from .records import Notice, Reply
from .tree import Change, Identity, Refused, digest, permits

ONCE: Final = ("data", "children")
KINDS: Final = (*ONCE, "persistent", "recursive")
BY_TYPE: Final = {1: ("children",), 2: ("data",), 3: KINDS, 4: ("persistent",), 5: ("recursive",)}
"""What removeWatches and checkWatches are about."""


def _covers(above: str, path: str) -> bool:
    """Whether a recursive watch on `above` is about `path`."""
    return above in (path, "/") or (path.startswith(above + "/") and above != "")


class Client:
    """A connection of `session`, from `address`. `super_digest`: who may do anything."""

    def __init__(self, cell: Cell, session: int, address: str, super_digest: str = "") -> None:
        self.cell = cell
        self.session = session
        self.who: list[Identity] = [("ip", address)]
        self.watches: dict[str, set[str]] = {kind: set() for kind in KINDS}
        self._super = super_digest

    # ---- watches

    def told(self, change: Change) -> Notice | None:
        """Something happened; what this client must hear of it."""
        path, watches = change.path, self.watches
        found = False
        if change.event == Event.CHILDREN_CHANGED:
            found = path in watches["children"] or path in watches["persistent"]
            watches["children"].discard(path)
        else:
            found = path in watches["data"] or path in watches["persistent"]
            found = found or any(_covers(above, path) for above in watches["recursive"])
            watches["data"].discard(path)
            if change.event == Event.DELETED:
                found = found or path in watches["children"]
                watches["children"].discard(path)
        return Notice(change.event, path) if found and permits(change.acl, Right.READ, self.who) else None

    # ---- requests that change nothing

    def read(self, xid: int, op: int, body: bytes) -> tuple[list[Notice], Reply]:
        """One request: what must be told before its answer, and the answer."""
        zxid = self.cell.zxid
        notices: list[Notice] = []
        try:
            values = records.request(op, body)
            if op in (Op.SET_WATCHES, Op.SET_WATCHES2):
                notices = self._watch_again(values)
                return notices, Reply(xid, zxid, 0)
            return notices, Reply(xid, zxid, 0, _READS[op](self, values))
        except Refused as refused:
            return notices, Reply(xid, zxid, refused.err)
        except Malformed:
            return notices, Reply(xid, zxid, Err.MARSHALLING_ERROR)

    def authenticate(self, xid: int, body: bytes) -> Reply:
        """Prove to be somebody."""
        try:
            values = records.request(Op.AUTH, body)
        except Malformed:
            return Reply(xid, 0, Err.AUTH_FAILED)
        if values["scheme"] == "digest" and values["auth"] is not None:
            proved = digest(values["auth"])
            for identity in (proved, *([("super", "")] if proved[1] == self._super else [])):
                if identity not in self.who:
                    self.who.append(identity)
        elif values["scheme"] != "ip":
            return Reply(xid, 0, Err.AUTH_FAILED)
        return Reply(xid, 0, 0)

    def _get_data(self, values: dict[str, Any]) -> Any:
        node = self.cell.tree.read(values["path"], self.who)
        self._watch("data", values)
        return {"data": node.data, "stat": node.stat()}

    def _exists(self, values: dict[str, Any]) -> Any:
        if "\0" in values["path"]:
            raise Refused(Err.BAD_ARGUMENTS)
        self._watch("data", values)
        return {"stat": self.cell.tree.read(values["path"], [("super", "")]).stat()}

    def _get_children(self, values: dict[str, Any]) -> Any:
        node = self.cell.tree.read(values["path"], self.who)
        self._watch("children", values)
        return {"children": sorted(node.children)}

    def _get_children2(self, values: dict[str, Any]) -> Any:
        return self._get_children(values) | {"stat": self.cell.tree.read(values["path"], self.who).stat()}

    def _watch(self, kind: str, values: dict[str, Any]) -> None:
        if values["watch"]:
            self.watches[kind].add(values["path"])

    def _get_acl(self, values: dict[str, Any]) -> Any:
        node = self.cell.tree.read(values["path"], self.who, Right.READ | Right.ADMIN)
        shown = [entry._asdict() for entry in node.acl]
        if not permits(node.acl, Right.ADMIN, self.who):
            for entry in shown:
                if entry["scheme"] == "digest":
                    entry["id"] = entry["id"].split(":")[0] + ":x"
        return {"acl": shown, "stat": node.stat()}

    def _get_ephemerals(self, values: dict[str, Any]) -> Any:
        prefix = (values["path"] or "").strip("".join(map(chr, range(0x21))))
        prefix = "" if prefix in ("", "/") else values["path"]
        nodes = self.cell.tree.nodes
        return {
            "paths": sorted(
                path for path, node in nodes.items() if node.session == self.session and path.startswith(prefix)
            )
        }

    def _count(self, values: dict[str, Any]) -> Any:
        self.cell.tree.read(values["path"], self.who)
        return {"count": self.cell.tree.below(values["path"] or "/") + (not values["path"])}

    def _who_am_i(self, values: dict[str, Any]) -> Any:
        shown = [{"scheme": s, "id": name.split(":")[0] if s == "digest" else name} for s, name in self.who]
        return {"who": sorted(shown, key=str)}

    def _sync(self, values: dict[str, Any]) -> Any:
        return {"path": values["path"]}

    def _add_watch(self, values: dict[str, Any]) -> Any:
        if values["kind"] not in (0, 1):
            raise Malformed("mode")
        self.watches["recursive" if values["kind"] else "persistent"].add(values["path"])
        return {"err": 0}

    def _check_watches(self, values: dict[str, Any]) -> None:
        if not any(values["path"] in self.watches[kind] for kind in self._kinds(values)):
            raise Refused(Err.NO_WATCHER)

    def _remove_watches(self, values: dict[str, Any]) -> None:
        path = values["path"]
        found = [kind for kind in self._kinds(values) if path in self.watches[kind]]
        if not found:
            raise Refused(Err.NO_WATCHER)
        for kind in found:
            self.watches[kind].remove(path)

    def _kinds(self, values: dict[str, Any]) -> tuple[str, ...]:
        if values["kind"] not in BY_TYPE:
            raise Malformed("type")
        return BY_TYPE[values["kind"]]

    def _several(self, steps: list[tuple[int, Any]]) -> Any:
        """Each answered on its own; none sets a watch."""
        results = []
        for op, values in steps:
            try:
                found = _READS[op](self, values | {"watch": False})
                results.append((op, 0, found))
            except Refused as refused:
                results.append((Op.ERROR, refused.err, {"err": refused.err}))
        return results

    def _watch_again(self, values: dict[str, Any]) -> list[Notice]:
        """A client that saw everything up to `zxid` comes back with its watches."""
        nodes, since = self.cell.tree.nodes, values["zxid"]
        notices: list[Notice] = []
        for kind in ("persistent", "recursive"):
            self.watches[kind].update(values.get(kind) or ())
        for asked, kind in (("changed", "data"), ("exists", "data"), ("children", "children")):
            for path in values[asked] or ():
                node = nodes.get(path or "/")
                if asked == "exists":
                    missed = Event.CREATED if node else None
                elif node is None:
                    missed = Event.DELETED
                elif asked == "children":
                    missed = Event.CHILDREN_CHANGED if node.pzxid > since else None
                else:
                    missed = Event.DATA_CHANGED if node.mzxid > since else None
                if missed is None:
                    self.watches[kind].add(path)
                elif node is None or permits(node.acl, Right.READ, self.who):
                    notices.append(Notice(missed, path))
        return notices


_READS: Final = {
    Op.GET_DATA: Client._get_data,
    Op.EXISTS: Client._exists,
    Op.GET_CHILDREN: Client._get_children,
    Op.GET_CHILDREN2: Client._get_children2,
    Op.GET_ACL: Client._get_acl,
    Op.GET_EPHEMERALS: Client._get_ephemerals,
    Op.GET_ALL_CHILDREN_NUMBER: Client._count,
    Op.WHO_AM_I: Client._who_am_i,
    Op.SYNC: Client._sync,
    Op.ADD_WATCH: Client._add_watch,
    Op.CHECK_WATCHES: Client._check_watches,
    Op.REMOVE_WATCHES: Client._remove_watches,
    Op.MULTI_READ: Client._several,
    Op.PING: lambda client, values: None,
}

READS: Final = frozenset(_READS) | {Op.SET_WATCHES, Op.SET_WATCHES2}
"""Requests that change nothing in the cell."""

WRITES: Final = frozenset(
    (
        Op.CREATE,
        Op.CREATE2,
        Op.CREATE_CONTAINER,
        Op.CREATE_TTL,
        Op.DELETE,
        Op.SET_DATA,
        Op.SET_ACL,
        Op.CHECK,
        Op.MULTI,
        Op.RECONFIG,
        Op.CLOSE_SESSION,
    )
)
