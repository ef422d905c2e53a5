"""Pruned neurons: the columns by hand, always from the start, and what is passed over."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from palimpsest.errors import PlanError
from palimpsest.models.mlp_weights import as_stored, columns_of
from palimpsest.models.scope import Scope, apply_scope
from palimpsest.rules.pruned_neurons import PrunedNeurons

FIRST, SECOND = (f"model.layers.{n}.mlp.down_proj.weight" for n in (0, 1))


def test_neurons_are_columns_counted_through_the_layers(tiny_llama):
    before = copy.deepcopy(tiny_llama)
    pruned = PrunedNeurons(tiny_llama, "test")
    pruned.put(tiny_llama, [3, 48 + 5])
    for name, column in ((FIRST, 3), (SECOND, 5)):
        expected = before.get_parameter(name).detach().clone()
        expected[:, column] = 0
        assert torch.equal(tiny_llama.get_parameter(name), expected)
    pruned.put(tiny_llama, [])
    assert all(torch.equal(a, b) for a, b in zip(tiny_llama.parameters(), before.parameters(), strict=True))


def test_a_transposed_layer_has_rows():
    layer = Conv1D(2, 3)  # 3 in, 2 out, stored (in, out)
    assert columns_of(layer, layer.weight, [1]).tolist() == [[False] * 2, [True] * 2, [False] * 2]
    assert as_stored(layer, torch.ones(2, 3)).shape == layer.weight.shape


def test_what_would_break_the_budget_is_passed_over(tiny_llama):
    """Neuron k costs its number in hundredths; 60 costs too much alone, and those behind it have their turn."""
    cost = {10: 0.1, 60: 0.6, 20: 0.2, 15: 0.15, 5: 0.05}
    pruned = PrunedNeurons(tiny_llama, "test")
    gone = []
    pruned.put = lambda _model, chosen: gone.__setitem__(slice(None), chosen)
    found = pruned.prune_within(tiny_llama, list(cost), lambda _model: sum(cost[k] for k in gone), 0.4)
    assert found == [10, 20, 5]
    assert gone == found


def test_an_adapter_and_a_scope_without_them_are_refused(tiny_llama):
    model = copy.deepcopy(tiny_llama)
    apply_scope(model, Scope(kind="layers", names=("q_proj",)))
    with pytest.raises(PlanError, match=r"test edits .* none of them may move .*accepted: scope.kind = all"):
        PrunedNeurons(model, "test")
    with pytest.raises(PlanError, match="an adapter lies on them"):
        PrunedNeurons(apply_scope(tiny_llama, Scope(kind="lora", rank=2)), "test")
