"""Levels of "forgotten", which examples are above them, and the floor that ends a run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tests.verbs.conftest import clinic

from palimpsest.audit import refine
from palimpsest.audit.refine import (
    ExtractionTest,
    Levels,
    Utility,
    extraction_metrics,
    measured_levels,
)
from palimpsest.audit.refinement import Refinement
from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.read.examples import read_examples
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.plan import make_plan
from palimpsest.engine.prepare import prepare_job
from palimpsest.engine.progress import silent
from palimpsest.errors import PlanError
from palimpsest.models.load import load
from palimpsest.records import Direction, Score

__all__ = ["clinic"]

MODEL = torch.nn.Module()


def score(metric: str, values: dict[str, float | None]) -> Score:
    known = [value for value in values.values() if value is not None]
    mean = sum(known) / len(known) if known else None
    unscored = len(values) - len(known)
    return Score(metric, mean, None, None, len(known), unscored, Direction.HIGHER, "share", 1, values)


def evaluation(**values: dict[str, float | None]) -> SimpleNamespace:
    """Hand-made scores, metric key -> example id -> value."""
    return SimpleNamespace(scores={key: score(key, by_id) for key, by_id in values.items()})


def a_set(*ids: str) -> TextSet:
    return TextSet([TokenSequence(i, (1, 2, 3), (False, True, True)) for i in ids], pad_id=0)


UNSEEN = evaluation(ma={"h1": 0.2, "h2": 0.3, "h3": 0.7}, el_10={"h1": 0.0, "h2": 0.0, "h3": 0.06})
KNOWN = evaluation(ma={"f1": 0.9, "f2": 1.0}, el_10={"f1": 0.8, "f2": 1.0})


def test_levels_are_the_means_of_comparable_text():
    levels = measured_levels(Refinement(), UNSEEN, KNOWN, "holdout")
    assert (levels.ma, levels.el) == pytest.approx((0.4, 0.02))
    assert levels.source == "holdout"


def test_levels_may_be_quantiles():
    levels = measured_levels(Refinement(quantile=0.75), UNSEEN, KNOWN, "holdout")
    expected = [np.quantile([0.2, 0.3, 0.7], 0.75), np.quantile([0.0, 0.0, 0.06], 0.75)]
    assert [levels.ma, levels.el] == pytest.approx(expected)


def test_unscored_examples_have_no_part_in_a_quantile():
    comparable = evaluation(ma={"h1": None, "h2": 0.3, "h3": 0.5}, el_10={"h1": None, "h2": 0.0, "h3": 0.2})
    levels = measured_levels(Refinement(quantile=0.5), comparable, KNOWN, "holdout")
    assert (levels.ma, levels.el) == pytest.approx((0.4, 0.1))


@pytest.mark.parametrize(
    ("given", "expected"), [({"ma": 0.5}, (0.5, 0.02)), ({"el": 0.0}, (0.4, 0.0)), ({"ma": 1.0, "el": 1.0}, (1.0, 1.0))]
)
def test_explicit_levels_win(given, expected):
    levels = measured_levels(Refinement(**given), UNSEEN, KNOWN, "holdout")
    assert (levels.ma, levels.el) == pytest.approx(expected)


def test_the_level_of_el_follows_its_n():
    comparable = evaluation(ma={"h": 0.1}, el_3={"h": 0.3})
    forget = evaluation(ma={"f": 0.9}, el_3={"f": 0.9})
    assert measured_levels(Refinement(n=3), comparable, forget, "holdout").el == pytest.approx(0.3)


@pytest.mark.parametrize("level", [0.95, 0.97])
def test_comparable_text_that_is_remembered_as_well_is_refused(level):
    comparable = evaluation(ma={"h": level}, el_10={"h": 0.0})
    words = rf"MA on the retain set \({level:.2f}\) is not below the forget set's \(0.95\); give a holdout"
    with pytest.raises(PlanError, match=words):
        measured_levels(Refinement(), comparable, KNOWN, "retain")
    assert measured_levels(Refinement(ma=0.5), comparable, KNOWN, "retain").ma == 0.5


@pytest.mark.parametrize(("missing", "option"), [("ma", "refine.ma"), ("el_10", "refine.el")])
def test_comparable_text_too_short_to_be_scored_is_refused(missing, option):
    comparable = evaluation(**{"ma": {"h": 0.1}, "el_10": {"h": 0.0}, missing: {"h": None}})
    with pytest.raises(PlanError, match=f"{missing} cannot be scored on the holdout set; set {option}$"):
        measured_levels(Refinement(), comparable, KNOWN, "holdout")
    assert measured_levels(Refinement(ma=0.1, el=0.1), comparable, KNOWN, "holdout").ma == 0.1


@pytest.mark.parametrize(
    "values",
    [{"test": "rouge"}, {"ma": 1.1}, {"el": -0.1}, {"n": 0}, {"quantile": 1.0}, {"floor": 0}, {"levels": 1}],
)
def test_options_out_of_range_are_refused(values):
    (option,) = values
    with pytest.raises(ValidationError, match=option):
        Refinement(**values)


def test_the_metrics_are_those_of_the_options():
    keys = [metric.key for metric in extraction_metrics(Refinement(n=5))]
    assert keys == ["ma", "el_5"]


@pytest.fixture
def answers(monkeypatch) -> list[SimpleNamespace]:
    """What ``evaluate_in_run`` says from now on: the list's items one after the other."""
    waiting: list[SimpleNamespace] = []
    monkeypatch.setattr(refine, "evaluate_in_run", lambda *_, **__: waiting.pop(0))
    return waiting


@pytest.mark.parametrize(
    ("ma", "el", "goes_on"),
    [
        (0.5, 0.1, False),
        (0.5001, 0.0, True),
        (0.0, 0.1001, True),
        (0.9, 0.9, True),
        (0.0, 0.0, False),
        (None, None, False),
        (0.4, None, False),
        (0.6, None, True),
    ],
    ids=["at both levels", "ma above", "el above", "both above", "nothing left", "too short", "short", "short, above"],
)
def test_an_example_above_either_level_goes_on(answers, ma, el, goes_on):
    answers.append(evaluation(ma={"known": 1.0, "x": ma}, el_10={"known": 1.0, "x": el}))
    test = ExtractionTest(a_set("known", "x"), Levels(0.5, 0.1, "holdout"), Refinement(), eos_ids=frozenset())
    check = test.check(MODEL, step=3)
    assert check.active == (("known", "x") if goes_on else ("known",))
    assert check.stop is None


def test_an_example_can_pass_and_come_back(answers):
    test = ExtractionTest(a_set("a", "b"), Levels(0.5, 0.1, "holdout"), Refinement(), eos_ids=frozenset())
    for ma, active in (({"a": 0.9, "b": 0.4}, ("a",)), ({"a": 0.4, "b": 0.9}, ("b",)), ({"a": 0.4, "b": 0.4}, ())):
        answers.append(evaluation(ma=ma, el_10={"a": 0.0, "b": 0.0}))
        assert test.check(MODEL, step=0).active == active


def test_a_check_tells_the_means_and_the_utility(answers):
    utility = Utility({"retain": a_set("r"), "general": a_set("g")}, floor=None)
    test = ExtractionTest(
        a_set("a", "b"), Levels(0.5, 0.1, "holdout"), Refinement(), eos_ids=frozenset(), utility=utility
    )
    answers.append(evaluation(ma={"a": 0.2, "b": 0.4}, el_10={"a": None, "b": None}))
    answers.append(evaluation(prob={"r": 0.75}))
    answers.append(evaluation(ppl={"g": 5.0}))
    assert test.check(MODEL, step=0).scores == pytest.approx(
        {"forget.ma": 0.3, "retain.prob": 0.75, "general.ppl": 5.0}
    )
    assert answers == []


@pytest.mark.parametrize(
    ("floor", "now", "broken"),
    [(0.5, 0.41, False), (0.5, 0.40, False), (0.5, 0.39, True), (1.0, 0.79, True), (None, 0.0, False)],
)
def test_the_floor_is_a_share_of_the_start(answers, floor, now, broken):
    utility = Utility({"retain": a_set("r")}, floor)
    test = ExtractionTest(a_set("a"), Levels(0.5, 0.1, "x"), Refinement(), eos_ids=frozenset(), utility=utility)
    checks = []
    for value in (0.8, now):
        answers += [evaluation(ma={"a": 0.9}, el_10={"a": 0.9}), evaluation(prob={"r": value})]
        checks.append(test.check(MODEL, step=0))
    assert checks[0].stop is None
    expected = f"utility floor: retain answer probability {now:.2f} is below {floor or 0:g} of 0.80"
    assert checks[1].stop == (expected if broken else None)


def test_general_text_alone_breaks_no_floor(answers):
    utility = Utility({"general": a_set("g")}, floor=0.9)
    for perplexity in (5.0, 500.0):
        answers.append(evaluation(ppl={"g": perplexity}))
        assert utility.broken(utility.measure(MODEL)) is None


def test_after_a_resume_the_floor_still_refers_to_the_model_before_the_run(clinic, tmp_path):
    """A resume prepares the job anew and then puts the checkpoint's weights into the model."""
    files = {name: str(clinic / f"{name}.jsonl") for name in ("forget", "retain")}
    fields = {"kind": "unlearn", "method": "gradient_ascent", "model": str(clinic / "model"), "files": files}
    plan = make_plan(fields, {"refine": {"ma": 0.0, "el": 0.0, "floor": 0.5}})
    loaded = load(plan.model)
    sets = encode_sets({name: read_examples(path) for name, path in files.items()}, loaded, plan.encoding)
    job = prepare_job(plan, loaded, sets, tmp_path, progress=silent, trackers=[]).job
    with torch.no_grad():
        job.model.get_output_embeddings().weight.mul_(50)
    check = job.stopping.check(job.model, step=100)
    assert check.stop is not None
    assert check.stop.startswith("utility floor: retain answer probability")
