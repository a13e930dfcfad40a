"""A tiny cell with a machine that publishes, waits and refuses."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.machine import Commit, Refusal, StateMachine, Ticket, command, query

Scenario = Callable[[], Coroutine[Any, Any, Any]]


class Desk(StateMachine):
    """Does what clients can see: returns, refuses, publishes, makes wait."""

    name = "desk"

    def __init__(self) -> None:
        self.log: list[str] = []
        self.waiting: list[int] = []

    @command
    def note(self, commit: Commit, text: str, times: int = 1) -> int:
        self.log += [text] * times
        return len(self.log)

    @command
    def refuse(self, commit: Commit) -> None:
        raise Refusal("never", "by principle")

    @command
    def shout(self, commit: Commit, text: str, times: int = 1) -> None:
        for session in sorted(commit.sessions):
            for _ in range(times):
                commit.publish(session, text)

    @command
    def wait(self, commit: Commit) -> Ticket:
        ticket = commit.park()
        self.waiting.append(ticket)
        return ticket

    @command
    def serve(self, commit: Commit, result: str) -> None:
        for ticket in self.waiting:
            commit.resolve(Ticket(ticket), result)
        self.waiting.clear()

    @query
    def lines(self) -> list[str]:
        return self.log

    @query
    def count(self) -> int:
        return len(self.waiting)


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The module with the tiny cell."""
    path = Path(__file__).parent / "tiny_cell.py"
    spec = importlib.util.spec_from_file_location("tiny_cell", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["tiny_cell"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cell(tiny: Any) -> Iterator[Any]:
    """A tiny cell with a desk."""
    with tiny.TinyCell({"desk": Desk}) as cell:
        yield cell


@pytest.fixture
def run() -> Callable[[Scenario], Any]:
    """Runs a coroutine function in a fresh asyncio loop, at most twenty seconds."""

    def run(scenario: Scenario) -> Any:
        return asyncio.run(asyncio.wait_for(scenario(), 20))

    return run
