"""Bugs in what a member finds again when it starts."""

from __future__ import annotations

from typing import Any

from planting import Plant, bug
from quorate.kernel.paxos.ballot import DECIDED, NO_BALLOT
from quorate.kernel.paxos.ready import DurableState
from quorate.kernel.server.witness import Witness
from quorate.kernel.storage import recovery
from quorate.kernel.storage.journal import Journal
from quorate.kernel.storage.reading import may_be_torn
from quorate.kernel.storage.scan import Scanner
from quorate.kernel.testing.faults import Fault


@bug("memory: ", Fault.POWER)
def sync_left_out(plant: Plant) -> None:
    """The journal reports what it has handed to the operating system as durable."""
    plant.edit(Journal.write, {"file.datasync()": "did()"})


@bug("memory: .* promise", Fault.CASCADE, Fault.BOUNCE)
def promise_forgotten_on_restart(plant: Plant) -> None:
    """A member that starts again remembers its votes, but not what it promised since."""
    real = recovery.conclude

    def conclude(*args: Any) -> DurableState:
        state = real(*args)
        voted = max((vote.ballot for vote in state.votes if vote.ballot != DECIDED), default=NO_BALLOT)
        plant.never(voted < state.promised)
        return state._replace(promised=voted)

    plant.put(recovery, "conclude", conclude)


@bug("memory: .* votes", Fault.FLIP)
def journal_cut_at_a_bad_checksum(plant: Plant) -> None:
    """What follows a batch that does not check is cut off as if a crash had torn it, although it was synced."""
    plant.edit(
        Scanner.segment,
        {
            "certified = max(mark.end if mark else 0, header.certified if header else 0)": "certified = 0",
            "behind = find_header(raw, batch.end if batch else position + ALIGNMENT, seed)": (
                "behind = find_header(raw, batch.end if batch else position + ALIGNMENT, seed)\n"
                "        behind = behind if never(behind is not None) else None"
            ),
        },
    )
    plant.edit(Scanner._end, {"self._marks_whole and may_be_torn": "always(self._marks_whole) and may_be_torn"})
    plant.edit(may_be_torn, {"return False": "return did()"})
    plant.edit(Scanner.finish, {"if there > here:": "if never(there > here):"})


@bug("one disk: ", Fault.WIPE)
def wiped_replica_votes_again_under_its_old_name(plant: Plant) -> None:
    """A member whose disk was lost starts on an empty one, and its peers take it for the one that they know."""
    plant.edit(
        Witness.judge, {"if known not in (None, greeting.disk):": "if never(known not in (None, greeting.disk)):"}
    )


@bug("prefix: .* applies slot", Fault.KILL, Fault.BOUNCE, snapshot_slots=10)
def applied_twice_after_a_restart(plant: Plant) -> None:
    """A member that starts again applies the slot of its snapshot once more."""
    plant.edit(
        recovery._reopen,
        {
            "read_journal(fs, directory, owner, snapshot.slot if snapshot else Slot(0))": (
                "read_journal(fs, directory, owner, Slot(snapshot.slot - did()) if snapshot else Slot(0))"
            )
        },
    )
