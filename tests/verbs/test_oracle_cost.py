"""What an oracle cost, over chains of runs: all its goes, or nothing. A folder holds a result and a name of weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from palimpsest.engine import oracle_cost as module
from palimpsest.engine.oracle_cost import oracle_cost
from palimpsest.engine.plan import Plan
from palimpsest.records import Cost
from palimpsest.report.schema import CostRow, RunResult


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which models are folders that hold the file ``weights``."""
    monkeypatch.setattr(module, "source_digest", lambda source: (Path(source) / "weights").read_text())
    return tmp_path


def model(place: Path, name: str, start: str | None = None, *, tokens: int = 0, method: str = "finetune") -> Path:
    """A folder of weights; of a run of ours where it started somewhere."""
    folder = place / name
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text(name)
    if start is not None:
        role = "base" if method == "retrain" else "model"
        plan = {"method": method, "model": str(place / start), role: str(place / start), "digests": {role: start}}
        cost = CostRow.of(Cost(1.0, tokens, 10))
        RunResult(
            kind="learn", method=method, plan=plan, plan_digest="", created="", sets={}, scores={},
            cost={"training": cost, "preparing": cost},
        ).save_json(folder / "result.json")  # fmt: skip
    return folder


def cost(place: Path, *, model: str = "model", oracle: str = "oracle") -> int | None:
    plan = Plan(
        kind="unlearn", method="npo", model=str(place / model), oracle=str(place / oracle), files={},
        digests={"model": model, "oracle": oracle},
    )  # fmt: skip
    found = oracle_cost(plan)
    return found["oracle_training"].tokens if found else None


def test_all_goes_count_back_to_the_base(place):
    model(place, "base")
    model(place, "model", "base", tokens=7000)
    model(place, "first", "base", tokens=200)
    model(place, "oracle", "first", tokens=60)
    assert cost(place) == 2 * (200 + 60)  # preparing and training of both


def test_what_the_model_comes_from_too_counts_for_neither(place):
    model(place, "base")
    model(place, "general", "base", tokens=5000)
    model(place, "model", "general", tokens=7000)
    model(place, "oracle", "general", tokens=60, method="retrain")
    assert cost(place) == 120


def test_a_base_of_nobody_s_making_ends_the_chain(place):
    model(place, "base")
    model(place, "model")
    model(place, "oracle", "base", tokens=60)
    assert cost(place) == 120


@pytest.mark.parametrize("how", ["gone", "written over", "of another version"])
def test_a_go_that_is_not_known_leaves_the_cost_unknown(place, how):
    model(place, "base")
    model(place, "model", "base", tokens=7000)
    first = model(place, "first", "base", tokens=200)
    model(place, "oracle", "first", tokens=60)
    if how == "gone":
        for path in first.iterdir():
            path.unlink()
        first.rmdir()
    elif how == "written over":
        (first / "weights").write_text("others")
    else:
        (first / "result.json").write_text("{}")
    assert cost(place) is None


def test_an_oracle_of_others_and_none(place):
    model(place, "model")
    model(place, "oracle")
    assert cost(place) is None
    assert oracle_cost(Plan(kind="unlearn", method="npo", model="m", files={})) == {}
