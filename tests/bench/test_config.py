"""What a bench refuses, what runs on which request, and whose training options win."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from palimpsest.bench.define.bench_rows import BenchRow
from palimpsest.bench.define.config import make_bench
from palimpsest.bench.results import NOTHING, RANDOM
from palimpsest.cli.stream_listing import stream_tables
from palimpsest.data.streams import scenarios
from palimpsest.engine.plan import read_mapping
from palimpsest.errors import PlanError

BOTH = {"learns": True, "forgets": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": {"er": "er"}}, "row 'er' has no method that can unlearn"),
        ({"rows": {"npo": "npo"}}, "row 'npo' has no method that can learn; accepted: a chain like er[+]npo"),
        ({"rows": {"x": "er+npoo"}}, "unknown method of row 'x' 'npoo'; did you mean 'npo'"),
        ({"rows": {"x": "er+npo+icu"}}, "a chain of 3; accepted: one method, or two"),
        ({"rows": {"oracle": "er+npo"}}, "row 'oracle' is always there"),
        ({"rows": {}}, "no methods; accepted: at least one"),
        ({"rows": {"x": {"chain": "er+npo", "methods": {"icu": {}}}}}, "unknown method with sections in row 'x' 'icu'"),
        ({"rows": {"x": "npo+er"}}, r"row 'x' unlearns before it learns; accepted: er[+]npo"),
        ({"data": ["a.npz", "b.npz", "a.npz"]}, "data: .*'a.npz' comes twice; accepted: each file once"),
        ({"seeds": [1, 1]}, "seeds.*each once"),
        ({"buffer": 0}, "a replay buffer of 0 examples; accepted: 1 or more"),
        ({"buffer": "few"}, "a replay buffer of few examples; accepted: 1 or more, or 'all'$"),
        ({"bufer": 3}, "unknown option of a bench 'bufer'; did you mean 'buffer'"),
        ({"learning": {"trainig": {}}}, "unknown section of learning 'trainig'; did you mean 'training'"),
        ({"learning": {"training": {"learning_rat": 1}}}, "unknown option of training 'learning_rat'"),
        ({"methods": {"npo": {"options": {"bet": 1}}}, "rows": {"x": "er+npo"}}, "unknown option of npo 'bet'"),
        ({"stream": {"share": 2}}, "stream.share"),
        ({"twin": "learn"}, "twin: Input should be True, False or 'forget'"),
        ({"methods": {"npoo": {"options": {}}}}, "unknown method with sections 'npoo'; did you mean 'npo'"),
    ],
)
def test_wrong_values_are_refused_in_one_sentence(values, change, message):
    with pytest.raises(PlanError, match=message):
        make_bench({**values, **change})


@pytest.mark.parametrize("missing", ["model", "data", "rows"])
def test_what_is_missing_is_named_with_its_option(values, missing):
    option = {"rows": "methods"}.get(missing, missing)
    with pytest.raises(PlanError, match=f"the bench has no {missing}; give --{option}"):
        make_bench({name: value for name, value in values.items() if name != missing})


def test_a_row_can_have_rules_of_its_own_and_those_of_its_method_without_any(values):
    ema, partial = {"kind": "ema"}, {"kind": "partial", "keep": 0.2}
    rows = {"one": {"chain": "er+npo"}, "two": {"chain": "er+npo", "methods": {"npo": {"rules": [partial]}}}}
    bench = make_bench({**values, "rows": rows, "methods": {"npo": {"rules": [ema]}}})
    kinds = [[r["kind"] for r in bench.plan("unlearn", "npo", seed=0, row=bench.rows[n]).rules] for n in rows]
    assert kinds == [["ema"], ["partial"]]
    with pytest.raises(PlanError, match="unknown option of partial 'kep'"):
        make_bench({**values, "rows": rows, "methods": {"npo": {"rules": [{"kind": "partial", "kep": 1}]}}})


def test_a_chain_forgets_before_it_learns():
    row = BenchRow(chain="er+npo")
    assert row.parts(**BOTH) == (("unlearn", "npo"), ("learn", "er"))
    assert row.parts(learns=True, forgets=False) == (("learn", "er"),)
    assert row.parts(learns=False, forgets=True) == (("unlearn", "npo"),)


def test_one_method_for_both_does_it_in_one_run():
    assert BenchRow(chain="ug_clu").parts(**BOTH) == (("update", "ug_clu"),)


def test_the_controls_learn_like_the_first_row(values):
    rows = make_bench({**values, "rows": {"x": "ug_clu", "y": "er+npo"}}).all_rows
    assert list(rows) == ["x", "y", NOTHING, RANDOM]
    assert rows[NOTHING].parts(**BOTH) == (("learn", "ug_clu"),)
    assert rows[NOTHING].parts(learns=False, forgets=True) == ()
    assert rows[RANDOM].parts(**BOTH) == (("unlearn", "random_edit"), ("learn", "ug_clu"))


def test_the_random_edit_is_as_long_as_that_of_the_first_row_that_moves_weights(values):
    """A head of means forgets by counting: no weight moves, and there is no size to give to noise."""
    rows = {name: BenchRow(chain=chain) for name, chain in (("a", "simple_cil"), ("b", "er+scrub"), ("c", "lwf+npo"))}
    bench = make_bench(values).model_copy(update={"rows": rows})
    assert bench.equalled == "b"
    assert bench.all_rows[RANDOM].chain == "er+random_edit"
    assert bench.all_rows[NOTHING].chain == "simple_cil"
    assert bench.model_copy(update={"rows": {"x": BenchRow(chain="fecam")}}).equalled == "x"


def test_the_nearest_options_win(values):
    own = {"npo": {"training": {"batch_size": 2}}}
    bench = make_bench(
        {
            **values,
            "unlearning": {"training": {"learning_rate": 0.5, "batch_size": 5}},
            "methods": {"npo": {"training": {"batch_size": 3}, "options": {"beta": 0.7}}},
            "rows": {"plain": "er+npo", "own": {"chain": "er+npo", "methods": own}},
        }
    )
    plain, mine = (bench.plan("unlearn", "npo", 9, row=bench.rows[name]) for name in ("plain", "own"))
    assert (plain.training.batch_size, mine.training.batch_size) == (3, 2)
    assert mine.training.learning_rate == 0.5
    assert mine.options["beta"] == 0.7
    assert mine.training.seed == 9


def test_the_oracle_is_trained_by_the_recipe_of_learning(values):
    bench = make_bench({**values, "oracle": {"training": {"max_steps": 77}}})
    plan = bench.plan("unlearn", "retrain", 0)
    assert plan.training.max_steps == 77
    assert plan.training.learning_rate == values["learning"]["training"]["learning_rate"]


def test_the_bench_of_the_docs_is_one(values, tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    (tmp_path / "bench.yaml").write_text(text.split("```yaml\n")[1].split("```")[0])
    bench = make_bench({**read_mapping(tmp_path / "bench.yaml", "bench", "options"), "model": values["model"]})
    assert bench.rows["UG-CLU, sparser"].methods["ug_clu"]["options"] == {"gamma": 2.0}
    assert bench.stream.after == (2, 4)


def test_the_tables_of_the_docs_are_what_the_scenarios_say():
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text()
    assert f"\n\n{stream_tables()}\n\n" in text, "put in their place what palimpsest bench streams --markdown prints"
    for name in scenarios.names():
        for option in scenarios.load(name).Config.model_fields:
            assert f"| `stream.{option}` | `{name}` |" in text


@pytest.mark.parametrize("rows", ["er+npo, ug_clu", ["er+npo", "ug_clu"], {"er+npo": "er+npo", "ug_clu": "ug_clu"}])
def test_short_forms(values, rows):
    bench = make_bench({**values, "rows": rows, "stream": "random", "seeds": 3})
    assert {label: row.chain for label, row in bench.rows.items()} == {"er+npo": "er+npo", "ug_clu": "ug_clu"}
    assert (bench.stream.kind, bench.seeds) == ("random", (3,))


def test_a_bench_file_may_be_yaml_or_json(tmp_path):
    (tmp_path / "a.yaml").write_text("buffer: 3\n")
    (tmp_path / "a.json").write_text(json.dumps({"buffer": 3}))
    assert (
        read_mapping(tmp_path / "a.yaml", "bench", "options")
        == read_mapping(tmp_path / "a.json", "bench", "options")
        == {"buffer": 3}
    )
    (tmp_path / "b.yaml").write_text("- 3\n")
    with pytest.raises(PlanError, match="holds a list; accepted: a mapping"):
        read_mapping(tmp_path / "b.yaml", "bench", "options")
    with pytest.raises(PlanError, match="No such file"):
        read_mapping(tmp_path / "c.yaml", "bench", "options")
