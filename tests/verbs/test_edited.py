"""A class is cut from rows that were never learned: the record, the page, the probe that is always there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.methods.blobs import BlobNet, blob_images

import palimpsest as pal
from palimpsest.companions.learned import read_record
from palimpsest.data.read.examples import read_examples
from palimpsest.errors import DataError
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.report.edit_info import EditInfo, NeuronRow, ProbeRow, edited_lines, neuron_table, neurons_text
from palimpsest.report.page import render
from palimpsest.report.schema import RunResult

HOW = {"forget_class": 1, "method": "lra_npp", "answers": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """model/ (has learned train.npz by a run of ours) and test.npz, which it never saw."""
    folder = tmp_path_factory.mktemp("edited")
    for name, count, seed in (("train", 30, 1), ("test", 60, 2)):
        images = blob_images(count, seed)
        np.savez(folder / f"{name}.npz", x=images.images_NHWC.numpy(), y=images.label_N.numpy())
    SmallResNet(resnet_config("resnet20", 3, widths=(4, 4, 8), image_size=4)).save_pretrained(folder / "new")
    fast = {"training": {"learning_rate": 0.02, "batch_size": 15, "max_steps": 14}}
    pal.learn(folder / "new", folder / "train.npz", output=folder / "model", plan=fast)
    return folder


@pytest.fixture(scope="module")
def result(world: Path) -> RunResult:
    return pal.unlearn(world / "model", data=world / "test.npz", output=world / "out", **HOW)


def test_unseen_rows_are_enough(result: RunResult, world: Path) -> None:
    """No number is given; the rows were never learned, for which any other method is refused."""
    scores = result.scores["after"]
    assert scores["forget"]["accuracy"].value <= 0.05
    assert scores["retain"]["accuracy"].value >= result.scores["before"]["retain"]["accuracy"].value - 0.02
    assert (result.edit.set, result.edit.learned, result.edit.samples) == ("forget", 0, 20)
    with pytest.raises(DataError, match="never learned"):
        pal.unlearn(world / "model", data=world / "test.npz", forget_class=1, method="salun", output=world / "no")
    assert not (world / "no").exists()


def test_the_record_names_what_changed_and_nothing_was_learned(result: RunResult, world: Path) -> None:
    why = json.loads((world / "out" / "edit.json").read_text())
    assert [row["neuron"] for row in why["neurons"]] == [row.neuron for row in result.edit.neurons]
    assert [row.rank for row in result.edit.neurons] == list(range(1, len(result.edit.neurons) + 1))
    assert result.edit.changed == ("linear.weight",)
    assert RunResult.load(world / "out" / "result.json") == result
    record = read_record(world / "out")
    rows = read_examples(world / "test.npz")
    assert not any(map(record.has_learned, rows))
    assert sum(map(record.has_forgotten, rows)) == 20


def test_the_probe_is_always_there(result: RunResult) -> None:
    """The head alone was cut: what enters it is as it was, and so is what the probe finds."""
    assert result.edit.probe["after"] == result.edit.probe["before"]
    assert result.edit.probe["after"].recall >= 0.9
    (looked, left) = edited_lines(result)
    assert left.startswith("Disconnected, not erased: a linear probe")
    assert "none of which the model had learned" in looked
    page = render(result)
    assert left in page
    assert "Neurons that were cut" in page


def test_learned_rows_may_be_looked_at_and_the_report_says_so(world: Path) -> None:
    found = pal.unlearn(world / "model", data=world / "train.npz", **HOW)
    assert found.edit.learned == 10
    assert "10 of which the model had learned" in edited_lines(found)[0]
    both = pal.unlearn(world / "model", data=world / "train.npz", unseen=world / "test.npz", **HOW)
    assert (both.edit.set, both.edit.learned) == ("unseen", 0)
    assert both.scores["after"]["forget"]["accuracy"].value <= 0.05


def test_a_module_of_the_callers_own(world: Path) -> None:
    """A plain net that no library knows, by the path that makes its neurons."""
    facts = {"num_outputs": 3, "image_size": 4, "image_mean": (0.5,) * 3, "image_std": (0.25,) * 3}
    model = pal.Model.of(BlobNet.learned().inner, **facts)
    found = pal.unlearn(model, data=world / "test.npz", plan={"options": {"cut": "path"}}, **HOW)
    assert set(found.edit.changed) == {"inner.head.weight", "inner.hidden.weight", "inner.hidden.bias"}
    assert {row.edges for row in found.edit.neurons} == {"path"}


def row_of(rank: int) -> NeuronRow:
    return NeuronRow(rank=rank, neuron=9 - rank, about="cat", edges="head", samples=3, of=4, relevance=1.25)


def test_what_a_reader_sees_by_hand(result: RunResult) -> None:
    info = EditInfo(set="unseen", samples=4, neurons=(row_of(1), row_of(2)), probed="unseen images")
    shown = result.model_copy(update={"edit": info})
    first = ("1", "8", "cat", "head", "3 of 4", "1.25")
    assert neuron_table(shown) == (first, ("2", "7", *first[2:]))
    assert neurons_text(shown)[1].split() == ["1", "8", "cat", "head", "3", "of", "4", "1.25"]
    assert edited_lines(shown)[0] == "2 neurons cut for the class cat, found on 4 samples of the unseen set."
    gone = {"before": ProbeRow(recall=0.9, false=0.1), "after": ProbeRow(recall=0.1, false=0.1)}
    (_, line) = edited_lines(result.model_copy(update={"edit": info.model_copy(update={"probe": gone})}))
    assert line.startswith("Not to be found in the features: a linear probe on what enters the head recognises 0.10 of")
    assert edited_lines(result.model_copy(update={"edit": None})) == ()


def test_a_list_of_neurons_of_a_language_model_names_their_layers(result: RunResult) -> None:
    rows = [
        NeuronRow(rank=n, neuron=n, layer="model.layers.0.mlp.down_proj", edges="columns", samples=2, of=3, others=1,
                  of_others=9, relevance=0.5) for n in (1, 2)
    ]  # fmt: skip
    run = result.model_copy(update={"edit": EditInfo(set="forget", samples=3, neurons=tuple(rows))})
    assert edited_lines(run)[0] == "2 neurons cut, found on 3 samples of the forget set."
    _head, first, _second = neurons_text(run)
    assert first.split() == ["1", "model.layers.0.mlp.down_proj", "1", "2", "of", "3", "1", "of", "9", "0.50"]
    assert "in rows that stay" in render(run)


def test_without_rows_that_stay_the_report_says_that_nothing_was_probed(world: Path) -> None:
    rows = np.load(world / "test.npz")
    np.savez(world / "one.npz", **{name: rows[name][rows["y"] == 1] for name in rows.files})
    found = pal.unlearn(world / "model", world / "one.npz", method="lra_npp", answers=False)
    assert not found.edit.probe
    assert "Disconnected or erased?" in edited_lines(found)[1]
