"""Weights between two models: by hand, and at both ends to the bit."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.averaged_weights import copies_of, fisher_average, moving_tensors, part_of_the_way

torch.manual_seed(3)
BEFORE, AFTER = torch.randn(40), torch.randn(40)
FISHERS = torch.rand(40), torch.rand(40)


def test_by_hand():
    """0.6·2·10 + 0.4·3·20 over 0.6·2 + 0.4·3."""
    found = fisher_average(torch.tensor([10.0]), torch.tensor([20.0]), (torch.tensor([2.0]), torch.tensor([3.0])), 0.4)
    assert found.item() == pytest.approx((12.0 + 24.0) / 2.4)


def test_in_loops():
    found = fisher_average(BEFORE, AFTER, FISHERS, 0.4).tolist()
    for n, (one, two, f, g) in enumerate(
        zip(BEFORE.tolist(), AFTER.tolist(), *(f.tolist() for f in FISHERS), strict=True)
    ):
        assert found[n] == pytest.approx((0.6 * f * one + 0.4 * g * two) / (0.6 * f + 0.4 * g), abs=1e-5)


def test_both_ends_are_the_models_to_the_bit():
    assert torch.equal(fisher_average(BEFORE, AFTER, FISHERS, 0.0), BEFORE)
    assert torch.equal(fisher_average(BEFORE, AFTER, FISHERS, 1.0), AFTER)
    assert torch.equal(part_of_the_way(BEFORE, AFTER, 0.0), BEFORE)
    assert torch.equal(part_of_the_way(BEFORE, AFTER, 1.0), AFTER)


def test_where_nothing_depends_on_a_number_alpha_decides():
    nothing = torch.zeros(40)
    assert torch.allclose(fisher_average(BEFORE, AFTER, (nothing, nothing), 0.4), 0.6 * BEFORE + 0.4 * AFTER, atol=1e-6)


def test_what_only_one_model_depends_on_stays_there():
    nothing = torch.zeros(40)
    assert torch.equal(fisher_average(BEFORE, AFTER, (FISHERS[0], nothing), 0.4), BEFORE)
    assert torch.equal(fisher_average(BEFORE, AFTER, (nothing, FISHERS[1]), 0.4), AFTER)


def test_running_statistics_move_with_the_weights_and_counters_do_not():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    names = {name for name, _ in moving_tensors(model)}
    assert names == {"0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    copies = copies_of(model)
    model[0].weight.data.zero_()
    assert copies["0.weight"].abs().sum() > 0
