"""Signals that end a process of ours gently, however often they come."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from twisted.internet.error import ReactorNotRunning


def stop_on_signals(reactor: Any) -> None:
    """Let SIGINT, SIGTERM and SIGHUP stop the reactor. A second one while it stops changes nothing."""

    def stop() -> None:
        with contextlib.suppress(ReactorNotRunning):
            reactor.stop()

    def take(*_: object) -> None:
        reactor.callFromThread(stop)

    def install() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup and a shell's & want it
                signal.signal(number, take)

    # The reactor sets handlers of its own when it begins to run; these come after.
    reactor.callWhenRunning(install)
