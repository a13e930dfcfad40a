"""Named values as a state machine of one's own: what `python_user.py` has our own client write and read, so that it
does the same work as the others' clients."""

from __future__ import annotations

from quorate.kernel.machine import Commit, StateMachine, command, query


class Values(StateMachine):
    """Values by name."""

    name = "values"
    version = 1

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    @command
    def set(self, commit: Commit, name: str, value: bytes) -> None:
        """Replace a value."""
        self.values[name] = value

    @query
    def get(self, name: str) -> bytes:
        """A value; empty if there is none."""
        return self.values.get(name, b"")
