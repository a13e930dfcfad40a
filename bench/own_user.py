"""One measurement of our own client, told as the rivals' ``pyload.py`` tells one of theirs: a line of JSON.

    python bench/own_user.py --rivals DIR --hosts tcp:127.0.0.1:7420,... --mode sync1|threads8|async1|async64 \\
        --op set|get|lock

``sync1`` and ``threads8`` use the blocking door, one session for all threads; ``async1`` and ``async64`` the one of
asyncio, with so many calls on their way. A ``get`` is linearizable, which is more than a ZooKeeper client's is;
``--local`` asks for what that gives. The cell must have loaded the machine of ``values.py``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from importlib.metadata import version
from typing import Any

from quorate.kernel.client import aio, blocking
from quorate.kernel.wire.native import Consistency
from quorate.recipes import blocking as blocking_recipes
from quorate.recipes.lock import Lock

WORKERS = {"sync1": 1, "threads8": 8, "async1": 1, "async64": 64}


def threads(options: argparse.Namespace, meter: Any, pyload: Any) -> None:
    """Workers that wait for each answer, in threads."""
    workers = WORKERS[options.mode]
    with blocking.connect(options.hosts.split(",")) as session:
        value, names = b"x" * options.size, [f"n{worker}" for worker in range(workers)]
        for name in names:
            session.call("values", "set", name, value)
        locks = [blocking_recipes.Lock(session, f"/{name}") for name in names]

        def once(worker: int) -> None:
            if options.op == "set":
                session.call("values", "set", names[worker], value)
            elif options.op == "get":
                assert session.query("values", "get", names[worker], consistency=options.consistency) == value
            else:
                with locks[worker]:
                    pass

        pyload.run_threads(meter, workers, once)


async def tasks(options: argparse.Namespace, meter: Any, pyload: Any) -> None:
    """Workers that wait for each answer, as tasks of one thread."""
    session = await aio.connect(options.hosts.split(","))
    value = b"x" * options.size

    async def work(worker: int) -> None:
        name = f"n{worker}"
        lock = Lock(session, f"/{name}")
        await session.call("values", "set", name, value)
        while meter.phase != pyload.STOP:
            begun = pyload.time.perf_counter()
            if options.op == "set":
                await session.call("values", "set", name, value)
            elif options.op == "get":
                assert await session.query("values", "get", name, consistency=options.consistency) == value
            else:
                async with lock:
                    pass
            meter.done(begun)

    working = [asyncio.create_task(work(worker)) for worker in range(WORKERS[options.mode])]
    await meter.aclock()
    await asyncio.gather(*working)
    await session.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rivals", required=True)
    parser.add_argument("--hosts", required=True)
    parser.add_argument("--mode", choices=WORKERS, default="sync1")
    parser.add_argument("--op", choices=("set", "get", "lock"), default="set")
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--warmup", type=float, default=2)
    parser.add_argument("--pids", default="")
    parser.add_argument("--local", dest="consistency", action="store_const", const=Consistency.LOCAL)
    parser.set_defaults(consistency=Consistency.LEASE)
    options = parser.parse_args()
    sys.path.insert(0, options.rivals)
    import pyload

    meter = pyload.Meter(options, [int(pid) for pid in options.pids.split(",") if pid])
    if options.mode.startswith("async"):
        asyncio.run(tasks(options, meter, pyload))
    else:
        threads(options, meter, pyload)
    meter.report(client=f"quorate {version('quorate')}", python=sys.version.split()[0])


if __name__ == "__main__":
    main()
