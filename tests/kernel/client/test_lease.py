"""What a client may count on, by the clock."""

from __future__ import annotations

import math

import pytest
from quorate.kernel.client.lease import Lease


def test_lease_never_shortens_and_is_cut_by_drift() -> None:
    """A promise counts from its send, less the drift; an older promise changes nothing."""
    lease = Lease(9.0, 0.1)
    first, second = lease.sending(100.0), lease.sending(103.0)
    assert lease.due_at == 106.0
    assert lease.silent_at() == 103.0
    assert lease.kept(second, 9.0)
    assert lease.until == pytest.approx(103 + 8.1)
    assert lease.silent_at() == math.inf
    assert not lease.kept(first, 90.0)
    assert lease.kept(lease.sending(104.0), 1.0)
    assert lease.until == pytest.approx(103 + 8.1)


def test_lease_forgets_stamps_of_a_broken_connection() -> None:
    """An answer over a later connection to a KeepAlive of an earlier one does not count."""
    lease = Lease(9.0, 0.0)
    stamp = lease.sending(100.0)
    lease.disconnected()
    assert not lease.kept(stamp, 9.0)
    assert lease.until == -math.inf
    assert lease.due_at == math.inf
