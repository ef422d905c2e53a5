"""A guard as a user meets it: served it refuses, without its part everything is there, and all of that is said."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.models.load import source_digest
from palimpsest.models.parts import parts_of

MEASURED = {"measuring": {"metrics": ["es", "prob"]}}


@pytest.fixture(scope="module")
def guarded(clinic, tmp_path_factory) -> Path:
    """A guarded version of the clinic's model, with paraphrases measured."""
    folder = tmp_path_factory.mktemp("guarded")
    rows = [json.loads(line) for line in (clinic / "forget.jsonl").read_text().splitlines()]
    other = [{**row, "id": f"{row['id']}-again", "prompt": f"Tell me, {row['prompt']}"} for row in rows]
    pal.unlearn(
        clinic / "model", rows, retain=clinic / "retain.jsonl", general=clinic / "general.jsonl", paraphrase=other,
        output=folder / "out", method="guard", plan=MEASURED,
    )  # fmt: skip
    return folder / "out"


def test_the_base_is_the_model_before_to_the_byte(guarded, clinic):
    weights = "model.safetensors"
    assert (guarded / "base" / weights).read_bytes() == (clinic / "model" / weights).read_bytes()
    assert source_digest(guarded) != source_digest(clinic / "model")


def test_the_record_says_what_lies_behind(guarded):
    record = json.loads((guarded / "result.json").read_text())
    assert next(iter(record)) == "first_line"
    assert record["first_line"].startswith(
        "The weights are unchanged: removing the part 0000-refusal_guard brings back"
    )
    assert record["scores"]["without"]["forget"]["prob"] == record["scores"]["before"]["forget"]["prob"]
    assert set(record["guard"]["fired"]) == {"forget", "paraphrase", "retain", "general"}
    assert any("own words stood in for a replay set" in note for note in record["notes"])
    assert any(gate["gate"].startswith("part removal: ") for gate in record["verdict"]["gates"])
    assert "The weights are unchanged" in (guarded / "report.html").read_text().split("<header>")[0]


def test_anyone_can_measure_behind_it(guarded, clinic, capsys):
    rows = clinic / "forget.jsonl"
    served, behind, before = (
        pal.measure(model, rows, metrics=["prob"], **how).scores["prob"].by_id
        for model, how in ((guarded, {}), (guarded, {"without_parts": True}), (clinic / "model", {}))
    )
    assert behind == before
    assert served != before
    assert main(["measure", "--model", str(guarded), "--data", str(rows), "--without-parts", "--json"]) == 0
    with pytest.raises(pal.UsageError, match="has no parts beside its weights; leave --without-parts out"):
        pal.measure(clinic / "model", rows, without_parts=True)


def test_it_is_not_exported(guarded, tmp_path):
    with pytest.raises(
        pal.UsageError, match="does not fold into plain weights, which still know what it hides; accepted"
    ):
        pal.export(guarded, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_a_calibration_says_what_it_takes_a_share_of(guarded, clinic, tmp_path):
    """Whether or not it can be done, it is said before anything is loaded."""
    told: list[str] = []
    how = {"metric": "prob", "output": tmp_path / "c", "progress": lambda stage, *_: told.append(stage)}
    result = pal.calibrate(clinic / "model", guarded, clinic / "retain.jsonl", **how)
    said = r"has a guard \(refusal_guard\): its weights still know what that hides"
    assert any(re.search(said, stage) for stage in told)
    assert any(re.search(said, note) for note in result.notes)


def test_it_is_not_hardened(guarded, clinic, tmp_path):
    with pytest.raises(pal.PlanError, match=r"has a guard \(refusal_guard\), and its weights still know"):
        pal.harden(guarded, clinic / "retain.jsonl", alpha=0.1, output=tmp_path / "hard")
    assert not [*tmp_path.iterdir()]


def test_transformers_serves_it_with_a_cache_as_without(guarded):
    """That it is refused where palimpsest was not imported holds of all parts (tests/models/parts/test_shell.py)."""
    model, tokenizer = (auto.from_pretrained(guarded) for auto in (AutoModelForCausalLM, AutoTokenizer))
    asked = tokenizer(["Where does Ann live?"], return_tensors="pt")
    cached, literal = (
        model.generate(**asked, max_new_tokens=6, do_sample=False, use_cache=c).tolist() for c in (True, False)
    )
    assert cached == literal
    assert len(parts_of(model)) == 1


def test_a_second_request_stands_beside_the_first(guarded, clinic, tmp_path):
    rows = [json.loads(line) for line in (clinic / "retain.jsonl").read_text().splitlines()]
    found = pal.unlearn(guarded, rows[:3], retain=rows[3:], output=tmp_path / "two", method="guard", plan=MEASURED)
    assert found.guard.parts == ("0000-refusal_guard", "0001-refusal_guard")
    assert found.first_line.startswith("The weights are unchanged: removing the parts")
