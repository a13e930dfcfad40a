"""Cells of real replicas inside the test's process: real sockets on loopback, real files, the real reactor."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.catalog import Catalog
from quorate.kernel.machine import Commit, RawMachine, SessionId, StateMachine, Ticket, command, query
from quorate.kernel.server.config import Founder, Limits, ReplicaConfig, Timing
from quorate.kernel.server.service import ReplicaService, make_replica_service
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater


class Ledger(StateMachine):
    """Sums, and waits for sums."""

    name = "ledger"

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        self.waits: dict[str, list[int]] = {}
        self.log: list[str] = []

    @command
    def add(self, commit: Commit, key: str, by: int = 1) -> int:
        self.sums[key] = self.sums.get(key, 0) + by
        for ticket in self.waits.pop(key, []):
            commit.resolve(Ticket(ticket), self.sums[key])
        return self.sums[key]

    @command
    def fill(self, commit: Commit, key: str, text: str) -> int:
        self.sums[key] = len(text)
        self.log.append(text)
        return len(self.log)

    @command
    def wait(self, commit: Commit, key: str) -> Ticket:
        ticket = commit.park()
        self.waits.setdefault(key, []).append(ticket)
        return ticket

    @command
    def tell(self, commit: Commit, text: str) -> None:
        commit.publish(commit.session, text)

    @query
    def sum(self, key: str) -> int:
        return self.sums.get(key, 0)

    def session_closed(self, commit: Commit, session: SessionId, expired: bool) -> None:
        self.sums["expired" if expired else "closed"] = self.sums.get("expired" if expired else "closed", 0) + 1


class Roll(RawMachine):
    """Takes what its front brings, of which there is none."""

    name = "roll"

    def apply_chunk(self, commit: Commit, chunk: bytes, answers: list[bytes] | None) -> None:
        raise ValueError("no front brought this")


def free_ports(count: int) -> list[int]:
    """Ports that are free at this moment."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class LiveCell:
    """`size` replicas of one cell; replica ids count from 1."""

    def __init__(self, directory: Path, size: int = 3, **limits: int) -> None:
        ports = free_ports(2 * size)
        self.founders = tuple(
            Founder(i + 1, f"tcp:127.0.0.1:{ports[i]}", (("client", f"tcp:127.0.0.1:{ports[size + i]}"),))
            for i in range(size)
        )
        self.configs = {
            i + 1: ReplicaConfig(
                "test",
                i + 1,
                directory / str(i + 1),
                f"tcp:{ports[i]}",
                f"tcp:{ports[size + i]}",
                self.founders,
                machines=("conftest:Ledger",),  # an allow-listed class is found under its own name
                timing=Timing(lease_ms=300, heartbeat_ms=40),
                limits=replace(Limits(), **limits),
            )
            for i in range(size)
        }
        self.endpoints = [dict(founder.doors)["client"] for founder in self.founders]
        self.running: dict[int, ReplicaService] = {}
        self.stopped: dict[int, str] = {}

    def start(self, *members: int) -> None:
        """Start these replicas (all of them by default)."""
        for member in members or self.configs:
            service = make_replica_service(
                self.configs[member],
                reactor,  # type: ignore[arg-type]
                stopped=lambda reason, member=member: self.stopped.__setitem__(member, reason),
                catalog=Catalog({"conftest:Ledger": Ledger, "conftest:Roll": Roll}),
            )
            service.startService()
            self.running[member] = service

    async def stop(self, *members: int) -> None:
        """Stop these replicas (all that run by default)."""
        for member in members or list(self.running):
            await self.running.pop(member).stopService()

    def replica(self, member: int) -> Any:
        return self.running[member].replica

    def leader(self) -> int:
        """The member that leads and takes commands; 0 if none does."""
        return next((member for member in self.running if self.replica(member).node.leading), 0)

    def machine(self, member: int) -> Ledger:
        machine = self.replica(member).host.machine("ledger")
        assert isinstance(machine, Ledger)
        return machine

    async def until(self, condition: Callable[[], Any], seconds: float = 10.0) -> Any:
        """Wait for something to become true; fails after `seconds`."""
        deadline = reactor.seconds() + seconds  # type: ignore[attr-defined]
        while True:
            try:
                value = condition()
            except LookupError:  # the machine is not loaded yet
                value = None
            if value:
                return value
            assert reactor.seconds() < deadline, "it did not come true in time"  # type: ignore[attr-defined]
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]

    async def serving(self) -> int:
        """Wait until the cell has a leader and every running replica has the machine; the leader."""
        await self.until(lambda: self.leader() and all(self.machine(member) for member in self.running))
        return self.leader()

    def add(self, member: int, key: str, by: int = 1) -> Deferred[Any]:
        """A command through `member`, without a session; fires with the reply's bytes."""
        done: Deferred[Any] = Deferred()
        replica = self.replica(member)
        replica.command(replica.host.machine_number("ledger"), "add", [key, by], done.callback)
        return done

    def fill(self, member: int, key: str, size: int) -> Deferred[Any]:
        """A command of `size` bytes."""
        done: Deferred[Any] = Deferred()
        replica = self.replica(member)
        replica.command(replica.host.machine_number("ledger"), "fill", [key, "x" * size], done.callback)
        return done


@pytest.fixture(autouse=True)
def cells(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Gives test cases ``self.cell(...)``."""
    if request.cls is not None:
        request.cls.cell = lambda _, **options: LiveCell(tmp_path, **options)
        request.cls.directory = tmp_path
