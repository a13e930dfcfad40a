"""A stage for consensus cores: nothing is delivered, nothing is written and no time passes unless the script says so.

    stage = Stage(3)
    stage.elect(1)
    stage.stall(1)                      # its disk takes its time
    stage.propose(1, "a")
    stage.settle()                      # deliver and write everything until all is quiet
    assert stage.applied(2) == ["a"]

Beside this, :func:`perform` plays a transcript: a text whose lines beginning with ``>`` are directions and whose other
lines are what happened (of ``>>`` nothing is told). Run this file to record all transcripts anew, and read the
difference before believing it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from paxos_disk import Disk
from quorate.kernel.paxos.ballot import MemberId, Slot
from quorate.kernel.paxos.configuration import decode_change, reconfigured
from quorate.kernel.paxos.messages import Kind, Message, Sender, SnapshotChunk, Value, Vote
from quorate.kernel.paxos.quorum import Change, ChangeKind, Configuration, Member, Role
from quorate.kernel.paxos.ready import NOTHING, Ready
from quorate.kernel.paxos.replica import Options, Replica

SNAPSHOT = 100


class Letter(NamedTuple):
    """A message under way."""

    sender: Sender
    to: MemberId
    message: Message


class Actor:
    """One member: its disk, and the run of it that is on stage, if any."""

    def __init__(self, stage: Stage, member: MemberId, configuration: Configuration) -> None:
        self.stage = stage
        self.member = member
        self.disk = Disk(configuration)
        self.core: Replica | None = None
        self.stalled = False
        self.unwritten: list[Ready] = []
        self.applied: list[str] = []
        self.slot = Slot(0)
        self.configuration = configuration
        self.configurations: dict[Slot, Configuration] = {}
        self.reads: dict[int, Slot | None] = {}

    def start(self) -> None:
        """Begin a run on what the disk holds."""
        self.disk.incarnation += 1
        self.unwritten = []
        self.slot, self.configuration = self.disk.snapshot, self.disk.configuration
        stage = self.stage
        self.core = Replica(
            self.member,
            self.disk.incarnation,
            self.disk.state(),
            options=stage.options,
            random=Random(self.member),
            now=stage.now,
        )
        self.turn()

    def turn(self) -> None:
        """Take out what the core wants, and do what needs neither wire nor disk."""
        core, stage = self.core, self.stage
        assert core is not None
        while (ready := core.ready()) is not NOTHING:
            for to, message in ready.messages:
                stage.post(self, to, message)
            for slot, value in ready.committed:
                self.apply(slot, value)
            self.reads.update(dict(ready.reads))
            for to, fetch in ready.snapshot_requests:
                size = SNAPSHOT if fetch.slot == self.disk.snapshot else 0
                stage.post(self, to, SnapshotChunk(fetch.slot, fetch.offset, size, b"s" * min(60, size - fetch.offset)))
            for chunk in ready.snapshot_chunks:
                if chunk.offset + len(chunk.chunk) == chunk.size:
                    self.install(chunk.slot)
            if ready.records or ready.after:
                self.unwritten.append(ready)

    def apply(self, slot: Slot, value: Value) -> None:
        """A slot is chosen."""
        assert slot == self.slot + 1, f"member {self.member} applies {slot} after {self.slot}"
        self.slot = slot
        if value.kind is Kind.CONFIGURATION:
            self.configuration = reconfigured(self.configuration, value.payload, slot)
        self.stage.chosen(self, slot, value)
        if value.kind is Kind.COMMANDS:
            self.applied.append(value.payload.decode())
        self.configurations[slot] = self.configuration

    def install(self, slot: Slot) -> None:
        """A snapshot has arrived whole."""
        assert self.core is not None
        if not self.core.expects(slot):
            self.core.abandon_snapshot()
            return
        other = next(a for a in self.stage.actors.values() if slot in a.configurations)
        self.configuration = other.configurations[slot]
        self.slot = slot
        self.disk.compact(slot, self.configuration)
        self.stage.say(f"{self.member} installs the snapshot at {slot}")
        self.core.installed(slot, SNAPSHOT, self.configuration, self.stage.now)

    def compact(self) -> None:
        """Take a snapshot of all that is applied."""
        assert self.core is not None
        self.configurations[self.slot] = self.configuration
        self.disk.compact(self.slot, self.configuration)
        self.core.compacted(self.slot, SNAPSHOT)

    def write(self) -> bool:
        """What is on its way reaches the disk; then what waited for it leaves. False if nothing was."""
        if self.core is None or not self.unwritten:
            return False
        batch, self.unwritten = self.unwritten, []
        for ready in batch:
            for record in ready.records:
                self.disk.write(record)
        for ready in batch:
            for to, message in ready.after:
                assert self.disk.supports(message, self.member), f"{message} is not backed by the disk"
                self.stage.post(self, to, message)
            self.core.persisted(ready.upto, self.stage.now)
        self.turn()
        return True


class Stage:
    """`voters` members from 1 on, then `learners`. `options` as of :class:`Options`."""

    def __init__(self, voters: int = 3, learners: int = 0, **options: int) -> None:
        self.options = Options(**options)
        self.now = 1_000_000
        self.lines: list[str] = []
        self.wire: list[Letter] = []
        self.cut: set[tuple[int, int]] = set()
        self.withheld: list[Letter] = []
        self._withhold: Callable[[Letter], bool] | None = None
        self.log: dict[Slot, Value] = {}
        roles = [Role.VOTER] * voters + [Role.LEARNER] * learners
        self.founding = Configuration(
            Slot(0), tuple(Member(MemberId(i + 1), role, f"tcp:{i + 1}") for i, role in enumerate(roles))
        )
        self.actors: dict[int, Actor] = {}
        for member in self.founding.members:
            self.enter(member.id)

    # ---------------------------------------------------------------- directions

    def enter(self, member: int) -> None:
        """A new replica on an empty disk."""
        self.actors[member] = Actor(self, MemberId(member), self.founding)
        self.actors[member].start()

    def core(self, member: int) -> Replica:
        """The core of a member that runs."""
        core = self.actors[member].core
        assert core is not None, f"member {member} is down"
        return core

    def pass_time(self, milliseconds: float) -> None:
        """Time goes on; due ticks happen when they are due, and everything settles after each."""
        end = self.now + round(milliseconds * 1000)
        while True:
            running = [a for _, a in sorted(self.actors.items()) if a.core is not None]
            due = min((a.core.next_tick() for a in running if a.core), default=end)
            if due > end:
                break
            self.now = max(self.now, due)
            for actor in running:
                if actor.core is not None and actor.core.next_tick() <= self.now:
                    self.tick(actor.member)
            self.settle()
        self.now = end

    def tick(self, member: int) -> None:
        """One member looks at the clock."""
        self.core(member).tick(self.now)
        self.actors[member].turn()

    def elect(self, member: int) -> None:
        """Make it lead, by waiting for all grants to end and letting it be the first to notice."""
        self.now += 2 * self.options.lease
        for _ in range(3):  # an old leader must find out first that it is none, and how high the others' ballots are
            self.tick(member)
            self.settle()
            if self.core(member).serving:
                break
            self.now = max(self.now, self.core(member).next_tick())
        assert self.core(member).serving, f"member {member} does not serve"
        self.now += self.options.heartbeat
        self.tick(member)
        self.settle()

    def propose(self, member: int, *texts: str) -> None:
        """Propose commands, each in a slot, in one turn."""
        for each in texts:
            self.core(member).propose(Value(Kind.COMMANDS, each.encode()), self.now)
        self.actors[member].turn()

    def change(self, member: int, kind: ChangeKind, whom: int) -> Slot:
        """Propose a change of membership."""
        slot = self.core(member).reconfigure(
            Change(kind, Member(MemberId(whom), Role.LEARNER, f"tcp:{whom}")), self.now
        )
        self.actors[member].turn()
        return slot

    def read(self, member: int, context: int = 1, by_round: bool = False) -> None:
        """Ask for a linearizable index."""
        self.core(member).read(context, self.now, by_round)
        self.actors[member].turn()

    def transfer(self, member: int, to: int) -> None:
        """Hand leadership over."""
        self.core(member).transfer(MemberId(to), self.now)
        self.actors[member].turn()

    def crash(self, member: int) -> None:
        """Lose everything that is not written."""
        self.actors[member].core = None
        self.actors[member].unwritten = []

    def restart(self, member: int) -> None:
        """Crash and start again."""
        self.crash(member)
        self.actors[member].start()

    def stall(self, member: int) -> None:
        """Its disk does not come back from now on."""
        self.actors[member].stalled = True

    def resume(self, member: int) -> None:
        """Its disk works again."""
        self.actors[member].stalled = False

    def part(self, *pairs: tuple[int, int]) -> None:
        """Cut the links between these members, both ways."""
        self.cut |= {(a, b) for a, b in pairs} | {(b, a) for a, b in pairs}

    def isolate(self, member: int) -> None:
        """Cut a member off from everybody."""
        self.part(*((member, other) for other in [*self.actors, 99] if other != member))

    def heal(self) -> None:
        """All links work."""
        self.cut.clear()

    def withhold(self, which: Callable[[Letter], bool]) -> None:
        """Letters for which `which` is true wait, from now on, until they are released."""
        self._withhold = which

    def release(self) -> None:
        """What was withheld goes on its way."""
        self._withhold = None
        self.wire, self.withheld = self.wire + self.withheld, []

    def lose(self) -> None:
        """What was withheld is lost."""
        self._withhold = None
        self.withheld = []

    def settle(self) -> None:
        """Deliver and write until all is quiet. Time stands still."""
        for _ in range(10_000):
            if self.wire:
                self.deliver(self.wire.pop(0))
            elif not any(a.write() for _, a in sorted(self.actors.items()) if not a.stalled):
                return
        raise AssertionError("the cell does not come to rest")

    def deliver(self, letter: Letter) -> None:
        """One letter arrives."""
        actor = self.actors.get(letter.to)
        if (letter.sender.member, letter.to) in self.cut or actor is None or actor.core is None:
            return
        if self._withhold is not None and self._withhold(letter):
            self.withheld.append(letter)
            return
        self.say(f"{letter.sender.member} -> {letter.to} {describe(letter.message)}")
        actor.core.receive(letter.sender, letter.message, self.now)
        actor.turn()

    def sender(self, member: int) -> Sender:
        """What a member's messages are signed with."""
        return Sender(MemberId(member), self.actors[member].disk.incarnation if member in self.actors else 1)

    def send(self, sender: int, to: int, message: Message) -> None:
        """Deliver a message of the script's own."""
        self.deliver(Letter(self.sender(sender), MemberId(to), message))

    # ---------------------------------------------------------------- to look at

    def applied(self, member: int) -> list[str]:
        """The commands that a member applied, over all its runs since the last snapshot it installed."""
        return self.actors[member].applied

    def leaders(self) -> list[int]:
        """Who serves."""
        return [m for m, a in sorted(self.actors.items()) if a.core is not None and a.core.serving]

    def holders(self) -> list[int]:
        """Who holds the lease."""
        return [m for m, a in sorted(self.actors.items()) if a.core is not None and a.core.lease_left(self.now) > 0]

    def sent(self, kind: type) -> Iterator[Letter]:
        """Letters of a kind that are on the wire or withheld."""
        return (letter for letter in self.wire + self.withheld if isinstance(letter.message, kind))

    # ---------------------------------------------------------------- for the actors

    def post(self, actor: Actor, to: MemberId, message: Message) -> None:
        """A message leaves."""
        self.wire.append(Letter(Sender(actor.member, actor.disk.incarnation), to, message))

    def chosen(self, actor: Actor, slot: Slot, value: Value) -> None:
        """A member hands a slot out."""
        known = self.log.setdefault(slot, value)
        assert known == value, f"slot {slot}: {known} and {value}"
        self.say(f"{actor.member} applies {slot}: {text(value)}")

    def say(self, line: str) -> None:
        """Write a line of the transcript."""
        self.lines.append(line)


# ---------------------------------------------------------------- transcripts


def text(value: Value) -> str:
    """A value, to be read."""
    if value.kind is Kind.COMMANDS:
        return value.payload.decode()
    if value.kind is Kind.CONFIGURATION:
        change = decode_change(value.payload)
        return f"<{change.kind.name.lower().replace('_', ' ')} {change.member.id}>"
    return "<nothing>"


def describe(message: Message) -> str:
    """A message, to be read."""
    fields = []
    for name, field in zip(message._fields, message, strict=True):
        if name in ("sent", "limit", "configuration", "part", "parts", "compacted") or field == (0, 0):
            continue
        if isinstance(field, bytes):
            field = f"{len(field)} bytes"
        elif isinstance(field, tuple) and not hasattr(field, "_fields"):
            field = "[" + ", ".join(map(_item, field)) + "]"
        fields.append(f"{name}={field}")
    return " ".join([type(message).__name__, *fields])


def _item(item: object) -> str:
    if isinstance(item, Vote):
        return f"{item.slot}@{item.ballot}: {text(item.value)}"
    assert isinstance(item, Value)
    return text(item)


def perform(script: str) -> str:
    """The transcript of `script`: its directions and comments as they stand, each followed by what happens now."""
    stage = Stage()
    result: list[str] = []
    for line in script.splitlines():
        if line.startswith("#") or not line.strip():
            result.append(line)
            continue
        if not line.startswith(">"):
            continue
        stage.lines.clear()
        stage = _direct(stage, line.lstrip(">").split())
        result += [line, *("  " + said for said in stage.lines if not line.startswith(">>"))]
    return "\n".join(result) + "\n"


def _direct(stage: Stage, words: list[str]) -> Stage:
    """Carry out one direction."""
    verb, *rest = words
    numbers = [int(word) for word in rest if word.isdigit()]
    match verb:
        case "stage":
            options = dict(word.split("=") for word in rest if "=" in word)
            stage = Stage(*numbers, **{name: int(value) for name, value in options.items()})
        case "propose":
            stage.propose(numbers[0], *rest[1:])
        case "change":
            stage.change(numbers[0], ChangeKind[rest[1].upper()], numbers[1])
        case "settle" | "heal":
            getattr(stage, verb)()
        case "pass":
            stage.pass_time(numbers[0])
        case "cut":
            stage.part((numbers[0], numbers[1]))
        case "wait":
            stage.now += numbers[0] * 1000
        case "compact":
            stage.actors[numbers[0]].compact()
        case "show":
            for member, actor in sorted(stage.actors.items()):
                core = actor.core
                state = "down" if core is None else f"{core.status.name.lower()} {core.ballot} chosen {core.chosen}"
                stage.say(f"{member}: {state}{' serving' if core is not None and core.serving else ''}")
        case "answers":
            for context, slot in sorted(stage.actors[numbers[0]].reads.items()):
                stage.say(f"read {context}: as of {slot}")
        case _:
            getattr(stage, verb)(*numbers)
    return stage


TRANSCRIPTS = Path(__file__).parent / "transcripts"


def main() -> None:
    """Record every transcript anew."""
    for path in sorted(TRANSCRIPTS.glob("*.txt")):
        path.write_text(perform(path.read_text()))
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
