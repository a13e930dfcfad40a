"""Python's cyclic garbage collector, kept off what lives long. A matter of the whole process.

Theory of operation. A replica's state is millions of objects that live for hours; nearly everything else dies when its
turn ends, by reference count alone. The collector's older generations would walk over the whole state again and again:
0.3 s for half a million nodes, and nobody is served meanwhile. So what survives one look at the youngest generation is
set aside for good (:func:`gc.freeze`, which costs nothing), and no older generation is ever looked at.

The price: a reference cycle that outlives one look is never freed. So nothing that comes and goes may end in a cycle
(the tests hold the doors and the machines' host to that); what does, :func:`sweep` finds.
"""

from __future__ import annotations

import gc
from typing import Any, Final

YOUNG: Final = 10_000
"""So many more objects are made than die before the young are looked at, which then takes some 5 ms at most."""

_NEVER: Final = 1_000_000


def start() -> None:
    """Set aside what is there, and from now on all that lasts."""
    if _looked not in gc.callbacks:
        gc.set_threshold(YOUNG, _NEVER, _NEVER)
        gc.callbacks.append(_looked)
        sweep()


def sweep() -> None:
    """Free what was set aside and is of no use any more. Takes as long as there is state, a second for a million
    nodes. Nothing happens in a process that did not :func:`start`."""
    if _looked in gc.callbacks:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _looked(phase: str, _: dict[str, Any]) -> None:
    if phase == "stop":
        gc.freeze()
