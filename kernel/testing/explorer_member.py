"""One member as the explorer sees it: a real core, its disk, the writes under way, and what it handed out so far.

A :class:`State` never changes. To take a step, the core is made anew from the disk on which its run began, is called
once more as it was called so far, and then takes the step: the core is deterministic, so it is the same core, driven
through its public door alone, and nothing has to be copied. Two states are one if everything that can influence what is
to come is equal (`State.key`); numbers of records are compared as distances from the newest, because only their order
matters.

Crash and restart are one step: a member that stays down longer is one that takes no steps, and what is sent to it may
arrive later.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from random import Random
from typing import Any, Final, NamedTuple

from ..paxos.ballot import NO_BALLOT, NO_SLOT, MemberId, Slot
from ..paxos.configuration import encode_change, reconfigured
from ..paxos.following import Following
from ..paxos.messages import Accept, Canvass, Canvassed, Kind, Message, Prepare, Sender, SnapshotChunk, Value
from ..paxos.quorum import Configuration
from ..paxos.ready import NOTHING, ReadResult, Ready, Record, Send
from ..paxos.replica import Options, Replica
from .explorer_disk import Broken, Cast, Disk
from .explorer_identity import Idle, Names, identity

_UNUSED: Final = Random(0)
"""The settings leave nothing to chance: every spread is 0."""


class Step(NamedTuple):
    """What happens to a member, with what (a letter, a payload, ...), at what time of the world."""

    name: str
    subject: Any = None
    now: int = 0


class Letter(NamedTuple):
    """A message that was sent. `kind` tells messages apart whose fields are equal."""

    sender: MemberId
    to: MemberId
    kind: type[Message]
    message: Message


class Write(NamedTuple):
    """A unit under way to the disk, and what is to be said when it is there. `number` is that of its last record."""

    records: tuple[Record, ...]
    after: frozenset[Letter]
    number: int


class Question(NamedTuple):
    """A read that was not answered yet, and the highest slot that had been handed out anywhere when it began."""

    context: int
    bound: Slot


class Call(NamedTuple):
    """A call of the core."""

    name: str
    arguments: tuple[Any, ...]


class State(NamedTuple):
    """`birth`, `began` and `calls` are how the core of this `run` came to be what it is. `log` is the longest that this
    member ever handed out, `applied` how far it did so in this run, `proposed` what it ever proposed. `leads`, `room`
    (for proposals), `due` (its next tick) and `held_until` (its lease) are as the core says; times are of the member's
    clock. `core` names what the core is, `key` the whole state."""

    member: MemberId
    run: int
    birth: Disk
    began: int
    calls: tuple[Call, ...]
    newest: int
    disk: Disk
    writes: tuple[Write, ...]
    log: tuple[Value, ...]
    applied: Slot
    proposed: frozenset[Cast]
    questions: tuple[Question, ...]
    asked: int
    leads: bool
    room: int
    due: int
    held_until: int
    core: int
    key: Hashable


class Done(NamedTuple):
    """A step's outcome: the next state, and what left the member. `readies` is what the core wanted on the way."""

    state: State
    letters: frozenset[Letter]
    readies: tuple[Ready, ...]


class Setting:
    """What all members of a world share.

    Args:
        rates: how fast a member's clock goes, in per cent of the world's time; 100 if not said.
        muted: messages of these types are never delivered.
        canvass: whether candidates really ask before they prepare. If not, everybody is taken to have said yes, which
            includes every case: nothing that is safe may depend on the answers.
        hurried: at these members somebody waits. If there are none, no leader vouches for its votes, so no follower
            counts its own, and which of them are durable is to it as good as unknown.
    """

    def __init__(
        self,
        founding: Configuration,
        options: Options,
        rates: dict[MemberId, int],
        muted: frozenset[type[Message]],
        canvass: bool,
        hurried: frozenset[MemberId] = frozenset(),
    ) -> None:
        self.founding = founding
        self.options = options
        self.muted = muted
        self.canvass = canvass
        self.hurried = hurried
        self.idle: Idle = frozenset() if hurried else frozenset({(Following, "_own")})
        self._rates = rates
        self.names = Names()
        self._logs: list[tuple[Value, ...]] = []

    def clock(self, member: MemberId, now: int) -> int:
        """What the member's clock shows."""
        return now * self._rates.get(member, 100) // 100

    def governing(self, log: Iterable[Value]) -> Configuration:
        """The configuration in force after `log`."""
        configuration = self.founding
        for slot, value in enumerate(log, 1):
            if value.kind is Kind.CONFIGURATION:
                configuration = reconfigured(configuration, value.payload, Slot(slot))
        return configuration

    def pack(self, log: tuple[Value, ...]) -> bytes:
        """The bytes of a snapshot of `log`."""
        if log not in self._logs:
            self._logs.append(log)
        return self._logs.index(log).to_bytes(4)

    def unpack(self, snapshot: bytes) -> tuple[Value, ...]:
        """The log of which `snapshot` is one."""
        return self._logs[int.from_bytes(snapshot)]


def start(setting: Setting, member: MemberId, now: int) -> Done:
    """A member on a new disk."""
    clock = setting.clock(member, now)
    disk, nothing = Disk(setting.founding), frozenset[Cast]()
    blank = State(member, 0, disk, clock, (), 0, disk, (), (), NO_SLOT, nothing, (), 0, False, 0, 0, 0, 0, ())
    return _begin(setting, blank, disk, now)


def take(setting: Setting, state: State, step: Step) -> Done:
    """`state` after `step`. Raises Broken or AssertionError if it must not come to that."""
    if step.name == "crash":
        disk = state.disk
        for record in [record for write in state.writes for record in write.records][: step.subject]:
            disk = disk.written(record)
        return _begin(setting, state, disk, step.now)
    run = _Run(setting, state, _core(setting, state), step.now)
    run.take(step)
    run.settle()
    return run.done()


def _begin(setting: Setting, before: State, disk: Disk, now: int) -> Done:
    """The next run of a member, on what its disk holds."""
    state = before._replace(
        run=before.run + 1,
        birth=disk,
        began=setting.clock(before.member, now),
        calls=(),
        newest=0,
        disk=disk,
        writes=(),
        applied=disk.snapshot,
        questions=(),
    )
    run = _Run(setting, state, _first(setting, state), now)
    run.settle()
    return run.done()


def deaf(setting: Setting, state: State, letters: Iterable[Letter], now: int) -> bool:
    """Whether all these letters would change nothing, and bring about nothing that anybody hears of."""
    core = _core(setting, state)
    clock = setting.clock(state.member, now)
    for letter in letters:
        try:
            core.receive(Sender(letter.sender, 1), letter.message, clock)
        except AssertionError:
            return False
        ready = core.ready()
        if ready._replace(messages=(), upto=0) != NOTHING:
            return False
        if any(type(message) not in setting.muted for _, message in ready.messages):
            return False
    return identity(core, state.newest, setting.names, setting.idle) == state.core


def _first(setting: Setting, state: State) -> Replica:
    return Replica(
        state.member, state.run, state.birth.state(), options=setting.options, random=_UNUSED, now=state.began
    )


def _core(setting: Setting, state: State) -> Replica:
    """The core of `state`."""
    core = _first(setting, state)
    core.ready()
    for name, arguments in state.calls:
        getattr(core, name)(*arguments)
        core.ready()
    return core


class _Run:
    """A core in the middle of a step, and what has come of it so far."""

    def __init__(self, setting: Setting, state: State, core: Replica, now: int) -> None:
        self._setting = setting
        self._before = state
        self._core = core
        self._served = core.serving
        self._now = setting.clock(state.member, now)
        self._calls = list(state.calls)
        self._newest = state.newest
        self._disk = state.disk
        self._writes = list(state.writes)
        self._log = state.log
        self._applied = state.applied
        self._proposed = state.proposed
        self._questions = state.questions
        self._asked = state.asked
        self._letters: set[Letter] = set()
        self._readies: list[Ready] = []

    def _call(self, name: str, *arguments: Any) -> None:
        self._calls.append(Call(name, arguments))
        getattr(self._core, name)(*arguments)

    # ---------------------------------------------------------------- in

    def take(self, step: Step) -> None:
        """Let it happen."""
        name, subject, now = step.name, step.subject, self._now
        if name == "deliver":
            self._call("receive", Sender(subject.sender, 1), subject.message, now)
        elif name == "sync":
            self._sync()
        elif name in ("tick", "campaign"):
            self._call("tick", now)
        elif name == "speak":
            self._call("speak")
        elif name == "propose":
            for payload in subject:
                self._call("propose", Value(Kind.COMMANDS, payload), now)
        elif name == "change":
            # not Replica.reconfigure: whether the others answer and have caught up must not matter to safety
            self._call("propose", Value(Kind.CONFIGURATION, encode_change(subject)), now)
        elif name == "transfer":
            self._call("transfer", subject, now)
        elif name == "read":
            self._asked += 1
            self._questions = (*self._questions, Question(self._asked, subject))
            self._call("read", self._asked, now)
        else:
            assert name == "compact", name
            self._disk = self._disk.compacted(self._applied, self._core.configuration)
            self._call("compacted", self._applied, 4)

    def _sync(self) -> None:
        """The oldest write is durable."""
        write = self._writes.pop(0)
        for record in write.records:
            self._disk = self._disk.written(record)
        for letter in write.after:
            self._post(Send(letter.to, letter.message))
        self._call("persisted", write.number, self._now)

    # ---------------------------------------------------------------- out

    def settle(self) -> None:
        """Carry out what the core wants, as a driver must; who begins to serve knows at once where somebody waits."""
        self._carry_out()
        if self._setting.hurried and self._core.serving and not self._served:
            self._call("hurry", self._setting.hurried)
            self._carry_out()

    def _carry_out(self) -> None:
        while (ready := self._core.ready()) is not NOTHING:
            self._readies.append(ready)
            self._newest = ready.upto
            for send in ready.messages:
                self._post(send)
            for slot, value in ready.committed:
                self._hand_out(slot, value)
            for result in ready.reads:
                self._answer(result)
            for to, fetch in ready.snapshot_requests:
                held = self._setting.pack(self._log[: fetch.slot]) if fetch.slot == self._disk.snapshot else b""
                self._post(Send(to, SnapshotChunk(fetch.slot, fetch.offset, len(held), held)))
            if ready.records or ready.after:
                self._write(ready)
            for chunk in ready.snapshot_chunks:
                self._install(chunk)

    def _post(self, send: Send) -> None:
        to, message = send
        kind, sender = type(message), self._before.member
        if isinstance(message, Canvass) and not self._setting.canvass:
            self._call("receive", Sender(to, 1), Canvassed(message.ballot, True, NO_BALLOT, NO_SLOT), self._now)
            return
        self._disk.check(sender, message)
        if isinstance(message, Prepare) and message.ballot <= self._before.birth.promised:
            raise Broken(f"ballot {message.ballot} may have been used in an earlier run")
        if isinstance(message, Accept):
            self._propose(message)
        if kind not in self._setting.muted:
            self._letters.add(Letter(sender, to, kind, message))

    def _propose(self, message: Accept) -> None:
        for slot, value in enumerate(message.values, message.first):
            for other in self._proposed:
                if other.slot == slot and other.ballot == message.ballot and other.value != value:
                    raise Broken(f"two values are proposed in slot {slot} in ballot {message.ballot}")
            self._proposed |= {Cast(Slot(slot), message.ballot, value)}

    def _hand_out(self, slot: Slot, value: Value) -> None:
        if slot != self._applied + 1:
            raise Broken(f"slot {slot} is handed out after slot {self._applied}")
        self._applied = slot
        if slot > len(self._log):
            self._log = (*self._log, value)
        elif self._log[slot - 1] != value:
            raise Broken(f"slot {slot} is handed out with another value than in an earlier run")

    def _answer(self, result: ReadResult) -> None:
        for context, bound in self._questions:
            if context == result.context and result.slot is not None and result.slot < bound:
                raise Broken(
                    f"a read is answered as of slot {result.slot}; slot {bound} was handed out before it began"
                )
        self._questions = tuple(each for each in self._questions if each.context != result.context)

    def _write(self, ready: Ready) -> None:
        """Begin to write. What adds nothing to the last write under way is said together with it; what adds nothing to
        the disk is as good as written."""
        after = frozenset(Letter(self._before.member, to, type(each), each) for to, each in ready.after)
        last = self._writes[-1] if self._writes else None
        if last is not None and (not ready.records or ready.records == last.records):
            self._writes[-1] = Write(last.records, last.after | after, ready.upto)
        else:
            self._writes.append(Write(ready.records, after, ready.upto))
            if last is None and self._disk.holds(ready.records):
                self._sync()

    def _install(self, chunk: SnapshotChunk) -> None:
        """A snapshot came from a peer, in one piece."""
        if not self._core.expects(chunk.slot):
            self._call("abandon_snapshot")
            return
        log = self._setting.unpack(chunk.chunk)
        if any(ours != theirs for ours, theirs in zip(self._log, log, strict=False)):
            raise Broken(f"the snapshot at slot {chunk.slot} holds other values than were handed out here")
        self._log = max(self._log, log, key=len)
        self._applied = chunk.slot
        configuration = self._setting.governing(log)
        self._disk = self._disk.compacted(chunk.slot, configuration)
        self._call("installed", chunk.slot, chunk.size, configuration, self._now)

    def done(self) -> Done:
        """The step is over."""
        before, core, newest = self._before, self._core, self._newest
        assert core.chosen == self._applied, "what is chosen is handed out at once"
        born = before.birth.promised if before.birth.promised.member == before.member else NO_BALLOT
        writes = tuple((write.records, write.after, newest - write.number) for write in self._writes)
        names = self._setting.names
        name = identity(core, newest, names, self._setting.idle)
        key = (
            before.member,
            name,
            names[self._disk],
            names[born, writes, self._log, self._questions, self._asked, self._proposed],
        )
        held = core.lease_left(self._now)
        state = State(
            before.member,
            before.run,
            before.birth,
            before.began,
            tuple(self._calls),
            newest,
            self._disk,
            tuple(self._writes),
            self._log,
            self._applied,
            self._proposed,
            self._questions,
            self._asked,
            core.leader == before.member,
            core.can_propose(),
            core.next_tick(),
            self._now + held if held else 0,
            name,
            key,
        )
        return Done(state, frozenset(self._letters), tuple(self._readies))
