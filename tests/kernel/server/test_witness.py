"""What replicas remember of each other's disks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from quorate.kernel.paxos.ballot import NO_BALLOT, Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Accepted, Promise
from quorate.kernel.server.witness import Witness
from quorate.kernel.storage.errors import NewerFormat
from quorate.kernel.storage.layout import stamp
from quorate.kernel.wire.formats import PEER_VERSION, Greeting, Refusing

HELLO = Greeting(PEER_VERSION, bytes(16), 1, 2, 3, b"d" * 16, b"r" * 8, Ballot(4, MemberId(1)), Slot(10))
RUN = b"s" * 8


def why(witness: Witness, greeting: Greeting, disk: bytes | None = None) -> Refusing | None:
    refusal = witness.judge(greeting, disk)
    return None if refusal is None else refusal.why


@pytest.mark.parametrize("restarted", [False, True])
def test_knows_a_disk_again(tmp_path: Path, restarted: bool) -> None:
    """The same run may call again, a later run that shows as much may, and nothing else; a restart forgets nothing."""
    witness = Witness(tmp_path)
    assert why(witness, HELLO) is None
    if restarted:
        witness = Witness(tmp_path)
    assert why(witness, HELLO) is None
    verdicts: list[tuple[dict[str, Any], Refusing | None]] = [
        ({"disk": b"e" * 16}, Refusing.DISK),
        ({"run": RUN}, Refusing.ROLLED_BACK),
        ({"run": RUN, "incarnation": 2}, Refusing.ROLLED_BACK),
        ({"run": RUN, "incarnation": 4, "promised": NO_BALLOT}, Refusing.ROLLED_BACK),
        ({"run": RUN, "incarnation": 4, "slot": 9}, Refusing.ROLLED_BACK),
        ({"run": RUN, "incarnation": 4}, None),
    ]
    for changes, verdict in verdicts:
        assert why(witness, HELLO._replace(**changes)) is verdict


def test_remembers_what_was_said(tmp_path: Path) -> None:
    """A promise and a vote told to this replica must be on the disk that calls next."""
    witness = Witness(tmp_path)
    witness.judge(HELLO, None)
    ballot = Ballot(6, MemberId(1))
    witness.hear(2, Promise(ballot, Slot(1), (), Slot(0), Slot(0)))
    later = HELLO._replace(run=RUN, incarnation=4)
    assert why(Witness(tmp_path), later) is Refusing.ROLLED_BACK
    witness.hear(2, Accepted(ballot, Slot(11), Slot(12)))
    assert why(witness, later._replace(promised=ballot, slot=Slot(11))) is Refusing.ROLLED_BACK
    assert why(witness, later._replace(promised=ballot, slot=Slot(12))) is None


def test_the_cell_knows_disks_that_this_replica_never_met(tmp_path: Path) -> None:
    """A member shows the disk with which it introduced itself, and the one that was met here; no other."""
    witness = Witness(tmp_path)
    assert why(witness, HELLO, b"e" * 16) is Refusing.DISK
    assert why(witness, HELLO, HELLO.disk) is None
    assert why(witness, HELLO._replace(disk=b"e" * 16, run=RUN), b"e" * 16) is Refusing.DISK


def test_a_damaged_memory_is_begun_anew(tmp_path: Path) -> None:
    """A file that power took in the middle of being written does not keep a replica from starting."""
    (tmp_path / "witness").write_bytes(b"\x93\x01")
    witness = Witness(tmp_path)
    assert why(witness, HELLO) is None
    assert why(Witness(tmp_path), HELLO._replace(disk=b"e" * 16)) is Refusing.DISK


def test_a_flipped_bit_condemns_nobody(tmp_path: Path) -> None:
    """One wrong bit in this memory is no reason to send a healthy member away for ever."""
    Witness(tmp_path).judge(HELLO, None)
    path = tmp_path / "witness"
    whole = path.read_bytes()
    for position in range(len(whole) * 8):
        flipped = bytearray(whole)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(flipped)
        assert why(Witness(tmp_path), HELLO) is None


def test_a_disk_without_room_condemns_nobody(tmp_path: Path) -> None:
    """What cannot be written is remembered as long as the process lives, and the file keeps what it had."""
    witness = Witness(tmp_path)
    witness.judge(HELLO, None)
    (tmp_path / "witness.new").mkdir()
    ballot = Ballot(6, MemberId(1))
    witness.hear(2, Promise(ballot, Slot(1), (), Slot(0), Slot(0)))
    later = HELLO._replace(run=RUN, incarnation=4)
    assert why(witness, later) is Refusing.ROLLED_BACK
    assert why(Witness(tmp_path), later) is None


def test_a_memory_of_a_newer_release_is_not_guessed_at(tmp_path: Path) -> None:
    """It is refused with words, like every other file."""
    (tmp_path / "witness").write_bytes(stamp(b"QRTwit\r\n", b"what a newer release knows", version=2))
    with pytest.raises(NewerFormat, match="format 2"):
        Witness(tmp_path)
