"""The cell's own state machines: sessions, membership, timers, plugins, digests. Start reading at :mod:`.asks`.

They live in the log like any other machine. What only they may do, they *ask* of the host as effects of a command.
"""

from __future__ import annotations

from typing import Final

SESSIONS: Final = 0
MEMBERSHIP: Final = 1
TIMERS: Final = 2
PLUGINS: Final = 3
DIGESTS: Final = 4

FIRST_LOADED: Final = 16
"""Loaded machines are numbered from here on; no number is ever given twice."""

NAMES: Final = {
    "sessions": SESSIONS,
    "membership": MEMBERSHIP,
    "timers": TIMERS,
    "plugins": PLUGINS,
    "digests": DIGESTS,
}
"""What they are called; no other machine may be."""
