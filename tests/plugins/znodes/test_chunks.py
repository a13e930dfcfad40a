"""The form of chunks."""

from __future__ import annotations

import pytest
from quorate.plugins.znodes import chunks
from quorate.plugins.znodes.codec import REQUEST, pack_ids


def test_head_is_read_as_written() -> None:
    """Flags and sets of identities come back, and the runs begin right behind them."""
    first, second = (((b"ip", b"1.2.3.4"),), ((b"ip", b"::1"), (b"digest", b"a:b")))
    chunk = chunks.pack(chunks.Allow.EXTENDED_TYPES, [pack_ids(first), pack_ids(second)], [b"run", b"s"])
    allow, identities, at = chunks.unpack_head(chunk)
    assert (allow, identities, chunk[at:]) == (chunks.Allow.EXTENDED_TYPES, [first, second], b"runs")


def test_unknown_version_is_refused() -> None:
    """A chunk of a later code is not guessed at."""
    with pytest.raises(ValueError, match="version 9"):
        chunks.unpack_head(b"\x09" + chunks.pack(chunks.Allow.NOTHING, [], [])[1:])


def test_layout_is_fixed() -> None:
    """The bytes themselves: logs hold them, so they must not change under a version."""
    identities = pack_ids(((b"ip", b"::1"),))
    chunk = chunks.pack(chunks.Allow.NOTHING, [identities], [chunks.RUN.pack(5, 0, 12), chunks.pause(7)])
    assert chunk.hex() == (
        "01000001" "0011" "00000001" "00000002" "6970" "00000003" "3a3a31"
        "0000000000000005" "0000" "0000000c" "00000008" "00000007" "00000000"
    )  # fmt: skip
    assert REQUEST.unpack(chunks.pause(7)) == (8, 7, chunks.PAUSE_OP)
