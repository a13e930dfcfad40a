"""How the words of ``quorate call`` become arguments, and results become words."""

from __future__ import annotations

import pytest
from quorate.kernel.cli.call import parsed, shown
from quorate.kernel.cli.command import Complaint, Exit
from quorate.kernel.machine import Plain


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ([], []),
        (["jobs", "3"], ["jobs", 3]),
        (['"3"', "true", "null", "-1.5"], ["3", True, None, -1.5]),
        (['["a", "b"]', '{"k": 1}'], [["a", "b"], {"k": 1}]),
        (["name=jobs", "by=3"], {"name": "jobs", "by": 3}),
        (["name=a=b"], {"name": "a=b"}),
        (['"a=b"'], ["a=b"]),
        (["/path=x"], ["/path=x"]),
        (["tcp:host:1"], ["tcp:host:1"]),
    ],
)
def test_words_become_arguments(words: list[str], arguments: Plain) -> None:
    """JSON where it is JSON, else the text itself; by position or by name."""
    assert parsed(words) == arguments


@pytest.mark.parametrize("words", [["a", "by=1"], ["by=1", "by=2"]])
def test_a_mixture_is_refused(words: list[str]) -> None:
    """Neither a mixture of both forms nor a name given twice is guessed at."""
    with pytest.raises(Complaint) as caught:
        parsed(words)
    assert caught.value.status is Exit.REFUSED
    assert caught.value.advice


def test_results_are_one_line_of_json() -> None:
    """Whatever plain data comes back is shown as JSON, bytes too."""
    assert shown({"a": [1, None, "x\ny"], "b": b"\xff"}) == '{"a": [1, null, "x\\ny"], "b": {"base64": "/w=="}}'
