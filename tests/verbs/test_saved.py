"""What was trained is in the folder: a method whose work a save or a load drops ends in an error, not in a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hypothesis import assume, given
from hypothesis import strategies as st

import palimpsest as pal
from palimpsest.cli import main
from palimpsest.data.read.examples import read_examples
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.save import TOLERANCE, answers, apart, load_saved
from palimpsest.engine.sections import Encoding
from palimpsest.errors import SavedError
from palimpsest.models.load import load
from palimpsest.report.schema import RunResult

adapter = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
FAST = {"training": {"learning_rate": 1e-2, "max_steps": 3, "batch_size": 4}}

ADDS_A_LAYER = '''"""Adds a layer to the model and trains that alone, as unlearning layers do."""

import torch
from torch import nn

from palimpsest.contract import Method, Term


class Adding(Method):
    defaults = {"learning_rate": 1e-2}

    def prepare(self, model, sets):
        model.requires_grad_(False)
        block = model.get_submodule("PLACE")
        block.added = nn.Linear(WIDTH, WIDTH, bias=False)
        nn.init.normal_(block.added.weight, std=0.1, generator=torch.Generator().manual_seed(0))
        block.register_forward_hook(lambda module, given, out: out + MIX)
        return super().prepare(model, sets)

    def loss(self, model, batches, phase):
        return {"forget": Term(batches["forget"].predict(model).logp_S.sum(), of="forget")}


METHOD = Adding
'''
ADDS_A_HOOK = ADDS_A_LAYER.replace("model.requires_grad_(False)", "pass").replace(
    "        block.added = nn.Linear(WIDTH, WIDTH, bias=False)\n"
    "        nn.init.normal_(block.added.weight, std=0.1, generator=torch.Generator().manual_seed(0))\n",
    "",
)


@pytest.fixture
def own_methods(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder of methods; forgotten afterwards."""
    folder = tmp_path / "methods"
    folder.mkdir()
    monkeypatch.setenv("PALIMPSEST_METHODS", str(folder))
    yield folder
    for name in [n for n, m in sys.modules.items() if (getattr(m, "__file__", "") or "").startswith(str(folder))]:
        del sys.modules[name]


def put_method(folder: Path, name: str, source: str, *, place: str, width: int, mix: str) -> None:
    text = source.replace("PLACE", place).replace("WIDTH", str(width)).replace("MIX", mix)
    (folder / f"{name}.py").write_text(text)


TEXT = {"place": "model.layers.1.mlp", "width": 80}


@pytest.mark.parametrize(
    ("source", "mix", "words"),
    [
        (ADDS_A_LAYER, "module.added(out)", "1 weight of its file has no place in a LlamaForCausalLM"),
        (ADDS_A_HOOK, "0.1 * out", "does not answer as the model that was trained"),
    ],
    ids=["layer", "hook"],
)
def test_a_method_whose_work_is_not_saved_ends_in_an_error(clinic, tmp_path, own_methods, capsys, source, mix, words):
    put_method(own_methods, "adding", source, **TEXT, mix=mix)
    files = ["--model", str(clinic / "model"), "--forget", str(clinic / "forget.jsonl"), "-o", str(tmp_path / "out")]
    assert main(["unlearn", *files, "--method", "adding", "--max-steps", "3"]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if words in text]
    assert not (tmp_path / "out").exists()
    assert words in (tmp_path / "out.partial" / "rejected.txt").read_text()
    assert not (tmp_path / "out.partial" / "result.json").exists()
    assert line.startswith("palimpsest: ")


def test_the_time_that_was_lost_is_told(clinic, tmp_path, own_methods):
    put_method(own_methods, "adding", ADDS_A_LAYER, **TEXT, mix="module.added(out)")
    with pytest.raises(SavedError) as error:
        pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "out", method="adding", plan=FAST)
    assert error.value.tokens > 0
    assert error.value.seconds > 0


@adapter
@pytest.mark.parametrize("merge", [True, False])
def test_what_a_merge_drops_is_seen_too(clinic, tmp_path, own_methods, merge):
    """The hook sits on a layer that merging replaces by its plain self."""
    source = ADDS_A_HOOK.replace('model.get_submodule("PLACE")', 'model.base_model.model.get_submodule("PLACE")')
    put_method(own_methods, "adding", source, place="model.layers.1.mlp.down_proj", width=80, mix="0.1 * out")
    plan = {**FAST, "scope": {"kind": "lora", "rank": 2, "merge": merge}}
    with pytest.raises(SavedError, match="does not answer as the model that was trained: on forget: 'p[0-3]'"):
        pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "out", method="adding", plan=plan)


@adapter
def test_an_adapter_on_an_adapter_keeps_both(clinic, tmp_path):
    plan = {**FAST, "scope": {"kind": "lora", "rank": 2, "merge": False}}
    request = {"method": "gradient_ascent", "plan": plan}
    pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "one", **request)
    pal.unlearn(tmp_path / "one", clinic / "retain.jsonl", output=tmp_path / "two", **request)
    config = json.loads((tmp_path / "two" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tmp_path / "one")
    after = RunResult.load(tmp_path / "two" / "result.json").scores["after"]["forget"]["prob"].value
    measured = pal.measure(tmp_path / "two", clinic / "retain.jsonl", metrics=["prob"]).scores["prob"].value
    assert measured == pytest.approx(after, rel=1e-5)


@pytest.fixture
def half_precision(monkeypatch) -> Iterator[None]:
    """The loop as it is on an accelerator: forward passes in bf16."""

    def half(**given):
        return Accelerator(**{**given, "mixed_precision": "bf16"})

    monkeypatch.setattr("palimpsest.loop.machine.Accelerator", half)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_half_precision_of_the_loop_is_no_difference(clinic, tmp_path, half_precision):
    """What is compared is the model, not the loop."""
    request = {"method": "gradient_ascent", "plan": FAST}
    result = pal.unlearn(clinic / "model", clinic / "forget.jsonl", output=tmp_path / "out", **request)
    assert result.scores["after"]["forget"]["prob"].value < result.scores["before"]["forget"]["prob"].value


def test_one_weight_that_changes_on_the_disk_is_seen(clinic, tmp_path):
    loaded = load(clinic / "model")
    sets = encode_sets({"forget": read_examples(clinic / "forget.jsonl")}, loaded, Encoding())
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    trained = answers(loaded.model, sets)
    assert list(trained) == ["forget: 'p0'", "forget: 'p1'"]
    same = load_saved(tmp_path, trained, sets, tolerance=0.0)
    assert not same.model.training
    with torch.no_grad():
        loaded.model.model.norm.weight.mul_(1.001)
    loaded.model.save_pretrained(tmp_path)
    with pytest.raises(SavedError, match=r"off by 0\.00\d+ of the largest one \(accepted: 1e-05\)"):
        load_saved(tmp_path, trained, sets, tolerance=TOLERANCE)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([4.0, 0.0], [4.0, 1.0], 0.25),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([INF, 1.0], [INF, 1.0], 0.0),
        ([NAN, 1.0], [2.0, 1.0], INF),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([INF, 1.0], [2.0, 1.0], INF),
    ],
)
def test_how_far_apart(one, other, expected):
    assert apart(torch.tensor([one]), torch.tensor([other])) == expected
    assert apart(torch.tensor([other]), torch.tensor([one])) == expected


def test_other_shapes_are_apart():
    assert apart(torch.zeros(1, 2), torch.zeros(1, 3)) == INF


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5), st.floats(1e-3, 1e3))
def test_the_share_does_not_depend_on_the_scale(values, factor):
    assume(not any(values) or max(map(abs, values)) > 1e-30)  # smaller ones are held against the smallest float32
    one = torch.tensor([values], dtype=torch.float64)
    other = one.flip(-1)
    assert apart(one * factor, other * factor) == pytest.approx(apart(one, other), rel=1e-6, abs=1e-30)
