"""Numbers of the tables, from facts worked by hand in ``finished``."""

from __future__ import annotations

import json
import sys

import pytest

from palimpsest.bench.results import NOTHING, ORACLE, RANDOM, BenchResult
from palimpsest.bench.scores import Spread
from palimpsest.bench.show.console import stopped, tables
from palimpsest.bench.show.summary import COST, GAPS, VALUES, blocks, course_of, noise, summary, table_of
from palimpsest.errors import DataError
from palimpsest.metrics import per_stream

ROW = "<er> & npo"


def test_gaps(finished):
    # Request 0: LA 10, TA 0: gap 5. Request 1: LA 10, UA 20, RA 0, TA 0, MIA 40: gap 14. Seed 1 is the oracle itself.
    row = table_of(finished, GAPS)[NOTHING]
    assert row["gap"] == pytest.approx(Spread(9.5, 9.5, 9.5, 2))
    assert row["worst"].mean == pytest.approx(14)
    assert row["gap U"].mean == pytest.approx(14)
    assert [row[name].mean for name in ("LA", "UA", "RA", "TA", "MIA")] == pytest.approx([10, 20, 0, 0, 40])
    assert table_of(finished, GAPS)[ROW]["gap"] == pytest.approx(Spread(4.75, 0, 9.5, 2))
    assert row["LES"].mean == pytest.approx(0.05)


def test_values_and_behaviour(finished):
    assert table_of(finished, VALUES)[ORACLE]["UA"] == pytest.approx(Spread(20, 20, 20, 2))
    row = table_of(finished, blocks()["behaviour"])[NOTHING]
    assert [row[name].mean for name in ("KL L", "KL U", "KL R")] == pytest.approx([0.3, 0.4, 0.4])
    assert row["ACC"].mean == row["A CLPU"].mean == pytest.approx(90)
    assert row["F CLPU"].mean == row["FM"].mean == row["BWT"].mean == 0  # one task, and it stays at 90
    assert "relapse" not in row  # nothing comes after the one request that forgets


def test_a_stream_is_its_tasks_and_forget_sets(finished):
    course = course_of(finished.rows[NOTHING][0], "accuracy")
    assert course.taught == [{"task a": {"x": 0.9}}, {"task a": {"x": 0.9}}]
    assert course.forgotten == [{}, {"forgot b": {"x": 0.4}}]
    assert course_of(finished.rows[NOTHING][0], "strength").taught == [{}, {}]  # its sets keep no ES by example


def test_a_metric_of_streams_dropped_into_its_folder_is_a_column(finished, tmp_path, monkeypatch):
    """One file: a bench computes it for every row and shows it, in the terminal too."""
    (tmp_path / "last_one.py").write_text(
        "from palimpsest.metrics.per_stream import StreamMetric, level\n\n\nclass LastOne(StreamMetric):\n"
        "    column, means, version = 'LAST', 'accuracy of the first task at the end, points', 1\n\n"
        "    def compute(self, course):\n        return 100 * level(course.last['task a'])\n\n\n"
        "STREAM_METRIC = LastOne\n"
    )
    monkeypatch.setattr(per_stream, "__path__", [*per_stream.__path__, str(tmp_path)])
    assert table_of(finished, blocks()["behaviour"])[NOTHING]["LAST"] == Spread(90.0, 90.0, 90.0, 2)
    assert summary(finished)["behaviour"][ORACLE]["LAST"]["mean"] == 100
    assert "LAST: accuracy of the first task at the end, points" in tables(finished)
    monkeypatch.delitem(sys.modules, "palimpsest.metrics.per_stream.last_one")


def test_cost_is_held_against_the_oracles_of_requests_that_forget(finished):
    row = table_of(finished, COST)[ROW]
    assert row["seconds"] == Spread(3.0, 2.0, 4.0, 2)
    assert row["time share"] == pytest.approx(Spread(0.15, 0.1, 0.2, 2))
    assert table_of(finished, COST)[RANDOM]["stopped"].mean == 2


def test_noise_is_that_of_the_oracles(finished):
    found = noise(finished)
    assert found["gap U"] == pytest.approx(Spread(4, 4, 4, 2))  # UA and MIA, two of five, 10 points off
    assert found["KL U"] == found["KL R"] == Spread(0.05, 0.05, 0.05, 2)


def test_empty_columns_are_left_out(finished):
    assert "LES" in table_of(finished, GAPS)[ROW]
    assert "LES" not in table_of(_without_strength(finished), GAPS)[ROW]


def test_the_terminal_shows_every_row_within_100_columns(finished):
    text = tables(finished)
    assert max(map(len, text.splitlines())) <= 100
    for label in finished.rows:
        assert label in text
    head, _, first = text[text.index("\ncost") + 1 :].splitlines()[:3]
    assert len(head) == len(first)  # the last number ends where its head does
    assert "stopped: random edit, seed 0, request 1: it diverged" in " ".join(text.split())
    assert len(stopped(finished)) == 4


def test_the_summary_is_the_tables_as_json(finished):
    found = json.loads(json.dumps(summary(finished)))
    assert found["gaps"][NOTHING]["gap"] == {"mean": 9.5, "low": 9.5, "high": 9.5, "n": 2}
    assert found["values"][ORACLE]["UA"]["mean"] == 20
    assert found["noise"]["KL U"]["mean"] == 0.05


def test_results_survive_the_disk(finished, tmp_path):
    finished.save_json(tmp_path / "results.json")
    assert BenchResult.load(tmp_path / "results.json") == finished
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="is not the result of a bench"):
        BenchResult.load(tmp_path / "other.json")
    with pytest.raises(DataError, match="cannot read"):
        BenchResult.load(tmp_path / "none.json")


def _without_strength(result: BenchResult) -> BenchResult:
    values = result.model_dump()
    for seeds in values["rows"].values():
        for step in (step for steps in seeds.values() for step in steps):
            for score in step["reading"]["sets"].values():
                score["strength"] = None
    return BenchResult.model_validate(values)
