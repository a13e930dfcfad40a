"""A cell for other people's test suites, and the command by which they control it.

    python suite_cell.py DIR up                  start it in the background; prints its ports as shell variables
    python suite_cell.py DIR stop N | start N    N counts from 0; start returns when the replica serves again
    python suite_cell.py DIR profile NAME        default, local-ro (sessions are local) or sasl-digest
    python suite_cell.py DIR down

It is set like the servers that the suites were written against: every word answered, reconfiguration and nodes with a
time to live allowed, a super user, SASL users, TLS on second ports with certificates made for the occasion. Exit status
3: cannot.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from quorate.kernel.cli.local import free_base

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "znodes"))
from znodes_certificates import make_certificates

REPLICAS = 3
CANNOT = 3
QUORATE = [sys.executable, "-P", "-m", "quorate.kernel.cli"]
PROFILES = {"default": "false", "sasl-digest": "false", "local-ro": "true"}
"""Whether sessions are local; the rest is the same in all of them."""
OPTIONS = {
    "tick": "2000",
    "words": "*",
    "reconfig": "true",
    "extended-types": "true",
    "read-only": "true",
    "super": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",  # super:test
    "sasl.super": "super_secret",
    "sasl.jaasuser": "jaas_password",
}


def up(directory: Path) -> dict[str, str]:
    """Start it; returns where it is, by the names that the suites' runners use."""
    directory.mkdir(parents=True, exist_ok=True)
    tls = directory / "tls"
    make_certificates(tls)
    base = free_base(REPLICAS)  # a multiple of ten, with forty ports to itself
    secure = {
        "secure": f"tcp:{(base + 30) // 10}{{index}}",
        "certificate": str(tls / "server.crt"),
        "key": str(tls / "server.key"),
        "authority": str(tls / "ca.pem"),
    }
    _run(directory, "--port", str(base), *_words({**OPTIONS, **secure}))
    ports = [f"127.0.0.1:{base + index}" for index in range(REPLICAS)]
    secured = [f"127.0.0.1:{base + 30 + index}" for index in range(REPLICAS)]
    return {"SUITE_HOSTS": ",".join(ports), "SUITE_SECURE_HOSTS": ",".join(secured), "SUITE_TLS_DIR": str(tls)}


def down(directory: Path) -> None:
    """Stop it and wait until it is gone."""
    running = json.loads((directory / "cell" / "cell.json").read_text())["running"]
    if running is None:
        return
    os.kill(running["pid"], signal.SIGTERM)
    while json.loads((directory / "cell" / "cell.json").read_text())["running"] is not None:
        time.sleep(0.05)


def order(directory: Path, verb: str, index: str) -> int:
    """``quorate cell stop`` and ``start``."""
    return subprocess.run([*QUORATE, "cell", verb, index, "--dir", str(directory / "cell")], check=False).returncode


def profile(directory: Path, name: str) -> int:
    """Have the cell run with that profile: it is restarted if it does not."""
    local = PROFILES.get(name)
    if local is None:
        return CANNOT
    said = json.loads((directory / "cell" / "cell.json").read_text())["options"]
    now = dict(each.split("=", 1) for each in said).get("zookeeper.local-sessions", "false")
    if now != local:
        down(directory)
        _run(directory, *_words({"local-sessions": local}))
    return 0


def _words(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("--option", f"zookeeper.{name}={value}")]


def _run(directory: Path, *words: str) -> None:
    """``quorate cell run`` in the background, until it serves."""
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(
            [*QUORATE, "cell", "run", "--json", "--dir", str(directory / "cell"), *words],
            stdout=subprocess.PIPE,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    assert process.stdout is not None
    if not process.stdout.readline():
        raise SystemExit(f"the cell does not start: {(directory / 'log').read_text()}")


def main(words: list[str]) -> int:
    """Do what the command line says."""
    match words:
        case [directory, "up"]:
            for name, value in up(Path(directory)).items():
                sys.stdout.write(f"export {name}={value}\n")
            return 0
        case [directory, "down"]:
            down(Path(directory))
            return 0
        case [directory, "stop" | "start" as verb, index]:
            return order(Path(directory), verb, index)
        case [directory, "profile", name]:
            return profile(Path(directory), name)
    sys.stderr.write(__doc__ or "")
    return CANNOT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
