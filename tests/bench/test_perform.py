"""One run of a bench: what its folder holds when the run could not end as planned."""

from __future__ import annotations

import pytest

from palimpsest.bench.perform.one_run import perform
from palimpsest.data.read.examples import read_examples
from palimpsest.engine import train
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.plan import Plan
from palimpsest.engine.save import load_saved


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_run_whose_work_was_not_saved_leaves_no_model(town, tmp_path, monkeypatch, is_lost):
    def lose(folder, trained, sets, **how):
        return load_saved(folder, {name: values + is_lost for name, values in trained.items()}, sets, **how)

    monkeypatch.setattr(train, "load_saved", lose)
    plan = Plan(
        kind="unlearn",
        method="gradient_ascent",
        model=str(town / "model"),
        files={},
        training={"learning_rate": 1e-3, "max_steps": 1, "batch_size": 4},
    )
    examples = {"forget": read_examples(town / "test.jsonl")}
    facts = perform(plan, town / "model", lambda loaded: encode_sets(examples, loaded, plan.encoding), tmp_path / "run")
    assert (facts.stopped is not None) == is_lost
    assert (tmp_path / "run" / "model.safetensors").exists() != is_lost
    assert facts.tokens > 0
    if facts.stopped is not None:
        assert facts.stopped.startswith("SavedError: ")
    else:
        assert facts.norm > 0
