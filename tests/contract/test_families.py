"""What a family of texts must give a method: padding, cuts and order change nothing, a run does what it is for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tests.models.small_texts import labelled_rows, pair_rows, saved

from palimpsest import methods
from palimpsest.contract import Method
from palimpsest.data.read.examples import read_rows
from palimpsest.data.read.layout import Layout
from palimpsest.engine.inputs import encode_sets
from palimpsest.engine.sections import Encoding
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.step import micro_batches, take_step
from palimpsest.loop.training import Training
from palimpsest.models.load import Loaded, load
from palimpsest.models.parts import attach
from palimpsest.models.reference import build_reference
from palimpsest.models.scope import Scope, apply_scope, parameter_digests
from palimpsest.rules.rule_stack import RuleStack

KINDS = ("bert", "llama", "t5")
METHODS = ("grad_diff", "npo", "salun", "eul")
FORGETFUL = {"eul": {"noise": 0.05, "rounds": 20, "forget_epochs": 1.0, "retain_epochs": 0.5, "last_epochs": 1.0}}
KNOWN = {"learning_rate": 1e-2, "max_steps": 40, "batch_size": 16}


@pytest.fixture(scope="module", params=KINDS)
def world(request, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A model that has learned its rows, as a folder, and its sets."""
    folder = tmp_path_factory.mktemp(request.param)
    loaded = load(saved(request.param, folder / "start"))
    rows = pair_rows() if request.param == "t5" else labelled_rows()
    examples = read_rows(rows, Layout(labels=request.param != "t5")).examples
    split = {
        "forget": [e for e in examples if e.subject == "ann"],
        "retain": [e for e in examples if e.subject != "ann"],
    }
    sets = encode_sets(split, loaded, Encoding())
    learner = methods.load("finetune")(methods.configure("finetune", {}))
    everything = encode_sets({"learn": list(examples)}, loaded, Encoding())
    learner.prepare(loaded.model, everything)
    (folder / "run").mkdir()
    run(Job(learner, loaded.model, everything, Training(**KNOWN), folder / "run"))
    loaded.model.save_pretrained(folder / "known")
    loaded.tokenizer.save_pretrained(folder / "known")
    return folder / "known", sets


def built(world: tuple[Path, dict[str, Any]], name: str, folder: Path, scope: str) -> tuple[Method, Any, Loaded]:
    """Method and model as a run would have them before the first step."""
    kind, loaded = methods.load(name), load(world[0])
    torch.manual_seed(0)
    config = methods.configure(name, FORGETFUL.get(name, {}))
    parts = kind(config).parts(loaded.model, world[1], 0)
    for part in parts:
        part.is_new = True
    attach(loaded.model, parts)
    model = apply_scope(loaded.model, Scope(kind=scope) if scope != "lora" else Scope(kind="lora", rank=4))
    wanted = {s: world[1][s] for s in kind.asks_reference_on(config)}
    method = kind(config, build_reference(model, wanted, folder / "reference") if wanted else None)
    return method, method.prepare(model, world[1]), loaded


def loss_of(model: Any, examples: Any, ids: Any = None) -> float:
    with torch.no_grad():
        return -examples.batch(examples.ids if ids is None else ids).predict(model.eval()).logp_S.mean().item()


def gradients(world: Any, name: str, folder: Path, size: int | None, turned: bool) -> Iterator[torch.Tensor]:
    """Gradient of each phase over the whole sets, rows in their order or turned round."""
    folder.mkdir()
    method, model, _ = built(world, name, folder, "parts" if name == "eul" else "all")
    moving = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in moving:
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    rules = RuleStack()  # without a mask: what a mask holds is no gradient
    stages = method.stages({s: len(examples) for s, examples in world[1].items()})
    phases = dict.fromkeys(p for s in stages for p in (method.phases(0, 1) if s.phases is None else s.phases))
    optimizer = torch.optim.SGD(moving, lr=1.0)
    for phase in phases:
        drawn = {s: world[1][s].ids[:: -1 if turned else 1] for s in phase.sets}
        before = torch.cat([p.detach().flatten().clone() for p in moving])
        parts = micro_batches(world[1], drawn, phase.sets[0], size)
        take_step(Accelerator(cpu=True), method, model, optimizer, parts, phase=phase, max_grad_norm=0.0, rules=rules)
        yield before - torch.cat([p.detach().flatten() for p in moving])


@pytest.mark.parametrize("name", ["npo", "eul"])
def test_cuts_order_and_padding_change_no_step(world, tmp_path, name):
    whole = list(gradients(world, name, tmp_path / "whole", None, turned=False))
    for size, turned in ((1, False), (None, True)):
        other = list(gradients(world, name, tmp_path / f"{size}{turned}", size, turned=turned))
        for one, two in zip(whole, other, strict=True):
            assert one.norm() > 0
            assert (one - two).norm() / one.norm() < 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_what_goes_is_lost_more_than_what_stays(world, tmp_path, name):
    """A short run; EUL moves its layers alone."""
    before = load(world[0])
    method, model, loaded = built(world, name, tmp_path, "parts" if name == "eul" else "all")
    start = parameter_digests(model)
    length = {
        "max_steps": 64 if name == "eul" else 24,
        "learning_rate": 1e-2 if name == "eul" else 3e-3,
        "batch_size": 8,
    }
    rules = RuleStack(method.rules())
    rules.prepare(model, world[1], world[1])
    (tmp_path / "run").mkdir()
    run(Job(method, model, world[1], Training(**{**method.defaults, **length}), tmp_path / "run", rules=rules))
    moved = {n for n, digest in parameter_digests(model).items() if digest != start[n]}
    assert moved
    assert name != "eul" or all("palimpsest_parts" in n for n in moved)
    rise = {s: loss_of(model, world[1][s]) - loss_of(before.model, world[1][s]) for s in ("forget", "retain")}
    assert rise["forget"] > rise["retain"] + 0.02
    assert loaded.family.name in ("text_classifier", "seq2seq")


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_leaves_what_is_below_it_alone(world, tmp_path):
    method, model, _ = built(world, "npo", tmp_path, "lora")
    start = parameter_digests(model)
    (tmp_path / "run").mkdir()
    run(Job(method, model, world[1], Training(max_steps=3, batch_size=4), tmp_path / "run"))
    moved = {n for n, digest in parameter_digests(model).items() if digest != start[n]}
    assert moved
    assert all("lora_" in n for n in moved)
