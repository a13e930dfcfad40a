"""Which paths are valid."""

from __future__ import annotations

import pytest
from quorate.plugins.znodes import paths

VALID = ["/", "/a", "/a/b", "/a.b", "/...", "/a/..b", "/caf\u00e9", "/\u4e2d\u6587", "/ a", "/a~", "/\u00a0"]
INVALID = [
    "", "a", "a/b", "/a/", "//", "//a", "/a//b", "/.", "/..", "/a/.", "/a/../b", "/a\0", "/\x1f", "/\x7f", "/\u009f",
    "/\ue000", "/\uf8ff", "/\ufff0", "/\ufffd", "/\U0001f600",
]  # fmt: skip


@pytest.mark.parametrize("path", VALID)
def test_valid(path: str) -> None:
    """Paths the original takes."""
    assert paths.valid(path.encode())


@pytest.mark.parametrize("path", INVALID)
def test_invalid(path: str) -> None:
    """Paths the original refuses; characters beyond U+FFFF are surrogates to it."""
    assert not paths.valid(path.encode())


def test_bytes_that_are_no_text() -> None:
    """Bytes that are not UTF-8 make no path."""
    assert not paths.valid(b"/\xff")


def test_parent() -> None:
    """One level up, with the root spelled as clients spell it."""
    assert [paths.parent(each) for each in (b"/a", b"/a/b", b"/")] == [b"/", b"/a", b"/"]
