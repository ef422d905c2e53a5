"""Eight people with two facts each and a model small enough to bench; and a bench that nobody ran."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.shallow import shallow_model

from palimpsest.bench.results import (
    NOTHING,
    ORACLE,
    RANDOM,
    BenchResult,
    RowStep,
    SetScore,
    StepReading,
    StreamRequestInfo,
)

PEOPLE = ("Ann", "Bob", "Cid", "Dot")
FACTS = (("live", "lives at"), ("work", "works at"), ("swim", "swims at"))


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def town(tmp_path_factory) -> Path:
    """model/, train.jsonl (two facts of each person) and test.jsonl (the third)."""
    folder = tmp_path_factory.mktemp("town")
    rows = [
        {
            "id": f"{name}-{verb}",
            "subject": name,
            "prompt": f"Where does {name} {verb}?",
            "completion": f" {name} {verbs} {7 * person + 3 * fact} Hill Road.",
        }
        for person, name in enumerate(PEOPLE)
        for fact, (verb, verbs) in enumerate(FACTS)
    ]
    write_rows(folder / "train.jsonl", [row for row in rows if not row["id"].endswith("swim")])
    write_rows(folder / "test.jsonl", [row for row in rows if row["id"].endswith("swim")])
    shallow_model(folder / "model", [row["completion"] for row in rows], seed=0)
    return folder


@pytest.fixture(scope="session")
def values(town) -> dict[str, Any]:
    """Values of a bench of three requests: learn two people, learn two more, forget one of each."""
    training = {"learning_rate": 3e-3, "max_steps": 3, "batch_size": 4, "checkpoint_steps": 1}
    return {
        "model": str(town / "model"),
        "data": str(town / "train.jsonl"),
        "test": str(town / "test.jsonl"),
        "stream": {"kind": "cross-category", "classes_per_task": 2, "after": [2]},
        "buffer": 3,
        "rows": {"er+grad_diff": "er+grad_diff", "finetune+gradient_ascent": "finetune+gradient_ascent"},
        "learning": {"training": training},
        "unlearning": {"training": {**training, "learning_rate": 1e-3}},
    }


def reading(learn: float, forget: float | None, retain: float | None, *, kl: float, mia: float | None) -> StepReading:
    """A reading with these accuracies of sets of ten, and one task and one forget set."""
    sets = {"learn": learn, "forget": forget, "retain": retain, "test": 0.5, "task a": learn, "forgot b": forget}
    scores = {
        name: SetScore(n=10, accuracy=v, strength=v / 2, nll=1.0, kl=kl, accuracies={"x": v})
        for name, v in sets.items()
        if v is not None
    }
    return StepReading(sets=scores, mia=mia)


def steps(*readings: StepReading, seconds: float, **more: Any) -> tuple[RowStep, ...]:
    return tuple(RowStep(model="m", weights="w", seconds=seconds, tokens=100, reading=r, **more) for r in readings)


@pytest.fixture
def finished() -> BenchResult:
    """Two requests, two seeds. The row is 10 points off in LA at both, 20 in UA and 40 in MIA at the second."""
    oracle = (reading(1.0, None, None, kl=0.0, mia=None), reading(1.0, 0.2, 0.8, kl=0.0, mia=0.1))
    row = (reading(0.9, None, None, kl=0.2, mia=None), reading(0.9, 0.4, 0.8, kl=0.4, mia=0.5))
    requests = (
        StreamRequestInfo(
            name="a", kind="R", task="0", learn=10, forget=0, remaining=0, memory=0, tasks={"a": 10}, forgotten={}
        ),
        StreamRequestInfo(
            name="b", kind="R", task=None, learn=0, forget=4, remaining=6, memory=3, tasks={"a": 6}, forgotten={"b": 4}
        ),
    )
    label = "<er> & npo"
    twin = reading(1.0, 0.3, 0.8, kl=0.05, mia=0.2)
    learned, forgot = steps(*oracle, seconds=10.0)
    rows = {
        ORACLE: {seed: (learned, forgot.model_copy(update={"twin": twin})) for seed in (0, 1)},
        label: {0: steps(*row, seconds=1.0), 1: steps(*oracle, seconds=2.0)},
        NOTHING: {seed: steps(*row, seconds=0.0) for seed in (0, 1)},
        RANDOM: {seed: steps(*row, seconds=0.0, stopped="it diverged") for seed in (0, 1)},
    }
    bench = {"stream": {"kind": "random"}, "buffer": 3, "data": ["/d/train.jsonl"], "model": "/m/net", "test": None}
    return BenchResult(created="2026-01-01T00:00:00+00:00", bench=bench, streams={0: requests, 1: requests}, rows=rows)
