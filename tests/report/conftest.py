"""An invented run in which every part of the schema is filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from palimpsest.records import Cost, Direction, GateResult, Outcome, Score, Verdict
from palimpsest.report.curve_point import CurvePoint
from palimpsest.report.schema import (
    AnswerRow,
    CostRow,
    LevelInfo,
    RequestInfo,
    RunResult,
    SetInfo,
    VerdictRow,
    rows_of,
)

UNITS = {
    "es": "share of tokens",
    "ma": "share of tokens",
    "el_10": "share of 10-grams",
    "ppl": "equally likely tokens (exp of nats per token)",
    "prob": "probability per token",
    "accuracy": "share of images",
}

# set -> metric -> values of the columns before, after, oracle
LEVELS: dict[str, dict[str, tuple[float, float, float]]] = {
    "forget": {"es": (0.981, 0.042, 0.031), "ma": (0.993, 0.561, 0.588), "el_10": (0.952, 0.012, 0.009)},
    "retain": {"es": (0.973, 0.914, 0.992), "ma": (0.991, 0.973, 0.998)},
    "holdout": {"es": (0.034, 0.032, 0.029), "ma": (0.597, 0.571, 0.592)},
    "general": {"ppl": (5.213, 5.497, 5.304)},
}


def make_score(metric: str, values: Sequence[float | None], *, half_width: float = 0.02) -> Score:
    """A score whose interval is the mean plus and minus a half width."""
    known = [v for v in values if v is not None]
    mean = sum(known) / len(known) if known else None
    direction = Direction.LOWER if metric == "ppl" else Direction.HIGHER
    return Score(
        metric=metric,
        value=mean,
        low=None if mean is None or len(known) < 2 else mean - half_width,
        high=None
        if mean is None or len(known) < 2
        else mean + half_width
        if metric == "ppl"
        else min(1.0, mean + half_width),
        n=len(known),
        unscored=len(values) - len(known),
        direction=direction,
        unit=UNITS[metric],
        version=1,
        by_id={f"row-{i:04d}": value for i, value in enumerate(values)},
    )


def make_result(num_forget: int = 16) -> RunResult:
    """An unlearning run with an oracle, a holdout, a curve and four gates."""
    scores: dict[str, dict[str, dict[str, Score]]] = {}
    for position, column in enumerate(("before", "after", "oracle")):
        for name, metrics in LEVELS.items():
            n = num_forget if name == "forget" else 40
            for metric, levels in metrics.items():
                wobble = [levels[position] + 0.002 * ((i % 5) - 2) for i in range(n - n % 5)]
                values: list[float | None] = [*wobble, *([levels[position]] * (n % 5))]
                half_width = 0.31 if metric == "ppl" else 0.004
                score = make_score(metric, values, half_width=half_width)
                scores.setdefault(column, {}).setdefault(name, {})[metric] = score
    gates = (
        GateResult(
            "forget es within 0.10 of the oracle's",
            Outcome.PASSED,
            "forget es is 0.04 [0.02, 0.06] (n 16) after and 0.03 [0.01, 0.05] under the oracle, difference "
            "+0.01 [-0.01, +0.03] (16 pairs): passed, the whole interval is within 0.10 of the oracle's.",
        ),
        GateResult("general ppl at most 1.10 times its value before", Outcome.UNDECIDED, "ratio 1.05 [1.00, 1.11]"),
        GateResult("retain es at least 0.98 times its value before", Outcome.FAILED, "ratio 0.94 [0.92, 0.96]"),
    )
    curve = tuple(
        CurvePoint(
            step=step,
            epoch=step / 2,
            seconds=0.4 * step,
            active=active,
            values={"forget.el_10": el, "forget.ma": ma, "general.ppl": ppl},
        )
        for step, active, el, ma, ppl in (
            (0, 16, 0.952, 0.993, 5.213),
            (8, 16, 0.71, 0.94, 5.25),
            (16, 11, 0.33, 0.81, 5.31),
            (24, 6, 0.09, 0.68, 5.38),
            (32, 2, 0.03, 0.59, 5.46),
            (39, 0, 0.012, 0.561, 5.497),
        )
    )
    return RunResult(
        kind="unlearn",
        method="icu",
        plan={"method": "icu", "config": {"alpha": 0.5, "beta": 1.0}, "seed": 7, "training": {"learning_rate": 5e-6}},
        plan_digest="3f1c" * 16,
        created="2026-07-01T12:00:00+00:00",
        sets={
            "forget": SetInfo(n=num_forget, digest="ab" * 32),
            "retain": SetInfo(n=40, digest="cd" * 32),
            "holdout": SetInfo(n=40, digest="ef" * 32),
            "general": SetInfo(n=40, digest="01" * 32),
        },
        scores=rows_of(scores),  # type: ignore[arg-type]
        verdict=VerdictRow.of(
            Verdict(
                Outcome.FAILED,
                "Failed: 1 of 3 gates failed (retain es at least 0.98 times its value before).",
                gates,
            )
        ),
        curve=curve,
        stopped="all examples pass",
        cost={
            "training": CostRow.of(Cost(13.04, 124_800, 412 * 2**20)),
            "before": CostRow.of(Cost(1.213, 41_300, 301 * 2**20)),
            "after": CostRow.of(Cost(1.197, 41_300, 301 * 2**20)),
            "oracle": CostRow.of(Cost(1.224, 41_300, 301 * 2**20)),
            "oracle_training": CostRow.of(Cost(412.0, 5_120_000, 415 * 2**20)),
        },
        environment={"palimpsest": "0.1.0", "torch": "2.13.0", "python": "3.12.4", "device": "cpu, 2 threads"},
        notes=("Two rows of the retain file repeat a text of the forget file; they were left out.",),
    )


@pytest.fixture
def result() -> RunResult:
    return make_result()


def make_bare() -> RunResult:
    """A measurement of one set by one metric: no verdict, oracle, curve, cost or notes."""
    score = make_score("es", [0.5, None, 1.0])
    return RunResult(
        kind="measure",
        method="",
        plan={},
        plan_digest="00" * 32,
        created="2026-07-01T12:00:00+00:00",
        sets={},
        scores=rows_of({"after": {"forget": {"es": score}}}),
    )


@pytest.fixture
def bare() -> RunResult:
    return make_bare()


@pytest.fixture
def make_run() -> Callable[[int], RunResult]:
    """``result`` with any number of forget examples."""
    return make_result


LONG = "He was told to come back on Monday, and to bring the papers of his brother. " * 12


def make_answered() -> RunResult:
    """``result`` with a request, answers (one of them long, one empty, one hostile), advice and a plain verdict."""
    run = make_result(12)
    scores = {column: {name: dict(metrics) for name, metrics in sets.items()} for column, sets in run.scores.items()}
    for sets in scores.values():
        sets["forget"]["prob"] = sets["forget"]["ma"].model_copy(update={"unit": UNITS["prob"]})
    holds = " Ada Morris takes metformin, 500 mg twice a day."
    answers = (
        AnswerRow(
            id="row-0003",
            subject="Ada Morris",
            standing="worst",
            prompt="What medicine does Ada Morris take?",
            expected=holds,
            said={"before": holds, "after": " Ada Morris takes aspirin.", "oracle": " Ada Morris takes ibuprofen."},
        ),
        AnswerRow(
            id="ab" * 32,
            subject=None,
            standing="median",
            prompt=LONG,
            expected="two\n   lines",
            said={"before": LONG, "after": "  ", "oracle": "W" * 300},
        ),
        AnswerRow(
            id="row-0005", standing="best", prompt="<b>&amp;", expected="x", said={"before": "<i>x</i>", "after": ""}
        ),
    )
    plain = (
        "Failed: the model lost part of what had to stay (ES 0.97 before, 0.91 after; a model that never saw it scores "
        "0.99)."
    )
    return run.model_copy(
        update={
            "scores": scores,
            "answers": answers,
            "request": RequestInfo(
                subjects=("Ada Morris", "Bo Larsen"),
                data="/home/me/people.jsonl",
                asked_by="the data-protection office",
                asked_on="2026-06-30",
            ),
            "verdict": None if run.verdict is None else run.verdict.model_copy(update={"plain": plain}),
            "advice": ("Try another method (--method): what had to stay was lost; give more rows to --retain.",),
            "plan": {**run.plan, "files": {"forget": "/tmp/split/forget.jsonl", "retain": "/data/rest.jsonl"}},
        }
    )


def make_images(source: str = "holdout", level: float = 0.74) -> RunResult:
    """A class of images forgotten, with an estimated level."""
    values = {"before": (1.0, 0.98), "after": (0.7, 0.61), "level": (level, None)}
    scores: dict[str, dict[str, dict[str, Score]]] = {}
    for column, (accuracy, prob) in values.items():
        right = [1.0] * round(20 * accuracy) + [0.0] * (20 - round(20 * accuracy))
        scores[column] = {"forget": {"accuracy": make_score("accuracy", right)}}
        if prob is not None:
            row = make_score("prob", [prob + 0.001 * i for i in range(20)])
            scores[column]["forget"]["prob"] = replace(row, unit="probability of the class, per image")
    sets = {"forget": SetInfo(n=20, digest="ab" * 32), "retain": SetInfo(n=200, digest="cd" * 32)}
    return RunResult(
        kind="unlearn",
        method="salun",
        plan={"files": {"forget": "cats.npz", "retain": "rest.npz"}},
        plan_digest="3f1c" * 16,
        created="2026-07-01T12:00:00+00:00",
        sets=sets,
        scores=rows_of(scores),  # type: ignore[arg-type]
        level=LevelInfo(source=source, sentence=f"accuracy {level:.2f}", values={"accuracy": level, "nats": 0.4}),
        request=RequestInfo(classes=("cat",)),
        answers=(
            AnswerRow(
                id="row-0001",
                standing="worst",
                prompt="image of id row-0001",
                expected="cat",
                said={"before": "cat (0.98)", "after": "dog (0.51)"},
            ),
        ),
        stopped="the forget set is at the level of never seen",
        cost={"training": CostRow.of(Cost(13.04, 124_800, 412 * 2**20))},
    )


@pytest.fixture
def answered() -> RunResult:
    return make_answered()


@pytest.fixture
def images() -> RunResult:
    return make_images()


@pytest.fixture
def images_at() -> Callable[[str, float], RunResult]:
    """``images`` with a level of another source."""
    return make_images
