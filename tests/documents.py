"""A page of documentation is run: what it shows is what a reader gets.

All ``console`` and ``python`` blocks run in the order of the page in one empty folder, so a block may use what an
earlier one made. In a console block the lines that start with ``$ palimpsest`` are run (other commands, such as
``$ make``, are set-up and are not), and must end with exit code 0, or with the one that a comment behind the command
says (``# exit code 3``). Lines up to the next ``$`` are the expected output.

The rule of comparison: the lines shown are the whole output in its order; only where the page shows a line that holds
nothing but ``...`` may lines be left out, and a command shown without any output is not compared. Before comparing,
every number becomes ``#`` (seconds, bytes and digits of a float differ between machines), so does the id of one of the
demo's patients (which row is worst may differ with them), and runs of blanks and of box-drawing characters become one
blank (widths follow the terminal). Words, names, signs, units and the number of
numbers must be right.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.warm import WarmPython

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GUIDE = ROOT / "docs" / "guide.md"
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TITLED = re.compile(r'^```python title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
CHANGED = re.compile(r'^```diff title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
WORST = re.compile(r"\bp\d{4}-[a-z]+")
BLANKS = re.compile(r"[\s\u2500-\u257f]+")
ELLIPSIS = {"...", "…"}


@dataclass
class Command:
    """A command of a console block, and the output that the page shows for it."""

    line: str
    expected: list[str] = field(default_factory=list)


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return [(match[1], match[2]) for match in FENCE.finditer(text)]


def titled_files(heading: str, page: Path = ROOT / "CONTRIBUTING.md") -> dict[str, str]:
    """Path -> content of every file that a section of a page spells out; the heading begins with these words."""
    return dict(TITLED.findall(_section(heading, page)))


def _section(heading: str, page: Path) -> str:
    (section,) = re.findall(rf"^## {heading}.*?(?=^## |\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(section)


def titled_changes(heading: str, page: Path = ROOT / "CONTRIBUTING.md") -> dict[str, list[tuple[str, str]]]:
    """Path -> what a section of a page says to change there, as (lines that are there, lines instead)."""
    return {
        path: [_sides(hunk) for hunk in re.split(r"^@@\n", lines, flags=re.MULTILINE)]
        for path, lines in CHANGED.findall(_section(heading, page))
    }


def _sides(hunk: str) -> tuple[str, str]:
    """The lines before and after, of a hunk of a diff."""
    lines = hunk.splitlines(keepends=True)
    old, new = ("".join(line[1:] for line in lines if line[0] in signs) for signs in (" -", " +"))
    return old, new


def put(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a folder by their paths in it."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def change(folder: Path, changes: Mapping[str, list[tuple[str, str]]]) -> None:
    """Change files of a folder as a page says; what it says is there must be there, once."""
    for path, hunks in changes.items():
        text = (folder / path).read_text(encoding="utf-8")
        for old, new in hunks:
            assert text.count(old) == 1, f"the page shows lines of {path} that are not there, or more than once:\n{old}"
            text = text.replace(old, new)
        (folder / path).write_text(text, encoding="utf-8")


def commands(block: str) -> list[Command]:
    """Commands of a console block; a backslash at the end of a line continues it."""
    found: list[Command] = []
    for line in block.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append(Command(line.removeprefix("$ ")))
        elif found:
            found[-1].expected.append(line)
    return found


def exit_code(line: str) -> int:
    """What the comment behind a command says it ends with.

    >>> exit_code("palimpsest env"), exit_code("palimpsest unlearn  # undecided, exit code 3")
    (0, 3)
    """
    said = re.search(r"#.*\bexit code (\d+)", line)
    return int(said[1]) if said else 0


def normal(line: str) -> str:
    """A line with what may differ between two machines taken out."""
    return BLANKS.sub(" ", NUMBER.sub("#", WORST.sub("#", line))).strip()


def difference(expected: list[str], output: str) -> str | None:
    """What was expected and is not where it should be, or None."""
    real: Iterator[str] = iter([line for line in map(normal, output.splitlines()) if line])
    may_skip = False
    for line in expected:
        wanted = normal(line)
        if wanted in ELLIPSIS:
            may_skip = True
        elif wanted:
            if wanted not in (real if may_skip else [next(real, "")]):
                return line
            may_skip = False
    more = next(real, None)
    return None if more is None or may_skip or not expected else f"nothing, but there is {more!r}"


def environment() -> dict[str, str]:
    """Of the processes that run what a page shows."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120", "PYTHONWARNINGS": "default"}


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, in a folder, both streams as one text."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def run_page(python: WarmPython, page: Path, folder: Path) -> int:
    """Run every block of a page in one folder, and compare what it prints with what the page shows.

    Returns:
        How many blocks and commands ran.
    """
    return sum(run_block(python, *block, folder) for block in blocks(page.read_text(encoding="utf-8")))


def run_block(python: WarmPython, language: str, block: str, folder: Path) -> int:
    """Run a block that is Python, or the commands of a console block; how many ran."""
    if language == "python":
        done = python.run(["-c", block], folder)
        assert done.returncode == 0, f"{block}\n{done.stdout}"
        return 1
    ran = 0
    for command in commands(block) if language == "console" else []:
        program, *arguments = shlex.split(command.line, comments=True)
        if program == "palimpsest":
            check_command(python.run(["-m", program, *arguments], folder), command)
            ran += 1
    return ran


def check_command(done: subprocess.CompletedProcess[str], command: Command) -> None:
    """Refuse another exit code or another output than the page shows."""
    assert done.returncode == exit_code(command.line), f"$ {command.line}\n{done.stdout}"
    missing = difference(command.expected, done.stdout)
    assert missing is None, f"$ {command.line}\nnot in the output at its place: {missing}\n{done.stdout}"


def broken_links(page: Path) -> list[str]:
    """Links of a page to files that do not exist."""
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    return [link for link in links if not (page.parent / link).exists()]
