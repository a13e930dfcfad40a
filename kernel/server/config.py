"""What a replica is told before it starts: who it is, where it listens, who founded the cell with it.

A configuration file is TOML::

    cell = "main"                   # the same on every replica, for ever
    member = 1                      # this replica's id, never given to a second disk
    directory = "/var/lib/quorate"  # relative paths count from the file
    machines = ["znodes", "locks"]  # loaded when the cell is new; later: `quorate plugin load`
    allow = ["shop.machine:Stock"]  # classes that may be loaded besides the installed ones

    [listen]                        # the interface is 127.0.0.1 unless said
    peer = "tcp:7410:interface=10.0.0.1"
    client = "tcp:7420:interface=10.0.0.1"
    zookeeper = "tcp:2181:interface=10.0.0.1"

    [members.1]                     # the founders, the same on every replica; where others find them
    peer = "tcp:10.0.0.1:7410"
    client = "tcp:10.0.0.1:7420"
    zookeeper = "tcp:10.0.0.1:2181"

    [timing]                        # optional; lease_ms, heartbeat_ms and drift_percent the same on every replica
    lease_ms = 400

    [limits]                        # optional

    [options.zookeeper]             # optional; what the front behind that door reads
    tick = 2000
    words = ["ruok", "srvr"]        # the same as "ruok,srvr"
    sasl.alice = "her password"     # and as a table [options.zookeeper.sasl]

Nothing has to be initialized: replicas that start on empty directories with the same cell name and the same founders
found the same cell, because its 16-byte id is a digest of just these. Once founded, the id on the disk counts.

Reads one file; opens nothing else.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from ..node_options import Options as NodeOptions
from ..paxos import replica
from ..paxos.ballot import MemberId, Slot
from ..paxos.quorum import Configuration, Member, Role
from ..wire.formats import FRAME_BYTES_MAX
from .endpoints import BadEndpoint, calling, listening

CLIENT: Final = "client"
"""The name of the native protocol's door."""

BATCH_MAX: Final = FRAME_BYTES_MAX // 2
"""A batch must fit into one frame between peers, with room for the last command that it takes."""


class BadConfiguration(ValueError):
    """The configuration says too little, too much or nonsense; the words name the place."""


class Founder(NamedTuple):
    """A founding member as others see it. `peer` and the `doors` (face -> endpoint) are clients' endpoint strings."""

    id: int
    peer: str
    doors: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds. Lease, heartbeat and drift must be the same on every replica of the cell."""

    lease_ms: int = 400
    heartbeat_ms: int = 50
    drift_percent: int = 2
    campaign_spread_ms: int = 100
    session_timeout_ms_min: int = 500
    session_timeout_ms_max: int = 120_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes unless the name says otherwise. However large `clients_max` is, clients never get the last 64
    files that the process may have open, and those without a session are sent away when they idle."""

    batch: int = 1 << 20
    window_slots: int = 8
    backlog: int = 8 << 20
    snapshot_log: int = 10 << 20
    snapshot_slots: int = 200_000
    retained_log: int = 6 << 20
    peer_queue: int = 64 << 20
    client_output: int = 16 << 20
    clients_max: int = 10_000
    requests_in_flight_max: int = 512


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """One replica. `peer`, `client` and the `doors` (face -> endpoint) are what it listens on; `options` (face -> name
    -> value) are for the fronts behind the doors, which alone know what they mean."""

    cell: str
    member: int
    directory: Path
    peer: str
    client: str
    founders: tuple[Founder, ...]
    doors: Mapping[str, str] = field(default_factory=dict)
    machines: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    timing: Timing = field(default_factory=Timing)
    limits: Limits = field(default_factory=Limits)
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cell:
            raise BadConfiguration("the cell has no name")
        if not 0 < self.member < 1 << 16:
            raise BadConfiguration(f"member {self.member}: an id is between 1 and 65535")
        if not self.founders:
            raise BadConfiguration("no founding members are named")
        ids = [founder.id for founder in self.founders]
        if len(set(ids)) < len(ids) or not all(0 < each < 1 << 16 for each in ids):
            raise BadConfiguration(f"the founders' ids {ids}: different ones between 1 and 65535 are needed")
        if self.timing.lease_ms < 4 * self.timing.heartbeat_ms:
            raise BadConfiguration("timing: lease_ms must be at least four times heartbeat_ms")
        if self.timing.drift_percent >= 100:
            raise BadConfiguration("timing: drift_percent must be below 100, or nothing of a lease is left to count on")
        if self.limits.batch > BATCH_MAX:
            raise BadConfiguration(f"limits: batch must be at most {BATCH_MAX}, or peers would refuse the largest ones")
        closed = sorted(self.options.keys() - self.doors.keys())
        if closed:
            raise BadConfiguration(f"options for {', '.join(closed)}, where no door is: [listen] names none so")
        try:
            for endpoint in (self.peer, self.client, *self.doors.values()):
                listening(endpoint)
            for founder in self.founders:
                for endpoint in (founder.peer, *dict(founder.doors).values()):
                    calling(endpoint)
        except BadEndpoint as error:
            raise BadConfiguration(str(error)) from None

    @classmethod
    def from_toml(cls, path: Path) -> ReplicaConfig:
        """Read a configuration file. Raises BadConfiguration, OSError."""
        try:
            said = tomllib.loads(path.read_text("utf-8"))  # whatever this computer's language: it makes the cell's id
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadConfiguration(f"{path} is no TOML: {error}") from None
        try:
            return _from_mapping(said, path.parent)
        except BadConfiguration as error:
            raise BadConfiguration(f"{path}: {error}") from None

    @property
    def cell_id(self) -> bytes:
        """The 16 bytes by which replicas and clients tell this cell from every other."""
        words = [self.cell, *(f"{founder.id} {founder.peer}" for founder in sorted(self.founders))]
        return hashlib.sha256("\n".join(("quorate cell", *words)).encode()).digest()[:16]

    @property
    def founding(self) -> Configuration:
        """The configuration the cell begins with."""
        members = (
            Member(MemberId(founder.id), Role.VOTER, founder.peer, founder.doors) for founder in sorted(self.founders)
        )
        return Configuration(Slot(0), tuple(members))

    def paxos_options(self) -> replica.Options:
        """The times and sizes of the consensus core."""
        timing, limits = self.timing, self.limits
        on_its_way = limits.window_slots * limits.batch  # also in a cell that is well
        return replica.Options(
            lease=timing.lease_ms * 1000,
            heartbeat=timing.heartbeat_ms * 1000,
            drift_ppm=timing.drift_percent * 10_000,
            campaign_spread=timing.campaign_spread_ms * 1000,
            window=limits.window_slots,
            retained=limits.retained_log,
            unwritten=max(replica.Options().unwritten, 2 * on_its_way),
        )

    def node_options(self) -> NodeOptions:
        """The sizes of the node."""
        limits = self.limits
        later = 100 + 10 * (self.member % 5)  # percent; so that not all replicas take their snapshots at one moment
        return NodeOptions(
            batch=limits.batch,
            backlog=limits.backlog,
            snapshot_bytes=limits.snapshot_log * later // 100,
            snapshot_growth=later,
            snapshot_slots=limits.snapshot_slots * later // 100,
        )


# ---------------------------------------------------------------- reading

_KNOWN: Final = frozenset(
    ("cell", "member", "directory", "machines", "allow", "listen", "members", "timing", "limits", "options")
)
_T = TypeVar("_T")


def _from_mapping(said: Mapping[str, Any], base: Path) -> ReplicaConfig:
    _only(said, _KNOWN, "the file")
    listen = _take(said, "listen", dict, "the file")
    founders = []
    for name, each in _take(said, "members", dict, "the file").items():
        where = f"[members.{name}]"
        if not name.isdigit() or not isinstance(each, dict):
            raise BadConfiguration(f"{where}: write [members.ID] with a number")
        doors = tuple(sorted((face, _take(each, face, str, where)) for face in each if face != "peer"))
        founders.append(Founder(int(name), _take(each, "peer", str, where), doors))
    return ReplicaConfig(
        cell=_take(said, "cell", str, "the file"),
        member=_take(said, "member", int, "the file"),
        directory=base / _take(said, "directory", str, "the file"),
        peer=_take(listen, "peer", str, "[listen]"),
        client=_take(listen, CLIENT, str, "[listen]"),
        founders=tuple(founders),
        doors={face: _take(listen, face, str, "[listen]") for face in listen if face not in ("peer", CLIENT)},
        options={face: dict(_options(each, f"[options.{face}]")) for face, each in _tables(said).items()},
        machines=_names(said, "machines"),
        allow=_names(said, "allow"),
        timing=_numbers(Timing, said.get("timing", {}), "[timing]"),
        limits=_numbers(Limits, said.get("limits", {}), "[limits]"),
    )


def _take(said: Mapping[str, Any], name: str, kind: type[_T], where: str) -> _T:
    if name not in said:
        raise BadConfiguration(f"{where} does not say {name!r}")
    value = said[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadConfiguration(f"{where}: {name} = {value!r} is no {kind.__name__}")
    return value


def _names(said: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = said.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadConfiguration(f"{name} = {value!r} is no list of strings")
    return tuple(value)


def _tables(said: Mapping[str, Any]) -> Mapping[str, Any]:
    tables = said.get("options", {})
    if not isinstance(tables, dict):
        raise BadConfiguration(f"options = {tables!r} is no table of tables")
    return tables


def _options(said: Any, where: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The options of a front, as text: a list is joined with commas, a table gives names with dots."""
    if not isinstance(said, dict):
        raise BadConfiguration(f"{where} is no table")
    for name, value in said.items():
        match value:
            case bool():
                yield prefix + name, str(value).lower()
            case str() | int():
                yield prefix + name, str(value)
            case list() if all(isinstance(each, str) for each in value):
                yield prefix + name, ",".join(value)
            case dict():
                yield from _options(value, where, f"{prefix}{name}.")
            case _:
                raise BadConfiguration(f"{where}: {prefix}{name} = {value!r} is no text, number, truth or list")


def _numbers(made: type[_T], said: Any, where: str) -> _T:
    if not isinstance(said, dict):
        raise BadConfiguration(f"{where} is no table")
    _only(said, frozenset(each.name for each in fields(made)), where)  # type: ignore[arg-type]
    for name in said:
        if _take(said, name, int, where) <= 0:
            raise BadConfiguration(f"{where}: {name} must be above 0")
    return made(**said)


def _only(said: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(said.keys() - known)
    if unknown:
        listed = ", ".join(sorted(known))
        raise BadConfiguration(f"{where} says {', '.join(unknown)}, which nobody reads; known: {listed}")
