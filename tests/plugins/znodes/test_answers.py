"""The answers of a cell of one, held against those of the original: ``zookeeper-3.8.0.txt``."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_questions

pytestmark = pytest.mark.cell

ONE_WATCH = "3.8.0 keeps one kind of watch a path and client, and forgets it when another kind fires (ZOOKEEPER-4466)"
DIFFERENT = {
    "ZK-2.4 attach again, asking for another time-out": "a session keeps the one it was opened with",
    "ZK-8 persistent and others, fired once": ONE_WATCH,
    "ZK-8 persistent is left when the others have fired": ONE_WATCH,
    "ZK-8 recursive and others, fired once": ONE_WATCH,
    "ZK-8 recursive is left when the others have fired": ONE_WATCH,
    "ZK-8.3 a multi's events": ONE_WATCH,
    "ZK-8.4 arms persistent and recursive ones": ONE_WATCH,
    "ZK-12.2 envi": "the environment is Python's",
    "ZK-12.2 dump": "sessions are listed plainly",
    "ZK-12.2 cons": "nothing is measured by connection",
}
"""The questions that are answered otherwise, and why."""


def test_answers_are_the_originals(new_cell: Any) -> None:
    """Every question about the protocol's corners has the original's answer, but for the ones listed, each of which
    has another. The administrator's port of the same cell answers, too."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        admin = free.getsockname()[1]
    options = ("tick=500", "words=*", f"admin=tcp:{admin}")
    words = [word for option in options for word in ("--option", f"zookeeper.{option}")]
    cell = new_cell("--replicas", "1", "--machine", "znodes", *words)
    port = int(cell.zookeepers[0].rpartition(":")[2])
    ours = list(znodes_questions.transcript(port))
    originals = Path(__file__).with_name("zookeeper-3.8.0.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in ours] == [line.partition(": ")[0] for line in originals]
    different = {line.partition(": ")[0] for line, original in zip(ours, originals, strict=True) if line != original}
    assert [line for line in ours if line.partition(": ")[0] in different - DIFFERENT.keys()] == []
    assert DIFFERENT.keys() - different == set()
    with urlopen(f"http://127.0.0.1:{admin}/commands/srvr") as answer:
        assert json.load(answer)["server_stats"]["server_state"] == "standalone"
