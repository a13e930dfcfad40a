"""The tour: in time, in order, with and without kazoo."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cell


@pytest.mark.parametrize("with_kazoo", [True, False])
def test_the_tour_ends_by_itself(quorate: Any, tmp_path: Path, with_kazoo: bool) -> None:
    """Status 0 within 40 seconds, and it says what it saw; no temporary folder is left."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    if not with_kazoo:
        (hidden / "sitecustomize.py").write_text("import sys; sys.modules['kazoo'] = None\n")
    places = [str(hidden), *filter(None, [os.environ.get("PYTHONPATH")])]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    began = time.monotonic()
    done = quorate("tour", env={**os.environ, "PYTHONPATH": os.pathsep.join(places), "TMPDIR": str(temporary)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 40
    assert ("kazoo is not installed" in done.stdout) is not with_kazoo
    for part in ("kill -9", "acknowledged nodes are there", "token", "caught up"):
        assert part in done.stdout
    assert not list(temporary.iterdir())


def test_the_tiny_client(shared_cell: Any) -> None:
    """It creates, sets and reads, and takes its session along when it moves to another replica."""
    from quorate.kernel.cli.tiny_zookeeper import TinyZooKeeper, ZooKeeperError

    client = TinyZooKeeper(shared_cell.zookeepers, 5)
    client.create("/tiny", b"one")
    client.set("/tiny", b"two")
    assert client.get("/tiny") == b"two"
    with pytest.raises(ZooKeeperError) as caught:
        client.create("/tiny", b"")
    assert caught.value.code == -110
    session = client._session
    client._drop()
    assert client.get("/tiny") == b"two"
    assert client._session == session
    client.close()
