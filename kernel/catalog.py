"""Which machines this process could run: names of code, and the classes they stand for.

The cell speaks of a machine's code by a name that every replica maps to a class of its own. Where the classes come from
(entry points, an allow-list) is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .dispatch import operations
from .machine import StateMachine
from .stop import MissingPlugin

CODES_MAX: Final = 256
CODE_CHARS_MAX: Final = 128
VERSION_MAX: Final = 1_000_000

MACHINE_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")
"""What a machine may be called."""


class Catalog:
    """Names of code -> machine classes."""

    def __init__(self, classes: Mapping[str, type[StateMachine]]) -> None:
        """
        Raises:
            ValueError: a name or a version is out of bounds.
            Unfit: a class cannot be a machine.
        """
        if len(classes) > CODES_MAX:
            raise ValueError(f"{len(classes)} machines are installed, but {CODES_MAX} are allowed")
        for code, kind in classes.items():
            if not 0 < len(code) <= CODE_CHARS_MAX:
                raise ValueError(f"the name of a machine's code has 1 to {CODE_CHARS_MAX} characters: {code!r}")
            if not 0 < kind.version <= VERSION_MAX:
                raise ValueError(f"{code}: a version is from 1 to {VERSION_MAX}, not {kind.version}")
            operations(kind)
        self._classes = dict(sorted(classes.items()))
        self.versions: Final[Mapping[str, int]] = {code: kind.version for code, kind in self._classes.items()}
        """The newest version that is installed here, by name of code: what a replica announces."""

    def find(self, code: str, version: int) -> type[StateMachine]:
        """The class that runs `code` at `version`.

        Raises:
            MissingPlugin: it is not installed, or older than that.
        """
        kind = self._classes.get(code)
        if kind is None:
            known = ", ".join(self._classes) or "none"
            raise MissingPlugin(
                f"the cell runs the machine code {code!r} (version {version}), which is not installed here. Installed: "
                f"{known}. Install the distribution that provides the entry point {code!r} in the group "
                "quorate.plugins, or name it in the allow-list of this replica's configuration, and start the replica "
                "again."
            )
        if kind.version < version:
            raise MissingPlugin(
                f"the cell runs the machine code {code!r} at version {version}, but version {kind.version} is "
                f"installed here ({kind.__module__}). Install a distribution with version {version} or newer and start "
                "the replica again."
            )
        return kind
