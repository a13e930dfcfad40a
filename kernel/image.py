"""The machines' states as one snapshot, and back.

A machine's image is its ``snapshot`` as plain data, or the pieces that it makes itself
(:class:`~.machine.ChunkedImage`). A state that could not come back as it is, a tuple in the attributes of a machine
that does not restore by itself, say, is refused when it is written: better no snapshot than one that makes this
replica differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeGuard

from .machine import ChunkedImage, Plain, StateMachine
from .stop import StopReplica
from .wire import plain
from .wire.envelope import FORMAT, Kind, Record, frame, frame_piece, records


class SnapshotDamaged(ValueError):
    """This is not a snapshot of this cell's machines, or a machine does not recognize its image."""


class Unkept(TypeError):
    """A machine's state is not plain data, so no snapshot can be taken until it is unloaded or mended."""


class Image(NamedTuple):
    """Whose image follows. `version` is the one the machine had when it was written."""

    number: int
    name: str
    version: int


def _chunked(machine: StateMachine) -> TypeGuard[ChunkedImage]:
    """Whether `machine` makes the pieces of its image itself: what isinstance takes twenty times as long to say."""
    return hasattr(machine, "snapshot_chunks") and hasattr(machine, "restore_chunks")


def write(head: Plain, machines: Iterable[tuple[Image, StateMachine]]) -> Iterator[bytes]:
    """A snapshot in chunks well below 1 MiB.

    Raises:
        Unkept: a machine's state cannot be kept.
    """
    count = 1
    yield frame(Kind.HEAD, plain.encode([FORMAT, head]))
    for image, machine in machines:
        yield frame(Kind.MACHINE, plain.encode(image))
        count += 1
        for piece in _pieces(image, machine):
            for framed in frame_piece(piece):
                yield framed
                count += 1
    yield frame(Kind.END, plain.encode(count))


def _pieces(image: Image, machine: StateMachine) -> Iterator[bytes]:
    if _chunked(machine):
        yield from machine.snapshot_chunks()
        return
    state = machine.snapshot()
    try:
        plain.check(state, exact=type(machine).restore is StateMachine.restore)
    except plain.NotPlain as error:
        raise Unkept(f"the state of {image.name} cannot be kept: {error}") from error
    yield plain.encode(state)


class Reader:
    """Reads a snapshot from front to back: :attr:`head`, then each machine's image in turn.

    Raises:
        StopReplica: it is of a later format.
        Exception: of many kinds, from anywhere, when something is not as :func:`write` makes it.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._records = records(chunks)
        self._count = 0
        self._record = self._next()
        if self._record.kind is not Kind.HEAD:
            raise SnapshotDamaged("the snapshot does not begin with its head")
        fields: Any = plain.decode(self._record.body)
        version, self.head = fields[0], fields[1]
        if version != FORMAT:
            raise StopReplica(f"the snapshot has format {version}, this code reads {FORMAT}; install a newer release")
        self._record = self._next()

    def image(self) -> Image | None:
        """The next machine, whose :meth:`restore` must follow; None at the end, if the snapshot is whole."""
        if self._record.kind is Kind.END:
            if plain.decode(self._record.body) != self._count - 1 or next(self._records, None) is not None:
                raise SnapshotDamaged("a part of the snapshot is missing")
            return None
        if self._record.kind is not Kind.MACHINE:
            raise SnapshotDamaged("a piece of an image without its machine")
        fields: Any = plain.decode(self._record.body)
        self._record = self._next()
        return Image(*fields)

    def restore(self, image: Image, machine: StateMachine) -> None:
        """Give a new instance its state."""
        pieces = self._images()
        if _chunked(machine):
            machine.restore_chunks(pieces, image.version)
            for _ in pieces:
                raise SnapshotDamaged(f"{image.name} did not read all of its image")
            return
        whole = b"".join(pieces)
        machine.restore(plain.decode(whole, limit=len(whole)), image.version)

    def _images(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        while self._record.kind in (Kind.PART, Kind.PIECE):
            parts.append(self._record.body)
            if self._record.kind is Kind.PIECE:
                yield b"".join(parts)
                parts = []
            self._record = self._next()
        if parts:
            raise SnapshotDamaged("a piece of an image is cut")

    def _next(self) -> Record:
        record = next(self._records, None)
        if record is None:
            raise SnapshotDamaged("the snapshot is cut")
        self._count += 1
        return record
