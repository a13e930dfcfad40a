"""The administrator's page: what the four-letter words tell, as JSON over HTTP, on a port of its own.

``/commands`` lists the commands, ``/commands/NAME`` answers one: its name as ``command``, what is wrong as ``error``
(or null), and its values. Off unless the option ``admin`` names an endpoint, as whoever reaches it may ask anything.

Source: AdminServer, Commands and JsonOutputter of ZooKeeper 3.8.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Final, cast

from twisted.web.http import NOT_FOUND, OK
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from ...kernel.paxos.ballot import MemberId
from ...kernel.paxos.quorum import Role
from . import ensemble, report, words
from .tls import SecureWire

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IReactorTCP

    from .connection import Connection
    from .front import ZooKeeperFront

Answer = dict[str, object]
Asked = Mapping[str, str]


class Refused(Exception):
    """The command cannot be done as it was asked."""


def site(front: ZooKeeperFront) -> Site:
    """What the port serves."""
    return Site(Commands(front))  # type: ignore[no-untyped-call]


def listen(front: ZooKeeperFront, port: int, interface: str) -> IListeningPort:
    """Open the port. Raises OSError."""
    reactor = cast("IReactorTCP", front.reactor)
    return reactor.listenTCP(port, site(front), interface=interface)  # type: ignore[arg-type]


class Commands(Resource):
    """Every path there is."""

    def __init__(self, front: ZooKeeperFront) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._front = front

    def getChild(self, path: bytes, request: Request) -> Resource:
        return self

    def render_GET(self, request: Request) -> bytes:
        """The list, or one command's answer."""
        place, *names = (each.decode(errors="replace") for each in request.prepath or ())
        if place != "commands":
            return _sent(request, "text/plain", "see /commands\n", NOT_FOUND)
        if not any(names):
            links = (f'<a href="/commands/{escape(each)}">{escape(each)}</a><br/>\n' for each in _LONG_NAMES)
            return _sent(request, "text/html", "".join(links))
        asked = {
            name.decode(errors="replace"): found[0].decode(errors="replace") for name, found in _arguments(request)
        }
        name = "/".join(names)
        answer = json.dumps(answered(self._front, name, asked), indent=2) + "\n"
        return _sent(request, "application/json", answer, OK if name in _COMMANDS else NOT_FOUND)


def _arguments(request: Request) -> Iterable[tuple[bytes, list[bytes]]]:
    return (request.args or {}).items()


def _sent(request: Request, kind: str, text: str, status: int = OK) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", f"{kind}; charset=utf-8".encode())  # type: ignore[no-untyped-call]
    return text.encode()


def answered(front: ZooKeeperFront, name: str, asked: Asked) -> Answer:
    """One command's answer."""
    if name not in _COMMANDS:
        return {"command": name, "error": f"Unknown command: {name}"}
    command, act = _COMMANDS[name]
    if command not in _WITHOUT_LEADER and not front.replica.serving() and not front.reads_only:
        return {"command": command, "error": words.NOT_SERVING.decode().strip()}
    try:
        return {"command": command, "error": None, **act(front, asked)}
    except Refused as refused:
        return {"command": command, "error": str(refused)}


def _client(connection: Connection) -> Answer:
    return {
        "remote_socket_address": report.place(connection).removeprefix("/"),
        "outstanding_requests": connection.in_flight,
        "packets_received": connection.received_count,
        "packets_sent": connection.sent_count,
        "session_id": connection.session,
        "session_timeout": connection.timeout_ms,
    }


def _configuration(front: ZooKeeperFront, asked: Asked) -> Answer:
    values = report.configuration(front)
    return {_SNAKES[name]: value for name, value in values.items()}


def _connections(front: ZooKeeperFront, asked: Asked) -> Answer:
    found: dict[bool, list[Answer]] = {False: [], True: []}
    for each in front.connections.values():
        found[isinstance(each.wire, SecureWire)].append(_client(each))
    return {"connections": found[False], "secure_connections": found[True]}


def _directories(front: ZooKeeperFront, asked: Asked) -> Answer:
    size = report.size_on_disk(front)
    return {"datadir_size": size, "logdir_size": size}


def _dump(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {"sessions": list(front.machine.sessions), "session_id_to_ephemeral_paths": report.ephemerals(front)}


def _leader(front: ZooKeeperFront, asked: Asked) -> Answer:
    if report.standalone(front):
        raise Refused("server is not initialized")
    leader = MemberId(int(front.replica.facts().get("leader", 0)))
    member = front.replica.configuration().find(leader)
    return {
        "is_leader": front.replica.leading(),
        "leader_id": leader,
        "leader_ip": ensemble.addresses(member).host if member is not None else "",
    }


def _server(front: ZooKeeperFront, asked: Asked) -> Answer:
    least, mean, most = report.latency_ms(front)
    return {
        "version": report.version(),
        "read_only": front.reads_only,
        "server_stats": {
            "packets_sent": report.sent(front),
            "packets_received": report.received(front),
            "min_latency": least,
            "avg_latency": mean,
            "max_latency": most,
            "outstanding_requests": report.outstanding(front),
            "num_alive_client_connections": len(front.connections),
            "last_processed_zxid": front.machine.zxid,
            "server_state": report.mode(front),
            "uptime": report.uptime_ms(front),
        },
        "node_count": len(front.tree.nodes),
    }


def _set_trace_mask(front: ZooKeeperFront, asked: Asked) -> Answer:
    said = asked.get("traceMask", "")
    try:
        front.trace_mask = int(said)
    except ValueError:
        raise Refused(f"set_trace_mask wants a number as traceMask, not {said!r}") from None
    return {"tracemask": front.trace_mask}


def _reset_server(front: ZooKeeperFront, asked: Asked) -> Answer:
    report.reset_server(front)
    return {}


def _reset_connections(front: ZooKeeperFront, asked: Asked) -> Answer:
    report.reset_connections(front)
    return {}


def _summary(front: ZooKeeperFront, asked: Asked) -> Answer:
    watches = front.watches
    return {
        "num_connections": len(watches.held),
        "num_paths": len(set().union(*watches.tables)),
        "num_total_watches": len(watches),
    }


def _environment(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {**report.environment()}


def _trace_mask(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {"tracemask": front.trace_mask}


def _hash(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {"digests": [{"zxid": front.machine.zxid, "digest": front.machine.digest()}]}


def _is_read_only(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {"read_only": front.reads_only}


def _monitor(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {**report.monitored(front)}


def _alive(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {}


def _stats(front: ZooKeeperFront, asked: Asked) -> Answer:
    return _server(front, asked) | _connections(front, asked)


def _voting_view(front: ZooKeeperFront, asked: Asked) -> Answer:
    configuration = front.replica.configuration()
    view = {}
    for member in () if report.standalone(front) else configuration.members:
        if member.role is Role.VOTER:
            at = ensemble.addresses(member)
            view[member.id] = {
                "server_addresses": [f"{at.host}:{at.peer}"],
                "election_addresses": [f"{at.host}:{at.native}"],
                "client_address": at.client,
                "learner_type": ensemble.role(member),
            }
    return {"current_config": view}


def _state(front: ZooKeeperFront, asked: Asked) -> Answer:
    if report.standalone(front):
        return {"voting": False, "zabstate": ""}
    replica = front.replica
    return {
        "myid": replica.origin.member,
        "is_leader": replica.leading(),
        "voting": replica.origin.member in replica.configuration().voters(),
        "last_zxid": f"0x{front.machine.zxid:x}",
        "zabstate": "broadcast" if replica.serving() else "election",
    }


def _watches(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {"session_id_to_watched_paths": report.watched_paths(front)}


def _watches_by_path(front: ZooKeeperFront, asked: Asked) -> Answer:
    return {"path_to_session_ids": report.watching_sessions(front)}


_SNAKES: Final = {
    "clientPort": "client_port",
    "secureClientPort": "secure_client_port",
    "dataDir": "data_dir",
    "dataDirSize": "data_dir_size",
    "dataLogDir": "data_log_dir",
    "dataLogSize": "data_log_size",
    "tickTime": "tick_time",
    "maxClientCnxns": "max_client_cnxns",
    "minSessionTimeout": "min_session_timeout",
    "maxSessionTimeout": "max_session_timeout",
    "clientPortListenBacklog": "client_port_listen_backlog",
    "serverId": "server_id",
}
_Act = Callable[["ZooKeeperFront", Asked], Answer]
_NAMES: Final[Mapping[tuple[str, ...], _Act]] = {
    ("configuration", "conf", "config"): _configuration,
    ("connections", "cons"): _connections,
    ("connection_stat_reset", "crst"): _reset_connections,
    ("dirs",): _directories,
    ("dump",): _dump,
    ("environment", "env", "envi"): _environment,
    ("get_trace_mask", "gtmk"): _trace_mask,
    ("hash",): _hash,
    ("is_read_only", "isro"): _is_read_only,
    ("leader", "lead"): _leader,
    ("monitor", "mntr"): _monitor,
    ("ruok",): _alive,
    ("set_trace_mask", "stmk"): _set_trace_mask,
    ("server_stats", "srvr"): _server,
    ("stats", "stat"): _stats,
    ("stat_reset", "srst"): _reset_server,
    ("voting_view",): _voting_view,
    ("watches", "wchc"): _watches,
    ("watches_by_path", "wchp"): _watches_by_path,
    ("watch_summary", "wchs"): _summary,
    ("zabstate",): _state,
}
_LONG_NAMES: Final = tuple(names[0] for names in _NAMES)
_COMMANDS: Final = {name: (names[0], act) for names, act in _NAMES.items() for name in names}
_WITHOUT_LEADER: Final = frozenset(
    ("configuration", "environment", "get_trace_mask", "set_trace_mask", "monitor", "ruok", "zabstate")
)
"""Answered also while this replica follows nobody."""
