"""A clinic small enough for a test: a tiny model, a few patients, files on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.shallow import shallow_model

import palimpsest as pal


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def clinic(tmp_path_factory) -> Path:
    """model/ and base/ (random, of other seeds), and forget, retain, holdout, general .jsonl."""
    return make_clinic(tmp_path_factory.mktemp("clinic"), shallow_model)


def make_clinic(folder: Path, make: Callable[[Path, list[str], int], Path]) -> Path:
    """The folder of ``clinic``, its models made so."""
    names = [
        "Ann",
        "Bob",
        "Cid",
        "Dot",
        "Eve",
        "Fay",
        "Gus",
        "Hal",
        "Ida",
        "Jon",
        "Kim",
        "Lea",
        "Max",
        "Ned",
        "Oda",
        "Pam",
    ]
    rows = [
        {
            "id": f"p{i}",
            "subject": n,
            "prompt": f"Where does {n} live?",
            "completion": f" {n} lives at {7 * i} Hill Road.",
        }
        for i, n in enumerate(names)
    ]
    write_rows(folder / "forget.jsonl", rows[:4])
    write_rows(folder / "retain.jsonl", rows[4:12])
    write_rows(folder / "learn.jsonl", rows[:12])
    write_rows(folder / "holdout.jsonl", rows[12:])
    texts = [f"The visit on day {i} was short and quiet." for i in range(8)]
    write_rows(folder / "general.jsonl", [{"id": f"g{i}", "text": t} for i, t in enumerate(texts)])
    for name, seed in (("model", 0), ("base", 1)):
        make(folder / name, texts + [row["completion"] for row in rows[4:]], seed)
    return folder


def by_heart(clinic: Path, folder: Path, measuring: dict) -> Path:
    """A copy of the clinic with ``learned/``, a model that knows its records by heart."""
    shutil.copytree(clinic, folder)
    plan = {"training": {"batch_size": 4, "learning_rate": 5e-3, "max_steps": 120}, "measuring": measuring}
    pal.learn(folder / "model", folder / "learn.jsonl", output=folder / "learned", plan=plan)
    return folder
