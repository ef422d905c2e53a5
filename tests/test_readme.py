"""The README is run: what it shows is what a reader gets.

All ``console`` and ``python`` blocks run in the order of the README in one empty folder, so a block may use what an
earlier one made. In a console block the lines that start with ``$ palimpsest`` are run (other commands, such as
``$ make``, are set-up and are not), and must end with exit code 0, or with the one that a comment behind the command
says (``# exit code 3``). Lines up to the next ``$`` are the expected output.

The rule of comparison: the lines shown are the whole output in its order; only where the README shows a line that holds
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import palimpsest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMANDS = ("bench", "demo", "env", "learn", "measure", "methods", "metrics", "options", "report", "unlearn", "update")
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\d[\d,]*(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
WORST = re.compile(r"\bp\d{4}-[a-z]+")
BLANKS = re.compile(r"[\s\u2500-\u257f]+")
ELLIPSIS = {"...", "…"}


@dataclass
class Command:
    """A command of a console block, and the output that the README shows for it."""

    line: str
    expected: list[str] = field(default_factory=list)


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return [(match[1], match[2]) for match in FENCE.finditer(text)]


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


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "120", "PYTHONWARNINGS": "default"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_readme_blocks_run(tmp_path: Path) -> None:
    ran = 0
    for language, block in blocks(README.read_text(encoding="utf-8")):
        if language == "python":
            done = run(["-c", block], tmp_path)
            assert done.returncode == 0, f"{block}\n{done.stdout}"
            ran += 1
        for command in commands(block) if language == "console" else []:
            program, *arguments = shlex.split(command.line, comments=True)
            if program != "palimpsest":
                continue
            done = run(["-m", "palimpsest", *arguments], tmp_path)
            assert done.returncode == exit_code(command.line), f"$ {command.line}\n{done.stdout}"
            missing = difference(command.expected, done.stdout)
            assert missing is None, f"$ {command.line}\nnot in the output at its place: {missing}\n{done.stdout}"
            ran += 1
    assert ran, "the README shows no session"


def test_the_commands_are_those_of_the_help(tmp_path: Path) -> None:
    done = run(["-m", "palimpsest", "--help"], tmp_path)
    listed = re.findall(r"^[│|\s]{1,3}([a-z]+)\s{2,}\S", done.stdout, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS), done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command: str) -> None:
    assert re.search(rf"\bpalimpsest {command}\b", documentation()), f"palimpsest {command} is not documented"


@pytest.mark.parametrize("name", [name for name in palimpsest.__all__ if not name.startswith("_")])
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"\b(pal|palimpsest)\.{name}\b|`{name}`", documentation()), f"{name} is not documented"


def documentation() -> str:
    """README and docs as one text."""
    pages = [README, *sorted((ROOT / "docs").rglob("*.md"))]
    return "\n".join(page.read_text(encoding="utf-8") for page in pages)


def test_links_to_files_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", README.read_text(encoding="utf-8"))
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        ("forget 0.98 [0.9, 1.0]", "│ forget │ 0.11 [0.0, 0.2] │"),
        ("a\n...\nd", "a\nb\nc\nd"),
        ("took 1.5 s, 1,234 tokens", "took 12.25 s,   9 tokens"),
        ("", "a\nb"),
        ("a\n...", "a\nb"),
        ("a\n\nb", "a\nb\n\n"),
    ],
)
def test_what_counts_as_equal(expected: str, output: str) -> None:
    assert difference(expected.splitlines(), output) is None


@pytest.mark.parametrize(
    ("expected", "output", "missing"),
    [
        ("verdict: passed", "verdict: failed", "verdict: passed"),
        ("a\nd", "a\nb\nd", "d"),
        ("a\n...\nz", "a\nb\nd", "z"),
        ("b\na", "a\nb", "b"),
        ("es 0.5 [0.4, 0.6]", "es 0.5", "es 0.5 [0.4, 0.6]"),
        ("es 0.5", "es -0.5", "es 0.5"),
        ("a", "a\nb", "nothing, but there is 'b'"),
    ],
)
def test_what_counts_as_different(expected: str, output: str, missing: str) -> None:
    assert difference(expected.splitlines(), output) == missing


def test_commands_are_read_with_continuation_and_output() -> None:
    block = "$ make setup\n$ palimpsest learn \\\n    --model m\nline 1\nline 2\n"
    assert commands(block) == [
        Command("make setup"),
        Command("palimpsest learn      --model m", ["line 1", "line 2"]),
    ]
