"""Where somebody waits for what is chosen."""

from __future__ import annotations

from quorate.kernel.haste import Haste


def test_a_member_counts_while_a_session_is_there() -> None:
    """A session that moves is counted where it is; one that ends is counted nowhere."""
    haste = Haste()
    haste.attached(7, 1)
    haste.attached(8, 1)
    assert haste.look()
    assert haste.members == {1}
    haste.attached(7, 2)
    assert haste.look()
    assert haste.members == {1, 2}
    haste.ended(8)
    haste.ended(8)
    assert haste.look()
    assert haste.members == {2}
    assert not haste.look()


def test_a_member_counts_for_a_while_after_its_commands() -> None:
    """At least from one late look to the next."""
    haste = Haste()
    haste.commanded([3, 3])
    assert haste.look()
    assert not haste.look(late=True)
    assert haste.members == {3}
    assert haste.look(late=True)
    assert haste.members == frozenset()
