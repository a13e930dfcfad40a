"""Promises: one value, any number of those who wait."""

from __future__ import annotations

import asyncio

import pytest
from quorate.kernel.client.aio import AsyncioDoor
from quorate.kernel.client.door import Promise, lease_clock


def test_value_for_everybody() -> None:
    """Those who wait before and those who ask after get the same; the first outcome counts."""

    async def scenario() -> None:
        door = AsyncioDoor()
        promise: Promise[int] = Promise(door)
        told: list[str] = []
        promise.then(lambda: told.append("before"))

        async def wait() -> int:
            return await promise

        waiting = [asyncio.ensure_future(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        promise.succeed(7)
        promise.succeed(8)
        promise.fail(ValueError())
        promise.then(lambda: told.append("after"))
        assert told == []
        assert await asyncio.gather(*waiting) == [7, 7, 7]
        assert await promise == 7
        assert told == ["before", "after"]

    asyncio.run(scenario())


def test_exception_for_everybody() -> None:
    """An exception is raised in everybody who waits."""

    async def scenario() -> None:
        promise: Promise[int] = Promise(AsyncioDoor())
        promise.fail(KeyError("x"))
        for _ in range(2):
            with pytest.raises(KeyError):
                await promise

    asyncio.run(scenario())


def test_a_cancelled_wait_leaves_the_promise() -> None:
    """One who stops waiting changes nothing for the others."""

    async def scenario() -> None:
        promise: Promise[int] = Promise(AsyncioDoor())

        async def wait() -> int:
            return await promise

        first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        promise.succeed(7)
        assert await second == 7
        assert first.cancelled()

    asyncio.run(scenario())


def test_lease_clock_does_not_go_back() -> None:
    """Two readings are in order."""
    assert lease_clock() <= lease_clock()
