"""The operator of a simulated cell: replaces members that lost their memory, and puts members in and out.

A member whose disk was wiped, or found damaged beyond what its peers can heal, never votes again under its id;
somebody has to take it out of the cell and put a new one in. In a real cell that is a person with a command; here it is
a look at the cell a few times a second, which also serves the nemesis when it changes the membership for its own sake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..paxos.ballot import MemberId
from ..paxos.quorum import Change, ChangeKind, Configuration, InvalidChange, Member, Role
from ..paxos.replica import NotLeader
from .clock import MILLISECOND, SECOND
from .lifecycle import Stage
from .process import Process

if TYPE_CHECKING:
    from .simulation import Simulation

LOOK: Final = 300 * MILLISECOND
LINGER: Final = 2 * SECOND
"""How long the process of a member that was taken out goes on, so that it can disturb the others if it knows how."""


class Upkeep:
    """See the module's text."""

    def __init__(self, simulation: Simulation) -> None:
        self.restless = False
        """Whether learners are left waiting and superfluous members kept for a while, as the nemesis likes it."""
        self._simulation = simulation
        self._world = simulation.world
        self._random = self._world.random("upkeep")
        self._next_member = max(self._world.processes) + 1
        self._sick: set[int] = set()
        self._healing: dict[int, int] = {}
        self._outside: dict[int, int] = {}
        self._open = 0  # the highest slot in which a change was proposed

    def begin(self) -> None:
        """Look after the cell until the simulation is over."""
        self._world.schedule.after(SECOND, self._look)

    # ---------------------------------------------------------------- the memory of members

    def lost(self, member: int) -> None:
        """The disk of `member` is gone."""
        self._sick.add(member)

    def damaged(self, member: int) -> None:
        """The disk of `member` was damaged: it is well when it has got everything that was chosen until now."""
        self._healing[member] = self._world.watch.frontier

    @property
    def well(self) -> bool:
        """Whether every member of the cell has its memory, as far as one can see."""
        members = self._world.watch.configuration.ids()
        return not any(member in members for member in (*self._sick, *self._healing))

    def may_harm(self, member: int) -> bool:
        """Whether the disk of `member` may lose its memory: the others must hold everything, outvote it, and have on
        their disks that this configuration is in force; and no change of it may be under way. The configuration is the
        one that was chosen last, be it that only the dead know."""
        configuration = self._world.watch.configuration
        voters = configuration.voters()
        others = [
            self._world.processes[voter] for voter in voters if voter != member and voter in self._world.processes
        ]
        return (
            member in voters
            and len(voters) >= 3
            and self.well
            and self._world.watch.frontier >= self._open
            and all(self._world.watch.disks.of(other.disk).chosen >= configuration.number for other in others)
        )

    # ---------------------------------------------------------------- looking

    def _look(self) -> None:
        world = self._world
        if self._simulation.over:
            return
        world.schedule.after(LOOK, self._look)
        for process in world.processes.values():
            self._examine(process)
        leader = world.leader()
        if leader is None:
            return
        configuration = leader.node.core.configuration
        members = configuration.ids()
        self._sick.update(member for member in members if member not in world.processes)
        self._dismiss(members)
        self._restore(configuration)

    def _examine(self, process: Process) -> None:
        member = process.member
        if process.stage is Stage.UNUSABLE or (process.alive and not process.intact):
            self._sick.add(member)
        elif process.stage is Stage.RUNNING and process.node.host.slot < self._healing.get(member, 0):
            return
        if process.stage is Stage.RUNNING or member in self._sick:
            self._healing.pop(member, None)

    def _dismiss(self, members: frozenset[MemberId]) -> None:
        """End the processes that have not been members for a while."""
        now = self._world.schedule.now
        for member in list(self._world.processes):
            if member in members:
                self._outside.pop(member, None)
            elif now - self._outside.setdefault(member, now) > LINGER:
                process = self._world.processes.pop(member)
                process.die(False, "not a member any more")

    def _restore(self, configuration: Configuration) -> None:
        """One step towards a cell of the wanted size whose members are all well."""
        size, members = self._world.size, configuration.members
        sick = [member for member in members if member.id in self._sick]
        learner = next((m for m in members if m.role is Role.LEARNER and m not in sick), None)
        if learner is not None:
            if sick or not self.restless or self._random.random() < 0.3:
                self.change(ChangeKind.PROMOTE, learner)
        elif len(members) < size or (sick and len(members) == size):
            if not any(member not in configuration.ids() for member in self._world.processes):
                self.join()
        elif sick:
            self.change(ChangeKind.REMOVE, sick[0])
        elif len(members) > size + self.restless:
            self.change(ChangeKind.REMOVE, self._random.choice(members))

    # ---------------------------------------------------------------- changes

    def join(self) -> None:
        """Start a new machine and have it added as a learner."""
        member = self._next_member
        self._next_member += 1
        self._world.add(member, self._simulation.clock(f"member {member}")).start()
        self.change(ChangeKind.ADD_LEARNER, Member(MemberId(member), Role.LEARNER, f"sim:{member}"))

    def change(self, kind: ChangeKind, member: Member) -> bool:
        """Ask the leader for a change of membership; whether it proposed it."""
        leader = self._world.leader()
        if leader is None:
            return False
        try:
            slot = leader.node.core.reconfigure(Change(kind, member), leader.now)
        except (InvalidChange, NotLeader) as error:
            self._world.trace(leader.member, "no %s of member %d: %s", kind.name.lower(), member.id, error)
            return False
        self._open = max(self._open, slot)
        self._world.trace(leader.member, "proposes to %s member %d at slot %d", kind.name.lower(), member.id, slot)
        leader.want_turn()
        return True
