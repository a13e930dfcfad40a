"""A grant: the proof that this session holds something, and the ways to learn that it does not any more.

Whoever holds must expect to lose it: the session may expire while the process is paused, an operator may break the
lock. A :class:`Held` says so in three ways, from the safest to the last:

* :attr:`~Held.token` goes along with every write to what the lock protects; a resource that refuses smaller tokens
  than it has seen is safe whatever happens here.
* :meth:`~Held.check` before each step raises as soon as the lease ran out (*jeopardy*), even if the session may yet
  turn out safe.
* :attr:`~Held.lost` fires once, with the reason, when the grant is known or presumed to be gone.

A lost grant never comes back under the same object: acquire again and get a new one with a larger token.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ..kernel.client.door import Promise
from ..kernel.client.errors import OutcomeUnknown, QuorateError, SessionEnded
from ..kernel.client.live import Session
from ..kernel.client.outputs import Gap
from ..kernel.client.states import State
from ..kernel.machine import Plain


class LockLost(QuorateError):
    """This grant does not protect any more; the words say why."""


class InJeopardy(LockLost):
    """The lease ran out: the grant may be gone. It may also turn out to be safe."""


class LockTimeout(QuorateError, TimeoutError):
    """It was not granted in time. Nothing of the attempt is left in the cell."""


class Released(NamedTuple):
    """What a release found. `already_lost`: there was nothing to release any more."""

    already_lost: bool


class Held:
    """One grant of one session. Belongs to the thread of its session; ``check`` and ``remaining`` may be called from
    any."""

    def __init__(
        self,
        session: Session,
        machine: str,
        label: int,
        *,
        release: Callable[[], Promise[Plain]],
        verify: Callable[[int], Awaitable[bool]],
    ) -> None:
        """Made before the acquire is sent, so that no event about it can be missed. `release` sends the release;
        `verify` asks the cell whether a token still holds."""
        self.token = 0
        """The fencing token: grows from one grant of a name to the next conflicting one."""
        self.lost: Promise[LockLost] = Promise(session.door)
        """Await it to learn that the grant is lost. It never fires after a release."""
        self._session = session
        self._label = label
        self._send_release = release
        self._verify = verify
        self._why: LockLost | None = None
        self._release: Promise[Plain] | None = None
        self._missed = False
        self._unwatch = session.watch(self._on_state)
        self._unlisten = session.listen(machine, self._on_event)

    def granted(self, token: int) -> None:
        """The cell granted it."""
        self.token = token
        if self._session.ending is not None:
            self._lose(str(self._session.ending))
        elif self._missed:
            self._session.door.spawn(self._look_again())

    def forget(self) -> None:
        """Nobody cares any more."""
        self._unwatch()
        self._unlisten()

    def remaining(self) -> float:
        """For how many seconds the grant surely holds, unless an operator breaks it; 0 in jeopardy, when lost and
        when released."""
        if self._why is not None or self._release is not None:
            return 0.0
        return self._session.lease_left()

    def check(self) -> None:
        """Return if the grant surely holds; otherwise raise LockLost or InJeopardy."""
        if self._why is not None:
            raise self._why
        if self._release is not None:
            raise LockLost("it was released")
        if self._session.lease_left() <= 0:
            raise InJeopardy("the lease of the session ran out")

    async def release(self) -> Released:
        """Give it back. Any number of times, also when it is lost: the answer tells. Returns when the cell has done
        it; a cancelled release is carried out all the same."""
        sent = self.let_go()
        try:
            return Released(already_lost=sent is None or await sent is False)
        except (SessionEnded, OutcomeUnknown):
            return Released(already_lost=True)

    def let_go(self) -> Promise[Plain] | None:
        """Give it back without waiting for the cell. None: it is lost already."""
        self.forget()
        if self._release is None and self._why is None and self._session.ending is None:
            self._release = self._send_release()
        return self._release

    def _lose(self, why: str) -> None:
        if self._why is None and self._release is None:
            self._why = LockLost(why)
            self.forget()
            self.lost.succeed(self._why)

    def _on_state(self, state: State) -> None:
        if state.final and self.token:
            self._lose(str(self._session.ending))

    def _on_event(self, event: Plain | Gap) -> None:
        if isinstance(event, Gap):
            if self.token:
                self._session.door.spawn(self._look_again())
            else:
                self._missed = True
        elif isinstance(event, dict) and event.get("lost") == self._label:
            self._lose(f"an operator broke it: {event.get('reason')}")

    async def _look_again(self) -> None:
        """Events were dropped, perhaps the one that said it is lost."""
        try:
            if not await self._verify(self.token):
                self._lose("it is not held any more; the event that said why was dropped")
        except QuorateError as error:
            self._lose(f"events were dropped, and the cell cannot be asked: {error}")
