"""`Ready`: everything the core wants done, in one value.

The driver's whole duty, in this order:

1. give `records` to the journal (they form one durable unit with everything appended before them);
2. send `messages` at once: nothing in them promises what the disk does not hold;
3. apply `committed`, in order;
4. once the records are durable, and not before, send `after` and call :meth:`Replica.persisted` with `upto`.

So "persist before send" is a matter of which field a message is in, decided once in the core, and a driver cannot
get it wrong by carelessness. `after` is sent even when `records` is empty (it then waits for earlier records only).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from .ballot import Ballot, MemberId, Slot
from .messages import FetchSnapshot, Message, SnapshotChunk, Value
from .quorum import Configuration


class Promised(NamedTuple):
    """Journal record: never again accept or promise below `ballot`."""

    ballot: Ballot


class AcceptedValue(NamedTuple):
    """Journal record: `value` is accepted in `slot` under `ballot` (which is thereby promised, too)."""

    ballot: Ballot
    slot: Slot
    value: Value


class KnownChosen(NamedTuple):
    """Journal record, never waited for: every slot up to `slot` was known to be chosen. A restart applies that far at
    once, and damage at or below it can be healed from peers.

    `installed`: it is known from a peer's snapshot at `slot`, not slot by slot. Votes recorded before may then be for
    values that were not chosen, and say nothing if that snapshot is lost."""

    slot: Slot
    installed: bool = False


Record = Promised | AcceptedValue | KnownChosen


class Send(NamedTuple):
    """A message and whom it is for."""

    to: MemberId
    message: Message


class Committed(NamedTuple):
    """A chosen slot. They come in order without gaps, each once."""

    slot: Slot
    value: Value


class ReadResult(NamedTuple):
    """The answer to :meth:`Replica.read`: linearizable once `slot` is applied; None: ask again elsewhere or later."""

    context: int
    slot: Slot | None


class SnapshotRequest(NamedTuple):
    """A peer wants a piece of our snapshot file: read it and send a SnapshotChunk."""

    to: MemberId
    fetch: FetchSnapshot


class Ready(NamedTuple):
    """See the module's docstring for the order of duties."""

    messages: tuple[Send, ...] = ()
    records: tuple[Record, ...] = ()
    upto: int = 0
    after: tuple[Send, ...] = ()
    committed: tuple[Committed, ...] = ()
    reads: tuple[ReadResult, ...] = ()
    snapshot_requests: tuple[SnapshotRequest, ...] = ()
    snapshot_chunks: tuple[SnapshotChunk, ...] = ()
    """Pieces of a snapshot that this member fetches, in order from offset 0: write them to a temporary file. When the
    last byte is there: verify, make durable, restore the machines, then :meth:`Replica.installed`."""


NOTHING: Final = Ready()
"""The one empty Ready: ``is NOTHING`` tells that there is nothing to do."""


def joined(one: Ready, two: Ready) -> Ready:
    """First what `one` says and then what `two` says. What is committed and read is left out."""
    return Ready(
        messages=one.messages + two.messages,
        records=one.records + two.records,
        upto=max(one.upto, two.upto),
        after=one.after + two.after,
        snapshot_requests=one.snapshot_requests + two.snapshot_requests,
        snapshot_chunks=one.snapshot_chunks + two.snapshot_chunks,
    )


def remaining(ready: Ready, more: Iterable[Send] = ()) -> Ready:
    """`ready`, with `more` messages, when what is committed and read was taken care of."""
    messages, records, upto, after, _, _, requests, chunks = ready
    return Ready((*messages, *more), records, upto, after, (), (), requests, chunks)


class DurableState(NamedTuple):
    """What a member finds on its disk when it starts; the empty value is a disk that never voted.

    `votes`: every vote above `snapshot`, any slot once. `chosen`: the largest KnownChosen (at least `snapshot`).
    `snapshot_size`: the bytes of the snapshot file at `snapshot`, for members that will fetch it.
    `damaged`: slots at or below `chosen` whose value is unreadable and must be fetched before this member votes on
    them. `intact`: False when the promise or a vote may be lost; such a member never votes again under this id.
    """

    promised: Ballot
    votes: tuple[AcceptedValue, ...]
    chosen: Slot
    snapshot: Slot
    configuration: Configuration
    damaged: frozenset[Slot] = frozenset()
    intact: bool = True
    snapshot_size: int = 0
