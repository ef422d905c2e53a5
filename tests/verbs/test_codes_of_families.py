"""Codes of a T5 and of a classifier as a user meets them: two requests without training, undone, read back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.models.small_texts import labelled_rows, pair_rows, saved

import palimpsest as pal
from palimpsest.engine import stages
from palimpsest.errors import PlanError
from palimpsest.models.load import load
from palimpsest.models.parts import parts_of

QUICK = {"training": {"learning_rate": 1e-3, "max_steps": 4, "batch_size": 8}, "measuring": {"metrics": ["prob"]}}
BOOK = {"codes": 96, "chosen": 2}
FREE = {"significance": 1.0, "min_enrichment": 0.5}


@pytest.fixture(scope="module", params=["t5", "bert"])
def coded(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    saved(request.param, folder / "start")
    rows = pair_rows() if request.param == "t5" else labelled_rows()
    for name in ("learn", "ann", "bob"):
        lines = [json.dumps(row) for row in rows if name in ("learn", row["subject"])]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    plan = {**QUICK, "options": BOOK}
    pal.learn(folder / "start", folder / "learn.jsonl", method="code_learn", output=folder / "coded", plan=plan)
    return folder


def logits(model) -> torch.Tensor:
    ids = torch.arange(5, 29).reshape(2, 12)
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **more).logits


def test_two_requests_cost_no_training_and_are_undone_to_the_bit(coded, tmp_path):
    plan = {"measuring": QUICK["measuring"], "options": FREE, "derived": {"unrelated": {"words": ["ann"]}}}
    start, first, second = coded / "coded", tmp_path / "first", tmp_path / "second"
    one = pal.unlearn(start, coded / "ann.jsonl", method="code_unlearn", output=first, plan=plan)
    plan = {"measuring": QUICK["measuring"], "options": {**FREE, "topic": "bob"}}
    two = pal.unlearn(first, coded / "bob.jsonl", method="code_unlearn", output=second, plan=plan)
    assert two.cost["training"].tokens == 0 < one.cost["training"].tokens
    (row,) = pal.parts(second)
    assert set(row.requests) == {1, 2}
    before, after = load(start).model, load(second).model
    changed = {n for n, t in after.state_dict().items() if not torch.equal(t, before.state_dict()[n])}
    assert changed == {"palimpsest_parts.0.deleted", "palimpsest_parts.0.request"}
    assert not torch.equal(logits(before), logits(after))
    pal.parts(second, undo={0: 2}, output=tmp_path / "back")
    assert torch.equal(logits(load(tmp_path / "back").model), logits(load(first).model))
    assert int(parts_of(load(tmp_path / "back").model)[0].request.max()) == 1


def test_without_a_word_of_the_topic_it_is_refused_before_anything_is_measured(coded, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "measure_sets", lambda *_, **__: pytest.fail("the model was measured first"))
    with pytest.raises(PlanError, match="no word of the rows to forget was told to be of their topic") as caught:
        pal.unlearn(coded / "coded", coded / "ann.jsonl", method="code_unlearn", output=tmp_path / "out", plan={})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
