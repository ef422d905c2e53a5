"""In place: the caller's module has the new weights when a run ended well, and is as it was when it did not."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import palimpsest as pal
from palimpsest.errors import DivergedError, PlanError
from palimpsest.verbs.in_memory import Model
from palimpsest.verbs.in_place import laid_into

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}


def in_memory(folder):
    return pal.Model.of(AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))


def learn(clinic, model, **how):
    return pal.learn(model, clinic / "learn.jsonl", **{"plan": FAST, **how})


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_the_module_gets_what_the_copy_would_have_got(clinic):
    """And keeps its identity, its modes and what may move."""
    model = in_memory(clinic / "model")
    copied = learn(clinic, model)
    model.module.train()
    frozen = model.module.model.layers[0].mlp.up_proj.weight
    frozen.requires_grad_(False)
    places = {name: tensor.data_ptr() for name, tensor in model.module.state_dict().items()}
    run = learn(clinic, model, in_place=True)
    assert run.model.module is model.module
    assert same(copies(model.module), copies(copied.model.module))
    assert {name: tensor.data_ptr() for name, tensor in model.module.state_dict().items()} == places
    assert all(layer.training for layer in model.module.modules())
    assert [name for name, p in model.module.named_parameters() if not p.requires_grad] == [
        "model.layers.0.mlp.up_proj.weight"
    ]


@pytest.mark.slow
def test_with_an_output_both_have_it(clinic, tmp_path):
    model = in_memory(clinic / "model")
    learn(clinic, model, in_place=True, output=tmp_path / "out")
    assert same(copies(model.module), copies(AutoModelForCausalLM.from_pretrained(tmp_path / "out")))


@pytest.mark.parametrize("options", [{"form": "bottleneck"}, {"fuse": True}, {"sequence": "one"}])
def test_what_would_leave_parts_is_refused_before_any_work(clinic, monkeypatch, options):
    monkeypatch.setattr("palimpsest.verbs.change.given_by", lambda *_: pytest.fail("the request was looked at"))
    how = {"retain": clinic / "retain.jsonl", "method": "eul", "in_place": True, "plan": {"options": options}}
    with pytest.raises(PlanError, match="in_place: a run of 'eul' with these options leaves parts beside the weights"):
        pal.unlearn(in_memory(clinic / "model"), clinic / "forget.jsonl", **how)


def test_layers_that_fold_can_be_laid_into_the_module(clinic):
    model = in_memory(clinic / "model")
    before = copies(model.module)
    how = {"retain": clinic / "retain.jsonl", "method": "eul", "in_place": True, "plan": FAST}
    run = pal.unlearn(model, clinic / "forget.jsonl", **how)
    assert run.model.module is model.module
    assert not same(before, copies(model.module))


@pytest.mark.parametrize("rate", [1e30, -1.0], ids=["diverges", "refused"])
def test_a_run_that_does_not_end_well_changes_nothing(clinic, rate):
    model = in_memory(clinic / "model")
    before = copies(model.module)
    plan = {**FAST, "training": {**FAST["training"], "learning_rate": rate, "max_steps": 8}}
    with pytest.raises((DivergedError, PlanError)):
        learn(clinic, model, in_place=True, plan=plan)
    assert same(copies(model.module), before)


def test_ctrl_c_between_two_tensors_changes_nothing(monkeypatch):
    own, new = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = copies(own)
    state = dict(new.state_dict())

    class Stops(dict):
        def __getitem__(self, name):
            if name == "1.weight":
                raise KeyboardInterrupt
            return super().__getitem__(name)

    monkeypatch.setattr(new, "state_dict", lambda: Stops({name: t for name, t in state.items()}))
    monkeypatch.setattr("palimpsest.verbs.in_place._unlike", lambda *_: [])
    with pytest.raises(KeyboardInterrupt):
        laid_into(Model(own), Model(new))
    assert same(copies(own), before)


def test_weights_of_another_make_are_refused():
    own = nn.Linear(2, 2)
    before = copies(own)
    with pytest.raises(PlanError, match=r"in_place: weight is not in both the Linear and what the run made of it"):
        laid_into(Model(own), Model(nn.Linear(2, 3)))
    assert same(copies(own), before)


def test_a_folder_has_no_place(clinic):
    with pytest.raises(PlanError, match="in_place is for a model in memory, and the model is a folder"):
        learn(clinic, clinic / "model", in_place=True)


def test_what_would_be_rounded_is_refused(clinic):
    model = in_memory(clinic / "model")
    model.module.bfloat16()
    with pytest.raises(PlanError, match=r"is bfloat16, and what a run makes and measures is float32"):
        learn(clinic, model, in_place=True)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks, transformers warns
def test_an_adapter_on_a_base_is_refused(clinic):
    from peft import LoraConfig, get_peft_model

    model = in_memory(clinic / "model")
    adapted = get_peft_model(model.module, LoraConfig(target_modules="all-linear"))
    with pytest.raises(PlanError, match=r"in_place: the Peft\w+ is an adapter on a base"):
        learn(clinic, pal.Model.of(adapted, model.tokenizer), in_place=True)


def test_a_module_frozen_everywhere_is_refused(clinic):
    model = in_memory(clinic / "model")
    model.module.requires_grad_(False)
    with pytest.raises(PlanError, match=r"every parameter of the LlamaForCausalLM is frozen .*requires_grad_\(True\)"):
        learn(clinic, model)
    assert pal.measure(model, clinic / "learn.jsonl", metrics=["ma"]).scores["ma"].value is not None


def test_frozen_weights_that_will_move_are_said(clinic):
    model = in_memory(clinic / "model")
    model.module.model.embed_tokens.requires_grad_(False)
    told = []
    learn(clinic, model, progress=lambda stage, *_: told.append(stage))
    assert [line for line in told if line.startswith("note: 1 parameters of the module are frozen")]


def test_an_adapter_alone_would_have_no_base(clinic):
    with pytest.raises(PlanError, match=r"scope\.merge = false saves an adapter without its base"):
        learn(clinic, in_memory(clinic / "model"), plan={**FAST, "scope": {"kind": "lora", "merge": False}})
