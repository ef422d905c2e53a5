"""Runs of stages, and an edit with a stage after it, that die anywhere end with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.verbs.test_kill import DIED, DONE, MEASURING, clinic, in_a_fork, run_with_deaths, what_counts

import palimpsest as pal
from palimpsest.contract import Phase, Stage, Term
from palimpsest.methods.random_edit import RandomEdit

__all__ = ["clinic"]
TRAINING = {"learning_rate": 1e-3, "batch_size": 4, "checkpoint_steps": 1000}
AT_BORDERS = "half a file of palimpsest.loop.checkpoint"
WORDS = "{} steps in 4 stages (max ×2, min ×2) as planned"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def go(clinic: Path, output: Path, method: str, **training: Any) -> pal.RunResult:
    plan = {"training": {**TRAINING, **training}, "measuring": MEASURING}
    files = {"retain": clinic / "retain.jsonl", "answers": False}
    return pal.unlearn(clinic / "learned", clinic / "forget.jsonl", output=output, method=method, plan=plan, **files)


def in_stages(clinic: Path, output: Path) -> None:
    """Checkpoints at the borders of its stages alone."""
    go(clinic, output, "scrub", num_train_epochs=2)


def edit_and_repair(clinic: Path, output: Path) -> None:
    go(clinic, output, "random_edit", checkpoint_steps=2)


@pytest.fixture
def repairs(monkeypatch) -> None:
    """The random edit, with a stage of descent on retain after it."""

    def loss(self, model, batches, phase):
        batch = batches["retain"]
        return {"retain": Term(-batch.predict(model).logp_S.sum(), of="retain")}

    stage = Stage("repair", anchor="retain", epochs=1, phases=(Phase("repair", ("retain",)),))
    monkeypatch.setattr(RandomEdit, "uses", ("retain",))
    monkeypatch.setattr(RandomEdit, "stages", lambda self, sizes: (stage,))
    monkeypatch.setattr(RandomEdit, "loss", loss)


@pytest.mark.parametrize("verb", [in_stages, edit_and_repair], ids=lambda verb: verb.__name__)
@pytest.mark.usefixtures("repairs")
def test_a_death_at_every_kind_of_moment(clinic, tmp_path, verb: Callable[[Path, Path], None]):
    """Every process dies at the first moment at which none died before it, until one finds no such moment and ends."""
    verb(clinic, tmp_path / "undisturbed")  # in this process: those forked from it find all that it imported
    expected = what_counts(tmp_path / "undisturbed")
    output, seen = tmp_path / "killed" / "out", []
    output.parent.mkdir()
    while (code := run_with_deaths(verb, clinic, output, lambda name, _count: name not in seen)) == DIED:
        seen.append((output.parent / "died-at").read_text())
    assert code == DONE
    assert AT_BORDERS in seen
    assert what_counts(output) == expected


def test_a_death_in_every_stage(clinic, tmp_path):
    """At every row of the log one process dies; the one after it goes on from the border before."""
    whole = go(clinic, tmp_path / "whole", "scrub", num_train_epochs=2)
    expected = what_counts(tmp_path / "whole")
    names = [row["stage"] for row in expected["rows"] if row["kind"] == "step"]
    assert list(dict.fromkeys(names)) == ["max", "min"]
    assert whole.stopped == WORDS.format(len(names))
    borders = [n for n in range(1, len(names)) if names[n] != names[n - 1]]
    assert len(borders) == 3
    for at in sorted({borders[0] - 1, borders[0], borders[1] + 1, borders[2]}):
        output = tmp_path / str(at) / "out"
        output.parent.mkdir()
        rows: list[str] = []

        def dies(name: str, _count: int, rows: list[str] = rows, at: int = at) -> bool:
            rows += [name] if name == "half a row" else []
            return len(rows) > at

        assert run_with_deaths(in_stages, clinic, output, dies) == DIED
        assert in_a_fork(lambda output=output: in_stages(clinic, output)) == DONE
        assert what_counts(output) == expected
