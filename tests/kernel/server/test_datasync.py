"""Syncs that nobody waits for."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from quorate.kernel.server import datasync
from quorate.kernel.server.datasync import KernelSync, kernel_syncs
from twisted.internet.testing import MemoryReactorClock


@pytest.fixture
def syncs() -> Iterator[KernelSync]:
    made = kernel_syncs(MemoryReactorClock())  # type: ignore[arg-type]
    if made is None:
        pytest.skip("this kernel has no asynchronous fdatasync, or forbids it")
    yield made
    made.close()


def end(syncs: KernelSync, told: list[OSError | None]) -> OSError | None:
    """Turn until the sync has ended."""
    while not told:
        assert select.select([syncs.fileno()], [], [], 10)[0]
        syncs.doRead()
    return told.pop()


def test_syncs_one_file_after_another(syncs: KernelSync, tmp_path: Path) -> None:
    """Each end is told once, never from within the call."""
    told: list[OSError | None] = []
    for number in range(20):
        with (tmp_path / str(number)).open("wb", buffering=0) as file:
            file.write(bytes(10_000))
            syncs.sync(file.fileno(), told.append)
            assert told == []
            assert end(syncs, told) is None


def test_what_cannot_be_synced_is_an_error(syncs: KernelSync) -> None:
    """A descriptor that is none, or a pipe, is refused at once or told as an error; then the next one works."""
    told: list[OSError | None] = []
    with pytest.raises(OSError, match="Bad file") as caught:
        syncs.sync(1 << 20, told.append)
    assert caught.value.errno == errno.EBADF
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="Invalid"):
        syncs.sync(writing, told.append)
    os.close(reading)
    os.close(writing)


def test_closing_waits_and_tells_nobody(tmp_path: Path) -> None:
    """A sync that is under way ends before close returns."""
    made = kernel_syncs(MemoryReactorClock())  # type: ignore[arg-type]
    if made is None:
        pytest.skip("this kernel has no asynchronous fdatasync, or forbids it")
    told: list[OSError | None] = []
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(bytes(1 << 20))
        made.sync(file.fileno(), told.append)
        made.close()
        made.close()
    assert told == []


def test_other_systems_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the calls are unknown or forbidden there is nothing, and no error."""
    monkeypatch.setattr(datasync.platform, "machine", lambda: "vax")
    assert kernel_syncs(MemoryReactorClock()) is None  # type: ignore[arg-type]
    monkeypatch.undo()
    monkeypatch.setattr(datasync, "_NUMBERS", dict.fromkeys(datasync._NUMBERS, datasync._Numbers(-1, -1, -1, -1)))
    assert kernel_syncs(MemoryReactorClock()) is None  # type: ignore[arg-type]
