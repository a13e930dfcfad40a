"""Which machines the cell runs, and at which version: agreed in the log.

Every replica announces what is installed there. A machine is loaded or upgraded only when every voter has announced
its code in that version, so that the command can be carried out wherever it is applied; a replica that lacks it all the
same (a learner, a voter that was downgraded) stops and says what to install.

The table of loaded machines is this machine's state; their own states are not.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from ..catalog import CODE_CHARS_MAX, CODES_MAX, MACHINE_NAME, VERSION_MAX, Catalog
from ..machine import Commit, Plain, Refusal, StateMachine, command, query
from ..wire import plain
from . import FIRST_LOADED, NAMES
from .asks import Load, Skip, SystemCommit, Unload, Upgrade
from .loaded import Halt, Loaded
from .membership import Membership

MACHINES_MAX: Final = 256
NUMBER_MAX: Final = 65_535


class Plugins(StateMachine):
    """The machine "plugins". `machines` is by number, in ascending order."""

    name = "plugins"
    version = 1

    def __init__(self, catalog: Catalog, membership: Membership) -> None:
        self._catalog = catalog
        self._membership = membership
        self.next_number = FIRST_LOADED
        """What the next machine gets; numbers below were given, to machines that may be unloaded."""
        self.announced: dict[int, dict[str, int]] = {}
        self.machines: dict[int, Loaded] = {}
        self.names: dict[str, Loaded] = {}

    # ---------------------------------------------------------------- commands

    @command
    def announce(self, commit: Commit, member: int, versions: dict[str, int]) -> bool:
        """`member` has this code installed, in versions up to these. False if it is not in the cell."""
        if commit.session:
            raise Refusal("cell-only", "a replica speaks for itself")
        if len(versions) > CODES_MAX or any(len(code) > CODE_CHARS_MAX for code in versions):
            raise Refusal("too-many-codes", f"a replica announces at most {CODES_MAX} machines")
        members = self._membership.configuration.ids()
        if members and member not in members:
            return False
        self.announced[member] = versions
        return True

    @command
    def load(self, commit: SystemCommit, name: str, code: str, version: int | None = None) -> int:
        """Begin to run `code` under `name`; the machine's number. Without a version it is the newest that every voter
        has."""
        if not MACHINE_NAME.fullmatch(name) or name in NAMES:
            raise Refusal("bad-name", "a machine's name is [a-z][a-z0-9-]*, up to 64 long, and none of the cell's own")
        if name in self.names:
            raise Refusal("already-loaded", f"there is a machine {name}")
        if len(self.machines) >= MACHINES_MAX or self.next_number > NUMBER_MAX:
            limits = f"{MACHINES_MAX} machines at a time, numbered up to {NUMBER_MAX}"
            raise Refusal("too-many-machines", f"the cell may run {limits}")
        agreed = self._agreed(code, version)
        number = self.next_number
        loaded = Loaded(number, name, code, agreed, self._make(code, agreed), system=False)
        self.next_number += 1
        self.machines[number] = self.names[name] = loaded
        commit.ask(Load(loaded))
        return number

    @command
    def unload(self, commit: SystemCommit, name: str) -> None:
        """End a machine: its state, timers and waits are gone."""
        loaded = self._find(name)
        del self.machines[loaded.number], self.names[name]
        commit.ask(Unload(loaded))

    @command
    def upgrade(self, commit: SystemCommit, name: str, version: int | None = None) -> int:
        """Move a machine to a newer version (without one: the newest that every voter has), which is the result. A
        halted machine goes on: a hook at which it halted is called again, a command is not."""
        loaded = self._find(name)
        agreed = self._agreed(loaded.code, version)
        if agreed <= loaded.version:
            raise Refusal("not-newer", f"{name} is at version {loaded.version}, and {agreed} is not newer")
        commit.ask(Upgrade(loaded, agreed))
        return agreed

    @command
    def skip(self, commit: SystemCommit, name: str) -> None:
        """Have a halted machine go on without the command or hook at which it halted."""
        loaded = self._find(name)
        if loaded.halt is None:
            raise Refusal("not-halted", f"{name} is not halted")
        commit.ask(Skip(loaded))

    # ---------------------------------------------------------------- queries

    @query
    def loaded(self) -> list[Plain]:
        """The machines in order of number: number, name, code, version, and why it is halted (None: it is not)."""
        return [
            {
                "number": each.number,
                "name": each.name,
                "code": each.code,
                "version": each.version,
                "halted": None if each.halt is None else each.halt.reason,
            }
            for each in self.machines.values()
        ]

    @query
    def announcements(self) -> list[Plain]:
        """[member, {code: newest version}] in order of member."""
        return [[member, versions] for member, versions in sorted(self.announced.items())]

    # ---------------------------------------------------------------- the host's side

    def numbered(self, number: int) -> bool:
        """Whether a machine, perhaps unloaded since, was ever given this number."""
        return FIRST_LOADED <= number < self.next_number

    def retain(self, members: Collection[int]) -> None:
        """Only these are in the cell now."""
        for member in [m for m in self.announced if m not in members]:
            del self.announced[member]

    def snapshot(self) -> Plain:
        return [
            self.next_number,
            [[member, versions] for member, versions in sorted(self.announced.items())],
            [
                [m.number, m.name, m.code, m.version, m.chain, None if m.halt is None else m.halt.image()]
                for m in self.machines.values()
            ],
        ]

    def restore(self, state: Plain, version: int) -> None:
        """The machines are put in place as new ones; the host restores each.

        Raises:
            MissingPlugin: the code of one is missing here.
        """
        fields: Any = state
        self.next_number, announced, machines = fields
        self.announced = {member: versions for member, versions in announced}
        for number, name, code, agreed, chain, halt in machines:
            kind = self._catalog.find(code, agreed)
            loaded = Loaded(number, name, code, agreed, kind(), system=False)
            loaded.chain = chain
            loaded.halt = None if halt is None else Halt.of_image(halt)
            self.machines[number] = self.names[name] = loaded

    def _find(self, name: str) -> Loaded:
        loaded = self.names.get(name)
        if loaded is None:
            raise Refusal("machine-missing", f"no machine is called {name[:64]!r}; loaded: {', '.join(self.names)}")
        return loaded

    def _agreed(self, code: str, version: int | None) -> int:
        """The version to move to, which every voter can run."""
        if version is not None and not 0 < version <= VERSION_MAX:
            raise Refusal("bad-version", f"a version is from 1 to {VERSION_MAX}")
        voters = sorted(self._membership.configuration.voters())
        newest = {voter: self.announced.get(voter, {}).get(code, 0) for voter in voters}
        agreed = version if version is not None else min(newest.values(), default=0)
        lacking = [voter for voter in voters if newest[voter] < max(agreed, 1)]
        if lacking or not voters:
            wanted = f"{code[:CODE_CHARS_MAX]!r}" + ("" if version is None else f" in version {version}")
            where = lacking or "of the cell"
            raise Refusal("not-announced", f"{wanted} is neither installed nor allowed on the members {where}")
        return agreed

    def _make(self, code: str, version: int) -> StateMachine:
        """A new machine, which has shown that its state can be kept. What is wrong with it is wrong on every
        replica."""
        kind = self._catalog.find(code, version)
        try:
            machine = kind()
            plain.check(machine.snapshot(), exact=kind.restore is StateMachine.restore)
        except plain.NotPlain as error:
            raise Refusal("unfit", f"the state of {code!r} cannot be kept: {error}") from None
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise Refusal("unfit", f"{code!r} cannot be made: {type(error).__name__}") from error
        return machine
