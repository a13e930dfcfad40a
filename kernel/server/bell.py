"""A bell between threads: rung on one, it is heard on another by reading a descriptor."""

from __future__ import annotations

import contextlib
import os
import select


class Bell:
    """Rings coalesce: however often it was rung, it is heard once.

    An eventfd where there are such things (Linux), else a pipe. Safe to ring from any thread.
    """

    __slots__ = ("_poll", "_ring", "descriptor")

    def __init__(self) -> None:
        if hasattr(os, "eventfd"):
            self.descriptor = self._ring = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.descriptor, self._ring = os.pipe()
            os.set_blocking(self.descriptor, False)
            os.set_blocking(self._ring, False)
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLIN)

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._ring, b"\1\0\0\0\0\0\0\0")

    def silence(self) -> None:
        """It was heard."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.descriptor, 64)

    def wait(self, milliseconds: int | None = None) -> bool:
        """Block until it rings, or the time is over (then False)."""
        if not self._poll.poll(milliseconds):
            return False
        self.silence()
        return True

    def close(self) -> None:
        os.close(self.descriptor)
        if self._ring != self.descriptor:
            os.close(self._ring)
