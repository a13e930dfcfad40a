"""Images of machines in a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from quorate.kernel.image import Image, Reader, SnapshotDamaged, Unkept, write
from quorate.kernel.machine import Plain, StateMachine
from quorate.kernel.wire import plain
from quorate.kernel.wire.envelope import PART_BYTES, Kind, frame, records


class Simple(StateMachine):
    name = "simple"

    def __init__(self) -> None:
        self.things: list[Any] = []


class Own(Simple):
    """Restores by itself, so tuples are its own affair."""

    def restore(self, state: Plain, version: int) -> None:
        super().restore(state, version)
        self.things = [tuple(each) for each in self.things]


class Chunked(StateMachine):
    name = "chunked"

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.reads = 1 << 30

    def snapshot_chunks(self) -> Iterator[bytes]:
        yield from self.pieces

    def restore_chunks(self, chunks: Iterable[bytes], version: int) -> None:
        self.pieces = [piece for piece, _ in zip(chunks, range(self.reads), strict=False)]


def machine(kind: Callable[[], Any], **attributes: Any) -> Any:
    """A machine with these attributes."""
    made = kind()
    vars(made).update(attributes)
    return made


IMAGE = Image(16, "m", 1)


def test_pieces_keep_their_borders() -> None:
    """A machine gets back the pieces that it made, empty and long ones too."""
    pieces = [b"", b"a", b"x" * (2 * PART_BYTES + 3), b"y" * PART_BYTES, b"z"]
    reader = Reader(write("head", [(IMAGE, machine(Chunked, pieces=pieces)), (IMAGE, machine(Simple, things=[1]))]))
    assert reader.head == "head"
    chunked, simple = Chunked(), Simple()
    assert reader.image() == IMAGE
    reader.restore(IMAGE, chunked)
    assert reader.image() == IMAGE
    reader.restore(IMAGE, simple)
    assert reader.image() is None
    assert chunked.pieces == pieces
    assert simple.things == [1]


def test_a_machine_without_pieces() -> None:
    """Nothing is an image, too."""
    reader = Reader(write(None, [(IMAGE, Chunked())]))
    reader.image()
    chunked = machine(Chunked, pieces=[b"x"])
    reader.restore(IMAGE, chunked)
    assert chunked.pieces == []


def test_a_machine_must_read_all_of_its_image() -> None:
    """One that stops early has not understood it."""
    reader = Reader(write(None, [(IMAGE, machine(Chunked, pieces=[b"a", b"b", b"c"]))]))
    reader.image()
    with pytest.raises(SnapshotDamaged, match="did not read"):
        reader.restore(IMAGE, machine(Chunked, reads=1))


def test_only_a_machine_that_restores_itself_may_have_tuples() -> None:
    """The others would get lists back."""
    list(write(None, [(IMAGE, machine(Own, things=[(1, 2)]))]))
    with pytest.raises(Unkept, match="tuple"):
        list(write(None, [(IMAGE, machine(Simple, things=[(1, 2)]))]))


def test_a_missing_record_is_noticed() -> None:
    """The end says how many came before; any one of them left out is damage."""
    whole = list(write(None, [(IMAGE, machine(Chunked, pieces=[b"a", b"b"])), (IMAGE, Simple())]))

    def read(chunks: list[bytes]) -> None:
        reader = Reader(chunks)
        for kind in (Chunked, Simple, Simple):
            image = reader.image()
            if image is None:
                return
            reader.restore(image, kind())

    read(whole)
    for left_out in range(len(whole)):
        with pytest.raises((SnapshotDamaged, ValueError)):
            read(whole[:left_out] + whole[left_out + 1 :])
    with pytest.raises(SnapshotDamaged, match="missing"):
        read([*whole, frame(Kind.PIECE, b"")])


def test_the_form_is_the_documented_one() -> None:
    """Files of this form are read for ever."""
    found = list(records(write("head", [(IMAGE, machine(Simple, things=[5]))])))
    assert [(record.kind, plain.decode(record.body)) for record in found] == [
        (Kind.HEAD, [1, "head"]),
        (Kind.MACHINE, [16, "m", 1]),
        (Kind.PIECE, {"things": [5]}),
        (Kind.END, 3),
    ]
