"""Disks that fail on order: the test's side of ``disk_shim.c``, which is compiled here and preloaded into replicas."""

from __future__ import annotations

import enum
import functools
import mmap
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).with_name("disk_shim.c")
_ORDERS: Final = struct.Struct("=7i")


class Rule(enum.IntEnum):
    """What happens, in the words of ``disk_shim.c``."""

    NOTHING = 0
    DIE_BEFORE_SYNC = 1
    DIE_AFTER_SYNC = 2
    FAIL_SYNC = 3
    FAIL_SYNC_LATE = 4
    """The sync is begun and its end brings the error."""
    SLOW_SYNC = 5
    FAIL_WRITE = 6
    TORN_WRITE = 7
    """Half of the bytes are written, then the process dies."""
    NO_ROOM = 8
    """What needs more room than the file has fails, as on a full disk; what fits into it goes on."""


@functools.cache
def library() -> Path | None:
    """The compiled shim; None where there is no C compiler, or it cannot make a library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = Path(tempfile.mkdtemp(prefix="quorate-shim-")) / "disk_shim.so"
    command = [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", str(made), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the shim does not compile:\n{done.stderr}")
    return made


class Disk:
    """Orders for the disk of one replica, whose files lie under `directory`; they hold until the next ones."""

    def __init__(self, orders: Path, directory: Path) -> None:
        orders.write_bytes(bytes(_ORDERS.size))
        self._path = orders
        self._directory = directory
        with orders.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _ORDERS.size)

    def environment(self) -> dict[str, str]:
        """What the replica's process must be started with; nothing where there is no shim."""
        made = library()
        if made is None:
            return {}
        return {"LD_PRELOAD": str(made), "SHIM_ORDERS": str(self._path), "SHIM_UNDER": f"{self._directory}/"}

    def order(
        self, rule: Rule, value: int = 0, *, left: int = 1, forever: bool = False, children: bool = False
    ) -> None:
        """From now on: strike at the `left`-th matching call."""
        _, _, _, _, _, _, syncs = _ORDERS.unpack(self._map)
        self._map[:4] = struct.pack("=i", Rule.NOTHING)
        rest = _ORDERS.pack(rule, children, left, forever, value, 0, syncs)
        self._map[4:24] = rest[4:24]
        self._map[:4] = rest[:4]

    def clear(self) -> None:
        """No more faults."""
        self.order(Rule.NOTHING)

    @property
    def struck(self) -> int:
        """How often the last order struck."""
        return int(_ORDERS.unpack(self._map)[5])

    @property
    def syncs(self) -> int:
        """How many syncs the replica has begun."""
        return int(_ORDERS.unpack(self._map)[6])
