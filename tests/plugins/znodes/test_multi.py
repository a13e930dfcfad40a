"""Splitting a multi: against the declarations, however it is damaged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.plugins.znodes import jute, multi
from quorate.plugins.znodes.protocol import Malformed, Mode, Op

BODIES = {
    Op.CREATE: wire.create(b"/a", None, 3),
    Op.CREATE2: wire.create(b"/bb", b"xyz"),
    Op.CREATE_CONTAINER: wire.create(b"/c", b"", 4),
    Op.CREATE_TTL: wire.create_ttl(b"/d", 77),
    Op.DELETE: wire.path_version(b"/e", 5),
    Op.CHECK: wire.path_version(b"/f"),
    Op.SET_DATA: wire.put(b"/g", b"data"),
}
READS = {Op.GET_DATA: wire.path_watch(b"/a", True), Op.GET_CHILDREN: wire.path_watch(b"/bb")}


@given(st.lists(st.sampled_from(sorted(BODIES)), max_size=6))
def test_steps_come_back(ops: list[Op]) -> None:
    """Each record is found with its exact bytes; the flags of a create decide what it is."""
    found = multi.split(wire.several(*((op, BODIES[op]) for op in ops)), 0, multi.WRITES)
    assert [record for _, record in found] == [BODIES[op] for op in ops]
    assert [op for op, _ in found] == [Op.CREATE if op == Op.CREATE2 else op for op in ops]


@given(st.sampled_from(sorted(BODIES)), st.data())
def test_every_cut_is_refused(op: Op, choice: st.DataObject) -> None:
    """A multi cut anywhere is malformed, never short."""
    body = wire.several((op, BODIES[op]), (Op.DELETE, BODIES[Op.DELETE]))
    with pytest.raises(Malformed):
        multi.split(body[: choice.draw(st.integers(0, len(body) - 9))], 0, multi.WRITES)


@pytest.mark.parametrize(
    ("record", "allowed", "bodies"), [(jute.Multi, multi.WRITES, BODIES), (jute.MultiRead, multi.READS, READS)]
)
def test_split_is_jute(record: Any, allowed: Any, bodies: dict[Op, bytes]) -> None:
    """The splitter finds what the declaration finds, on each truncation and with each byte changed to a neighbor, a
    negative length and nothing (ZK-9.1)."""
    body = wire.several(*bodies.items())
    damaged = [body, body + b"tail", *(body[:size] for size in range(len(body)))]
    for at, byte in enumerate(body):
        damaged += [body[:at] + bytes((other,)) + body[at + 1 :] for other in {byte ^ 1, 0xFF, 0} - {byte}]

    def declared(frame: bytes) -> list[bytes]:
        return [found.record.path for found in jute.read(record, frame)[:-1]]

    def split(frame: bytes) -> list[bytes]:
        return [jute.read(jute.PathOnly, each).path for _, each in multi.split(frame, 0, allowed)]

    for frame in damaged:
        outcomes: list[Any] = []
        for parse in (declared, split):
            try:
                outcomes.append(parse(frame))
            except Malformed:
                outcomes.append(Malformed)
        assert outcomes[0] == outcomes[1], frame


def test_flags_decide_what_a_create_is() -> None:
    """A time to live that the flags do not ask for is dropped, as the original drops it inside a multi."""
    plain, box = (wire.create(b"/d", b"", flags) for flags in (Mode.PERSISTENT, Mode.CONTAINER))
    steps = [(Op.CREATE_TTL, wire.create_ttl(b"/d", 77, flags)) for flags in (Mode.PERSISTENT, Mode.CONTAINER)]
    assert multi.split(wire.several(*steps, (Op.CREATE, box)), 0, multi.WRITES) == [
        (Op.CREATE, plain), (Op.CREATE_CONTAINER, box), (Op.CREATE_CONTAINER, box)
    ]  # fmt: skip


@pytest.mark.parametrize("op", [Op.GET_DATA, Op.SET_ACL, Op.MULTI, Op.ERROR, 99])
def test_what_a_multi_may_not_hold(op: int) -> None:
    """Other types are refused, also the multi itself."""
    with pytest.raises(Malformed):
        multi.split(wire.several((op, BODIES[Op.DELETE])), 0, multi.WRITES)
