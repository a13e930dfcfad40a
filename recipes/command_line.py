"""The subcommands of ``quorate`` that stand on recipes: ``quorate lock``.

They are found by the entry-point group ``quorate.commands``, so that the kernel's command line imports no recipe.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import TYPE_CHECKING, Final

from ..kernel.cli.command import Command, Complaint, add_at, positive_seconds, seconds
from ..kernel.cli.sessions import in_session

if TYPE_CHECKING:
    from ..kernel.client.live import Session

NOT_FOUND: Final = 127
NOT_RUNNABLE: Final = 126


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] NAME -- COMMAND [ARG ...]"
    parser.description = (
        "Run a program while a lock is held. It finds the fencing token in QUORATE_TOKEN. When the lock is lost, or "
        "can no longer be shown to be held, the program gets SIGTERM, then SIGKILL, and the exit status is 75; else "
        "it is the program's own."
    )
    parser.add_argument("name", metavar="NAME", help="the lock's name, such as jobs/42")
    parser.add_argument("program", metavar="COMMAND", nargs="+", help="what to run, and its arguments")
    parser.add_argument(
        "--wait", type=seconds, metavar="SECONDS", help="give up if it is not free by then (default: never)"
    )
    parser.add_argument(
        "--session",
        type=positive_seconds,
        metavar="SECONDS",
        default=10.0,
        help="silence after which the lock is lost (default: 10)",
    )
    parser.add_argument(
        "--delay", type=seconds, metavar="SECONDS", default=0.0, help="block the name so long after a loss (default: 0)"
    )
    parser.add_argument(
        "--kill-after", type=seconds, metavar="SECONDS", default=10.0, help="from SIGTERM to SIGKILL (default: 10)"
    )
    add_at(parser)


def _run(options: argparse.Namespace) -> int:
    from .held import LockTimeout
    from .lock import Lock
    from .run_command import lock_command

    ended: list[signal.Signals] = []

    async def work(session: Session) -> int:
        me = asyncio.current_task()
        assert me is not None

        def end(number: signal.Signals) -> None:
            ended.append(number)
            me.cancel()

        # Else the program would go on without its lock when only this process is told to end.
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        lock = Lock(session, options.name, delay=options.delay)
        try:
            return await lock_command(lock, options.program, timeout=options.wait, kill_after=options.kill_after)
        except LockTimeout:
            raise Complaint(
                f"{options.name} was not free within {options.wait:g} s", "try later, or --wait longer"
            ) from None
        except FileNotFoundError:
            raise Complaint(f"there is no program {options.program[0]}", status=NOT_FOUND) from None
        except PermissionError:
            raise Complaint(f"{options.program[0]} cannot be run", status=NOT_RUNNABLE) from None

    try:
        return in_session(options, work, silence=options.session)
    except asyncio.CancelledError:
        return 128 + ended[0]


LOCK: Final = Command("lock", "run a program while a lock is held", _configure, _run)
