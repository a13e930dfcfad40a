"""From a request's name and bytes to a call of a machine's method.

A machine's commands and queries are its methods that are marked so. Their annotations are the schema: arguments are
decoded straight into the annotated types, so that a method never sees another type than it declared, on any replica.

What the annotations allow: None, bool, int, float, str, bytes, lists, mappings with str keys, unions and optionals of
these, ``Literal``, enums, NamedTuples and dataclasses, NewTypes such as SessionId, and ``Plain`` for anything plain.
Sets are refused, because their order is not the same everywhere.

Texts of refusals made here reach replicated state, so they are built from the machine's source and the shape of the
arguments only, never from the words of a library or an interpreter, which may differ between replicas.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, Literal, NamedTuple, NewType

import msgspec

from .machine import RawMachine, Refusal, StateMachine, Ticket
from .wire import plain

_NAMES_SHOWN: Final = 32


class Unfit(TypeError):
    """This class cannot be a machine; the message says why."""


class Operation:
    """One command or query of a machine class."""

    __slots__ = ("_by_name", "_by_position", "_open", "_places", "invoke", "name", "signature", "waits")

    def __init__(self, name: str, method: Callable[..., Any], leading: int) -> None:
        """`leading`: how many parameters come before the caller's arguments (self, and the commit of a command)."""
        hints = typing.get_type_hints(method, localns={"Plain": Any})  # Plain is recursive; it is checked apart
        parameters = list(inspect.signature(method).parameters.values())[leading:]
        fields = [_field(parameter, hints) for parameter in parameters]
        positional = [f for f, p in zip(fields, parameters, strict=True) if p.kind is not p.KEYWORD_ONLY]
        self._places = [field[0] for field in positional]
        by_position = msgspec.defstruct(name, positional, array_like=True, forbid_unknown_fields=True, gc=False)
        by_name = msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True, gc=False)
        self._by_position: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(by_position)
        self._by_name: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(by_name)
        self._open = not all(_is_closed(hints[p.name]) for p in parameters)
        self.name: Final = name
        self.signature: Final = f"{name}({', '.join(map(_shown, parameters))})"
        self.waits: Final = any(part is Ticket for part in _parts(hints.get("return")))
        """Whether the result may be a ticket, so that an int which is one is told as such."""
        keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
        self.invoke: Final = _by_keyword(method, leading + len(positional), keywords) if keywords else method
        """Call it with the machine, the commit (if it is a command) and what :meth:`arguments` returned."""

    def arguments(self, args: bytes) -> tuple[Any, ...]:
        """The method's arguments, by position, out of an encoded list or mapping. A mapping (of up to 15) may begin
        with a list under the empty name: the arguments given by position.

        Raises:
            Refusal: ``bad-arguments``; they do not fit the annotations or are not plain data.
        """
        try:
            if self._open:
                plain.decode(args)
            if 0x90 <= args[0] <= 0x9F or 0xDC <= args[0] <= 0xDD:
                return msgspec.structs.astuple(self._by_position.decode(args))
            if args[1:2] == b"\xa0":
                args = self._all_named(args)
            named = self._by_name.decode(args)
            return tuple(getattr(named, field) for field in named.__struct_fields__)
        except MemoryError:
            raise
        except Exception:  # of many kinds: a machine's own types may check what they are made of
            raise Refusal("bad-arguments", f"{self.signature} does not take {_shape(args)}") from None

    def _all_named(self, args: bytes) -> bytes:
        """The same arguments with those given by position under their names."""
        given: Any = plain.decode(args)
        placed, places = given.pop("", None) if isinstance(given, dict) else None, self._places
        if (
            not isinstance(placed, list)
            or len(placed) > len(places)
            or not given.keys().isdisjoint(places[: len(placed)])
        ):
            raise plain.Malformed("given twice, or too many")
        return plain.encode({**dict(zip(places, placed, strict=False)), **given})


class Operations(NamedTuple):
    """What a machine class can be asked."""

    commands: Mapping[str, Operation]
    queries: Mapping[str, Operation]


def operations(kind: type[StateMachine]) -> Operations:
    """The commands and queries of a machine class, made once.

    Raises:
        Unfit: a method cannot be called over the wire; the message says which and why.
    """
    made = _made.get(kind)
    if made is None:
        made = _made[kind] = _operations(kind)
    return made


_made: Final[dict[type[StateMachine], Operations]] = {}


def _operations(kind: type[StateMachine]) -> Operations:
    commands: dict[str, Operation] = {}
    queries: dict[str, Operation] = {}
    for name in sorted(dir(kind)):
        method = inspect.getattr_static(kind, name)
        marked = getattr(method, "__quorate__", None)
        if marked is None:
            continue
        try:
            if marked == "command":
                commands[name] = Operation(name, method, 2)
            else:
                queries[name] = Operation(name, method, 1)
        except (TypeError, NameError, KeyError) as error:
            raise Unfit(f"{kind.__qualname__}.{name}: {error}") from error
    if issubclass(kind, RawMachine) and commands:
        raise Unfit(f"{kind.__qualname__}: a raw machine takes chunks; {sorted(commands)} would never be called")
    return Operations(commands, queries)


def unknown(machine: str, kind: str, name: str, known: Iterable[str]) -> Refusal:
    """The refusal of a command or query (`kind`) that the machine does not have."""
    names = sorted(known)
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return Refusal(f"unknown-{kind}", f"{machine} has no {kind} {name[:64]!r}; it has: {shown or 'none'}")


def _by_keyword(method: Callable[..., Any], leading: int, keywords: Sequence[str]) -> Callable[..., Any]:
    """`method` with its keyword-only parameters given by position behind the `leading` ones."""

    def call(*args: Any) -> Any:
        return method(*args[:leading], **dict(zip(keywords, args[leading:], strict=False)))

    return call


def _field(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> tuple[str, Any] | tuple[str, Any, Any]:
    """The parameter as a field of what the arguments are decoded into."""
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise TypeError(f"{parameter.name!r} takes any number of arguments; name each")
    if parameter.name not in hints:
        raise TypeError(f"{parameter.name!r} has no annotation")
    if any(each in (set, frozenset) for each in _parts(hints[parameter.name])):
        raise TypeError(f"{parameter.name!r} is a set, whose order differs between replicas; take a list")
    if parameter.default is parameter.empty:
        return parameter.name, hints[parameter.name]
    default = parameter.default
    if isinstance(default, list | dict):
        return parameter.name, hints[parameter.name], msgspec.field(default_factory=default.copy)  # each call its own
    return parameter.name, hints[parameter.name], msgspec.field(default_factory=lambda: default)


def _parts(hint: Any) -> Iterator[Any]:
    """Every type that a type expression names, itself or its origin first."""
    if isinstance(hint, NewType):
        yield hint
        hint = hint.__supertype__
    yield typing.get_origin(hint) or hint
    if typing.get_origin(hint) is not Literal:
        for part in typing.get_args(hint):
            yield from _parts(part)


def _is_closed(hint: Any) -> bool:
    """Whether decoding into `hint` alone makes sure of plain data, bounded in depth: no part of it takes anything."""
    if isinstance(hint, NewType):
        return _is_closed(hint.__supertype__)
    if hint in plain.SCALARS or (isinstance(hint, type) and issubclass(hint, Enum)):
        return True
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return True
    if origin is None or not args:
        return False
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return args[0] is str and _is_closed(args[1])
    return all(_is_closed(part) for part in args if part is not ...)


def _shown(parameter: inspect.Parameter) -> str:
    """A parameter as its author wrote it."""
    hint = parameter.annotation
    text = f"{parameter.name}: {hint if isinstance(hint, str) else getattr(hint, '__name__', '...')}"
    if parameter.default is parameter.empty:
        return text
    default = parameter.default
    return (
        f"{text} = {default!r}"
        if type(default) in plain.SCALARS and not isinstance(default, float)
        else f"{text} = ..."
    )


def _shape(args: bytes) -> str:
    """What a caller gave, in types only."""
    try:
        given = plain.decode(args)
    except plain.Malformed:
        return "what is not plain data"
    if isinstance(given, Mapping):
        pairs = [f"{name[:64]}: {type(value).__name__}" for name, value in given.items()]
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        pairs = [type(value).__name__ for value in given]
    else:
        return f"{type(given).__name__} in place of arguments"
    return f"({', '.join(pairs[:_NAMES_SHOWN])}{', ...' if len(pairs) > _NAMES_SHOWN else ''})"
