"""Small worlds gone through without any thought: what the explorer's ways of saving work are compared with.

A message is delivered once and then gone; one of them may be delivered twice, and any may stay undelivered for ever. A
member crashes, and starts again in a step of its own. Nothing is remembered from one world to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from quorate.kernel.paxos.ballot import MemberId
from quorate.kernel.paxos.messages import Value
from quorate.kernel.paxos.replica import Options
from quorate.kernel.testing.explorer_judge import Judge
from quorate.kernel.testing.explorer_member import Letter, Setting, State, Step, start, take
from quorate.kernel.testing.explorer_scope import Scope


class World(NamedTuple):
    """`down` are members that crashed, with the step that will bring them back."""

    members: tuple[State, ...]
    network: tuple[Letter, ...]
    down: tuple[Step | None, ...]
    campaigns: int
    proposals: int
    crashes: int
    doubles: int

    def key(self) -> Any:
        """What tells this world from others."""
        network = frozenset((letter, self.network.count(letter)) for letter in self.network)
        return tuple(state.key for state in self.members), network, self[2:]


class PlainWorlds:
    """All worlds of a scope."""

    def __init__(self, scope: Scope) -> None:
        options = Options(lease=0, heartbeat=1, drift_ppm=0, campaign_spread=0, retained=0)
        self.scope = scope
        self.setting = Setting(scope.founding(), options, {}, scope.muted, scope.canvass)
        self.judge = Judge(scope.founding())

    def decided(self) -> set[tuple[Value, ...]]:
        """Go through them; the logs that are decided in any. Raises what a broken promise raises."""
        scope = self.scope
        members = tuple(start(self.setting, MemberId(member), 0).state for member in scope.voters)
        none = (None,) * len(members)
        waiting = [World(members, (), none, scope.campaigns, 0, scope.crashes, 1)]
        seen = {waiting[0].key()}
        while waiting:
            world = waiting.pop()
            self.judge.judge(tuple(self.judge.look(state) for state in world.members))
            for after in self.steps(world):
                key = after.key()
                if key not in seen:
                    seen.add(key)
                    waiting.append(after)
        return self.judge.decided

    def steps(self, world: World) -> Iterator[World]:
        """What may happen next."""
        for place, state in enumerate(world.members):
            back = world.down[place]
            if back is not None:
                down = (*world.down[:place], None, *world.down[place + 1 :])
                yield self.moved(world._replace(down=down), place, back)
                continue
            for i, letter in enumerate(world.network):
                if letter.to == state.member:
                    rest = world.network[:i] + world.network[i + 1 :]
                    yield self.moved(world._replace(network=rest), place, Step("deliver", letter))
                    if world.doubles:
                        yield self.moved(world._replace(doubles=0), place, Step("deliver", letter))
            if state.writes:
                yield self.moved(world, place, Step("sync"))
            if world.campaigns and state.member in self.scope.candidates and not state.leads:
                yield self.moved(world._replace(campaigns=world.campaigns - 1), place, Step("campaign"))
            if world.proposals < len(self.scope.proposals) and state.room:
                step = Step("propose", self.scope.proposals[world.proposals])
                yield self.moved(world._replace(proposals=world.proposals + 1), place, step)
            if world.crashes and state.member in self.scope.crashers:
                for survive in range(1 + sum(len(write.records) for write in state.writes)):
                    down = (*world.down[:place], Step("crash", survive), *world.down[place + 1 :])
                    yield world._replace(down=down, crashes=world.crashes - 1)

    def moved(self, world: World, place: int, step: Step) -> World:
        """The world after a member's step."""
        done = take(self.setting, world.members[place], step)
        members = (*world.members[:place], done.state, *world.members[place + 1 :])
        letters = sorted(done.letters, key=repr)
        return world._replace(members=members, network=(*world.network, *letters))
