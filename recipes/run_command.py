"""Run a program while a lock is held: the logic of ``quorate lock NAME -- command ...``.

The program finds the fencing token in ``QUORATE_TOKEN`` and the lock's name in ``QUORATE_LOCK``. When the lock cannot
be shown to be held any more (in jeopardy, unless told otherwise), the program gets SIGTERM, and SIGKILL if it is
still there after a grace.

asyncio only: a command line needs no more.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from .held import Held, LockLost
from .lock import Lock

LOST_STATUS: Final = 75
"""Exit status when the lock was lost: EX_TEMPFAIL of sysexits.h, "try again"."""
SIGNALED_STATUS: Final = 128
KILL_AFTER: Final = 10.0


async def lock_command(
    lock: Lock,
    command: Sequence[str],
    *,
    timeout: float | None = None,
    kill_after: float = KILL_AFTER,
    through_jeopardy: bool = False,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Acquire, run `command`, release; the exit status to end with: the command's own, 128 + n if signal n ended it, or
    :data:`LOST_STATUS`. Raises LockTimeout if the lock was not free within `timeout` seconds, OSError if there is no
    such program.

    Cancelling it ends the program in the same way before the lock is released.
    """

    async def body(held: Held) -> int:
        # A program that starts others is signalled together with them, unless that would take the terminal from it.
        own_group = not sys.stdin.isatty()
        process = await asyncio.create_subprocess_exec(
            *command,
            env={
                **(os.environ if environment is None else environment),
                "QUORATE_TOKEN": str(held.token),
                "QUORATE_LOCK": lock.name,
            },
            process_group=0 if own_group else None,
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process, own_group, kill_after)
            raise
        return status if status >= 0 else SIGNALED_STATUS - status

    try:
        return await lock.run(body, timeout=timeout, through_jeopardy=through_jeopardy)
    except LockLost as lost:
        print(f"the lock {lock.name} is lost: {lost}", file=sys.stderr)  # noqa: T201 - the command line's own voice
        return LOST_STATUS


async def _end(process: asyncio.subprocess.Process, own_group: bool, kill_after: float) -> None:
    """SIGTERM, and SIGKILL after a grace. Returns when the program is gone."""
    for number, patience in ((signal.SIGTERM, kill_after), (signal.SIGKILL, None)):
        try:
            if own_group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            await asyncio.wait_for(process.wait(), patience)
        except ProcessLookupError:
            return
        except TimeoutError:
            continue
        return
