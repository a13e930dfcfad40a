"""The table of states and its drawing."""

from __future__ import annotations

from quorate.kernel.client import states
from quorate.kernel.client.states import TRANSITIONS, State, Turn


def test_final_states_are_final() -> None:
    """No turn leaves EXPIRED or CLOSED; every other state can be closed and expired."""
    for state in State:
        leaving = {turn for source, turn in TRANSITIONS if source is state}
        assert state.final is (not leaving)
        if leaving:
            assert {Turn.CLOSED, Turn.EXPIRED} <= leaving
    assert {target for target in TRANSITIONS.values()} == set(State)


def test_the_states_page_shows_the_table() -> None:
    """The drawing in the module's text names every turn and every state of the table."""
    for state, turn in TRANSITIONS:
        assert state.name in states.__doc__
        assert turn.value in states.__doc__
