"""Numbers of the tables, from facts worked by hand in ``finished``."""

from __future__ import annotations

import json

import pytest

from palimpsest.bench.results import NOTHING, ORACLE, RANDOM, BenchResult
from palimpsest.bench.scores import Spread
from palimpsest.bench.show.console import stopped, tables
from palimpsest.bench.show.summary import BEHAVIOUR, COST, GAPS, VALUES, noise, summary, table_of, worst_relapse
from palimpsest.errors import DataError

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
    row = table_of(finished, BEHAVIOUR)[NOTHING]
    assert [row[name].mean for name in ("KL L", "KL U", "KL R")] == pytest.approx([0.3, 0.4, 0.4])
    assert row["A"].mean == pytest.approx(90)
    assert "relapse" not in row  # nothing comes after the one request that forgets


def test_the_worst_relapse_is_that_of_any_forget_set(finished):
    before, after = finished.rows[ORACLE][0][1], finished.rows[NOTHING][0][1]  # 20 points of forget set b, then 40
    assert worst_relapse([before, after, before]) == pytest.approx(20)
    assert worst_relapse([after, before]) == pytest.approx(-20)


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
