"""What a replica says of itself: plain data, readable without a session and without a quorum.

``quorate status`` asks every member and joins the answers; nothing here speaks for another replica.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..leading import epoch_of
from ..machine import Plain
from ..paxos.quorum import Role
from .config import CLIENT
from .replica import role_of

if TYPE_CHECKING:
    from .replica import LiveReplica


def status(replica: LiveReplica) -> dict[str, Plain]:
    """`lease_ms`: what is left of the leader's lease, 0 elsewhere; `lag` is for who asks everybody to work out;
    `longest_turn_ms`: the longest time, since its start, for which the replica was busy with one turn of its reactor;
    `ailing`, `full`: what is wrong, in words."""
    core, host = replica.core, replica.host
    divergence = host.divergence()
    return {
        "cell": replica.config.cell,
        "cell_id": replica.cell.hex(),
        "member": replica.origin.member,
        "incarnation": replica.origin.incarnation,
        "pid": os.getpid(),
        "leader": core.leader or 0,
        "serving": replica.serves,
        "epoch": epoch_of(core.ballot),
        "role": role_of(core.status),
        "ballot": str(core.ballot),
        "lease_ms": core.lease_left(replica.clocks.monotonic()) // 1000,
        "chosen": core.chosen,
        "applied": host.slot,
        "index": host.index,
        "cell_time": host.cell_time,
        "sessions": len(host.sessions),
        "sessions_here": len(replica.sessions.here),
        "digest": f"{host.digest():016x}",
        "diverged": None if divergence is None else str(divergence),
        "ailing": replica.ailing,
        "full": replica.full,
        "connected": list(replica.peers.connected()),
        "longest_turn_ms": round(replica.turns.longest * 1000, 1),
        "snapshot_under_way": replica.snapshotting.taking,
        "plugins": [
            {
                "name": each.name,
                "version": each.version,
                "code": each.code,
                "number": each.number,
                "halted": each.halted,
            }
            for each in host.status()
        ],
        "members": [
            {
                "id": member.id,
                "role": "voter" if member.role is Role.VOTER else "learner",
                "client": dict(member.doors).get(CLIENT, ""),
                "doors": dict(member.doors),
            }
            for member in core.configuration.members
        ],
    }
