"""The form of snapshots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quorate.kernel.wire.envelope import BODY_MAX, PART_BYTES, Kind, Record, frame, frame_piece, records
from quorate.kernel.wire.plain import Malformed


@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=40)), max_size=8), st.data())
def test_records_survive_any_cutting(written: list[tuple[Kind, bytes]], drawn: st.DataObject) -> None:
    """Whoever stores or sends a snapshot may cut it as he likes."""
    whole = b"".join(frame(*record) for record in written)
    cuts = sorted(drawn.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    chunks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert list(records(chunks)) == [Record(*record) for record in written]


def test_a_long_piece_travels_in_parts() -> None:
    """No record is long, and the parts come back as the one piece."""
    piece = bytes(range(256)) * (PART_BYTES // 100)
    framed = list(frame_piece(piece))
    assert max(map(len, framed)) <= PART_BYTES + 5 < 1 << 20
    found = list(records(framed))
    assert [record.kind for record in found] == [Kind.PART] * (len(found) - 1) + [Kind.PIECE]
    assert b"".join(record.body for record in found) == piece


def test_an_empty_piece_is_a_piece() -> None:
    """A machine may have an empty image."""
    assert [*records(frame_piece(b""))] == [Record(Kind.PIECE, b"")]


@pytest.mark.parametrize(
    "wrong", [b"\x00", frame(Kind.HEAD, b"xy")[:-1], b"\x00\x00\x00\x00\x01", b"\x00\x00\x00\x01\x09"]
)
def test_what_is_no_record_is_malformed(wrong: bytes) -> None:
    """Cuts, lengths without a kind and unknown kinds are refused."""
    with pytest.raises(Malformed):
        list(records([frame(Kind.HEAD, b"x"), wrong]))


def test_a_length_out_of_bounds_is_refused_at_once() -> None:
    """A damaged length does not make the reader gather the rest of the file."""
    with pytest.raises(Malformed):
        next(records([(BODY_MAX + 2).to_bytes(4, "big") + b"\x01"]))
