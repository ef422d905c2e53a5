"""Pruned neurons: the ranking by hand, what goes is what was ranked, what is refused."""

from __future__ import annotations

import pytest
import torch
from tests.contract.test_methods import random_set

from palimpsest import methods
from palimpsest.errors import PlanError
from palimpsest.methods.prune_neurons import PruneNeurons, PruneNeuronsConfig
from palimpsest.models.mlp_weights import last_layers
from palimpsest.models.neuron_relevance import activation_times_gradient
from palimpsest.models.reference import build_reference
from palimpsest.models.relevance import leaned_on


def test_the_ranking_by_hand():
    """The top of each: 0 and 1, 0 and 2; retain leans on 0."""
    forget, retain = torch.tensor([[3.0, 2.0, 1.0], [2.0, 0.0, 1.0]]), torch.tensor([[9.0, 0.0, 0.0]])
    assert leaned_on(forget, retain, top=2, contrast=0.0) == [0, 1, 2]
    assert leaned_on(forget, retain, top=1, contrast=1.0) == []


def test_the_first_of_the_ranking_go(tiny_llama, tmp_path):
    sets = {"forget": random_set("f", 2, 1), "retain": random_set("r", 3, 2)}
    layers = last_layers(tiny_llama, "test")
    forget, retain = (activation_times_gradient(tiny_llama, layers, s, s.ids) for s in sets.values())
    expected = leaned_on(forget, retain, top=10, contrast=1.0)[:5]
    method = PruneNeurons(
        PruneNeuronsConfig(neurons=5), build_reference(tiny_llama, {"retain": sets["retain"]}, tmp_path)
    )
    method.prepare(tiny_llama, sets)
    assert method.edit(tiny_llama, sets) == [f"{layer}.weight" for layer in layers]
    silent = [(tiny_llama.get_submodule(layer).weight.detach() == 0).all(0) for layer in layers]
    assert torch.cat(silent).nonzero()[:, 0].tolist() == sorted(expected)
    assert method.diagnostics(0.0)["neurons"] == 5
    check_explained(method.explanation(), layers, expected, forget, retain)


def check_explained(why, layers, expected, forget_NK, retain_MK) -> None:
    """The list names the neurons that went, in their order, and counts whose top they are in by plain sorting."""
    width = forget_NK.shape[1] // len(layers)
    assert [layers.index(row["layer"]) * width + row["neuron"] for row in why["neurons"]] == expected
    assert [row["rank"] for row in why["neurons"]] == [1, 2, 3, 4, 5]
    for row, number in zip(why["neurons"], expected, strict=True):
        tops = [
            [number in sorted(range(len(one)), key=lambda k: -one[k])[:10] for one in rows_NK.tolist()]
            for rows_NK in (forget_NK, retain_MK)
        ]
        assert (row["samples"], row["of"], row["others"], row["of_others"]) == (sum(tops[0]), 2, sum(tops[1]), 3)
        assert row["relevance"] == pytest.approx(sum(one[number] for one in forget_NK.tolist()) / 2, rel=1e-5)
    assert why["changed"] == [f"{layer}.weight" for layer in layers]


def test_nothing_of_the_top_is_refused():
    with pytest.raises(PlanError, match=r"prune_neurons\.top = 0: .*greater than 0"):
        methods.configure("prune_neurons", {"top": 0})
