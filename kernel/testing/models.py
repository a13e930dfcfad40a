"""Sequential objects for :mod:`.linearizability`: a register with compare-and-set, a counter, a bell that rings once, a
lock with tokens.

Each says what its operations are called, what they take and what they answer; a workload that wants to be judged
records its operations in these words. States are small hashable values.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from .linearizability import UNKNOWN, Operation


class Register:
    """One cell of memory, empty (None) at first.

    ============================ ======================= =================================
    operation                    result                  meaning
    ============================ ======================= =================================
    ``get()``                    the value               read
    ``set(value)``               not looked at           write
    ``cas(old, new)``            whether it was changed  write `new` if `old` is there
    ============================ ======================= =================================
    """

    def initial(self) -> tuple[Hashable]:
        return (None,)

    def step(self, state: tuple[Hashable], operation: Operation) -> tuple[Hashable] | None:
        name, result = operation.name, operation.result
        if name == "get":
            return state if result is UNKNOWN or result == state[0] else None
        if name == "set":
            return (operation.args[0],)
        if name == "cas":
            old, new = operation.args
            fits = state[0] == old
            if result is not UNKNOWN and result is not fits:
                return None
            return (new,) if fits else state
        raise ValueError(f"a register does not know {name!r}")

    def reads_only(self, operation: Operation) -> bool:
        return operation.name == "get" or (operation.name == "cas" and operation.result is False)


class Count:
    """A number, 0 at first, to which each addition counts exactly once.

    ============== ============= ===================
    operation      result        meaning
    ============== ============= ===================
    ``add(by)``    the new total
    ``total()``    the total     read
    ============== ============= ===================
    """

    def initial(self) -> int:
        return 0

    def step(self, state: int, operation: Operation) -> int | None:
        result = operation.result
        if operation.name == "add":
            by = operation.args[0]
            assert isinstance(by, int)
            return state + by if result is UNKNOWN or result == state + by else None
        if operation.name == "total":
            return state if result is UNKNOWN or result == state else None
        raise ValueError(f"a counter does not know {operation.name!r}")

    def reads_only(self, operation: Operation) -> bool:
        return operation.name == "total"


class Bell:
    """A bell that is asked to ring once, at a time that has come when the asking is answered.

    ============== ====================== ========================
    operation      result                 meaning
    ============== ====================== ========================
    ``ring()``     how late it was        it has rung, not early
    ``times()``    0 or 1                 read
    ============== ====================== ========================
    """

    def initial(self) -> int:
        return 0

    def step(self, state: int, operation: Operation) -> int | None:
        result = operation.result
        if operation.name == "ring":
            early = isinstance(result, int) and result < 0
            return None if state or early else 1
        if operation.name == "times":
            return state if result is UNKNOWN or result == state else None
        raise ValueError(f"a bell does not know {operation.name!r}")

    def reads_only(self, operation: Operation) -> bool:
        return operation.name == "times"


class Holding(NamedTuple):
    """Who holds a lock, and the largest token ever handed out for it."""

    holder: Hashable
    token: int


class Mutex:
    """A lock whose holders get growing tokens. The client of an operation is the session that asks.

    =================== ==================== ==========================================================================
    operation           result               meaning
    =================== ==================== ==========================================================================
    ``acquire()``       the token, or None   the lock was free and is held now, under a token larger than any before;
                                             None: it was not granted
    ``release(token)``  whether it was held  the lock is free if it was held under that token
    ``holder()``        session or None      read
    ``end()``           not looked at        the session closed or expired: the lock is free if it was the holder
    =================== ==================== ==========================================================================

    An unanswered ``acquire`` got an unknown token; it is taken to be the smallest possible one, so that nothing true is
    called false.
    """

    def initial(self) -> Holding:
        return Holding(None, 0)

    def step(self, state: Holding, operation: Operation) -> Holding | None:
        name, result = operation.name, operation.result
        if name == "acquire":
            if result is None:
                return state
            if state.holder is not None:
                return None
            if result is UNKNOWN:
                return Holding(operation.client, state.token + 1)
            assert isinstance(result, int)
            return Holding(operation.client, result) if result > state.token else None
        if name == "release":
            held = state.holder == operation.client and state.token == operation.args[0]
            if result is not UNKNOWN and result is not held:
                return None
            return Holding(None, state.token) if held else state
        if name == "holder":
            return state if result is UNKNOWN or result == state.holder else None
        if name == "end":
            return Holding(None, state.token) if state.holder == operation.client else state
        raise ValueError(f"a lock does not know {name!r}")

    def reads_only(self, operation: Operation) -> bool:
        name, result = operation.name, operation.result
        return name == "holder" or (name == "release" and result is False) or (name == "acquire" and result is None)
