"""``quorate journal``: read a replica's journal, whole or only to see whether it is sound. Never writes."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import Command, Complaint, Exit


def _configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, summary in (
        ("dump", "print every record, a line each"),
        ("verify", "check every record and snapshot; exit 1 if something is damaged"),
    ):
        part = verbs.add_parser(verb, help=summary, description=summary[0].upper() + summary[1:] + ".")
        part.add_argument("directory", type=Path, metavar="DIR", help="the replica's data directory")


def _run(options: argparse.Namespace) -> int:
    from ..storage.errors import StorageError
    from ..storage.inspect import dump, verify

    directory = str(options.directory)
    try:
        if options.verb == "dump":
            for line in dump(directory):
                print(line)
            return Exit.DONE
        report = verify(directory)
    except StorageError as error:
        raise Complaint(str(error)) from None
    except BrokenPipeError:
        raise  # whoever reads our output, not the journal
    except OSError as error:
        raise Complaint(
            f"{error.filename or directory} cannot be read: {error.strerror}", "see that you may read it"
        ) from None
    for line in report.lines():
        print(line)
    return Exit.DONE if report.sound else Exit.FAILED


COMMAND = Command("journal", "read a replica's journal", _configure, _run)
