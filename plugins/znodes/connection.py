"""One client's connection: frames in, replies and notifications out, strictly in the order the client sent its
requests.

Its life is told in :mod:`.stages`. How order is kept while most requests never wait:

* Reads are answered at once from the live tree as long as the connection has nothing on its way.
* Writes go into the turn's chunk as the bytes they came in; `in_flight` counts the answers they will bring.
* Reads that arrive behind writes stay here, in `queue`, as unparsed blocks of frames. If a further write follows
  them, a pause is put before it into the chunk and a MARK behind them in the queue: the machine asks for their
  answers (``at_pause``) at exactly that place in the log. Without a further write they are answered when the last
  answer has come.
* A sync waits, with what follows it, for a barrier begun on its arrival; a pause submitted later serves as well,
  being behind everything that was committed when the sync arrived.
* A notification is stamped with the number of answers given so far (`Watches` fire while a chunk is applied, answers
  are handed out after the batch), so it goes out between the two replies between which it happened.

Pings are answered at once: clients take them out of order, and they must not wait for a leader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from twisted.logger import Logger

from ...kernel.machine import SessionId
from . import arrivals, only_read, proofs
from .acl import OPEN, Identities, permits
from .chunks import pause
from .codec import INT, REPLY, REPLY_INT, REQUEST, pack_ids, reply
from .protocol import PASSWORD_SIZE, Err, Fault, Malformed, Op, Right, Xid
from .reads import ANSWERS, WRITES
from .stages import Stage
from .table import SHIFT
from .tree import stat
from .wire import host

if TYPE_CHECKING:
    from .front import ZooKeeperFront
    from .sasl import Exchange
    from .wire import Wire

IN_FLIGHT_MAX: Final = 4096
"""Requests of one connection on their way before it is read no further."""
QUEUE_MAX: Final = 1 << 20
"""Bytes of held-back reads of one connection before it is read no further."""
REPLY_ROOM: Final = 1 << 20
"""Bytes of large replies made before the connection looks whether the client takes them, and gives others a turn."""
LARGE: Final = 1024
"""Replies larger than this count against REPLY_ROOM."""
PAUSE_ROOM: Final = 16 << 20
"""Bytes of replies made at pauses that have not been sent yet; a client that asks for more is dropped, as a pause
cannot wait for it."""
PART: Final = 64 << 10
"""A part of a frame of this size is not put together anew with every piece that comes behind it."""

_log: Final = Logger()
_GET_DATA: Final = Op.GET_DATA.value
_EXISTS: Final = Op.EXISTS.value
_PING: Final = Op.PING.value
_PONG: Final = Xid.PING.value
"""The xid of every answer to a ping, whatever its own was."""
_AUTH: Final = Op.AUTH.value
_SASL: Final = Op.SASL.value
_RECONFIG: Final = Op.RECONFIG.value
_SYNC: Final = Op.SYNC.value
_CLOSE: Final = Op.CLOSE_SESSION.value
_READ: Final = Right.READ.value
_APART: Final = frozenset((_PING, _AUTH, _SASL, _RECONFIG))
"""What is no part of a run of reads or writes."""
MARK: Final = b""
"""In the queue: the answers of what is before it are called for at a pause."""


class Connection:
    """A client's connection to one front, above its wire."""

    __slots__ = (
        "__weakref__", "address", "barriers", "events", "front", "identities", "in_flight", "number", "old_client",
        "out", "packed_identities", "pause_room", "pausing", "pieces", "pieces_size", "proved", "queue", "queued",
        "reads_only", "rest", "room", "sasl", "sent_count", "session", "stage", "stalled", "timeout_ms", "told_count",
        "touch", "wire",
    )  # fmt: skip

    def __init__(self, front: ZooKeeperFront, wire: Wire, number: int, address: object) -> None:
        self.front = front
        self.wire = wire
        self.number = number
        self.address = address
        self.stage = Stage.GREETING
        self.session = SessionId(0)
        self.timeout_ms = 0
        self.identities: Identities = ((b"ip", host(address).encode()),)
        self.proved: Identities = self.identities
        """With what was proved by requests that are not answered yet; `packed_identities` is the same, packed."""
        self.packed_identities = pack_ids(self.proved)
        self.sasl: Exchange | None = None
        self.touch = front.replica.touch
        """Tells whoever keeps the session that its client was heard."""
        self.reads_only = False
        """It is served without a quorum."""
        self.old_client = False
        """Its connect request had no read-only byte, so neither must the response."""
        self.rest = b""
        """Bytes not looked at yet: a frame that is not whole, or everything while the connection must wait."""
        self.pieces: list[bytes] = []
        """What came behind `rest` of a large frame that is not whole yet."""
        self.pieces_size = 0
        self.in_flight = 0
        self.barriers = 0
        self.queue: deque[bytes] = deque()
        self.queued = 0
        self.out: list[bytes] = []
        self.events: deque[tuple[int, bytes]] = deque()
        self.room = REPLY_ROOM
        self.pause_room = PAUSE_ROOM
        self.pausing = False
        self.stalled = False
        """Nothing is answered until the client has taken its replies, and others have had their turn."""
        self.sent_count = 0
        self.told_count = 0
        """Notifications among what was sent."""

    @property
    def ending(self) -> bool:
        """Nothing more is read of it."""
        return self.stage is Stage.ENDING

    @property
    def received_count(self) -> int:
        """Requests taken: those that were answered and those on their way. The hot loops need not count."""
        return self.sent_count - self.told_count + self.in_flight

    # ------------------------------------------------------------ what the socket tells

    def received(self, buffer: bytes) -> None:
        """Bytes came in."""
        if self.rest:
            if len(self.rest) >= PART and self._rest_is_part(len(buffer)):
                self.pieces.append(buffer)
                self.pieces_size += len(buffer)
                if self.session:
                    self.touch(self.session)
                return
            buffer = b"".join((self.rest, *self.pieces, buffer))
            self.pieces.clear()
            self.pieces_size = 0
            self.rest = b""
        if self.stage is Stage.OPEN:
            self.touch(self.session)
            self._take(buffer)
        elif self.stage is Stage.GREETING:
            self._greet(buffer)
        elif self.stage is Stage.READING:
            self.touch(self.session)
            only_read.take(self, buffer)
        elif self.stage in (Stage.OPENING, Stage.CHANGING):
            self.rest = buffer
            if len(buffer) > self.front.settings.frame_max:
                self.wire.pause()

    def drained(self) -> None:
        """The client has taken everything."""
        if self.stalled:
            self.stalled = False
            self.front.touched[self] = None
            self.settle()

    def drop(self) -> None:
        """End the connection at once; the session lives on."""
        self.wire.close()
        self.front.gone(self)

    # ------------------------------------------------------------ the handshake

    def _greet(self, buffer: bytes) -> None:
        if len(buffer) < 4:
            self.rest = buffer
            return
        length = int.from_bytes(buffer[:4], "big", signed=True)
        if not 0 <= length <= self.front.settings.frame_max:
            self.stage = Stage.ENDING
            answer = self.front.word(buffer)
            if answer is None:
                self.drop()
                return
            self.wire.send(answer)
            self.wire.close(after_flush=True)
            self.front.gone(self)
            return
        if len(buffer) < 4 + length:
            self.rest = buffer
            return
        self.stage = Stage.OPENING
        self.rest = buffer[4 + length :]
        self.front.arrivals.arrived(self, buffer[4 : 4 + length])

    def opened(self, session: SessionId, timeout_ms: int, password: bytes) -> None:
        """The session is here: tell the client and take what it sent meanwhile."""
        self.session = session
        self.timeout_ms = timeout_ms
        self.stage = Stage.READING if self.reads_only else Stage.OPEN
        self._respond(timeout_ms, session, password)
        self.wire.resume()
        if self.rest:
            self.received(b"")

    def refused(self) -> None:
        """The session is gone or the password wrong: say so, and end."""
        self.stage = Stage.ENDING
        self._respond(0, 0, bytes(PASSWORD_SIZE))
        self.wire.close(after_flush=True)
        self.front.gone(self)

    def _respond(self, timeout: int, session: int, password: bytes) -> None:
        self.sent_count += 1
        self.wire.send(arrivals.response(timeout, session, password, None if self.old_client else self.reads_only))

    # ------------------------------------------------------------ requests

    def _take(self, buffer: bytes) -> None:
        """Answer or gather every whole frame in `buffer`; keep the rest."""
        at = 0
        if not self.in_flight and not self.queue:
            at = self.answer(buffer, 0, fresh=True)
            if self.out:
                self.flush()
        if self.stage is Stage.OPEN and not self.wire.closed:
            if not self.stalled:
                at = self._gather(buffer, at)
            self.rest = buffer[at:]
            if self.must_wait():
                self.wire.pause()
        if self.stage is Stage.ENDING and not self.in_flight and not self.queue:
            self.end()

    def must_wait(self) -> bool:
        """Whether to read no further for now."""
        if self.reads_only:
            return self.stalled
        return self.stalled or self.in_flight > IN_FLIGHT_MAX or self.queued > QUEUE_MAX or self.front.full

    def answer(self, buffer: bytes, at: int, *, fresh: bool) -> int:
        """Answer frames from `at` on until one is not whole, is a write or must wait (a `fresh` sync must); returns
        where that is. The two commonest reads are spelled out: this loop is what a read costs."""
        front = self.front
        machine = front.machine
        parts = machine.tree.nodes.parts
        zxid = machine.zxid
        who = self.identities
        out = self.out
        length_max = front.settings.frame_max
        head = REQUEST.unpack_from
        int_at = INT.unpack_from
        end = len(buffer)
        while at + 12 <= end:
            length, xid, op = head(buffer, at)
            stop = at + 4 + length
            if stop > end or length < 8:
                break
            if op == _GET_DATA or op == _EXISTS:  # noqa: SIM109 - a tuple would cost
                # A frame of exactly the expected shape; any other goes the slow way below, as do errors.
                path = buffer[at + 16 : stop - 1]
                node = parts[hash(path) >> SHIFT].get(path)
                if (
                    node is not None
                    and length > 12
                    and not buffer[stop - 1]
                    and int_at(buffer, at + 12)[0] == length - 13
                    and (node.acl is OPEN or op == _EXISTS or permits(node.acl, _READ, who))
                ):
                    if op == _EXISTS:
                        out.append(REPLY.pack(84, xid, zxid, 0) + stat(node))
                        at = stop
                        continue
                    content = node.value
                    if content is not None:
                        size = len(content)
                        out.append(
                            REPLY_INT.pack(88 + size, xid, zxid, 0, size) + content + (node.packed or stat(node))
                        )
                        at = stop
                        if size > LARGE:
                            self.room -= size
                            if self.room < 0 and self._stall():
                                break
                        continue
            elif op == _PING:
                out.append(REPLY.pack(16, _PONG, zxid, 0))
                at = stop
                continue
            elif op in WRITES or length > length_max or (fresh and op == _SYNC):
                break
            goes_on = self._answer_rare(xid, op, buffer[at + 4 : stop], zxid)
            at = stop
            if not goes_on or (self.room < 0 and self._stall()):
                break
            who = self.identities
        return at

    def _answer_rare(self, xid: int, op: int, frame: bytes, zxid: int) -> bool:
        """Answer one read of any kind. False: the connection ends with this answer."""
        answer = ANSWERS.get(op)
        if answer is None:
            if op == _AUTH and self._authenticate(frame):
                self.out.append(reply(xid, 0))
                return True
            if op == _SASL:
                answered, goes_on = self._negotiate(xid, frame)
                self.out.append(answered)
                return goes_on
            self.stage = Stage.ENDING
            if op == _AUTH:
                self.front.counters.auth_failed += 1
                if refusal := proofs.refusal(xid, frame):
                    self.out.append(refusal)
            else:
                self.out.append(reply(xid, -1, Err.UNIMPLEMENTED))
            return False
        try:
            body = answer(self.front, self, frame)
        except Fault as fault:
            self.out.append(reply(xid, zxid, fault.err))
        except Malformed:
            self.out.append(reply(xid, zxid, Err.MARSHALLING_ERROR))
        except MemoryError:
            raise
        except Exception:  # as in the original; whatever it is, the batch that it is called for must go on here, too
            _log.failure("no answer to the request {op} of session {session:x}", op=op, session=self.session)
            self.out.append(reply(xid, zxid, Err.MARSHALLING_ERROR))
        else:
            self.out.append(reply(xid, zxid, 0, body))
            if len(body) > LARGE:
                self.room -= len(body)
        return True

    def _authenticate(self, frame: bytes) -> bool:
        """Take an auth packet. Doing it twice is doing it once."""
        proved = proofs.by_packet(self.front.settings.super_digest, self.identities, frame)
        if proved is None:
            return False
        self.prove(proved)
        return True

    def prove(self, proved: Identities) -> None:
        """Count from now on what the client proved to be."""
        self.identities = _with(self.identities, proved)
        self._prove_ahead(proved)

    def _prove_ahead(self, proved: Identities) -> None:
        """Count it for writes. For reads, which may still wait before the proof, it counts when that is answered."""
        self.proved = _with(self.proved, proved)
        self.packed_identities = pack_ids(self.proved)

    def _negotiate(self, xid: int, frame: bytes) -> tuple[bytes, bool]:
        """Take one step of SASL: the reply, and whether the connection goes on."""
        if self.sasl is None:
            self.sasl = self.front.exchange()
        answered, proved = proofs.by_sasl(self.sasl, xid, frame)
        if proved is not None:
            self.prove(proved)
            return answered, True
        self.front.counters.auth_failed += 1
        self.stage = Stage.ENDING
        return answered, False

    def _proves(self, op: int, frame: bytes) -> bool:
        """Whether a request outside ANSWERS is an authentication that succeeds. What it proves counts for the writes
        right behind it."""
        if op != _AUTH:
            return False
        proved = proofs.by_packet(self.front.settings.super_digest, self.proved, frame)
        if proved is None:
            return False
        self._prove_ahead(proved)
        return True

    def _gather(self, buffer: bytes, at: int) -> int:
        """Sort frames from `at` on: writes into the turn's chunk, reads into the queue. Returns where the rest
        begins."""
        front = self.front
        length_max = front.settings.frame_max
        head = REQUEST.unpack_from
        end = len(buffer)
        start = at
        count = 0
        writing = False
        synced = False
        while at + 4 <= end:
            length = int.from_bytes(buffer[at : at + 4], "big", signed=True)
            if not 8 <= length <= length_max:
                self.drop()
                return end
            stop = at + 4 + length
            if stop > end:
                break
            _length, xid, op = head(buffer, at)
            is_write = op in WRITES
            if is_write is not writing or op in _APART:
                if at > start:
                    self._put(buffer[start:at], count, writing)
                start, count, writing = at, 0, is_write
                if op == _PING:
                    self.sent_count += 1
                    self.wire.send(REPLY.pack(16, _PONG, front.machine.zxid, 0))
                    start = at = stop
                    continue
                if op == _SASL:  # answered at once, too: what follows may need what it proves
                    answered, goes_on = self._negotiate(xid, buffer[at + 4 : stop])
                    self.sent_count += 1
                    self.wire.send(answered)
                    start = at = stop
                    if goes_on:
                        continue
                    self.wire.pause()
                    return at
                if op == _RECONFIG and front.settings.reconfig:
                    if self.in_flight or self.queue:
                        self.wire.pause()  # what follows must wait as well: for `settle`, and with the client
                        return at
                    self.stage = Stage.CHANGING
                    front.reconfiguring.begin(self, xid, buffer[at + 4 : stop])
                    return stop
            count += 1
            if op == _SYNC and not synced:
                synced = True
                self.barriers += 1
                front.replica.barrier(self._barrier_passed)
            elif op == _CLOSE or (not is_write and op not in ANSWERS and not self._proves(op, buffer[at + 4 : stop])):
                # Nothing behind a farewell is looked at, nor behind what will be answered by one.
                if op == _CLOSE:
                    front.arrivals.local.close(self.session)
                self.stage = Stage.ENDING
                self.wire.pause()
                at = stop
                break
            at = stop
        if at > start:
            self._put(buffer[start:at], count, writing)
        return at

    def go_on(self, written: bytes) -> None:
        """A change for this client alone has come to its end, and this request is to be answered by the log."""
        if self.wire.closed:
            return
        self.stage = Stage.OPEN
        self._put(written, 1, writing=True)
        self.wire.resume()
        if self.rest:
            self.received(b"")

    def _put(self, frames: bytes, count: int, writing: bool) -> None:
        if not writing:
            self.queue.append(frames)
            self.queued += len(frames)
            return
        if self.queue and self.queue[-1] is not MARK:
            self.queue.append(MARK)
            frames = pause(self.number) + frames
            count += 1
        self.in_flight += count
        self.front.gather(self, frames, count)

    # ------------------------------------------------------------ answers

    def at_pause(self) -> bytes:
        """The replies to the reads held back before the place in the log that has just been reached."""
        kept, self.out = self.out, []
        self.room = self.pause_room
        self.pausing = True
        while self.queue and self.room >= 0:
            block = self.queue.popleft()
            if block is MARK:
                break
            self.queued -= len(block)
            self.answer(block, 0, fresh=False)
        self.pausing = False
        self.sent_count += len(self.out) - 1  # they leave as one
        answers, self.out = b"".join(self.out), kept
        if self.room < 0:
            self.drop()
            return b""
        self.pause_room, self.room = self.room, REPLY_ROOM
        return answers

    def answered(self, answers: Sequence[bytes], number: int) -> None:
        """Take the answers of one run, the first of which is this replica's answer `number`."""
        self.in_flight -= len(answers)
        events = self.events
        if not events or events[0][0] > number + len(answers):
            self.out.extend(answers)
        else:
            for answer in answers:
                while events and events[0][0] <= number:
                    self.emit(events.popleft()[1])
                self.out.append(answer)
                number += 1
        if events and not self.in_flight:  # they are next, and what is read before the connection settles is not
            self._emit_all()

    def notify(self, event: bytes) -> None:
        """A watch of this client fired."""
        if self.in_flight:
            self.events.append((self.front.answers_so_far(), event))
        else:
            self.emit(event)
        self.front.touched[self] = None

    def emit(self, frame: bytes) -> None:
        """Put a notification behind what has been answered so far."""
        self.told_count += 1
        self.out.append(frame)

    def _emit_all(self) -> None:
        for _stamp, event in self.events:
            self.emit(event)
        self.events.clear()

    def _barrier_passed(self, ready: bool) -> None:
        self.barriers -= 1
        if self.wire.closed:
            return
        if not ready:
            self.drop()
            return
        self.settle()

    def settle(self) -> None:
        """A batch has been applied, or something waited for has come: send what is due, answer what may be answered
        now."""
        if self.wire.closed:
            return
        if self.events:
            self._emit_all()
        if not self.in_flight and not self.barriers:
            self._answer_queue()
        if self.out:
            self.flush()
        if self.stage is Stage.ENDING:
            if not self.in_flight and not self.queue:
                self.end()
            return
        if not self.must_wait() and not self.wire.closed:
            self.wire.resume()
            if self.rest and not self._rest_is_part():
                self.received(b"")

    def _rest_is_part(self, more: int = 0) -> bool:
        """Whether what is kept, and so many bytes more, are a part of a frame, and of one that may come."""
        size = len(self.rest) + self.pieces_size + more
        length = int.from_bytes(self.rest[:4], "big", signed=True)
        return size < 4 or (8 <= length <= self.front.settings.frame_max and size < 4 + length)

    def _answer_queue(self) -> None:
        while self.queue and not self.stalled:
            block = self.queue.popleft()
            if block is MARK:
                continue
            self.queued -= len(block)
            at = self.answer(block, 0, fresh=False)
            if at < len(block):
                self.queue.appendleft(block[at:])
                self.queued += len(block) - at

    def _stall(self) -> bool:
        """Send the replies made so far. The next must wait until the client has taken these, or others have had their
        turn."""
        if not self.pausing:
            self.flush()
            self.stalled = True
            if not self.wire.pending and not self.wire.closed:
                self.front.reactor.callLater(0, self._others_had_their_turn)
        return True

    def _others_had_their_turn(self) -> None:
        if not self.wire.pending and not self.wire.closed:
            self.drained()

    def flush(self) -> None:
        """Send the replies made so far."""
        out = self.out
        self.sent_count += len(out)
        self.room = REPLY_ROOM
        self.pause_room = PAUSE_ROOM
        piece = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.wire.send(piece)

    def end(self) -> None:
        """Send the replies made so far, and end the connection."""
        if self.out:
            self.flush()
        self.wire.close(after_flush=True)
        self.front.gone(self)


def _with(known: Identities, proved: Identities) -> Identities:
    return (*known, *(one for one in proved if one not in known))
