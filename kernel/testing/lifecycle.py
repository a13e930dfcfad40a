"""The words for where a simulated process stands: how it is, and before which effect it can be struck."""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """How a simulated process is."""

    DOWN = "down"
    RUNNING = "running"
    PAUSED = "paused"
    UNUSABLE = "unusable"
    """Its disk was refused at the start: it needs to be replaced by a new member."""


class Boundary(enum.Enum):
    """The effects before which a process can be made to die or to stop."""

    APPEND = "append"
    WRITE = "write"
    SYNC = "sync"
    REPORT = "report"
    """The write is durable; the core has not been told."""
    PROPOSE = "propose"
    """Sending a packet with an Accept: some members have got it, others not yet."""
    SEND = "send"
    """Sending any other packet."""
    SEND_AFTER = "send after sync"
    REPLY = "reply"
    SNAPSHOT = "snapshot"
    """A step in writing or taking in a snapshot."""
