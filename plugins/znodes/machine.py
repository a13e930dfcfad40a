"""The replicated half of the ZooKeeper face: applies chunks of client requests to the tree and writes the answers.

Every replica applies every chunk; only the one whose front submitted it gets answers, which are whole reply frames,
one an operation. A *transaction number* (zxid) is consumed by every write, failed ones too, and by every session that
opens or ends: it is this machine's own count, not the cell's index.

A session's requests are refused unless it is alive and attached to the replica they came through; one with an id below
zero is known to that replica only, which vouches for it, and owns nothing. A closeSession
inside a chunk takes effect at once: the ephemerals go in one transaction and what follows of that session is refused,
though the kernel's own record of the session ends only after the chunk. An expiry comes from the kernel as
``session_closed`` and is one transaction as well.

Knows nothing of connections and watches. A front may set `observer` to hear of changes that could fire watches, and
`reader` to answer reads it holds back at a pause (see :mod:`chunks`); neither is state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from struct import Struct, pack, unpack
from struct import error as StructError
from typing import ClassVar, Final

from ...kernel.machine import Commit, Plain, RawMachine, SessionId
from . import codec, ensemble, images, multi, paths
from .acl import SUPER, Identities
from .chunks import MEMBERS_OP, PAUSE_OP, RUN, Allow, unpack_head
from .codec import MULTI_END, MULTI_HEADER, REPLY, REPLY_INT, REQUEST, reply, ustring
from .protocol import (
    ANY_VERSION,
    CONTAINER_OWNER,
    FACE,
    TTL_MAX,
    Err,
    Event,
    Fault,
    Malformed,
    Mode,
    Op,
    owner_ttl,
    ttl_owner,
)
from .tree import Observer, Tree, stat

SWEEP_MS: Final = 60_000
"""How often containers are looked at."""
SWEEP_MIN_MS: Final = 1_000
"""Nodes with a time to live may last this much longer than it."""
SWEEP_MAX: Final = 10_000
"""Containers and nodes with a time to live that one sweep deletes at most."""
SWEEP_SCAN: Final = 50_000
"""Of these nodes that one sweep looks at; if there are more, the next goes on behind them."""
UNUSED_MS: Final = 300_000
"""A container that never had a child is deleted after this time."""

_CREATE: Final = Op.CREATE.value
_SET_DATA: Final = Op.SET_DATA.value
_DELETE: Final = Op.DELETE.value
_CLOSE: Final = Op.CLOSE_SESSION.value

_IMAGE: Final = Struct(">qqIqI")
"""Head of an image: zxid, time of the next sweep (-1: none), where it begins and what was found before it, number of
sessions; session ids follow."""
_IDS: Final = 50_000
"""Session ids in one piece of an image."""
_PLAIN_MODES: Final[Mapping[int, tuple[bool, bool]]] = {
    Mode.PERSISTENT: (False, False),
    Mode.EPHEMERAL: (True, False),
    Mode.PERSISTENT_SEQUENTIAL: (False, True),
    Mode.EPHEMERAL_SEQUENTIAL: (True, True),
    Mode.CONTAINER: (False, False),
}
"""Whether a create's flags mean an ephemeral and a sequential node."""


class ZnodesMachine(RawMachine):
    """A tree of znodes with ZooKeeper's semantics."""

    name: ClassVar[str] = "znodes"
    version: ClassVar[int] = 1

    def __init__(self) -> None:
        self.tree = Tree()
        self.zxid = 0
        self.sessions: dict[int, None] = {}
        self.sweep_at: int | None = None
        self.sweep_from = 0
        """How many nodes that may be swept the sweeps of this round have passed."""
        self.sweep_wait = SWEEP_MS
        """The shortest time to live that they found left."""
        self.reader: Callable[[int], bytes] | None = None
        """Called with the session at a pause in a chunk of this replica's front: returns the replies held back until
        then."""
        self.answers: Sequence[bytes] = ()
        """The answers given so far in the chunk that is being applied."""
        self.answered = 0
        """Answers given on this replica in all earlier chunks: with `answers` it tells the front where among them an
        event belongs."""

    @property
    def observer(self) -> Observer | None:
        """Told of each change that may fire watches; None while nobody cares, which costs nothing."""
        return self.tree.observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self.tree.observer = observer

    # Sessions and time

    def session_opened(self, commit: Commit, session: SessionId, face: str) -> None:
        if face == FACE:
            self.zxid += 1
            self.sessions[session] = None

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        if session in self.sessions:
            self.zxid += 1
            self._end_session(session)

    def _end_session(self, session: int) -> None:
        del self.sessions[session]
        self.tree.end_session(session, self.zxid)

    def _plan_sweep(self, commit: Commit, at: int) -> None:
        if self.sweep_at is None or at < self.sweep_at:
            self.sweep_at = at
            commit.set_timer("sweep", at)

    def timer_fired(self, commit: Commit, key: str) -> None:
        """Delete containers that were used and are empty (or never were used for long), and nodes whose time to live
        has passed."""
        self.sweep_at = None
        tree = self.tree
        due = []
        wait = self.sweep_wait
        looked = self.sweep_from
        for path in islice(tree.fleeting, looked, looked + SWEEP_SCAN):
            looked += 1
            node = tree.nodes[path]
            ttl = owner_ttl(node.owner)
            if ttl is not None:
                left = node.mtime + ttl + 1 - commit.wall
                if left > 0:
                    wait = min(wait, left)
                elif not node.children:
                    due.append(path)
            elif not node.children and (node.creates or commit.wall - node.ctime >= UNUSED_MS):
                due.append(path)
        del due[SWEEP_MAX:]
        for path in due:
            self.zxid += 1
            tree.remove(path, self.zxid)
        looked -= len(due)
        if looked < len(tree.fleeting):
            self.sweep_from, self.sweep_wait = looked, wait
            self._plan_sweep(commit, commit.time + SWEEP_MIN_MS)
            return
        self.sweep_from, self.sweep_wait = 0, SWEEP_MS
        if tree.fleeting:
            self._plan_sweep(commit, commit.time + max(wait, SWEEP_MIN_MS))

    # Requests

    def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None:
        """Apply the runs of a chunk. Layout and pauses: see :mod:`chunks`."""
        allow, identities, at = unpack_head(chunk)
        self.tree.enforcing = bool(allow & Allow.ENFORCE_QUOTA)
        if answers is not None:
            self.answers = answers
        attached = commit.sessions
        origin = commit.origin
        end = len(chunk)
        while at < end:
            session, number, length = RUN.unpack_from(chunk, at)
            at += RUN.size
            stop = at + length
            if session not in self.sessions and session >= 0:
                self._refuse(chunk, at, stop, Err.SESSION_EXPIRED, answers)
            elif attached.get(session) != origin and session >= 0:
                self._refuse(chunk, at, stop, Err.SESSION_MOVED, answers)
            else:
                self._apply_run(commit, allow, session, identities[number], chunk, at, stop, answers)
            at = stop
        if answers is not None:
            self.answered += len(answers)
            self.answers = ()

    def _refuse(self, chunk: bytes, at: int, stop: int, err: Err, answers: list[bytes] | None) -> None:
        """Answer a run's requests with an error; nothing else happens."""
        while at < stop and answers is not None:
            length, xid, op = REQUEST.unpack_from(chunk, at)
            answers.append(reply(xid, self.zxid, err) if op != PAUSE_OP else b"")
            at += 4 + length

    def _apply_run(
        self,
        commit: Commit,
        allow: Allow,
        session: int,
        who: Identities,
        chunk: bytes,
        at: int,
        stop: int,
        answers: list[bytes] | None,
    ) -> None:
        """Apply one connection's requests. The three commonest are spelled out: this loop is what a write costs on
        every replica."""
        tree = self.tree
        now = commit.wall
        head = REQUEST.unpack_from
        while at < stop:
            length, xid, op = head(chunk, at)
            if length < 8:
                raise ValueError(f"frame of {length} bytes in a chunk")
            at += 4
            frame = chunk[at : at + length]
            at += length
            if op == PAUSE_OP:
                if answers is not None:
                    answers.append(self.reader(xid) if self.reader is not None else b"")
                continue
            self.zxid = zxid = self.zxid + 1
            try:
                if op == _SET_DATA:
                    path, value, version = codec.put(frame)
                    node = tree.put(path, value, version, who, zxid, now)
                    if answers is not None:
                        answers.append(REPLY.pack(84, xid, zxid, 0) + stat(node))
                elif op == _CREATE:
                    path, value, acl, flags = codec.create(frame)
                    if flags:
                        path = self._create(commit, allow, session, who, path, value, acl, flags)
                    else:
                        path = tree.create(path, value, acl, 0, False, who, zxid, now)
                    if answers is not None:
                        answers.append(REPLY_INT.pack(20 + len(path), xid, zxid, 0, len(path)) + path)
                elif op == _DELETE:
                    path, version = codec.path_int(frame)
                    tree.delete(path, version, who, zxid)
                    if answers is not None:
                        answers.append(REPLY.pack(16, xid, zxid, 0))
                elif op == _CLOSE:
                    if session >= 0:
                        self._end_session(session)
                        commit.close_session(SessionId(session))
                    if answers is not None:
                        answers.append(REPLY.pack(16, xid, zxid, 0))
                    self._refuse(chunk, at, stop, Err.SESSION_EXPIRED, answers)
                    return
                else:
                    body = self._apply_rare(commit, allow, session, who, op, frame)
                    if answers is not None:
                        answers.append(reply(xid, zxid, 0, body))
            except Fault as fault:
                if answers is not None:
                    answers.append(REPLY.pack(16, xid, zxid, fault.err))
            except Malformed:
                if answers is not None:
                    answers.append(REPLY.pack(16, xid, zxid, Err.MARSHALLING_ERROR))

    def _apply_rare(self, commit: Commit, allow: Allow, session: int, who: Identities, op: int, frame: bytes) -> bytes:
        """Apply a less common request; returns the body of its reply."""
        if op == Op.MULTI:
            return self._multi(commit, allow, session, who, frame)
        if op == MEMBERS_OP:
            return self._configured(commit, frame)
        if op == Op.RECONFIG:
            raise Fault(Err.RECONFIG_DISABLED)
        return self._change(commit, allow, session, who, op, frame, codec.HEAD)

    def _configured(self, commit: Commit, frame: bytes) -> bytes:
        """A front writes down who is in the cell, or why it is not to be changed: see :mod:`.reconfig`. An older text
        than the one there is void."""
        if len(frame) < codec.HEAD + codec.LONG.size:
            raise Malformed("number")
        (number,) = codec.LONG.unpack_from(frame, codec.HEAD)
        if number < 0:
            raise Fault(Err(number))
        text = codec.path_only(frame, codec.HEAD + 8)
        node = self.tree.nodes[paths.CONFIG]
        if number > ensemble.number_of(node.value):
            node = self.tree.put(paths.CONFIG, text, ANY_VERSION, (SUPER,), self.zxid, commit.wall)
        return ustring(node.value or b"") + stat(node)

    def _change(
        self, commit: Commit, allow: Allow, session: int, who: Identities, op: int, frame: bytes, at: int
    ) -> bytes:
        """Apply one write whose record begins at `at`; returns the body of its reply."""
        tree = self.tree
        if op == Op.SET_DATA:
            return stat(tree.put(*codec.put(frame, at), who, self.zxid, commit.wall))
        if op == Op.CREATE:
            return ustring(self._create(commit, allow, session, who, *codec.create(frame, at)))
        if op == Op.DELETE:
            tree.delete(*codec.path_int(frame, at), who, self.zxid)
            return b""
        if op == Op.CHECK:
            return stat(tree.check(*codec.path_int(frame, at), who))
        if op == Op.SET_ACL:
            return stat(tree.set_acl(*codec.set_acl(frame, at), who))
        if op == Op.CREATE_TTL:
            path = self._create_ttl(commit, allow, who, *codec.create_ttl(frame, at))
        elif op in (Op.CREATE2, Op.CREATE_CONTAINER):
            box = op == Op.CREATE_CONTAINER
            path = self._create(commit, allow, session, who, *codec.create(frame, at), container=box)
        else:
            raise Fault(Err.UNIMPLEMENTED)
        return ustring(path) + stat(tree.nodes[path])

    def _create(
        self,
        commit: Commit,
        allow: Allow,
        session: int,
        who: Identities,
        path: bytes,
        value: bytes | None,
        acl: bytes,
        flags: int,
        *,
        container: bool = False,
    ) -> bytes:
        """Create as the flags say, or a `container` whose flags say only whether it is sequential; returns the
        path."""
        try:
            ephemeral, sequential = _PLAIN_MODES[flags]
        except KeyError:
            unknown = flags not in (Mode.TTL, Mode.TTL_SEQUENTIAL) or allow & Allow.EXTENDED_TYPES
            raise Fault(Err.BAD_ARGUMENTS if unknown else Err.UNIMPLEMENTED) from None
        if container or flags == Mode.CONTAINER:
            path = self.tree.create(path, value, acl, CONTAINER_OWNER, sequential, who, self.zxid, commit.wall)
            self._plan_sweep(commit, commit.time + SWEEP_MS)
            return path
        if ephemeral and session < 0:
            raise Fault(Err.EPHEMERAL_ON_LOCAL_SESSION)
        owner = session if ephemeral else 0
        return self.tree.create(path, value, acl, owner, sequential, who, self.zxid, commit.wall)

    def _create_ttl(
        self,
        commit: Commit,
        allow: Allow,
        who: Identities,
        path: bytes,
        value: bytes | None,
        acl: bytes,
        flags: int,
        ttl: int,
    ) -> bytes:
        """Create a node that is deleted once it has no child and has not changed for `ttl` milliseconds."""
        if not allow & Allow.EXTENDED_TYPES:
            raise Fault(Err.UNIMPLEMENTED)
        if flags not in (Mode.TTL, Mode.TTL_SEQUENTIAL) or not 0 < ttl <= TTL_MAX:
            raise Fault(Err.BAD_ARGUMENTS)
        sequential = flags == Mode.TTL_SEQUENTIAL
        path = self.tree.create(path, value, acl, ttl_owner(ttl), sequential, who, self.zxid, commit.wall)
        self._plan_sweep(commit, commit.time + max(ttl + 1, SWEEP_MIN_MS))
        return path

    # Several at once

    def _multi(self, commit: Commit, allow: Allow, session: int, who: Identities, frame: bytes) -> bytes:
        """Apply all or none. A failing multi is answered without an error in its head: before the culprit stand
        zeros, behind it RUNTIME_INCONSISTENCY. Events are held until it is known that all went well."""
        steps = multi.split(frame, codec.HEAD, multi.WRITES)
        tree = self.tree
        observer = tree.observer
        held: list[tuple[Event, bytes, bytes, bytes]] = []
        if observer is not None:
            tree.observer = lambda *event: held.append(event)
        undo = tree.undo = []
        results: list[bytes] = []
        failure: Err | None = None
        malformed: Malformed | None = None
        try:
            for op, record in steps:
                body = self._change(commit, allow, session, who, op, record, 0)
                results.append(MULTI_HEADER.pack(multi.RESULTS[op], False, 0) + (body if op != Op.CHECK else b""))
        except Fault as fault:
            failure = fault.err
        except Malformed as error:
            malformed = error
        finally:
            tree.undo = None
            tree.observer = observer
        if malformed is not None:
            tree.roll_back(undo)
            raise malformed
        if failure is not None:
            tree.roll_back(undo)
            later = len(steps) - len(results) - 1
            results = [
                multi.failed(err) for err in (*[0] * len(results), failure, *[Err.RUNTIME_INCONSISTENCY] * later)
            ]
        elif observer is not None:
            for event in held:
                observer(*event)
        return b"".join(results) + MULTI_END

    # State as a whole

    def digest(self) -> int:
        return (self.tree.sum + hash((self.zxid, len(self.sessions)))) & 0xFFFF_FFFF_FFFF_FFFF

    def snapshot_chunks(self) -> Iterator[bytes]:
        """The state in pieces: sessions first, then the tree."""
        at = -1 if self.sweep_at is None else self.sweep_at
        yield _IMAGE.pack(self.zxid, at, self.sweep_from, self.sweep_wait, len(self.sessions))
        ids = list(self.sessions)
        for start in range(0, len(ids), _IDS):
            part = ids[start : start + _IDS]
            yield pack(f">{len(part)}q", *part)
        yield from images.write(self.tree)

    def restore_chunks(self, chunks: Iterable[bytes], version: int) -> None:
        """Become what :meth:`snapshot_chunks` wrote. Raises ValueError if it is damaged."""
        pieces = iter(chunks)
        try:
            self.zxid, at, self.sweep_from, self.sweep_wait, count = _IMAGE.unpack(next(pieces))
            self.sweep_at = None if at < 0 else at
            while len(self.sessions) < count:
                piece = next(pieces)
                self.sessions.update(dict.fromkeys(unpack(f">{len(piece) // 8}q", piece)))
            self.tree = images.read(pieces)
        except (StructError, StopIteration, IndexError, KeyError) as error:
            raise ValueError(f"damaged image: {error!r}") from None

    def snapshot(self) -> Plain:
        return list(self.snapshot_chunks())

    def restore(self, state: Plain, version: int) -> None:
        if not isinstance(state, list):
            raise ValueError("not a list of pieces")
        self.restore_chunks(state, version)
