"""What this replica has seen of its peers' disks: the memory by which a swapped or rolled-back disk is found out.

A replica that lost part of what it promised or accepted must never vote again under its id (Michael et al., "Recovering
Shared Objects Without Stable Storage", DISC 2017, section 6: even learning one whole instance first does not make it
safe). A wiped disk has another identity than the one with which the member introduced itself to the cell
(:mod:`..system.membership`) or, before that, to this replica. An older copy of a disk cannot tell by itself that it is
one, but its peers can: they remember the last run, the highest promise and the highest vote that each disk has shown,
and refuse one that shows less.

The memory is written to a small file when a peer begins a new run or promises a higher ballot, which is seldom; the
votes in between are remembered while this process lives. The file carries a checksum: a flipped bit must not condemn
the whole disk of somebody else. It is no more than a help, so a memory that is damaged or cannot be written stops
nobody. Knows files; does not know connections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, NamedTuple

from twisted.logger import Logger

from ..paxos.ballot import NO_BALLOT, Ballot
from ..paxos.messages import Accepted, Promise
from ..storage import layout
from ..storage.errors import REPLACE, Malformed
from ..wire import plain
from ..wire.formats import Greeting, Refusing, TurnedAway

_NAME: Final = "witness"
_MAGIC: Final = b"QRTwit\r\n"
_SIZE_MAX: Final = 1 << 20


class Seen(NamedTuple):
    """The most that a member's disk has shown."""

    disk: bytes
    incarnation: int
    run: bytes
    promised: Ballot
    slot: int


class Witness:
    """Remembers in `directory` what peers have shown. Raises NewerFormat, and OSError if the file cannot be read."""

    _log = Logger()

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME
        self._seen: dict[int, Seen] = {}
        self._slots: dict[int, int] = {}  # the highest slot heard of, which changes with every vote
        try:
            rows: Any = plain.decode(layout.unstamp(_MAGIC, self._path.read_bytes(), str(self._path)), _SIZE_MAX)
            for member, disk, incarnation, run, round_, of, slot in rows:
                self._seen[member] = Seen(disk, incarnation, run, Ballot(round_, of), slot)
        except FileNotFoundError:
            pass
        except (Malformed, ValueError, TypeError) as error:
            self._log.warn("{path} is unreadable; peers' disks are learned anew: {error}", path=self._path, error=error)

    def judge(self, greeting: Greeting, disk: bytes | None) -> TurnedAway | None:
        """Whether the caller may be who it says; None if so, and then it is remembered. `disk` is the one with which it
        has introduced itself to the cell, if it has."""
        seen = self._seen.get(greeting.member)
        if seen is not None:
            seen = seen._replace(slot=max(seen.slot, self._slots.get(greeting.member, 0)))
        for known in (disk, seen and seen.disk):
            if known not in (None, greeting.disk):
                return TurnedAway(
                    Refusing.DISK,
                    f"member {greeting.member} is known with the disk {known.hex()} and shows {greeting.disk.hex()}: "
                    f"what it promised is lost; put the right disk back, or {REPLACE}",
                )
        if seen is None:
            seen = Seen(greeting.disk, 0, b"", NO_BALLOT, 0)
        elif greeting.run != seen.run and (
            greeting.incarnation <= seen.incarnation or greeting.promised < seen.promised or greeting.slot < seen.slot
        ):
            return TurnedAway(
                Refusing.ROLLED_BACK,
                f"the disk of member {greeting.member} has shown run {seen.incarnation}, ballot {seen.promised} and "
                f"slot {seen.slot} before, and now run {greeting.incarnation}, ballot {greeting.promised} and slot "
                f"{greeting.slot}: it is an old copy; {REPLACE}",
            )
        if greeting.run != seen.run:
            promised, slot = max(greeting.promised, seen.promised), max(greeting.slot, seen.slot)
            self._seen[greeting.member] = Seen(greeting.disk, greeting.incarnation, greeting.run, promised, slot)
            self.write()
        return None

    def hear(self, member: int, message: Promise | Accepted) -> None:
        """A member said something that it had to make durable before."""
        if isinstance(message, Accepted) and message.last > self._slots.get(member, 0):
            self._slots[member] = message.last
        seen = self._seen.get(member)
        if seen is not None and message.ballot > seen.promised:
            self._seen[member] = seen._replace(promised=message.ballot)
            self.write()

    def write(self) -> None:
        """Put the memory on the disk, as far as that goes without waiting for it and while there is room."""
        for member, slot in self._slots.items():
            if member in self._seen:
                self._seen[member] = self._seen[member]._replace(slot=max(slot, self._seen[member].slot))
        rows = [(member, *seen[:3], *seen.promised, seen.slot) for member, seen in sorted(self._seen.items())]
        fresh = self._path.with_suffix(".new")
        try:
            fresh.write_bytes(layout.stamp(_MAGIC, plain.encode(rows)))
            fresh.replace(self._path)
        except OSError as error:
            self._log.error("{path} cannot be written: {error}", path=self._path, error=error)
