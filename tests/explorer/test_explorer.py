"""The explorer finds what is wrong, finds nothing in what is right, and its savings change no verdict."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from pathlib import Path
from random import Random

import pytest
from bugs import BUGS, Bug
from plain_world import PlainWorlds
from quorate.kernel.paxos.ballot import Ballot, MemberId, Slot
from quorate.kernel.paxos.messages import Heartbeat, Message, Promise, Sender
from quorate.kernel.paxos.replica import Options, Replica
from quorate.kernel.testing.explore import line, main
from quorate.kernel.testing.explorer import Explorer
from quorate.kernel.testing.explorer_disk import Broken, Disk
from quorate.kernel.testing.explorer_identity import Names, identity
from quorate.kernel.testing.explorer_member import Setting
from quorate.kernel.testing.explorer_scope import QUIET, Scope
from quorate.kernel.testing.explorer_scopes import (
    CATCH_UP,
    FULL,
    ONE_LEADER,
    SECOND_LEADER,
    SMALL,
    VOUCHED,
    VOUCHED_ALONE,
)


@pytest.mark.parametrize("scope", SMALL, ids=[scope.name for scope in SMALL])
def test_nothing_is_wrong_in_small_worlds(scope: Scope) -> None:
    """Every state of every small scope is gone through, and no promise is broken in any."""
    report = Explorer(scope).run()
    assert not report.failure, "\n".join((report.failure, *report.trace))
    assert report.complete
    assert len(report.decided) > 1


@pytest.mark.parametrize("bug", BUGS.values(), ids=list(BUGS))
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bug put in place of right code, the explorer comes to a broken promise and says which and how."""
    bug.plant(monkeypatch)
    report = Explorer(bug.scope).run(states=200_000)
    assert re.search(bug.words, report.failure), line(report)
    assert report.trace[-1] == f"broken: {report.failure}"
    assert report.trace[0].startswith("member ") or report.trace[0].startswith("it is ")


def test_a_way_to_a_violation_reads_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way is a shortest one, and says who did what and what came of it."""
    BUGS["own_vote_before_it_is_durable"].plant(monkeypatch)
    trace = Explorer(ONE_LEADER).run().trace
    assert [words for words in trace if not words.startswith(" ")] == [
        "member 1 campaigns",
        "member 1 finds durable: promise of 1.1",
        "member 2 hears from 1: Prepare(ballot 1.1, first 1, configuration 0, waiver 0.0)",
        "member 2 finds durable: promise of 1.1",
        "member 1 hears from 2: Promise(ballot 1.1, first 1, votes [], chosen 0, compacted 0, part 0, parts 1)",
        "member 2 hears from 1: Accept(ballot 1.1, first 1, values [a no-op], commit 0)",
        "member 2 finds durable: vote for a no-op in slot 1, ballot 1.1",
        "member 1 hears from 2: Accepted(ballot 1.1, first 1, last 1)",
        "broken: member 1 handed out a no-op in slot 1, which is not on the disks of a quorum",
    ]
    assert trace[-3:-1] == (
        "member 1 hears from 2: Accepted(ballot 1.1, first 1, last 1)",
        "    hands out slot 1: a no-op",
    )


# ---------------------------------------------------------------- what saves work

_PAIR = Scope("pair", voters=(1, 2), campaigns=2, proposals=((b"a",),), muted=ONE_LEADER.muted)


@pytest.mark.parametrize(
    "scope",
    [
        ONE_LEADER._replace(proposals=()),
        ONE_LEADER._replace(voters=(1, 2), crashes=1),
        _PAIR._replace(proposals=()),
        _PAIR._replace(campaigns=1, candidates=(1,), crashes=1, proposals=()),
    ],
    ids=["three", "one leader of two", "two leaders of two", "a crash"],
)
def test_nothing_is_missed(scope: Scope) -> None:
    """The same logs are decided as in worlds where every message, crash and restart is a step of its own."""
    report = Explorer(scope).run()
    assert report.decided == PlainWorlds(scope).decided()
    assert not report.failure


@pytest.mark.parametrize("name", ["acknowledged_before_it_is_durable", "own_vote_before_it_is_durable"])
def test_plain_worlds_show_the_same_bugs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the explorer finds broken is broken in plain worlds, too."""
    BUGS[name].plant(monkeypatch)
    with pytest.raises(Broken, match=BUGS[name].words):
        PlainWorlds(ONE_LEADER._replace(proposals=())).decided()


@pytest.mark.parametrize(
    "scope",
    [
        ONE_LEADER,
        SECOND_LEADER,
        ONE_LEADER._replace(proposals=(), crashes=1),
        ONE_LEADER._replace(proposals=(), muted=CATCH_UP.muted),
        VOUCHED,
        VOUCHED_ALONE,
    ],
    ids=["one leader", "second leader", "a crash", "catch-up", "vouched", "vouched, one client"],
)
def test_reductions_change_no_verdict(scope: Scope) -> None:
    """With and without eager writes and the removal of late messages the same logs are decided; with them there are
    fewer states."""
    reduced, whole = Explorer(scope).run(), Explorer(scope._replace(reduced=False)).run()
    assert reduced.complete
    assert whole.complete
    assert reduced.decided == whole.decided
    assert reduced.failure == whole.failure == ""
    assert reduced.states < whole.states


@pytest.mark.parametrize("name", ["any_vote_believed", "votes_not_reported", "gaps_not_filled"])
def test_reductions_hide_no_bug(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them the same promise is found broken."""
    bug = BUGS[name]
    bug.plant(monkeypatch)
    report = Explorer(bug.scope._replace(reduced=False)).run(states=200_000)
    assert re.search(bug.words, report.failure)


def test_renamed_candidates_decide_the_same() -> None:
    """Which two members campaign makes no difference but for their names."""
    scope = SECOND_LEADER._replace(opening=(), campaigns=2, proposals=(), candidates=(1, 2))
    first, second = (Explorer(scope._replace(candidates=pair)).run() for pair in ((1, 2), (2, 3)))
    assert first.complete
    assert second.complete
    assert first.decided == second.decided


def test_muted_messages_decide_nothing() -> None:
    """Worlds in which answers to heartbeats arrive decide the same as those where they do not."""
    scope = ONE_LEADER._replace(muted=ONE_LEADER.muted - QUIET - {Heartbeat})
    heard, muted = Explorer(scope).run(), Explorer(ONE_LEADER).run()
    assert heard.complete
    assert heard.decided == muted.decided
    assert heard.states > muted.states


def test_a_late_message_that_has_an_effect_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages are not taken out of the network on trust: a core that listens to late ones is found out."""
    real = Replica.receive

    def receive(self: Replica, sender: Sender, message: Message, now: int) -> None:
        if isinstance(message, Promise) and self.serving:
            self._election._vain = 1
        real(self, sender, message, now)

    monkeypatch.setattr(Replica, "receive", receive)
    assert "a late message has an effect: Promise" in Explorer(ONE_LEADER._replace(proposals=())).run().failure


def test_what_nobody_asks_for_makes_no_difference() -> None:
    """A follower to which nobody vouches may know which of its votes are durable, or not: the states are fewer, and the
    same is decided."""
    explorer, knowing = Explorer(SECOND_LEADER), Explorer(SECOND_LEADER)
    knowing._setting.idle = frozenset()
    without, told_apart = explorer.run(), knowing.run()
    assert without.complete
    assert told_apart.complete
    assert without.decided == told_apart.decided
    assert without.failure == told_apart.failure == ""
    assert 2 * without.states < told_apart.states


def test_states_that_differ_are_told_apart() -> None:
    """Each attribute of each part of a core counts."""
    setting = Setting(ONE_LEADER.founding(), Options(lease=0, heartbeat=1, campaign_spread=0), {}, frozenset(), False)
    names = Names()
    cores = [Replica(MemberId(1), 1, Disk(setting.founding).state(), options=setting.options, random=Random(0), now=0)]
    cores = [deepcopy(cores[0]) for _ in range(6)]
    cores[1]._acceptor.promised = Ballot(1, MemberId(1))
    cores[2]._learner.target = Slot(1)
    cores[3]._election._vain = 1
    cores[4]._catchup._teller = MemberId(2)
    assert len({identity(core, 0, names) for core in cores}) == 5


# ---------------------------------------------------------------- the command


def test_scopes_have_names_of_their_own() -> None:
    """A scope can be asked for by name."""
    names = [scope.name for scope in (*SMALL, *FULL)]
    assert len(set(names)) == len(names)


def test_the_command_tells_figures(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each scope, or JSON; a scope that does not exist is named."""
    assert main(["one leader", "--jobs", "1"]) == 0
    assert capsys.readouterr().out.startswith("one leader: complete, ")
    assert main(["one leader", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is True
    assert main(["--list"]) == 0
    assert "name='second leader'" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["third leader"])
    assert "no scope is called 'third leader'" in capsys.readouterr().err


def test_the_command_tells_what_is_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken promise is told with the way to it, and gives status 1."""
    BUGS["prepare_before_the_promise_is_durable"].plant(monkeypatch)
    assert main(["one leader", "--jobs", "1"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("one leader: broken, ")
    assert told[1] == "  member 1 campaigns"
    assert told[-1] == "  Prepare 1.1 is sent while the disk holds 0.0"


def test_what_is_not_complete_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """An exploration that ran out of time does not claim to have seen everything."""
    assert main(["second leader", "--jobs", "1", "--seconds", "0"]) == 2
    assert "second leader: not complete" in capsys.readouterr().out


# ---------------------------------------------------------------- the page


def test_the_page_lists_every_bug() -> None:
    """What the documentation says was planted is what there is."""
    page = " ".join((Path(__file__).parents[2] / "docs" / "explanation" / "testing.rst").read_text().split())
    for bug in BUGS.values():
        assert (bug.plant.__doc__ or "no words").rstrip(".") in page, bug
