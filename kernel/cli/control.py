"""Orders to a running ``quorate cell run``: one line of JSON over a unix socket, one line back.

Blocking, for the commands that give orders. Who takes them is :mod:`.supervisor`.
"""

from __future__ import annotations

import enum
import json
import socket
from pathlib import Path

from . import local
from .command import Complaint


class Order(enum.StrEnum):
    """What one can have done to one replica."""

    STOP = "stop"
    START = "start"
    KILL = "kill"
    PAUSE = "pause"
    RESUME = "resume"


def give(directory: Path, order: Order, index: int, timeout: float) -> str:
    """Have the order carried out; returns what was done, in words. A Complaint if it was not."""
    known = local.load(directory)
    if known is None:
        raise Complaint(f"there is no cell in {directory}", "start one with `quorate cell run --dir`")
    cell, running = known
    if not 0 <= index < cell.replicas:
        raise Complaint(f"replica {index}: this cell has {cell.replicas}, counted from 0", "see `quorate status`")
    if running is None:
        raise _not_running(directory)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(timeout)
        try:
            link.connect(running.control)
            link.sendall(json.dumps({"order": order, "index": index}).encode() + b"\n")
            with link.makefile("rb") as lines:
                line = lines.readline()
        except TimeoutError:
            raise Complaint(
                f"{order} {index}: not done within {timeout:g} s",
                f"read {local.replica_directory(directory, index) / 'log'}; --timeout waits longer",
            ) from None
        except OSError:
            raise _not_running(directory) from None
    if not line:
        raise Complaint(f"{order} {index}: the cell was stopped meanwhile", "start it with `quorate cell run --dir`")
    answer = json.loads(line)
    if "wrong" in answer:
        raise Complaint(answer["wrong"], answer["advice"])
    return str(answer["done"])


def _not_running(directory: Path) -> Complaint:
    return Complaint(f"the cell in {directory} is not running", f"start it with `quorate cell run --dir {directory}`")
