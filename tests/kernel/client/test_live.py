"""A session as applications hold it, against a tiny cell on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from quorate.kernel.client import aio
from quorate.kernel.client.errors import (
    NotServing,
    OutcomeUnknown,
    SessionClosed,
    SessionExpired,
    SlowConsumer,
    WrongCell,
    WrongThread,
)
from quorate.kernel.client.outputs import Gap
from quorate.kernel.client.states import State
from quorate.kernel.client.subscription import BUFFERED_MAX
from quorate.kernel.machine import Refusal
from quorate.kernel.wire.native import Consistency

Run = Callable[[Callable[[], Any]], Any]


def test_call_and_query(cell: Any, run: Run) -> None:
    """Arguments go by position, by name or both; results and refusals come back; queries read what was done."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5, name="me") as session:
            assert session.state is State.ALIVE
            assert session.member == 1
            assert await session.call("desk", "note", "a") == 1
            assert await session.call("desk", "note", text="b") == 2
            assert await session.call("desk", "note", "c", times=2) == 4
            for consistency in Consistency:
                assert await session.query("desk", "lines", consistency=consistency) == ["a", "b", "c", "c"]
            for bad in (session.call("desk", "refuse"), session.call("desk", "nothing"), session.query("desk", "no")):
                with pytest.raises(Refusal):
                    await bad
            assert await session.status() == {"member": 1}
        assert session.state is State.CLOSED
        with pytest.raises(SessionClosed):
            await session.call("desk", "note", "d")

    run(scenario)
    assert cell.do(lambda: list(cell.host.sessions)) == []


def test_order_of_pipelined_calls(cell: Any, run: Run) -> None:
    """Calls made at once are applied in the order in which they were made, also over a connection that breaks."""

    async def scenario() -> list[str]:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            calls = [asyncio.ensure_future(session.call("desk", "note", str(n))) for n in range(1000)]
            await calls[100]
            cell.drop_all()
            await asyncio.gather(*calls)
            return await session.query("desk", "lines")  # type: ignore[return-value]

    assert run(scenario) == [str(n) for n in range(1000)]


def test_waits(cell: Any, run: Run) -> None:
    """``call`` waits through a ticket; ``begin`` returns as soon as the wait has begun."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            wait = await session.begin("desk", "wait")
            assert wait.ticket > 0
            through = asyncio.ensure_future(session.call("desk", "wait"))
            while await session.query("desk", "count") != 2:
                await asyncio.sleep(0)
            cell.drop_all()
            await session.call("desk", "serve", "tea")
            assert await wait == "tea"
            assert await through == "tea"
            at_once = await session.begin("desk", "note", "x")
            assert (at_once.ticket, await at_once) == (0, 1)
            with pytest.raises(Refusal):
                await session.begin("desk", "refuse")

    run(scenario)


def test_timeouts_say_what_is_known(cell: Any, run: Run) -> None:
    """A call that was sent and not answered in time is unknown; one that could not be sent is not done; so is a
    query."""

    async def scenario() -> None:
        session = await aio.connect([cell.endpoint], timeout=30)
        cell.silent = True
        with pytest.raises(OutcomeUnknown):
            await session.call("desk", "note", "sent", timeout=0.05)
        with pytest.raises(NotServing):
            await session.query("desk", "lines", timeout=0.05)
        cell.deafen()
        while session.state is not State.CONNECTING:
            await asyncio.sleep(0.01)
        with pytest.raises(NotServing):
            await session.call("desk", "note", "unsent", timeout=0.05)
        cell.silent = False
        cell.listen()
        assert await session.call("desk", "note", "last") == 2
        assert await session.query("desk", "lines") == ["sent", "last"]
        await session.close()

    run(scenario)


def test_cancelled_call_is_forgotten(cell: Any, run: Run) -> None:
    """A cancelled call leaves the session fine and its late answer goes nowhere."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            task = asyncio.ensure_future(session.call("desk", "wait"))
            while await session.query("desk", "count") != 1:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await session.call("desk", "serve", "late")
            assert await session.call("desk", "note", "x") == 1

    run(scenario)


def test_post_is_sent_whoever_waits(cell: Any, run: Run) -> None:
    """What is posted is done even if the one who waits for it is cancelled."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            promise = session.post("desk", "note", "posted")

            async def wait() -> None:
                await promise

            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            task.cancel()
            while not promise.settled:
                await asyncio.sleep(0)
            assert await promise == 1

    run(scenario)


def test_events_in_order_and_before_the_reply(cell: Any, run: Run) -> None:
    """A subscription hands out events in order; those that a command caused are there when its reply is."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            seen: list[object] = []
            stop = session.listen("desk", seen.append)
            events = session.events("desk")
            for text in "abc":
                await session.call("desk", "shout", text)
                assert seen[-1] == text
            assert [await anext(events) for _ in range(3)] == ["a", "b", "c"]
            cell.drop_all()
            await session.call("desk", "shout", "d")
            assert await anext(events) == "d"
            stop()
            events.stop()
            await session.call("desk", "shout", "e")
            assert seen == ["a", "b", "c", "d"]
            assert [event async for event in events] == []

    run(scenario)


def test_iteration_ends_with_the_session(cell: Any, run: Run) -> None:
    """Closing ends an iteration; expiry is raised in it; a subscription to a session that is over ends at once."""

    async def scenario() -> None:
        for ends in (False, True):
            session = await aio.connect([cell.endpoint], timeout=5)
            events = session.events("desk")
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            if ends:
                await session.close()
                with pytest.raises(StopAsyncIteration):
                    await waiting
            else:
                cell.expire(session.id)
                with pytest.raises(SessionExpired):
                    await waiting
                with pytest.raises(SessionExpired):
                    await anext(session.events("desk"))

    run(scenario)


def test_slow_consumer_is_cut(cell: Any, run: Run) -> None:
    """A subscription that nobody reads is cut when its buffer is full, what was buffered can still be read, the
    session goes on."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            events = session.events("desk")
            for _ in range(BUFFERED_MAX // 1000 + 1):
                await session.call("desk", "shout", "x", times=1000)
            for _ in range(BUFFERED_MAX):
                await anext(events)
            with pytest.raises(SlowConsumer):
                await anext(events)
            assert await session.call("desk", "note", "x") == 1

    run(scenario)


def test_gap_is_told(cell: Any, run: Run) -> None:
    """Events that the cell had to drop while the client was away are told as a gap, and the rest follows."""

    async def scenario() -> None:
        session = await aio.connect([cell.endpoint], timeout=30)
        other = await aio.connect([cell.endpoint], timeout=30, name="other")
        events = session.events("desk")
        session._hang_up()
        session._core.disconnected("away", session.door.now())
        session._core._retry_at += 0.3
        for _ in range(5):
            await other.call("desk", "shout", "x", times=1000)
        first = await anext(events)
        assert isinstance(first, Gap)
        assert first.last >= 5000 - 4096
        assert await anext(events) == "x"
        await session.close()
        await other.close()

    run(scenario)


def test_nobody_there(cell: Any, run: Run) -> None:
    """Without a member that answers, connect gives up in time and says what the trouble was."""
    cell.deafen()

    async def scenario() -> None:
        with pytest.raises(NotServing, match="Connect call failed"):
            await aio.connect([cell.endpoint], connect_timeout=0.2)
        with pytest.raises(NotServing, match="no endpoint"):
            await aio.connect(["nonsense"], connect_timeout=0.2)

    run(scenario)


def test_wrong_cell(cell: Any, tiny: Any, run: Run) -> None:
    """A client that insists on a cell is refused by another, and says so."""

    async def scenario() -> None:
        with pytest.raises(WrongCell):
            await aio.connect([cell.endpoint], cell=b"another cell")

    run(scenario)


def test_only_asking(cell: Any, run: Run) -> None:
    """Without a session one can query and see the status, and nothing is opened in the cell."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], attach=False) as session:
            assert await session.query("desk", "lines") == []
            assert await session.status() == {"member": 1}
            with pytest.raises(SessionClosed):
                await session.call("desk", "note", "x")

    run(scenario)
    assert cell.do(lambda: list(cell.host.sessions)) == []


def test_another_thread_is_refused(cell: Any, run: Run) -> None:
    """A session belongs to its thread; others are told where to go."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=5) as session:
            with ThreadPoolExecutor() as pool, pytest.raises(WrongThread, match="blocking"):
                pool.submit(session.events, "desk").result()

    run(scenario)


def test_session_outlives_its_timeout_while_idle(cell: Any, run: Run) -> None:
    """A session that does nothing is kept alive by itself."""

    async def scenario() -> None:
        async with await aio.connect([cell.endpoint], timeout=0.3) as session:
            await asyncio.sleep(0.8)
            assert session.state is State.ALIVE
            assert session.lease_left() > 0
            assert await session.call("desk", "note", "x") == 1

    run(scenario)


def test_closing_twice(cell: Any, run: Run) -> None:
    """A second close returns; the states are told to those who watch."""

    async def scenario() -> list[State]:
        session = await aio.connect([cell.endpoint], timeout=5)
        states: list[State] = []
        session.watch(states.append)
        await session.close()
        await session.close()
        return states

    assert run(scenario) == [State.CLOSED]
