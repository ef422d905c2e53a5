"""Exact sums: against python's whole numbers, in any order, taken out again, and against numpy's covariance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palimpsest.errors import DataError
from palimpsest.models.class_sums import GRID_STEPS, ClassSums, on_grid, products


def rows(count: int, seed: int = 0, width: int = 4, scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = scale * torch.randn(count, width, generator=generator)
    return features, torch.randint(0, 3, (count,), generator=generator)


def same(one: ClassSums, other: ClassSums) -> bool:
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("count_FC", "sum_FCD", "square_FGDD"))


def test_rounding_is_at_most_half_a_step() -> None:
    features, _ = rows(500, scale=100)
    assert ((on_grid(features).double() / GRID_STEPS) - features.double()).abs().max() <= 2.0**-17


@given(st.lists(st.lists(st.integers(-(2**26), 2**26), min_size=2, max_size=2), min_size=1, max_size=40))
def test_products_are_those_of_whole_numbers(values) -> None:
    wanted = [[sum(row[i] * row[j] for row in values) for j in range(2)] for i in range(2)]
    assert products(torch.tensor(values)).tolist() == wanted


@pytest.mark.parametrize("moments", ["none", "class", "pooled"])
def test_taken_out_is_never_added_and_order_is_nothing(moments) -> None:
    features, labels = rows(300, scale=30)
    empty = ClassSums.empty(4, 3, moments, folds=2)
    fold = torch.arange(300) % 2
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    whole = empty.plus(features[order], labels[order], fold[order])
    gone = slice(0, 200)
    assert same(
        whole.plus(features[gone], labels[gone], fold[gone], sign=-1),
        empty.plus(features[200:], labels[200:], fold[200:]),
    )
    assert not same(whole, empty.plus(features[200:], labels[200:], fold[200:]))


def test_means_and_covariances_are_numpys() -> None:
    features, labels = rows(60)
    sums = ClassSums.empty(4, 0, "class").plus(features, labels)
    for label in range(3):
        own = features[labels == label].double().numpy()
        assert np.abs(sums.mean_CD[label].numpy() - own.mean(0)).max() < 1e-5
        assert np.abs(sums.covariance_CDD[label].numpy() - np.cov(own.T)).max() < 1e-3


def test_one_row_has_no_covariance_and_no_row_no_mean() -> None:
    sums = ClassSums.empty(2, 2, "class").plus(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))
    assert sums.present_C.tolist() == [False, True]
    assert sums.mean_CD.tolist() == [[0, 0], [1, 2]]
    assert not sums.covariance_CDD.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2000.0])
def test_what_cannot_be_counted_is_refused(value) -> None:
    with pytest.raises(DataError, match="accepted: finite numbers up to 1024"):
        on_grid(torch.tensor([[value]]))


def test_sums_that_would_not_fit_are_refused() -> None:
    full = ClassSums.empty(1, 1, "pooled")
    full.square_FGDD.fill_(2**62)
    with pytest.raises(DataError, match="do not fit into 64 bits"):
        full.plus(torch.tensor([[1000.0]]), torch.tensor([0]))
