"""The four-letter words: questions of operators and monitors, asked on the client port in place of a connect request.

Answers keep the original's lines, so that scripts that parse them go on working. Source: server/command of ZooKeeper
3.8."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ... import kernel
from .connection import host

if TYPE_CHECKING:
    from .connection import Connection
    from .front import ZooKeeperFront

DEFAULT: Final = frozenset(("srvr", "ruok", "isro", "stat", "mntr", "conf", "envi", "dirs"))
"""Answered unless the operator chooses others: what tells nothing of clients and changes nothing."""

_COMPATIBLE: Final = "3.8.0"
"""The release whose behavior this is; clients and monitors compare it."""

NOT_SERVING: Final = b"This ZooKeeper instance is not currently serving requests\n"


def _version() -> str:
    return f"{_COMPATIBLE}-quorate-{kernel.__version__}"


def _mode(front: ZooKeeperFront) -> str:
    if front.reads_only:
        return "read-only"
    if len(front.replica.members()) <= 1:
        return "standalone"
    return "leader" if front.replica.leading() else "follower"


def _received(front: ZooKeeperFront) -> int:
    return front.counters.received + sum(each.received_count for each in front.connections.values())


def _sent(front: ZooKeeperFront) -> int:
    return front.counters.sent + sum(each.sent_count for each in front.connections.values())


def _latency_ms(front: ZooKeeperFront) -> tuple[int, float, int]:
    """Least, mean and greatest time from a request to its answer; reads are answered in the turn they come in and
    count as 0."""
    counters = front.counters
    answered = _received(front)
    mean = counters.latency_sum / answered * 1000 if answered else 0.0
    least = 0.0 if answered > counters.timed else counters.latency_min
    return int(least * 1000), mean, int(counters.latency_max * 1000)


def _tail(front: ZooKeeperFront) -> str:
    least, mean, most = _latency_ms(front)
    return (
        f"Latency min/avg/max: {least}/{mean:.4g}/{most}\n"
        f"Received: {_received(front)}\n"
        f"Sent: {_sent(front)}\n"
        f"Connections: {len(front.connections)}\n"
        f"Outstanding: {front.outstanding}\n"
        f"Zxid: 0x{front.machine.zxid:x}\n"
        f"Mode: {_mode(front)}\n"
        f"Node count: {len(front.tree.nodes)}\n"
    )


def _place(connection: Connection) -> str:
    address = connection.address
    port = address[1] if isinstance(address, tuple) and len(address) > 1 else 0
    return f"/{host(address)}:{port}"


def _client(connection: Connection) -> str:
    interest = 1 if connection.session else 0
    return (
        f" {_place(connection)}[{interest}](queued={connection.in_flight},recved={connection.received_count},"
        f"sent={connection.sent_count}"
    )


def _ruok(front: ZooKeeperFront) -> str:
    return "imok"


def _isro(front: ZooKeeperFront) -> str:
    if front.reads_only:
        return "ro"
    return "rw" if front.replica.serving() else "null"


def _srvr(front: ZooKeeperFront) -> str:
    return f"Zookeeper version: {_version()}\n{_tail(front)}"


def _stat(front: ZooKeeperFront) -> str:
    clients = "".join(f"{_client(each)})\n" for each in front.connections.values())
    return f"Zookeeper version: {_version()}\nClients:\n{clients}\n{_tail(front)}"


def _cons(front: ZooKeeperFront) -> str:
    lines = []
    for each in front.connections.values():
        session = f",sid=0x{each.session:x},to={each.timeout_ms}" if each.session else ""
        lines.append(f"{_client(each)}{session})\n")
    return "".join(lines) + "\n"


def _conf(front: ZooKeeperFront) -> str:
    settings = front.settings
    return (
        f"clientPort={front.port()}\n"
        f"tickTime={settings.tick_ms}\n"
        f"maxClientCnxns={settings.per_address}\n"
        f"minSessionTimeout={settings.timeout_min_ms}\n"
        f"maxSessionTimeout={settings.timeout_max_ms}\n"
        f"serverId={front.replica.origin.member}\n"
    )


def _envi(front: ZooKeeperFront) -> str:
    return (
        "Environment:\n"
        f"zookeeper.version={_version()}\n"
        f"host.name={platform.node()}\n"
        f"python.version={platform.python_version()}\n"
        f"python.implementation={platform.python_implementation()}\n"
        f"os.name={platform.system()}\n"
        f"os.arch={platform.machine()}\n"
        f"os.version={platform.release()}\n"
    )


def _dirs(front: ZooKeeperFront) -> str:
    size = front.replica.facts().get("storage_bytes", 0)
    return f"datadir_size: {size}\nlogdir_size: {size}\n"


def _mntr(front: ZooKeeperFront) -> str:
    least, mean, most = _latency_ms(front)
    tree = front.tree
    facts = front.replica.facts()
    leading = front.replica.leading()
    values: dict[str, object] = {
        "version": _version(),
        "server_state": _mode(front),
        "peer_state": "leading - broadcast" if leading else "following - broadcast",
        "ephemerals_count": sum(map(len, tree.ephemerals.values())),
        "num_alive_connections": len(front.connections),
        "avg_latency": f"{mean:.4g}",
        "min_latency": least,
        "max_latency": most,
        "outstanding_requests": front.outstanding,
        "znode_count": len(tree.nodes),
        "global_sessions": len(front.machine.sessions),
        "local_sessions": 0,
        "packets_received": _received(front),
        "packets_sent": _sent(front),
        "watch_count": len(front.watches),
        "auth_failed_count": front.counters.auth_failed,
        "connection_drop_count": front.counters.drops,
        "approximate_data_size": tree.size + sum(map(len, tree.nodes)),
        "open_file_descriptor_count": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        "max_file_descriptor_count": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "uptime": int((front.reactor.seconds() - front.started) * 1000),
    }
    if leading:
        followers = facts.get("followers", 0)
        values["learners"] = values["followers"] = followers
        values["synced_followers"] = facts.get("synced_followers", followers)
        values["pending_syncs"] = 0
    return "".join(f"zk_{key}\t{value}\n" for key, value in values.items())


def _wchs(front: ZooKeeperFront) -> str:
    watched: set[bytes] = set()
    for table in front.watches.tables:
        watched.update(table)
    total = len(front.watches)
    return f"{len(front.watches.held)} connections watching {len(watched)} paths\nTotal watches:{total}\n"


def _wchc(front: ZooKeeperFront) -> str:
    lines = []
    for watcher, held in front.watches.held.items():
        lines.append(f"0x{watcher.session:x}\n")
        lines += [f"\t{path.decode(errors='replace')}\n" for path in sorted(set().union(*held))]
    return "".join(lines) + "\n"


def _wchp(front: ZooKeeperFront) -> str:
    by_path: dict[bytes, dict[int, None]] = {}
    for watcher, held in front.watches.held.items():
        for path in set().union(*held):
            by_path.setdefault(path, {})[watcher.session] = None
    lines = []
    for path in sorted(by_path):
        lines.append(f"{path.decode(errors='replace')}\n")
        lines += [f"\t0x{session:x}\n" for session in by_path[path]]
    return "".join(lines) + "\n"


def _dump(front: ZooKeeperFront) -> str:
    sessions = front.machine.sessions
    lines = [f"SessionTracker dump:\nGlobal Sessions({len(sessions)}):\n"]
    lines += [f"0x{session:x}\n" for session in sessions]
    owners = front.tree.ephemerals
    lines.append(f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owners)}):\n")
    for session, paths in owners.items():
        lines.append(f"0x{session:x}:\n")
        lines += [f"\t{path.decode(errors='replace')}\n" for path in paths]
    return "".join(lines)


def _crst(front: ZooKeeperFront) -> str:
    for each in front.connections.values():
        each.sent_count = each.told_count = 0
    return "Connection stats reset.\n"


def _srst(front: ZooKeeperFront) -> str:
    front.counters.reset()
    return "Server stats reset.\n"


def _hash(front: ZooKeeperFront) -> str:
    return f"{front.machine.zxid:x}: {front.machine.digest()}\n"


_WORDS: Final[Mapping[str, Callable[[ZooKeeperFront], str]]] = {
    "ruok": _ruok,
    "isro": _isro,
    "srvr": _srvr,
    "stat": _stat,
    "cons": _cons,
    "conf": _conf,
    "envi": _envi,
    "dirs": _dirs,
    "mntr": _mntr,
    "wchs": _wchs,
    "wchc": _wchc,
    "wchp": _wchp,
    "dump": _dump,
    "crst": _crst,
    "srst": _srst,
    "hash": _hash,
}
_WITHOUT_LEADER: Final = frozenset(("ruok", "isro", "conf", "envi"))
"""Answered also while this replica follows nobody."""


def chosen(option: str | None) -> frozenset[str]:
    """The words an operator allows: ``*``, or names with commas; None: the default. Raises ValueError for a word
    there is not."""
    if option is None:
        return DEFAULT
    if option.strip() == "*":
        return frozenset(_WORDS)
    named = frozenset(word.strip() for word in option.split(",") if word.strip())
    unknown = named - _WORDS.keys()
    if unknown:
        raise ValueError(f"unknown four-letter words: {', '.join(sorted(unknown))}")
    return named


def answer(front: ZooKeeperFront, word: bytes) -> bytes | None:
    """The answer to a word; None if it is none."""
    name = word.decode("ascii", "replace")
    speak = _WORDS.get(name)
    if speak is None:
        return None
    if name not in front.settings.words:
        return f"{name} is not executed because it is not in the whitelist.\n".encode()
    if name not in _WITHOUT_LEADER and not front.replica.serving() and not front.reads_only:
        return NOT_SERVING
    return speak(front).encode()
