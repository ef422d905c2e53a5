"""A run that adds parts dies at every kind of moment, one after the other, and ends with the same bits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.models.parts.conftest import own_parts
from tests.verbs.test_kill import DIED, DONE, MEASURING, TRAINING, run_with_deaths

import palimpsest as pal

__all__ = ["own_parts"]
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def nudge(clinic: Path, output: Path) -> None:
    pal.unlearn(
        clinic / "model",
        clinic / "forget.jsonl",
        retain=clinic / "retain.jsonl",
        output=output,
        method="nudged",
        plan={"training": {**TRAINING, "learning_rate": 1e-2, "max_steps": 2}, "measuring": MEASURING},
        answers=False,
    )


def files_of(folder: Path) -> dict[str, Any]:
    """Every file that the run wrote, by its name; of the log and the record what no clock decides."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = json.loads((folder / "result.json").read_text())
    for name in ("manifest.json", "metrics.jsonl", "plan.json", "report.html", "result.json"):
        del found[name]
    return {**found, **{key: result[key] for key in ("scores", "verdict", "stopped", "plan_digest")}}


@pytest.mark.slow
def test_a_death_at_every_kind_of_moment(own_parts, clinic, tmp_path):
    nudge(clinic, tmp_path / "whole")  # in this process: those forked from it find all that it imported
    seen: list[str] = []
    output = tmp_path / "out"
    while (code := run_with_deaths(nudge, clinic, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((tmp_path / "died-at").read_text())
        assert not output.exists() or (output / "result.json").is_file()
    assert code == DONE
    assert files_of(output) == files_of(tmp_path / "whole")
    kinds = " ".join(seen)
    for place in ("half a row", "checkpoint.safetensors", ".partial/parts", "part.json"):
        assert place in kinds
