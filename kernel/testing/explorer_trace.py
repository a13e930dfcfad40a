"""A way through small worlds, in words that one can follow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..paxos.ballot import DECIDED, Ballot
from ..paxos.configuration import decode_change
from ..paxos.messages import Kind, Value, Vote
from ..paxos.ready import AcceptedValue, KnownChosen, Promised, Record
from .explorer_member import Done, State, Step


def told(before: State, step: Step, done: Done | None) -> Iterator[str]:
    """A member's step, and what came of it if it came to an end."""
    yield f"member {before.member} {_happening(before, step)}"
    if done is None:
        return
    for ready in done.readies:
        for record in ready.records:
            yield f"    writes: {_record(record)}"
        for slot, value in ready.committed:
            yield f"    hands out slot {slot}: {tell(value)}"
        for result in ready.reads:
            yield f"    answers a read as of slot {result.slot}" if result.slot is not None else "    fails a read"
    for text in sorted(f"{message(letter.message)}, to {letter.to}" for letter in done.letters):
        yield f"    says: {text}"


def _happening(before: State, step: Step) -> str:
    name, subject = step.name, step.subject
    if name == "deliver":
        return f"hears from {subject.sender}: {message(subject.message)}"
    if name == "sync":
        return "finds durable: " + (", ".join(map(_record, before.writes[0].records)) or "nothing new")
    if name == "crash":
        records = [record for write in before.writes for record in write.records]
        lost = ", ".join(map(_record, records[subject:]))
        return "crashes and starts again" + (f", losing {lost}" if lost else "")
    if name == "propose":
        return "proposes " + ", ".join(repr(payload.decode()) for payload in subject)
    if name == "transfer":
        return f"is to hand over to {subject}"
    if name == "change":
        return f"proposes to {subject.kind.name} {subject.member.id}"
    plain = {
        "tick": "has its timer fire",
        "campaign": "campaigns",
        "compact": "takes a snapshot",
        "speak": "has something to say to its leader",
    }
    return plain.get(name) or f"is asked for a read, when slot {subject} was handed out"


def tell(value: Value) -> str:
    """A value in a word."""
    if value.kind is Kind.COMMANDS:
        return repr(value.payload.decode())
    if value.kind is Kind.NOOP:
        return "a no-op"
    change = decode_change(value.payload)
    return f"{change.kind.name} {change.member.id}"


def _record(record: Record) -> str:
    if isinstance(record, Promised):
        return f"promise of {record.ballot}"
    if isinstance(record, AcceptedValue):
        return f"vote for {tell(record.value)} in slot {record.slot}, {_ballot(record.ballot)}"
    assert isinstance(record, KnownChosen)
    return f"chosen up to {record.slot}"


def _ballot(ballot: Ballot) -> str:
    return "known to be chosen" if ballot == DECIDED else f"ballot {ballot}"


def message(subject: Any) -> str:
    """A message, its fields by name."""
    fields = ", ".join(f"{name} {_field(value)}" for name, value in subject._asdict().items())
    return f"{type(subject).__name__}({fields})"


def _field(value: Any) -> str:
    if isinstance(value, Ballot):
        return str(value)
    if isinstance(value, Value):
        return tell(value)
    if isinstance(value, Vote):
        return f"{value.slot}: {tell(value.value)} by {_ballot(value.ballot)}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_field, value)) + "]"
    return str(value)
