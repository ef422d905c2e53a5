"""Codes as a user meets them: learned once, deleted from the index, undone, and taken back by calibration."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.verbs.conftest import write_rows

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.companions.codes import Codes
from palimpsest.companions.marks import own_key
from palimpsest.engine import execute
from palimpsest.errors import PlanError, UsageError
from palimpsest.models.load import load
from palimpsest.models.mixture import mixture_of
from palimpsest.models.parts import parts_of

QUICK = {"training": {"learning_rate": 1e-3, "max_steps": 4, "batch_size": 4}, "measuring": {"metrics": ["prob"]}}
BOOK = {"codes": 96, "chosen": 2, "revive_every": 2}
EDITED = {"measuring": QUICK["measuring"]}  # an edit takes no steps
TOPIC = {"topic": "Bob", "significance": 1.0, "min_enrichment": 0.5}


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 35).reshape(2, 15)).logits


@pytest.fixture(scope="module")
def coded(clinic, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("coded") / "learned"
    result = pal.learn(
        clinic / "model", clinic / "learn.jsonl", method="code_learn", output=folder, plan={**QUICK, "options": BOOK}
    )
    assert result.plan["scope"]["kind"] == "all"
    assert result.plan["control"]["kind"] == "none"
    return folder


@pytest.fixture(scope="module")
def without(clinic, coded) -> Path:
    folder = coded.parent / "without"
    plan = {**EDITED, "options": TOPIC}
    result = pal.unlearn(coded, clinic / "forget.jsonl", method="code_unlearn", output=folder, plan=plan)
    assert result.cost["training"].tokens == 0
    return folder


def test_a_request_changes_the_mask_alone_and_purges_its_rows_from_the_index(coded, without):
    before, after = (load(place).model for place in (coded, without))
    changed = {n for n, t in after.state_dict().items() if not torch.equal(t, before.state_dict()[n])}
    assert changed == {"palimpsest_parts.0.deleted", "palimpsest_parts.0.request"}
    assert not torch.equal(logits(before), logits(after))
    old, new = (Codes.open(place / "companion" / "codes", own_key()) for place in (coded, without))
    assert old.holds(["p0", "p5"]) == {"p0", "p5"}
    assert new.holds(["p0", "p5"]) == {"p5"}


def test_what_a_request_did_is_listed_and_undone_to_the_bit(coded, without, tmp_path):
    (row,) = pal.parts(without)
    assert row.requests == {1: int(parts_of(load(without).model)[0].deleted.sum())}
    pal.parts(without, undo={0: 1}, output=tmp_path / "back")
    assert pal.parts(tmp_path / "back")[0].requests == {}
    assert torch.equal(logits(load(tmp_path / "back").model), logits(load(coded).model))
    with pytest.raises(UsageError, match="request 2 deleted no codes; accepted: 1"):
        pal.parts(without, undo={0: 2}, output=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_index_goes_along_with_an_undone_request_so_that_the_next_one_needs_no_row(clinic, without, tmp_path):
    pal.parts(without, undo={0: 1}, output=tmp_path / "back")
    index = Codes.open(tmp_path / "back" / "companion" / "codes", own_key())
    assert index.holds(["p0", "p5"]) == {"p5"}  # what was forgotten is not written down again
    assert pal.verify(tmp_path / "back").holds
    plan = {**EDITED, "options": {**TOPIC, "topic": "Eve"}}
    rows = [json.loads(line) for line in (clinic / "learn.jsonl").read_text().splitlines()]
    eve = write_rows(tmp_path / "eve.jsonl", [row for row in rows if row["subject"] == "Eve"])
    pal.unlearn(tmp_path / "back", eve, method="code_unlearn", output=tmp_path / "next", plan=plan)
    assert pal.parts(tmp_path / "next")[0].requests.keys() == {1}


def test_an_index_of_other_weights_or_one_that_cannot_be_read_is_left_with_a_note(without, tmp_path, capsys):
    place = str(without)
    assert main(["parts", place, "--alpha", "0=0.5", "--output", str(tmp_path / "half")]) == 0
    assert f"note: The codes of {place} were not handed on: palimpsest parts moved" in capsys.readouterr().err
    torn = tmp_path / "torn"
    shutil.copytree(without, torn)
    (torn / "companion" / "codes" / "codes.safetensors").write_bytes(b"torn")
    assert main(["parts", str(torn), "--undo", "0=1", "--output", str(tmp_path / "back")]) == 0
    said = capsys.readouterr().err
    assert f"note: The histories beside {torn} were not handed on: " in said
    assert said.count("\n") == 1
    assert not (tmp_path / "half" / "companion").exists()
    assert not (tmp_path / "back" / "companion").exists()


def test_between_both_models_deleted_codes_contribute_a_part(coded, without, tmp_path):
    mixture = mixture_of(coded, without, tmp_path / "mixing")
    (book,) = parts_of(mixture.before.model)
    which = parts_of(load(without).model)[0].deleted > 0
    with mixture.at(0.25) as model:
        assert book.deleted[which].tolist() == [0.25] * int(which.sum())
        assert not book.deleted[~which].any()
        between = logits(model)
    with mixture.at(1.0) as model:
        assert torch.equal(logits(model), logits(load(without).model))
    assert not torch.equal(between, logits(mixture.before.model))
    assert torch.equal(logits(mixture.before.model), logits(load(coded).model))


def test_a_model_without_a_codebook_is_refused_before_it_is_loaded(clinic, tmp_path):
    with pytest.raises(PlanError, match=r"works on a codebook, and model .* has none.*--method code_learn"):
        pal.unlearn(clinic / "model", clinic / "forget.jsonl", method="code_unlearn", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_topic_is_refused_before_anything_is_measured_or_written(clinic, coded, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "measure_column", lambda *_: pytest.fail("the model was measured first"))
    plan = {**EDITED, "options": {**TOPIC, "topic": "Zoe"}}
    with pytest.raises(PlanError, match=r"topic = 'Zoe': no row in the index is of it.*such as Ann, Bob, Cid, Dot"):
        pal.unlearn(coded, clinic / "forget.jsonl", method="code_unlearn", output=tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()
