"""The door to asyncio: endpoints, unix sockets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.client import aio
from quorate.kernel.client.aio import Target, parse


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("tcp:host:7420", Target("host", 7420, "")),
        ("tcp:host=host:port=7420", Target("host", 7420, "")),
        ("tcp:\\:\\:1:7420", Target("::1", 7420, "")),
        ("unix:/run/q.sock", Target("", 0, "/run/q.sock")),
        ("unix:path=/run/a\\:b", Target("", 0, "/run/a:b")),
    ],
)
def test_endpoints(endpoint: str, target: Target) -> None:
    """Endpoint strings are Twisted's, for what is supported here."""
    assert parse(endpoint) == target


@pytest.mark.parametrize(
    "endpoint", ["", "tcp", "tcp:host", "tcp:host:0", "tcp:host:x", "udp:host:1", "unix:", "host:1"]
)
def test_bad_endpoints(endpoint: str) -> None:
    """What is no endpoint is refused with its text."""
    with pytest.raises(ValueError, match="no endpoint"):
        parse(endpoint)


def test_over_a_unix_socket(cell: Any, tiny: Any, tmp_path: Path) -> None:
    """A session over a unix socket."""
    path = tmp_path / "door"

    async def listen() -> Any:
        return await cell._loop.create_unix_server(lambda: tiny.Connection(cell), path)

    server = asyncio.run_coroutine_threadsafe(listen(), cell._loop).result(10)

    async def scenario() -> None:
        async with await aio.connect([f"unix:{path}"], timeout=5) as session:
            assert await session.call("desk", "note", "x") == 1

    asyncio.run(asyncio.wait_for(scenario(), 20))
    cell.do(server.close)
