"""CLPU-DER++: temporary tasks have networks of their own, so that forgetting one leaves no trace in the model."""

from __future__ import annotations

import pytest

from palimpsest.bench.define.config import make_bench
from palimpsest.bench.perform.request_cell import RequestCell
from palimpsest.bench.perform.respond import unanswered
from palimpsest.bench.results import BenchResult
from palimpsest.bench.whole_bench import run_bench
from palimpsest.errors import PlanError
from palimpsest.models.load import source_digest

ROW = "clpu_der_pp"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result(values, tmp_path_factory) -> BenchResult:
    stream = {"kind": "task-aware", "classes_per_task": 1, "sequence": "3T 0R 1T 2T 1R 2F"}
    bench = make_bench({**values, "stream": stream, "rows": {ROW: ROW}})
    return run_bench(bench, tmp_path_factory.mktemp("isolated"))


def test_the_model_never_sees_what_is_temporary(result):
    zeroth, first, second, third, fourth, last = result.rows[ROW][0]
    assert zeroth.weights == source_digest(result.bench["model"]) != first.weights
    assert first.weights == second.weights == third.weights
    assert list(third.sides) == ["3T", "1T", "2T"]
    assert fourth.weights != third.weights
    assert list(fourth.sides) == ["3T", "2T"]
    assert list(last.sides) == ["3T"]
    assert last.weights == fourth.weights


def test_forgetting_costs_nothing_and_nothing_was_stopped(result):
    steps = result.rows[ROW][0]
    assert (steps[-1].seconds, steps[-1].runs) == (0, ())
    assert all(step.stopped is None for step in steps)


def test_a_side_network_goes_with_its_task_even_where_the_rest_of_a_request_is_rejected(result, tmp_path):
    *_, before, _ = result.rows[ROW][0]
    cell = RequestCell(make_bench(result.bench), tmp_path, tmp_path, seed=0, number=5)  # forgets 2T
    assert list(before.sides) == ["3T", "2T"]
    assert list(unanswered(cell, before).sides) == ["3T"]


def test_a_side_network_answers_for_its_task_alone(result):
    *_, before, after, _, forgotten = result.rows[ROW][0]
    kept, learned = "task 0R", "task 2T"
    assert before.reading.sets[kept].nll == pytest.approx(after.reading.sets[kept].nll)
    # Its own network has learned the task; once that is gone, the model answers, which has not.
    assert after.reading.sets[learned].nll < forgotten.reading.sets["forgot 2F"].nll


def test_what_cannot_be_isolated_is_refused_before_anything_runs(values, tmp_path):
    bench = make_bench({**values, "rows": {ROW: ROW}})
    with pytest.raises(PlanError, match="some of 'learn .*' is to be forgotten, which was learned for good"):
        run_bench(bench, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_it_stands_alone(values):
    with pytest.raises(PlanError, match="joins a method that isolates to another"):
        make_bench({**values, "rows": {"x": f"{ROW}+npo"}})
