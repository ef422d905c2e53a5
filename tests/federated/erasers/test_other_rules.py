"""Erasing from federations that combined by another rule than the mean: the same rule, by hand."""

from __future__ import annotations

import torch
from tests.federated.in_memory import KeptRounds, answered, replies, w
from torch import Tensor

from palimpsest.companions.round_record import Replies, Round, Weights
from palimpsest.federated import erasers

START = w(0)


def by_median(weights: Weights, answers: Replies) -> dict[str, Tensor]:
    """The median of an odd number of answers, of an even one the lower: enough for a rule that is no mean."""
    return {
        name: at + torch.stack([reply.delta[name] for reply in answers.values()]).median(0).values
        for name, at in weights.items()
    }


def history(*rounds: Replies) -> KeptRounds:
    """Rounds that were combined by the median."""
    kept, weights = KeptRounds(START, combine=by_median), dict(START)
    for number, told in enumerate(rounds):
        after = by_median(weights, told)
        kept.rounds.append(Round(number, weights, told, after))
        weights = after
    return kept


LEARNED = history(replies(u=w(9), a=w(1), b=w(2), c=w(90)), replies(u=w(9), a=w(1), b=w(3), c=w(-80)))


def test_a_replay_takes_the_median_of_those_who_stay() -> None:
    final, _ = answered(erasers.load("replay_history").erase(LEARNED, "u"), lambda *_: None)
    assert final["w"].tolist() == [2 + 1]  # of 1, 2, 90 and of 1, 3, -80; their means would be 31 and -25.3


def test_retraining_takes_the_median() -> None:
    said = {"a": w(1), "b": w(2), "c": w(-50)}
    final, asked = answered(erasers.load("retrain_others").erase(LEARNED, "u"), lambda name, _: said[name])
    assert (final["w"].tolist(), len(asked)) == ([1 + 1], 2)


def test_further_rounds_take_the_median() -> None:
    said = {"a": w(1), "b": w(2), "c": w(-50)}
    final, _ = answered(erasers.load("extra_rounds", {"rounds": 1}).erase(LEARNED, "u"), lambda name, _: said[name])
    assert final["w"].tolist() == [LEARNED.final["w"].item() + 1]


def test_fed_eraser_calibrates_each_client_and_takes_the_median() -> None:
    """Round 0 as it was: 2. Round 1: lengths 1, 3, 80 in today's directions +, -, +: the median is 1."""
    said = {"a": w(5), "b": w(-0.1), "c": w(7)}
    final, asked = answered(erasers.load("fed_eraser").erase(LEARNED, "u"), lambda name, _: said[name])
    assert (final["w"].tolist(), len(asked)) == ([2 + 1], 1)


def test_fed_eraser_with_averaged_norms_takes_the_length_of_the_median() -> None:
    """The stored median is 1 long; today's median of 5, -0.1 and 7 points up."""
    said = {"a": w(5), "b": w(-0.1), "c": w(7)}
    eraser = erasers.load("fed_eraser", {"norms": "averaged"})
    final, _ = answered(eraser.erase(LEARNED, "u"), lambda name, _: said[name])
    assert final["w"].tolist() == [2 + 1]
