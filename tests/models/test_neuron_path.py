"""Down a ranking until a class is gone: each step against logits computed anew, and what is passed over."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.neuron_path import ClassStanding, LinearHead, ranked_for, ranked_rows, until_gone


def drawn(seed: int) -> tuple[LinearHead, torch.Tensor, torch.Tensor]:
    """A head of 5 classes over 8 neurons, and 6 examples."""
    torch.manual_seed(seed)
    return LinearHead(torch.randn(5, 8), torch.randn(5)), torch.rand(6, 8), torch.randint(5, (6,))


@pytest.mark.parametrize("everywhere", [False, True])
def test_it_stands_as_the_changed_head_says(everywhere):
    head, a, target = drawn(0)
    standing = ClassStanding.of(a, target, head, 2, everywhere=everywhere)
    weight = head.weight_CK.clone()
    for neuron in (3, 0, 7):
        standing = standing.without(neuron)
        weight[slice(None) if everywhere else 2, neuron] = 0
        z = a @ weight.T + head.bias_C
        others = z[:, [0, 1, 3, 4]]
        called = [int(row.argmax()) for row in z]
        assert torch.allclose(standing.own_N, z[:, 2], atol=1e-6)
        assert standing.called == called.count(2)
        assert standing.right == sum(c == int(t) != 2 for c, t in zip(called, target, strict=True))
        behind = [float(row.max() - own) for row, own in zip(others, z[:, 2], strict=True)]
        mean = sum(behind) / len(behind)
        spread = (sum((one - mean) ** 2 for one in behind) / len(behind)) ** 0.5
        assert standing.is_gone == (2 not in called and mean >= 2 * spread)


def test_the_fewest_that_are_enough():
    """z_0 falls 5, 3, 1, 0 while z_1 = 2 and z_2 = 0: one neuron is not enough to be called 1, two are."""
    head = LinearHead(torch.tensor([[2.0, 2.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]), torch.zeros(3))
    looked = ClassStanding.of(torch.ones(1, 3), torch.tensor([0]), head, 0, everywhere=False)
    gone, stands = until_gone([0, 1, 2], looked)
    assert gone == [0, 1]
    assert stands.is_gone
    assert not looked.without(0).is_gone


def test_where_the_class_never_lies_far_behind_no_more_go_than_it_takes():
    """z_1 is 1; without neuron 0 class 0 lies 0.09 and 3.09 behind, a mean of 1.59 with a spread of 1.5."""
    head = LinearHead(torch.tensor([[1.0, 0.01, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), torch.zeros(3))
    head.bias_C[1] = 1.0
    seen = torch.tensor([[2.0, 1.0, 0.9], [2.0, 1.0, -2.1]])
    looked = ClassStanding.of(seen, torch.tensor([0, 0]), head, 0, everywhere=False)
    gone, stands = until_gone([0, 1], looked)
    assert gone == [0]
    assert not stands.called
    assert not stands.without(1).is_gone


def test_what_costs_the_others_is_passed_over():
    """Neuron 0 speaks for class 0 and alone for class 1 of what stays; the next one does as well and costs nothing."""
    head = LinearHead(torch.tensor([[2.0, 2.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), torch.zeros(3))
    looked = ClassStanding.of(torch.tensor([[0.5, 2.0, 3.0]]), torch.tensor([0]), head, 0, everywhere=True)
    kept = ClassStanding.of(torch.tensor([[1.0, -1.0, 0.1]]), torch.tensor([1]), head, 0, everywhere=True)
    assert until_gone([0, 1], looked, kept)[0] == [1]
    assert until_gone([0, 1], looked, kept, cost=1.0)[0] == [0, 1]


def test_behind_those_that_were_counted_come_those_that_speak_for_the_class():
    relevance = torch.tensor([[1.0, 5.0, 2.0, -1.0], [4.0, 5.0, 2.0, 0.5]])
    assert ranked_for(relevance, 1) == [1, 0, 2]


def test_a_row_for_a_reader():
    relevance = torch.tensor([[1.0, 5.0], [4.0, 3.0]])
    (row,) = ranked_rows(7, [1], "head", relevance, top=1)
    assert (row["samples"], row["of"], row["relevance"]) == (1, 2, 4.0)
