"""What an operator may choose of the ZooKeeper face: the options of the door ``zookeeper``.

They stand in a replica's configuration under ``[options.zookeeper]`` and go to ``quorate cell run`` as ``--option
zookeeper.NAME=VALUE``. All replicas of a cell should be told the same.

============================ ========== ===============================================================================
Option                       Default    Meaning
============================ ========== ===============================================================================
``tick``                     2000       Milliseconds; other times are multiples of it unless they are given.
``min-session-timeout``      2 ticks    Milliseconds; a client that asks for less gets this.
``max-session-timeout``      20 ticks   Milliseconds; a client that asks for more gets this.
``grace``                    2 ticks    Milliseconds without a leader before clients must go; half a session at most.
``frame-max``                1048575    Bytes of a client's request (``jute.maxbuffer``); 16777200 at most, as a cell
                                        that is busy with one request for seconds loses its leader over it.
``max-client-connections``   0          Connections from one address; 0: any number.
``max-connections``          0          Connections in all; 0: any number.
``extended-types``           false      Whether nodes may have a time to live.
``enforce-quota``            false      Whether hard limits of quotas are held.
``words``                    (safe)     Four-letter words that are answered, with commas, or ``*``.
``super``                    (nobody)   ``user:base64(sha1(user:password))``: may do anything.
``sasl.USER``                (nobody)   The password of USER, who may authenticate by SASL DIGEST-MD5.
``reconfig``                 false      Whether clients may change who is in the cell; /zookeeper/config then says it.
``read-only``                false      Whether clients that ask for it are served without a quorum, reading only.
``local-sessions``           false      Whether sessions are known to one replica only: cheaper, but without ephemeral
                                        nodes, and unable to move.
``admin``                    (closed)   Endpoint of a port that answers administrators by HTTP, with JSON.
``secure``                   (closed)   Endpoint of a second port, for TLS; needs ``quorate[tls]``.
``certificate``, ``key``     (needed)   PEM files of the second port.
``authority``                (none)     PEM file of the authority that signs clients' certificates.
``client-certificates``      need       Whether clients on the second port ``need`` a certificate, or may show one if
                                        they ``want``; ``none``: they are not asked.
============================ ========== ===============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from . import words
from .chunks import Allow
from .jute import LENGTH_MAX
from .protocol import FRAME_MAX

_SASL: Final = "sasl."
_TRUTH: Final[Mapping[str, bool]] = {"true": True, "false": False}
_CERTIFICATES: Final = ("need", "want", "none")


class Secure(NamedTuple):
    """The second port: its endpoint, PEM files, and whether clients must show a certificate."""

    endpoint: str
    certificate: str
    key: str
    authority: str
    client_certificates: str


class Settings(NamedTuple):
    """The options, read."""

    tick_ms: int = 2000
    timeout_min_ms: int = 4000
    timeout_max_ms: int = 40000
    frame_max: int = FRAME_MAX
    allow: Allow = Allow.NOTHING
    super_digest: bytes = b""
    words: frozenset[str] = words.DEFAULT
    grace_ms: int = 4000
    per_address: int = 0
    connections_max: int = 0
    users: Mapping[bytes, bytes] = {}
    reconfig: bool = False
    read_only: bool = False
    local_sessions: bool = False
    secure: Secure | None = None
    admin: str = ""

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Settings:
        """Raises ValueError for what is not a number or not known."""
        known = dict(options)
        tick = _number(known, "tick", 2000)
        users = {name: known.pop(name) for name in list(known) if name.startswith(_SASL)}
        settings = cls(
            tick_ms=tick,
            timeout_min_ms=_number(known, "min-session-timeout", 2 * tick),
            timeout_max_ms=_number(known, "max-session-timeout", 20 * tick),
            frame_max=_number(known, "frame-max", FRAME_MAX),
            allow=(Allow.EXTENDED_TYPES if _truth(known, "extended-types") else Allow.NOTHING)
            | (Allow.ENFORCE_QUOTA if _truth(known, "enforce-quota") else Allow.NOTHING),
            super_digest=known.pop("super", "").encode(),
            words=words.chosen(known.pop("words", None)),
            grace_ms=_number(known, "grace", 2 * tick),
            per_address=_number(known, "max-client-connections", 0),
            connections_max=_number(known, "max-connections", 0),
            users={name.removeprefix(_SASL).encode(): password.encode() for name, password in users.items()},
            reconfig=_truth(known, "reconfig"),
            read_only=_truth(known, "read-only"),
            local_sessions=_truth(known, "local-sessions"),
            secure=_secure(known),
            admin=known.pop("admin", ""),
        )
        if known:
            raise ValueError(f"unknown options: {', '.join(sorted(known))}")
        if settings.frame_max > LENGTH_MAX:
            raise ValueError(f"frame-max={settings.frame_max} is invalid: {LENGTH_MAX} at most")
        if not 0 < settings.timeout_min_ms <= settings.timeout_max_ms:
            raise ValueError(
                f"sessions from {settings.timeout_min_ms} to {settings.timeout_max_ms} ms are impossible: "
                "set tick, min-session-timeout and max-session-timeout"
            )
        return settings

    def negotiate(self, timeout_ms: int) -> int:
        """The time-out a client gets that asks for `timeout_ms`."""
        return min(max(timeout_ms, self.timeout_min_ms), self.timeout_max_ms)


def _number(known: dict[str, str], name: str, default: int) -> int:
    said = known.pop(name, str(default))
    if not said.isdigit():
        raise ValueError(f"{name}={said} is invalid: a number of 0 or more is wanted")
    return int(said)


def _truth(known: dict[str, str], name: str) -> bool:
    said = known.pop(name, "false")
    if said not in _TRUTH:
        raise ValueError(f"{name}={said} is invalid: true or false is wanted")
    return _TRUTH[said]


def _secure(known: dict[str, str]) -> Secure | None:
    endpoint, certificate, key, authority = (
        known.pop(name, "") for name in ("secure", "certificate", "key", "authority")
    )
    wish = known.pop("client-certificates", "need")
    if wish not in _CERTIFICATES:
        raise ValueError(f"client-certificates={wish} is invalid: {', '.join(_CERTIFICATES)} are known")
    if not endpoint:
        if certificate or key or authority:
            raise ValueError("certificate, key and authority belong to a secure endpoint, and none is named")
        return None
    missing = [name for name, path in (("certificate", certificate), ("key", key)) if not path]
    if wish != "none" and not authority:
        missing.append("authority")
    if missing:
        raise ValueError(f"secure={endpoint} needs {' and '.join(missing)}")
    return Secure(endpoint, certificate, key, authority, wish)
