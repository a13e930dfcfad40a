"""A cell on this machine: where its replicas listen and keep their files, and what is remembered between runs.

Replica `i` of a local cell is member ``i + 1``. With base port B it serves ZooKeeper clients on ``B + i``, its peers on
``B + 10 + i`` and native clients on ``B + 20 + i``, all on 127.0.0.1.

Knows files and ports; starts no process.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, NamedTuple

from .command import Complaint, Exit

REPLICAS_MAX: Final = 9
BASE_MAX: Final = 65_500
MACHINES: Final = ("znodes", "locks", "counters")
"""What a fresh local cell loads unless told otherwise."""

_HOST: Final = "127.0.0.1"
_PEERS: Final = 10
_CLIENTS: Final = 20
_FILE: Final = "cell.json"
_LOCK: Final = "cell.lock"


class LocalCell(NamedTuple):
    """What is the same in every run of a local cell."""

    cell: str
    replicas: int
    port: int
    machines: tuple[str, ...] = MACHINES
    allow: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    """Folders from which the replicas may import allowed machines."""
    options: tuple[str, ...] = ()
    """How the doors behave, as FACE.OPTION=VALUE."""
    served: bool = False
    """Whether it ever served, with every replica and its machines loaded."""

    def zookeeper(self, index: int) -> str:
        """Where replica `index` serves ZooKeeper clients, as host:port."""
        return f"{_HOST}:{self.port + index}"

    def peer(self, index: int) -> str:
        """The endpoint at which its peers find replica `index`."""
        return f"tcp:{_HOST}:{self.port + _PEERS + index}"

    def client(self, index: int) -> str:
        """The endpoint at which native clients find replica `index`."""
        return f"tcp:{_HOST}:{self.port + _CLIENTS + index}"

    def ports(self, index: int) -> list[int]:
        """The ports that replica `index` listens on."""
        return [self.port + offset + index for offset in (0, _PEERS, _CLIENTS)]

    @property
    def may_miss(self) -> int:
        """How many replicas a run may begin without: as many as leave a majority, but none before the cell has served,
        because machines are loaded once every replica has told that it has their code."""
        return (self.replicas - 1) // 2 if self.served else 0


class Running(NamedTuple):
    """Who supervises a cell now: its process and the unix socket on which it takes orders."""

    pid: int
    control: str


def replica_directory(directory: Path, index: int) -> Path:
    """Where replica `index` of the cell in `directory` keeps everything of its own."""
    return directory / f"replica-{index}"


def check_replicas(count: int) -> int:
    """`count`, or a Complaint if a local cell cannot have so many."""
    if not 1 <= count <= REPLICAS_MAX:
        raise Complaint(f"{count} replicas", f"a local cell has 1 to {REPLICAS_MAX}; 3 or 5 are usual", Exit.REFUSED)
    return count


def check_port(base: int) -> int:
    """`base`, or a Complaint if a cell cannot have its ports from there on."""
    if not 0 < base <= BASE_MAX:
        raise Complaint(f"--port {base}", f"give a base port between 1 and {BASE_MAX}", Exit.REFUSED)
    return base


def check_machines(names: Sequence[str], allow: Sequence[str]) -> tuple[str, ...]:
    """`names`, or a Complaint if one of them is neither installed here nor allowed."""
    installed = sorted({each.name for each in entry_points(group="quorate.plugins")})
    missing = [name for name in names if name not in installed and name not in allow]
    if missing:
        raise Complaint(
            f"no machine called {' or '.join(missing)} is installed; there are: {', '.join(installed)}",
            "install the distribution that brings it, or write MODULE:CLASS and --allow it",
            Exit.REFUSED,
        )
    return tuple(names)


def front_options(given: Sequence[str], index: int) -> dict[str, dict[str, str]]:
    """Face -> option -> value out of FACE.OPTION=VALUE; ``{index}`` in a value stands for the replica's number. What
    stands later holds. A Complaint if one is not written so."""
    found: dict[str, dict[str, str]] = {}
    for each in given:
        name, equals, value = each.partition("=")
        face, dot, option = name.partition(".")
        if not (face and dot and option and equals):
            raise Complaint(f"--option {each}", "write FACE.OPTION=VALUE, such as zookeeper.tick=500", Exit.REFUSED)
        found.setdefault(face, {})[option] = value.replace("{index}", str(index))
    return found


def merged_options(before: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    """What a cell was told of its doors `before`, with what is `given` now in place of the same options."""
    return tuple({each.partition("=")[0]: each for each in (*before, *given)}.values())


def free_base(replicas: int) -> int:
    """A base port with every port of a cell of `replicas` free now, below the range of outgoing connections."""
    for _ in range(200):
        base = random.randrange(20_000, 32_000, 40)
        if not busy_ports(LocalCell("", replicas, base)):
            return base
    raise Complaint("no free range of ports between 20000 and 32000", "stop something, or give --port BASE")


def busy_ports(cell: LocalCell) -> dict[int, list[int]]:
    """The ports of `cell` that somebody else listens on, by the replica that needs them."""
    busy = {index: [port for port in cell.ports(index) if _is_busy(port)] for index in range(cell.replicas)}
    return {index: ports for index, ports in busy.items() if ports}


def _is_busy(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return True
    return False


def load(directory: Path) -> tuple[LocalCell, Running | None] | None:
    """What `directory` remembers, None if no cell was ever started there."""
    path = directory / _FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Complaint(f"{path} cannot be read: {error.strerror}", "name the folder of a cell of yours") from None
    try:
        known = json.loads(text)
        lists = {each: tuple(known.get(each, ())) for each in ("machines", "allow", "path", "options")}
        running = known["running"]
        return (
            LocalCell(known["cell"], known["replicas"], known["port"], **lists, served=known.get("served", True)),
            Running(running["pid"], running["control"]) if running else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Complaint(
            f"{path} cannot be read: {error!r}", "it is written by `quorate cell run`; restore it"
        ) from None


def save(directory: Path, cell: LocalCell, running: Running | None) -> None:
    """Remember `cell`, in one step."""
    known = {**cell._asdict(), "running": running._asdict() if running else None}
    fresh = directory / (_FILE + ".new")
    try:
        fresh.write_text(json.dumps(known, indent=2) + "\n")
        fresh.replace(directory / _FILE)
    except OSError as error:
        raise Complaint(f"{fresh} cannot be written: {error.strerror}", "see that there is room on the disk") from None


def remove_control(path: str) -> None:
    """Remove a control socket and the folder that was made for it, as far as they are there."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Be the only one who runs the cell in `directory`; the kernel frees it whatever way this process ends."""
    path = directory / _LOCK
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Complaint(f"{path} cannot be made: {error.strerror}", "give a --dir that you may write to") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Complaint(
                f"the cell in {directory} is running already",
                "stop that `quorate cell run` first, or give another --dir",
            ) from None
        yield
    finally:
        os.close(lock)
