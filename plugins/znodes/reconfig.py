"""Changing who is in the cell because a client asks for it, and keeping /zookeeper/config true to it.

A request may want several changes; the kernel makes one at a time. So the front that took the request has the leader
propose the next step, waits until it is in force, and goes on until nothing is left to do, or it has taken too long:
then the client hears that there is no quorum for it, and what was done stays done. A participant begins as an observer
and votes once it has caught up.

The text in /zookeeper/config is written through the log when a configuration is in force: by the front that answers
such a request, or else by whichever front sees that it lags, the leader's first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import ensemble, jute, paths
from .acl import permits
from .chunks import MEMBERS_OP
from .codec import LONG, REQUEST, ustring
from .protocol import Err, Fault, Malformed, Right

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twisted.internet.interfaces import IDelayedCall

    from ...kernel.paxos.ballot import MemberId
    from ...kernel.paxos.quorum import Configuration, Member
    from .connection import Connection
    from .front import ZooKeeperFront

PATIENCE: Final = 10.0
"""Seconds that all steps of a request may take; at most a third of its session's time-out."""
AGAIN: Final = 0.2
"""Seconds after which a step is asked for again."""
BEHIND: Final = 1.0
"""Seconds after which others than the leader write down a configuration."""


class Reconfiguring:
    """The changes of one front: at most one request at a time."""

    def __init__(self, front: ZooKeeperFront) -> None:
        self._front = front
        self._request: _Request | None = None
        self._writing: IDelayedCall | None = None

    def begin(self, connection: Connection, xid: int, frame: bytes) -> None:
        """A client asks for a change. It is told when all is done, never from within this call."""
        front = self._front
        try:
            goal = self._judge(connection, frame)
        except Fault as fault:
            front.reactor.callLater(0, connection.go_on, refused(xid, fault.err))
            return
        self._request = _Request(connection, xid, goal, front)
        front.reactor.callLater(0, self._step)

    def changed(self) -> None:
        """Another configuration is in force, or this replica serves again."""
        if self._request is not None:
            self._step()
        if self._front.settings.reconfig and self._writing is None:
            delay = 0 if self._front.replica.leading() else BEHIND
            self._writing = self._front.reactor.callLater(delay, self._write)

    def stop(self) -> None:
        """Change nothing more."""
        for timer in (self._writing, self._request.timer if self._request is not None else None):
            if timer is not None and timer.active():
                timer.cancel()
        self._request = self._writing = None

    def _judge(self, connection: Connection, frame: bytes) -> Mapping[MemberId, Member]:
        """The members that are asked for. Raises Fault, in the original's order of checks."""
        front = self._front
        if self._request is not None:
            raise Fault(Err.RECONFIG_IN_PROGRESS)
        try:
            request = jute.read(jute.Reconfig, frame[8:])
        except Malformed:
            raise Fault(Err.MARSHALLING_ERROR) from None
        configuration = front.replica.configuration()
        if request.version not in (-1, configuration.number):
            raise Fault(Err.BAD_VERSION)
        goal = ensemble.wanted(configuration, request)
        if not permits(front.tree.nodes[paths.CONFIG].acl, Right.WRITE, connection.identities):
            raise Fault(Err.NO_AUTH)
        return goal

    def _step(self) -> None:
        request = self._request
        if request is None:
            return
        if request.timer is not None and request.timer.active():
            request.timer.cancel()
        front = self._front
        configuration = front.replica.configuration()
        change = ensemble.next_step(configuration, request.goal)
        if request.connection.wire.closed:
            self._request = None
        elif change is None:
            self._request = None
            request.connection.go_on(frame(request.xid, configuration))
        elif front.reactor.seconds() >= request.until:
            self._request = None
            request.connection.go_on(refused(request.xid, Err.NEW_CONFIG_NO_QUORUM))
        else:
            front.replica.change_membership(configuration.number, change)
            request.timer = front.reactor.callLater(AGAIN, self._step)

    def _write(self) -> None:
        self._writing = None
        front = self._front
        configuration = front.replica.configuration()
        node = front.tree.nodes[paths.CONFIG]
        if front.replica.serving() and ensemble.number_of(node.value) < configuration.number:
            front.write_alone(frame(0, configuration))


class _Request:
    """What one client asked for."""

    __slots__ = ("connection", "goal", "timer", "until", "xid")

    def __init__(
        self, connection: Connection, xid: int, goal: Mapping[MemberId, Member], front: ZooKeeperFront
    ) -> None:
        self.connection = connection
        self.xid = xid
        self.goal = goal
        self.until = front.reactor.seconds() + min(PATIENCE, connection.timeout_ms / 3000)
        self.timer: IDelayedCall | None = None


def frame(xid: int, configuration: Configuration) -> bytes:
    """What goes into the log: the text of a configuration under its number."""
    body = LONG.pack(configuration.number) + ustring(ensemble.text(configuration))
    return REQUEST.pack(8 + len(body), xid, MEMBERS_OP) + body


def refused(xid: int, err: Err) -> bytes:
    """What goes into the log instead when nothing is changed: a refusal is a transaction, too."""
    return REQUEST.pack(16, xid, MEMBERS_OP) + LONG.pack(err)
