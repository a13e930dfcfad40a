"""Splitting a multi: against the declarations, however it is damaged."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

import znodes_wire as wire
from quorate.plugins.znodes import multi
from quorate.plugins.znodes.protocol import Malformed, Op

BODIES = {
    Op.CREATE: wire.create(b"/a", None, 3),
    Op.CREATE2: wire.create(b"/bb", b"xyz"),
    Op.CREATE_CONTAINER: wire.create(b"/c", b"", 4),
    Op.CREATE_TTL: wire.create_ttl(b"/d", 77),
    Op.DELETE: wire.path_version(b"/e", 5),
    Op.CHECK: wire.path_version(b"/f"),
    Op.SET_DATA: wire.put(b"/g", b"data"),
}


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


@pytest.mark.parametrize("op", [Op.GET_DATA, Op.SET_ACL, Op.MULTI, Op.ERROR, 99])
def test_what_a_multi_may_not_hold(op: int) -> None:
    """Other types are refused, also the multi itself."""
    with pytest.raises(Malformed):
        multi.split(wire.several((op, BODIES[Op.DELETE])), 0, multi.WRITES)
