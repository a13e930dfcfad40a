"""A grant whose events were dropped looks again."""

from __future__ import annotations

from typing import Any

import pytest
from quorate.kernel.client.outputs import Gap
from quorate.recipes import blocking
from quorate.recipes.held import LockLost
from quorate.recipes.lock import Lock


@pytest.mark.parametrize("broken", [False, True])
def test_a_gap_makes_it_look_again(loop: Any, cell: Any, broken: bool) -> None:
    """When events of the session were dropped, a grant that still holds goes on, and one that was broken meanwhile is
    lost."""

    async def scenario() -> None:
        async with await loop.connect(cell.endpoint, timeout=5.0) as session:
            held = await Lock(session, "job").acquire()
            if broken:
                stop = session._tell_listeners
                session._tell_listeners = lambda machine, item: None  # type: ignore[method-assign]
                await session.call("locks", "break_lock", "job", "why")
                session._tell_listeners = stop  # type: ignore[method-assign]
            session._tell_listeners(None, Gap(1, 9))
            if broken:
                assert "dropped" in str(await held.lost)
                with pytest.raises(LockLost):
                    held.check()
            else:
                await session.query("locks", "names")
                held.check()
            assert (await held.release()).already_lost is broken

    loop.run(scenario())


def test_a_gap_before_the_grant_is_known_makes_it_look_again(loop: Any, cell: Any) -> None:
    """What was dropped while the acquire had no answer yet, as behind a broken connection, may be that an operator
    broke it since."""

    async def scenario() -> None:
        async with await loop.connect(cell.endpoint, timeout=5.0) as session:
            post = session.post

            def dropping(*args: Any, **named: Any) -> Any:
                answer = post(*args, **named)
                post("locks", "break_lock", "job", "why")
                session._tell_listeners(None, Gap(1, 9))
                session._tell_listeners = lambda machine, item: None  # type: ignore[method-assign]
                session.post = post  # type: ignore[method-assign]
                return answer

            session.post = dropping  # type: ignore[method-assign]
            held = await Lock(session, "job").acquire()
            for _ in "ab":
                await session.query("locks", "names")
            with pytest.raises(LockLost, match="dropped"):
                held.check()

    loop.run(scenario())


def test_waiting_again_and_again_leaves_nothing_behind(cell: Any) -> None:
    """A thread may look every second for years whether its grant is lost."""
    with blocking.connect([cell.endpoint], timeout=5.0) as session:
        held = blocking.Lock(session, "job").acquire()
        for _ in range(5):
            assert held.wait_lost(0) is None
        assert len(held._inner.lost._callbacks) == 1
        blocking.Lock(session, "job").break_("why")
        assert "why" in str(held.wait_lost(10))
        assert held.wait_lost() is held.wait_lost(0)
