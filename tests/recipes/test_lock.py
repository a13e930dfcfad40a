"""Locks over every door: grants, waits, losses, and nothing left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
from quorate.kernel.client.errors import SessionExpired
from quorate.recipes.held import InJeopardy, LockLost, LockTimeout
from quorate.recipes.lock import Lock

Connect = Callable[..., Any]
Meanwhile = Callable[..., "Future[Any]"]


def until(condition: Callable[[], object]) -> None:
    """Wait for something that must come, at most ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def claims(cell: Any) -> list[Any]:
    return cell.do(lambda: list(cell.machine("locks").claims.values()))


def test_grant_and_release(connect: Connect, cell: Any) -> None:
    """A grant has a token that the cell knows, time left, and passes its check until it is released, once."""
    lock = connect().lock("job", who="me")
    held = lock.acquire()
    held.check()
    assert 4 < held.remaining() <= 5
    assert cell.do(lambda: cell.machine("locks").check("job", held.token))
    (contender,) = lock.contenders()
    assert (contender.who, contender.token, contender.exclusive) == ("me", held.token, True)
    assert held.release() == (False,)
    assert held.release() == (False,)
    assert held.remaining() == 0
    with pytest.raises(LockLost, match="released"):
        held.check()
    assert claims(cell) == []


def test_fair_and_fenced(connect: Connect, cell: Any, meanwhile: Meanwhile) -> None:
    """Waiting acquires are granted in order of arrival, with growing tokens."""
    locks = [connect().lock("job") for _ in range(3)]
    first = locks[0].acquire()
    waiting = []
    for count, lock in enumerate(locks[1:], 2):
        waiting.append(meanwhile(lock.acquire))
        until(lambda count=count: len(claims(cell)) == count)
    assert not waiting[0].done()
    first.release()
    second = waiting[0].result(10)
    assert not waiting[1].done()
    second.release()
    third = waiting[1].result(10)
    assert first.token < second.token < third.token
    third.release()


def test_timeout_leaves_nothing(connect: Connect, cell: Any) -> None:
    """An acquire that was not granted in time raises LockTimeout, which is a TimeoutError, and has left the queue."""
    held = connect().lock("job").acquire()
    rival = connect().lock("job")
    for timeout in (0, 0.05):
        with pytest.raises(LockTimeout) as caught:
            rival.acquire(timeout=timeout)
        assert isinstance(caught.value, TimeoutError)
        assert len(claims(cell)) == 1
    held.release()
    rival.acquire(timeout=0).release()


def test_timeout_without_an_answer(connect: Connect, cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that does not answer does not keep an acquire beyond its time, and what it did take is withdrawn."""
    monkeypatch.setattr("quorate.recipes.lock.ANSWER_WITHIN", 0.05)
    lock = connect().lock("job")
    cell.silent = True
    with pytest.raises(LockTimeout):
        lock.acquire(timeout=0.05)
    cell.silent = False
    cell.drop_all()
    until(lambda: any(type(frame).__name__ == "Attach" for frame in cell.seen))
    lock.acquire(timeout=5).release()
    assert claims(cell) == []


def test_expiry_is_told_to_the_handle(connect: Connect, cell: Any) -> None:
    """When the session expires the grant says so: lost fires with the reason, check raises, release reports it."""
    client = connect()
    held = client.lock("job").acquire()
    cell.expire(client.session.id)
    assert "gone" in str(held.wait_lost(10))
    with pytest.raises(LockLost):
        held.check()
    assert held.remaining() == 0
    assert held.release() == (True,)
    assert claims(cell) == []


def test_waiter_ends_with_its_session(connect: Connect, cell: Any, meanwhile: Meanwhile) -> None:
    """A waiting acquire whose session dies raises, and its place in the queue is gone."""
    held = connect().lock("job").acquire()
    client = connect()
    waiting = meanwhile(client.lock("job").acquire)
    until(lambda: len(claims(cell)) == 2)
    cell.expire(client.session.id)
    with pytest.raises(SessionExpired):
        waiting.result(10)
    assert len(claims(cell)) == 1
    held.release()


def test_dead_session_refuses_at_once(connect: Connect, cell: Any) -> None:
    """A lock of a session that is over does not hang: it raises."""
    client = connect()
    cell.expire(client.session.id)
    until(lambda: client.session.state.final)
    with pytest.raises(SessionExpired):
        client.lock("job").acquire()


def test_break_by_an_operator(connect: Connect, cell: Any) -> None:
    """The holder learns that its lock was broken, and why; its session goes on."""
    client = connect()
    held = client.lock("job").acquire()
    assert connect().lock("job").break_("stuck since noon") == 1
    assert "stuck since noon" in str(held.wait_lost(10))
    assert held.release() == (True,)
    client.lock("job").acquire(timeout=0).release()


def test_with(connect: Connect, cell: Any) -> None:
    """``with`` and ``async with`` hold the lock inside and release it, also when the body raises."""
    lock = connect().lock("job")
    with pytest.raises(ZeroDivisionError), lock as held:
        1 / cell.do(lambda: 0 if cell.machine("locks").check("job", held.token) else 1)
    assert claims(cell) == []


def test_jeopardy(connect: Connect, cell: Any) -> None:
    """While the cell is silent for longer than the lease, check raises and nothing remains; when it is heard again
    and had kept the session, the grant is good again. Lost does not fire."""
    cell.expiring = False
    client = connect(timeout=0.4, grace=30.0)
    held = client.lock("job").acquire()
    held.check()
    cell.silent = True
    until(lambda: held.remaining() == 0)
    with pytest.raises(InJeopardy):
        held.check()
    cell.silent = False
    until(lambda: held.remaining() > 0)
    held.check()
    assert held.wait_lost(0.01) is None
    assert held.release() == (False,)


def test_presumed_lost_after_the_grace(connect: Connect, cell: Any) -> None:
    """When the grace period is over as well, lost fires though nobody told."""
    client = connect(timeout=0.3, grace=0.2)
    held = client.lock("job").acquire()
    cell.silent = True
    assert "not heard" in str(held.wait_lost(10))
    assert held.release() == (True,)


def test_lock_delay(connect: Connect, cell: Any) -> None:
    """The lock of an expired session stays blocked for its delay; a closed one's does not."""
    client = connect()
    client.lock("job", delay=0.5).acquire()
    client.lock("other", delay=0.5).acquire()
    began = time.monotonic()
    cell.expire(client.session.id)
    rival = connect()
    rival.lock("job").acquire(timeout=5).release()
    assert time.monotonic() - began >= 0.45
    rival.lock("third", delay=0.5).acquire()
    rival.close()
    connect().lock("third").acquire(timeout=0).release()


@pytest.mark.parametrize("fault", ["lose_before", "lose_after"])
def test_connection_lost_around_the_acquire(connect: Connect, cell: Any, fault: str) -> None:
    """A connection that breaks before or after the acquire was applied costs nothing: one claim, one grant."""
    lock = connect().lock("job")
    setattr(cell, fault, 1)
    held = lock.acquire(timeout=5)
    assert [claim.token for claim in claims(cell)] == [held.token]
    setattr(cell, fault, 1)
    assert held.release() == (False,)
    assert claims(cell) == []


# --- coroutines only --------------------------------------------------------------------------------------------------


def test_cancelled_at_every_await(loop: Any, cell: Any, interrupted: Any) -> None:
    """An acquire, an ``async with`` and a run that are cancelled at any of their awaits leave nothing in the cell,
    contended or not."""

    async def scenario() -> int:
        session = await loop.connect(cell.endpoint, timeout=5.0)
        lock = Lock(session, "job")
        cancelled = session.door.cancelled
        points = 0

        async def enter() -> None:
            async with lock:
                await session.query("locks", "names")

        async def body(_: object) -> None:
            await session.query("locks", "names")

        async def give_up_later(held: Any) -> None:
            await session.query("locks", "names")
            await held.release()

        for contended in (False, True):
            for work in (lambda: lock.acquire(timeout=30), enter, lambda: lock.run(body)):
                for n in range(100):
                    task = None
                    if contended:
                        task = session.door.spawn(give_up_later(await lock.acquire()))
                    attempt = interrupted(work(), n, cancelled)
                    try:
                        result = await attempt
                    except cancelled:
                        pass
                    else:
                        if result is not None:
                            await result.release()
                    if task is not None:
                        await task
                    assert await session.query("locks", "names") == [], (contended, work, n)
                    points += attempt.reached
                    if not attempt.reached:
                        break
                else:
                    raise AssertionError("it never ends")
        await session.close()
        return points

    assert loop.run(scenario()) >= 10
    assert claims(cell) == []


def test_run(loop: Any, cell: Any) -> None:
    """``run`` returns what the body returns and releases."""

    async def scenario() -> object:
        async with await loop.connect(cell.endpoint) as session:

            async def body(held: Any) -> str:
                assert await session.query("locks", "check", "job", held.token)
                return "done"

            result = await Lock(session, "job").run(body)
            assert await session.query("locks", "names") == []
            return result

    assert loop.run(scenario()) == "done"


def test_run_cancels_when_lost(loop: Any, cell: Any) -> None:
    """When the lock is broken, the body is cancelled, may clean up, and LockLost is raised after it has ended."""
    order = []

    async def scenario() -> None:
        async with await loop.connect(cell.endpoint) as session, await loop.connect(cell.endpoint) as operator:

            async def body(held: Any) -> None:
                try:
                    await operator.call("locks", "break_lock", "job", "enough")
                    await session.door.slot()
                finally:
                    await session.query("locks", "names")
                    order.append("cleaned up")

            with pytest.raises(LockLost, match="enough"):
                await Lock(session, "job").run(body)
            order.append("raised")

    loop.run(scenario())
    assert order == ["cleaned up", "raised"]


@pytest.mark.parametrize("through", [False, True])
def test_run_in_jeopardy(loop: Any, cell: Any, through: bool) -> None:
    """In jeopardy the body is cancelled, unless it was told to go on."""
    cell.expiring = False

    async def scenario() -> str:
        async with await loop.connect(cell.endpoint, timeout=0.4, grace=30.0) as session:

            async def body(held: Any) -> str:
                cell.silent = True
                while held.remaining() > 0:
                    await pause(session, 0.05)
                await pause(session, 0.1)
                cell.silent = False
                while held.remaining() == 0:
                    await pause(session, 0.05)
                return "went on"

            try:
                return await Lock(session, "job").run(body, through_jeopardy=through)
            except InJeopardy:
                cell.silent = False
                return "cancelled"

    assert loop.run(scenario()) == ("went on" if through else "cancelled")


async def pause(session: Any, seconds: float) -> None:
    slot = session.door.slot()
    session.door.later(seconds, slot.set)
    await slot


def test_two_tasks_share_a_lock_object(loop: Any, cell: Any) -> None:
    """``async with`` of one lock object in two tasks releases each task's own grant."""

    async def scenario() -> list[str]:
        async with await loop.connect(cell.endpoint) as session:
            lock, order = Lock(session, "job"), []

            async def work(name: str) -> None:
                async with lock as held:
                    order.append(name)
                    await session.query("locks", "names")
                    assert await session.query("locks", "check", "job", held.token)
                    order.append(name)

            tasks = [session.door.spawn(work(name)) for name in "abc"]
            for task in tasks:
                await task
            assert await session.query("locks", "names") == []
            return order

    assert loop.run(scenario()) == ["a", "a", "b", "b", "c", "c"]
