"""What a checker raises."""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken. `promise` is its name in the table of :mod:`.checkers`."""

    def __init__(self, promise: str, words: str) -> None:
        super().__init__(f"{promise}: {words}")
        self.promise = promise
