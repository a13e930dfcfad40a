"""The answers of a cell of one, held against those of the original: ``zookeeper-3.8.0.txt`` and ``zkprobe-3.8.0.txt``,
which were taken by different people."""

from __future__ import annotations

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import znodes_probe
import znodes_questions

pytestmark = pytest.mark.cell

ONE = ("--replicas", "1", "--machine", "znodes", "--option", "zookeeper.tick=500", "--option", "zookeeper.words=*")
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
    cell = new_cell(*ONE, "--option", f"zookeeper.admin=tcp:{admin}")
    port = int(cell.zookeepers[0].rpartition(":")[2])
    ours = list(znodes_questions.transcript(port))
    originals = Path(__file__).with_name("zookeeper-3.8.0.txt").read_text().splitlines()
    assert [line.partition(": ")[0] for line in ours] == [line.partition(": ")[0] for line in originals]
    different = {line.partition(": ")[0] for line, original in zip(ours, originals, strict=True) if line != original}
    assert [line for line in ours if line.partition(": ")[0] in different - DIFFERENT.keys()] == []
    assert DIFFERENT.keys() - different == set()
    with urlopen(f"http://127.0.0.1:{admin}/commands/srvr") as answer:
        assert json.load(answer)["server_stats"]["server_state"] == "standalone"


BY_NATURE = (
    (r"^\((-?\d+), \d+, (-?\d+), b", r"(\1, ZXID, \2, b"),
    (r"^\d+\.\d\d?$", "SECONDS"),
    (r"0x[0-9a-f]{6,16}\b", "SESSION"),
    (r"^(Zookeeper version|Latency min/avg/max|Received|Sent|Connections|Zxid): .*$", r"\1: "),
    (r"(^ /127\.0\.0\.1:\d+\[[01]\]\(queued=0,recved=\d+,sent=\d+\)\n)+", " CLIENTS\n"),
    (r"^(clientPort|dataDir|dataDirSize|dataLogDir|dataLogSize|serverId)=.*$", r"\1="),
    (r"^(datadir_size|logdir_size): \d+$", r"\1: "),
)
"""What differs between two runs or two servers: transaction numbers, times, session ids, counts of what went over the
network, ports, folders, sizes on disk, and the number of a server that is alone."""
PROBED_DIFFERENT = {
    "getEphemerals": "in the order of their creation; the original has none",
    "check alone": "answered, as later releases do; 3.8.0 never answers",
    "mntr": "keys of what there is here",
    "cons": "nothing is measured by connection",
    "dump": "sessions are listed plainly",
    "envi": "the environment is Python's",
    "hash": "the digest of now, in one line",
}


def probed(transcript: str, questions: set[str]) -> list[tuple[str, str]]:
    """Each question with its answer, which may go over several lines, without what differs by nature."""
    pieces = re.split(rf"^({'|'.join(map(re.escape, questions))}): ", transcript, flags=re.MULTILINE)[1:]
    found = []
    for question, answer in zip(pieces[::2], pieces[1::2], strict=True):
        for pattern, instead in BY_NATURE:
            answer = re.sub(pattern, instead, answer, flags=re.MULTILINE)
        found.append((question, answer))
    return found


def test_probe_is_answered_as_by_the_original(new_cell: Any) -> None:
    """The questions of another's probe have the original's answer, byte for byte, but for the ones listed, each of
    which has another."""
    cell = new_cell(*ONE)
    port = int(cell.zookeepers[0].rpartition(":")[2])
    asked = list(znodes_probe.transcript(port))
    questions = {question for question, _ in asked}
    ours = probed("".join(f"{question}: {answer}\n" for question, answer in asked), questions)
    originals = probed(Path(__file__).with_name("zkprobe-3.8.0.txt").read_text(), questions)
    assert [question for question, _ in ours] == [question for question, _ in originals]
    different = [pair for pair, original in zip(ours, originals, strict=True) if pair != original]
    assert [pair for pair in different if pair[0] not in PROBED_DIFFERENT] == []
    assert {question for question, _ in different} == PROBED_DIFFERENT.keys()
