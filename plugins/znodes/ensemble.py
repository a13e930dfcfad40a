"""Who is in the cell, in ZooKeeper's words: the text in /zookeeper/config, and what a reconfig request asks for.

A server is written ``server.ID=HOST:PORT:PORT:ROLE;HOST:PORT``. The first port is that of the peers, the second one,
ZooKeeper's for elections, is here that of native clients; behind the semicolon is the ZooKeeper port. Observers are
the cell's learners. The version at the end is the number of the cell's configuration.

Pure: what it says is computed alike on every replica. Source: QuorumPeer.QuorumServer, QuorumMaj, and
PrepRequestProcessor of ZooKeeper 3.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ...kernel.paxos.ballot import MemberId
from ...kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role
from .protocol import Err, Fault

NATIVE: Final = "client"
FACE: Final = "zookeeper"
_ROLES: Final = {"participant": Role.VOTER, "observer": Role.LEARNER}
_WORDS: Final = {role: word for word, role in _ROLES.items()}
_HOST: Final = r"(\[[0-9a-fA-F:]+\]|[^\s:;,=\[\]]+)"
_NUMBER: Final = "[0-9]{1,9}"
_SERVER: Final = re.compile(
    rf"\s*server\.({_NUMBER})\s*=\s*{_HOST}:({_NUMBER}):({_NUMBER})(?::(participant|observer))?;(?:{_HOST}:)?({_NUMBER})\s*"
)
_NO_NUMBER: Final = re.compile(r"server\.(?!\d+\s*=)[^=]*=[^=]*")
_VERSION: Final = re.compile(rb"(?:.*\n)?version=([0-9a-f]{1,16})", re.DOTALL)
_ANYWHERE: Final = ("tcp:0.0.0.0:", "tcp:\\:\\::")
_COLON: Final = re.compile(r"(?<!\\):")


def text(configuration: Configuration) -> bytes:
    """What stands in /zookeeper/config."""
    lines = [_line(member) for member in sorted(configuration.members)]
    return "\n".join((*lines, f"version={configuration.number:x}")).encode()


def number_of(value: bytes | None) -> int:
    """The number in such a text; -1 if it is none."""
    found = _VERSION.fullmatch(value or b"")
    return -1 if found is None else int(found[1], 16)


class Addresses(NamedTuple):
    """Where a member is: its host and the two ports there, and host and port for ZooKeeper's clients."""

    host: str
    peer: str
    native: str
    client: str


def addresses(member: Member) -> Addresses:
    """A member's addresses as ZooKeeper writes them."""
    doors = dict(member.doors)
    return Addresses(*_place(member.peer), _place(doors.get(NATIVE, ""))[1], ":".join(_place(doors.get(FACE, ""))))


def role(member: Member) -> str:
    """ZooKeeper's word for what a member may do."""
    return _WORDS[member.role]


def wanted(configuration: Configuration, request: Any) -> dict[MemberId, Member]:
    """The members that a reconfig request asks for. Raises Fault: BAD_ARGUMENTS; as in the original MARSHALLING_ERROR
    where it reads a number that is none, or finds no voter in a list of everybody."""
    if request.members is not None:
        found = _parsed(configuration, request.members.replace(b"\n", b","))
    else:
        found = {member.id: member for member in configuration.members}
        for word in _split(request.leaving):
            if not re.fullmatch(_NUMBER, word):
                raise Fault(Err.MARSHALLING_ERROR)
            found.pop(MemberId(int(word)), None)
        found |= _parsed(configuration, request.joining)
    places = (place for member in found.values() for place in (member.peer, *dict(member.doors).values()))
    taken = [place for place in places if not place.startswith(_ANYWHERE)]  # which may stand for different machines
    if len(set(taken)) < len(taken):
        raise Fault(Err.BAD_ARGUMENTS)
    if not any(member.role is Role.VOTER for member in found.values()):
        raise Fault(Err.BAD_ARGUMENTS if request.members is None else Err.MARSHALLING_ERROR)
    return found


def next_step(configuration: Configuration, goal: Mapping[MemberId, Member]) -> Change | None:
    """The next change on the way to the `goal`, so that there are never fewer voters than need be; None: it is
    reached."""
    return next(_steps(configuration, goal), None)


def _steps(configuration: Configuration, goal: Mapping[MemberId, Member]) -> Iterator[Change]:
    now = {member.id: member for member in configuration.members}
    for member in goal.values():
        if member.id not in now:
            yield Change(ChangeKind.ADD_LEARNER, member)
    for member in goal.values():
        there = now[member.id]
        if (there.peer, there.doors) != (member.peer, member.doors):
            yield Change(ChangeKind.AMEND, member)
    for role, kind in ((Role.VOTER, ChangeKind.PROMOTE), (Role.LEARNER, ChangeKind.DEMOTE)):
        for member in goal.values():
            if member.role is role and now[member.id].role is not role:
                yield Change(kind, now[member.id])
    for member in configuration.members:
        if member.id not in goal:
            yield Change(ChangeKind.REMOVE, member)


def _parsed(configuration: Configuration, servers: bytes | None) -> dict[MemberId, Member]:
    found = {}
    for word in _split(servers):
        if word.startswith("version="):
            continue
        match = _SERVER.fullmatch(word)
        if match is None:
            raise Fault(Err.MARSHALLING_ERROR if _NO_NUMBER.fullmatch(word) else Err.BAD_ARGUMENTS)
        identity, host, peer, native, role, client_host, client = match.groups()
        places = [_endpoint(host, peer), _endpoint(host, native), _endpoint(client_host or "0.0.0.0", client)]
        if not 0 < int(identity) < 1 << 16 or not all(0 < int(port) < 1 << 16 for port in (peer, native, client)):
            raise Fault(Err.BAD_ARGUMENTS)
        member = MemberId(int(identity))
        before = configuration.find(member)
        others = () if before is None else tuple(door for door in before.doors if door[0] not in (NATIVE, FACE))
        doors = tuple(sorted((*others, (NATIVE, places[1]), (FACE, places[2]))))
        found[member] = Member(member, _ROLES[role or "participant"], places[0], doors)
    return found


def _split(words: bytes | None) -> list[str]:
    return [word.strip() for word in (words or b"").decode(errors="replace").split(",") if word.strip()]


def _endpoint(host: str, port: str) -> str:
    bare = host.strip("[]").replace(":", "\\:")
    return f"tcp:{bare}:{int(port)}"


def _place(endpoint: str) -> tuple[str, str]:
    """Host, as ZooKeeper writes it, and port of an endpoint; a unix socket has neither."""
    kind, *rest = (part.replace("\\:", ":") for part in _COLON.split(endpoint))
    if kind != "tcp" or len(rest) < 2:
        return "0.0.0.0", "0"
    return (f"[{rest[0]}]" if ":" in rest[0] else rest[0]), rest[1]


def _line(member: Member) -> str:
    at = addresses(member)
    return f"server.{member.id}={at.host}:{at.peer}:{at.native}:{role(member)};{at.client}"
