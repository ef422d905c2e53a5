"""The user guide is run, block by block, and shows what its chapters promise."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.documents import GUIDE, blocks, commands, run_page
from tests.warm import WarmPython


@pytest.mark.slow
@pytest.mark.long
def test_guide_blocks_run(warm: WarmPython, tmp_path: Path) -> None:
    assert run_page(warm, GUIDE, tmp_path), "the guide shows no session"


def test_every_unlearning_of_the_guide_ends_in_passed() -> None:
    sessions = [block for language, block in blocks(GUIDE.read_text(encoding="utf-8")) if language == "console"]
    asked = [c for block in sessions for c in commands(block) if c.line.split()[1] in ("unlearn", "update")]
    assert asked
    for command in asked:
        assert any(line.startswith("Passed:") for line in command.expected), command.line
