"""How long a leader's small batch waits for others to share its slot.

Theory of operation. Every slot costs every replica the same, however much it holds: messages, a write, a sync,
wake-ups. Two things are worth waiting for.

*The slot before.* What comes while one is under way waits for its end, together; where that takes long, because the
others are far away, not so long (`linger`).

*Those who come back.* A client that has just been answered mostly asks again at once. When a slot is chosen, some
commands wait already, and those whose commands were in that slot are about to be answered: who proposed at once would
split the clients into two crowds that wait for each other for ever, each with slots half full. So a batch waits until
nearly as many bytes are there as were waiting and answered together. One client alone never waits: when it is back,
everything is. If they do not come within `patience`, the next few slots wait for nobody; the more so the more of the
latest waits were in vain. Where half of them are, hardly any slot waits, since a wait in vain costs more than one that
was not in vain saves.

Times are microseconds of the caller's clock.
"""

from __future__ import annotations

from typing import Final

_FEW: Final = 4
_MANY: Final = 256
"""Slots that wait for nobody after a wait in vain, at least and at most."""


class Company:
    """One leadership's sense of company. A batch of `enough` bytes waits for nobody."""

    __slots__ = ("_back", "_enough", "_expected", "_linger", "_patience", "_proposed", "_skip", "_vain", "_waited")

    def __init__(self, enough: int, linger: int, patience: int) -> None:
        self._enough = enough
        self._linger = linger
        self._patience = patience
        self._proposed = -linger
        self._expected = 0
        self._back = 0  # until when those who were answered are waited for
        self._waited = False
        self._skip = 0  # slots that shall wait for nobody
        self._vain = 0  # how many they will be after the next wait in vain, about half

    def chosen(self, size: int, waiting: int, now: int) -> None:
        """A slot of `size` bytes is chosen, its commands are answered; `waiting` bytes could be proposed."""
        if self._skip:
            self._skip -= 1
            self._expected = 0
            return
        together = size + waiting
        self._expected = together - (together >> 3)
        self._back = now + self._patience

    def wait(self, waiting: int, under_way: bool, now: int) -> int:
        """Until when the batch of `waiting` bytes should wait, if nothing else comes; 0: it should go now."""
        if waiting >= self._enough:
            return 0
        if under_way:
            until = self._proposed + self._linger
            return until if now < until else 0
        if waiting >= self._expected:
            if self._waited:
                self._vain //= 2
        elif now < self._back:
            self._waited = True
            return self._back
        else:
            self._skip = self._vain = min(2 * self._vain + _FEW, _MANY)
        return 0

    def proposed(self, now: int) -> None:
        """The batch went."""
        self._proposed = now
        self._expected = 0
        self._waited = False
