"""``quorate call MACHINE.COMMAND``: one command or query from the shell.

Arguments are JSON; a word that is no JSON is taken as the string it is. A command is done exactly once or not at all,
also through a change of leader. The exit status tells: 0 done, 2 the machine said no, 3 nobody knows.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from ..machine import Plain, Refusal
from .command import Command, Complaint, Exit, add_at
from .sessions import in_session

if TYPE_CHECKING:
    from ..client.live import Session

_NAMED: Final = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def _configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="MACHINE.COMMAND", help="for example counters.add")
    parser.add_argument("arguments", nargs="*", metavar="ARG|NAME=VALUE", help="JSON values, by position or by name")
    add_at(parser)


def parsed(words: Sequence[str]) -> list[Plain] | dict[str, Plain]:
    """The command's arguments, by position or by name. A Complaint if both are mixed or a name comes twice."""
    named = [_NAMED.fullmatch(word) for word in words]
    if not any(named):
        return [_value(word) for word in words]
    pairs = [(match[1], _value(match[2])) for match in named if match is not None]
    if len(pairs) < len(words) or len(dict(pairs)) < len(pairs):
        raise Complaint(
            "arguments by position and by name are mixed, or a name comes twice",
            "give all by position or each once by name; quote a text that contains '=': '\"a=b\"'",
            Exit.REFUSED,
        )
    return dict(pairs)


def shown(value: Plain) -> str:
    """A result as one line of JSON; bytes become ``{"base64": ...}``."""
    return json.dumps(value, default=lambda raw: {"base64": base64.b64encode(raw).decode()})


def _value(word: str) -> Plain:
    try:
        value: Plain = json.loads(word)
    except ValueError:
        return word
    return value


def _run(options: argparse.Namespace) -> int:
    machine, dot, name = options.what.rpartition(".")
    if not dot or not machine or not name:
        raise Complaint(
            f"{options.what!r} names no command", "write MACHINE.COMMAND, such as counters.add", Exit.REFUSED
        )
    arguments = parsed(options.arguments)
    args, named = (arguments, {}) if isinstance(arguments, list) else ([], arguments)

    async def work(session: Session) -> int:
        try:
            result = await session.call(machine, name, *args, timeout=options.timeout, **named)
        except Refusal as refusal:
            if refusal.code != "unknown-command":
                raise
            result = await _queried(session, machine, name, args, named, options.timeout, refusal)
        print(shown(result))
        return Exit.DONE

    return in_session(options, work)


async def _queried(
    session: Session,
    machine: str,
    name: str,
    args: Sequence[Plain],
    named: Mapping[str, Plain],
    timeout: float,
    unknown: Refusal,
) -> Plain:
    """The machine has no such command: it may be a query."""
    try:
        return await session.query(machine, name, *args, timeout=timeout, **named)  # type: ignore[arg-type]
    except Refusal as refusal:
        if refusal.code != "unknown-query":
            raise
        raise Refusal(unknown.code, f"{unknown.reason}; {refusal.reason}") from None


COMMAND = Command("call", "call a machine's command or query once", _configure, _run)
