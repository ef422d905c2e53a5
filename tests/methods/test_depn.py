"""DEPN: the ranking by hand, a planted neuron is found, how many go, what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.depn import DEPN, DEPNConfig, privacy_neurons
from palimpsest.models.reference import build_reference
from palimpsest.rules.damage_budget import Damage

DOWN = "model.layers.{}.mlp.down_proj.weight"


@pytest.fixture
def sets():
    return {"forget": random_set("f", 2, 1), "retain": random_set("r", 3, 2)}


def edited(model, sets, folder, **options):
    method = DEPN(DEPNConfig(**options), build_reference(model, {"retain": sets["retain"]}, folder))
    method.prepare(model, sets)
    return method, method.edit(model, sets)


def zeroed(model):
    return [
        n * 48 + k
        for n in (0, 1)
        for k in (model.get_parameter(DOWN.format(n)).detach() == 0).all(0).nonzero()[:, 0].tolist()
    ]


def test_the_ranking_by_hand():
    """At half the largest: neuron 1 is in both rows, 0 and 2 in one each; retain has neuron 1 as well."""
    forget = torch.tensor([[1.0, 0.9, 0.0], [0.1, 1.0, 0.6]])
    assert privacy_neurons(forget, torch.tensor([[0.0, 1.0, 0.2]]), share=0.5, contrast=0.0) == [1, 0, 2]
    assert privacy_neurons(forget, torch.tensor([[0.0, 1.0, 0.2]]), share=0.5, contrast=1.0) == [0, 2]


def test_the_neuron_that_speaks_a_row_is_the_one_that_goes(tiny_llama, sets, tmp_path):
    """Its column is made to say the label token of every forget place, so loudly that nothing else counts."""
    row = sets["forget"]["f0"]
    sets["forget"] = sets["forget"].subset(["f0"])
    place = next(t for t, scored in enumerate(row.scored) if scored)
    with torch.no_grad():
        head = tiny_llama.lm_head.weight
        tiny_llama.get_parameter(DOWN.format(1))[:, 7] += 400.0 * head[row.tokens[place]]
    _, named = edited(tiny_llama, sets, tmp_path, neurons=1, contrast=0.0)
    assert named == [DOWN.format(0), DOWN.format(1)]
    assert zeroed(tiny_llama) == [48 + 7]


def test_as_many_go_as_the_damage_lets(tiny_llama, sets, tmp_path):
    before = copy.deepcopy(tiny_llama)
    budget = 1e-6
    method, _ = edited(tiny_llama, sets, tmp_path, budget=budget, steps=4, contrast=0.0)
    assert 0 < len(zeroed(tiny_llama)) == method.diagnostics(0.0)["neurons"] < method.diagnostics(0.0)["ranked"]
    assert Damage(lambda _m, batch: batch.predict(before), sets["retain"], 64)(tiny_llama) <= budget * 1.01


def test_no_steps_are_refused():
    with pytest.raises(PlanError, match=r"depn\.steps = 0: .*greater than or equal to 1"):
        methods.configure("depn", {"steps": 0})
