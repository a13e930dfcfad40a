"""A real ZooKeeper, where one is installed: Debian's package, or what ``QUORATE_ZOOKEEPER_CLASSPATH`` names."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

JARS = ("/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar")
STARTS_WITHIN = 30.0


def classpath() -> str | None:
    """Where its classes are; None if it is not installed."""
    named = os.environ.get("QUORATE_ZOOKEEPER_CLASSPATH")
    if shutil.which("java") is None:
        return None
    if named:
        return named
    return ":".join(JARS) if all(Path(jar).exists() for jar in JARS) else None


def version() -> str | None:
    """Of the one that is installed, as far as the name of its jar tells."""
    jar = Path((classpath() or "none").split(":")[0])
    return jar.resolve().stem.removeprefix("zookeeper-") if jar.exists() else None


class Original:
    """One server, alone, fresh; ended by :meth:`stop`."""

    def __init__(self, directory: Path, tick_ms: int = 2000) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        directory.mkdir(parents=True)
        configuration = directory / "zoo.cfg"
        configuration.write_text(
            f"tickTime={tick_ms}\ndataDir={directory}\nclientPort={self.port}\nclientPortAddress=127.0.0.1\n"
            "maxClientCnxns=0\nmaxSessionTimeout=60000\nadmin.enableServer=false\n4lw.commands.whitelist=*\n"
        )
        found = classpath()
        assert found is not None
        self._log = (directory / "log").open("wb")
        self._process = subprocess.Popen(
            [
                "java",
                "-Xmx160m",
                "-XX:+UseSerialGC",
                "-Dzookeeper.extendedTypesEnabled=true",
                "-Dzookeeper.forceSync=no",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                "-cp",
                found,
                "org.apache.zookeeper.server.ZooKeeperServerMain",
                str(configuration),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self._await()

    def _await(self) -> None:
        until = time.monotonic() + STARTS_WITHIN
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as talk:
                    talk.sendall(b"ruok")
                    if talk.recv(4) == b"imok":
                        return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError("ZooKeeper does not start")

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._log.close()
