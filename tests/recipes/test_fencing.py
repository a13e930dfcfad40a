"""What a lock cannot prevent, and its tokens can: a holder that stands still within its critical section."""

from __future__ import annotations

import pytest
from quorate.kernel.testing.cell import Cell
from quorate.plugins.locks.machine import LocksMachine
from quorate.recipes.held import LockLost
from quorate.recipes.lock import Lock


class Store:
    """What the lock protects. `newest`: the largest token it has seen, if it looks at tokens."""

    def __init__(self, fenced: bool) -> None:
        self.fenced = fenced
        self.newest = 0
        self.written: list[str] = []

    def write(self, words: str, token: int) -> bool:
        """Whether it was taken."""
        if self.fenced and token < self.newest:
            return False
        self.newest = token
        self.written.append(words)
        return True


@pytest.mark.parametrize("fenced", [True, False])
def test_a_pause_longer_than_the_lease_within_the_critical_section(fenced: bool) -> None:
    """It looked at its lock, stood still, and writes when another has the lock: a store without tokens takes that."""
    store = Store(fenced)
    with Cell(LocksMachine) as cell:
        frozen, rival = cell.session(timeout=2.0), cell.session()
        held = cell.run(Lock(frozen.live, "job").acquire(), frozen)
        held.check()
        cell.stall(frozen, 8.0)
        successor = cell.run(Lock(rival.live, "job").acquire(), rival)
        assert store.write("rival", successor.token)
        assert store.write("frozen", held.token) is not fenced
        assert rival.query("locks", "check", "job", successor.token) is True
        assert rival.query("locks", "check", "job", held.token) is False
        with pytest.raises(LockLost):
            held.check()
    assert store.written == (["rival"] if fenced else ["rival", "frozen"])
