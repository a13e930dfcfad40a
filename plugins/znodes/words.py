"""The four-letter words: questions of operators and monitors, asked on the client port in place of a connect request.

Answers keep the original's lines, so that scripts that parse them go on working. Source: server/command of ZooKeeper
3.8."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from . import ensemble, report

if TYPE_CHECKING:
    from .connection import Connection
    from .front import ZooKeeperFront

DEFAULT: Final = frozenset(("srvr", "ruok", "isro", "mntr"))
"""Answered unless the operator chooses others: what monitors ask, and what tells nothing of clients or the machine."""

NOT_SERVING: Final = b"This ZooKeeper instance is not currently serving requests\n"
ARGUMENT: Final = 8
"""Bytes behind a word that may belong to it: stmk brings a long."""


def _tail(front: ZooKeeperFront) -> str:
    least, mean, most = report.latency_ms(front)
    return (
        f"Latency min/avg/max: {least}/{mean:.4g}/{most}\n"
        f"Received: {report.received(front)}\n"
        f"Sent: {report.sent(front)}\n"
        f"Connections: {len(front.connections)}\n"
        f"Outstanding: {report.outstanding(front)}\n"
        f"Zxid: 0x{front.machine.zxid:x}\n"
        f"Mode: {report.mode(front)}\n"
        f"Node count: {len(front.tree.nodes)}\n"
    )


def _client(connection: Connection) -> str:
    interest = 1 if connection.session else 0
    return (
        f" {report.place(connection)}[{interest}](queued={connection.in_flight},recved={connection.received_count},"
        f"sent={connection.sent_count}"
    )


def _lines(values: Mapping[str, object], before: str = "", between: str = "=") -> str:
    return "".join(f"{before}{name}{between}{value}\n" for name, value in values.items())


def _ruok(front: ZooKeeperFront) -> str:
    return "imok"


def _isro(front: ZooKeeperFront) -> str:
    if front.reads_only:
        return "ro"
    return "rw" if front.replica.serving() else "null"


def _head(front: ZooKeeperFront) -> str:
    limited = "READ-ONLY mode; serving only read-only clients\n" if front.reads_only else ""
    return f"Zookeeper version: {report.version()}\n{limited}"


def _srvr(front: ZooKeeperFront) -> str:
    return _head(front) + _tail(front)


def _stat(front: ZooKeeperFront) -> str:
    clients = "".join(f"{_client(each)})\n" for each in front.connections.values())
    return f"{_head(front)}Clients:\n{clients}\n{_tail(front)}"


def _cons(front: ZooKeeperFront) -> str:
    lines = []
    for each in front.connections.values():
        session = f",sid={report.named(each.session)},to={each.timeout_ms}" if each.session else ""
        lines.append(f"{_client(each)}{session})\n")
    return "".join(lines) + "\n"


def _conf(front: ZooKeeperFront) -> str:
    members = ensemble.text(front.replica.configuration()).decode()
    return _lines(report.configuration(front)) + ("" if report.standalone(front) else f"membership: \n{members}")


def _envi(front: ZooKeeperFront) -> str:
    return "Environment:\n" + _lines(report.environment())


def _dirs(front: ZooKeeperFront) -> str:
    size = report.size_on_disk(front)
    return f"datadir_size: {size}\nlogdir_size: {size}\n"


def _mntr(front: ZooKeeperFront) -> str:
    return _lines(report.monitored(front), "zk_", "\t")


def _wchs(front: ZooKeeperFront) -> str:
    watches = front.watches
    watched = set().union(*watches.tables)
    return f"{len(watches.held)} connections watching {len(watched)} paths\nTotal watches:{len(watches)}\n"


def _wchc(front: ZooKeeperFront) -> str:
    lines = []
    for session, paths in report.watched_paths(front).items():
        lines.append(f"{report.named(session)}\n")
        lines += [f"\t{path}\n" for path in paths]
    return "".join(lines) + "\n"


def _wchp(front: ZooKeeperFront) -> str:
    lines = []
    for path, sessions in report.watching_sessions(front).items():
        lines.append(f"{path}\n")
        lines += [f"\t{report.named(session)}\n" for session in sessions]
    return "".join(lines) + "\n"


def _dump(front: ZooKeeperFront) -> str:
    sessions = front.machine.sessions
    lines = [f"SessionTracker dump:\nGlobal Sessions({len(sessions)}):\n"]
    lines += [f"{report.named(session)}\n" for session in sessions]
    owners = report.ephemerals(front)
    lines.append(f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owners)}):\n")
    for session, paths in owners.items():
        lines.append(f"{report.named(session)}:\n")
        lines += [f"\t{path}\n" for path in paths]
    lines.append("Connections dump:\n")
    lines += [
        f"ip: {report.place(each)} sessionId: {report.named(each.session)}\n" for each in front.connections.values()
    ]
    return "".join(lines)


def _crst(front: ZooKeeperFront) -> str:
    report.reset_connections(front)
    return "Connection stats reset.\n"


def _srst(front: ZooKeeperFront) -> str:
    report.reset_server(front)
    return "Server stats reset.\n"


def _hash(front: ZooKeeperFront) -> str:
    return f"{front.machine.zxid:x}: {front.machine.digest()}\n"


def _gtmk(front: ZooKeeperFront) -> str:
    return str(front.trace_mask)


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
    "gtmk": _gtmk,
    "stmk": _gtmk,
}
_WITHOUT_LEADER: Final = frozenset(("ruok", "isro", "conf", "envi", "gtmk", "stmk"))
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


def answer(front: ZooKeeperFront, said: bytes) -> bytes | None:
    """The answer to a word and what came with it; None if it is none."""
    name = said[:4].decode("ascii", "replace")
    speak = _WORDS.get(name)
    if speak is None:
        return None
    if name not in front.settings.words:
        return f"{name} is not executed because it is not in the whitelist.\n".encode()
    if name not in _WITHOUT_LEADER and not front.replica.serving() and not front.reads_only:
        return NOT_SERVING
    if name == "stmk" and len(said) >= 4 + ARGUMENT:
        front.trace_mask = int.from_bytes(said[4 : 4 + ARGUMENT], "big", signed=True)
    return speak(front).encode()
