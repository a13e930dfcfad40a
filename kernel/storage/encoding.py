"""A configuration as bytes: the form inside snapshot headers, the founding file and configuration changes.

Explicit struct code, so that the bytes mean the same in every release; the first byte is the version of this form.
Reads nothing beyond the bytes it is given and refuses what it does not fully understand.
"""

from __future__ import annotations

import struct
from typing import Final

from ..paxos.ballot import MemberId, Slot
from ..paxos.quorum import Configuration, Member, Role
from .errors import Malformed, NewerFormat

VERSION: Final = 1
_HEAD: Final = struct.Struct(">BQH")  # version, number, members
_MEMBER: Final = struct.Struct(">IBH")  # id, role, doors
_LENGTH: Final = struct.Struct(">H")


def _text(text: str) -> bytes:
    raw = text.encode()
    return _LENGTH.pack(len(raw)) + raw


def encode_configuration(configuration: Configuration) -> bytes:
    """The bytes of `configuration`; equal configurations give equal bytes.

    Raises:
        ValueError: a field is out of range (65,535 members, doors, or bytes of an address).
    """
    try:
        parts = [_HEAD.pack(VERSION, configuration.number, len(configuration.members))]
        for member in configuration.members:
            parts.append(_MEMBER.pack(member.id, member.role, len(member.doors)))
            parts.append(_text(member.peer))
            for face, address in member.doors:
                parts += (_text(face), _text(address))
    except struct.error as error:
        raise ValueError(f"a field of the configuration is out of range: {error}") from error
    return b"".join(parts)


class _Reader:
    """Takes fields off the front of some bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def bytes(self, size: int) -> bytes:
        piece = self._content[self._at : self._at + size]
        if len(piece) != size:
            raise Malformed(f"the configuration ends at byte {len(self._content)}, in the middle of a field")
        self._at += size
        return piece

    def fields(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack(self.bytes(form.size))

    def text(self) -> str:
        (size,) = self.fields(_LENGTH)
        try:
            return self.bytes(size).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"the configuration holds an address that is not UTF-8: {error}") from None

    def end(self) -> None:
        if self._at != len(self._content):
            raise Malformed(f"{len(self._content) - self._at} bytes too many after the configuration")


def decode_configuration(content: bytes) -> Configuration:
    """The configuration in `content`, which must hold nothing else.

    Raises:
        Malformed: cut short, too long, an unknown role, text that is not UTF-8, a member twice.
        NewerFormat: a version that this software does not know.
    """
    reader = _Reader(content)
    version = reader.bytes(1)[0]
    if version != VERSION:
        raise NewerFormat(
            f"the configuration has version {version}; this software reads {VERSION}: install the newer release"
        )
    number, count = struct.unpack(">QH", reader.bytes(_HEAD.size - 1))
    members = tuple(_member(reader) for _ in range(count))
    reader.end()
    configuration = Configuration(Slot(number), members)
    if len(configuration.ids()) != count:
        raise Malformed("the configuration names a member twice")
    return configuration


def _member(reader: _Reader) -> Member:
    identity, role, doors = reader.fields(_MEMBER)
    if role not in (Role.VOTER, Role.LEARNER):
        raise Malformed(f"member {identity} has the unknown role {role}")
    peer = reader.text()
    pairs = tuple((reader.text(), reader.text()) for _ in range(doors))
    return Member(MemberId(identity), Role(role), peer, pairs)
