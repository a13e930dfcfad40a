"""The settings of a node."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """Sizes in bytes, times in microseconds."""

    batch: int = 1 << 20
    company: int = 16 << 10  # a batch of that size waits for nobody
    linger: int = 4_000  # how long a smaller one waits while the one before it is under way
    patience: int = 1_000  # how long it waits for those whose commands were in the one before it
    backlog: int = 8 << 20
    resend: int = 500_000
    digest_every: int = 1024  # slots
    snapshot_bytes: int = 10 << 20  # of memory for the log since the last one, at least
    snapshot_growth: int = 100  # percent of the last one's own size, at least
    snapshot_slots: int = 200_000
