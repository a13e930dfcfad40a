"""What one replica's front can say of itself, as plain values: for the four-letter words and the page of the
administrator.

Names and meanings are those of ZooKeeper 3.8's ServerStats, ZooKeeperServer.dumpMonitorValues and Commands, as far
as there is such a thing here."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from ... import kernel
from . import quotas
from .wire import host

if TYPE_CHECKING:
    from .connection import Connection
    from .front import ZooKeeperFront
    from .tree import Tree

Values: TypeAlias = "dict[str, int | float | str]"

SAMPLE: Final = 10_000
"""Paths that are looked at to tell how long all are."""
_COMPATIBLE: Final = "3.8.0"
"""The release whose behavior this is; clients and monitors compare it."""

_PEER_STATES: Final = {
    "leader": "leading - broadcast",
    "follower": "following - broadcast",
    "observer": "observing - broadcast",
    "read-only": "looking",
}


def version() -> str:
    """The version line. When it was built is when it was installed here."""
    built = datetime.fromtimestamp(os.stat(kernel.__file__).st_mtime, UTC)
    return f"{_COMPATIBLE}-quorate-{kernel.__version__}, built on {built:%Y-%m-%d %H:%M} UTC"


def mode(front: ZooKeeperFront) -> str:
    """What this replica is in its cell."""
    if front.reads_only:
        return "read-only"
    if standalone(front):
        return "standalone"
    if front.replica.leading():
        return "leader"
    return "follower" if front.replica.origin.member in front.replica.configuration().voters() else "observer"


def standalone(front: ZooKeeperFront) -> bool:
    """Whether this replica is its cell's only member, which ZooKeeper calls standalone."""
    return len(front.replica.members()) <= 1


def received(front: ZooKeeperFront) -> int:
    """Requests taken since the last reset."""
    return front.counters.received + sum(each.received_count for each in front.connections.values())


def sent(front: ZooKeeperFront) -> int:
    """Replies and notifications sent since the last reset."""
    return front.counters.sent + sum(each.sent_count for each in front.connections.values())


def latency_ms(front: ZooKeeperFront) -> tuple[int, float, int]:
    """Least, mean and greatest time from a request to its answer; reads are answered in the turn they come in and
    count as 0."""
    counters = front.counters
    answered = received(front)
    mean = counters.latency_sum / answered * 1000 if answered else 0.0
    least = 0.0 if answered > counters.timed else counters.latency_min
    return int(least * 1000), round(mean, 4), int(counters.latency_max * 1000)


def outstanding(front: ZooKeeperFront) -> int:
    """Requests that have not been answered yet."""
    return sum(each.in_flight for each in front.connections.values())


def uptime_ms(front: ZooKeeperFront) -> int:
    """How long the face has been open."""
    return int((front.reactor.seconds() - front.started) * 1000)


def reset_server(front: ZooKeeperFront) -> None:
    """Count anew what the server did; of its connections it is still known."""
    counters = front.counters
    counters.reset()
    for each in front.connections.values():
        counters.received -= each.received_count
        counters.sent -= each.sent_count


def reset_connections(front: ZooKeeperFront) -> None:
    """Count the connections' requests anew; of the server it is still known."""
    for each in front.connections.values():
        front.counters.received += each.sent_count - each.told_count
        front.counters.sent += each.sent_count
        each.sent_count = each.told_count = 0


def size_on_disk(front: ZooKeeperFront) -> int:
    """Bytes of this replica's files."""
    directory = str(front.replica.facts().get("directory", ""))
    return sum(each.stat().st_size for each in Path(directory).rglob("*") if each.is_file()) if directory else 0


def environment() -> Values:
    """Where this process runs."""
    return {
        "zookeeper.version": version(),
        "host.name": platform.node(),
        "python.version": platform.python_version(),
        "python.implementation": platform.python_implementation(),
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "os.version": platform.release(),
        "user.name": os.environ.get("USER", str(os.getuid())),
        "user.home": os.path.expanduser("~"),
        "user.dir": os.getcwd(),
    }


def configuration(front: ZooKeeperFront) -> Values:
    """How this replica's face is configured."""
    settings = front.settings
    directory = str(front.replica.facts().get("directory", ""))
    size = size_on_disk(front)
    return {
        "clientPort": front.port(),
        "secureClientPort": front.secure_port() if settings.secure is not None else -1,
        "dataDir": directory,
        "dataDirSize": size,
        "dataLogDir": directory,
        "dataLogSize": size,
        "tickTime": settings.tick_ms,
        "maxClientCnxns": settings.per_address,
        "minSessionTimeout": settings.timeout_min_ms,
        "maxSessionTimeout": settings.timeout_max_ms,
        "clientPortListenBacklog": -1,
        "serverId": front.replica.origin.member,
    }


def monitored(front: ZooKeeperFront) -> Values:
    """What monitors read."""
    least, mean, most = latency_ms(front)
    tree = front.tree
    facts = front.replica.facts()
    place = mode(front)
    values: Values = {
        "version": version(),
        "server_state": place,
        "ephemerals_count": sum(map(len, tree.ephemerals.values())),
        "num_alive_connections": len(front.connections),
        "avg_latency": mean,
        "outstanding_requests": outstanding(front),
        "znode_count": len(tree.nodes),
        "global_sessions": len(front.machine.sessions),
        "packets_sent": sent(front),
        "packets_received": received(front),
        "watch_count": len(front.watches),
        "auth_failed_count": front.counters.auth_failed,
        "min_latency": least,
        "max_latency": most,
        "max_file_descriptor_count": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "open_file_descriptor_count": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "approximate_data_size": tree.size + _path_bytes(tree),
        "local_sessions": len(front.arrivals.local.table),
        "uptime": uptime_ms(front),
        "connection_drop_count": front.counters.drops,
        "connection_rejected": front.counters.rejected,
        "sessionless_connections_expired": front.counters.silent,
    }
    if place != "standalone":
        values["peer_state"] = _PEER_STATES[place]
    if place == "leader":
        learners, followers = int(facts.get("followers", 0)), int(facts.get("synced_followers", 0))
        values |= {
            "learners": learners,
            "followers": followers,
            "synced_followers": followers,
            "synced_observers": learners - followers,
            "pending_syncs": 0,
        }
    return values | _quotas(tree)


def _path_bytes(tree: Tree) -> int:
    """About how long all paths are together: monitors ask often, and adding up a million takes long."""
    looked_at = min(len(tree.nodes), SAMPLE)
    return sum(map(len, islice(tree.nodes, looked_at))) * len(tree.nodes) // looked_at


def _quotas(tree: Tree) -> Values:
    """What the quotas below each name at the top allow and count; a hard limit goes before a soft one."""
    values: Values = {}
    for place in tree.quotas:
        top = place.split(b"/")[1].decode(errors="replace")
        limits, there = (_numbers(tree, path) for path in (quotas.limits_path(place), quotas.stats_path(place)))
        for what, hard in (("count", "countHardLimit"), ("bytes", "byteHardLimit")):
            limit = limits.get(hard, -1)
            for kind, number in (
                ("limit", limit if limit > -1 else limits.get(what, -1)), ("usage", there.get(what, -1))
            ):  # fmt: skip
                name = f"{top}_quota_{what}_{kind}_per_namespace"
                values[name] = int(values.get(name, 0)) + number
    return values


def _numbers(tree: Tree, path: bytes) -> Mapping[str, int]:
    node = tree.nodes.get(path)
    try:
        return quotas.parse(node.value) if node is not None else {}
    except ValueError:
        return {}


def place(connection: Connection) -> str:
    """Where a client is."""
    address = connection.address
    port = address[1] if isinstance(address, tuple) and len(address) > 1 else 0
    return f"/{host(address)}:{port}"


def named(session: int) -> str:
    """A session's id as people write it; those of local sessions are below zero."""
    return f"0x{session & 0xFFFF_FFFF_FFFF_FFFF:x}"


def watched_paths(front: ZooKeeperFront) -> dict[int, list[str]]:
    """Session -> the paths it watches, sorted."""
    return {
        watcher.session: [path.decode(errors="replace") for path in sorted(set().union(*held))]
        for watcher, held in front.watches.held.items()
    }


def watching_sessions(front: ZooKeeperFront) -> dict[str, list[int]]:
    """Path -> the sessions that watch it, paths sorted."""
    found: dict[str, list[int]] = {}
    for session, paths in watched_paths(front).items():
        for path in paths:
            found.setdefault(path, []).append(session)
    return dict(sorted(found.items()))


def ephemerals(front: ZooKeeperFront) -> dict[int, list[str]]:
    """Session -> its ephemeral nodes, in order of creation."""
    owners = front.tree.ephemerals
    return {session: [path.decode(errors="replace") for path in paths] for session, paths in owners.items()}
