"""Herding against all choices, in python."""

from __future__ import annotations

import pytest
import torch

from palimpsest.models.herding import herded


@pytest.mark.parametrize("seed", range(4))
def test_every_choice_is_the_best_of_all_that_are_free(seed):
    rows = torch.randn(9, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    chosen: list[int] = []
    for _ in range(6):
        away = {}
        for n in set(range(len(rows))) - set(chosen):
            there = [sum(rows[m][d] for m in (*chosen, n)) / (len(chosen) + 1) for d in range(3)]
            away[n] = sum((a - b) ** 2 for a, b in zip(there, mean, strict=True))
        chosen.append(min(away, key=lambda n: away[n]))
    assert herded(torch.tensor(rows), 6) == chosen


def test_the_first_are_the_choice_of_fewer_and_there_are_no_more_than_all():
    rows = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))
    assert herded(rows, 9)[:3] == herded(rows, 3)
    assert sorted(herded(rows, 9)) == list(range(7))
    assert herded(rows[:0], 2) == []
