"""fdatasync without waiting and without a thread: Linux's own asynchronous I/O, heard on the reactor.

A sync is handed to the kernel by ``io_submit`` and its end rings an eventfd. Against a thread that calls fdatasync
this saves two wake-ups of that thread, two of the reactor and the struggle for the interpreter. Three replicas sharing
two cores with another load, ZooKeeper sets of 100 bytes, CPU of all three replicas per operation:

    sessions x outstanding      1x1        8x1      8x32
    thread                  1,875 us     639 us    30.9 us
    this                    1,341 us     554 us    23.8 us

The system calls have no wrapper in the C library, so they are made by number (io_setup(2) and the pages it names).
Where they are missing or forbidden :func:`kernel_syncs` gives None, and the journal's thread does everything.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from .lean import Reactor


class _Numbers(NamedTuple):
    setup: int
    destroy: int
    submit: int
    getevents: int


_GENERIC: Final = _Numbers(0, 1, 2, 4)
_NUMBERS: Final = {"x86_64": _Numbers(206, 207, 209, 208), "aarch64": _GENERIC, "riscv64": _GENERIC}
_IOCB: Final = struct.Struct("<QIIHhIQQqQII")
_FDSYNC: Final = 3
_WITH_EVENTFD: Final = 1
_EVENT: Final = struct.Struct("<QQqq")


def kernel_syncs(reactor: Reactor) -> KernelSync | None:
    """What syncs files asynchronously here; None where the kernel does not."""
    numbers = _NUMBERS.get(platform.machine())
    if sys.platform != "linux" or numbers is None or sys.byteorder != "little":
        return None
    try:
        return KernelSync(reactor, numbers)
    except OSError:
        return None


@implementer(IReadDescriptor)
class KernelSync:
    """One sync at a time. Made by :func:`kernel_syncs`."""

    def __init__(self, reactor: Reactor, numbers: _Numbers) -> None:
        """Raises OSError: the kernel refuses."""
        self._reactor = reactor
        self._numbers = numbers
        # Not to give up the interpreter: none of these calls waits.
        self._call: Any = ctypes.PyDLL(None, use_errno=True).syscall
        self._call.restype = ctypes.c_long
        self._context = ctypes.c_ulong(0)
        self._request = ctypes.create_string_buffer(_IOCB.size)
        self._requests = (ctypes.c_void_p * 1)(ctypes.addressof(self._request))
        self._event = ctypes.create_string_buffer(_EVENT.size)
        self._done: Callable[[OSError | None], None] | None = None
        self._checked(self._call(numbers.setup, 1, ctypes.byref(self._context)))
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        reactor.addReader(self)

    def sync(self, descriptor: int, done: Callable[[OSError | None], None]) -> None:
        """Make everything written to the file durable; `done` is called on the reactor, with what went wrong if
        anything did. Raises OSError: nothing was begun, and `done` will not be called."""
        assert self._done is None, "one sync at a time"
        _IOCB.pack_into(self._request, 0, 0, 0, 0, _FDSYNC, 0, descriptor, 0, 0, 0, 0, _WITH_EVENTFD, self._bell)
        self._checked(self._call(self._numbers.submit, self._context, 1, self._requests))
        self._done = done

    def close(self) -> None:
        """Wait for a sync that is under way, and let go. Nobody is told any more."""
        if self._bell >= 0:
            self._done = None
            self._reactor.removeReader(self)
            self._call(self._numbers.destroy, self._context)
            os.close(self._bell)
            self._bell = -1

    def _checked(self, result: int) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return result

    # ---------------------------------------------------------------- the reactor's side

    def fileno(self) -> int:
        return self._bell

    def logPrefix(self) -> str:
        return "KernelSync"

    def doRead(self) -> None:
        os.read(self._bell, 8)
        if self._checked(self._call(self._numbers.getevents, self._context, 0, 1, self._event, None)) == 0:
            return
        _, _, result, _ = _EVENT.unpack(self._event.raw)
        done, self._done = self._done, None
        if done is not None:
            done(OSError(-result, os.strerror(-result)) if result < 0 else None)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends."""
