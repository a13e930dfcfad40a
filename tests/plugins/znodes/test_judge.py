"""The judge: a history that went well, and what it says when one thing in it is changed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from quorate.plugins.znodes.protocol import Op
from reference.asking import Ask
from reference.judge import Line, Violation, judge
from znodes_people import Place
from znodes_wire import create, path_version, path_watch, put

Change = Callable[[Place, Line], None]


@pytest.fixture
def place() -> Place:
    """One client watches and reads while another one writes; all is heard.

    The first hears: the event of the creation, the value with the number of the change, the event of the deletion, and
    the answer to its own creation."""
    place = Place(Random(0), clients=2)
    reader, writer = place.people
    for person in place.people:
        person.connect(0)

    def say(person: object, *asks: Ask) -> None:
        person.say(list(asks))
        place.room.turn()
        for each in place.people:
            each.listen()

    say(reader, Ask(Op.EXISTS, path_watch(b"/a", True)))
    say(writer, Ask(Op.CREATE, create(b"/a", b"1")), Ask(Op.SET_DATA, put(b"/a", b"2")))
    say(reader, Ask(Op.GET_DATA, path_watch(b"/a", True)))
    say(writer, Ask(Op.DELETE, path_version(b"/a")))
    say(reader, Ask(Op.CREATE, create(b"/b", b"3")))
    return place


def test_a_history_that_went_well(place: Place) -> None:
    """Nothing is found, and the state at the end is the machine's."""
    cell = judge(place.log.entries(), place.lines)
    assert cell.zxid == place.room.fronts[0].machine.zxid
    assert len(place.lines[0].heard) == 5


def swap(one: int, two: int) -> Change:
    """Two things that were heard change places."""

    def change(place: Place, line: Line) -> None:
        line.heard[one], line.heard[two] = line.heard[two], line.heard[one]

    return change


def older(place: Place, line: Line) -> None:
    """The answer to the reading bears the number of an earlier transaction."""
    frame = line.heard[2]
    line.heard[2] = frame[:8] + (int.from_bytes(frame[8:16], "big") - 1).to_bytes(8, "big") + frame[16:]


def back(place: Place, line: Line) -> None:
    """The client had seen more before it came."""
    line.since = place.log.frontier


def doubled(place: Place, line: Line) -> None:
    """A chunk is in the log twice."""
    place.log.records.append(place.log.records[-1]._replace(zxid=place.log.frontier + 1))


def unasked(place: Place, line: Line) -> None:
    """What is in the log is not what was asked for."""
    xid, ask = line.asked[-1]
    line.asked[-1] = xid, ask._replace(body=create(b"/b", b"4"))


CHANGES: list[tuple[Change, str]] = [
    (lambda place, line: line.heard.pop(1) and None, "event lost"),
    (swap(1, 2), "event late"),
    (swap(3, 4), "event late"),
    (lambda place, line: line.heard.insert(1, line.heard[1]), "event false"),
    (lambda place, line: line.heard.append(line.heard[1]), "event false"),
    (lambda place, line: line.heard.pop(2) and None, "order"),
    (lambda place, line: line.heard.pop() and None, "answer"),
    (swap(0, 2), "order"),
    (older, "answer"),
    (back, "zxid"),
    (doubled, "once"),
    (unasked, "once"),
    (lambda place, line: line.asked.pop() and None, "once"),
]


@pytest.mark.parametrize(("change", "promise"), CHANGES)
def test_one_thing_is_otherwise(place: Place, change: Change, promise: str) -> None:
    """It is found, and called by its name."""
    change(place, place.lines[0])
    with pytest.raises(Violation) as found:
        judge(place.log.entries(), place.lines)
    assert found.value.promise == promise, found.value


def test_who_has_gone_may_have_heard_less(place: Place) -> None:
    """The end of what an ended connection heard may be missing; something in the middle may not."""
    line = place.lines[0]
    line.ended = True
    del line.heard[3:]
    judge(place.log.entries(), place.lines)
    del line.heard[1]
    with pytest.raises(Violation, match="event lost"):
        judge(place.log.entries(), place.lines)
