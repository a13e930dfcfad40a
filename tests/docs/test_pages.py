"""Every code block of the documentation is executed, page by page, as a reader would.

Within a page, in order and in one folder of its own:

* ``python`` and ``toml`` blocks with a caption are saved under that name; other ``python`` blocks are run.
* ``console`` blocks are typed into a shell: lines that begin with ``$``, continued by a backslash. The lines below a
  command are what it must print (``...`` stands for anything; nothing written: anything). A command that ends in ``&``
  runs until the end of the page; the next one is typed once it has printed something.

Ports 7400 to 7499 stand for free ones, the same throughout the page. A page that starts no cell of its own finds one
behind QUORATE_AT.
"""

from __future__ import annotations

import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.rst"))]
IGNORED = {"text", "none"}
ELSEWHERE = re.compile(r"python3 -m venv|tox|git clone")
"""Commands that set up what these tests run in; .ci/run and the packaging tests run them."""

_DIRECTIVE = re.compile(r"^(?P<indent> *)\.\. code-block:: *(?P<language>\S+)$")
_OPTION = re.compile(r"^ +:(\w+): *(.*)$")
_PORT = re.compile(r"\b74(\d\d)\b")
_FENCE = re.compile(r"^```(?P<language>\w+)(?: +(?P<caption>\S+))?$")


class Block(NamedTuple):
    """One code block: where it begins, what it is, the name it is saved under."""

    line: int
    language: str
    caption: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The code blocks of a page, in order."""
    lines = page.read_text().splitlines()
    position = 0
    while position < len(lines):
        start = position
        position += 1
        if page.suffix == ".md":
            if fence := _FENCE.match(lines[start]):
                end = lines.index("```", start)
                yield Block(
                    start + 1, fence["language"], fence["caption"] or "", "\n".join(lines[start + 1 : end]) + "\n"
                )
                position = end + 1
            continue
        directive = _DIRECTIVE.match(lines[start])
        if directive is None:
            continue
        caption = ""
        while position < len(lines) and (option := _OPTION.match(lines[position])):
            caption = option[2] if option[1] == "caption" else caption
            position += 1
        body = []
        while position < len(lines) and (not lines[position].strip() or _deeper(lines[position], directive["indent"])):
            body.append(lines[position])
            position += 1
        margin = min(len(each) - len(each.lstrip()) for each in body if each.strip())
        text = "\n".join(each[margin:] for each in body).strip("\n") + "\n"
        yield Block(start + 1, directive["language"], caption, text)


def _deeper(line: str, indent: str) -> bool:
    return line.startswith(indent + " ")


def commands_of(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it must print."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in text.splitlines():
        if continued:
            command, expected = found[-1]
            found[-1] = (command[:-1] + line.removeprefix("> "), expected)
        elif line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
            continue
        continued = found[-1][0].endswith("\\")
    return [(command, "\n".join(expected).strip()) for command, expected in found]


def matches(expected: str, printed: str) -> bool:
    """Whether `printed` is what was announced, ``...`` standing for anything."""
    pattern = ".*".join(re.escape(part.strip()) for part in expected.split("..."))
    return re.fullmatch(rf"\s*{pattern}\s*", printed, re.DOTALL) is not None


def on_free_ports(found: list[Block]) -> list[Block]:
    """The blocks with other ports in place of those that the page was written with."""
    written = {int(port[1]) for block in found for port in _PORT.finditer(block.text)}
    base = next(base for base in iter(lambda: random.randrange(20_000, 32_000, 100), 0) if _all_free(base, written))
    return [block._replace(text=_PORT.sub(lambda port: str(base + int(port[1])), block.text)) for block in found]


def _all_free(base: int, offsets: set[int]) -> bool:
    for offset in offsets:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", base + offset))
            except OSError:
                return False
    return True


class Shell:
    """Where one page is run."""

    def __init__(self, folder: Path, environment: dict[str, str], stack: ExitStack) -> None:
        self._folder = folder
        self._environment = environment
        self._stack = stack

    def run(self, block: Block) -> None:
        """Do what the block says."""
        if block.language in IGNORED:
            return
        if block.caption:
            (self._folder / block.caption).write_text(block.text)
        elif block.language == "python":
            self._type(f"python - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK", "")
        elif block.language == "console":
            for command, expected in commands_of(block.text):
                if ELSEWHERE.search(command):
                    continue
                if command.endswith(" &"):
                    self._start(command[:-2])
                elif command.startswith("export "):
                    name, _, value = command.removeprefix("export ").partition("=")
                    self._environment[name] = value
                else:
                    self._type(command, expected)
        else:
            pytest.fail(f"a {block.language} block: give it a caption, or call it text")

    def _type(self, command: str, expected: str) -> None:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        if not expected and done.returncode:
            raise AssertionError(f"$ {command}\n{done.stdout}exit status {done.returncode}")
        if expected and not matches(expected, done.stdout):
            raise AssertionError(f"$ {command}\n{done.stdout}\nthe page says:\n{expected}")

    def _start(self, command: str) -> None:
        """Run it until the page ends; returns once it has printed something."""
        log = self._folder / f".background-{time.monotonic_ns()}"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._stack.callback(_end, process)
        deadline = time.monotonic() + 60
        while not log.read_text():
            assert process.poll() is None, f"$ {command} &\nended with {process.returncode}"
            assert time.monotonic() < deadline, f"$ {command} &\nprinted nothing"
            time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


@pytest.mark.cell
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path, environment: dict[str, str], request: pytest.FixtureRequest) -> None:
    """What the page says works, word for word."""
    found = on_free_ports(list(blocks(page)))
    environment = dict(environment)
    text = "".join(block.text for block in found)
    if "quorate" in text and "quorate cell run" not in text:
        environment["QUORATE_AT"] = request.getfixturevalue("running_cell")
    with ExitStack() as stack:
        shell = Shell(tmp_path, environment, stack)
        for block in found:
            try:
                shell.run(block)
            except AssertionError as error:
                pytest.fail(f"{page.relative_to(ROOT)}, line {block.line}:\n{error}", pytrace=False)
