"""A real ZooKeeper, where one is installed: Debian's package, or what ``QUORATE_ZOOKEEPER_CLASSPATH`` names."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

JARS = tuple(f"/usr/share/java/{name}.jar" for name in ("zookeeper", "slf4j-simple", "commons-cli"))
STARTS_WITHIN = 30.0
SAID = (
    "ls /", "create /shell hello", "create /shell again", "create -s /shell/s- a", "create -e /shell/e b",
    "create -c /shell/box", "create -t 100000 /shell/t c", "stat /shell", "get -s /shell", "set -v 0 /shell world",
    "set -v 0 /shell world", "ls -s -R /shell", "ls -w /shell", "create /shell/n x", "get -w /shell/n",
    "set /shell/n y", "addWatch -m PERSISTENT_RECURSIVE /shell/n", "create /shell/n/a 1", "removewatches /shell/n",
    "getAllChildrenNumber /shell", "getEphemerals /shell", "getAcl /shell", "addauth digest ann:pw",
    "setAcl -s /shell/n auth::rwadc", "getAcl -s /shell/n", "setquota -n 3 -b 1000 /shell", "listquota /shell",
    "sync /shell", "delete -v 7 /shell/n/a", "delete /shell", "deleteall /shell", "ls /", "quit",
)  # fmt: skip
"""What is said to the shell: every command of clients but `whoami`, whose order is another, and `config`."""
BY_NATURE = (("0x[0-9a-f]+", "N"), ("= [A-Z][a-z]{2} [A-Z][a-z]{2} .*", "= T"), ("Connecting to .*", ""))
"""What differs between two runs: transaction numbers, times, addresses."""


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


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        probes = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def shell(hosts: str) -> list[str]:
    """The lines that the shell of ZooKeeper prints, but for what differs by nature: events, which another thread of it
    prints, come last."""
    found = classpath()
    assert found is not None
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"
    argv = ["java", "-Xmx160m", quiet, "-cp", found, "org.apache.zookeeper.ZooKeeperMain", "-server", hosts]
    said = "".join(f"{line}\n" for line in SAID)
    process = subprocess.run(argv, input=said, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    printed = process.stdout
    for pattern, word in BY_NATURE:
        printed = re.sub(pattern, word, printed)
    lines = [line for line in printed.splitlines() if line and line != "WATCHER::"]
    events = [line for line in lines if line.startswith("WatchedEvent")]
    return [*(line for line in lines if line not in events), *sorted(events)]


class Original:
    """One server, fresh; ended by :meth:`stop`. It is alone, or with `reconfig` the quorum of an ensemble of one, which
    lets the super user of that digest change it."""

    def __init__(self, directory: Path, tick_ms: int = 2000, reconfig: str = "") -> None:
        self.port, peer, election = _free_ports(3)
        directory.mkdir(parents=True)
        configuration = directory / "zoo.cfg"
        lines = [f"tickTime={tick_ms}", f"dataDir={directory}", "maxClientCnxns=0", "maxSessionTimeout=60000"]
        lines += ["admin.enableServer=false", "4lw.commands.whitelist=*"]
        if reconfig:
            (directory / "myid").write_text("1\n")
            (directory / "zoo.cfg.dynamic").write_text(
                f"server.1=127.0.0.1:{peer}:{election}:participant;127.0.0.1:{self.port}\n"
            )
            lines += ["reconfigEnabled=true", "standaloneEnabled=false", "initLimit=10", "syncLimit=5"]
            lines += [f"dynamicConfigFile={directory / 'zoo.cfg.dynamic'}"]
        else:
            lines += [f"clientPort={self.port}", "clientPortAddress=127.0.0.1"]
        configuration.write_text("\n".join((*lines, "")))
        main = "quorum.QuorumPeerMain" if reconfig else "ZooKeeperServerMain"
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
                f"-Dzookeeper.DigestAuthenticationProvider.superDigest={reconfig}",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                "-cp",
                found,
                f"org.apache.zookeeper.server.{main}",
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
                    talk.sendall(b"srvr")  # ruok is answered before it serves
                    if b"Mode: " in b"".join(iter(lambda: talk.recv(1 << 12), b"")):
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
