"""What a controlled run keeps, chosen from what was given."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import palimpsest as pal
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.derived.own_words import COUNT
from palimpsest.engine import guide
from palimpsest.engine.plan import Plan, make_plan
from palimpsest.models.families import family_named


def texts(name: str, count: int, tokens: tuple[int, ...] = (1, 2, 3)) -> TextSet:
    flags = (False, *(True for _ in tokens[1:]))
    return TextSet([TokenSequence(f"{name} {n}", tokens, flags) for n in range(count)], pad_id=0)


def plan_of(*names: str) -> Plan:
    fields = {"kind": "unlearn", "method": "npo", "model": "m", "files": {name: f"{name}.jsonl" for name in names}}
    return make_plan(fields, {})


@pytest.mark.parametrize(
    ("left", "said", "given", "repaired"),
    [
        (COUNT, (4, 5, 6), ("forget", "retain"), {"retain", "replay"}),
        (COUNT, (1, 2, 3, 4, 5), ("forget", "retain"), {"retain"}),  # a third of it is of the rows: blends of them
        (COUNT, (1, 2, 3, 4, 5, 6), ("forget", "retain"), {"retain", "replay"}),  # a quarter
        (COUNT, (1, 2, 3), ("forget",), {"replay"}),  # better than nothing
        (COUNT // 2 - 1, (4, 5, 6), ("forget", "retain"), {"retain"}),  # it says little but what must go
        (COUNT // 2 - 1, (4, 5, 6), ("forget",), {"replay"}),
    ],
)
def test_own_words_are_kept_where_the_model_has_some(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    left: int,
    said: tuple[int, ...],
    given: tuple[str, ...],
    repaired: set[str],
) -> None:
    monkeypatch.setattr(guide, "own_words", lambda *_, **__: texts("own", left, said))
    loaded: Any = SimpleNamespace(family=family_named("causal"))
    found = guide.kept(plan_of(*given), loaded, {name: texts(name, 9) for name in given}, tmp_path)
    assert set(found.repaired) == repaired
    assert (found.general is not None) == ("replay" in repaired)
    assert (found.note == guide.NO_LANGUAGE) == ("replay" not in repaired)


def taken(folder: Path) -> int:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return max(row["step"] for row in rows if row["kind"] == "control")


@pytest.mark.parametrize("steps", [1, 7])
def test_a_run_takes_no_more_steps_than_were_asked_for(clinic, tmp_path, steps):
    """Iterations and repairs together, the last cooling included; trials of the sweep are taken back."""
    heart = {"training": {"batch_size": 4, "learning_rate": 5e-3, "max_steps": 60}, "measuring": {"metrics": ["ma"]}}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "known", plan=heart)
    plan = {"training": {"max_steps": steps, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=tmp_path / "learned", plan=plan)
    files = {"retain": clinic / "retain.jsonl", "holdout": clinic / "holdout.jsonl"}
    pal.unlearn(tmp_path / "known", clinic / "forget.jsonl", output=tmp_path / "forgot", plan=plan, **files)
    assert 0 < taken(tmp_path / "learned") <= steps
    assert 0 < taken(tmp_path / "forgot") <= steps
