"""The settings of a consensus core."""

from __future__ import annotations

from typing import Final, NamedTuple


class Options(NamedTuple):
    """Times in microseconds, sizes in bytes. Every member of a cell must run with the same lease and drift."""

    lease: int = 400_000
    heartbeat: int = 50_000
    drift_ppm: int = 20_000  # how much faster one clock may run than another, in parts per million
    campaign_spread: int = 100_000  # a campaign starts up to this long after the lease ended, at random
    window: int = 8  # slots proposed and not yet chosen
    fetch_limit: int = 1 << 20  # of chosen log in one answer
    promise_limit: int = 1 << 20  # of values in one Promise or Accept, unless one value alone is larger
    retained: int = 16 << 20  # of chosen log kept in memory behind a snapshot for lagging members
    apply_limit: int = 256 << 10  # of chosen values applied in one turn by a member that does not lead, at least one
    ahead: int = 64 << 20  # of votes kept in memory above the commit index by a member that lags
    unwritten: int = 64 << 20  # of records that the disk has not taken, in memory, before a member takes in no more


NEVER: Final = 1 << 62
"""A due time that does not come."""

SLOT_COST: Final = 256
"""What a slot costs in memory besides its payload, in bytes: where memory is bounded, empty values are not free."""
