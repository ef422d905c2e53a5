"""Relevance by hand and by its conservation; rankings against loops; what does not depend on torch's sort."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.relevance import (
    above_share,
    epsilon_rule,
    gamma_weights,
    head_relevance,
    logit_relevance,
    ranked_by_count,
    top_of_each,
)


def test_the_epsilon_rule_is_the_double_sum_of_its_equation():
    generator = torch.Generator().manual_seed(0)
    a, w, b, R = (torch.randn(*shape, generator=generator) for shape in ((2, 3), (4, 3), (4,), (2, 4)))
    found = epsilon_rule(a, w, b, R, epsilon=0.1)
    for n in range(2):
        for i in range(3):
            total = 0.0
            for j in range(4):
                z = sum(a[n, k].item() * w[j, k].item() for k in range(3)) + b[j].item()
                total += w[j, i].item() * R[n, j].item() / (z + 0.1 * (1 if z >= 0 else -1))
            assert found[n, i].item() == pytest.approx(a[n, i].item() * total, rel=1e-4, abs=1e-5)


def test_without_bias_and_epsilon_nothing_is_lost():
    a, w, R = torch.rand(2, 3) + 0.1, torch.rand(4, 3) + 0.1, torch.randn(2, 4)
    assert torch.allclose(epsilon_rule(a, w, None, R, epsilon=0.0).sum(1), R.sum(1), atol=1e-4)


def test_at_the_head_the_rule_is_activation_times_weight():
    """From one logit alone, R_j = z_j: up to z / (z + eps) the two are one."""
    a, w, c = torch.rand(2, 3) + 0.1, torch.rand(4, 3) + 0.1, torch.tensor([2, 0])
    z = a @ w.T
    start = torch.zeros(2, 4).scatter(1, c[:, None], z.gather(1, c[:, None]))
    full, short = epsilon_rule(a, w, None, start), head_relevance(a, w, c)
    assert torch.allclose(torch.cosine_similarity(full, short), torch.ones(2), atol=1e-6)


def test_a_ranking_counts_examples_and_takes_off_what_others_choose():
    """Neuron 0 is chosen by all and by retain, 2 by two of three, 1 by one; 3 never: by loops."""
    chosen = torch.tensor([[1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0]]).bool()
    against = torch.tensor([[1, 0, 0, 1], [1, 0, 0, 0]]).bool()
    relevance = chosen.float()
    assert ranked_by_count(chosen, relevance) == [0, 2, 1]
    assert ranked_by_count(chosen, relevance, against, contrast=1.0) == [2, 1]
    assert ranked_by_count(chosen, relevance, against, contrast=0.5) == [2, 0, 1]


def test_of_equals_the_more_relevant_then_the_first():
    chosen = torch.ones(1, 3, dtype=torch.bool)
    assert ranked_by_count(chosen, torch.tensor([[0.1, 0.5, 0.1]])) == [1, 0, 2]


def test_the_top_is_signed_and_no_larger_than_there_are():
    relevance = torch.tensor([[-5.0, 1.0, 1.0]])
    assert top_of_each(relevance, 1).tolist() == [[False, True, False]]
    assert top_of_each(relevance, 9).all()
    assert not above_share(torch.tensor([[-1.0, 0.0]]), 0.1).any()


@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_relevance_of_a_logit_is_that_of_plain_loops(gamma):
    """Layer-wise relevance at the head's input, as captum's LayerLRP has it: all of it on one logit, then one layer.

    captum is not installed here; the loops follow the rule as it is written.
    """
    torch.manual_seed(3)
    a, weight, bias, chosen = torch.randn(7, 6), torch.randn(4, 6), torch.randn(4), torch.randint(4, (7,))
    ours = logit_relevance(a, weight[chosen], bias[chosen], epsilon=0.1, gamma=gamma)
    for n in range(7):
        relevance = [0.0] * 4
        c = int(chosen[n])
        relevance[c] = float(sum(a[n, i] * weight[c, i] for i in range(6)) + bias[c])
        expected = []
        for i in range(6):
            total = 0.0
            for j in range(4):
                w = [float(v + gamma * max(v, 0.0)) for v in weight[j].tolist()]
                z = sum(float(a[n, k]) * w[k] for k in range(6)) + float(bias[j] + gamma * max(float(bias[j]), 0.0))
                total += w[i] * relevance[j] / (z + 0.1 * (-1 if z < 0 else 1))
            expected.append(float(a[n, i]) * total)
        cosine = torch.nn.functional.cosine_similarity(ours[n].double(), torch.tensor(expected).double(), dim=0)
        assert cosine >= 0.9999
        assert torch.allclose(ours[n].double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-5)


def test_it_is_the_epsilon_rule_with_all_of_it_on_one_logit():
    torch.manual_seed(4)
    a, weight, bias, chosen = torch.rand(5, 6), torch.randn(4, 6), torch.randn(4), torch.randint(4, (5,))
    z = a @ weight.T + bias
    start = torch.zeros_like(z).scatter(1, chosen[:, None], z.gather(1, chosen[:, None]))
    whole = epsilon_rule(a, weight, bias, start)
    assert torch.allclose(logit_relevance(a, weight[chosen], bias[chosen]), whole, atol=1e-5)
    plain = head_relevance(a, weight, chosen)
    assert torch.nn.functional.cosine_similarity(whole, plain).abs().min() > 0.99999


def test_the_gamma_rule_leans_to_what_speaks_for_a_class():
    assert gamma_weights(torch.tensor([2.0, -2.0]), 0.1).tolist() == pytest.approx([2.2, -2.0])
