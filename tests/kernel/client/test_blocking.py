"""The door for threads: plain calls, interruption, forks, the end."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from quorate.kernel.client import blocking
from quorate.kernel.client.errors import ForkedClient, NotServing, SessionClosed, WrongThread
from quorate.kernel.client.states import State
from quorate.kernel.machine import Refusal


def test_calls_from_many_threads(cell: Any) -> None:
    """Any thread may call; each gets its own answer."""
    with blocking.connect([cell.endpoint], timeout=5) as session:
        assert session.state is State.ALIVE
        assert session.lease_left() > 0
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: session.call("desk", "note", str(n)), range(200)))
        assert sorted(results) == list(range(1, 201))
        assert len(session.query("desk", "lines")) == 200  # type: ignore[arg-type]
        assert session.status() == {"member": 1}
        with pytest.raises(Refusal):
            session.call("desk", "refuse")
    with pytest.raises(SessionClosed):
        session.call("desk", "note", "x")
    session.close()
    assert not [each for each in threading.enumerate() if each.name == "quorate client"]


def test_nobody_there(cell: Any) -> None:
    """Without a member that answers, connect raises and leaves no thread behind."""
    cell.deafen()
    with pytest.raises(NotServing):
        blocking.connect([cell.endpoint], connect_timeout=0.1)
    assert not [each for each in threading.enumerate() if each.name == "quorate client"]


def test_events(cell: Any) -> None:
    """Events are iterated over in the calling thread, until the iteration is left or the session closed."""
    with blocking.connect([cell.endpoint], timeout=5) as session:
        events = session.events("desk")
        for text in "abc":
            session.call("desk", "shout", text)
        assert [next(events) for _ in range(3)] == ["a", "b", "c"]
        events.close()  # type: ignore[attr-defined]
        more = session.events("desk")
    with pytest.raises((StopIteration, SessionClosed)):
        next(more)


def test_interrupted(cell: Any) -> None:
    """A signal handler that raises ends the waiting call; the session goes on."""
    with blocking.connect([cell.endpoint], timeout=5) as session:

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(KeyboardInterrupt):
                session.call("desk", "wait")
        finally:
            signal.signal(signal.SIGALRM, before)
        assert session.call("desk", "note", "x") == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked(cell: Any) -> None:
    """A forked child gets ForkedClient at once instead of a hang, whatever it calls."""
    with blocking.connect([cell.endpoint], timeout=5) as session:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                try:
                    session.call("desk", "note", "x")
                except ForkedClient:
                    session.background.stop()
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert session.call("desk", "note", "x") == 1


def test_waiting_for_oneself_is_refused(cell: Any) -> None:
    """A callback in the background thread that would wait for that thread gets WrongThread."""
    with blocking.connect([cell.endpoint], timeout=5) as session:
        caught: list[Exception] = []
        done = threading.Event()

        def call() -> None:
            try:
                session.call("desk", "note", "x")
            except WrongThread as error:
                caught.append(error)
            done.set()

        session.background.soon(call)
        assert done.wait(10)
        assert len(caught) == 1


def test_a_call_in_the_moment_of_the_end() -> None:
    """When the loop has stopped and is not closed yet, nobody would ever answer: the call is told so at once."""
    background = blocking.Background()
    join, told = background._thread.join, []

    async def nothing() -> None:
        pass

    def call() -> None:
        with pytest.raises(SessionClosed):
            background.run(nothing())
        told.append("closed")

    def joined() -> None:
        join()
        late = threading.Thread(target=call, daemon=True)
        late.start()
        late.join(10)

    background._thread.join = joined  # type: ignore[method-assign, assignment]
    background.stop()
    background.soon(lambda: told.append("never"))
    background.stop()
    assert told[0] == "closed"
    assert set(told) == {"closed"}


def test_an_iteration_that_is_collected_in_the_midst_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a forgotten iteration comes whenever the collector finds it, also while its thread is giving work to
    the loop: neither waits for the other."""
    background, told = blocking.Background(), []
    given = blocking.asyncio.run_coroutine_threadsafe

    def collecting(work: Any, loop: Any) -> Any:
        background.soon(lambda: told.append("stopped"))
        return given(work, loop)

    async def work() -> str:
        return "done"

    monkeypatch.setattr(blocking.asyncio, "run_coroutine_threadsafe", collecting)
    caller = threading.Thread(target=lambda: told.append(background.run(work())), daemon=True)
    caller.start()
    caller.join(10)
    assert told == ["stopped", "done"]
    monkeypatch.undo()
    background.stop()
