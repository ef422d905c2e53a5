"""Doing nothing never passes: an oracle or a base that is the model, that knows the rows, or that reads other words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import palimpsest as pal
from palimpsest.engine.same_words import check_same_words
from palimpsest.errors import PlanError
from palimpsest.models.load import load
from palimpsest.records import Completion, Example

TWO = {"training": {"max_steps": 1, "learning_rate": 1e-6}}


@pytest.fixture(scope="module")
def learned(clinic, tmp_path_factory) -> Path:
    """A model of which ``learned.json`` says that it learned every row of the forget set."""
    place = tmp_path_factory.mktemp("learned") / "model"
    pal.learn(clinic / "model", clinic / "learn.jsonl", output=place, plan=TWO, answers=False)
    return place


def other_words(folder: Path, place: Path) -> Path:
    """A copy of a model in whose vocabulary two words have changed places."""
    shutil.copytree(folder, place)
    (place / "learned.json").unlink(missing_ok=True)
    file = place / "tokenizer.json"
    values = json.loads(file.read_text())
    vocabulary = values["model"]["vocab"]
    one, two = (token for token in vocabulary if token in ("A", "B"))
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    file.write_text(json.dumps(values))
    return place


def other_cuts(folder: Path, place: Path) -> Path:
    """One with the same words, which are put together otherwise."""
    shutil.copytree(folder, place)
    (place / "learned.json").unlink(missing_ok=True)
    file = place / "tokenizer.json"
    values = json.loads(file.read_text())
    values["model"]["merges"] = values["model"]["merges"][-3:]
    file.write_text(json.dumps(values))
    return place


def asked(refused, clinic: Path, learned: Path, tmp_path: Path, *more: object) -> str:
    sets = [x for name in ("forget", "retain", "holdout") for x in (f"--{name}", clinic / f"{name}.jsonl")]
    line = refused("unlearn", "--model", learned, *sets, "-o", tmp_path / "out", "--lr", "1e-6", "--max-steps", "1",
                   *more)  # fmt: skip
    assert not list(tmp_path.glob("out*"))
    return line


def test_the_model_itself_is_no_oracle(refused, clinic, learned, tmp_path):
    shutil.copytree(learned, tmp_path / "copy")
    for name in ("learned.json", "manifest.json"):
        (tmp_path / "copy" / name).unlink()
    for oracle in (learned, tmp_path / "copy", f"{learned}/../model"):
        line = asked(refused, clinic, learned, tmp_path, "--method", "npo", "--oracle", oracle)
        assert "holds the weights of --model" in line


@pytest.mark.parametrize("option", ["--oracle", "--base"])
def test_who_learned_a_row_is_none(refused, clinic, learned, tmp_path, option):
    known = json.loads((learned / "learned.json").read_text())
    shutil.copytree(clinic / "base", tmp_path / "other")
    (tmp_path / "other" / "learned.json").write_text(json.dumps(known))
    method = "npo" if option == "--oracle" else "retrain"
    line = asked(refused, clinic, learned, tmp_path, "--method", method, option, tmp_path / "other")
    assert "learned 4 of the 4 forget examples" in line


@pytest.mark.parametrize("changed", [other_words, other_cuts])
@pytest.mark.parametrize("option", ["--oracle", "--base"])
def test_who_reads_other_words_is_none(refused, clinic, learned, tmp_path, changed, option):
    other = changed(clinic / "base", tmp_path / "other")
    method = "npo" if option == "--oracle" else "retrain"
    line = asked(refused, clinic, learned, tmp_path, "--method", method, option, other)
    assert f"{option} {other} has another tokenizer than --model" in line


@pytest.mark.parametrize("option", ["--oracle", "--base"])
@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("t5", "T5ForConditionalGeneration"),
        ("vit", "ViTForImageClassification"),
        ("bert", "BertForSequenceClassification"),
    ],
)
def test_another_kind_of_model_is_none(refused, clinic, learned, tmp_path, option, model_type, name):
    """With as many outputs and the same tokenizer."""
    shutil.copytree(clinic / "base", tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    made = {"model_type": model_type, "architectures": [name], "is_encoder_decoder": model_type == "t5"}
    file.write_text(json.dumps({**json.loads(file.read_text()), **made}))
    line = asked(refused, clinic, learned, tmp_path, "--method", "npo", option, tmp_path / "other")
    assert line.endswith("is a causal LM; give one of the kind of the model")


def test_a_word_that_only_one_has_and_another_template_are_no_difference(clinic):
    mine, theirs = (load(clinic / "model").tokenizer for _ in range(2))
    theirs.add_tokens(["<unused>"])
    theirs.chat_template = "{{ messages }}"
    rows = {"forget": [Example("a", Completion("Where does Ann live?", " Ann lives at 0 Hill Road."))]}
    check_same_words(mine, theirs, rows, "--oracle x")
    check_same_words(None, None, rows, "--oracle x")
    theirs.add_tokens(["Hill"])
    with pytest.raises(PlanError, match="example 'a' is"):
        check_same_words(mine, theirs, rows, "--oracle x")
