"""Pages that are made from the code instead of being written twice.

``.. quorate-commands::`` is the command line as its parser knows it; ``.. quorate-frames::`` the native protocol's
frames as their declarations have them; ``.. quorate-states::`` a client session's states as their table has them;
``.. quorate-planted::`` the bugs that are planted in tests, with what was measured of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective


class _Made(SphinxDirective):
    """A directive whose content is reStructuredText made by `lines`."""

    def lines(self) -> Iterator[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes("\n".join(self.lines()), allow_section_headings=True)


class Commands(_Made):
    """Every command with its usage and options."""

    def lines(self) -> Iterator[str]:
        from quorate.kernel.cli.main import parser

        # A fixed width, so that the page does not depend on the terminal in which it is made.
        class Formatter(argparse.HelpFormatter):
            def __init__(self, prog: str) -> None:
                super().__init__(prog, max_help_position=28, width=96)

        for depth, name, part in _parsers(parser(), 0):
            part.formatter_class = Formatter
            yield from (name, "-~"[min(depth, 2) - 1] * len(name), "") if depth else ()
            yield from (
                ".. code-block:: text",
                "",
                *(f"   {line}".rstrip() for line in part.format_help().splitlines()),
                "",
            )


def _parsers(parser: argparse.ArgumentParser, depth: int) -> Iterator[tuple[int, str, argparse.ArgumentParser]]:
    yield depth, parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _parsers(each, depth + 1)


class Frames(_Made):
    """The native protocol's table."""

    def lines(self) -> Iterator[str]:
        from quorate.kernel.wire.native import FORMS

        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 8 17 35 40", "")
        yield from ("   * - Number", "     - Frame", "     - Fields, in order", "     - Meaning")
        for number, (frame, form) in FORMS.items():
            meaning = (frame.__doc__ or "").split("\n\n")[0].split(". ")[0].replace("\n", " ")
            fields = ", ".join(f"`{each.name}`" for each in form.subcons) or "none"
            yield from (
                f"   * - {number}",
                f"     - `{frame.__name__}`",
                f"     - {fields}",
                f"     - {' '.join(meaning.split())}",
            )


class States(_Made):
    """The session's states as a table of turns."""

    def lines(self) -> Iterator[str]:
        from quorate.kernel.client.states import TRANSITIONS

        yield from (".. list-table::", "   :header-rows: 1", "", "   * - In", "     - when", "     - becomes")
        for (state, turn), after in TRANSITIONS.items():
            yield from (f"   * - {state.name}", f"     - {turn.value}", f"     - {after.name}")


class Planted(_Made):
    """The planted bugs, what each breaks, who tells, and after how many seeds."""

    def lines(self) -> Iterator[str]:
        from measured import median, read
        from planting import all_bugs

        table = read()
        yield from (".. list-table::", "   :header-rows: 1", "   :widths: 55 18 9 9 9", "", "   * - What is broken")
        yield from ("     - What tells", "     - Seeds, focused", "     - `restless`", "     - `swarm`")
        for name, bug in all_bugs().items():
            found = table[name]
            yield f"   * - **{name.replace('_', ' ').capitalize()}.** {' '.join(bug.words.split())}"
            yield f"     - {', '.join(bug.promises)}"
            for column in ("focused", "restless", "swarm"):
                counts = getattr(found, column)
                if not counts:
                    yield "     - not measured"
                elif (seeds := median(counts)) < float("inf"):
                    yield f"     - {seeds:g}"
                else:
                    yield f"     - more than {found.most[column]}"


def _sections(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Understand ``Args:``, ``Raises:`` and ``Attributes:``. An attribute's own text is a sentence and has none."""
    if what not in ("attribute", "data", "property"):
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, thing, options).lines()


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx."""
    app.connect("autodoc-process-docstring", _sections)
    app.add_directive("quorate-commands", Commands)
    app.add_directive("quorate-frames", Frames)
    app.add_directive("quorate-states", States)
    app.add_directive("quorate-planted", Planted)
    return {"parallel_read_safe": True}
