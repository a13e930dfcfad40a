"""A pytest plugin that runs kazoo's own tests, which its wheel ships, against a cell of three replicas.

kazoo's harness starts ZooKeeper servers by itself; here it is given ours instead, and nothing in the tests is changed.
The baseline is the same suite against three ZooKeeper 3.8.0: everything passes but what EXPECTED_SKIPS names. A failure
or another skip makes the run fail. The cell is started before the first test, in a folder that is kept if a test
failed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import suite_cell
from kazoo.testing import harness

EXPECTED_SKIPS = ("Kerberos support not available", "Only run build config tests on CI")
"""Reasons for which the baseline skips a test."""


class Server:
    """One replica, as the harness wants it."""

    def __init__(self, cell: Cell, index: int, address: str, secure: str) -> None:
        self._cell = cell
        self._index = index
        self.address = address
        self.secure_address = secure
        self.client_port = int(address.rpartition(":")[2])
        self.running = True

    def run(self) -> None:
        """Start it, if it was stopped; returns when it serves."""
        if not self.running:
            self._order("start")
            self.running = True

    def stop(self) -> None:
        """Stop it."""
        if self.running:
            self._order("stop")
            self.running = False

    def _order(self, verb: str) -> None:
        if suite_cell.order(self._cell.directory, verb, str(self._index)):
            raise RuntimeError(f"{verb} {self._index} failed: see {self._cell.directory}")


class Cell:
    """All of them. Each test finds them running."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.profile = "default"
        place = suite_cell.up(directory)
        self._tls = Path(place["SUITE_TLS_DIR"])
        pairs = zip(place["SUITE_HOSTS"].split(","), place["SUITE_SECURE_HOSTS"].split(","), strict=True)
        self._servers = [Server(self, index, *pair) for index, pair in enumerate(pairs)]

    def __iter__(self) -> Iterator[Server]:
        return iter(self._servers)

    def __getitem__(self, index: int) -> Server:
        return self._servers[index]

    def start(self) -> None:
        """Have every replica run."""
        for server in self._servers:
            server.run()

    terminate = stop = start  # kazoo throws servers away between its tests; these are kept

    def be(self, profile: str) -> None:
        """Have the cell run with that profile."""
        if profile != self.profile:
            if suite_cell.profile(self.directory, profile):
                pytest.skip(f"no profile {profile}")
            self.profile = profile

    def get_logs(self) -> list[str]:
        """What the replicas said is in their folders."""
        return [f"see {self.directory}"]

    def get_ssl_client_configuration(self) -> Mapping[str, bytes]:
        """Key and certificates of a client, as PEM."""
        files = {"client_key": "client.key", "client_cert": "client.crt", "ca_cert": "ca.pem"}
        return {name: (self._tls / file).read_bytes() for name, file in files.items()}


class KazooCell:
    """The plugin."""

    def __init__(self) -> None:
        self.cell: Cell | None = None
        self.failed = False
        self.unexpected: list[str] = []

    def wanted(self) -> Cell:
        """What the harness asks for, by the environment that the tests set."""
        if self.cell is None:
            self.cell = Cell(Path(tempfile.mkdtemp(prefix="quorate-kazoo-")))
        if os.environ.get("ZOOKEEPER_JAAS_AUTH"):
            self.cell.be("sasl-" + os.environ["ZOOKEEPER_JAAS_AUTH"])
        else:
            self.cell.be("local-ro" if os.environ.get("ZOOKEEPER_LOCAL_SESSION_RO") == "true" else "default")
        return self.cell

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note what does not go as it does against the original."""
        if report.failed:
            self.failed = True
        elif report.skipped and not any(reason in str(report.longrepr) for reason in EXPECTED_SKIPS):
            self.unexpected.append(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say so."""
        for test in self.unexpected:
            terminalreporter.write_line(f"SKIPPED UNEXPECTEDLY {test}")

    def pytest_sessionfinish(self, session: Any) -> None:
        """A skip that the baseline has not is a failure. Stop the cell."""
        if self.unexpected:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.cell is not None:
            suite_cell.down(self.cell.directory)
            if not self.failed:
                shutil.rmtree(self.cell.directory)


def pytest_configure(config: pytest.Config) -> None:
    """Take the place of kazoo's cluster."""
    os.environ.pop("CI", None)
    plugin = KazooCell()
    config.pluginmanager.register(plugin, "kazoo-cell")
    harness.get_global_cluster = plugin.wanted
