"""What ``twist quorate`` runs: one replica by its configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from . import garbage
from .config import BadConfiguration, ReplicaConfig
from .service import make_replica_service


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
    service: IService = make_replica_service(options["replica"], reactor)  # type: ignore[arg-type]
    return service
