"""A network of its own for each replica, on Linux, for who may make namespaces: root, or anybody where users may be
root of a namespace.

The campaign's process first moves into a fresh network namespace (:func:`enter`), so that nothing outside is touched.
There it holds one end of a bridge, with the clients; each replica sits in a further namespace with the other end of a
cable. A direction is cut by teaching one side a wrong hardware address for the other: its packets then leave and arrive
nowhere, silently, as in a broken switch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Final

_INSIDE: Final = "QUORATE_CAMPAIGN_INSIDE"
_LOST: Final = ("lladdr", "02:00:00:00:00:fe", "nud", "permanent", "dev", "eth0")
_SUBNET: Final = "10.77.0"


def missing() -> str:
    """Why there can be no namespaces here; nothing if there can."""
    for tool in ("ip", "unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    probe = [*_unshare(), "ip", "link", "add", "name", "probe", "type", "bridge"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        return "this user may not make network namespaces with a bridge"
    return ""


def _unshare() -> list[str]:
    return ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]


def enter() -> None:
    """Go on in a fresh network namespace: runs this program again, unless it is there already."""
    if os.environ.get(_INSIDE):
        return
    os.environ[_INSIDE] = "yes"
    words = [*_unshare(), sys.executable, *sys.argv]
    os.execvp(words[0], words)


class Network:
    """`size` namespaces on one bridge. `hosts`: their addresses."""

    def __init__(self, size: int) -> None:
        self.hosts = [f"{_SUBNET}.{index + 1}" for index in range(size)]
        self._cut: set[tuple[int, int]] = set()
        self._holders: list[subprocess.Popen[bytes]] = []
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", "name", "campaign", "type", "bridge")
        _run("ip", "addr", "add", f"{_SUBNET}.254/24", "dev", "campaign")
        _run("ip", "link", "set", "campaign", "up")
        for index, host in enumerate(self.hosts):
            words = ["unshare", "-n", "sh", "-c", "echo; exec cat"]  # which ends when this process does
            holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._holders.append(holder)
            assert holder.stdout is not None
            holder.stdout.readline()  # it is in its namespace
            near = f"port{index}"
            _run("ip", "link", "add", "name", near, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
            _run("ip", "link", "set", near, "master", "campaign", "up")
            self._inside(index, "ip", "link", "set", "lo", "up")
            self._inside(index, "ip", "addr", "add", f"{host}/24", "dev", "eth0")
            self._inside(index, "ip", "link", "set", "eth0", "up")

    def prefix(self, index: int) -> list[str]:
        """What to put before a command that runs at that replica's place."""
        return ["nsenter", "-t", str(self._holders[index].pid), "-n"]

    def cut(self, pairs: Iterable[tuple[int, int]]) -> None:
        """From now on nothing gets from the first of each pair to the second."""
        for one, other in set(pairs) - self._cut:
            self._inside(one, "ip", "neigh", "replace", self.hosts[other], *_LOST)
            self._cut.add((one, other))

    def heal(self) -> None:
        """Everybody reaches everybody."""
        for one, other in sorted(self._cut):
            self._inside(one, "ip", "neigh", "del", self.hosts[other], "dev", "eth0")
        self._cut.clear()

    def close(self) -> None:
        """Take it down."""
        for holder in self._holders:
            with holder:
                holder.kill()
        _run("ip", "link", "del", "campaign")

    def _inside(self, index: int, *words: str) -> None:
        _run(*self.prefix(index), *words)


@contextlib.contextmanager
def network(size: int) -> Iterator[Network]:
    """A network for the length of the block."""
    made = Network(size)
    try:
        yield made
    finally:
        made.close()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
