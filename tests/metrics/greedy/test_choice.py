from __future__ import annotations

import torch

from palimpsest.metrics.greedy.choice import Tally, choose, literal_choice


def test_exact_tie_takes_the_lowest_id_and_needs_no_second_look():
    choice = choose(torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [4.0, 1.0, 2.0, 3.0]]))
    assert choice.token_R.tolist() == [1, 0, 0]
    assert choice.near_R.tolist() == [True, True, False]
    assert choice.decide_R.tolist() == [False, False, False]


def test_near_tie_is_to_be_decided():
    choice = choose(torch.tensor([[20.0, 20.0001, 0.0], [20.0, 20.01, 0.0]]))
    assert choice.near_R.tolist() == choice.decide_R.tolist() == [True, False]


def test_half_precision_only_counts():
    choice = choose(torch.tensor([[2.0, 2.015625, 0.0], [2.0, 2.5, 0.0]], dtype=torch.bfloat16))
    assert choice.token_R.tolist() == [1, 1]
    assert choice.near_R.tolist() == [True, False]
    assert choice.decide_R.tolist() == [False, False]


def test_logits_that_are_not_numbers_are_seen():
    logits = torch.tensor([[0.0, torch.nan], [0.0, torch.inf], [0.0, -torch.inf]])
    assert choose(logits).finite_R.tolist() == [False, False, True]


def test_literal_choice_is_a_pass_over_the_prefix_alone(tiny_llama):
    tally, prefix = Tally(), torch.tensor([3, 1, 4, 1, 5])
    with torch.inference_mode():
        assert literal_choice(tiny_llama, prefix, tally) == tiny_llama(prefix[None]).logits[0, -1].argmax()
    assert tally.positions == 5
