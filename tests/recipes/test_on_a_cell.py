"""Recipes on a cell of three processes that lose their leader."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from quorate.kernel.client import aio
from quorate.recipes.counter import Counter
from quorate.recipes.held import LockTimeout
from quorate.recipes.lock import Lock
from quorate.recipes.rwlock import ReadWriteLock

pytestmark = pytest.mark.cell


def test_through_the_death_of_the_leader(new_cell: Any) -> None:
    """While the leader is killed under load: a held lock stays held, its waiter stays in the queue, every addition
    counts once."""
    cell = new_cell()

    async def scenario() -> None:
        async with (
            await aio.connect(cell.clients, timeout=10) as session,
            await aio.connect(cell.clients, timeout=10) as rival,
        ):
            counter = Counter(session, "survived")
            held = await Lock(session, "job").acquire()
            waiting = asyncio.ensure_future(Lock(rival, "job").acquire())
            while len(await Lock(session, "job").contenders()) < 2:
                await asyncio.sleep(0.01)
            status = await session.status()
            leader = int(status["leader"]) - 1  # type: ignore[call-overload]
            kill = asyncio.get_running_loop().run_in_executor(None, cell.order, "kill", leader)
            added = 0
            while not kill.done() or added % 200:
                await asyncio.gather(*(counter.add() for _ in range(20)))
                added += 20
            await kill
            assert await counter.value() == added
            held.check()
            assert not waiting.done()
            assert (await held.release()).already_lost is False
            second = await asyncio.wait_for(waiting, 10)
            assert second.token > held.token
            await second.release()

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_on_a_shared_cell(shared_cell: Any) -> None:
    """Waits with deadlines, readers and writers, and a closed session that frees what it held, over real processes."""

    async def scenario() -> None:
        session = await aio.connect(shared_cell.clients, timeout=10)
        async with await aio.connect(shared_cell.clients[::-1], timeout=10) as rival:
            await Lock(session, "recipes/job").acquire()
            with pytest.raises(LockTimeout):
                await Lock(rival, "recipes/job").acquire(timeout=0.2)
            library = ReadWriteLock(session, "recipes/library"), ReadWriteLock(rival, "recipes/library")
            async with library[0].read, library[1].read:
                with pytest.raises(LockTimeout):
                    await library[1].write.acquire(timeout=0)
            await session.close()
            held = await Lock(rival, "recipes/job").acquire(timeout=5)
            await held.release()
            assert await rival.query("locks", "contenders", "recipes/job") == []

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_a_client_that_falls_silent_loses_its_lock(shared_cell: Any) -> None:
    """A session that sends no KeepAlive expires: its grant says so, and a rival gets the lock, not before the lease
    was over."""

    async def scenario() -> None:
        stuck = await aio.connect(shared_cell.clients, timeout=1, grace=20, liveness=lambda: False)
        async with await aio.connect(shared_cell.clients, timeout=10) as rival:
            held = await Lock(stuck, "recipes/silent").acquire()
            second = await Lock(rival, "recipes/silent").acquire(timeout=15)
            assert held.remaining() == 0
            assert second.token > held.token
            assert "gone" in str(await asyncio.wait_for(held.lost, 10))
            assert (await held.release()).already_lost
            await second.release()

    asyncio.run(asyncio.wait_for(scenario(), 60))
