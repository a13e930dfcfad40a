"""A session for the length of one command, and its errors in words.

Blocking: it runs an asyncio loop of its own.
"""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from ..machine import Refusal
from .command import Complaint, Exit, endpoints

if TYPE_CHECKING:
    from ..client.live import Session

NAME: Final = "quorate command"
SILENCE: Final = 3.0
"""Seconds of the session's time-out: short, so that a replica that hangs is soon given up for the next one."""


def in_session(
    options: argparse.Namespace, work: Callable[[Session], Awaitable[int]], *, silence: float = SILENCE
) -> int:
    """Open a session with the cell that the options name, do `work`, close it; returns what `work` returned. `silence`
    is the session's time-out in seconds."""
    import asyncio

    from ..client import errors
    from ..client.aio import connect, parse

    at = endpoints(options)
    try:
        for each in at:
            parse(each)
    except ValueError as bad:
        raise Complaint(str(bad), status=Exit.REFUSED) from None

    async def whole() -> int:
        async with await connect(at, timeout=silence, connect_timeout=options.timeout, name=NAME) as session:
            return await work(session)

    try:
        return asyncio.run(whole())
    except Refusal as refusal:
        raise Complaint(f"refused: {refusal.code}: {refusal.reason}", status=Exit.REFUSED) from None
    except errors.OutcomeUnknown as unknown:
        raise Complaint(
            f"nobody knows whether it was done: {unknown}",
            "look before you repeat it; --timeout waits longer",
            Exit.UNKNOWN,
        ) from None
    except errors.MachineHalted as halted:
        raise Complaint(
            str(halted),
            f"install mended code on every replica and `quorate call plugins.upgrade {halted.machine}`, or go on "
            f"without what it stopped at: `quorate call plugins.skip {halted.machine}`",
        ) from None
    except errors.NotServing as no:
        raise Complaint(
            f"it was not done: {no}", "see `quorate status`; a cell needs a majority of its replicas"
        ) from None
    except errors.QuorateError as error:
        raise Complaint(f"{type(error).__name__}: {error}", "see `quorate status`") from None
