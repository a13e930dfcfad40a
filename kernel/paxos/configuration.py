"""The bytes of a membership change: the payload of a CONFIGURATION value.

Layout, big-endian: u8 format (1), u8 kind, u32 member id, u8 role, then peer and the doors, each string as u16 length +
UTF-8. The core must read its own changes, so this codec lives with it.
"""

from __future__ import annotations

from struct import Struct, error
from typing import Final

from .ballot import MemberId, Slot
from .quorum import Change, ChangeKind, Configuration, InvalidChange, Member, Role, changed

_FORMAT: Final = 1
_HEAD: Final = Struct(">BBIB")
_LENGTH: Final = Struct(">H")


def reconfigured(configuration: Configuration, payload: bytes, slot: Slot) -> Configuration:
    """The configuration after the change chosen in `slot`. A change that fitted when it was proposed may be chosen
    late, by a leader that found it open after another change was made; if it no longer fits it has no effect, on
    every member alike."""
    try:
        return changed(configuration, decode_change(payload), slot)
    except InvalidChange:
        return configuration


class MalformedChange(ValueError):
    """The bytes are not a membership change that this version knows."""


def encode_change(change: Change) -> bytes:
    """The bytes of `change`, as a CONFIGURATION value carries them."""
    member = change.member
    strings = [member.peer.encode()]
    for face, address in member.doors:
        strings += [face.encode(), address.encode()]
    head = _HEAD.pack(_FORMAT, change.kind, member.id, member.role)
    return head + b"".join(_LENGTH.pack(len(string)) + string for string in strings)


def decode_change(payload: bytes) -> Change:
    """The change that `payload` carries. Raises MalformedChange."""
    try:
        form, kind, member, role = _HEAD.unpack_from(payload)
        if form != _FORMAT:
            raise MalformedChange(f"membership change of format {form}; this version reads format {_FORMAT}")
        strings = []
        position = _HEAD.size
        while position < len(payload):
            (length,) = _LENGTH.unpack_from(payload, position)
            position += _LENGTH.size
            if position + length > len(payload):
                raise MalformedChange("membership change is cut short")
            strings.append(payload[position : position + length])
            position += length
        peer, *doors = strings
        pairs = tuple((doors[i].decode(), doors[i + 1].decode()) for i in range(0, len(doors), 2))
        return Change(ChangeKind(kind), Member(MemberId(member), Role(role), peer.decode(), pairs))
    except (error, IndexError, ValueError) as reason:
        raise MalformedChange(f"malformed membership change: {reason}") from reason
