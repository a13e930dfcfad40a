"""What a :class:`~.node.Node` tells its driver in the middle of a turn."""

from __future__ import annotations

from typing import Protocol

from .host import Applied, MachineHost
from .paxos.ready import Ready


class NodeObserver(Protocol):
    """The driver's ears. Called in apply order, between batches never; within a batch replies come through the
    submitters' own callbacks before :meth:`applied`."""

    def applied(self, applied: Applied) -> None:
        """One batch was applied and its replies were handed out: send events before replies."""

    def restored(self, host: MachineHost) -> None:
        """A snapshot replaced the machines."""

    def serving(self, serving: bool) -> None:
        """A leader is known, and what it tells is taken in (or no longer)."""

    def carry_out(self, ready: Ready) -> None:
        """Carry this out now; more follows when the turn is closed."""

    def disowned(self, disk: bytes) -> None:
        """The cell knows this member with that disk, not with ours: it must not vote any more."""
