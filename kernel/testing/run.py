"""One run of a simulated replica's process: what lives and dies with it, while the machine and its disk go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..node import Node
from ..paxos.ballot import NO_BALLOT
from ..paxos.messages import Sender
from ..paxos.ready import Record, Send
from ..server.witness import Witness
from ..storage.journal import Batch, Journal
from ..storage.recovery import Recovered
from ..storage.snapshots import SnapshotReceiver, Snapshots
from ..wire.formats import Greeting
from .lifecycle import Boundary

if TYPE_CHECKING:
    from .port import Port


class Waiting(NamedTuple):
    """Messages that leave, and a number the core learns, when the journal is durable up to `record`."""

    record: int
    upto: int
    after: tuple[Send, ...]


class Run:
    """What lives and dies with one run of the process."""

    def __init__(
        self, sender: Sender, recovered: Recovered, node: Node, port: Port, greeting: Greeting, witness: Witness
    ) -> None:
        self.sender = sender
        self.incarnation = sender.incarnation
        self.journal: Journal = recovered.journal
        self.snapshots: Snapshots = recovered.snapshots
        self.recovered = recovered
        self.node = node
        self.port = port
        self.effects: deque[tuple[Boundary, Callable[..., object], tuple[Any, ...]]] = deque()
        self.waiting: deque[Waiting] = deque()
        self.upto = 0
        self.gathered: list[Record] = []  # appended, not yet being written
        self.records: list[Record] = []  # those of `writing`
        self.writing: Batch | None = None
        self.written = False  # the disk is done with `writing`, and the process does not know yet
        self.receiver: SnapshotReceiver | None = None
        self.snapshotting = False
        self.no_snapshot_before = 0
        self.led = NO_BALLOT  # the last ballot under which it led
        self.greeting = greeting
        self.witness = witness
        self.greeted: dict[int, Greeting] = {}  # the newest run heard of each member
