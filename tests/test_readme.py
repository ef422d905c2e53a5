"""The README is run, and it and the pages of ``docs`` name every command and every public name.

How a page is run: ``tests/documents.py``.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.documents import README, ROOT, Command, broken_links, commands, difference, run, run_page

import palimpsest

COMMANDS = re.findall(
    r"[\w-]+",
    "bench calibrate clean companions demo env export federated harden judge learn measure methods metrics options "
    "parts report rules serve-model unlearn update verify",
)


@pytest.mark.slow
@pytest.mark.long
def test_readme_blocks_run(tmp_path: Path) -> None:
    assert run_page(README, tmp_path), "the README shows no session"


def test_the_commands_are_those_of_the_help(tmp_path: Path) -> None:
    done = run(["-m", "palimpsest", "--help"], tmp_path)
    listed = re.findall(r"^[│|\s]{1,3}([a-z-]+)\s{2,}\S", done.stdout, re.MULTILINE)
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


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    assert not broken_links(page)


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
