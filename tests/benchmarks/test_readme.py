"""benchmarks/README.md names every file: a command in the table, or a file that commands take from; and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAID = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(BENCHMARKS.glob("*.py"))}


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_line(name):
    is_command = "__main__" in FILES[name]
    place = rf"^\| `python benchmarks/{name}\b" if is_command else rf"`{name}`"
    assert re.search(place, SAID, re.MULTILINE), f"benchmarks/README.md says nothing of {name}"


def test_every_part_of_the_learners_has_a_line():
    """``learners.py`` is several benchmarks."""
    parts = re.findall(r"^    (\w+) {2,}", FILES["learners.py"], re.MULTILINE)
    assert {"texts", "cifar", "frozen", "digits", "exact"} <= set(parts)
    rows = [line for line in SAID.splitlines() if "benchmarks/learners.py" in line]
    assert not [part for part in parts if not any(re.search(rf"\b{part}\b", row) for row in rows)]


def test_no_line_is_of_a_file_that_is_gone():
    assert set(re.findall(r"`python benchmarks/(\w+\.py)", SAID)) <= FILES.keys()
