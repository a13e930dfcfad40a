"""placeholder"""

from __future__ import annotations

from .command import Command

COMMAND = Command(
    "tour", "see a cell agree, lose its leader and go on, in under a minute", lambda parser: None, lambda options: 1
)
