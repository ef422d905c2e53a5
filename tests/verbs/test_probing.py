"""A probe of the classes of one set: the numbers of a run's record, a plain hook, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tests.verbs.test_edited import HOW, world  # noqa: F401 # a fixture

import palimpsest as pal
from palimpsest.audit.linear_probe import probe
from palimpsest.cli import main
from palimpsest.data.draws import shuffled
from palimpsest.data.read.examples import read_examples
from palimpsest.engine import measured_set
from palimpsest.engine.inputs import encode_set
from palimpsest.engine.sections import Encoding
from palimpsest.errors import PlanError
from palimpsest.models.load import load


def test_a_set_is_probed_as_a_run_probes_it(world, tmp_path):  # noqa: F811
    """The class that goes, and all that stays, are the rows of the set: same draw, same halves, same numbers."""
    result = pal.unlearn(world / "model", data=world / "test.npz", output=tmp_path / "out", **HOW)
    for column, model in (("before", world / "model"), ("after", tmp_path / "out")):
        found = pal.measure(model, world / "test.npz", probe=True).probe["1"]
        assert (found.recall, found.false) == tuple(result.edit.probe[column].model_dump().values())
        assert (found.rows, found.others) == (20, 40)


def test_features_are_those_of_a_plain_hook(world):  # noqa: F811
    loaded = load(world / "model")
    model, images = loaded.model, encode_set(read_examples(world / "test.npz"), loaded, Encoding())
    seen = []
    with model.linear.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0])), torch.no_grad():
        images.batch(images.ids).predict(model)
    (features_ND,), label_N = seen, images.label_N
    found = pal.measure(world / "model", world / "test.npz", probe=True)
    assert list(found.probe) == ["0", "1", "2"]
    ids = list(found.scores["accuracy"].by_id)
    for label in range(3):
        sides = [[i for n, i in enumerate(ids) if (label_N[n] == label) == own] for own in (True, False)]
        rows = [[ids.index(i) for i in shuffled(side, 0, "probe", 0)] for side in sides]
        own, others = (features_ND[places].numpy() for places in rows)
        by_hand = probe(own, others, *(np.arange(len(side)) % 2 for side in sides))
        assert found.probe[str(label)][:2] == by_hand


def test_the_command_says_it_and_too_few_rows_say_nothing(world, tmp_path, capsys):  # noqa: F811
    with np.load(world / "test.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    kept = np.concatenate([np.flatnonzero(y == 0)[:1], np.flatnonzero(y == 2)])
    np.savez(tmp_path / "few.npz", x=x[kept], y=y[kept])
    command = ["measure", "--model", str(world / "model"), "--data", str(tmp_path / "few.npz"), "--probe"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "probe 0          –  –  n=1 and 20 others; too few rows: two of the class and two others are needed" in said
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["probe"]
    assert found["2"] == {"recall": None, "false": None, "rows": 20, "others": 1}


def test_without_classes_there_is_nothing_to_look_for(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr(measured_set, "read_rows", lambda *_, **__: pytest.fail("rows were read first"))
    with pytest.raises(PlanError, match="is a causal LM: a probe looks for classes .*; leave --probe out"):
        pal.measure(clinic / "model", tmp_path / "no.jsonl", probe=True)
