"""Which sets a method gets at a request: purged, with the general examples where it can use them."""

from __future__ import annotations

import json

import pytest

from palimpsest.bench.define.config import make_bench
from palimpsest.bench.perform.drawn_sets import sets_for
from palimpsest.bench.perform.request_cell import RequestCell
from palimpsest.bench.whole_bench import run_bench

GENERAL = ("g0", "g1", "g2")


@pytest.fixture
def with_general(values, tmp_path):
    rows = [{"id": i, "text": f"The day {i} was short and quiet."} for i in GENERAL]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {**values, "replay": str(tmp_path / "general.jsonl"), "rows": {"ug_clu": "ug_clu"}}


@pytest.fixture
def forgetting(with_general, tmp_path) -> RequestCell:
    """The request that forgets one person of each task."""
    return RequestCell(make_bench(with_general), tmp_path, tmp_path, seed=0, number=2)


def test_general_examples_are_a_set_of_their_own_for_those_that_rehearse(forgetting):
    found = sets_for(forgetting, "ug_clu", "unlearn")
    assert found["replay"] == GENERAL
    assert found["retain"] == forgetting.situation.memory
    assert "learn" not in found


def test_general_examples_join_the_memory_of_the_others(forgetting):
    found = sets_for(forgetting, "grad_diff", "unlearn")
    assert found["retain"] == (*forgetting.situation.memory, *GENERAL)
    assert found.keys() == {"forget", "retain"}


def test_pairs_are_drawn_from_the_memory(forgetting):
    assert sets_for(forgetting, "icu", "unlearn").keys() >= {"forget", "retain"}


def test_a_method_sees_only_what_it_asks_for(forgetting):
    assert sets_for(forgetting, "gradient_ascent", "unlearn").keys() == {"forget"}


def test_a_memory_can_be_kept_from_a_method(forgetting):
    kept = forgetting.situation.memory[:1]
    assert sets_for(forgetting, "ug_clu", "unlearn", memory=kept)["retain"] == kept


@pytest.mark.slow
def test_twins_say_how_far_two_oracles_are_apart(with_general, tmp_path):
    result = run_bench(make_bench({**with_general, "twin": True, "buffer": "all"}), tmp_path / "out")
    oracle = result.rows["oracle"][0][2]
    noise = {name: score.kl for name, score in oracle.twin.sets.items()}
    assert noise.keys() == oracle.reading.sets.keys()
    assert min(noise.values()) > 1e-6
    assert result.streams[0][2].memory == result.streams[0][2].remaining == 4
    assert "Two oracles that differ in their seed alone" in (tmp_path / "out" / "report.html").read_text()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["noise"]["KL U"]["mean"] == noise["forget"]


@pytest.mark.parametrize(("twin", "forgets"), [(True, [True, False]), ("forget", [True]), (False, [])])
def test_twins_can_be_had_where_something_is_forgotten_only(with_general, twin, forgets):
    bench = make_bench({**with_general, "twin": twin})
    assert [answer for answer in (True, False) if bench.has_twin(forgets=answer)] == forgets
