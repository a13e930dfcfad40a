"""What ``twist quorate`` runs: one replica by its configuration file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.python import usage

from . import garbage
from .config import BadConfiguration, ReplicaConfig
from .service import NO_START, make_replica_service, why


class Options(usage.Options):
    """``twist quorate --config FILE``."""

    optParameters = [["config", "c", None, "The replica's configuration file (TOML)."]]

    def postOptions(self) -> None:
        """Raises UsageError: no file, or one that cannot be used."""
        if self["config"] is None:
            raise usage.UsageError("say which replica it is: --config FILE")
        try:
            self["replica"] = ReplicaConfig.from_toml(Path(self["config"]))
        except (BadConfiguration, OSError) as error:
            raise usage.UsageError(str(error)) from None


def makeService(options: dict[str, Any]) -> IService:
    """The service that ``twist`` starts."""
    # The reactor is installed by its first import, which is twist's business.
    from twisted.internet import reactor

    garbage.start()
    config: ReplicaConfig = options["replica"]
    parent = _InWords(config)
    make_replica_service(config, reactor).setServiceParent(parent)  # type: ignore[arg-type, no-untyped-call]
    return parent


class _InWords(MultiService):
    """Ends the process with words, not with a traceback, when the replica below cannot start."""

    def __init__(self, config: ReplicaConfig) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._config = config

    def startService(self) -> None:
        """Start it."""
        try:
            super().startService()  # type: ignore[no-untyped-call]
        except NO_START as error:
            sys.exit(f"quorate: {why(self._config, error)}")
