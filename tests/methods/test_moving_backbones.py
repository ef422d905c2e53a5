"""What every learner that moves backbone and head in stages must give: the same however cut, and whenever resumed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from tests.methods.small_classes import BRIEF, beside, learn, prepared, small_classifier, two_tasks

from palimpsest import methods
from palimpsest.loop.job import Job
from palimpsest.loop.run import run
from palimpsest.loop.training import Training
from palimpsest.models.scope import state_digests

LEARNERS = ("slca", "cofima", "duct", "dgr")


def options_of(name: str) -> dict[str, Any]:
    return {"samples": 8} if name in ("slca", "cofima") else {}


@pytest.fixture(scope="module", params=[("slca", "texts"), ("cofima", "images"), ("duct", "texts"), ("dgr", "images")])
def after_one(request, tmp_path_factory):
    """A model after its first task by a method, what lies beside it, and the sets of the second task."""
    name, kind = request.param
    folder, (first, second) = tmp_path_factory.mktemp(name), two_tasks(kind)
    model = learn(name, small_classifier(kind), {"learn": first}, folder / "one", **options_of(name))
    sets = {"learn": second, "replay": first} if name == "dgr" else {"learn": second}
    return name, model, beside(folder / "one"), sets


def go(after_one, folder, *, progress=None, **training: Any) -> Any:
    """The second task."""
    name, start, found, sets = after_one
    model = copy.deepcopy(start)
    method = prepared(name, model, sets, folder, found, **options_of(name))
    options = Training(**{**method.defaults, **BRIEF, "num_train_epochs": 1, "checkpoint_steps": 2, **training})
    run(Job(method, model, sets, options, folder, progress=progress))
    return model


@pytest.mark.parametrize("die_at", [2, 5, 6, 8])
def test_a_death_at_any_step_ends_with_the_same_bits(after_one, tmp_path, die_at):
    whole = state_digests(go(after_one, tmp_path / "whole"))
    steps: list[int] = []

    def die(step, planned, values):
        steps.append(step)
        if len(steps) == die_at:
            raise RuntimeError

    try:
        go(after_one, tmp_path / "cut", progress=die)
    except RuntimeError:
        assert (tmp_path / "cut" / "checkpoint.safetensors").is_file() or die_at == 2
    assert state_digests(go(after_one, tmp_path / "cut")) == whole


def test_micro_batches_change_nothing_but_the_last_bits(after_one, tmp_path):
    start = {name: p.detach() for name, p in after_one[1].named_parameters()}
    plain = {"optimizer": "sgd", "momentum": 0.0, "max_grad_norm": 1.0}
    whole, cut = (go(after_one, tmp_path / str(size), micro_batch_size=size, **plain) for size in (None, 1))
    for name, parameter in whole.named_parameters():
        way, other = parameter - start[name], cut.get_parameter(name) - start[name]
        assert (way - other).norm() <= 1e-3 * way.norm() + 1e-6, name


def test_their_cards_are_of_classes():
    for name in LEARNERS:
        card = methods.card(name)
        assert (card.approach, card.modalities, card.kinds) == ("continual", ("labels", "image"), ("learn",))
