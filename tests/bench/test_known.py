"""A bench whose model knows what it is to learn says so; one that begins with a fresh model does not."""

from __future__ import annotations

import json

import pytest
from tests.bench.conftest import reading

import palimpsest as pal
from palimpsest.bench.define.config import make_bench
from palimpsest.bench.results import ORACLE, BenchResult
from palimpsest.bench.show.already_known import known_before, knows_already
from palimpsest.bench.show.caveats import caveats
from palimpsest.bench.show.console import CONSOLE_WIDTH, tables
from palimpsest.bench.show.summary import summary
from palimpsest.bench.whole_bench import run_bench


@pytest.mark.parametrize(
    ("start", "learned", "unseen", "known"),
    [
        (0.10, 1.00, 0.10, False),  # a fresh classifier of ten classes
        (0.40, 1.00, 0.38, False),  # grammar alone
        (0.69, 1.00, 0.40, False),  # just less than half of the way
        (0.71, 1.00, 0.40, True),  # more than half of it
        (0.50, 0.55, 0.45, True),  # learning adds little
        (0.45, 0.60, 0.40, False),  # ahead by less than ten points, which few examples do by chance
        (0.90, 1.00, 0.90, True),  # easy: there is nothing to learn, by heart or not
        (0.70, 1.00, None, False),  # without test data only that learning adds nothing can be seen
        (0.90, 1.00, None, True),
    ],
)
def test_the_rule_on_both_sides(start, learned, unseen, known):
    assert knows_already(start, learned, unseen) is known


def with_start(result: BenchResult, accuracy: float) -> BenchResult:
    """The same bench from a model of this accuracy on what is learned; on test data it is right on half."""
    start = reading(accuracy, None, None, kl=0.0, mia=None)
    oracles = {
        seed: (steps[0].model_copy(update={"start": start}), *steps[1:]) for seed, steps in result.rows[ORACLE].items()
    }
    return result.model_copy(update={"rows": {**result.rows, ORACLE: oracles}})


def test_the_warning_is_on_the_screen_in_the_summary_and_on_the_page(finished):
    known = with_start(finished, 0.95)
    (warning,) = known_before(known)
    assert "right on 95 % of it, the oracle that learned it on 100 %, and on 50 % of test data" in warning
    assert caveats(known)[0] == warning
    assert summary(known)["warnings"] == [warning]
    shown = tables(known)
    assert shown.startswith("Warning: The model knew what request 0")
    assert max(map(len, shown.splitlines())) <= CONSOLE_WIDTH


def test_no_warning_for_a_model_that_did_not_know_or_was_not_read(finished):
    for result in (finished, with_start(finished, 0.55)):
        assert list(known_before(result)) == []
        assert "Warning" not in tables(result)
        assert summary(result)["warnings"] == []


@pytest.mark.slow
def test_a_bench_of_a_model_that_learned_the_data_warns_and_one_of_a_fresh_model_does_not(values, tmp_path):
    plan = {"training": {"learning_rate": 5e-3, "max_steps": 75, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}
    pal.learn(values["model"], values["data"], output=tmp_path / "model", plan=plan)
    learning = {"training": {**values["learning"]["training"], "learning_rate": 1e-2, "max_steps": 15}}
    for name, model, warned in (("fresh", values["model"], 0), ("taught", str(tmp_path / "model"), 1)):
        bench = make_bench({**values, "rows": ["er+grad_diff"], "model": model, "learning": learning})
        result = run_bench(bench, tmp_path / name)
        assert [step.start is None for step in result.rows[ORACLE][0]] == [False, True, True]
        assert len(list(known_before(result))) == warned
        assert len(json.loads((tmp_path / name / "summary.json").read_text())["warnings"]) == warned
