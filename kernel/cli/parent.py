"""A supervised replica's bond with its parent: it never outlives it.

Standard input is a pipe from the parent; it closes however the parent ends, and the replica stops. On Linux the kernel
also kills the replica at that moment, because a frozen process reads no pipe. Being killed costs a replica nothing.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

_SET_PARENT_DEATH_SIGNAL: Final = 1


def live_with_parent(reactor: Any) -> None:
    """Leave the terminal's process group, so that its Ctrl-C reaches the parent alone, and go when that goes."""
    os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    reactor.addReader(_ParentWatch(reactor))


@implementer(IReadDescriptor)
class _ParentWatch:
    """Stops the reactor when standard input closes."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def fileno(self) -> int:
        return 0

    def logPrefix(self) -> str:
        return "parent"

    def doRead(self) -> None:
        if not os.read(0, 4096):
            self._reactor.removeReader(self)
            self._reactor.stop()

    def connectionLost(self, reason: object) -> None:
        """The reactor lets go of it when it stops."""
