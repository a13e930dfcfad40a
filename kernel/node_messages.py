"""What members say to each other beside Paxos: commands on their way to the leader, and who was heard.

Like the messages of :mod:`.paxos.messages` they may be lost, doubled and late; :mod:`.node` says what they cause.
"""

from __future__ import annotations

from typing import NamedTuple

from .forwarding import Gap
from .paxos.messages import Message


class Forward(NamedTuple):
    """A follower's own chunks for the leader, back to back."""

    chunks: bytes


class Heads(NamedTuple):
    """How far a follower believes to have sent each stream: (machine, last sequence). Asked when an answer is
    overdue."""

    incarnation: int
    streams: tuple[tuple[int, int], ...]


class Gaps(NamedTuple):
    """The leader misses these streams from the given sequence on."""

    gaps: tuple[Gap, ...]


class Renew(NamedTuple):
    """Sessions that a follower heard since its last report."""

    report: int
    sessions: tuple[int, ...]


class Renewed(NamedTuple):
    """The leader, holding its master lease, has counted the report: clients may rely on it, but for the sessions in
    `lost`."""

    report: int
    lost: tuple[int, ...]


NodeMessage = Forward | Heads | Gaps | Renew | Renewed
AnyMessage = Message | NodeMessage
