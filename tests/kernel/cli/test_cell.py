"""What ``cell run`` prints once the cell serves."""

from __future__ import annotations

import json
from pathlib import Path

from quorate.kernel.cli.cell import describe, in_words
from quorate.kernel.cli.command import Complaint
from quorate.kernel.cli.local import LocalCell


def test_a_missing_replica_is_shown_to_scripts_and_to_people() -> None:
    """Who serves has a process; who is missing has words, and a process only while it is tried again."""
    facts = describe(
        Path("/cells/c"),
        LocalCell("c", 3, 20_000),
        (11, 0, 13),
        ({"leader": 3}, Complaint("it is damaged"), {"leader": 3}),
    )
    assert facts["leader"] == 3
    assert json.dumps(facts["replicas"][1]) == (
        '{"index": 1, "id": 2, "pid": null, "client": "tcp:127.0.0.1:20021", "zookeeper": "127.0.0.1:20001", '
        '"dir": "/cells/c/replica-1", "trouble": "it is damaged"}'
    )
    assert [each.get("trouble") for each in facts["replicas"]] == [None, "it is damaged", None]
    headline, *rows = in_words(facts)[:4]
    assert headline == "Cell c serves with 2 of 3 replicas, data in /cells/c"
    assert [row.rpartition("  ")[2] for row in rows] == ["ZooKeeper 127.0.0.1:20000", "MISSING", "leads"]
