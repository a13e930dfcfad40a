"""A forked child that does one piece of work on a copy of this process's memory, and the parent's watch over it.

Fork gives a consistent image of all machines at one slot for the price of copying page tables (3 to 8 ms in a busy
replica of 70 MiB with 10,000 nodes), while the replica goes on; encoding in slices would need every machine to keep
two states at once.
What makes it safe in a process with threads and sockets:

* the child first closes every inherited descriptor but the three standard ones and its own pipe, so that connections
  end when the parent ends, and locks stay the parent's;
* on Linux it dies with the parent; it is nice, collects no garbage (that would copy pages) and ends by ``os._exit``, so
  that neither exit hooks nor buffered output of the parent run twice;
* it takes no lock that a thread of the parent could have held: it runs the machines' ``snapshot`` and writes files.

The child's end is seen as the end of its pipe, which also carries what went wrong.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NoReturn

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall

    from .lean import Reactor

NICE: Final = 10
_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None
_REAP: Final = 0.01
_WORDS_MAX: Final = 4096
DESCRIPTORS_MAX: Final = 1 << 16
"""A process that forks children must not have more."""


@implementer(IReadDescriptor)
class Child:
    """Runs `work` in a forked child; `done` is called on the reactor with None, or with words of what went wrong.
    Raises OSError: there is no room for a child, and nothing of it is left."""

    def __init__(self, reactor: Reactor, work: Callable[[], None], done: Callable[[str | None], None]) -> None:
        self._reactor = reactor
        self._done = done
        self._words = b""
        self._reaping: IDelayedCall | None = None
        self._reaped = False
        self._descriptor, writing = os.pipe()
        parent = os.getpid()
        with warnings.catch_warnings():
            # Threads exist (the journal's); the docstring says why this is safe nevertheless.
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
            try:
                self.pid = os.fork()
            except OSError:
                os.close(self._descriptor)
                os.close(writing)
                raise
        if self.pid == 0:
            _be_child(work, writing, parent)
        os.close(writing)
        os.set_blocking(self._descriptor, False)
        try:
            reactor.addReader(self)
        except OSError:
            self.kill()
            raise

    def kill(self) -> None:
        """End it; `done` is not called."""
        if self._reaped:
            return
        self._reaped = True
        if self._descriptor >= 0:
            self._close()
        if self._reaping is not None:
            self._reaping.cancel()
            self._reaping = None
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return "Child"

    def doRead(self) -> None:
        words = os.read(self._descriptor, _WORDS_MAX)
        if words:
            self._words = (self._words + words)[:_WORDS_MAX]
            return
        self._close()
        self._reap()

    def connectionLost(self, reason: Failure) -> None:
        if self._descriptor >= 0:
            self._close()
            self._reap()

    def _close(self) -> None:
        self._reactor.removeReader(self)
        os.close(self._descriptor)
        self._descriptor = -1

    def _reap(self) -> None:
        """The pipe has ended, so the process is about to."""
        self._reaping = None
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            self._reaping = self._reactor.callLater(_REAP, self._reap)
            return
        self._reaped = True
        code = os.waitstatus_to_exitcode(status)
        words = self._words.decode(errors="replace")
        self._done(None if code == 0 else words or f"the child ended with status {code}")


def _be_child(work: Callable[[], None], writing: int, parent: int) -> NoReturn:
    code = 1
    try:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        gc.disable()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, writing)
        os.closerange(writing + 1, DESCRIPTORS_MAX)
        os.nice(NICE)
        if os.getppid() == parent:
            work()
            code = 0
    except BaseException as error:
        os.write(writing, f"{type(error).__name__}: {error}".encode()[:_WORDS_MAX])
    finally:
        os._exit(code)
