"""The targets of the fuzzer, on the inputs it begins with, on changes of these, and on any bytes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from targets import TARGETS, Fuzzed

_SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with some bytes replaced, inserted or cut out."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=6))
    return bytes(content)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name: str) -> None:
    """What a driver begins with passes."""
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name: str) -> None:
    """Noise, and nearly right bytes, lead to nothing but what the target allows."""
    target: Fuzzed = TARGETS[name]

    @_SLOW
    @given(st.binary(max_size=200) | changed(list(target.seeds)))
    def run(content: bytes) -> None:
        target.run(content)

    run()
