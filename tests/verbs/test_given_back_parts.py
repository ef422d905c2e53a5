"""Giving back where layers stand beside the weights, where histories do, and of images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.verbs.conftest import by_heart, make_clinic, write_rows

import palimpsest as pal
from palimpsest import companions
from palimpsest.demo.tiny_model import new_model
from palimpsest.models.load import load
from palimpsest.models.parts import parts_of

LAYERS = 4  # of the demo's model: layers in two places do not take it too far
MEASURING = {"metrics": ["es"]}
ROUGH = {"training": {"learning_rate": 1e-2, "max_steps": 6, "batch_size": 4}, "measuring": MEASURING}


@pytest.fixture(scope="module")
def known(tmp_path_factory) -> Path:
    """The clinic with ``learned``, and ``layers``, which layers took too far, and ``others``, which others did."""
    clinic = make_clinic(tmp_path_factory.mktemp("deep"), new_model)
    folder = by_heart(clinic, tmp_path_factory.mktemp("given") / "clinic", MEASURING)
    rows = [json.loads(line) for line in (folder / "forget.jsonl").read_text().splitlines()]
    for name, chosen in (("first", rows[:2]), ("second", rows[2:])):
        write_rows(folder / f"{name}.jsonl", chosen)
    unlearned(folder, folder / "layers", "first", fuse=True)
    unlearned(folder, folder / "others", "second", fuse=True, lambda_task=0, alpha=0)
    return folder


def unlearned(folder: Path, output: Path, rows: str, *, model: str = "learned", restore=None, **options):
    return pal.unlearn(
        folder / model,
        folder / f"{rows}.jsonl",
        retain=folder / "retain.jsonl",
        method="eul",
        output=output,
        plan={**ROUGH, "restore": restore, "options": {"noise": 0.02, "gamma": 3.0, **options}},
        answers=False,
    )


def retained(model: Path, folder: Path, metric: str = "es") -> float:
    return pal.measure(model, folder / "retain.jsonl", metrics=[metric]).scores[metric].value


@pytest.mark.parametrize(
    ("before", "after", "layers"), [("learned", "layers", LAYERS), ("layers", "others", 2 * LAYERS)]
)
def test_layers_are_scaled_and_what_is_kept_is_measured_with_them(known, tmp_path, before, after, layers):
    """The second pair has other layers at the same places: those of before fade, those of after come."""
    how = {"output": tmp_path / "c", "tau": 0.8, "metric": "prob"}
    result = pal.calibrate(known / before, known / after, known / "retain.jsonl", **how)
    alpha, points = result.calibration.alpha, dict(result.calibration.points)
    assert 0 < alpha < 1
    assert points[1] == pytest.approx(retained(known / after, known, "prob"))
    assert points[1] < 0.8 * points[0]
    found = parts_of(load(tmp_path / "c").model)
    assert len(found) == layers
    assert [part.alpha for part in found[-LAYERS:]] == pytest.approx([alpha] * LAYERS)
    assert retained(tmp_path / "c", known, "prob") == pytest.approx(points[alpha])
    assert pal.verify(tmp_path / "c").holds
    assert "companion" not in {path.name for path in (tmp_path / "c").iterdir()}
    assert any(f"The grams of {known / after} were not handed on: calibration moved" in note for note in result.notes)


def test_a_change_that_stays_whole_keeps_its_histories(known, tmp_path):
    result = pal.calibrate(known / "learned", known / "layers", known / "retain.jsonl", output=tmp_path / "c", tau=1e-9)
    assert result.calibration.alpha == 1
    assert "grams" in companions.kinds_in(tmp_path / "c")
    unlearned(known, tmp_path / "on", "second", model=str(tmp_path / "c"), fuse=True)  # what it is kept for
    assert len(parts_of(load(tmp_path / "on").model)) == 4


def test_restore_scales_the_layers_of_a_run(known, tmp_path):
    result = unlearned(known, tmp_path / "out", "first", restore=0.8, fuse=True)
    alpha = result.calibration.alpha
    assert 0 < alpha < 1
    assert [part.alpha for part in parts_of(load(tmp_path / "out").model)] == pytest.approx([alpha] * LAYERS)
    assert result.scores["after"]["retain"]["es"].value == pytest.approx(retained(tmp_path / "out", known))
    assert result.scores["after"]["retain"]["es"].value >= 0.8 * result.scores["before"]["retain"]["es"].value
    assert pal.verify(tmp_path / "out").holds
    assert any("The grams beside what was trained were not kept: giving back moved" in note for note in result.notes)


def test_where_nothing_can_stay_the_layers_go_too(known, tmp_path):
    """At the strictest share of rows that the run makes worse at once."""
    how = {"noise": 2.0, "form": "bottleneck"}
    result = unlearned(known, tmp_path / "out", "first", restore={"share": 1.0, "tolerance": 0.5}, **how)
    assert result.calibration.alpha == 0
    assert not (tmp_path / "out/parts").exists()
    assert not (tmp_path / "out/base").exists()
    start, end = (load(place).model.state_dict() for place in (known / "learned", tmp_path / "out"))
    assert all(torch.equal(start[name], end[name]) for name in start)
    assert pal.verify(tmp_path / "out").holds


def test_recorded_steps_are_of_no_use_between_two_models(known, tmp_path):
    plan = {"training": {"learning_rate": 1e-3, "max_steps": 10, "batch_size": 4}, "measuring": MEASURING}
    given = {"retain": known / "retain.jsonl", "method": "gradient_ascent", "answers": False, "restore": 0.9}
    result = pal.unlearn(
        known / "learned", known / "first.jsonl", output=tmp_path / "out", plan={**plan, "record": ["deltas"]}, **given
    )
    assert 0 < result.calibration.alpha < 1
    assert "deltas" not in companions.kinds_in(tmp_path / "out")
    assert any("The deltas beside what was trained were not kept" in note for note in result.notes)
