"""The collector, kept off what lives long: in a process of its own, as it is set for the whole of one."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import gc, weakref
from quorate.kernel.server import garbage

class Thing:
    pass

def cycle():
    thing = Thing()
    thing.itself = thing
    return thing

at_start = gc.get_freeze_count()  # CPython 3.12 sets some objects aside by itself
garbage.sweep()
assert gc.get_freeze_count() == at_start, "a process that did not ask for it is left alone"
garbage.start()
garbage.start()
seen = []
gc.callbacks.append(lambda phase, told: seen.append(told["generation"]))
kept = cycle()
mark = weakref.ref(cycle())
state = [[] for _ in range(20 * garbage.YOUNG)]
assert set(seen) == {0} and len(seen) >= 20, seen[:100]
assert mark() is None, "what died young was freed"
before = gc.get_freeze_count()
assert before > 19 * garbage.YOUNG, "what lasts is set aside"
mark = weakref.ref(kept)
del kept, state
assert mark() is not None
garbage.sweep()
assert mark() is None, "a sweep frees what was set aside"
assert gc.get_freeze_count() < before
"""


def test_only_the_young_are_looked_at() -> None:
    """State that grows is looked at once; cycles that die young are freed; a sweep frees the others."""
    done = subprocess.run([sys.executable, "-P", "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
